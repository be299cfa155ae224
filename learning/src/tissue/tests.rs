//! Tests of the tissue mask on drawn slides, and on real ones where they are present.

use consilium_common::Mpp;
use image::{GrayImage, Rgb, RgbImage};

use super::{Sensitivity, TissueMask, TissueSettings};
use crate::slides::{FlatSlide, open_slide, size_at};
use crate::testing::real_data;

fn mpp(um: f64) -> Mpp {
    Mpp::new(um).unwrap()
}

/// A disc of pink tissue with dark nuclei on glass of the given colour.
fn disc(glass: [u8; 3]) -> FlatSlide {
    let image = RgbImage::from_fn(1600, 1200, |x, y| {
        let (dx, dy) = (i64::from(x) - 800, i64::from(y) - 600);
        let nucleus = (x % 24 < 8) && (y % 24 < 8);
        let noise = ((x * 31 + y * 17) % 7) as u8;
        match (dx * dx + dy * dy < 400 * 400, nucleus) {
            (true, true) => Rgb([90, 60, 130]),
            (true, false) => Rgb([225, 170 + noise, 205]),
            _ => Rgb(glass.map(|c| c - noise)),
        }
    });
    FlatSlide::new(image, mpp(1.0))
}

#[test]
fn tissue_on_glass_of_any_scanner() {
    let expected = std::f64::consts::PI * 400.0 * 400.0 / (1600.0 * 1200.0);
    for glass in [[255, 255, 255], [243, 243, 246], [235, 230, 228]] {
        let found = TissueMask::of(&disc(glass)).unwrap().fraction();
        assert!((found - expected).abs() < 0.02, "glass {glass:?}: {found}, not {expected}");
    }
}

#[test]
fn what_was_never_scanned_is_not_the_glass() {
    let image = RgbImage::from_fn(1600, 1200, |x, y| {
        let (dx, dy) = (i64::from(x) - 1000, i64::from(y) - 600);
        let noise = ((x * 31 + y * 17) % 3) as u8;
        match (x < 500, dx * dx + dy * dy < 150 * 150) {
            (true, _) => Rgb([255; 3]),
            (_, true) => Rgb([225, 170 + noise, 205]),
            _ => Rgb([240, 238 - noise, 241]),
        }
    });
    let found = TissueMask::find(&FlatSlide::new(image, mpp(1.0)), &TissueSettings::default()).unwrap();
    let expected = std::f64::consts::PI * 150.0 * 150.0 / (1600.0 * 1200.0);
    assert!(matches!(found.stats.glass, Some(237 | 238)), "{:?}", found.stats.glass);
    assert!((found.stats.tissue_share - expected).abs() < 0.01, "{}, not {expected}", found.stats.tissue_share);
}

#[test]
fn a_field_without_glass_is_all_tissue() {
    let image = RgbImage::from_fn(1000, 1000, |x, y| {
        if (x % 40 < 14) && (y % 40 < 14) { Rgb([80, 50, 120]) } else { Rgb([220, 165, 200]) }
    });
    assert_eq!(TissueMask::of(&FlatSlide::new(image, mpp(0.25))).unwrap().fraction(), 1.0);
}

#[test]
fn glass_alone_dust_and_holes() {
    let mut image = RgbImage::from_pixel(1000, 1000, Rgb([244, 243, 245]));
    assert_eq!(TissueMask::of(&FlatSlide::new(image.clone(), mpp(1.0))).unwrap().fraction(), 0.0);
    for (x, y, pixel) in image.enumerate_pixels_mut() {
        let tissue = (200..800).contains(&x) && (200..800).contains(&y);
        let hole = (400..460).contains(&x) && (400..460).contains(&y);
        let dust = (50..70).contains(&x) && (50..70).contains(&y);
        if (tissue && !hole) || dust {
            *pixel = Rgb([200, 120, 180]);
        }
    }
    let mask = TissueMask::of(&FlatSlide::new(image, mpp(1.0))).unwrap();
    assert!((mask.fraction() - 0.36).abs() < 0.005, "{}", mask.fraction());
    let view = mask.on(1000, 1000);
    assert_eq!(view.count(400..460, 400..460), 60 * 60, "a small hole belongs to the tissue");
    assert_eq!(view.count(40..80, 40..80), 0, "dust does not");
}

