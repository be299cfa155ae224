//! Boxes that a site rehearses: drawn from its own slides, with what the generation itself says where it is sure, so that
//! fine-tuning on a few corrections does not unlearn the rest (pseudo-rehearsal, Robins 1995). No person is asked.
//!
//! They are drawn in two steps, so that of a finished slide no more is kept than could be drawn: of each slide as many as
//! of all, then of these.

use consilium_common::plan::{Acquisition, Rehearsal, Score, UNLABELLED};

use super::candidates::shortlist_unseen;
use super::rules::Turn;
use super::{Candidate, PatchBox, select};
use crate::scan::{Maps, ScanError};

/// A third each in proportion to predicted foreground, in proportion to its border, and uniformly, so that what is rare is
/// there; on the grid of the plan's patches.
fn as_acquisition(acquisition: &Acquisition, settings: &Rehearsal) -> Acquisition {
    let Acquisition { patch_px, min_tissue, .. } = *acquisition;
    Acquisition::new(Score::ForegroundRandom, settings.patches, patch_px, min_tissue)
}

/// The boxes of one slide that may be rehearsed; none overlaps another, or one of `exclude`.
///
/// # Errors
/// The maps cannot be read.
pub fn rehearsal_of_slide(
    maps: &dyn Maps,
    slide: &str,
    acquisition: &Acquisition,
    settings: &Rehearsal,
    exclude: &[PatchBox],
    seed: &str,
) -> Result<Vec<Candidate>, ScanError> {
    if settings.is_off() {
        return Ok(Vec::new());
    }
    let drawn = as_acquisition(acquisition, settings);
    let turn = Turn { round: 0, rounds: 1, seed };
    let shortlist = shortlist_unseen(maps, slide, &drawn, exclude, &turn)?;
    Ok(select(&shortlist, &drawn, &turn).patches)
}

/// The boxes of a site that are rehearsed, from those of its slides; none overlaps one of `asked`, which holds the slides
/// and boxes that the pathologist is asked about.
pub fn rehearsal_of_site(
    all: &[Candidate],
    asked: &[(&str, PatchBox)],
    acquisition: &Acquisition,
    settings: &Rehearsal,
    seed: &str,
) -> Vec<Candidate> {
    let free = |c: &&Candidate| !asked.iter().any(|(slide, other)| *slide == c.slide && other.overlaps(&c.patch));
    let free: Vec<Candidate> = all.iter().filter(free).cloned().collect();
    select(&free, &as_acquisition(acquisition, settings), &Turn { round: 0, rounds: 1, seed }).patches
}

/// The labels of a rehearsed box: the generation's own, and [`UNLABELLED`] where its predictive entropy (nats) is more
/// than the settings' share of `ln(classes)`, the largest that there is, or no number.
pub fn rehearsal_labels(labels: &[u8], entropy: &[f32], classes: usize, settings: &Rehearsal) -> Vec<u8> {
    let most = settings.max_entropy * (classes as f64).ln();
    let sure = |nats: f32| f64::from(nats) <= most;
    labels.iter().zip(entropy).map(|(&label, &nats)| if sure(nats) { label } else { UNLABELLED }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::Strip;

    /// A slide of 100 boxes in a row, of which two have foreground.
    fn slide() -> Strip {
        let mut strip = Strip::background(0, 16, 1600, 2);
        strip.tissue.fill(1);
        for row in 0..16 {
            for x in [7 * 16, 57 * 16] {
                strip.labels[row * 1600 + x..][..8].fill(1);
            }
        }
        strip
    }

    #[test]
    fn what_was_asked_about_is_not_rehearsed_and_what_is_rare_is() {
        let acquisition = Acquisition::new(Score::UgaMean, 5, 16, 0.5);
        let settings = Rehearsal { patches: 6, ..Rehearsal::default() };
        let asked = [("a", PatchBox { x: 7 * 16, y: 0, side: 16 }), ("b", PatchBox { x: 57 * 16, y: 0, side: 16 })];
        let mut with_foreground = 0;
        for seed in 0..30 {
            let seed = seed.to_string();
            let of_slide =
                |settings: &Rehearsal| rehearsal_of_slide(&slide(), "a", &acquisition, settings, &[], &seed).unwrap();
            let all = of_slide(&settings);
            assert_eq!(all.len(), 6);
            let drawn = rehearsal_of_site(&all, &asked, &acquisition, &settings, &seed);
            assert!(drawn.iter().all(|c| !c.patch.overlaps(&asked[0].1)), "the other slide's box bars nothing");
            with_foreground += usize::from(drawn.iter().any(|c| c.foreground > 0.0));
            assert!(of_slide(&Rehearsal { patches: 0, ..settings }).is_empty());
        }
        assert!(with_foreground > 25, "{with_foreground} of 30");
    }

    #[test]
    fn only_what_the_generation_is_sure_of_is_labelled() {
        let settings = Rehearsal { patches: 1, ..Rehearsal::default() };
        let half = 0.5 * std::f32::consts::LN_2;
        let labels = rehearsal_labels(&[0, 1, 1, 0], &[0.0, half - 1e-3, half + 1e-3, f32::NAN], 2, &settings);
        assert_eq!(labels, [0, 1, UNLABELLED, UNLABELLED]);
    }
}
