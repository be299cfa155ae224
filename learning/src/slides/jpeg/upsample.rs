//! Bringing subsampled components to full size as libjpeg's "fancy upsampling" does, and interleaving all of them.
//!
//! A new sample is three parts of the nearer and one part of the next one, in each direction; rounding alternates.

use crate::slides::decode::ycbcr_to_rgb;

/// The samples of one component at its own resolution, padded to whole blocks.
pub(super) struct Plane {
    pub(super) samples: Vec<u8>,
    pub(super) stride: usize,
    /// Width and height without padding.
    pub(super) real: (usize, usize),
    /// How many pixels one sample spans across and down: 1 or 2.
    pub(super) steps: (usize, usize),
}

impl Plane {
    fn row(&self, number: usize) -> &[u8] {
        &self.samples[number.min(self.real.1 - 1) * self.stride..][..self.real.0]
    }

    /// One row of the full image; `sums` and `out` have at least its width, rounded up to even.
    #[inline(always)]
    fn full_row<'a>(&'a self, y: usize, sums: &mut [u16], out: &'a mut [u8]) -> &'a [u8] {
        let (across, down) = self.steps;
        // libjpeg repeats what is too narrow to interpolate.
        let fancy = self.real.0 > 2;
        if across == 1 && down == 1 {
            return self.row(y);
        }
        let near = self.row(y / down);
        if across == 2 && !fancy {
            for (pair, &value) in out.chunks_exact_mut(2).zip(near) {
                pair.fill(value);
            }
            return out;
        }
        let lower = y % 2 == 1;
        let next = if lower { self.row(y / down + 1) } else { self.row((y / down).saturating_sub(1)) };
        match (across, down) {
            (1, _) => {
                let bias = if lower { 2 } else { 1 };
                for ((out, &a), &b) in out.iter_mut().zip(near).zip(next) {
                    *out = ((u16::from(a) * 3 + u16::from(b) + bias) >> 2) as u8;
                }
            }
            (_, 1) => {
                sums.iter_mut().zip(near).for_each(|(sum, &a)| *sum = u16::from(a));
                widen::<2, 1, 2>(&sums[..near.len()], out);
            }
            _ => {
                for ((sum, &a), &b) in sums.iter_mut().zip(near).zip(next) {
                    *sum = u16::from(a) * 3 + u16::from(b);
                }
                widen::<4, 8, 7>(&sums[..near.len()], out);
            }
        }
        out
    }
}

/// Twice as many samples from at least two sums; the left and right one of a pair round differently.
#[inline(always)]
fn widen<const SHIFT: u16, const LEFT: u16, const RIGHT: u16>(sums: &[u16], out: &mut [u8]) {
    let last = sums.len() - 1;
    let mix = |a: u16, b: u16, bias: u16| ((a * 3 + b + bias) >> SHIFT) as u8;
    out[0] = mix(sums[0], sums[0], LEFT);
    out[1] = mix(sums[0], sums[1], RIGHT);
    for (pair, three) in out[2..].chunks_exact_mut(2).zip(sums.windows(3)) {
        pair[0] = mix(three[1], three[0], LEFT);
        pair[1] = mix(three[1], three[2], RIGHT);
    }
    out[2 * last] = mix(sums[last], sums[last - 1], LEFT);
    out[2 * last + 1] = mix(sums[last], sums[last], RIGHT);
}

/// All components pixel by pixel, `width * height * planes` bytes; three of them become RGB if they are YCbCr.
#[inline(always)]
pub(super) fn interleave(planes: &[Plane], width: usize, height: usize, ycbcr: bool) -> Vec<u8> {
    let mut out = vec![0; width * height * planes.len()];
    let even = width.next_multiple_of(2);
    let mut sums = vec![0; even];
    let mut wide = vec![vec![0; even]; planes.len()];
    let mut rgb = [(); 3].map(|()| vec![0; width]);
    for (y, to) in out.chunks_exact_mut(width * planes.len()).enumerate() {
        match (planes, wide.as_mut_slice()) {
            ([a, b, c], [wa, wb, wc]) => {
                let (a, b) = (a.full_row(y, &mut sums, wa), b.full_row(y, &mut sums, wb));
                let c = c.full_row(y, &mut sums, wc);
                if ycbcr {
                    convert(&mut rgb, a, b, c);
                    three(to, &rgb[0], &rgb[1], &rgb[2]);
                } else {
                    three(to, a, b, c);
                }
            }
            _ => {
                for (number, (plane, wide)) in planes.iter().zip(&mut wide).enumerate() {
                    let row = plane.full_row(y, &mut sums, wide);
                    to.iter_mut().skip(number).step_by(planes.len()).zip(row).for_each(|(to, &v)| *to = v);
                }
            }
        }
    }
    out
}

/// A row of RGB from one of YCbCr, by the same arithmetic as for single pixels.
#[inline(always)]
fn convert(rgb: &mut [Vec<u8>; 3], luma: &[u8], cb: &[u8], cr: &[u8]) {
    let [red, green, blue] = rgb;
    let rgb = red.iter_mut().zip(green).zip(blue);
    for (((red, green), blue), ((&luma, &cb), &cr)) in rgb.zip(luma.iter().zip(cb).zip(cr)) {
        [*red, *green, *blue] = ycbcr_to_rgb([luma, cb, cr]);
    }
}

/// Interleaves three rows, eight pixels at a time as three words.
#[inline(always)]
fn three(to: &mut [u8], a: &[u8], b: &[u8], c: &[u8]) {
    let (to, rest) = to.as_chunks_mut::<24>();
    let done = to.len() * 8;
    let eights = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0).zip(c.as_chunks::<8>().0);
    for (to, ((a, b), c)) in to.iter_mut().zip(eights) {
        let p: [u64; 8] =
            std::array::from_fn(|i| u64::from(u32::from(a[i]) | u32::from(b[i]) << 8 | u32::from(c[i]) << 16));
        let words = [
            p[0] | p[1] << 24 | p[2] << 48,
            p[2] >> 16 | p[3] << 8 | p[4] << 32 | p[5] << 56,
            p[5] >> 8 | p[6] << 16 | p[7] << 40,
        ];
        for (to, word) in to.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *to = word.to_le_bytes();
        }
    }
    for (i, to) in rest.chunks_exact_mut(3).enumerate() {
        to.copy_from_slice(&[a[done + i], b[done + i], c[done + i]]);
    }
}
