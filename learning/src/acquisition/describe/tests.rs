//! Boxes lie where they should, count what they should, and tie where their pixels are the same.

use proptest::prelude::*;

use super::*;

struct Slide {
    width: u32,
    height: u32,
    tissue: Vec<u8>,
    excluded: Vec<u8>,
    labels: Vec<u8>,
    mean: Vec<f32>,
    map: Vec<f32>,
}

impl Slide {
    fn new(width: u32, height: u32, map: impl Fn(u32, u32) -> f32) -> Self {
        let pixels = (width * height) as usize;
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        Self {
            width,
            height,
            tissue: vec![1; pixels],
            excluded: vec![0; pixels],
            labels: vec![0; pixels],
            mean: vec![0.5; 2 * pixels],
            map: places.map(|(x, y)| map(x, y)).collect(),
        }
    }

    fn describe(&self, side: u32, stride: u32, aggregation: Aggregation) -> Vec<Candidate> {
        let field = Field {
            slide: "s",
            width: self.width,
            height: self.height,
            classes: 2,
            tissue: &self.tissue,
            excluded: &self.excluded,
            labels: &self.labels,
            mean: &self.mean,
            map: &self.map,
            uncertainty: &self.map,
        };
        describe(&field, &Layout { side, stride, min_tissue: 0.25, aggregation })
    }
}

const EVERY: [Aggregation; 5] = [
    Aggregation::Tissue,
    Aggregation::Foreground,
    Aggregation::Border { radius: 1 },
    Aggregation::TopShare { share: 0.1 },
    Aggregation::Whole,
];

#[test]
fn a_slide_smaller_than_a_box_has_none() {
    assert!(Slide::new(15, 40, |_, _| 1.0).describe(16, 8, Aggregation::Tissue).is_empty());
}

#[test]
fn pen_and_glass_count_for_nothing_but_the_whole_box() {
    let mut slide = Slide::new(16, 16, |x, _| if x < 4 { 1.0 } else { 9.0 });
    slide.tissue.iter_mut().enumerate().for_each(|(i, t)| *t = u8::from(i % 16 < 8));
    slide.excluded.iter_mut().enumerate().for_each(|(i, e)| *e = u8::from((4..8).contains(&(i % 16))));
    slide.labels.fill(1);
    let tissue = &slide.describe(16, 8, Aggregation::Tissue)[0];
    assert_eq!((tissue.score, tissue.tissue, tissue.foreground, tissue.border), (1.0, 0.25, 0.25, 0.0));
    assert_eq!((&tissue.shares, tissue.class_scores.len()), (&vec![0.0, 0.25], 2));
    assert_eq!(slide.describe(16, 8, Aggregation::Whole)[0].score, 7.0);
    slide.excluded.fill(1);
    assert!(slide.describe(16, 8, Aggregation::Whole).is_empty(), "nothing to annotate");
}

#[test]
fn a_score_over_no_pixels_is_zero() {
    let slide = Slide::new(16, 16, |_, _| 1.0);
    for aggregation in [Aggregation::Foreground, Aggregation::Border { radius: 3 }] {
        assert_eq!(slide.describe(16, 8, aggregation)[0].score, 0.0);
    }
}

#[test]
fn the_border_is_as_wide_as_its_radius() {
    let mut slide = Slide::new(16, 16, |x, _| if (6..10).contains(&x) { 1.0 } else { 0.0 });
    slide.labels.iter_mut().enumerate().for_each(|(i, label)| *label = u8::from(i % 16 >= 8));
    for (radius, width) in [(0, 2.0), (1, 4.0), (3, 8.0)] {
        let found = &slide.describe(16, 8, Aggregation::Border { radius })[0];
        assert_eq!((found.border, found.score), (width / 16.0, 4f64.min(width) / width), "{radius}");
    }
    assert_eq!(slide.describe(16, 8, Aggregation::Tissue)[0].border, 1.0, "within eight pixels");
}

#[test]
fn the_top_share_is_of_the_tissue() {
    let mut slide = Slide::new(10, 10, |x, y| (y * 10 + x) as f32);
    slide.tissue.iter_mut().enumerate().for_each(|(i, t)| *t = u8::from(i < 50));
    let score = |share| slide.describe(10, 10, Aggregation::TopShare { share })[0].score;
    assert_eq!(score(0.1), 47.0);
    assert_eq!((score(0.0), score(1e-9), score(1.0), score(7.0)), (49.0, 49.0, 24.5, 24.5));
}

#[test]
fn what_is_no_number_does_not_spoil_other_boxes() {
    for aggregation in EVERY {
        let mut slide = Slide::new(48, 32, |_, _| 0.5);
        slide.labels.iter_mut().enumerate().for_each(|(i, label)| *label = (i % 2) as u8);
        slide.map[5] = f32::NAN;
        slide.mean[7] = f32::NAN;
        for found in slide.describe(16, 16, aggregation) {
            assert_eq!(found.score, 0.5, "{aggregation:?}");
            assert!(found.class_scores.iter().all(|score| score.is_finite()));
        }
    }
}

#[test]
#[should_panic = "another number of classes"]
fn maps_of_another_size_are_refused() {
    let mut slide = Slide::new(16, 16, |_, _| 1.0);
    slide.mean.pop();
    slide.describe(16, 16, Aggregation::Tissue);
}

#[test]
fn aggregations_have_plain_names() {
    let named = |text: &str| serde_json::from_str::<Aggregation>(text).unwrap();
    assert_eq!(named("\"tissue\""), Aggregation::default());
    assert_eq!(named("{\"border\":{\"radius\":4}}"), Aggregation::Border { radius: 4 });
    assert_eq!(named("{\"top-share\":{\"share\":0.1}}"), Aggregation::TopShare { share: 0.1 });
}

proptest! {
    #[test]
    fn boxes_are_inside_and_shares_add_up(
        width in 8u32..50, height in 8u32..50, side in 4u32..20, stride in 1u32..24, salt in any::<u32>(),
        which in 0usize..5,
    ) {
        let mut slide = Slide::new(width, height, |x, y| ((x * 31 + y * 17 + salt % 97) % 13) as f32 / 7.0);
        let hash = |i: usize| (i as u32 ^ salt).wrapping_mul(2_654_435_761) >> 16;
        for i in 0..slide.tissue.len() {
            slide.tissue[i] = u8::from(hash(i) % 4 > 0);
            slide.labels[i] = (hash(i / 3) % 2) as u8;
        }
        for found in slide.describe(side, stride, EVERY[which]) {
            let PatchBox { x, y, side } = found.patch;
            prop_assert!(x + side <= width && y + side <= height);
            prop_assert!((found.shares.iter().sum::<f64>() - found.tissue).abs() < 1e-12);
            prop_assert!(found.foreground <= found.tissue && found.border <= found.tissue);
            prop_assert!(found.tissue >= 0.25 && (0.0..1.72).contains(&found.score));
        }
    }

    /// Where all pixels are alike, all boxes tie to the last bit, so that the place decides.
    #[test]
    fn equal_boxes_have_equal_scores(value in 0.0f32..18.0, side in 3u32..9, stride in 1u32..5, which in 0usize..5) {
        let mut slide = Slide::new(37, 23, |_, _| value);
        slide.labels.fill(1);
        let found = slide.describe(side, stride, EVERY[which]);
        prop_assert!(found.windows(2).all(|pair| pair[0].score.to_bits() == pair[1].score.to_bits()));
    }
}
