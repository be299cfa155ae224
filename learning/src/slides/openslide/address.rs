//! How a pixel of a level is addressed in OpenSlide's level-0 coordinates, so that it comes back unchanged.
//!
//! `openslide_read_region` divides the level-0 corner by its own downsample and paints the tiles with what is left as a
//! shift of less than a pixel, which mixes neighbours. A corner is exact where that shift vanishes: always for a whole
//! downsample, else only at some columns and rows. A read starts at the nearest one before its corner and drops the rest.

/// Shifts up to this share of a pixel are none: cairo keeps positions in 1/256 pixel and rounds.
const UNSHIFTED: f64 = 1.0 / 512.0;
/// The longest way back to an exact pixel. Levels of up to this size are always exact: their first pixel is.
const MAX_LEAD: u32 = 1024;

/// An exact pixel at or before `at`, as a pixel of the level and in level-0 coordinates; `None` if there is none near.
pub(super) fn exact_before(at: u32, downsample: f64) -> Option<(u32, i64)> {
    (at.saturating_sub(MAX_LEAD)..=at).rev().find_map(|start| Some((start, exact(start, downsample)?)))
}

/// Whether every pixel of a level of this size has an exact one near.
pub(super) fn addressable(width: u32, height: u32, downsample: f64) -> bool {
    let mut lead = 0;
    if downsample.fract() == 0.0 {
        return true;
    }
    (0..width.max(height)).all(|at| {
        lead = if exact(at, downsample).is_some() { 0 } else { lead + 1 };
        lead <= MAX_LEAD
    })
}

/// The level-0 coordinate that OpenSlide takes for this very pixel. Never one that lies before the pixel: some formats
/// drop the fraction instead of painting it.
fn exact(at: u32, downsample: f64) -> Option<i64> {
    let at = f64::from(at);
    let below = (at * downsample).floor();
    let shift = |base: &f64| base / downsample - at;
    let base = [below - 1.0, below, below + 1.0].into_iter().find(|base| shift(base) >= 0.0)?;
    (shift(&base) < UNSHIFTED).then_some(base as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_downsamples_are_exact_everywhere() {
        for downsample in [1.0, 2.0, 3.0, 64.0, 4096.0] {
            assert!(addressable(1 << 20, 5, downsample));
            for at in [0, 1, 77, 4095, 1 << 19] {
                assert_eq!(exact_before(at, downsample), Some((at, i64::from(at) * downsample as i64)));
            }
        }
    }

    #[test]
    fn others_start_at_an_exact_pixel_before() {
        assert_eq!(exact_before(3, 1.5), Some((2, 3)));
        assert!(addressable(100_000, 100_000, 1.5));
        // A pyramid of odd sides: the drift is too slow to come round within a level of 1483 pixels.
        let odd = 2.000_337_154_416_723;
        assert!(!addressable(1483, 1110, odd) && addressable(1024, 1000, odd));
        assert_eq!(exact_before(900, odd), Some((0, 0)));
        for at in 0..3000 {
            let Some((start, base)) = exact_before(at, 16.12) else { panic!("{at}") };
            let shift = base as f64 / 16.12 - f64::from(start);
            assert!(start <= at && (0.0..UNSHIFTED).contains(&shift), "{at}: {start}, {shift}");
        }
    }
}
