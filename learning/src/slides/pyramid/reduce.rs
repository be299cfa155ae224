//! The next coarser level: two rows become one of half the width; an odd last column is dropped.

use super::PyramidKind;

/// Halves pairs of rows into `out`, which grows by half a row of `samples` a pixel for each pair.
pub(super) fn halve(kind: &PyramidKind, upper: &[u8], lower: &[u8], out: &mut [u8]) {
    match kind {
        PyramidKind::Jpeg { .. } => mean::<3>(upper, lower, out),
        PyramidKind::Grey => mean::<1>(upper, lower, out),
        PyramidKind::Labels { .. } => majority(upper, lower, out),
    }
}

fn mean<const N: usize>(upper: &[u8], lower: &[u8], out: &mut [u8]) {
    let pairs = upper.chunks_exact(2 * N).zip(lower.chunks_exact(2 * N));
    for (pixel, (a, b)) in out.chunks_exact_mut(N).zip(pairs) {
        for i in 0..N {
            let sum = u16::from(a[i]) + u16::from(a[N + i]) + u16::from(b[i]) + u16::from(b[N + i]);
            // Below 256: the mean of four bytes, rounded.
            pixel[i] = ((sum + 2) / 4) as u8;
        }
    }
}

/// The value that most of the four pixels have; among equals the one that comes first, row by row. Never a new value.
fn majority(upper: &[u8], lower: &[u8], out: &mut [u8]) {
    for (pixel, (a, b)) in out.iter_mut().zip(upper.chunks_exact(2).zip(lower.chunks_exact(2))) {
        let four = [a[0], a[1], b[0], b[1]];
        *pixel = if four == [four[0]; 4] { four[0] } else { most_frequent(four) };
    }
}

fn most_frequent(four: [u8; 4]) -> u8 {
    let count = |value| four.iter().filter(|&&v| v == value).count();
    let mut best = four[0];
    for value in four {
        if count(value) > count(best) {
            best = value;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_stay_labels_and_grey_is_averaged() {
        let (upper, lower) = ([1, 2, 0, 5, 9, 9, 7], [2, 2, 3, 3, 9, 9, 7]);
        let mut out = [0; 3];
        halve(&PyramidKind::Labels { colours: Vec::new() }, &upper, &lower, &mut out);
        assert_eq!(out, [2, 3, 9]);
        assert_eq!(most_frequent([4, 5, 6, 7]), 4, "the first of equals");
        assert_eq!(most_frequent([4, 5, 5, 4]), 4);
        halve(&PyramidKind::Grey, &upper, &lower, &mut out);
        assert_eq!(out, [2, 3, 9], "7 / 4, 11 / 4 and 9, rounded");
    }
}
