//! Tests of DICOM slides on files written here by another library.

use std::fs;
use std::path::Path;

use dicom_core::value::{DataSetSequence, PixelFragmentSequence};
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use image::{Rgb, RgbImage};

use super::DicomSlide;
use crate::slides::tests::{mpp, noise, picture};
use crate::slides::{SlideError, SlideReader, check_slide, open_slide};

const EXPLICIT: &str = uids::EXPLICIT_VR_LITTLE_ENDIAN;

/// How a test instance is written.
#[derive(Clone)]
struct Written {
    syntax: &'static str,
    series: &'static str,
    image_type: &'static str,
    organisation: &'static str,
    photometric: &'static str,
    tile: u32,
    frames: Vec<Vec<u8>>,
    /// Frames that the header claims, if not as many as there are.
    claimed: Option<String>,
    /// Number of the first frame, and of parts.
    part: Option<(u32, u16)>,
    /// Offset table as written, for coded frames.
    table: Vec<u32>,
    /// Pieces into which each coded frame is cut.
    pieces: usize,
    places: Vec<(i32, i32)>,
    spacing: Option<&'static str>,
    rows: Option<u32>,
    patient: Option<Vec<u8>>,
    /// An element that says that names are in the pixels, or not.
    names: Option<(Tag, &'static str)>,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            syntax: EXPLICIT,
            series: "1.2.3",
            image_type: "ORIGINAL\\PRIMARY\\VOLUME\\NONE",
            organisation: "TILED_FULL",
            photometric: "RGB",
            tile: 16,
            frames: Vec::new(),
            claimed: None,
            part: None,
            table: Vec::new(),
            pieces: 1,
            places: Vec::new(),
            spacing: Some("0.0005\\0.0005"),
            rows: None,
            patient: None,
            names: None,
        }
    }
}

type Object = InMemDicomObject;

fn put(object: &mut Object, tag: Tag, vr: VR, value: impl Into<PrimitiveValue>) {
    object.put(DataElement::new(tag, vr, value.into()));
}

fn sequence(object: &mut Object, tag: Tag, items: Vec<Object>) {
    object.put(DataElement::new(tag, VR::SQ, DataSetSequence::from(items)));
}

/// The RGB bytes of each tile, white beyond the edge.
fn tiles(image: &RgbImage, tile: u32) -> Vec<Vec<u8>> {
    let (columns, rows) = (image.width().div_ceil(tile), image.height().div_ceil(tile));
    let cut = |index: u32| {
        let (x0, y0) = (index % columns * tile, index / columns * tile);
        RgbImage::from_fn(tile, tile, |x, y| image.get_pixel_checked(x0 + x, y0 + y).copied().unwrap_or(Rgb([255; 3])))
            .into_raw()
    };
    (0..columns * rows).map(cut).collect()
}

fn jpeg(rgb: &[u8], tile: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = jpeg_encoder::Encoder::new(&mut bytes, 95);
    encoder.encode(rgb, tile as u16, tile as u16, jpeg_encoder::ColorType::Rgb).unwrap();
    bytes
}

impl Written {
    fn of(image: &RgbImage) -> Self {
        Self { frames: tiles(image, 16), ..Self::default() }
    }

