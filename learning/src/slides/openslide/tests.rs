//! Vendor slides with and without the library. What needs it says so where it is absent.

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use image::RgbImage;

use super::library::{OPENSLIDE, loaded};
use super::vendor::{FirstTags, vendor_file, without};
use super::{OpenSlideSlide, Rect, cells, over_white, pieces};
use crate::native::LibraryError;
use crate::slides::tests::{Stored, difference, mpp, noise};
use crate::slides::{SlideError, SlideReader, TiledSlide, check_slide, open_slide};
use crate::testing::real_data;

/// A Leica slide of 300 x 200 px at 40, 20 px of a collection of 400 x 300 px, as its description says it.
const LEICA: &str = r#"<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">
<collection name="c" sizeX="100000" sizeY="75000"><image name="i"><creationDate>2020-01-01T00:00:00Z</creationDate>
<device model="m" version="1"/><pixels sizeX="300" sizeY="200"><dimension sizeX="300" sizeY="200" r="0" ifd="0"/>
<dimension sizeX="150" sizeY="100" r="1" ifd="1"/></pixels><view sizeX="75000" sizeY="50000" offsetX="10000"
offsetY="5000" spacingZ="0"/><scanSettings><objectiveSettings><objective>40</objective></objectiveSettings>
<illuminationSettings><numericalAperture>0.65</numericalAperture><illuminationSource>brightfield</illuminationSource>
</illuminationSettings></scanSettings></image></collection></scn>"#;

/// Whether OpenSlide is there to be tested; says so past the harness where it is not.
fn present() -> bool {
    match loaded() {
        Ok(_) => true,
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
            false
        }
    }
}

fn leica() -> Stored {
    Stored { big: true, compression: 8, description: vec![LEICA], ..Stored::default() }
}

fn no_library() -> LibraryError {
    LibraryError::NotFound { of: &OPENSLIDE, looked: "nowhere".to_owned() }
}

#[test]
fn vendors_are_told_by_their_tags() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.tif");
    leica().write(&path, &[noise(300, 200), noise(150, 100)]);
    assert_eq!(vendor_file(&path), Some("Leica SCN"));
    Stored::default().write(&path, &[noise(64, 64)]);
    assert_eq!(vendor_file(&path), None);
    let hamamatsu = folder.path().join("Slide.NDPI");
    fs::rename(&path, &hamamatsu).unwrap();
    assert_eq!(vendor_file(&hamamatsu), Some("Hamamatsu NDPI"));
    assert_eq!(vendor_file(&folder.path().join("absent.ndpi")), None, "a missing file is missing, whatever its name");
    let mirax = folder.path().join("slide.mrxs");
    fs::write(&mirax, b"\xff\xd8\xff").unwrap();
    assert_eq!(vendor_file(&mirax), Some("3DHISTECH MIRAX"), "and not the JPEG of the glass, label and all");
    for mpp in [None, Some(mpp(0.25))] {
        let message = open_slide(&mirax, mpp).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(message.contains("its folder slide/ with Slidedat.ini is missing: copy it beside"), "{message}");
        assert!(check_slide(&mirax, mpp).is_err_and(|e| e.to_string() == message));
    }
    fs::create_dir(folder.path().join("slide")).unwrap();
    fs::write(folder.path().join("slide/Slidedat.ini"), "[GENERAL]").unwrap();
    assert_eq!(vendor_file(&mirax), Some("3DHISTECH MIRAX"));
    let message = open_slide(&mirax, Some(mpp(0.25))).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(!message.is_empty() && !message.contains("Slidedat.ini is missing"), "{message}");
    // Big-endian, classic: one entry of tag 65420, one software text inside its field, one behind the list.
    let mut tiff = b"MM\0*\0\0\0\x08\0\x03".to_vec();
    tiff.extend(b"\x01\x31\0\x02\0\0\0\x03Ph\0\0\x01\x0e\0\x02\0\0\0\x08\0\0\0\x32\xff\x8c\0\x03\0\0\0\x01\0\x01\0\0");
    tiff.extend(b"\0\0\0\0MedScan\0");
    fs::write(&path, &tiff).unwrap();
    assert_eq!(vendor_file(&path), Some("Hamamatsu NDPI"));
    let tags = FirstTags::read(Cursor::new(&tiff)).unwrap();
    assert!(format!("{tags:?}").contains(&format!("{:?}", b"MedScan\0")), "{tags:?}");
    for end in 0..tiff.len() {
        let cut = FirstTags::read(Cursor::new(&tiff[..end]));
        assert!(cut.is_err(), "{end} bytes are no list");
    }
    tiff[26..30].fill(0xff);
    assert!(FirstTags::read(Cursor::new(&tiff)).is_ok(), "a text of 4 GB is no text, and no memory is taken for it");
}

