//! Tests of OME-Zarr slides on folders written here.

use std::fs;
use std::io::Write;
use std::path::Path;

use image::{Rgb, RgbImage};
use serde_json::{Value, json};

use super::ZarrSlide;
use crate::slides::tests::{mpp, noise, picture};
use crate::slides::{SlideError, SlideReader, check_slide, open_slide};

/// Writes level `name` as c, y, x with chunks of one channel; `pack` codes a chunk.
fn array(root: &Path, name: &str, image: &RgbImage, compressor: &Value, pack: impl Fn(&[u8]) -> Vec<u8>) {
    let (folder, side) = (root.join(name), 16);
    fs::create_dir_all(&folder).unwrap();
    let meta = json!({
        "zarr_format": 2, "shape": [3, image.height(), image.width()], "chunks": [1, side, side], "dtype": "|u1",
        "compressor": compressor, "fill_value": 7, "order": "C", "filters": null, "dimension_separator": "/",
    });
    fs::write(folder.join(".zarray"), meta.to_string()).unwrap();
    for c in 0..3 {
        for row in 0..image.height().div_ceil(side) {
            fs::create_dir_all(folder.join(format!("{c}/{row}"))).unwrap();
            for column in 0..image.width().div_ceil(side) {
                let at = |i: u32| image.get_pixel_checked(column * side + i % side, row * side + i / side);
                let chunk: Vec<u8> = (0..side * side).map(|i| at(i).map_or(0, |pixel| pixel[c])).collect();
                fs::write(folder.join(format!("{c}/{row}/{column}")), pack(&chunk)).unwrap();
            }
        }
    }
}

fn attributes(paths: &[&str]) -> Value {
    let datasets: Vec<Value> = paths
        .iter()
        .enumerate()
        .map(|(level, path)| {
            let side = 0.25 * f64::from(1u32 << level);
            json!({"path": path, "coordinateTransformations": [{"type": "scale", "scale": [1.0, side, side]}]})
        })
        .collect();
    let space = |name: &str| json!({"name": name, "type": "space", "unit": "micrometer"});
    let axes = json!([{"name": "c", "type": "channel"}, space("y"), space("x")]);
    json!({"multiscales": [{"version": "0.4", "axes": axes, "datasets": datasets}]})
}