#[test]
fn the_mask_at_a_spacing_and_the_count_of_a_box_agree() {
    let slide = disc([250; 3]);
    let mask = TissueMask::of(&slide).unwrap();
    for um in [1.0, 2.0, 3.7] {
        let (w, h) = size_at(&slide, mpp(um));
        let whole = mask.at(w, h);
        assert_eq!(whole.dimensions(), (w, h));
        let mean = whole.pixels().map(|p| f64::from(p.0[0])).sum::<f64>() / f64::from(w * h);
        assert!((mean - mask.fraction()).abs() < 0.005);
        let view = mask.on(w, h);
        let (x, y, side) = (w / 4, h / 3, w / 5);
        let counted = whole
            .enumerate_pixels()
            .filter(|(px, py, p)| (x..x + side).contains(px) && (y..y + side).contains(py) && p.0[0] == 1);
        assert_eq!(view.count(x..x + side, y..y + side), counted.count() as u64, "{um}");
    }
    let given = TissueMask::from_image(GrayImage::from_raw(2, 1, vec![0, 9]).unwrap());
    assert_eq!(given.on(100, 50).count(25..75, 0..50), 25 * 50);
}

#[test]
fn small_fields_get_a_finer_mask_and_large_slides_the_fixed_one() {
    let spacing = |image: RgbImage, um: f64| {
        let found = TissueMask::find(&FlatSlide::new(image, mpp(um)), &TissueSettings::default()).unwrap();
        (found.stats.spacing_um, found.mask.mask.dimensions())
    };
    assert_eq!(spacing(RgbImage::new(1000, 1000), 0.25), (250.0 / 64.0, (64, 64)));
    assert_eq!(spacing(RgbImage::new(1600, 800), 1.0), (8.0, (200, 100)));
    assert_eq!(spacing(RgbImage::new(40, 20), 0.5), (0.5, (40, 20)));
    assert_eq!(spacing(RgbImage::new(40, 20), 20.0), (20.0, (40, 20)));
}

#[test]
fn the_sensitivity_moves_what_pale_tissue_counts() {
    // From left to right: ordinary tissue, pale stroma, faint mucin, glass.
    let image = RgbImage::from_fn(1600, 800, |x, y| {
        let noise = ((x * 31 + y * 17) % 3) as u8;
        match x / 400 {
            0 => Rgb([200, 120, 180]),
            1 => Rgb([240, 217 - noise, 236]),
            2 => Rgb([244, 236 - noise, 243]),
            _ => Rgb([245 - noise, 244 - noise, 246]),
        }
    });
    let slide = FlatSlide::new(image, mpp(1.0));
    let share = |sensitivity: Sensitivity| {
        let settings = TissueSettings { sensitivity, ..TissueSettings::default() };
        let found = TissueMask::find(&slide, &settings).unwrap();
        assert_eq!(found.stats.sensitivity, Some(sensitivity));
        found.mask.fraction()
    };
    assert_eq!([Sensitivity::Low, Sensitivity::Normal, Sensitivity::High].map(share), [0.25, 0.5, 0.75]);
}

/// Tissue with nuclei on the left half, glass on the right, 2.4 x 1.6 mm.
fn half_and_half() -> RgbImage {
    RgbImage::from_fn(2400, 1600, |x, y| {
        let cell = (x / 20).wrapping_mul(2_654_435_761).wrapping_add((y / 20).wrapping_mul(40_503)) >> 7;
        let nucleus = cell.is_multiple_of(3) && x % 20 < 14 && y % 20 < 14;
        match (x < 1200, nucleus) {
            (true, true) => Rgb([90, 60, 140]),
            (true, false) => Rgb([225, 150 + (cell % 40) as u8, 200]),
            _ => Rgb([243, 243, 246]),
        }
    })
}