#[test]
fn without_the_library_only_what_it_would_read_asks_for_it() {
    let refused = |name: &str, refusal: SlideError| without(Path::new(name), refusal, no_library()).to_string();
    let unknown = |name: &str| SlideError::UnknownFormat { path: name.into() };
    let message = refused("a.czi", unknown("a.czi"));
    for part in ["a.czi: is no TIFF", "OpenSlide reads Zeiss CZI slides", "not found", "openslide-bin", "site.toml"] {
        assert!(message.contains(part), "{message}\nlacks {part}");
    }
    let coding = |name: &str| SlideError::unsupported(Path::new(name), "compression 50000");
    let message = refused("a.SCN", coding("a.SCN"));
    assert!(message.contains("compression 50000 is not supported") && message.contains("Leica SCN"), "{message}");
    assert!(!message.contains('\n'), "{message}");
    assert_eq!(refused("a.tif", coding("a.tif")), coding("a.tif").to_string());
    assert_eq!(refused("a.zip", unknown("a.zip")), unknown("a.zip").to_string());
}

#[test]
fn boxes_are_covered_once() {
    for (x, y, w, h) in [(0, 0, 1, 1), (5, 7, 300, 2000), (1023, 1024, 1025, 1024)] {
        let all: [Vec<Rect>; 2] =
            [pieces(Rect { x, y, w, h }).collect(), cells(Rect { x, y, w, h }, 100, 60).collect()];
        for parts in all {
            let area: u64 = parts.iter().map(|part| u64::from(part.w) * u64::from(part.h)).sum();
            assert_eq!(area, u64::from(w) * u64::from(h));
            for part in parts {
                assert!(part.w > 0 && part.h > 0 && part.x >= x && part.y >= y, "{part:?}");
                assert!(part.x + part.w <= x + w && part.y + part.h <= y + h, "{part:?}");
            }
        }
    }
    assert_eq!(over_white(0xff01_0203), [1, 2, 3]);
    assert_eq!(over_white(0), [255; 3]);
    assert_eq!(over_white(0x8040_0080), [191, 127, 255]);
}

#[test]
fn a_leica_slide_is_read_through_openslide() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.scn");
    let (image, half) = (noise(300, 200), noise(150, 100));
    leica().write(&path, &[image.clone(), half.clone()]);
    if !present() {
        let message = open_slide(&path, None).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(message.contains("is a Leica SCN slide, which is read through OpenSlide, but"), "{message}");
        return;
    }
    assert_eq!(check_slide(&path, None).unwrap(), (400, 300));
    let slide = open_slide(&path, None).unwrap();
    let about = slide.about();
    assert!(about.format.starts_with("Leica SCN (OpenSlide "), "{}", about.format);
    assert_eq!((about.file_mpp, about.objective), (Some(mpp(0.25)), Some(40.0)));
    assert_eq!(slide.levels().iter().map(|level| level.downsample).collect::<Vec<_>>(), [1.0, 2.0]);
    assert_eq!(slide.read_level(0, 40, 20, 300, 200).unwrap(), image);
    assert_eq!(slide.read_level(1, 20, 10, 150, 100).unwrap(), half);
    let white = slide.read_level(0, -5, -5, 45, 25).unwrap();
    assert!(white.pixels().all(|pixel| pixel.0 == [255; 3]), "no image there");
    assert!(open_slide(&path, Some(mpp(0.5))).unwrap().about().warnings[0].contains("0.25 um/px"));
}

