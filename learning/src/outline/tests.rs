//! Outlines against the label maps they come from: exact without simplification, valid with it.

use std::collections::BTreeSet;

use consilium_common::Mpp;
use proptest::prelude::*;
use serde_json::Value;

use super::{Object, OutlineSettings, OutlineWriter, Tracer, trace};

fn trace_map(labels: &[u8], width: usize, most_open: Option<usize>) -> (Vec<Object>, u64) {
    let mut tracer = Tracer::new(width as u32, 4);
    if let Some(corners) = most_open {
        tracer = tracer.with_most_open(corners);
    }
    let mut objects = Vec::new();
    labels.chunks(width).for_each(|row| tracer.push_row(row, &mut |object| objects.push(object)));
    let cuts = tracer.cuts();
    tracer.finish(&mut |object| objects.push(object));
    (objects, cuts)
}

/// Fills rings by the even-odd rule at pixel centres.
fn fill(objects: &[Object], width: usize, height: usize) -> Vec<u8> {
    let mut map = vec![0; width * height];
    for object in objects {
        for y in 0..height {
            let mut crossings: Vec<u32> = Vec::new();
            for ring in &object.rings {
                for (a, b) in ring.iter().zip(ring.iter().cycle().skip(1)) {
                    if a.x == b.x && (a.y.min(b.y)..a.y.max(b.y)).contains(&(y as u32)) {
                        crossings.push(a.x);
                    }
                }
            }
            crossings.sort_unstable();
            for pair in crossings.chunks(2) {
                for x in pair[0]..pair[1] {
                    assert_eq!(map[y * width + x as usize], 0, "no pixel belongs to two objects");
                    map[y * width + x as usize] = object.label;
                }
            }
        }
    }
    map
}

/// Numbers of 4-connected objects, by flooding.
fn flooded(labels: &[u8], width: usize) -> usize {
    let mut seen = vec![false; labels.len()];
    let mut count = 0;
    for start in 0..labels.len() {
        if seen[start] || labels[start] == 0 || labels[start] >= 4 {
            continue;
        }
        count += 1;
        let mut open = vec![start];
        seen[start] = true;
        while let Some(at) = open.pop() {
            let (x, y) = (at % width, at / width);
            let mut near = Vec::new();
            near.extend((x > 0).then(|| at - 1));
            near.extend((x + 1 < width).then_some(at + 1));
            near.extend((y > 0).then(|| at - width));
            near.extend((at + width < labels.len()).then_some(at + width));
            for next in near {
                if !seen[next] && labels[next] == labels[start] {
                    seen[next] = true;
                    open.push(next);
                }
            }
        }
    }
    count
}

fn check_rings(object: &Object) {
    for (i, ring) in object.rings.iter().enumerate() {
        let corners: BTreeSet<_> = ring.iter().map(|v| (v.x, v.y)).collect();
        assert_eq!(corners.len(), ring.len(), "a ring meets itself: {ring:?}");
        for (a, b) in ring.iter().zip(ring.iter().cycle().skip(1)) {
            assert!((a.x == b.x) != (a.y == b.y), "edges lie along pixels: {ring:?}");
        }
        assert_eq!(trace::doubled_area(ring) > 0, i == 0, "the first ring is the outer one, and only that");
    }
    let area: i64 = object.rings.iter().map(|ring| trace::doubled_area(ring)).sum();
    assert_eq!(area, 2 * object.pixels as i64);
}

fn classes() -> Vec<(String, [u8; 3])> {
    ["glass", "a \"quoted\" name", "b", "c"].iter().map(|name| (name.to_string(), [200, 10, 0])).collect()
}

fn written(labels: &[u8], width: usize, settings: OutlineSettings) -> (super::OutlineCounts, Value) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels.geojson");
    let mut writer = OutlineWriter::create(&path, "case-1", width as u32, &classes(), settings).unwrap();
    writer.push_rows(labels).unwrap();
    let counts = writer.finish().unwrap();
    (counts, serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap())
}

