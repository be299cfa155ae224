//! The two colours that UGA's patch filters look for (spec 1.5), in OpenCV's HSV scale of 0 to 255; and holes.

/// Neither black nor white.
pub const ORDINARY: u8 = 0;
/// `V <= 30`: pen, folds, the outside of the scanned area.
pub const BLACK: u8 = 1;
/// `S <= 30` and `V >= 230`: glass. Also what was not scanned.
pub const WHITE: u8 = 2;
/// A part of the slide that cannot be decoded; never tissue.
pub const HOLE: u8 = 3;

/// The colour class of one pixel.
pub fn colour_class([r, g, b]: [u8; 3]) -> u8 {
    let value = r.max(g).max(b);
    let spread = u32::from(value - r.min(g).min(b));
    if value <= 30 {
        BLACK
    } else if value >= 230 && (255 * spread + u32::from(value) / 2) / u32::from(value) <= 30 {
        WHITE
    } else {
        ORDINARY
    }
}
