//! Spacing from TIFF tags: Aperio's `MPP =` or OME-XML in the description first, then the resolution tags.
//!
//! A resolution without a unit, or one coarser than any microscope (72 dpi is a screen, not a scanner), is no spacing.

use std::path::Path;

use consilium_common::Mpp;

use super::error::SlideError;

/// Coarser than this, a resolution tag is a print or screen density and no scanner's: 20 um/px is a 0.5x objective.
pub(super) const COARSEST_CREDIBLE_UM: f64 = 20.0;
/// Pixels count as square up to this relative difference.
pub(super) const SQUARE_WITHIN: f64 = 0.01;

/// Characters of a foreign text that a message repeats: more than any number has.
const QUOTED_CHARS: usize = 40;

/// The tags of level 0 that speak of spacing.
#[derive(Clone, Debug, Default)]
pub(super) struct SpacingTags {
    pub(super) description: String,
    pub(super) x_resolution: Option<f64>,
    pub(super) y_resolution: Option<f64>,
    /// 1 none, 2 inch (the default), 3 centimetre.
    pub(super) unit: u16,
    /// Width and height of a pixel in micrometres as OME-XML gives them.
    pub(super) ome_um: Option<(f64, f64)>,
}

/// The spacing that the tags give, or why they give none.
pub(super) fn from_tags(path: &Path, tags: &SpacingTags) -> Result<Mpp, SlideError> {
    let none = |why: String| SlideError::NoSpacing { path: path.to_owned(), why };
    if let Some(text) = aperio(&tags.description, "MPP") {
        let um = text.parse::<f64>().ok().and_then(|um| Mpp::new(um).ok());
        return um.ok_or_else(|| none(format!("its description says `MPP = {}`", quotable(text))));
    }
    if let Some((x, y)) = tags.ome_um {
        return square(path, (tidy(x), tidy(y)), "its OME-XML");
    }
    let um_per_unit = match tags.unit {
        2 => 25_400.0,
        3 => 10_000.0,
        _ => return Err(none("its resolution tags have no unit".to_owned())),
    };
    let (Some(x), Some(y)) = (tags.x_resolution, tags.y_resolution) else {
        return Err(none("it has no resolution tags".to_owned()));
    };
    square(path, (tidy(um_per_unit / x), tidy(um_per_unit / y)), "its resolution tags")
}

/// The spacing of square pixels of a credible size.
fn square(path: &Path, (x, y): (f64, f64), who: &str) -> Result<Mpp, SlideError> {
    let none = |why: String| SlideError::NoSpacing { path: path.to_owned(), why };
    if (x - y).abs() > SQUARE_WITHIN * x.max(y) {
        return Err(none(format!("its pixels would be {x} x {y} um, not square")));
    }
    match Mpp::new(x) {
        Ok(mpp) if x <= COARSEST_CREDIBLE_UM => Ok(mpp),
        _ => Err(none(format!("{who} would mean {x} um/px, no microscope's"))),
    }
}

/// The objective's magnification in an Aperio description (`AppMag = 20`).
pub(super) fn aperio_objective(description: &str) -> Option<f64> {
    aperio(description, "AppMag")?.parse().ok().filter(|x: &f64| x.is_finite() && *x > 0.0)
}

/// The text after a key in an Aperio description (`Aperio Image Library ...|AppMag = 20|MPP = 0.4990|...`).
fn aperio<'a>(description: &'a str, wanted: &str) -> Option<&'a str> {
    if !description.starts_with("Aperio") {
        return None;
    }
    description.split('|').find_map(|part| {
        let (key, value) = part.split_once('=')?;
        (key.trim() == wanted).then(|| value.trim())
    })
}

/// The beginning of a foreign text in one line, for a message.
fn quotable(text: &str) -> String {
    text.chars().filter(|c| *c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric()).take(QUOTED_CHARS).collect()
}

