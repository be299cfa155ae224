//! Bad files: each gives one sentence with the cause and the next step, and never a panic.

use std::fs;
use std::path::Path;

use super::{Stored, mpp, noise};
use crate::slides::{
    FlatSlide, OpenSlideSlide, SlideError, SlideReader, TiledSlide, check_mask, check_slide, open_slide, read_at,
    write_pyramid,
};

/// The message for a file that cannot be opened; it names the file and is one line.
fn refusal(path: &Path) -> String {
    let error = match open_slide(path, None) {
        Ok(_) => panic!("{} must be refused", path.display()),
        Err(error) => error.to_string(),
    };
    assert!(error.starts_with(&path.display().to_string()) && error.contains("; "), "{error}");
    assert!(!error.contains('\n'), "{error}");
    assert!(check_slide(path, None).is_err());
    error
}

fn expect(path: &Path, cause: &str, step: &str) {
    let message = refusal(path);
    assert!(message.contains(cause) && message.contains(step), "{message}\nlacks `{cause}` or `{step}`");
}

#[test]
fn files_that_are_no_slides() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.tif");
    expect(&path, "no such file", "check the name");
    fs::write(&path, b"").unwrap();
    expect(&path, "ends before its first byte", "copy the file again");
    fs::write(&path, b"PK\x03\x04 this is a zip file").unwrap();
    expect(&path, "no TIFF, SVS, DICOM, OME-Zarr, PNG or JPEG", "vips tiffsave");
    fs::write(&path, b"II*\0").unwrap();
    expect(&path, "ends before its first image", "copy the file again");
    fs::write(&path, b"\x89PNG\r\n\x1a\nrubbish").unwrap();
    refusal(&path);
    expect(folder.path(), "no TIFF, SVS, DICOM, OME-Zarr, PNG or JPEG", "vips tiffsave");
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_are_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    expect(Path::new("/dev/zero"), "neither a file nor a folder", "check its permissions");
    let path = folder.path().join("x.svs");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    expect(&path, "neither a file nor a folder", "check its permissions");
    for opened in [TiledSlide::open(&path, None).err(), OpenSlideSlide::open(&path, None).err()] {
        assert!(opened.unwrap().to_string().contains("neither a file nor a folder"));
    }
    assert!(check_mask(&path, (1, 1)).is_err());
}

#[test]
fn striped_tiff() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.tif");
    let mut encoder = tiff::encoder::TiffEncoder::new(fs::File::create(&path).unwrap()).unwrap();
    encoder.write_image::<tiff::encoder::colortype::RGB8>(20, 10, noise(20, 10).as_raw()).unwrap();
    expect(&path, "TIFF in strips", "vips tiffsave IN OUT.tif --tile");
}

#[test]
fn truncated_tiff() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.tif");
    // The writer puts the list of an image behind its tiles: cutting anywhere must be noticed on opening.
    write_pyramid(&path, &noise(700, 600), mpp(0.5), 80).unwrap();
    let whole = fs::read(&path).unwrap();
    for part in [0.01, 0.3, 0.7, 0.95, 0.999] {
        fs::write(&path, &whole[..(whole.len() as f64 * part) as usize]).unwrap();
        expect(&path, "ends before its", "copy the file again");
    }
    // A file with its lists in front loses only tiles.
    Stored::default().write(&path, &[noise(200, 200)]);
    let mut bytes = fs::read(&path).unwrap();
    let list = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
    let at = find_tag(&bytes, list, 324);
    let offsets = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
    bytes[offsets + 4..offsets + 8].copy_from_slice(&u32::MAX.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    expect(&path, "ends before its tile 1", "copy the file again");
}

#[test]
fn images_in_a_circle() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.tif");
    Stored::default().write(&path, &[noise(64, 64), noise(32, 32)]);
    let mut bytes = fs::read(&path).unwrap();
    let first = bytes[4..8].to_vec();
    let list = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
    let second = next_of(&bytes, list);
    let second_list = u32::from_le_bytes(bytes[second..second + 4].try_into().unwrap()) as usize;
    let end = next_of(&bytes, second_list);
    bytes[end..end + 4].copy_from_slice(&first);
    fs::write(&path, &bytes).unwrap();
    expect(&path, "runs in a circle", "export it anew");
}

