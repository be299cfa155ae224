//! What slides with rare tumour promise: extents by stage, shares, look-alikes beside tumour, the same bytes.

use std::collections::BTreeSet;

use super::areas::Kind;
use super::*;

/// Side in painted pixels of a slide as it is written.
const SIZE: usize = 2 * Scene::RARE_SIDE_PX as usize;
/// Millimetres a mask pixel.
const MM: f64 = MASK_STEP as f64 * SPACING_UM / 1000.0;

fn layout(stage: Stage, index: usize) -> Layout {
    let scene = Scene::rare(stage, LookAlikes::of_centre(index));
    Layout::new(&format!("{index}/rare-test/{}", stage.word()), SIZE, &scene)
}

/// The largest extent of each connected piece of tumour in mm, largest first.
fn extents_mm(mask: &GrayImage) -> Vec<f64> {
    let (wide, high) = (mask.width() as usize, mask.height() as usize);
    let mut left: Vec<bool> = mask.as_raw().iter().map(|label| *label == 1).collect();
    let mut out = Vec::new();
    for start in 0..left.len() {
        if !std::mem::take(&mut left[start]) {
            continue;
        }
        let (mut piece, mut next) = (Vec::new(), vec![start]);
        while let Some(at) = next.pop() {
            let (x, y) = (at % wide, at / wide);
            piece.push((x as f64, y as f64));
            for ny in y.saturating_sub(1)..(y + 2).min(high) {
                for nx in x.saturating_sub(1)..(x + 2).min(wide) {
                    if std::mem::take(&mut left[ny * wide + nx]) {
                        next.push(ny * wide + nx);
                    }
                }
            }
        }
        out.push(extent(&piece) * MM);
    }
    out.sort_by(|a, b| b.total_cmp(a));
    out
}

/// The widest projection over 60 directions, in pixels.
fn extent(piece: &[(f64, f64)]) -> f64 {
    let width = |step: u32| {
        let (sin, cos) = (f64::from(step) * std::f64::consts::PI / 60.0).sin_cos();
        let at = |p: &(f64, f64)| p.0 * cos + p.1 * sin;
        let (low, high) = piece.iter().map(at).fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
        high - low + 1.0
    };
    (0..60).map(width).fold(0.0, f64::max)
}

#[test]
fn every_stage_keeps_its_extents_and_shares() {
    for index in 0..5 {
        for stage in Stage::ALL {
            let mask = mask(&layout(stage, index));
            let extents = extents_mm(&mask);
            let largest = extents.first().copied().unwrap_or(0.0);
            let share = mask.as_raw().iter().filter(|label| **label == 1).count() as f64 / mask.as_raw().len() as f64;
            let ((above, below), shares) = match stage {
                Stage::Negative => ((-1.0, 0.001), 0.0..=0.0),
                Stage::Itc => ((0.03, 0.2), 0.0002..=0.005),
                Stage::Micro => ((0.2, 2.0), 0.0005..=0.01),
                Stage::Macro => ((2.0, 4.0), 0.02..=0.10),
            };
            assert!(above < largest && largest < below, "{stage:?} {index}: {extents:.2?} mm");
            assert!(shares.contains(&share), "{stage:?} {index}: {share:.4} of the slide");
        }
    }
}

#[test]
fn look_alikes_of_all_kinds_lie_apart_from_tumour() {
    let stages = [Stage::Macro, Stage::Itc, Stage::Itc, Stage::Micro, Stage::Itc];
    for (index, stage) in stages.into_iter().cycle().take(15).enumerate() {
        let layout = layout(stage, index);
        let kinds: BTreeSet<&str> = layout
            .look_alikes
            .iter()
            .map(|area| match area.kind {
                Kind::Follicle => "follicle",
                Kind::CrowdedGlands => "crowded glands",
                Kind::Crushed => "crushed",
            })
            .collect();
        assert!(kinds.len() >= 2, "centre {index} has {kinds:?} only");
        for (x, y, label) in mask(&layout).enumerate_pixels().filter(|(_, _, label)| label[0] == 1) {
            let (x, y) = ((x * MASK_STEP) as f32, (y * MASK_STEP) as f32);
            assert!(layout.look_alikes.iter().all(|area| area.depth(x, y) < 0.0), "{label:?} at {x}, {y}");
        }
    }
}

#[test]
fn scenes_repeat_and_differ_by_stage() {
    let centre = &centres(1, 7)[0];
    let draw = |stage| draw_scene(centre, "7/scene", 1024, &Scene::rare(stage, LookAlikes::of_centre(1)));
    let (first, again, other) = (draw(Stage::Micro), draw(Stage::Micro), draw(Stage::Itc));
    assert_eq!(first.image.dimensions(), (1024, 1024));
    assert_eq!(first.mask.dimensions(), (512, 512));
    assert!(first.image.as_raw() == again.image.as_raw() && first.mask.as_raw() == again.mask.as_raw());
    assert!(first.image.as_raw() != other.image.as_raw());
    assert!(first.tissue_share > 0.3 && first.tumour_of_tissue() > first.tumour_share());
}

#[test]
fn the_usual_scene_is_the_demonstrations_slide() {
    let centre = &centres(2, 7)[1];
    let (slide, scene) = (draw_slide(centre, "7/b", 1024), draw_scene(centre, "7/b", 1024, &Scene::default()));
    assert!(slide.image.as_raw() == scene.image.as_raw() && slide.mask.as_raw() == scene.mask.as_raw());
}

#[test]
fn every_centre_has_all_kinds_and_the_central_one_fewest() {
    let count = |index: usize| {
        let LookAlikes { follicles, crowded_glands, crushed } = LookAlikes::of_centre(index);
        assert!(follicles.min(crowded_glands).min(crushed) > 0);
        follicles + crowded_glands + crushed
    };
    assert!((1..40).all(|index| count(index) > count(0)));
}