/// Lays ink over a box: what shines through is multiplied.
fn ink(image: &mut RgbImage, colour: [u8; 3], x: std::ops::Range<u32>, y: std::ops::Range<u32>) {
    for (px, py, pixel) in image.enumerate_pixels_mut() {
        if x.contains(&px) && y.contains(&py) {
            for (value, ink) in pixel.0.iter_mut().zip(colour) {
                *value = (u16::from(*value) * u16::from(ink) / 255) as u8;
            }
        }
    }
}

#[test]
fn pen_of_every_colour_is_left_out_over_glass_and_over_tissue() {
    for colour in [[40, 60, 170], [20, 140, 80], [28, 28, 32], [220, 25, 30]] {
        let mut image = half_and_half();
        ink(&mut image, colour, 400..2200, 600..1000);
        let slide = FlatSlide::new(image, mpp(1.0));
        let found = TissueMask::find(&slide, &TissueSettings::default()).unwrap();
        let view = found.mask.on(2400, 1600);
        assert_eq!(view.count(1300..2400, 0..1600), 0, "{colour:?}: none of the ink over glass is tissue");
        let left = view.count(420..1200, 620..980) as f64 / (780.0 * 360.0);
        assert!(left < 0.02, "{colour:?}: {left} of the ink over tissue is left");
        let kept = view.count(0..350, 0..1600) + view.count(350..1200, 0..560) + view.count(350..1200, 1040..1600);
        assert_eq!(kept, 350 * 1600 + 850 * 560 * 2, "{colour:?}: all of the other tissue is left");
        assert!((0.72..0.85).contains(&found.stats.pen_mm2), "{colour:?}: {}", found.stats.pen_mm2);
        let with = TissueSettings { exclude_pen: false, ..TissueSettings::default() };
        let found = TissueMask::find(&slide, &with).unwrap();
        assert!(found.stats.pen_mm2 == 0.0 && found.mask.on(2400, 1600).count(1300..2100, 600..1000) == 800 * 400);
    }
}

#[test]
fn tissue_in_the_colours_of_ink_is_no_pen() {
    // Textured tissue whose pixels pass the colour gates; then pigment, a fold and a lake of blood inside pink tissue.
    for [body, spots] in
        [[[60, 80, 170], [30, 45, 140]], [[60, 150, 110], [25, 105, 70]], [[190, 45, 50], [150, 20, 30]]]
    {
        let image = RgbImage::from_fn(2400, 1600, |x, y| {
            let dark = (x / 16).wrapping_mul(2_654_435_761).wrapping_add((y / 16).wrapping_mul(40_503)) >> 9;
            Rgb(if x > 1600 {
                [244; 3]
            } else if dark.is_multiple_of(2) {
                spots
            } else {
                body
            })
        });
        let found = TissueMask::find(&FlatSlide::new(image, mpp(1.0)), &TissueSettings::default()).unwrap();
        assert!(found.stats.pen_mm2 == 0.0 && found.mask.on(24, 16).count(0..16, 0..16) == 256, "{body:?}");
    }
    let mut image = half_and_half();
    for (x, y, pixel) in image.enumerate_pixels_mut() {
        let grain = ((x / 8 * 37 + y / 8 * 91) % 29) as u8;
        match (x, y) {
            (100..400, 100..900) => pixel.0 = [190, 50 + grain, 90],
            (500..900, 100..900) => pixel.0 = [30 + grain, 25 + grain, 22 + grain],
            (1000..1080, 100..1500) => pixel.0 = [70, 35, 90],
            _ => {}
        }
    }
    let found = TissueMask::find(&FlatSlide::new(image, mpp(1.0)), &TissueSettings::default()).unwrap();
    assert_eq!((found.stats.pen_mm2, found.stats.tissue_share), (0.0, 0.5));
}

