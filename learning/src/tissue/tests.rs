//! Tests of the tissue mask on drawn slides, and on real ones where they are present.

use consilium_common::Mpp;
use image::{GrayImage, Rgb, RgbImage};

use super::{TissueMask, otsu};
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
    assert_eq!(mask.share((1000, 1000), 400, 400, 60, 60), 1.0, "a small hole belongs to the tissue");
    assert_eq!(mask.share((1000, 1000), 40, 40, 40, 40), 0.0, "dust does not");
}

#[test]
fn the_mask_at_a_spacing_and_the_share_of_a_box_agree() {
    let slide = disc([250; 3]);
    let mask = TissueMask::of(&slide).unwrap();
    for um in [1.0, 2.0, 3.7] {
        let (w, h) = size_at(&slide, mpp(um));
        let whole = mask.at(w, h);
        assert_eq!(whole.dimensions(), (w, h));
        let mean = whole.pixels().map(|p| f64::from(p.0[0])).sum::<f64>() / f64::from(w * h);
        assert!((mean - mask.fraction()).abs() < 0.005);
        assert!((mask.share((w, h), 0, 0, w, h) - mask.fraction()).abs() < 1e-9);
        let (x, y, side) = (w / 4, h / 3, w / 5);
        let counted = whole
            .enumerate_pixels()
            .filter(|(px, py, p)| (x..x + side).contains(px) && (y..y + side).contains(py) && p.0[0] == 1);
        let counted = counted.count() as f64 / f64::from(side * side);
        let share = mask.share((w, h), x.into(), y.into(), side, side);
        assert!((counted - share).abs() < 0.02, "{um}: {counted} {share}");
    }
    assert_eq!(mask.share((1600, 1200), -500, 0, 400, 400), 0.0);
    let given = TissueMask::from_image(GrayImage::from_raw(2, 1, vec![0, 9]).unwrap());
    assert_eq!(given.share((100, 50), 25, 0, 50, 50), 0.5);
}

#[test]
fn otsu_separates_two_groups() {
    let mut histogram = [0u64; 256];
    (40..60).for_each(|v| histogram[v] = 100);
    (180..220).for_each(|v| histogram[v] = 30);
    assert!((59..180).contains(&otsu(&histogram)));
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