/// Rings as numbers, checked to be closed.
fn rings(feature: &Value) -> Vec<Vec<(f64, f64)>> {
    let ring = |ring: &Value| {
        let pair = |p: &Value| (p[0].as_f64().unwrap(), p[1].as_f64().unwrap());
        let points: Vec<_> = ring.as_array().unwrap().iter().map(pair).collect();
        assert!(points.len() >= 4 && points.first() == points.last());
        points
    };
    feature["geometry"]["coordinates"].as_array().unwrap().iter().map(ring).collect()
}

/// Whether two segments have any point in common, but not only an end of both.
fn meet(a: [(f64, f64); 2], b: [(f64, f64); 2]) -> bool {
    let turn = |p: (f64, f64), q: (f64, f64), r: (f64, f64)| (q.0 - p.0) * (r.1 - p.1) - (q.1 - p.1) * (r.0 - p.0);
    let (c, d) = (turn(a[0], a[1], b[0]) * turn(a[0], a[1], b[1]), turn(b[0], b[1], a[0]) * turn(b[0], b[1], a[1]));
    c < 0.0 && d < 0.0
}

fn maps() -> impl Strategy<Value = (usize, Vec<u8>)> {
    let label = prop_oneof![4 => Just(0u8), 5 => Just(1u8), 1 => Just(2u8), 1 => Just(3u8), 1 => Just(255u8)];
    (1usize..14, 1usize..14).prop_flat_map(move |(w, h)| (Just(w), prop::collection::vec(label.clone(), w * h)))
}

/// Random maps magnified, so that objects have sides to simplify.
fn magnified(labels: &[u8], width: usize, by: usize) -> Vec<u8> {
    let line = |row: &[u8]| row.iter().flat_map(|&l| vec![l; by]).collect::<Vec<u8>>().repeat(by);
    labels.chunks(width).flat_map(line).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn filled_outlines_are_the_map((width, labels) in maps()) {
        let (objects, _) = trace_map(&labels, width, None);
        objects.iter().for_each(check_rings);
        let known: Vec<u8> = labels.iter().map(|&l| if l < 4 { l } else { 0 }).collect();
        prop_assert_eq!(fill(&objects, width, labels.len() / width), known);
        prop_assert_eq!(objects.len(), flooded(&labels, width));
    }

    #[test]
    fn cut_objects_are_still_the_map((width, labels) in maps()) {
        let (objects, cuts) = trace_map(&labels, width, Some(12));
        objects.iter().for_each(check_rings);
        let known: Vec<u8> = labels.iter().map(|&l| if l < 4 { l } else { 0 }).collect();
        prop_assert_eq!(fill(&objects, width, labels.len() / width), known);
        prop_assert!(cuts == 0 || objects.len() >= flooded(&labels, width));
    }

    #[test]
    fn simplified_outlines_do_not_cross((width, labels) in maps(), by in 1usize..4, level0_px in 0.5f64..5.0) {
        let mut settings = OutlineSettings::new(Mpp::new(1.0).unwrap(), level0_px);
        (settings.min_area_um2, settings.tolerance_px) = (0.0, 1.5);
        let labels = magnified(&labels, width, by);
        let (counts, json) = written(&labels, width * by, settings);
        let features = json["features"].as_array().unwrap();
        prop_assert_eq!(counts.objects as usize, features.len());
        for feature in features {
            let rings = rings(feature);
            let segments: Vec<_> = rings.iter().flat_map(|ring| ring.windows(2).map(|p| [p[0], p[1]])).collect();
            for (i, &a) in segments.iter().enumerate() {
                prop_assert!(segments[i + 1..].iter().all(|&b| !meet(a, b)), "{:?}", rings);
            }
        }
    }
}

