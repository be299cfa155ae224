//! Outlines that a person drew, as QuPath writes them: GeoJSON in level-0 pixels.
//!
//! Read are a FeatureCollection, a Feature, a geometry, or an array of these; holes count, rings may be open. Parsed as
//! a stream, so that memory follows the number of points, which is limited, and not the shape of the JSON.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

use consilium_common::limits;
use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::error::GeoJsonError;

/// A coordinate further out than this is taken to be this far out: a thousand times the largest slide's side squared,
/// and near enough for exact sums.
const FARTHEST_PX: f64 = 1e12;
/// Classes, in lower case, whose outlines take away instead of adding; QuPath marks them with a star.
const SUBTRACTED: [&str; 8] = ["ignore", "exclude", "excluded", "artifact", "artefact", "pen", "pen mark", "blur"];

/// Outlines, each with holes, in level-0 pixels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Polygons {
    points: Vec<[f64; 2]>,
    /// Where each ring ends in `points`.
    rings: Vec<usize>,
    regions: Vec<Region>,
    /// Points, lines and empty features, which enclose nothing.
    without_area: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Region {
    /// Where its rings end in `rings`.
    rings_end: usize,
    subtracts: bool,
}

impl Polygons {
    /// Number of polygons.
    pub fn len(&self) -> usize {
        self.regions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.regions.is_empty()
    }

    /// The polygons that add tissue, or those that take it away: the rings of each, even-odd.
    pub(super) fn regions(&self, subtracting: bool) -> impl Iterator<Item = impl Iterator<Item = &[[f64; 2]]>> {
        let starts = [0].into_iter().chain(self.regions.iter().map(|region| region.rings_end));
        let wanted = starts.zip(&self.regions).filter(move |(_, region)| region.subtracts == subtracting);
        wanted.map(|(start, region)| (start..region.rings_end).map(|ring| self.ring(ring)))
    }

    fn ring(&self, number: usize) -> &[[f64; 2]] {
        let start = number.checked_sub(1).map_or(0, |before| self.rings[before]);
        &self.points[start..self.rings[number]]
    }
}

/// Reads outlines; at most [`limits::MAX_GEOJSON_BYTES`] bytes, [`limits::MAX_GEOJSON_OBJECTS`] objects and
/// [`limits::MAX_GEOJSON_POINTS`] points.
///
/// Features of a class named Ignore, Exclude, Artifact or Pen (any case, with or without a star, also as part of a derived
/// class such as `Artifact: Fold`) take away, all others add.
///
/// # Errors
/// The bytes are too many, no GeoJSON, beyond the limits, hold a number that is not finite, or hold no polygon.
pub fn parse_geojson(bytes: &[u8]) -> Result<Polygons, GeoJsonError> {
    if bytes.len() as u64 > limits::MAX_GEOJSON_BYTES {
        return Err(GeoJsonError::TooLong);
    }
    let malformed = |e: serde_json::Error| GeoJsonError::Malformed { why: reason(&e) };
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let reading = RefCell::new(Reading::default());
    let mut json = serde_json::Deserializer::from_slice(bytes);
    Item(&reading).deserialize(&mut json).and_then(|()| json.end()).map_err(malformed)?;
    let found = reading.into_inner().found;
    if found.is_empty() {
        return Err(GeoJsonError::NoPolygon { without_area: found.without_area });
    }
    Ok(found)
}

/// The parser's words without what they quote of the file, which may be long or none of ours to repeat.
fn reason(error: &serde_json::Error) -> String {
    let words = error.to_string();
    match words.rfind(", expected ") {
        Some(end) if error.is_data() => words[end + 2..].to_owned(),
        _ => words,
    }
}

#[derive(Default)]
struct Reading {
    found: Polygons,
    objects: usize,
    /// Points seen, those of lines and of rings without area included.
    points: usize,
}

impl Reading {
    /// Sizes to return to where an object turns out to enclose nothing.
    fn mark(&self) -> (usize, usize, usize) {
        (self.found.points.len(), self.found.rings.len(), self.found.regions.len())
    }

    fn return_to(&mut self, (points, rings, regions): (usize, usize, usize)) {
        self.found.points.truncate(points);
        self.found.rings.truncate(rings);
        self.found.regions.truncate(regions);
    }

    fn object<E: de::Error>(&mut self) -> Result<(), E> {
        self.objects += 1;
        if self.objects > limits::MAX_GEOJSON_OBJECTS {
            return Err(E::custom(format!("more than {} objects", limits::MAX_GEOJSON_OBJECTS)));
        }
        Ok(())
    }

    fn point<E: de::Error>(&mut self, point: [f64; 2]) -> Result<(), E> {
        self.points += 1;
        if self.points > limits::MAX_GEOJSON_POINTS {
            return Err(E::custom(format!("more than {} points", limits::MAX_GEOJSON_POINTS)));
        }
        self.found.points.push(point.map(|v| v.clamp(-FARTHEST_PX, FARTHEST_PX)));
        Ok(())
    }

    /// Ends a ring; fewer than three points enclose nothing.
    fn close_ring(&mut self) {
        let start = self.found.rings.last().copied().unwrap_or(0);
        if self.found.points.len() - start < 3 {
            self.found.points.truncate(start);
        } else {
            self.found.rings.push(self.found.points.len());
        }
    }

    /// Ends a polygon, unless it has no ring.
    fn close_region(&mut self) {
        let rings_end = self.found.rings.len();
        if rings_end > self.found.regions.last().map_or(0, |region| region.rings_end) {
            self.found.regions.push(Region { rings_end, subtracts: false });
        }
    }
}

/// A feature, a collection, a geometry, or an array of them; null is nothing.
#[derive(Clone, Copy)]
struct Item<'a>(&'a RefCell<Reading>);

