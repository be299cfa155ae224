//! Outlines in all the shapes that people export, hostile ones, and the way to a mask and back.

use consilium_common::{Mpp, limits};
use image::{GrayImage, Luma, RgbImage};
use proptest::prelude::*;

use super::super::{Found, TissueError, TissueMask, TissueSettings};
use super::*;
use crate::slides::FlatSlide;

/// A slide of 640 x 640 px at 2 um/px: its mask has 160 x 160 pixels of 4 x 4 px.
fn slide() -> FlatSlide {
    FlatSlide::new(RgbImage::new(640, 640), Mpp::new(2.0).unwrap())
}

fn write(json: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), json).unwrap();
    file
}

fn mask(json: &str) -> Result<TissueMask, TissueError> {
    TissueMask::from_geojson(write(json).path(), &slide())
}

/// Tissue in level-0 pixels.
fn area(json: &str) -> u64 {
    mask(json).unwrap_or_else(|e| panic!("{json}: {e}")).on(640, 640).count(0..640, 0..640)
}

fn feature(geometry: &str, properties: &str) -> String {
    format!(r#"{{"type":"Feature","id":"x","geometry":{geometry},"properties":{properties}}}"#)
}

fn square(x: i64, y: i64, side: i64) -> String {
    let (right, bottom) = (x + side, y + side);
    format!("[[{x},{y}],[{right},{y}],[{right},{bottom}],[{x},{bottom}],[{x},{y}]]")
}

fn polygon(rings: &[String]) -> String {
    format!(r#"{{"type":"Polygon","coordinates":[{}]}}"#, rings.join(","))
}

fn collection(features: &[String]) -> String {
    format!(r#"{{"type":"FeatureCollection","features":[{}]}}"#, features.join(","))
}

#[test]
fn every_shape_that_qupath_exports_is_read() {
    let bare = polygon(&[square(80, 80, 160)]);
    let one = feature(&bare, r#"{"objectType":"annotation"}"#);
    let two = feature(&polygon(&[square(400, 400, 80)]), "null");
    for json in [&bare, &one, &collection(std::slice::from_ref(&one)), &format!("[{one}]"), &format!("[{bare},null]")] {
        assert_eq!(area(json), 160 * 160, "{json}");
    }
    for json in
        [collection(&[one.clone(), two.clone()]), format!("[{one},{two}]"), format!("\u{feff} [{one},{two}] \n")]
    {
        assert_eq!(area(&json), 160 * 160 + 80 * 80, "{json}");
    }
    let several =
        format!(r#"{{"coordinates":[[{}],[{}]],"type":"MultiPolygon"}}"#, square(0, 0, 80), square(160, 0, 80));
    assert_eq!(area(&several), 2 * 80 * 80, "the type may come last");
    let nested =
        format!(r#"{{"type":"GeometryCollection","geometries":[{bare},{{"type":"Point","coordinates":[1,2]}}]}}"#);
    assert_eq!(area(&feature(&nested, "{}")), 160 * 160);
    let open = r#"{"type":"Polygon","coordinates":[[[80,80,0],[240,80.0,0],[240,24e1,0],[80,240,0]]]}"#;
    assert_eq!(area(open), 160 * 160, "an open ring with a third coordinate");
}

#[test]
fn holes_count_and_overlaps_count_once() {
    let holed = polygon(&[square(80, 80, 160), square(120, 120, 80)]);
    assert_eq!(area(&holed), 160 * 160 - 80 * 80);
    let island = feature(&polygon(&[square(140, 140, 40)]), "{}");
    assert_eq!(area(&collection(&[feature(&holed, "{}"), island])), 160 * 160 - 80 * 80 + 40 * 40);
    let twice = feature(&polygon(&[square(80, 80, 160)]), "{}");
    assert_eq!(area(&collection(&[twice.clone(), twice])), 160 * 160);
}

#[test]
fn classes_that_take_away() {
    let whole = feature(&polygon(&[square(80, 80, 160)]), r#"{"classification":{"name":"Tissue","color":[0,1,2]}}"#);
    let part = |class: &str| feature(&polygon(&[square(80, 80, 80)]), &format!(r#"{{"classification":{class}}}"#));
    for class in [
        r#""Ignore*""#,
        r#"{"name":"ignore"}"#,
        r#"{"names":["Tissue","Pen"]}"#,
        r#"{"color":[1],"name":"ARTIFACT: Fold"}"#,
    ] {
        // In whatever order they come.
        for json in [collection(&[whole.clone(), part(class)]), collection(&[part(class), whole.clone()])] {
            assert_eq!(area(&json), 160 * 160 - 80 * 80, "{json}");
        }
    }
    for class in ["null", r#""Tumor""#, r#"{"name":"Stroma: Pale"}"#, r#"{"name":null}"#, r#"{"name":"Pennate"}"#] {
        assert_eq!(area(&collection(&[whole.clone(), part(class)])), 160 * 160, "{class}");
    }
}

#[test]
fn what_lies_outside_is_cut_off() {
    assert_eq!(area(&polygon(&[square(-80, -80, 160)])), 80 * 80);
    assert_eq!(area(&polygon(&[square(-1_000_000_000, -1_000_000_000, 2_000_000_000)])), 640 * 640);
    let far = r#"{"type":"Polygon","coordinates":[[[-1e300,-1e300],[1e300,-1e300],[1e300,1e300],[-1e300,1e300]]]}"#;
    assert_eq!(area(far), 640 * 640);
    let error = mask(&polygon(&[square(700, 0, 100)])).unwrap_err().to_string();
    assert!(error.contains("640 x 640"), "{error}");
    let all_taken = feature(&polygon(&[square(0, 0, 640)]), r#"{"classification":"Ignore*"}"#);
    assert!(matches!(mask(&all_taken), Err(TissueError::NoTissue { .. })));
}

#[test]
fn a_triangle_has_the_pixels_whose_centres_it_holds() {
    let found = mask(r#"{"type":"Polygon","coordinates":[[[0,0],[640,0],[0,640]]]}"#).unwrap();
    let expected = GrayImage::from_fn(160, 160, |x, y| Luma([u8::from(x + y + 1 < 160)]));
    assert_eq!(found, TissueMask::from_image(expected));
}

#[test]
fn everything_else_is_refused_with_its_place() {
    let refused = |json: &str| parse_geojson(json.as_bytes()).unwrap_err().to_string();
    for (json, why) in [
        ("", "EOF"),
        ("[", "EOF"),
        ("5", "expected a GeoJSON feature"),
        ("{}", "an object without a type"),
        (r#"{"type":"Square","coordinates":[]}"#, "an object whose type is none of GeoJSON at line 1 column "),
        (r#"{"type":"Polygon","coordinates":[[[0,0],[1,"NaN"],[1,1]]]}"#, "expected numbers in nested arrays"),
        (r#"{"type":"Polygon","coordinates":[[[0,0],[1,NaN],[1,1]]]}"#, "expected value at line 1 column 44"),
        (r#"{"type":"Polygon","coordinates":[[[0,0],[1,1e999],[1,1]]]}"#, "out of range"),
        (r#"{"type":"Polygon","coordinates":[[0,0],[1,0],[1,1]]}"#, "coordinates of something else"),
        (r#"{"type":"Polygon","coordinates":[[[0],[1],[1]]]}"#, "a position with one number"),
        (r#"{"type":"Polygon","coordinates":[[[0,0],[[1,0]],[1,1]]]}"#, "nested unevenly"),
        (r#"{"type":"Polygon","coordinates":[[[[[[1,2]]]]]]}"#, "nested too deeply"),
        (r#"{"type":"Feature","coordinates":[[[0,0],[1,0],[1,1]]]}"#, "coordinates of something else"),
        (r#"{"type":"Polygon","coordinates":[],"coordinates":[]}"#, "duplicate field"),
        (r#"{"type":"FeatureCollection","features":[]} x"#, "trailing characters"),
        (r#"{"type":"FeatureCollection","features":[]}"#, "holds no polygon (0 objects"),
        (r#"{"type":"Feature","geometry":null,"properties":null}"#, "holds no polygon (1 objects"),
        (r#"{"type":"LineString","coordinates":[[0,0],[1,1],[2,0]]}"#, "holds no polygon"),
        (r#"{"type":"Polygon","coordinates":[[[0,0],[1,1]]]}"#, "holds no polygon"),
        (&"[".repeat(100_000), "recursion limit"),
    ] {
        assert!(refused(json).contains(why), "{:.60}: {}", json, refused(json));
    }
    assert_eq!(parse_geojson(&[0xff, 0xfe]).map_err(|e| matches!(e, GeoJsonError::Malformed { .. })), Err(true));
    assert!(matches!(TissueMask::from_geojson("/no/such".as_ref(), &slide()), Err(TissueError::Unreadable { .. })));
}

#[test]
fn refusals_repeat_nothing_of_the_file() {
    let word = format!("Doe{}, expected Jane", "x".repeat(5000));
    for json in [
        format!(r#""{word}""#),
        format!(r#"{{"type":"{word}"}}"#),
        format!(r#"{{"type":"Polygon","coordinates":"{word}"}}"#),
        format!(r#"{{"type":"Polygon","coordinates":[["{word}"]]}}"#),
        format!(r#"{{"type":"Feature","properties":"{word}"}}"#),
    ] {
        let text = parse_geojson(json.as_bytes()).unwrap_err().to_string();
        assert!(text.contains("at line 1 column ") && !text.contains("Doe") && !text.contains("Jane"), "{text}");
        assert!(text.len() < 250, "{text}");
    }
}

#[test]
fn bytes_give_the_mask_of_their_file() {
    let json = polygon(&[square(0, 0, 320)]);
    let read = |bytes: &[u8]| TissueMask::from_geojson_bytes("outlines".as_ref(), bytes, &slide());
    assert_eq!(read(json.as_bytes()).unwrap(), mask(&json).unwrap());
    assert!(read(b"[").unwrap_err().to_string().starts_with("outlines: "));
}

#[test]
fn limits_hold_before_memory_is_taken() {
    let many = format!("[{}]", vec![r#"{"type":"Feature"}"#; limits::MAX_GEOJSON_OBJECTS + 1].join(","));
    assert!(parse_geojson(many.as_bytes()).unwrap_err().to_string().contains("more than 4000000 objects"));
    // Outlines over the whole slide, again and again: refused instead of filled for hours.
    let whole = polygon(&[square(0, 0, 100)]);
    let polygons = parse_geojson(format!("[{}]", vec![whole; 1000].join(",")).as_bytes()).unwrap();
    let filled = super::super::raster::fill(&polygons, (100, 100), (2000, 2000));
    assert_eq!(filled, Err(GeoJsonError::TooIntricate));
}

#[test]
fn a_drawn_mask_has_its_statistics() {
    let file = write(&polygon(&[square(0, 0, 320)]));
    let found = Found::from_geojson(file.path(), &slide(), &TissueSettings::default()).unwrap();
    let json = serde_json::to_value(&found.stats).unwrap();
    assert_eq!((&json["source"], found.stats.tissue_mm2, found.stats.tissue_share), (&"geojson".into(), 0.4096, 0.25));
}

#[test]
fn the_outlines_open_in_qupath() {
    let mut picture = GrayImage::new(160, 160);
    for (x, y) in (10..20).flat_map(|x| (10..20).map(move |y| (x, y))) {
        picture.put_pixel(x, y, Luma([u8::from(!(12..14).contains(&x) || !(12..14).contains(&y))]));
    }
    let json: serde_json::Value = serde_json::from_str(&TissueMask::from_image(picture).to_geojson(&slide())).unwrap();
    assert_eq!(json["features"].as_array().unwrap().len(), 1);
    let feature = &json["features"][0];
    assert_eq!(feature["properties"]["classification"]["name"], "Tissue");
    assert_eq!(feature["properties"]["classification"]["color"].as_array().unwrap().len(), 3);
    let outer = serde_json::json!([[80.0, 40.0], [80.0, 80.0], [40.0, 80.0], [40.0, 40.0], [80.0, 40.0]]);
    assert_eq!(feature["geometry"]["coordinates"][0], outer);
    assert_eq!(feature["geometry"]["coordinates"].as_array().unwrap().len(), 2, "with the hole");
}

fn tissue(mask: GrayImage) -> (FlatSlide, TissueMask) {
    let slide = FlatSlide::new(RgbImage::new(mask.width(), mask.height()), Mpp::new(40.0).unwrap());
    (slide, TissueMask::from_image(mask))
}

proptest! {
    #[test]
    fn masks_come_back_from_their_outlines(
        w in 1u32..24, h in 1u32..24, bytes in proptest::collection::vec(0u8..2, 24 * 24), dense in any::<bool>(), x in 0u32..24,
    ) {
        let mut picture = GrayImage::from_fn(w, h, |x, y| Luma([bytes[(y * 24 + x) as usize] | u8::from(dense && (x + y) % 3 != 0)]));
        picture.put_pixel(x % w, x % h, Luma([1]));
        let (slide, mask) = tissue(picture.clone());
        let file = write(&mask.to_geojson(&slide));
        prop_assert_eq!(TissueMask::from_geojson(file.path(), &slide).unwrap(), mask);
        for ring in super::super::outline::outlines(&picture).concat() {
            prop_assert!(ring.len() >= 5 && ring.first() == ring.last());
            let mut corners = ring[1..].to_vec();
            corners.sort_unstable();
            corners.dedup();
            prop_assert_eq!(corners.len(), ring.len() - 1, "a ring that meets itself");
        }
    }

    #[test]
    fn masks_of_real_proportions_come_back(picks in proptest::collection::vec(any::<u16>(), 1..60), um in 0.2f64..1.2) {
        let slide = FlatSlide::new(RgbImage::new(901, 733), Mpp::new(um).unwrap());
        let grid = super::super::read::Grid::of(&slide).unwrap();
        let mut picture = GrayImage::new(grid.width, grid.height);
        for pick in picks.iter().map(|&pick| u32::from(pick)) {
            for (dx, dy) in [(0, 0), (1, 0), (0, 1), (1, 1), (2, 2)] {
                picture.put_pixel((pick % 251 + dx) % grid.width, (pick / 251 + dy) % grid.height, Luma([1]));
            }
        }
        let mask = TissueMask::from_image(picture);
        let file = write(&mask.to_geojson(&slide));
        prop_assert_eq!(TissueMask::from_geojson(file.path(), &slide).unwrap(), mask);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..400, at in 0usize..400) {
        let _ = parse_geojson(&bytes);
        let part = feature(&polygon(&[square(80, 80, 160), square(-5, 120, 80)]), r#"{"classification":"Ignore*"}"#);
        let mut sound = collection(&[part]).into_bytes();
        sound.truncate(cut);
        if let (Some(byte), Some(other)) = (sound.get_mut(at), bytes.first()) {
            *byte = *other;
        }
        if let Ok(polygons) = parse_geojson(&sound) {
            let _ = super::super::raster::fill(&polygons, (640, 640), (40, 40));
        }
    }
}
