//! OME-TIFF, JPEG 2000 tiles, and lists of images that lead nowhere, in files put together entry by entry.

use std::path::Path;

use image::RgbImage;

use super::{difference, noise};
use crate::slides::jpeg2000::tests as j2k;
use crate::slides::open_slide;

/// One image of 32 px tiles; `parts` are the images that hang on it, by number.
struct Image {
    size: (u32, u32),
    compression: u32,
    photometric: u32,
    tiles: Vec<Vec<u8>>,
    description: String,
    parts: Vec<usize>,
    next: Option<usize>,
}

impl Image {
    fn raw(pixels: &RgbImage) -> Self {
        let corners =
            (0..pixels.height()).step_by(32).flat_map(|y| (0..pixels.width()).step_by(32).map(move |x| (x, y)));
        let tile = |(x, y)| {
            let mut tile = RgbImage::new(32, 32);
            image::imageops::replace(&mut tile, pixels, -i64::from(x), -i64::from(y));
            tile.into_raw()
        };
        let tiles = corners.map(tile).collect();
        Self { tiles, ..Self::coded(1, 2, pixels.dimensions(), Vec::new()) }
    }

    fn coded(compression: u32, photometric: u32, size: (u32, u32), tile: Vec<u8>) -> Self {
        let tiles = vec![tile];
        Self { size, compression, photometric, tiles, description: String::new(), parts: Vec::new(), next: None }
    }
}

/// Writes a classic TIFF whose first image is the first one given.
fn write(path: &Path, images: &[Image]) {
    let mut bytes = b"II*\0\0\0\0\0".to_vec();
    let mut pointers = Vec::new();
    let mut lists = vec![0u32; images.len()];
    for (number, image) in images.iter().enumerate() {
        let mut put = |data: &[u8]| {
            let at = bytes.len() as u32;
            bytes.extend(data);
            at
        };
        let offsets: Vec<u32> = image.tiles.iter().map(|tile| put(tile)).collect();
        let counts: Vec<u32> = image.tiles.iter().map(|tile| tile.len() as u32).collect();
        let mut longs = |values: &[u32]| match values {
            [one] => *one,
            many => put(&many.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()),
        };
        let tiles = image.tiles.len() as u32;
        let (offsets, counts) = (longs(&offsets), longs(&counts));
        let resolution = longs(&[20_000, 1]);
        let bits = put(&[8, 0, 8, 0, 8, 0]);
        let text = put(format!("{}\0\0\0\0", image.description).as_bytes());
        let parts = if image.parts.len() > 1 { put(&vec![0; image.parts.len() * 4]) } else { 0 };
        let mut entries = vec![
            (256u16, 4u16, 1, image.size.0),
            (257, 4, 1, image.size.1),
            (258, 3, 3, bits),
            (259, 4, 1, image.compression),
            (262, 4, 1, image.photometric),
            (270, 2, image.description.len() as u32 + 4, text),
            (277, 4, 1, 3),
            (282, 5, 1, resolution),
            (283, 5, 1, resolution),
            (296, 4, 1, 3),
            (322, 4, 1, 32),
            (323, 4, 1, 32),
            (324, 4, tiles, offsets),
            (325, 4, tiles, counts),
        ];
        if !image.parts.is_empty() {
            entries.push((330, 4, image.parts.len() as u32, parts));
        }
        lists[number] = bytes.len() as u32;
        bytes.extend((entries.len() as u16).to_le_bytes());
        for (tag, kind, count, value) in entries {
            if tag == 330 {
                let at = if count > 1 { parts as usize } else { bytes.len() + 8 };
                pointers.extend(image.parts.iter().enumerate().map(|(i, &part)| (at + i * 4, part)));
            }
            bytes.extend(tag.to_le_bytes());
            bytes.extend(kind.to_le_bytes());
            bytes.extend(count.to_le_bytes());
            bytes.extend(value.to_le_bytes());
        }
        if let Some(next) = image.next {
            pointers.push((bytes.len(), next));
        }
        bytes.extend([0; 4]);
    }
    pointers.push((4, 0));
    for (at, image) in pointers {
        bytes[at..at + 4].copy_from_slice(&lists[image].to_le_bytes());
    }
    std::fs::write(path, bytes).unwrap();
}

fn xml(pixels: &str) -> String {
    format!(
        r#"<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">
        <Instrument><Objective ID="o" NominalMagnification="40"/></Instrument>
        <Image Name="macro image"><Pixels><TiffData IFD="1"/></Pixels></Image>
        <Image Name="slide"><Pixels SizeX="128" {pixels}<TiffData IFD="0"/></Pixels></Image></OME>"#
    )
}