#[test]
fn a_blurred_half_is_found_and_a_sharp_slide_is_not_blurred() {
    let sharp = image::imageops::crop_imm(&half_and_half(), 0, 0, 1200, 1600).to_image();
    let blurred = image::imageops::blur(&sharp, 3.0);
    let look = |image: RgbImage, um: f64| {
        TissueMask::find(&FlatSlide::new(image, mpp(um)), &TissueSettings::default()).unwrap().stats.blur
    };
    let all = look(sharp.clone(), 1.0).unwrap();
    assert_eq!((all.blurred_share, all.sampled_blocks, all.spacing_um), (0.0, 9 * 12, 1.0));
    let mut half = sharp.clone();
    image::imageops::replace(&mut half, &image::imageops::crop_imm(&blurred, 0, 0, 1200, 768).to_image(), 0, 0);
    let half = look(half, 1.0).unwrap();
    assert!((half.blurred_share - 0.5).abs() < 0.05, "{half:?}");
    let soft = look(blurred, 1.0).unwrap();
    assert!(soft.blurred_share == 0.0 && soft.median_sharpness < 0.2 * all.median_sharpness, "{soft:?}");
    assert_eq!(look(sharp.clone(), 4.0), None, "too coarse to tell");
    assert_eq!(look(RgbImage::from_pixel(1200, 1600, Rgb([244; 3])), 1.0), None, "no tissue");
    assert_eq!(look(RgbImage::from_pixel(1200, 1600, Rgb([150, 100, 140])), 1.0), None, "nothing in it");
    let slide = FlatSlide::new(sharp, mpp(1.0));
    let unmeasured = TissueSettings { measure_blur: false, ..TissueSettings::default() };
    assert_eq!(TissueMask::find(&slide, &unmeasured).unwrap().stats.blur, None);
}

#[test]
fn a_large_slide_without_levels_is_sampled() {
    let tissue =
        |x: u32, y: u32| if (x / 9 + y / 7).is_multiple_of(3) { Rgb([90, 60, 140]) } else { Rgb([225, 160, 200]) };
    let slide = FlatSlide::new(RgbImage::from_fn(3200, 3200, tissue), mpp(1.0));
    let found = TissueMask::find(&slide, &TissueSettings::default()).unwrap();
    assert_eq!((found.stats.tissue_share, found.stats.blur.unwrap().sampled_blocks), (1.0, 400), "of 625");
    let again = TissueMask::find(&slide, &TissueSettings::default()).unwrap();
    assert_eq!(again.mask, found.mask);
}

#[test]
fn statistics_are_json() {
    let found = TissueMask::find(&disc([250; 3]), &TissueSettings::default()).unwrap();
    let json = serde_json::to_value(&found.stats).unwrap();
    assert_eq!(
        (&json["source"], &json["sensitivity"], &json["glass"]),
        (&"found".into(), &"normal".into(), &247.into())
    );
    let area = json["tissue_mm2"].as_f64().unwrap();
    assert!((area - 0.5027).abs() < 0.03, "a disc of 0.8 mm: {area}");
    assert!(serde_json::from_str::<TissueSettings>(r#"{"sensitivity":"high"}"#).unwrap().exclude_pen);
    assert!(serde_json::from_str::<TissueSettings>(r#"{"sensitive":"high"}"#).is_err());
}

#[test]
fn real_fields_are_all_tissue_and_a_real_slide_is_not() {
    let (Some(sites), Some(aperio)) = (real_data("monuseg"), real_data("wsi/CMU-1-Small-Region.svs")) else { return };
    let sites = std::fs::read_dir(sites).unwrap();
    for slides in sites.filter_map(|site| std::fs::read_dir(site.unwrap().path().join("slides")).ok()) {
        for path in slides.map(|slide| slide.unwrap().path()) {
            let found = TissueMask::of(open_slide(&path, None).unwrap().as_ref()).unwrap().fraction();
            assert!(found > 0.97, "{}: {found}", path.display());
        }
    }
    let slide = open_slide(&aperio, None).unwrap();
    let found = TissueMask::of(slide.as_ref()).unwrap().fraction();
    assert!((0.33..0.45).contains(&found), "{found} at {}", slide.mpp());
}
