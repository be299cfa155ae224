//! Real files: an Aperio slide against what OpenSlide reads, and the fields of several hospitals.

use image::RgbImage;

use crate::slides::{open_slide, read_mask_at};
use crate::testing::real_data;

fn means(image: &RgbImage) -> [f64; 3] {
    let mut sums = [0u64; 3];
    image.pixels().for_each(|p| sums.iter_mut().zip(p.0).for_each(|(sum, v)| *sum += u64::from(v)));
    sums.map(|sum| sum as f64 / f64::from(image.width() * image.height()))
}

#[test]
fn an_aperio_slide_reads_as_openslide_reads_it() {
    let Some(path) = real_data("wsi/CMU-1-Small-Region.svs") else { return };
    let slide = open_slide(&path, None).unwrap();
    assert_eq!(slide.mpp().um_per_px(), 0.499);
    assert_eq!(slide.levels().len(), 1, "thumbnail, label and macro are no levels");
    let whole = slide.read_level(0, 0, 0, 2220, 2967).unwrap();
    for (found, expected) in means(&whole).into_iter().zip([214.011, 194.810, 207.904]) {
        assert!((found - expected).abs() < 0.05, "{found} is not {expected}");
    }
    // The digest of all pixels, RGB over white, as OpenSlide 4.0.1 gives them.
    let digest = blake3::hash(whole.as_raw()).to_hex();
    assert_eq!(digest.as_str(), "e4bfb6077cbfe4c94e66a6a8436c5e387ce1c137ed1b4040312adedc15be963c");
    let golden = include_str!("cmu-1-small-region.txt");
    for line in golden.lines().filter(|line| !line.starts_with('#')) {
        let numbers: Vec<f64> = line.split_whitespace().map(|n| n.parse().unwrap()).collect();
        let [x, y, w, h] = [0, 1, 2, 3].map(|i| numbers[i] as u32);
        let region = slide.read_level(0, x.into(), y.into(), w, h).unwrap();
        for (found, expected) in means(&region).iter().zip(&numbers[4..7]) {
            assert!((found - expected).abs() < 0.3, "{line}: mean {found}");
        }
        let corners = [(0, 0), (w - 1, 0), (0, h - 1), (w - 1, h - 1), (w / 2, h / 2)];
        for ((x, y), expected) in corners.into_iter().zip(numbers[7..].chunks(3)) {
            for (&found, expected) in region.get_pixel(x, y).0.iter().zip(expected) {
                assert!((f64::from(found) - expected).abs() <= 4.0, "{line}: {found} at ({x}, {y})");
            }
        }
    }
}

#[test]
fn fields_of_several_hospitals_open_with_their_masks() {
    let Some(root) = real_data("monuseg/roswell") else { return };
    let path = root.join("slides/TCGA-G9-6336.tif");
    let slide = open_slide(&path, None).unwrap();
    assert_eq!((slide.mpp().um_per_px(), slide.levels().len()), (0.25, 3));
    let mask = read_mask_at(&root.join("masks/TCGA-G9-6336.png"), slide.as_ref(), slide.mpp(), 2).unwrap();
    assert_eq!(mask.dimensions(), (1000, 1000));
    let nuclei = mask.pixels().filter(|p| p.0[0] == 1).count();
    assert!((50_000..500_000).contains(&nuclei), "{nuclei}");
}