#[test]
fn sizes_that_cannot_be() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.tif");
    for claimed in [0, 1 << 21, u32::MAX] {
        Stored { claimed_width: Some(claimed), ..Stored::default() }.write(&path, &[noise(64, 64)]);
        let message = refusal(&path);
        // An absurd width also contradicts the number of tiles; whichever is noticed first is right.
        assert!(message.contains("outside 1 to 1048576") || message.contains("damaged"), "{message}");
    }
    Stored { claimed_width: Some(1000), ..Stored::default() }.write(&path, &[noise(64, 64)]);
    expect(&path, "damaged", "export it anew");
    let empty = write_pyramid(&path, &image::RgbImage::new(0, 5), mpp(0.5), 80);
    assert!(matches!(empty, Err(SlideError::Dimensions { .. })));
}

#[test]
fn codings_that_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.tif");
    Stored { compression: 50001, ..Stored::default() }.write(&path, &[noise(64, 64)]);
    expect(&path, "compression 50001 is not supported", "vips tiffsave");
    Stored { photometric: 3, samples: 1, ..Stored::default() }.write(&path, &[noise(64, 64)]);
    expect(&path, "colour palette", "vips tiffsave");
    Stored { photometric: 5, samples: 4, ..Stored::default() }.write(&path, &[noise(64, 64)]);
    expect(&path, "CMYK", "vips tiffsave");
}

#[test]
fn a_slide_without_spacing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.tif");
    for resolution in [0, 28] {
        Stored { resolution, ..Stored::default() }.write(&path, &[noise(64, 64)]);
        expect(&path, "does not say its spacing", "column `mpp` of slides.csv");
        assert!(open_slide(&path, Some(mpp(0.25))).is_ok());
    }
}

#[test]
fn a_damaged_tile_fails_its_region_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.tif");
    for compression in [5, 7, 8] {
        Stored { compression, ..Stored::default() }.write(&path, &[noise(128, 64)]);
        let mut bytes = fs::read(&path).unwrap();
        let list = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
        let at = find_tag(&bytes, list, 324);
        let offsets = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
        let tile = u32::from_le_bytes(bytes[offsets + 4..offsets + 8].try_into().unwrap()) as usize;
        bytes[tile..tile + 300].fill(0xA5);
        fs::write(&path, &bytes).unwrap();
        let slide = open_slide(&path, None).unwrap();
        assert!(slide.read_level(0, 0, 0, 64, 64).is_ok());
        let message = slide.read_level(0, 60, 0, 10, 10).unwrap_err().to_string();
        assert!(message.contains("tile 1 cannot be decoded"), "{message}");
    }
}

#[test]
fn reads_beyond_reason() {
    let slide = FlatSlide::new(noise(32, 32), mpp(0.5));
    assert!(matches!(slide.read_level(0, 0, 0, u32::MAX, u32::MAX), Err(SlideError::RegionTooLarge { .. })));
    assert!(matches!(slide.read_level(1, 0, 0, 1, 1), Err(SlideError::NoSuchLevel { level: 1, levels: 1, .. })));
    assert!(read_at(&slide, mpp(0.5), i64::MAX, i64::MIN, 8, 8).unwrap().pixels().all(|p| p.0 == [255; 3]));
    assert!(read_at(&slide, mpp(1.0), 0, 0, 0, 0).unwrap().is_empty());
}

/// Position of the entry of a tag in a classic little-endian list.
fn find_tag(bytes: &[u8], list: usize, tag: u16) -> usize {
    let entries = (list + 2..).step_by(12);
    entries.take(99).find(|&at| bytes[at..at + 2] == tag.to_le_bytes()).unwrap()
}

/// Position of the pointer to the next list.
fn next_of(bytes: &[u8], list: usize) -> usize {
    list + 2 + 12 * usize::from(u16::from_le_bytes(bytes[list..list + 2].try_into().unwrap()))
}
