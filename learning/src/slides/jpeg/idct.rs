//! The inverse cosine transform of a block, in libjpeg's accurate integer form (`jidctint.c`; Loeffler, Ligtenberg and
//! Moschytz, ICASSP 1989, with 13-bit constants and two bits kept between the passes).

/// 64 coefficients, row by row.
pub(super) type Block = [i16; 64];
/// The steps that they count, row by row.
pub(super) type Steps = [i32; 64];

/// Eight columns of a row, or eight rows of a column.
type Lanes = [i32; 8];

const CONST_BITS: u32 = 13;
const PASS1_BITS: u32 = 2;

/// Transforms the block, stores its samples at `to`, and clears the block. `flat`: only the first coefficient is set.
#[inline(always)]
pub(super) fn store(block: &mut Block, quantisation: &Steps, flat: bool, to: &mut [u8], stride: usize) {
    if flat {
        // What both passes make of a lone first coefficient.
        let value = sample((i32::from(block[0]).wrapping_mul(quantisation[0]).wrapping_mul(4).wrapping_add(16)) >> 5);
        block[0] = 0;
        for row in to.chunks_mut(stride).take(8) {
            row[..8].fill(value);
        }
        return;
    }
    let mut rows = [[0; 8]; 8];
    for ((row, values), steps) in rows.iter_mut().zip(block.as_chunks::<8>().0).zip(quantisation.as_chunks::<8>().0) {
        *row = std::array::from_fn(|i| i32::from(values[i]).wrapping_mul(steps[i]));
    }
    *block = [0; 64];
    let (mut columns, mut lines) = ([[0; 8]; 8], [[0; 8]; 8]);
    pass::<{ CONST_BITS - PASS1_BITS }>(&rows, &mut columns);
    pass::<{ CONST_BITS + PASS1_BITS + 3 }>(&transposed(&columns), &mut lines);
    let lines = transposed(&lines);
    for (row, line) in to.chunks_mut(stride).zip(&lines) {
        row[..8].copy_from_slice(&line.map(sample));
    }
}

#[inline(always)]
fn sample(value: i32) -> u8 {
    value.wrapping_add(128).clamp(0, 255) as u8
}

#[inline(always)]
fn transposed(rows: &[Lanes; 8]) -> [Lanes; 8] {
    let mut columns = [[0; 8]; 8];
    for (i, row) in rows.iter().enumerate() {
        for (column, &value) in columns.iter_mut().zip(row) {
            column[i] = value;
        }
    }
    columns
}

/// One pass over the first index; names as in libjpeg. The loop over lanes is what the compiler turns into vectors.
#[inline(always)]
fn pass<const SHIFT: u32>(rows: &[Lanes; 8], out: &mut [Lanes; 8]) {
    let sum = i32::wrapping_add;
    let times = i32::wrapping_mul;
    let difference = i32::wrapping_sub;
    for i in 0..8 {
        let z1 = times(sum(rows[2][i], rows[6][i]), 4433);
        let tmp2 = sum(z1, times(rows[6][i], -15137));
        let tmp3 = sum(z1, times(rows[2][i], 6270));
        let tmp0 = times(sum(rows[0][i], rows[4][i]), 1 << CONST_BITS);
        let tmp1 = times(difference(rows[0][i], rows[4][i]), 1 << CONST_BITS);
        let half = 1 << (SHIFT - 1);
        let (tmp10, tmp13) = (sum(sum(tmp0, tmp3), half), sum(difference(tmp0, tmp3), half));
        let (tmp11, tmp12) = (sum(sum(tmp1, tmp2), half), sum(difference(tmp1, tmp2), half));

        let z1 = times(sum(rows[7][i], rows[1][i]), -7373);
        let z2 = times(sum(rows[5][i], rows[3][i]), -20995);
        let (z3, z4) = (sum(rows[7][i], rows[3][i]), sum(rows[5][i], rows[1][i]));
        let z5 = times(sum(z3, z4), 9633);
        let z3 = sum(times(z3, -16069), z5);
        let z4 = sum(times(z4, -3196), z5);
        let tmp0 = sum(times(rows[7][i], 2446), sum(z1, z3));
        let tmp1 = sum(times(rows[5][i], 16819), sum(z2, z4));
        let tmp2 = sum(times(rows[3][i], 25172), sum(z2, z3));
        let tmp3 = sum(times(rows[1][i], 12299), sum(z1, z4));

        out[0][i] = sum(tmp10, tmp3) >> SHIFT;
        out[1][i] = sum(tmp11, tmp2) >> SHIFT;
        out[2][i] = sum(tmp12, tmp1) >> SHIFT;
        out[3][i] = sum(tmp13, tmp0) >> SHIFT;
        out[4][i] = difference(tmp13, tmp0) >> SHIFT;
        out[5][i] = difference(tmp12, tmp1) >> SHIFT;
        out[6][i] = difference(tmp11, tmp2) >> SHIFT;
        out[7][i] = difference(tmp10, tmp3) >> SHIFT;
    }
}