/// A slide of two levels: noise, and a picture of half its size.
fn slide(root: &Path) -> (RgbImage, RgbImage) {
    let (image, half) = (noise(70, 50), picture(35, 25));
    array(root, "0", &image, &Value::Null, <[u8]>::to_vec);
    array(root, "1", &half, &Value::Null, <[u8]>::to_vec);
    fs::write(root.join(".zgroup"), r#"{"zarr_format": 2}"#).unwrap();
    fs::write(root.join(".zattrs"), attributes(&["0", "1"]).to_string()).unwrap();
    (image, half)
}

fn whole(slide: &dyn SlideReader, level: usize) -> RgbImage {
    let size = slide.levels()[level];
    slide.read_level(level, 0, 0, size.width, size.height).unwrap()
}

fn refused(path: &Path) -> String {
    let text = ZarrSlide::open(path, Some(mpp(0.5))).unwrap_err().to_string();
    assert!(!text.contains('\n') && text.len() < 500, "{text}");
    text
}

#[test]
fn levels_regions_and_missing_chunks() {
    let root = tempfile::tempdir().unwrap();
    let (image, half) = slide(root.path());
    assert_eq!(check_slide(root.path(), None).unwrap(), (70, 50));
    let slide = open_slide(root.path(), None).unwrap();
    assert_eq!(slide.mpp().um_per_px(), 0.25);
    assert_eq!(slide.levels().iter().map(|l| l.downsample).collect::<Vec<_>>(), [1.0, 2.0]);
    assert_eq!((whole(slide.as_ref(), 0), whole(slide.as_ref(), 1)), (image.clone(), half));
    let region = slide.read_level(0, -3, 40, 30, 20).unwrap();
    assert_eq!((region.get_pixel(0, 0), region.get_pixel(5, 15)), (&Rgb([255; 3]), &Rgb([255; 3])));
    assert_eq!(region.get_pixel(20, 5), image.get_pixel(17, 45));
    fs::remove_file(root.path().join("0/1/0/0")).unwrap();
    let slide = open_slide(root.path(), None).unwrap();
    let (read, full) = (slide.read_level(0, 3, 3, 1, 1).unwrap(), image.get_pixel(3, 3));
    assert_eq!(read.get_pixel(0, 0), &Rgb([full[0], 7, full[2]]), "a missing chunk has the fill value");
    assert!(slide.holes().is_empty());
}

#[test]
fn packed_chunks() {
    let image = noise(40, 40);
    let zlib = |chunk: &[u8]| {
        let mut to = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        to.write_all(chunk).unwrap();
        to.finish().unwrap()
    };
    let gzip = |chunk: &[u8]| {
        let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        to.write_all(chunk).unwrap();
        to.finish().unwrap()
    };
    let lz4 = |chunk: &[u8]| [&(chunk.len() as u32).to_le_bytes()[..], &lz4_flex::block::compress(chunk)].concat();
    type Pack<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;
    let packs: [(&str, Pack<'_>); 4] = [("zlib", &zlib), ("gzip", &gzip), ("lz4", &lz4), ("bz2", &zlib)];
    for (id, pack) in packs {
        let root = tempfile::tempdir().unwrap();
        array(root.path(), "0", &image, &json!({"id": id}), pack);
        fs::write(root.path().join(".zattrs"), attributes(&["0"]).to_string()).unwrap();
        if id == "bz2" {
            assert!(refused(root.path()).contains("`bz2`"));
        } else {
            assert_eq!(whole(&ZarrSlide::open(root.path(), None).unwrap(), 0), image, "{id}");
        }
    }
}

#[test]
fn a_damaged_chunk_is_a_hole_and_a_larger_one_too() {
    let root = tempfile::tempdir().unwrap();
    slide(root.path());
    fs::write(root.path().join("0/2/1/3"), [1; 99]).unwrap();
    fs::write(root.path().join("0/2/2/3"), vec![1; 3 << 20]).unwrap();
    let slide = ZarrSlide::open(root.path(), None).unwrap();
    assert_eq!(whole(&slide, 0).get_pixel(50, 20), &Rgb([255; 3]));
    let holes = slide.holes();
    assert_eq!(holes.len(), 2);
    assert_eq!((holes[0].x, holes[0].y), (48, 16));
    assert!(holes[0].why.contains("99 of 256") && holes[1].why.contains("larger"), "{holes:?}");
}

#[test]
fn the_layout_of_bioformats2raw() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("0")).unwrap();
    let (image, _) = slide(&root.path().join("0"));
    fs::write(root.path().join(".zattrs"), r#"{"bioformats2raw.layout": 3}"#).unwrap();
    assert_eq!(whole(open_slide(root.path(), None).unwrap().as_ref(), 0), image);
}

#[test]
fn labels_and_macro_images_are_never_the_slide() {
    let root = tempfile::tempdir().unwrap();
    let (image, _) = slide(root.path());
    let mut named = attributes(&["0"]);
    for name in ["Label image", "x MACRO", "Overview_1"] {
        named["multiscales"][0]["name"] = json!(name);
        fs::write(root.path().join(".zattrs"), named.to_string()).unwrap();
        assert!(refused(root.path()).contains("export the slide itself"), "{name}: {}", refused(root.path()));
    }
    let second = attributes(&["1"])["multiscales"][0].clone();
    named["multiscales"].as_array_mut().unwrap().push(second);
    fs::write(root.path().join(".zattrs"), named.to_string()).unwrap();
    assert_eq!(ZarrSlide::open(root.path(), None).unwrap().levels()[0].width, 35);
    // bioformats2raw numbers its images as its XML lists them.
    let root = tempfile::tempdir().unwrap();
    for name in ["0", "1", "OME"] {
        fs::create_dir(root.path().join(name)).unwrap();
    }
    array(&root.path().join("0"), "0", &noise(20, 20), &Value::Null, <[u8]>::to_vec);
    fs::write(root.path().join("0/.zattrs"), attributes(&["0"]).to_string()).unwrap();
    assert_eq!(slide(&root.path().join("1")).0, image);
    fs::write(root.path().join(".zattrs"), r#"{"bioformats2raw.layout": 3}"#).unwrap();
    let xml = |names: [&str; 2]| {
        let text = format!(r#"<OME><Image Name="{}"/><Image Name="{}"/></OME>"#, names[0], names[1]);
        fs::write(root.path().join("OME/METADATA.ome.xml"), text).unwrap();
    };
    xml(["label image", "slide"]);
    assert_eq!(ZarrSlide::open(root.path(), None).unwrap().levels()[0].width, 70);
    xml(["slide", "macro"]);
    assert_eq!(ZarrSlide::open(root.path(), None).unwrap().levels()[0].width, 20);
    xml(["label", "macro"]);
    assert!(refused(root.path()).contains("export the slide itself"));
    fs::write(root.path().join("OME/METADATA.ome.xml"), "<OME").unwrap();
    assert!(refused(root.path()).contains("METADATA.ome.xml is no OME-XML"));
}

#[test]
#[cfg(unix)]
fn no_document_is_a_link_out_of_the_folder() {
    for name in [".zattrs", "0/.zarray"] {
        let outside = tempfile::tempdir().unwrap();
        let root = outside.path().join("x.zarr");
        fs::create_dir(&root).unwrap();
        slide(&root);
        fs::rename(root.join(name), outside.path().join("secret")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), root.join(name)).unwrap();
        assert!(refused(&root).contains("is a link out of its folder"), "{name}: {}", refused(&root));
    }
}

#[test]
fn no_path_leads_out_of_the_folder() {
    let outside = tempfile::tempdir().unwrap();
    let root = outside.path().join("x.zarr");
    fs::create_dir(&root).unwrap();
    slide(&root);
    array(outside.path(), "secret", &noise(20, 20), &Value::Null, <[u8]>::to_vec);
    let absolute = outside.path().join("secret").to_string_lossy().into_owned();
    for path in ["../secret", "0/../../secret", absolute.as_str(), "..\\secret"] {
        fs::write(root.join(".zattrs"), attributes(&[path]).to_string()).unwrap();
        assert!(refused(&root).contains("leads out of its folder"), "{path}: {}", refused(&root));
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(outside.path().join("secret"), root.join("link")).unwrap();
        fs::write(root.join(".zattrs"), attributes(&["link"]).to_string()).unwrap();
        assert!(refused(&root).contains("leads out of its folder"));
        fs::write(root.join(".zattrs"), attributes(&["0"]).to_string()).unwrap();
        fs::remove_file(root.join("0/0/0/0")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret/0/0/0"), root.join("0/0/0/0")).unwrap();
        let slide = ZarrSlide::open(&root, None).unwrap();
        assert_eq!(slide.read_level(0, 0, 0, 1, 1).unwrap().get_pixel(0, 0), &Rgb([255; 3]));
        assert!(slide.holes()[0].why.contains("link out of its folder"));
    }
}

#[test]
fn absurd_metadata_is_refused_in_one_sentence() {
    let root = tempfile::tempdir().unwrap();
    slide(root.path());
    let zarray = fs::read_to_string(root.path().join("0/.zarray")).unwrap();
    let change = |key: &str, value: Value| {
        let mut meta: Value = serde_json::from_str(&zarray).unwrap();
        meta[key] = value;
        fs::write(root.path().join("0/.zarray"), meta.to_string()).unwrap();
        refused(root.path())
    };
    for (key, value, why) in [
        ("chunks", json!([1, 1_000_000, 1_000_000]), "chunks are not between"),
        ("chunks", json!([u64::MAX, u64::MAX, u64::MAX]), "chunks are not between"),
        ("chunks", json!([1, 0, 16]), "chunks are not between"),
        ("chunks", json!([16, 16]), "dimensions"),
        ("shape", json!([3, 4_000_000_000u64, 10]), "outside 1 to"),
        ("shape", json!([3, 0, 10]), "outside 1 to"),
        ("shape", json!([5, 50, 70]), "5 channels"),
        ("dtype", json!("<u2"), "8-bit"),
        ("order", json!("F"), "order"),
        ("filters", json!([{"id": "delta"}]), "filters"),
        ("fill_value", json!(300), "fill value"),
        ("zarr_format", json!(3), "version"),
        ("shape", json!("x"), ".zarray"),
    ] {
        let text = change(key, value.clone());
        assert!(text.contains(why), "{key} {value}: {text}");
    }
    let mut dust: Value = serde_json::from_str(&zarray).unwrap();
    (dust["shape"], dust["chunks"]) = (json!([3, 1 << 20, 1 << 20]), json!([1, 1, 1]));
    fs::write(root.path().join("0/.zarray"), dust.to_string()).unwrap();
    assert!(refused(root.path()).contains("chunks of 1 x 1 pixels are 1099511627776 a level"));
    fs::write(root.path().join("0/.zarray"), &zarray).unwrap();
    let mut other = attributes(&["0"]);
    other["multiscales"][0]["version"] = json!("0.3");
    for (text, why) in [
        (other.to_string(), "OME-Zarr 0.3"),
        ("{}".to_owned(), "without OME multiscales"),
        (r#"{"plate": {}}"#.to_owned(), "plate"),
        ("[".repeat(100_000), ".zattrs"),
        (" ".repeat(2 << 20), "more than"),
        (attributes(&["gone"]).to_string(), "level `gone`"),
    ] {
        fs::write(root.path().join(".zattrs"), &text).unwrap();
        assert!(refused(root.path()).contains(why), "{why}: {}", refused(root.path()));
    }
    let mut bare = attributes(&["0"]);
    bare["multiscales"][0]["axes"][2] = json!({"name": "x"});
    fs::write(root.path().join(".zattrs"), bare.to_string()).unwrap();
    assert!(matches!(ZarrSlide::open(root.path(), None), Err(SlideError::NoSpacing { .. })));
    fs::write(root.path().join("zarr.json"), "{}").unwrap();
    assert!(refused(root.path()).contains("OME-Zarr 0.5"));
}

#[test]
fn damaged_blosc_never_panics() {
    let mut seed = 1u32;
    let mut random = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as u8
    };
    for round in 0..20_000u32 {
        let mut bytes: Vec<u8> = (0..80).map(|_| random()).collect();
        bytes[2] = (bytes[2] & 0xE5) | if round % 2 == 0 { 4 } else { 0 };
        bytes[3] = bytes[3] % 5 + 1;
        bytes[4..8].copy_from_slice(&256u32.to_le_bytes());
        bytes[8..12].copy_from_slice(&[128u32, 256, 100, 1][round as usize / 2 % 4].to_le_bytes());
        bytes[16..20].copy_from_slice(&24u32.to_le_bytes());
        bytes[24..28].copy_from_slice(&40u32.to_le_bytes());
        if let Ok(plain) = super::blosc::unpack(&bytes, 256) {
            assert_eq!(plain.len(), 256);
        }
    }
}
