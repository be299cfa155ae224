//! The OME-XML in the description of an OME-TIFF: which image is the slide, its spacing, its objective.
//!
//! A description without such XML leaves an ordinary TIFF; one that has it and cannot be used is an error, for it may say
//! which image shows the label. Only the first image that is no label, macro or overview by its name is the slide, and
//! of it only the first plane.

use std::collections::BTreeSet;

use consilium_common::limits;
use roxmltree::{Document, Node, ParsingOptions};

use super::about::is_not_tissue;

/// Elements and attributes of a description; stacks of thousands of planes have a few for each.
const MAX_XML_NODES: u32 = 200_000;
/// Attributes of one element; OME has twenty at most.
const MAX_ATTRIBUTES: usize = 256;
/// Planes that one entry may name: more images of a file are never looked at.
const MAX_PLANES: usize = limits::MAX_LEVELS;

/// What the XML says about the slide.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Ome {
    /// Number of the image in the file that holds the first plane.
    pub(super) first: usize,
    /// Numbers of the images that are label, macro or overview.
    pub(super) others: BTreeSet<usize>,
    /// Width and height of a pixel in micrometres.
    pub(super) pixel_um: Option<(f64, f64)>,
    /// Magnification of the objective.
    pub(super) objective: Option<f64>,
    /// Channels, each with samples of its own.
    pub(super) channels: usize,
}

/// Reads a description; `None` if it is no OME-XML.
///
/// # Errors
/// It is OME-XML, and why it cannot be used.
pub(super) fn read(description: &str) -> Result<Option<Ome>, String> {
    if !description.contains("<OME") && !description.contains(":OME") {
        return Ok(None);
    }
    if crowded(description) {
        return Err(format!("an element has more than {MAX_ATTRIBUTES} attributes"));
    }
    let options = ParsingOptions { nodes_limit: MAX_XML_NODES, ..ParsingOptions::default() };
    let document = Document::parse_with_options(description.trim(), options).map_err(|e| match e {
        roxmltree::Error::NodesLimitReached => format!("it has more than {MAX_XML_NODES} elements and texts"),
        other => format!("it is no XML at {}", other.pos()),
    })?;
    let root = document.root_element();
    if root.tag_name().name() != "OME" {
        return Err("its outermost element is not OME".to_owned());
    }
    let (mut slide, mut others) = (None, BTreeSet::new());
    for image in children(root, "Image") {
        let pixels = children(image, "Pixels").next().ok_or("it has an image without pixels")?;
        if is_not_tissue(image.attribute("Name").unwrap_or_default()) {
            for data in children(pixels, "TiffData").filter(|data| is_here(root, *data)) {
                let first = number(data, "IFD")?.unwrap_or(0);
                others.extend(first..first.saturating_add(number(data, "PlaneCount")?.unwrap_or(1).min(MAX_PLANES)));
            }
        } else if slide.is_none() {
            slide = Some((image, pixels));
        }
    }
    let (image, pixels) = slide.ok_or("it names no image but labels, macros and overviews")?;
    let first = first_plane(pixels)?;
    if others.contains(&first) {
        return Err("its slide and its label are the same image of the file".to_owned());
    }
    Ok(Some(Ome {
        first,
        others,
        pixel_um: length(pixels, "PhysicalSizeX").zip(length(pixels, "PhysicalSizeY")),
        objective: objective(root, image),
        channels: children(pixels, "Channel").count(),
    }))
}

/// Whether an element may have so many attributes that comparing each with each takes for ever.
fn crowded(text: &str) -> bool {
    // No attribute holds `<`, so every element begins a piece of its own; what is quoted does not count.
    text.split('<').any(|piece| {
        let mut quote = None;
        let mut attributes = 0;
        for sign in piece.bytes() {
            match (sign, quote) {
                (b'>', None) => break,
                (b'=', None) => attributes += 1,
                (b'"' | b'\'', None) => quote = Some(sign),
                _ if quote == Some(sign) => quote = None,
                _ => {}
            }
        }
        attributes > MAX_ATTRIBUTES
    })
}

/// Whether planes are in this file, of a set of files that share one description.
fn is_here(root: Node<'_, '_>, data: Node<'_, '_>) -> bool {
    let file = children(data, "UUID").next().and_then(|uuid| uuid.text());
    file.zip(root.attribute("UUID")).is_none_or(|(file, this)| file.trim() == this.trim())
}

/// A count in an attribute, if it is there.
fn number(node: Node<'_, '_>, name: &str) -> Result<Option<usize>, String> {
    let Some(text) = node.attribute(name) else { return Ok(None) };
    text.trim().parse().map(Some).map_err(|_| format!("an attribute {name} is no number"))
}

fn children<'a, 'x: 'a>(node: Node<'a, 'x>, name: &'a str) -> impl Iterator<Item = Node<'a, 'x>> {
    node.children().filter(move |child| child.is_element() && child.tag_name().name() == name)
}

/// The image of the file that holds the plane Z = 0, C = 0, T = 0.
fn first_plane(pixels: Node<'_, '_>) -> Result<usize, String> {
    let zero = |data: &Node<'_, '_>| {
        ["FirstZ", "FirstC", "FirstT"].iter().all(|axis| data.attribute(*axis).is_none_or(|at| at.trim() == "0"))
    };
    let data = children(pixels, "TiffData").find(zero);
    Ok(data.map_or(Ok(None), |data| number(data, "IFD"))?.unwrap_or(0))
}