fn refusal(path: &Path) -> String {
    open_slide(path, None).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn the_levels_of_an_ome_tiff_hang_on_its_first_plane() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.ome.tif");
    let (base, half, quarter) = (noise(128, 96), noise(64, 48), noise(32, 24));
    let pixels = r#"PhysicalSizeX="0.25" PhysicalSizeY="0.25"><Channel SamplesPerPixel="3"/>"#;
    let first = Image { description: xml(pixels), parts: vec![2, 3], next: Some(1), ..Image::raw(&base) };
    // Larger than the slide: only the description says that it is none.
    write(&path, &[first, Image::raw(&noise(256, 192)), Image::raw(&half), Image::raw(&quarter)]);
    let slide = open_slide(&path, None).unwrap();
    let about = slide.about();
    assert_eq!((about.format.as_str(), about.objective), ("OME-TIFF", Some(40.0)));
    assert_eq!(slide.mpp().um_per_px(), 0.25, "not the 0.5 of the resolution tags");
    for (level, image) in [base, half, quarter].iter().enumerate() {
        let (w, h) = image.dimensions();
        assert_eq!(slide.levels()[level].downsample, f64::from(1 << level));
        assert_eq!(&slide.read_level(level, 0, 0, w, h).unwrap(), image);
    }
}

#[test]
fn channels_in_planes_of_their_own_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.ome.tif");
    let pixels = r#"PhysicalSizeX="0.25" PhysicalSizeY="0.25"><Channel/><Channel/><Channel/>"#;
    write(&path, &[Image { description: xml(pixels), ..Image::raw(&noise(64, 64)) }]);
    let message = refusal(&path);
    assert!(message.contains("an image of 3 channels") && message.contains("vips tiffsave"), "{message}");
}

#[test]
fn lists_in_a_circle_or_without_end_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.tif");
    let image = || Image::raw(&noise(64, 64));
    for parts in [vec![0], vec![1, 1], vec![1, 0]] {
        write(&path, &[Image { parts, ..image() }, Image::raw(&noise(32, 32))]);
        assert!(refusal(&path).contains("runs in a circle"));
    }
    write(&path, &[Image { parts: vec![1; 65_535], ..image() }, Image::raw(&noise(32, 32))]);
    assert!(refusal(&path).contains("65535 values"), "{}", refusal(&path));
    let chain: Vec<Image> = (1..=65).map(|next| Image { next: (next < 65).then_some(next), ..image() }).collect();
    write(&path, &chain);
    assert!(refusal(&path).contains("a stack of more than 64 images"));
}

#[test]
fn claims_of_a_small_file_are_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.tif");
    for size in [(1 << 20, 1 << 20), (1 << 20, 32), (33, 33)] {
        write(&path, &[Image { size, ..Image::raw(&noise(32, 32)) }]);
        let message = refusal(&path);
        assert!(message.contains("is damaged ("), "{message}");
    }
    for size in [(0, 32), (u32::MAX, 32), (32, (1 << 20) + 1)] {
        write(&path, &[Image { size, ..Image::raw(&noise(32, 32)) }]);
        // A height beyond reason also contradicts the number of tiles.
        let message = refusal(&path);
        assert!(message.contains("outside 1 to 1048576") || message.contains("is damaged ("), "{message}");
    }
    // A list of tiles that is longer than the file.
    write(&path, &[Image { size: (1 << 20, 1 << 20), ..Image::raw(&noise(32, 32)) }]);
    let mut bytes = std::fs::read(&path).unwrap();
    for tag in [324u16, 325] {
        let entry = [tag.to_le_bytes(), 4u16.to_le_bytes()].concat();
        let at = bytes.windows(4).position(|w| w == entry).unwrap();
        bytes[at + 4..at + 8].copy_from_slice(&(1u32 << 30).to_le_bytes());
    }
    std::fs::write(&path, bytes).unwrap();
    let message = refusal(&path);
    assert!(message.contains("ends before its") || message.contains("is damaged ("), "{message}");
}

#[test]
fn images_that_share_one_list_of_tiles_have_one_budget() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.tif");
    // 40 images of 2^19 tiles of 32 px: the file lists them once.
    let tiles = 1u32 << 19;
    let size = (1 << 20, 16 * 32);
    let image = |next| Image { size, next, ..Image::coded(1, 2, size, vec![0; 3072]) };
    let images: Vec<Image> = (1..=40).map(|next| image((next < 40).then_some(next))).collect();
    write(&path, &images);
    let mut bytes = std::fs::read(&path).unwrap();
    let lists = bytes.len() as u32;
    bytes.extend((0..tiles).flat_map(|_| 8u32.to_le_bytes()));
    for tag in [324u16, 325] {
        let entry = [&tag.to_le_bytes()[..], &4u16.to_le_bytes(), &1u32.to_le_bytes()].concat();
        let found: Vec<usize> = (0..lists as usize - 8).filter(|&at| bytes[at..at + 8] == entry).collect();
        assert_eq!(found.len(), 40);
        for at in found {
            bytes[at + 4..at + 8].copy_from_slice(&tiles.to_le_bytes());
            bytes[at + 8..at + 12].copy_from_slice(&lists.to_le_bytes());
        }
    }
    std::fs::write(&path, bytes).unwrap();
    let message = refusal(&path);
    assert!(message.contains("more than 16777216 tiles is not supported; convert it"), "{message}");
}