/// Rounds away the noise of dividing rationals, so that 10000 / (10000000 / 499) is 0.499.
fn tidy(um: f64) -> f64 {
    (um * 1e9).round() / 1e9
}

/// The spacing of pixels whose sides the file gives in micrometres, unless they are not square.
pub(super) fn from_sides(path: &Path, x: f64, y: f64) -> Result<Mpp, SlideError> {
    let none = |why: String| SlideError::NoSpacing { path: path.to_owned(), why };
    let (x, y) = (tidy(x), tidy(y));
    if (x - y).abs() > SQUARE_WITHIN * x.max(y) {
        return Err(none(format!("its pixels would be {x} x {y} um, not square")));
    }
    Mpp::new(x).map_err(|_| none(format!("its pixels would be {x} um wide")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(description: &str, resolution: f64, unit: u16) -> Result<f64, String> {
        let tags = SpacingTags {
            description: description.to_owned(),
            x_resolution: Some(resolution),
            y_resolution: Some(resolution),
            unit,
            ome_um: None,
        };
        from_tags(Path::new("s.tif"), &tags).map(Mpp::um_per_px).map_err(|e| e.to_string())
    }

    #[test]
    fn units_and_aperio() {
        assert_eq!(read("", 40_000.0, 3), Ok(0.25));
        assert_eq!(read("", 10_000_000.0 / 499.0, 3), Ok(0.499));
        assert_eq!(read("", 50_800.0, 2), Ok(0.5));
        assert_eq!(read("Aperio x\r\n46000x32914|AppMag = 20|MPP = 0.4990|Left = 2", 72.0, 2), Ok(0.499));
    }

    #[test]
    fn ome_xml_wins_over_the_resolution_tags_and_is_not_trusted_more() {
        let tags = |um| SpacingTags {
            x_resolution: Some(1e4),
            y_resolution: Some(1e4),
            unit: 3,
            ome_um: Some(um),
            ..Default::default()
        };
        let read = |um| from_tags(Path::new("s.tif"), &tags(um)).map_err(|e| e.to_string());
        assert_eq!(read((0.25, 0.25)).unwrap().um_per_px(), 0.25);
        assert!(read((0.25, 0.5)).unwrap_err().contains("not square"));
        assert!(read((1000.0, 1000.0)).unwrap_err().contains("its OME-XML would mean 1000"));
        assert!(read((f64::NAN, f64::NAN)).is_err());
    }

    #[test]
    fn the_objective_of_an_aperio_slide() {
        assert_eq!(aperio_objective("Aperio x\r\n1x1|AppMag = 20|MPP = 0.4990"), Some(20.0));
        assert_eq!(aperio_objective("Aperio x|AppMag = inf"), None);
        assert_eq!(aperio_objective("x|AppMag = 20"), None);
    }

    #[test]
    fn what_is_no_spacing_says_how_to_give_one() {
        for (description, resolution, unit) in
            [("", 72.0, 2), ("", 1.0, 1), ("", 0.0, 3), ("Aperio|MPP = 0,25", 40_000.0, 3), ("", f64::NAN, 3)]
        {
            let message = read(description, resolution, unit).unwrap_err();
            assert!(message.contains("column `mpp` of slides.csv"), "{message}");
        }
        let long = read(&format!("Aperio|MPP = 0,2\n\u{1b}[31m5{}|", "x".repeat(1 << 20)), 1.0, 3).unwrap_err();
        assert!(long.contains("`MPP = 0,2[31m5xxx") && long.len() < 300 && !long.contains('\n'), "{long}");
        let tags = SpacingTags { x_resolution: Some(1e4), y_resolution: Some(2e4), unit: 3, ..Default::default() };
        assert!(from_tags(Path::new("s.tif"), &tags).unwrap_err().to_string().contains("not square"));
        assert!(from_tags(Path::new("s.tif"), &SpacingTags { unit: 2, ..Default::default() }).is_err());
    }
}