    fn write(self, path: &Path, (width, height): (u32, u32)) {
        let mut object = Object::new_empty();
        let class = uids::VL_WHOLE_SLIDE_MICROSCOPY_IMAGE_STORAGE;
        put(&mut object, tags::SOP_CLASS_UID, VR::UI, class);
        put(&mut object, tags::SOP_INSTANCE_UID, VR::UI, "1.2.3.4");
        put(&mut object, tags::SERIES_INSTANCE_UID, VR::UI, self.series);
        put(&mut object, tags::IMAGE_TYPE, VR::CS, self.image_type);
        if let Some(name) = self.patient {
            put(&mut object, tags::PATIENT_NAME, VR::PN, PrimitiveValue::from(String::from_utf8(name).unwrap()));
        }
        if let Some((tag, says)) = self.names {
            put(&mut object, tag, VR::CS, says);
        }
        put(&mut object, tags::DIMENSION_ORGANIZATION_TYPE, VR::CS, self.organisation);
        if let Some((first, parts)) = self.part {
            put(&mut object, tags::CONCATENATION_UID, VR::UI, "9.9");
            put(&mut object, tags::IN_CONCATENATION_TOTAL_NUMBER, VR::US, PrimitiveValue::from(parts));
            put(&mut object, tags::CONCATENATION_FRAME_OFFSET_NUMBER, VR::UL, PrimitiveValue::from(first));
        }
        let claimed = self.claimed.unwrap_or_else(|| self.frames.len().to_string());
        put(&mut object, tags::NUMBER_OF_FRAMES, VR::IS, claimed.as_str());
        put(&mut object, tags::TOTAL_PIXEL_MATRIX_COLUMNS, VR::UL, PrimitiveValue::from(width));
        put(&mut object, tags::TOTAL_PIXEL_MATRIX_ROWS, VR::UL, PrimitiveValue::from(self.rows.unwrap_or(height)));
        put(&mut object, tags::COLUMNS, VR::US, PrimitiveValue::from(self.tile as u16));
        put(&mut object, tags::ROWS, VR::US, PrimitiveValue::from(self.tile as u16));
        put(&mut object, tags::SAMPLES_PER_PIXEL, VR::US, PrimitiveValue::from(3u16));
        put(&mut object, tags::BITS_ALLOCATED, VR::US, PrimitiveValue::from(8u16));
        put(&mut object, tags::BITS_STORED, VR::US, PrimitiveValue::from(8u16));
        put(&mut object, tags::PLANAR_CONFIGURATION, VR::US, PrimitiveValue::from(0u16));
        put(&mut object, tags::PHOTOMETRIC_INTERPRETATION, VR::CS, self.photometric);
        let mut path_item = Object::new_empty();
        put(&mut path_item, tags::OBJECTIVE_LENS_POWER, VR::DS, "20");
        sequence(&mut object, tags::OPTICAL_PATH_SEQUENCE, vec![path_item]);
        if let Some(spacing) = self.spacing {
            let (mut measures, mut shared) = (Object::new_empty(), Object::new_empty());
            put(&mut measures, tags::PIXEL_SPACING, VR::DS, spacing);
            sequence(&mut shared, tags::PIXEL_MEASURES_SEQUENCE, vec![measures]);
            sequence(&mut object, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, vec![shared]);
        }
        let groups: Vec<Object> = self
            .places
            .iter()
            .map(|&(column, row)| {
                let (mut place, mut group) = (Object::new_empty(), Object::new_empty());
                put(
                    &mut place,
                    tags::COLUMN_POSITION_IN_TOTAL_IMAGE_PIXEL_MATRIX,
                    VR::SL,
                    PrimitiveValue::from(column),
                );
                put(&mut place, tags::ROW_POSITION_IN_TOTAL_IMAGE_PIXEL_MATRIX, VR::SL, PrimitiveValue::from(row));
                sequence(&mut group, tags::PLANE_POSITION_SLIDE_SEQUENCE, vec![place]);
                group
            })
            .collect();
        if !groups.is_empty() {
            sequence(&mut object, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, groups);
        }
        if matches!(self.syntax, EXPLICIT | uids::IMPLICIT_VR_LITTLE_ENDIAN) {
            put(&mut object, tags::PIXEL_DATA, VR::OB, PrimitiveValue::from(self.frames.concat()));
        } else {
            let pieces = self.pieces;
            let fragments: Vec<Vec<u8>> = self
                .frames
                .iter()
                .flat_map(|frame| {
                    let length = frame.len().div_ceil(pieces).next_multiple_of(2);
                    frame
                        .chunks(length)
                        .map(|piece| {
                            let mut piece = piece.to_vec();
                            piece.resize(piece.len().next_multiple_of(2), 0);
                            piece
                        })
                        .collect::<Vec<_>>()
                })
                .collect();
            let pixels = PixelFragmentSequence::new(self.table, fragments);
            object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, pixels));
        }
        let meta = FileMetaTableBuilder::new().transfer_syntax(self.syntax).media_storage_sop_class_uid(class);
        object.with_meta(meta).unwrap().write_to_file(path).unwrap();
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn whole(slide: &dyn SlideReader, level: usize) -> RgbImage {
    let size = slide.levels()[level];
    slide.read_level(level, 0, 0, size.width, size.height).unwrap()
}

