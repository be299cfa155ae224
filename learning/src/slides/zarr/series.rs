//! Which image of a Zarr folder is the slide: never a label, a macro image or an overview, which may show names.
//!
//! Images are told apart by their names alone: those in `multiscales`, and those in the OME-XML that bioformats2raw leaves
//! beside its numbered series.

use roxmltree::{Document, ParsingOptions};

use crate::slides::about::is_not_tissue;

/// Bytes of the OME-XML of a folder: thousands of planes and original metadata.
pub(super) const MAX_XML_BYTES: u64 = 16 << 20;
/// Elements and attributes of it.
const MAX_XML_NODES: u32 = 200_000;

/// What is said where there is nothing else.
pub(super) const NO_TISSUE: &str = "holds only label, macro or overview images, which are never read because labels carry \
                                    names; export the slide itself";

/// The number of the first image of an OME-XML that is tissue, `Some(None)` if none is; `None` if it is no OME-XML.
pub(super) fn first_tissue(xml: &str) -> Option<Option<usize>> {
    let options = ParsingOptions { nodes_limit: MAX_XML_NODES, ..ParsingOptions::default() };
    let document = Document::parse_with_options(xml.trim(), options).ok()?;
    let root = Some(document.root_element()).filter(|root| root.tag_name().name() == "OME")?;
    let mut images = root.children().filter(|node| node.is_element() && node.tag_name().name() == "Image");
    Some(images.position(|image| !is_not_tissue(image.attribute("Name").unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_image_of_tissue_is_the_slide() {
        let image = |name: &str| format!(r#"<Image Name="{name}"/>"#);
        let ome = |images: &str| format!("<?xml version=\"1.0\"?><OME>{images}</OME>");
        assert_eq!(first_tissue(&ome(&(image("macro") + &image("x") + &image("y")))), Some(Some(1)));
        assert_eq!(first_tissue(&ome("<Image/>")), Some(Some(0)));
        assert_eq!(first_tissue(&ome(&image("label"))), Some(None));
        assert_eq!(first_tissue("<x/>"), None);
        assert_eq!(first_tissue(&ome(&"<a>".repeat(100_000))), None);
    }
}