/// A disc with a hole of half its radius.
fn disc(side: usize) -> Vec<u8> {
    let middle = side as f64 / 2.0;
    let at = |i: usize| (i as f64 + 0.5 - middle) / middle;
    (0..side * side).map(|i| u8::from((0.25..0.9).contains(&(at(i % side).powi(2) + at(i / side).powi(2))))).collect()
}

#[test]
fn a_disc_with_a_hole_needs_few_corners() {
    let (counts, json) = written(&disc(100), 100, OutlineSettings::new(Mpp::new(0.5).unwrap(), 2.0));
    assert_eq!((counts.objects, counts.too_small, counts.unsimplified, counts.cuts), (1, 0, 0, 0));
    let mut exact = OutlineSettings::new(Mpp::new(0.5).unwrap(), 2.0);
    exact.tolerance_px = 0.0;
    let all = written(&disc(100), 100, exact).0.corners;
    assert!(counts.corners * 2 < all, "{} of {all} corners", counts.corners);
    let feature = &json["features"][0];
    let rings = rings(feature);
    assert_eq!(rings.len(), 2);
    let doubled = |ring: &[(f64, f64)]| ring.windows(2).map(|p| p[0].0 * p[1].1 - p[1].0 * p[0].1).sum::<f64>();
    assert!(doubled(&rings[0]) > 0.0 && doubled(&rings[1]) < 0.0, "RFC 7946 on the numbers");
    let pixels = disc(100).iter().filter(|&&l| l == 1).count() as f64;
    let area = (doubled(&rings[0]) + doubled(&rings[1])) / 2.0;
    assert!((area / 4.0 / pixels - 1.0).abs() < 0.03, "{area} of {pixels} pixels of 2 x 2");
    assert_eq!(feature["properties"]["measurements"]["Area um^2"], pixels / 4.0);
    assert_eq!(feature["properties"]["classification"]["name"], "a \"quoted\" name");
    assert_eq!(feature["properties"]["classification"]["color"], serde_json::json!([200, 10, 0]));
    assert_eq!(feature["properties"]["objectType"], "annotation");
    assert_eq!(feature["id"].as_str().unwrap().len(), 36);
}

#[test]
fn small_objects_are_counted_and_left_out() {
    let labels = [1, 0, 1, 1, 0, 0, 1, 1, 2, 0, 0, 0];
    let mut settings = OutlineSettings::new(Mpp::new(2.0).unwrap(), 1.0);
    let (counts, json) = written(&labels, 4, settings);
    assert_eq!((counts.objects, counts.too_small), (1, 2), "pixels of 4 um2");
    assert_eq!(json["features"].as_array().unwrap().len(), 1);
    settings.min_area_um2 = 4.0;
    assert_eq!(written(&labels, 4, settings).0.objects, 3);
    assert_eq!(written(&[0; 12], 4, settings).1["features"], serde_json::json!([]));
}

#[test]
fn ids_are_one_each_and_stay() {
    let labels: Vec<u8> = (0..400).map(|i| u8::from(i % 2 == 0 && i / 20 % 2 == 0)).collect();
    let mut settings = OutlineSettings::new(Mpp::new(1.0).unwrap(), 1.0);
    settings.min_area_um2 = 0.0;
    let ids = || -> Vec<String> {
        let (_, json) = written(&labels, 20, settings);
        json["features"].as_array().unwrap().iter().map(|f| f["id"].to_string()).collect()
    };
    let (first, second) = (ids(), ids());
    assert_eq!(first, second);
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 100);
}

#[test]
fn a_scale_that_cannot_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for scale in [0.0, f64::NAN, -1.0, 1e9] {
        let settings = OutlineSettings::new(Mpp::new(1.0).unwrap(), scale);
        let refused = OutlineWriter::create(&folder.path().join("x"), "s", 4, &classes(), settings);
        assert!(refused.unwrap_err().to_string().contains("would span"), "{scale}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