/// What opening says is wrong, in one sentence.
fn refused(path: &Path) -> String {
    let error = DicomSlide::open(path, Some(mpp(0.5))).unwrap_err();
    let text = error.to_string();
    assert!(!text.contains('\n') && text.len() < 500, "{text}");
    text
}

#[test]
fn levels_regions_and_threads_of_native_frames() {
    let (root, image, half) = (folder(), noise(70, 50), picture(35, 25));
    Written { patient: Some(b"Doe^Jane".to_vec()), ..Written::of(&image) }.write(&root.path().join("b.dcm"), (70, 50));
    Written { syntax: uids::IMPLICIT_VR_LITTLE_ENDIAN, ..Written::of(&half) }
        .write(&root.path().join("a.dcm"), (35, 25));
    let label = "ORIGINAL\\PRIMARY\\LABEL\\NONE";
    Written { image_type: label, ..Written::of(&picture(90, 90)) }.write(&root.path().join("c.dcm"), (90, 90));
    Written { series: "7.7", ..Written::of(&picture(99, 99)) }.write(&root.path().join("d.dcm"), (99, 99));
    assert_eq!(check_slide(&root.path().join("a.dcm"), None).unwrap(), (70, 50));
    let slide = open_slide(&root.path().join("c.dcm"), None).unwrap();
    assert_eq!(
        slide.levels().iter().map(|l| (l.width, l.height, l.downsample)).collect::<Vec<_>>(),
        [(70, 50, 1.0), (35, 25, 2.0)]
    );
    assert!((slide.mpp().um_per_px() - 0.5).abs() < 1e-9);
    assert_eq!((slide.about().objective, slide.about().format.as_str()), (Some(20.0), "DICOM"));
    assert!(!format!("{:?}", slide.about()).contains("Jane"));
    assert_eq!(whole(slide.as_ref(), 0), image);
    assert_eq!(whole(slide.as_ref(), 1), half);
    std::thread::scope(|scope| {
        for at in 0..4i64 {
            let (slide, image) = (&slide, &image);
            scope.spawn(move || {
                let region = slide.read_level(0, at * 9 - 5, at * 7 - 5, 31, 27).unwrap();
                for (x, y, pixel) in region.enumerate_pixels() {
                    let (x, y) = (i64::from(x) + at * 9 - 5, i64::from(y) + at * 7 - 5);
                    let inside = u32::try_from(x).ok().zip(u32::try_from(y).ok());
                    let there = inside.and_then(|(x, y)| image.get_pixel_checked(x, y)).copied();
                    assert_eq!(*pixel, there.unwrap_or(Rgb([255; 3])));
                }
            });
        }
    });
    let error = DicomSlide::open(root.path(), None).unwrap_err();
    assert!(matches!(error, SlideError::SeveralSlides { slides: 2, .. }), "{error}");
}

#[test]
fn jpeg_frames_by_table_by_walking_and_in_pieces() {
    let (root, image) = (folder(), picture(40, 40));
    let frames: Vec<Vec<u8>> = tiles(&image, 16).iter().map(|rgb| jpeg(rgb, 16)).collect();
    let mut table = vec![0];
    for frame in &frames[..frames.len() - 1] {
        table.push(table.last().unwrap() + 8 + frame.len().next_multiple_of(2) as u32);
    }
    let base = Written { syntax: uids::JPEG_BASELINE8_BIT, photometric: "YBR_FULL_422", frames, ..Written::default() };
    let variants = [
        ("table", Written { table: table.clone(), ..base.clone() }),
        ("walk", base.clone()),
        ("pieces", Written { pieces: 3, ..base.clone() }),
        ("wrong-table", Written { table: table.into_iter().rev().collect(), ..base.clone() }),
    ];
    for (name, written) in variants {
        let path = root.path().join(name);
        fs::create_dir(&path).unwrap();
        written.write(&path.join("x.dcm"), (40, 40));
        let read = whole(&DicomSlide::open(&path, None).unwrap(), 0);
        let far = read.iter().zip(image.iter()).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(far < Some(16), "{name}: {far:?}");
    }
    // RGB inside JPEG is left alone: the same bytes, called RGB, are luma and chroma.
    Written { photometric: "RGB", ..base }.write(&root.path().join("rgb.dcm"), (40, 40));
    let rgb = whole(&DicomSlide::open(&root.path().join("rgb.dcm"), None).unwrap(), 0);
    assert!(rgb.iter().zip(image.iter()).any(|(a, b)| a.abs_diff(*b) > 60));
}