#[test]
fn ome_xml_that_cannot_be_used_is_no_plain_tiff() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.ome.tif");
    let with = |description: String| write(&path, &[Image { description, ..Image::raw(&noise(64, 64)) }]);
    let pixels = r#"PhysicalSizeX="0.25" PhysicalSizeY="0.25"><Channel SamplesPerPixel="3"/>"#;
    with(xml(pixels).replace("</OME>", ""));
    assert!(refusal(&path).contains("its OME-XML cannot be used: "), "{}", refusal(&path));
    // Several MiB are Bio-Formats' habit.
    let comment = |bytes: usize| format!("<!--{}--></OME>", "x".repeat(bytes));
    with(xml(pixels).replace("</OME>", &comment(5 << 20)));
    assert_eq!(open_slide(&path, None).unwrap().about().format, "OME-TIFF");
    with(xml(pixels).replace("</OME>", &comment(16 << 20)));
    assert!(refusal(&path).contains("tag 270 has") && refusal(&path).contains("more than 16777216"));
}

#[test]
fn jpeg_2000_tiles_in_all_their_containers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.svs");
    let rgb = RgbImage::from_fn(32, 32, |x, y| image::Rgb([8 * x, 8 * y, 4 * (x + y)].map(|v| v as u8)));
    for (compression, photometric) in [(33005, 2), (33005, 6), (34712, 2)] {
        write(&path, &[Image::coded(compression, photometric, (32, 32), j2k::tile(j2k::RGB))]);
        assert_eq!(open_slide(&path, None).unwrap().read_level(0, 0, 0, 32, 32).unwrap(), rgb);
    }
    let converted = RgbImage::from_fn(32, 32, |x, y| {
        let luma = f64::from((5 * x + 3 * y) % 256);
        let (cb, cr) = (f64::from(2 * (x / 2) + y) - 28.0, 22.0 - 2.0 * f64::from(x / 2));
        let rgb = [luma + 1.402 * cr, luma - 0.344136 * cb - 0.714136 * cr, luma + 1.772 * cb];
        image::Rgb(rgb.map(|v| v.round().clamp(0.0, 255.0) as u8))
    });
    for (compression, photometric) in [(33003, 6), (33003, 2), (34712, 6)] {
        write(&path, &[Image::coded(compression, photometric, (32, 32), j2k::tile(j2k::HALVED))]);
        let read = open_slide(&path, None).unwrap().read_level(0, 0, 0, 32, 32).unwrap();
        assert!(difference(&read, &converted) <= 1);
    }
}

#[test]
fn a_damaged_tile_is_a_hole_and_many_are_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.svs");
    let damaged = |broken: &[usize]| {
        let mut tiles = vec![j2k::tile(j2k::RGB); 16];
        broken.iter().for_each(|&tile| tiles[tile][2..].fill(0xA5));
        write(&path, &[Image { tiles, ..Image::coded(33005, 2, (128, 128), Vec::new()) }]);
        open_slide(&path, None).unwrap()
    };
    let slide = damaged(&[6]);
    assert!(slide.holes().is_empty());
    let read = slide.read_level(0, 0, 0, 128, 128).unwrap();
    for (x, y, pixel) in read.enumerate_pixels() {
        let hole = (64..96).contains(&x) && (32..64).contains(&y);
        let (x, y) = (x % 32, y % 32);
        let expected = if hole { [255; 3] } else { [8 * x, 8 * y, 4 * (x + y)].map(|v| v as u8) };
        assert_eq!(pixel.0, expected, "({x}, {y})");
    }
    slide.read_level(0, 64, 32, 1, 1).unwrap();
    let holes = slide.holes();
    let boxes: Vec<_> = holes.iter().map(|hole| (hole.x, hole.y, hole.w, hole.h, hole.level)).collect();
    assert_eq!(boxes, [(64, 32, 32, 32, 0)]);
    assert!(holes[0].why.contains("tile 6"), "{}", holes[0].why);
    let message = damaged(&[0, 3, 6, 9, 12]).read_level(0, 0, 0, 128, 128).unwrap_err().to_string();
    assert!(message.contains("5 of 16 tiles cannot be decoded"), "{message}");
}
