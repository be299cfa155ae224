//! Spacing from TIFF tags: Aperio's `MPP =` in the description first, then the resolution tags.
//!
//! A resolution without a unit, or one coarser than any microscope (72 dpi is a screen, not a scanner), is no spacing.

use std::path::Path;

use consilium_common::Mpp;

use super::error::SlideError;

/// Coarser than this, a resolution tag is a print or screen density and no scanner's: 20 um/px is a 0.5x objective.
const COARSEST_CREDIBLE_UM: f64 = 20.0;
/// Pixels count as square up to this relative difference.
const SQUARE_WITHIN: f64 = 0.01;

/// The tags of level 0 that speak of spacing.
#[derive(Clone, Debug, Default)]
pub(super) struct SpacingTags {
    pub(super) description: String,
    pub(super) x_resolution: Option<f64>,
    pub(super) y_resolution: Option<f64>,
    /// 1 none, 2 inch (the default), 3 centimetre.
    pub(super) unit: u16,
}

/// The spacing that the tags give, or why they give none.
pub(super) fn from_tags(path: &Path, tags: &SpacingTags) -> Result<Mpp, SlideError> {
    let none = |why: String| SlideError::NoSpacing { path: path.to_owned(), why };
    if let Some(text) = aperio_mpp(&tags.description) {
        let um = text.parse::<f64>().ok().and_then(|um| Mpp::new(um).ok());
        return um.ok_or_else(|| none(format!("its description says `MPP = {text}`")));
    }
    let um_per_unit = match tags.unit {
        2 => 25_400.0,
        3 => 10_000.0,
        _ => return Err(none("its resolution tags have no unit".to_owned())),
    };
    let (Some(x), Some(y)) = (tags.x_resolution, tags.y_resolution) else {
        return Err(none("it has no resolution tags".to_owned()));
    };
    let (x, y) = (tidy(um_per_unit / x), tidy(um_per_unit / y));
    if (x - y).abs() > SQUARE_WITHIN * x.max(y) {
        return Err(none(format!("its pixels would be {x} x {y} um, not square")));
    }
    match Mpp::new(x) {
        Ok(mpp) if x <= COARSEST_CREDIBLE_UM => Ok(mpp),
        _ => Err(none(format!("its resolution tags would mean {x} um/px, no microscope's"))),
    }
}

/// The text after `MPP =` in an Aperio description (`Aperio Image Library ...|AppMag = 20|MPP = 0.4990|...`).
fn aperio_mpp(description: &str) -> Option<&str> {
    if !description.starts_with("Aperio") {
        return None;
    }
    description.split('|').find_map(|part| {
        let (key, value) = part.split_once('=')?;
        (key.trim() == "MPP").then(|| value.trim())
    })
}

/// Rounds away the noise of dividing rationals, so that 10000 / (10000000 / 499) is 0.499.
fn tidy(um: f64) -> f64 {
    (um * 1e9).round() / 1e9
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
    fn what_is_no_spacing_says_how_to_give_one() {
        for (description, resolution, unit) in
            [("", 72.0, 2), ("", 1.0, 1), ("", 0.0, 3), ("Aperio|MPP = 0,25", 40_000.0, 3), ("", f64::NAN, 3)]
        {
            let message = read(description, resolution, unit).unwrap_err();
            assert!(message.contains("column `mpp` of slides.csv"), "{message}");
        }
        let tags = SpacingTags { x_resolution: Some(1e4), y_resolution: Some(2e4), unit: 3, ..Default::default() };
        assert!(from_tags(Path::new("s.tif"), &tags).unwrap_err().to_string().contains("not square"));
        assert!(from_tags(Path::new("s.tif"), &SpacingTags { unit: 2, ..Default::default() }).is_err());
    }
}