#[test]
fn sparse_tiles_and_what_is_missing_is_white() {
    let (root, image) = (folder(), noise(40, 40));
    let all = tiles(&image, 16);
    let written = Written {
        organisation: "TILED_SPARSE",
        frames: vec![all[4].clone(), all[2].clone()],
        places: vec![(17, 17), (33, 1)],
        ..Written::default()
    };
    written.clone().write(&root.path().join("x.dcm"), (40, 40));
    let read = whole(&DicomSlide::open(root.path(), None).unwrap(), 0);
    for (x, y, pixel) in read.enumerate_pixels() {
        let there = matches!((x / 16, y / 16), (1, 1) | (2, 0));
        assert_eq!(*pixel, if there { *image.get_pixel(x, y) } else { Rgb([255; 3]) }, "{x}, {y}");
    }
    for (places, why) in [
        (vec![(17, 17), (5000, 1)], "outside the image"),
        (vec![(17, 17), (0, i32::MIN)], "outside the image"),
        (vec![(17, 17), (2, 1)], "frames overlap"),
        (vec![(17, 17)], "places 1 of 2 frames"),
    ] {
        Written { places, ..written.clone() }.write(&root.path().join("x.dcm"), (40, 40));
        assert!(refused(root.path()).contains(why), "{}", refused(root.path()));
    }
}

#[test]
fn pixels_that_may_name_somebody_are_refused() {
    let (root, image) = (folder(), noise(40, 40));
    for tag in [tags::BURNED_IN_ANNOTATION, tags::SPECIMEN_LABEL_IN_IMAGE] {
        let written = Written { names: Some((tag, "YES")), ..Written::of(&image) };
        written.write(&root.path().join("x.dcm"), (40, 40));
        for path in [root.path().to_owned(), root.path().join("x.dcm")] {
            assert!(refused(&path).contains("may name the patient"), "{}", refused(&path));
        }
        Written { names: Some((tag, "NO")), ..Written::of(&image) }.write(&root.path().join("x.dcm"), (40, 40));
        assert_eq!(whole(&DicomSlide::open(root.path(), None).unwrap(), 0), image);
    }
}

#[test]
fn series_are_told_apart_in_one_pass() {
    let (root, label) = (folder(), "ORIGINAL\\PRIMARY\\LABEL\\NONE");
    for (name, series) in [("a", "1.1"), ("b", "1.2")] {
        let written = Written { series, image_type: label, ..Written::of(&noise(16, 16)) };
        written.write(&root.path().join(name), (16, 16));
    }
    assert!(refused(root.path()).contains("export the images of the tissue"), "{}", refused(root.path()));
    for (name, series, slides) in [("c", "1.2", 1), ("d", "1.1", 2), ("e", "1.3", 3)] {
        Written { series, ..Written::of(&noise(16, 16)) }.write(&root.path().join(name), (16, 16));
        match DicomSlide::open(root.path(), None) {
            Ok(slide) => assert_eq!((slides, slide.levels()[0].width), (1, 16)),
            Err(error) => {
                assert!(matches!(error, SlideError::SeveralSlides { slides: s, .. } if s == slides), "{error}")
            }
        }
    }
}

#[test]
fn parts_in_any_order_and_a_missing_one() {
    let (root, image) = (folder(), noise(48, 48));
    let all = tiles(&image, 16);
    for (name, from, to) in [("a", 6, 9), ("b", 0, 4), ("c", 4, 6)] {
        let written = Written { frames: all[from..to].to_vec(), part: Some((from as u32, 3)), ..Written::default() };
        written.write(&root.path().join(format!("{name}.dcm")), (48, 48));
    }
    assert_eq!(whole(&DicomSlide::open(root.path(), None).unwrap(), 0), image);
    for (name, why) in [("c", "is missing"), ("b", "is missing"), ("a", "2 of 3 parts")] {
        let (here, away) = (root.path().join(format!("{name}.dcm")), root.path().join("away"));
        fs::rename(&here, &away).unwrap();
        let hidden = fs::read(&away).unwrap();
        fs::remove_file(&away).unwrap();
        assert!(refused(root.path()).contains(why), "{name}: {}", refused(root.path()));
        fs::write(&here, hidden).unwrap();
    }
}

