//! Closing, opening and growing of a binary mask with squares.
//!
//! Beyond the edge nothing is added and nothing eaten away. Time does not depend on the radius.

use image::GrayImage;
use rayon::prelude::*;

/// Morphological closing: gaps up to twice `radius` wide are bridged.
pub(super) fn closed(mask: &GrayImage, radius: u32) -> GrayImage {
    spread(&spread(mask, radius, 1), radius, 0)
}

/// Morphological opening: what is not wider than twice `radius` vanishes.
pub(super) fn opened(mask: &GrayImage, radius: u32) -> GrayImage {
    spread(&spread(mask, radius, 0), radius, 1)
}

/// Gives every pixel `value` that has one of that value within `radius` in x and y.
pub(super) fn spread(mask: &GrayImage, radius: u32, value: u8) -> GrayImage {
    let width = mask.width() as usize;
    if radius == 0 || width == 0 {
        return mask.clone();
    }
    let mut across = mask.clone();
    across.as_mut().par_chunks_mut(width).for_each(|line| spread_line(line, radius, value));
    spread_down(&across, radius, value)
}

fn spread_line(line: &mut [u8], radius: u32, value: u8) {
    let source = line.to_vec();
    // Sweep in both directions, remembering how far back the value was last seen.
    let mut sweep = |x: usize, since: &mut u32| {
        *since = if source[x] == value { 0 } else { since.saturating_add(1) };
        if *since <= radius {
            line[x] = value;
        }
    };
    let mut since = u32::MAX;
    (0..source.len()).for_each(|x| sweep(x, &mut since));
    since = u32::MAX;
    (0..source.len()).rev().for_each(|x| sweep(x, &mut since));
}

fn spread_down(source: &GrayImage, radius: u32, value: u8) -> GrayImage {
    let width = source.width() as usize;
    let mut out = source.clone();
    let mut since = vec![u32::MAX; width];
    let sweep = |(from, to): (&[u8], &mut [u8]), since: &mut [u32]| {
        for ((&pixel, to), since) in from.iter().zip(to).zip(since) {
            *since = if pixel == value { 0 } else { since.saturating_add(1) };
            if *since <= radius {
                *to = value;
            }
        }
    };
    let rows = source.as_raw().chunks_exact(width).zip(out.as_mut().chunks_exact_mut(width));
    rows.for_each(|row| sweep(row, &mut since));
    since.fill(u32::MAX);
    let rows = source.as_raw().chunks_exact(width).zip(out.as_mut().chunks_exact_mut(width));
    rows.rev().for_each(|row| sweep(row, &mut since));
    out
}

#[cfg(test)]
mod tests {
    use image::Luma;

    use super::*;

    #[test]
    fn every_radius_agrees_with_looking_at_all_neighbours() {
        let mask = GrayImage::from_fn(23, 17, |x, y| Luma([u8::from((x * 7 + y * 11).is_multiple_of(13))]));
        for (radius, value) in [(0, 1), (1, 1), (3, 1), (1, 0), (2, 0), (40, 0)] {
            let expected = GrayImage::from_fn(23, 17, |x, y| {
                let near = mask
                    .enumerate_pixels()
                    .any(|(nx, ny, p)| nx.abs_diff(x) <= radius && ny.abs_diff(y) <= radius && p.0[0] == value);
                if near { Luma([value]) } else { *mask.get_pixel(x, y) }
            });
            assert_eq!(spread(&mask, radius, value), expected, "{radius} {value}");
        }
    }

    #[test]
    fn closing_bridges_and_opening_drops() {
        let bar = |gap: std::ops::Range<u32>| GrayImage::from_fn(30, 9, |x, _| Luma([u8::from(!gap.contains(&x))]));
        assert_eq!(closed(&bar(12..16), 2), bar(0..0));
        assert_eq!(closed(&bar(12..17), 2), bar(12..17));
        let stripe = |wide: u32| GrayImage::from_fn(30, 30, |x, _| Luma([u8::from((10..10 + wide).contains(&x))]));
        assert_eq!(opened(&stripe(5), 2), stripe(5));
        assert_eq!(opened(&stripe(4), 2), stripe(0));
    }
}