/// A length in micrometres, which is what it has no unit for; `None` if there is none, or in pixels.
fn length(pixels: Node<'_, '_>, name: &str) -> Option<f64> {
    let value: f64 = pixels.attribute(name)?.trim().parse().ok()?;
    let um = match pixels.attribute(format!("{name}Unit").as_str()).unwrap_or("um").trim() {
        "um" | "\u{b5}m" | "\u{3bc}m" => 1.0,
        "pm" => 1e-6,
        "nm" => 1e-3,
        "mm" => 1e3,
        "cm" => 1e4,
        "m" => 1e6,
        "in" => 25_400.0,
        _ => return None,
    };
    Some(value * um)
}

/// The magnification of the objective that the image names, or of the only one there is.
fn objective(root: Node<'_, '_>, image: Node<'_, '_>) -> Option<f64> {
    let named = children(image, "ObjectiveSettings").find_map(|settings| settings.attribute("ID"));
    let all: Vec<_> = children(root, "Instrument").flat_map(|instrument| children(instrument, "Objective")).collect();
    let one = match (named, all.as_slice()) {
        (Some(id), _) => all.iter().find(|objective| objective.attribute("ID") == Some(id))?,
        (None, [one]) => one,
        _ => return None,
    };
    one.attribute("NominalMagnification")?.trim().parse().ok().filter(|x: &f64| x.is_finite() && *x > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(pixels: &str) -> String {
        format!(
            r#"<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">
            <Instrument ID="Instrument:0"><Objective ID="Objective:0:0" NominalMagnification="20.0"/></Instrument>
            <Image ID="Image:0" Name="label image"><Pixels SizeX="9"><TiffData IFD="0"/></Pixels></Image>
            <Image ID="Image:1" Name="slide"><ObjectiveSettings ID="Objective:0:0"/>{pixels}</Image>
            <Image ID="Image:2" Name="macro image"><Pixels SizeX="9"><TiffData IFD="2"/></Pixels></Image></OME>"#
        )
    }

    #[test]
    fn the_first_image_that_is_no_label_is_the_slide() {
        let text = described(
            r#"<Pixels PhysicalSizeX="250" PhysicalSizeXUnit="nm" PhysicalSizeY="0.00025" PhysicalSizeYUnit="mm">
            <Channel ID="c" SamplesPerPixel="3"/><TiffData IFD="7" FirstZ="1"/><TiffData IFD="1"/></Pixels>"#,
        );
        let ome = read(&text).unwrap().unwrap();
        assert_eq!((ome.first, ome.objective, ome.channels), (1, Some(20.0), 1));
        assert_eq!(ome.others, BTreeSet::from([0, 2]));
        assert_eq!(ome.pixel_um, Some((0.25, 0.25)));
    }

    #[test]
    fn units() {
        for (unit, um) in [("", Some(0.5)), ("\u{b5}m", Some(0.5)), ("cm", Some(5000.0)), ("pixel", None)] {
            let unit = if unit.is_empty() { String::new() } else { format!(r#"PhysicalSizeXUnit="{unit}""#) };
            let text = described(&format!(
                r#"<Pixels PhysicalSizeX="0.5" {unit} PhysicalSizeY="0.5"><TiffData IFD="1"/></Pixels>"#
            ));
            assert_eq!(read(&text).unwrap().unwrap().pixel_um.map(|(x, _)| x), um, "{unit}");
        }
    }

    #[test]
    fn labels_are_known_by_any_part_of_their_names() {
        let image = |name: &str, data: &str| format!(r#"<Image Name="{name}"><Pixels>{data}</Pixels></Image>"#);
        let others = |name: &str, data: &str| {
            let slide = image("slide", r#"<TiffData IFD="9"/>"#);
            let read = read(&format!(r#"<OME UUID="urn:1">{}{slide}</OME>"#, image(name, data)));
            read.unwrap().unwrap().others.into_iter().collect::<Vec<_>>()
        };
        for name in ["Label", "a.svs - LABEL image", "my Macro", "Overview"] {
            assert_eq!(others(name, "<TiffData/>"), [0], "{name}: an entry without a number is the first image");
        }
        assert_eq!(others("label", r#"<TiffData IFD="3" PlaneCount="2"/><TiffData IFD="6"/>"#), [3, 4, 6]);
        let elsewhere = |file: &str| format!(r#"<TiffData IFD="3"><UUID FileName="x">{file}</UUID></TiffData>"#);
        assert_eq!(others("label", &elsewhere("urn:1")), [3]);
        assert!(others("label", &elsewhere("urn:2")).is_empty(), "that is in another file");
    }

    #[test]
    fn what_is_no_ome_xml_is_ignored() {
        for text in ["", "Aperio", "<x/>"] {
            assert_eq!(read(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn ome_xml_that_cannot_be_used_is_an_error() {
        let bomb = "<!DOCTYPE OME [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><OME><Image>&b;</Image></OME>";
        let label = r#"<OME><Image Name="label"><Pixels/></Image></OME>"#;
        let both = r#"<OME><Image Name="label"><Pixels><TiffData/></Pixels></Image><Image><Pixels/></Image></OME>"#;
        let wrong = r#"<OME><Image><Pixels><TiffData IFD="x"/></Pixels></Image></OME>"#;
        let deep = format!("<OME>{}", "<a>".repeat(100_000));
        let wide = format!("<OME><a {}/></OME>", (0..1000).map(|i| format!("a{i}='>' ")).collect::<String>());
        let texts = ["<OME", "<OME></OME>", "<x><OME/></x>", "<OME><Image/></OME>", bomb, label, both, wrong];
        for text in texts.into_iter().chain([deep.as_str(), &wide]) {
            let why = read(text).unwrap_err();
            assert!(!why.is_empty() && why.len() < 100 && !why.contains('\n'), "{why}");
        }
        assert!(read(both).unwrap_err().contains("the same image"));
        assert!(read(&wide).unwrap_err().contains("256 attributes"));
    }
}
