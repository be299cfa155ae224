use super::*;

const SIDE: u32 = 1024;

fn mean_colour(image: &RgbImage) -> [f64; 3] {
    let mut sum = [0.0; 3];
    for pixel in image.pixels() {
        (0..3).for_each(|c| sum[c] += f64::from(pixel[c]));
    }
    sum.map(|s| s / f64::from(image.width() * image.height()))
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let centre = &centres(1, 7)[0];
    let (first, again) = (draw_slide(centre, "7/a", SIDE), draw_slide(centre, "7/a", SIDE));
    assert_eq!(first.image.as_raw(), again.image.as_raw());
    assert_eq!(first.mask.as_raw(), again.mask.as_raw());
    let other = draw_slide(centre, "8/a", SIDE);
    assert_ne!(first.image.as_raw(), other.image.as_raw());
}

#[test]
fn centres_look_different_on_the_same_tissue() {
    let colours: Vec<_> =
        centres(5, 7).iter().map(|centre| mean_colour(&draw_slide(centre, "7/a", SIDE).image)).collect();
    for (i, a) in colours.iter().enumerate() {
        for b in &colours[..i] {
            let distance = (0..3).map(|c| (a[c] - b[c]).powi(2)).sum::<f64>().sqrt();
            assert!(distance > 6.0, "two centres differ by {distance:.1} levels only");
        }
    }
}

#[test]
fn every_slide_has_tumour_and_more_that_is_not() {
    let centre = &centres(1, 7)[0];
    for index in 0..8 {
        let slide = draw_slide(centre, &format!("7/share-{index}"), 2048);
        let share = slide.tumour_share();
        assert!((0.04..0.35).contains(&share), "slide {index} is {share:.3} tumour");
        assert!(slide.mask.pixels().all(|p| p[0] <= 1));
        assert_eq!(slide.mask.width(), 2048 / MASK_STEP);
    }
}

#[test]
fn tumour_is_darker_in_red_than_the_rest_of_the_tissue() {
    let slide = draw_slide(&centres(1, 7)[0], "7/dark", 2048);
    let (mut tumour, mut rest) = ((0.0, 0.0), (0.0, 0.0));
    for (x, y, label) in slide.mask.enumerate_pixels() {
        let pixel = slide.image.get_pixel(x * MASK_STEP + 1, y * MASK_STEP + 1);
        let sum = if label[0] == 1 { &mut tumour } else { &mut rest };
        *sum = (sum.0 + f64::from(pixel[0]), sum.1 + 1.0);
    }
    assert!(tumour.0 / tumour.1 + 30.0 < rest.0 / rest.1);
}

#[test]
fn further_centres_are_mixed_by_seed() {
    let seven = centres(7, 3);
    assert_eq!(seven.len(), 7);
    assert_eq!(seven, centres(7, 3));
    assert_ne!(seven[6], centres(7, 4)[6]);
    let mut names: Vec<_> = seven.iter().map(|c| &c.name).collect();
    names.dedup();
    assert_eq!(names.len(), 7);
}
