//! Tiny slides: pink discs of tissue with darker islands, written as real pyramidal TIFFs with masks.

use std::fs;
use std::path::Path;

use consilium_common::Mpp;
use consilium_learning::slides::write_pyramid;
use image::{GrayImage, Luma, Rgb, RgbImage};

const SIDE: u32 = 512;

/// Writes a data folder of two pool slides and one test slide (or train slides for the central site), 1 um/px.
pub fn data_folder(folder: &Path, variant: u8, splits: &[&str]) {
    fs::create_dir_all(folder.join("slides")).unwrap();
    fs::create_dir_all(folder.join("masks")).unwrap();
    let mut table = String::from("slide,mpp,split\n");
    for (index, split) in splits.iter().enumerate() {
        let name = format!("slide-{index}");
        let (image, mask) = draw(u32::from(variant) * 7 + u32::try_from(index).unwrap());
        write_pyramid(&folder.join(format!("slides/{name}.tif")), &image, Mpp::new(1.0).unwrap(), 90).unwrap();
        mask.save(folder.join(format!("masks/{name}.png"))).unwrap();
        table.push_str(&format!("{name},1.0,{split}\n"));
    }
    fs::write(folder.join("slides.csv"), table).unwrap();
}

fn draw(seed: u32) -> (RgbImage, GrayImage) {
    let centre = |k: u32| (96 + (seed * 61 + k * 137) % 320, 96 + (seed * 89 + k * 211) % 320);
    let islands: Vec<_> = (0..3).map(centre).collect();
    let inside = |x: u32, y: u32, (cx, cy): (u32, u32), r: u32| x.abs_diff(cx).pow(2) + y.abs_diff(cy).pow(2) < r * r;
    let mut mask = GrayImage::new(SIDE, SIDE);
    let image = RgbImage::from_fn(SIDE, SIDE, |x, y| {
        let grain = u8::try_from((x * 31 + y * 17 + x * y * 7 + seed) % 23).unwrap();
        if !inside(x, y, (SIDE / 2, SIDE / 2), 240) {
            Rgb([245, 244, 246])
        } else if islands.iter().any(|&island| inside(x, y, island, 52)) {
            mask.put_pixel(x, y, Luma([1]));
            Rgb([110 + grain, 70 + grain, 150 + grain])
        } else {
            Rgb([220 - grain, 150 + grain, 190 - grain])
        }
    });
    (image, mask)
}