#[test]
fn every_level_is_exact_to_the_pixel() {
    if !present() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.tif");
    // Odd sides: OpenSlide's downsamples are 2.0003 and more, ours 2, 4 and 8.
    let images = [noise(2047, 1501), noise(1023, 750), noise(511, 375), noise(255, 187)];
    Stored { compression: 8, ..Stored::default() }.write(&path, &images);
    let (own, other) = (TiledSlide::open(&path, None).unwrap(), OpenSlideSlide::open(&path, None).unwrap());
    assert_eq!(own.mpp(), other.mpp());
    assert_eq!(own.levels(), other.levels());
    for (level, image) in images.iter().enumerate() {
        let (w, h) = image.dimensions();
        assert!(other.read_level(level, 0, 0, w, h).unwrap() == *image, "level {level}");
        for (x, y) in [(1, 1), (63, 65), (100, 77), (w - 30, h - 30)] {
            let [found, expected] =
                [&other as &dyn SlideReader, &own].map(|s| s.read_level(level, x.into(), y.into(), 61, 59).unwrap());
            assert!(found == expected, "level {level} at {x}, {y}");
        }
    }
}

#[test]
fn a_level_that_openslide_would_shift_is_left_out() {
    if !present() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.tif");
    // 2601 / 1300: half a pixel off at the right edge, and never a whole one.
    let images = [noise(2601, 300), noise(1300, 150), noise(650, 75)];
    Stored { compression: 8, ..Stored::default() }.write(&path, &images);
    let slide = OpenSlideSlide::open(&path, None).unwrap();
    assert_eq!(slide.levels().iter().map(|level| level.width).collect::<Vec<_>>(), [2601, 650]);
    assert!(slide.read_level(1, 0, 0, 650, 75).unwrap() == images[2]);
}

#[test]
fn the_aperio_slide_reads_the_same_both_ways() {
    let Some(path) = real_data("wsi/CMU-1-Small-Region.svs") else { return };
    if !present() {
        return;
    }
    let (own, other) = (open_slide(&path, None).unwrap(), OpenSlideSlide::open(&path, None).unwrap());
    assert_eq!((own.levels(), own.mpp()), (other.levels(), other.mpp()));
    assert_eq!(other.about().objective, Some(20.0));
    let whole = own.read_level(0, 0, 0, 2220, 2967).unwrap();
    let through = other.read_level(0, 0, 0, 2220, 2967).unwrap();
    let _ = writeln!(std::io::stderr(), "largest difference to OpenSlide: {}", difference(&whole, &through));
    // Two JPEG decoders round differently, and not by much.
    assert!(difference(&whole, &through) <= 4);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (other, through) = (&other, &through);
            scope.spawn(move || {
                for step in 0..20 {
                    let (x, y) = ((thread * 271 + step * 97) % 2000, (thread * 131 + step * 211) % 2700);
                    let part = other.read_level(0, x.into(), y.into(), 200, 200).unwrap();
                    assert!(part == image::imageops::crop_imm(through, x, y, 200, 200).to_image());
                }
            });
        }
    });
    assert!(other.holes().is_empty());
}

/// A slide of 64 px tiles whose tile `index` is rubbish, and its sound picture.
fn damaged(path: &Path, compression: u16, index: usize) -> RgbImage {
    let image = noise(500, 300);
    Stored { compression, ..Stored::default() }.write(path, std::slice::from_ref(&image));
    let sound = TiledSlide::open(path, None).unwrap().read_level(0, 0, 0, 500, 300).unwrap();
    let mut bytes = fs::read(path).unwrap();
    let list = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
    let entry = (list + 2..).step_by(12).find(|&at| bytes[at..at + 2] == 324u16.to_le_bytes()).unwrap();
    let offsets = u32::from_le_bytes(bytes[entry + 8..entry + 12].try_into().unwrap()) as usize + index * 4;
    let tile = u32::from_le_bytes(bytes[offsets..offsets + 4].try_into().unwrap()) as usize;
    bytes[tile..tile + 300].fill(0xA5);
    fs::write(path, &bytes).unwrap();
    sound
}

