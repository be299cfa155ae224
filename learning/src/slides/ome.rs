//! The OME-XML in the description of an OME-TIFF: which image is the slide, its spacing, its objective.
//!
//! A description that is no such XML, or too large, leaves an ordinary TIFF. Only the first image that is neither label
//! nor macro is the slide, and of it only the first plane.

use std::collections::BTreeSet;

use roxmltree::{Document, Node, ParsingOptions};

/// Elements and attributes of a description; stacks of thousands of planes have a few for each.
const MAX_XML_NODES: u32 = 200_000;

/// What the XML says about the slide.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Ome {
    /// Number of the image in the file that holds the first plane.
    pub(super) first: usize,
    /// Numbers of the images that are label or macro.
    pub(super) others: BTreeSet<usize>,
    /// Width and height of a pixel in micrometres.
    pub(super) pixel_um: Option<(f64, f64)>,
    /// Magnification of the objective.
    pub(super) objective: Option<f64>,
    /// Channels, each with samples of its own.
    pub(super) channels: usize,
}

/// Reads a description; `None` if it is no OME-XML, or lists no slide.
pub(super) fn read(description: &str) -> Option<Ome> {
    if !description.contains("<OME") && !description.contains(":OME") {
        return None;
    }
    let options = ParsingOptions { nodes_limit: MAX_XML_NODES, ..ParsingOptions::default() };
    let document = Document::parse_with_options(description.trim(), options).ok()?;
    let root = Some(document.root_element()).filter(|root| root.tag_name().name() == "OME")?;
    let (mut slide, mut others) = (None, BTreeSet::new());
    for image in children(root, "Image") {
        let pixels = children(image, "Pixels").next()?;
        let name = image.attribute("Name").unwrap_or_default().to_lowercase();
        if ["label", "macro"].iter().any(|word| name.starts_with(word)) {
            others.extend(children(pixels, "TiffData").filter_map(|data| data.attribute("IFD")?.parse::<usize>().ok()));
        } else if slide.is_none() {
            slide = Some((image, pixels));
        }
    }
    let (image, pixels) = slide?;
    Some(Ome {
        first: first_plane(pixels),
        others,
        pixel_um: length(pixels, "PhysicalSizeX").zip(length(pixels, "PhysicalSizeY")),
        objective: objective(root, image),
        channels: children(pixels, "Channel").count(),
    })
}

fn children<'a, 'x: 'a>(node: Node<'a, 'x>, name: &'a str) -> impl Iterator<Item = Node<'a, 'x>> {
    node.children().filter(move |child| child.is_element() && child.tag_name().name() == name)
}

/// The image of the file that holds the plane Z = 0, C = 0, T = 0.
fn first_plane(pixels: Node<'_, '_>) -> usize {
    let zero = |data: &Node<'_, '_>| {
        ["FirstZ", "FirstC", "FirstT"].iter().all(|axis| data.attribute(*axis).is_none_or(|at| at.trim() == "0"))
    };
    let data = children(pixels, "TiffData").find(zero);
    data.and_then(|data| data.attribute("IFD")?.parse().ok()).unwrap_or(0)
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
        let ome = read(&text).unwrap();
        assert_eq!((ome.first, ome.objective, ome.channels), (1, Some(20.0), 1));
        assert_eq!(ome.others, BTreeSet::from([0, 2]));
        assert_eq!(ome.pixel_um, Some((0.25, 0.25)));
    }

    #[test]
    fn units() {
        for (unit, um) in [("", Some(0.5)), ("\u{b5}m", Some(0.5)), ("cm", Some(5000.0)), ("pixel", None)] {
            let unit = if unit.is_empty() { String::new() } else { format!(r#"PhysicalSizeXUnit="{unit}""#) };
            let text = described(&format!(r#"<Pixels PhysicalSizeX="0.5" {unit} PhysicalSizeY="0.5"/>"#));
            assert_eq!(read(&text).unwrap().pixel_um.map(|(x, _)| x), um, "{unit}");
        }
    }

    #[test]
    fn what_is_no_ome_xml_is_ignored() {
        let bomb = "<!DOCTYPE OME [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><OME><Image>&b;</Image></OME>";
        for text in ["", "Aperio", "<OME", "<OME></OME>", "<x><OME/></x>", "<OME><Image/></OME>", bomb] {
            assert_eq!(read(text), None, "{text}");
        }
        let deep = format!("<OME>{}", "<a>".repeat(100_000));
        assert_eq!(read(&deep), None);
    }
}