impl<'de> DeserializeSeed<'de> for Item<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Item<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a GeoJSON feature, collection or geometry, or an array of them")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        self.0.borrow_mut().object()?;
        let mark = self.0.borrow().mark();
        let (mut kind, mut depth, mut subtracts, mut children) = (String::new(), None, false, false);
        while let Some(key) = object.next_key::<Cow<'_, str>>()? {
            match key.as_ref() {
                "type" => kind = object.next_value()?,
                "coordinates" if depth.is_some() => return Err(de::Error::duplicate_field("coordinates")),
                "coordinates" => depth = Some(object.next_value_seed(Coordinates(self.0))?),
                "features" | "geometry" | "geometries" => {
                    children = true;
                    object.next_value_seed(self)?;
                }
                "properties" => {
                    let properties: Option<Properties> = object.next_value()?;
                    subtracts = properties.is_some_and(|properties| properties.classification.0);
                }
                _ => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        let mut reading = self.0.borrow_mut();
        close(&mut reading, mark, &kind, depth, children).map_err(de::Error::custom)?;
        if subtracts {
            reading.found.regions[mark.2..].iter_mut().for_each(|region| region.subtracts = true);
        }
        Ok(())
    }
}

/// Takes what an object held for what its type says it is.
fn close(
    reading: &mut Reading,
    mark: (usize, usize, usize),
    kind: &str,
    depth: Option<Depth>,
    children: bool,
) -> Result<(), String> {
    let wrong = || Err(format!("a {kind:.40} with the coordinates of something else"));
    match kind {
        "Feature" | "FeatureCollection" | "GeometryCollection" => {
            if depth.is_some() {
                return wrong();
            }
            reading.found.without_area += usize::from(kind == "Feature" && reading.mark().2 == mark.2);
        }
        "Polygon" | "MultiPolygon" => {
            let expected = if kind == "Polygon" { Depth::List(3) } else { Depth::List(4) };
            if children || (depth != Some(expected) && depth != Some(Depth::Empty)) {
                return wrong();
            }
        }
        "Point" | "MultiPoint" | "LineString" | "MultiLineString" => {
            reading.return_to(mark);
        }
        "" => return Err("an object without a type".to_owned()),
        _ => return Err("an object whose type is none of GeoJSON".to_owned()),
    }
    Ok(())
}

/// How deep numbers lie: a position is a list of depth 1, a ring 2, a polygon 3, several 4.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Depth {
    Empty,
    Number(f64),
    List(u8),
}

struct Coordinates<'a>(&'a RefCell<Reading>);

impl<'de> DeserializeSeed<'de> for Coordinates<'_> {
    type Value = Depth;
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Depth, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Coordinates<'_> {
    type Value = Depth;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("numbers in nested arrays")
    }

    fn visit_unit<E>(self) -> Result<Depth, E> {
        Ok(Depth::Empty)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Depth, E> {
        if value.is_finite() { Ok(Depth::Number(value)) } else { Err(E::custom("a coordinate that is not finite")) }
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Depth, E> {
        Ok(Depth::Number(value as f64))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Depth, E> {
        Ok(Depth::Number(value as f64))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Depth, A::Error> {
        let mut depth = Depth::Empty;
        let (mut point, mut numbers) = ([0.0; 2], 0usize);
        while let Some(next) = list.next_element_seed(Coordinates(self.0))? {
            let deeper = match next {
                Depth::Empty => continue,
                Depth::Number(value) => {
                    if let Some(place) = point.get_mut(numbers) {
                        *place = value;
                    }
                    numbers += 1;
                    Depth::List(1)
                }
                Depth::List(inner) if inner < 4 => Depth::List(inner + 1),
                Depth::List(_) => return Err(de::Error::custom("coordinates nested too deeply")),
            };
            if depth != Depth::Empty && depth != deeper {
                return Err(de::Error::custom("coordinates nested unevenly"));
            }
            depth = deeper;
        }
        let mut reading = self.0.borrow_mut();
        match depth {
            Depth::List(1) if numbers < 2 => return Err(de::Error::custom("a position with one number")),
            Depth::List(1) => reading.point(point)?,
            Depth::List(2) => reading.close_ring(),
            Depth::List(3) => reading.close_region(),
            _ => {}
        }
        Ok(depth)
    }
}

#[derive(Deserialize)]
struct Properties {
    #[serde(default)]
    classification: Subtracts,
}

/// Whether a classification takes away. QuPath writes an object with `name` or `names`, or only the name.
#[derive(Default)]
struct Subtracts(bool);

impl<'de> Deserialize<'de> for Subtracts {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(Classification)
    }
}

struct Classification;

impl<'de> Visitor<'de> for Classification {
    type Value = Subtracts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a class, or an object that has one")
    }

    fn visit_unit<E>(self) -> Result<Subtracts, E> {
        Ok(Subtracts(false))
    }

    fn visit_str<E>(self, name: &str) -> Result<Subtracts, E> {
        let part =
            |part: &str| SUBTRACTED.contains(&part.trim().trim_end_matches('*').trim_end().to_lowercase().as_str());
        Ok(Subtracts(name.split(':').any(part)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Subtracts, A::Error> {
        let mut any = false;
        while let Some(name) = names.next_element::<Cow<'_, str>>()? {
            any |= Classification.visit_str::<A::Error>(&name)?.0;
        }
        Ok(Subtracts(any))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Subtracts, A::Error> {
        let mut any = false;
        while let Some(key) = object.next_key::<Cow<'_, str>>()? {
            match key.as_ref() {
                "name" | "names" => any |= object.next_value::<Subtracts>()?.0,
                _ => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Subtracts(any))
    }
}

#[cfg(test)]
mod tests;
