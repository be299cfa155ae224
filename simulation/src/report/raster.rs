//! Rasterises the report's SVG figures to PNG with fonts that are compiled in, so that no system font is needed.

use std::sync::Arc;

use resvg::tiny_skia::{Color, Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};

use super::ReportError;

/// The figure as PNG bytes, `scale` device pixels per CSS pixel, on white.
pub(crate) fn png_of(svg: &str, scale: f32) -> Result<Vec<u8>, ReportError> {
    let fail = |why: String| ReportError::Figure { why };
    let tree = Tree::from_str(svg, &options()).map_err(|e| fail(e.to_string()))?;
    let size = tree.size();
    let (width, height) = ((size.width() * scale).ceil() as u32, (size.height() * scale).ceil() as u32);
    let mut pixmap = Pixmap::new(width, height).ok_or_else(|| fail(format!("{width} x {height} is not a size")))?;
    pixmap.fill(Color::WHITE);
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixmap.as_mut());
    // On opaque white premultiplied colours are plain ones, and alpha says nothing.
    let rgb: Vec<u8> = pixmap.data().chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect();
    let picture =
        image::RgbImage::from_raw(width, height, rgb).ok_or_else(|| fail("the picture is cut short".into()))?;
    encode(&picture)
}

/// A picture as PNG bytes.
pub(crate) fn encode(picture: &image::RgbImage) -> Result<Vec<u8>, ReportError> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let written = picture.write_to(&mut bytes, image::ImageFormat::Png);
    written.map_err(|e| ReportError::Figure { why: e.to_string() })?;
    Ok(bytes.into_inner())
}

fn options() -> Options<'static> {
    let mut fonts = fontdb::Database::new();
    fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
    fonts.load_font_data(epaint_default_fonts::HACK_REGULAR.to_vec());
    let family = fonts.faces().next().and_then(|face| face.families.first()).map(|f| f.0.clone()).unwrap_or_default();
    fonts.set_sans_serif_family(&family);
    Options { fontdb: Arc::new(fonts), font_family: family, ..Options::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::svg::{Anchor, Ink, Svg};

    #[test]
    fn text_is_drawn_without_system_fonts() {
        let mut svg = Svg::new(120.0, 40.0, "t");
        svg.text((10.0, 25.0), 20.0, Anchor::Start, Ink::Text, "Dice µm");
        let png = png_of(&svg.finish(), 1.0).unwrap();
        let image = image::load_from_memory(&png).unwrap().to_luma8();
        let dark = image.pixels().filter(|p| p[0] < 128).count();
        assert!(dark > 60, "{dark} dark pixels: the text is missing");
    }
}
