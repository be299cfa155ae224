//! The scan with real networks and a real tissue mask.

use consilium_common::plan::{Architecture, ScanSettings};
use image::imageops;

use super::super::{ScanError, tile_starts};
use super::fakes::{picture, spacing, task};
use super::{everywhere, scan};
use crate::network::{MemberWeights, Predictor};
use crate::slides::FlatSlide;
use crate::testing::predicted;
use crate::uncertainty::uncertainty;

fn predictor(classes: usize) -> Predictor {
    let arch = Architecture::plain(classes, 4, 3);
    Predictor::of_members(&arch, &[1, 2].map(|seed| MemberWeights::initialise(&arch, seed)))
}

#[test]
fn pixels_under_one_tile_are_those_of_the_network() {
    let (predictor, image) = (predictor(3), picture(48, 32));
    let slide = FlatSlide::new(image.clone(), spacing());
    let settings = ScanSettings { tile_px: 32, step: 0.5, min_tissue: 0.01, ..ScanSettings::default() };
    let (scan, _) = scan(&slide, everywhere(48, 32), &predictor, &task(3), &settings, &|_, _| true).unwrap();
    assert_eq!(tile_starts(48, 32, 0.5), [0, 16], "the first 16 columns are under the first tile alone");
    let tile = imageops::crop_imm(&image, 0, 0, 32, 32).to_image();
    let direct: Vec<f32> = (0..2).flat_map(|m| predicted(&predictor, m, std::slice::from_ref(&tile))).collect();
    let direct = uncertainty(&direct, 2, 3);
    for y in 0..32 {
        for x in 0..16 {
            let (got, expected) = (scan.uncertainty[y * 48 + x], direct[y * 32 + x]);
            assert!((got - expected).abs() < 4e-4, "{got} is not {expected} at {x}, {y}");
        }
    }
}

#[test]
fn a_tile_that_the_network_cannot_take_is_refused() {
    let slide = FlatSlide::new(picture(40, 40), spacing());
    let settings = ScanSettings { tile_px: 30, step: 0.5, min_tissue: 0.0, ..ScanSettings::default() };
    let refused = scan(&slide, everywhere(40, 40), &predictor(2), &task(2), &settings, &|_, _| true).unwrap_err();
    assert!(matches!(refused, ScanError::Tile { tile: 30, stride: 4 }), "{refused}");
}