#[test]
fn a_damaged_tile_is_a_hole_and_the_rest_reads_on() {
    if !present() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.tif");
    for compression in [7, 8] {
        // Tile 10 of 8 a row: column 2, row 1.
        let sound = damaged(&path, compression, 10);
        let mut expected = sound.clone();
        image::imageops::replace(&mut expected, &RgbImage::from_pixel(64, 64, image::Rgb([255; 3])), 128, 64);
        let slide = OpenSlideSlide::open(&path, Some(mpp(0.25))).unwrap();
        let far = slide.read_level(0, 300, 0, 200, 300).unwrap();
        assert!(difference(&far, &image::imageops::crop_imm(&sound, 300, 0, 200, 300).to_image()) <= 4);
        assert!(slide.holes().is_empty(), "not met yet");
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    for _ in 0..5 {
                        let whole = slide.read_level(0, 0, 0, 500, 300).unwrap();
                        assert!(difference(&whole, &expected) <= 4, "compression {compression}");
                        let far = slide.read_level(0, 300, 0, 200, 300).unwrap();
                        assert!(difference(&far, &image::imageops::crop_imm(&sound, 300, 0, 200, 300).to_image()) <= 4);
                    }
                });
            }
        });
        let holes = slide.holes();
        assert_eq!(holes.len(), 1, "{holes:?}");
        let hole = &holes[0];
        assert_eq!((hole.x, hole.y, hole.w, hole.h, hole.level), (128, 64, 64, 64, 0));
        assert!(!hole.why.is_empty());
    }
}

#[test]
fn the_read_that_ends_a_slide_does_not_make_the_next_one_white() {
    if !present() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.tif");
    // Two tiles, one of them damaged: more than a quarter.
    let image = noise(128, 64);
    Stored { compression: 8, ..Stored::default() }.write(&path, std::slice::from_ref(&image));
    let mut bytes = fs::read(&path).unwrap();
    bytes[8..308].fill(0xA5);
    fs::write(&path, &bytes).unwrap();
    let slide = OpenSlideSlide::open(&path, Some(mpp(0.25))).unwrap();
    for _ in 0..3 {
        assert!(slide.read_level(0, 0, 0, 128, 64).is_err());
    }
}

#[test]
fn a_part_is_decoded_whole_whichever_box_is_asked_for() {
    if !present() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.tif");
    // Tiles of 32 px are smaller than a part: 600 x 600 px have nine parts.
    let image = noise(600, 600);
    Stored { compression: 8, tile: 32, ..Stored::default() }.write(&path, std::slice::from_ref(&image));
    let mut bytes = fs::read(&path).unwrap();
    bytes[8..308].fill(0xA5);
    fs::write(&path, &bytes).unwrap();
    let read = |boxes: &[(i64, i64, u32, u32)]| {
        let slide = OpenSlideSlide::open(&path, Some(mpp(0.25))).unwrap();
        boxes.iter().for_each(|&(x, y, w, h)| drop(slide.read_level(0, x, y, w, h).unwrap()));
        (slide.holes(), slide.read_level(0, 0, 0, 600, 600).unwrap())
    };
    // The first box touches only a corner of the part, with the damaged tile in it.
    let (holes, by_corner) = read(&[(0, 0, 40, 40), (100, 100, 100, 100)]);
    assert_eq!(holes.len(), 1, "{holes:?}");
    assert_eq!((holes[0].x, holes[0].y, holes[0].w, holes[0].h), (0, 0, 256, 256));
    assert!(by_corner == read(&[(100, 100, 100, 100)]).1);
    assert!(by_corner == read(&[]).1);
    assert!(by_corner.get_pixel(300, 10) == image.get_pixel(300, 10));
    // A box that meets the part beside its damage, together with another's damage, gives it up as well.
    let slide = OpenSlideSlide::open(&path, Some(mpp(0.25))).unwrap();
    let beside = slide.parted(0, Rect { x: 100, y: 100, w: 50, h: 50 }).unwrap();
    assert!(beside.pixels().all(|pixel| pixel.0 == [255; 3]));
    assert_eq!(slide.holes().len(), 1);
}

#[test]
fn a_vendor_slide_that_is_broken_is_refused() {
    if !present() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.scn");
    leica().write(&path, &[noise(300, 200)]);
    let message = open_slide(&path, None).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(message.contains("is damaged (OpenSlide says:"), "a level is missing: {message}");
    fs::write(&path, b"ZISRAWFILE\0\0\0\0\0\0 and no more").unwrap();
    let message = open_slide(&path, None).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(message.starts_with(&path.display().to_string()) && message.contains("; "), "{message}");
}