#[test]
fn a_damaged_frame_is_a_hole() {
    let (root, image) = (folder(), picture(80, 80));
    let mut frames: Vec<Vec<u8>> = tiles(&image, 16).iter().map(|rgb| jpeg(rgb, 16)).collect();
    frames[7][2..40].fill(0);
    let written = Written { syntax: uids::JPEG_BASELINE8_BIT, photometric: "YBR_FULL", frames, ..Written::default() };
    written.write(&root.path().join("x.dcm"), (80, 80));
    let slide = DicomSlide::open(root.path(), None).unwrap();
    let read = whole(&slide, 0);
    assert_eq!(read.get_pixel(40, 20), &Rgb([255; 3]));
    assert_ne!(read.get_pixel(20, 20), &Rgb([255; 3]));
    let holes = slide.holes();
    assert_eq!(holes.len(), 1);
    assert_eq!((holes[0].x, holes[0].y, holes[0].w, holes[0].h), (32, 16, 16, 16));
}

#[test]
fn absurd_numbers_are_refused_before_memory_is_taken() {
    let (root, image) = (folder(), noise(40, 40));
    let path = root.path().join("x.dcm");
    let base = Written::of(&image);
    let coded = Written { syntax: uids::JPEG_BASELINE8_BIT, photometric: "YBR_FULL", ..base.clone() };
    let cases = [
        (Written { rows: Some(4_000_000_000), ..base.clone() }, "outside 1 to"),
        (Written { claimed: Some("1000000000".into()), ..base.clone() }, "1000000000 frames"),
        (Written { claimed: Some("1000000000".into()), ..coded.clone() }, "1000000000 frames"),
        (Written { claimed: Some("-1".into()), ..base.clone() }, "0 frames"),
        (Written { claimed: Some("8".into()), ..base.clone() }, "8 frames for 9 tiles"),
        (Written { claimed: Some("10".into()), ..base.clone() }, "no room"),
        (Written { claimed: Some("12".into()), ..coded.clone() }, "12 frames and holds"),
        (Written { tile: 0, ..base.clone() }, "frames of 0 x 0"),
        (Written { photometric: "PALETTE COLOR", ..base.clone() }, "PALETTE"),
        (Written { syntax: uids::JPEGLS_LOSSLESS, ..coded.clone() }, "JPEG-LS"),
        (Written { image_type: "ORIGINAL\\PRIMARY\\LABEL\\NONE", ..base.clone() }, "export the images of the tissue"),
        (Written { frames: vec![Vec::new()], tile: 1, rows: Some(1 << 20), ..base.clone() }, "1 x 1 pixels, more than"),
    ];
    for (written, why) in cases {
        written.write(&path, (40, 40));
        assert!(refused(&path).contains(why), "{why}: {}", refused(&path));
    }
    Written { spacing: None, ..base }.write(&path, (40, 40));
    assert!(matches!(DicomSlide::open(&path, None), Err(SlideError::NoSpacing { .. })));
}

#[test]
fn a_cut_or_damaged_file_never_panics() {
    let (root, image) = (folder(), noise(40, 40));
    let path = root.path().join("x.dcm");
    let places = (0..9).map(|tile| (tile % 3 * 16 + 1, tile / 3 * 16 + 1)).collect();
    let written = Written { organisation: "TILED_SPARSE", places, ..Written::of(&image) };
    written.write(&path, (40, 40));
    let bytes = fs::read(&path).unwrap();
    let header = bytes.len() - 9 * 16 * 16 * 3;
    for length in (132..header).step_by(7).chain([header, bytes.len() - 5]) {
        fs::write(&path, &bytes[..length]).unwrap();
        assert!(!refused(&path).is_empty());
    }
    for at in 132..header {
        for value in [0, 0xFF, bytes[at] ^ 0x41] {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            fs::write(&path, &bytes).unwrap();
            if let Ok(slide) = DicomSlide::open(&path, Some(mpp(0.5))) {
                let _ = slide.read_level(0, 0, 0, 40, 40);
            }
        }
    }
}
