//! Pen marks: ink on the glass, in blue, green, black or red.
//!
//! Conservative: tissue that is taken for pen is lost, a missed stroke costs a few tiles. So no pixel is judged alone. A
//! region is pen when it has an ink's colour (its darkest channel is nearly gone, and the hue is none that haematoxylin,
//! eosin, DAB or blood has), is as wide as a pen's tip, larger than any fold or lake of pigment, and flat: ink swallows the
//! texture of the tissue under it. Black and red, which melanin, folds and blood come near to, must also reach out of the
//! tissue, or be flatter still.

use image::GrayImage;

use super::components::Parts;
use super::find::image_of;
use super::morphology::{closed, opened, spread};
use super::read::Planes;

/// Half the width of the thinnest stroke, in um: the finest markers write 0.3 mm.
const HALF_STROKE_UM: f64 = 60.0;
/// Half the width of what is too dark under ink to have the ink's colour, in um: a nucleus or two.
const HALF_NUCLEUS_UM: f64 = 16.0;
/// Smallest mark in mm2: 0.3 mm of the finest marker.
const LEAST_MM2: f64 = 0.1;
/// How far a stroke fades, in um.
const FADING_UM: f64 = 80.0;
/// The rim that is mixed with glass beyond recognition, in um.
const RIM_UM: f64 = 16.0;
/// Mean step of the darkest channel between neighbours inside ink, in grey levels. Measured on tissue, whatever its colour:
/// 7 and more in any window of 240 um of 25 fields, 12 and more on a skin slide; under ink laid over that slide 1.2 to 2.6.
const FLAT: f64 = 3.5;
/// The same for black and red ink that lies wholly inside tissue.
const VERY_FLAT: f64 = 1.5;
/// Share of a mark's surroundings that must be glass where the mark is to reach out of the tissue.
const REACHES_OUT: f64 = 0.1;
/// Glass is at most this much darker than the slide's brightest glass.
const GLASS_WITHIN: u8 = 20;

const NONE: u8 = 0;
const BLUE: u8 = 1;
const GREEN: u8 = 2;
const BLACK: u8 = 3;
const RED: u8 = 4;

/// The ink that a colour could be: in the low four bits where it is full ink, in the high four where it may be ink that
/// fades into glass. 0 is no ink.
pub(super) fn code([r, g, b]: [u8; 3]) -> u8 {
    let [r, g, b] = [r, g, b].map(i16::from);
    let (least, most) = (r.min(g).min(b), r.max(g).max(b));
    let full = if most <= 65 && most - least <= 20 {
        BLACK
    } else if b == most && g >= r && r <= 110 && b - r >= 55 {
        // Haematoxylin is violet: its green is darker than its red.
        BLUE
    } else if g == most && g - r >= 35 && r <= 110 && g - b >= -5 {
        GREEN
    } else if r == most && r >= 120 && g <= 70 && b <= 80 && b <= g + 20 && r - g >= 90 {
        // Eosin and blood keep more blue than green.
        RED
    } else {
        NONE
    };
    let faint = if full != NONE {
        full
    } else if most - least <= 20 && most <= 200 {
        BLACK
    } else if b == most && g >= r && b - r >= 10 {
        BLUE
    } else if g == most && g - r >= 10 {
        GREEN
    } else if r == most && r - g >= 20 && 6 * (b - g) <= r - g + 10 {
        // Fading red keeps little more blue than green; pale eosin keeps much more.
        RED
    } else {
        NONE
    };
    full | faint << 4
}

/// The pen marks as 1, everything else 0; `None` where there are none. `glass` is the darkest channel of glass.
pub(super) fn find(planes: &Planes, glass: u8) -> Option<GrayImage> {
    let mut pen: Option<GrayImage> = None;
    for colour in [BLUE, GREEN, BLACK, RED] {
        paint_marks(planes, glass, colour, &mut pen);
    }
    pen.map(|pen| spread(&pen, planes.grid.length(RIM_UM), 1))
}

/// Paints the marks of one ink, run by run: a slide may be all ink, and a list of its pixels longer than itself.
fn paint_marks(planes: &Planes, glass: u8, colour: u8, pen: &mut Option<GrayImage>) {
    let grid = planes.grid;
    let least = grid.pixels(LEAST_MM2 * 1e6);
    let full = |code: &u8| code & 15 == colour;
    if (planes.ink.iter().filter(|code| full(code)).count() as u64) < least {
        return;
    }
    let core = image_of(grid, planes.ink.iter().map(|code| u8::from(full(code))).collect());
    let core = opened(&closed(&core, grid.length(HALF_NUCLEUS_UM)), grid.length(HALF_STROKE_UM));
    let around = Parts::of(&spread(&core, grid.length(FADING_UM), 1), 1, true);
    // Flatness is that of the inside: the sides of a stroke are steep.
    let inside = spread(&core, grid.length(HALF_STROKE_UM) / 2, 0);
    let mut looks = vec![Look::default(); around.sizes.len()];
    for run in &around.runs {
        looks[run.part()].see(planes, [&core, &inside], run.pixels(grid.width as usize), glass);
    }
    let is_ink: Vec<bool> = looks.iter().map(|look| look.is_ink(colour, least)).collect();
    for run in around.runs.iter().filter(|run| is_ink[run.part()]) {
        let fading = |at: &usize| core.as_raw()[*at] != 0 || planes.ink[*at] >> 4 == colour;
        let pen = pen.get_or_insert_with(|| GrayImage::new(grid.width, grid.height));
        run.pixels(grid.width as usize).filter(fading).for_each(|at| pen.as_mut()[at] = 1);
    }
}

/// What a possible mark and its surroundings look like.
#[derive(Clone, Debug, Default)]
struct Look {
    core: u64,
    steps: u64,
    sum_of_steps: u64,
    around: u64,
    glass_around: u64,
}

impl Look {
    fn see(&mut self, planes: &Planes, [core, inside]: [&GrayImage; 2], pixels: std::ops::Range<usize>, glass: u8) {
        let (darkest, width) = (&planes.darkest, planes.grid.width as usize);
        let (core, inside) = (core.as_raw(), inside.as_raw());
        let end = pixels.end;
        for at in pixels {
            if core[at] == 0 {
                self.around += 1;
                self.glass_around += u64::from(darkest[at] >= glass.saturating_sub(GLASS_WITHIN));
                continue;
            }
            self.core += 1;
            if inside[at] == 0 {
                continue;
            }
            let next = (at + 1 < end).then_some(at + 1);
            for other in next.into_iter().chain([at + width]).filter(|&other| inside.get(other) == Some(&1)) {
                self.steps += 1;
                self.sum_of_steps += u64::from(darkest[at].abs_diff(darkest[other]));
            }
        }
    }

    fn is_ink(&self, colour: u8, least: u64) -> bool {
        let step = self.sum_of_steps as f64 / self.steps.max(1) as f64;
        let reaches_out = self.glass_around as f64 >= REACHES_OUT * self.around as f64 && self.around > 0;
        let sure = matches!(colour, BLUE | GREEN) || reaches_out;
        self.core >= least && self.steps > 0 && step <= if sure { FLAT } else { VERY_FLAT }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_of_inks_and_of_stains() {
        for (colour, ink) in
            [([40, 60, 160], BLUE), ([20, 140, 80], GREEN), ([30, 30, 35], BLACK), ([215, 30, 40], RED)]
        {
            assert_eq!(code(colour), ink | ink << 4, "{colour:?}");
        }
        // Nuclei, eosin, blood, DAB, pale haematoxylin of an IHC slide, melanin, a fold, glass.
        let stains = [[90, 60, 140], [225, 150, 190], [190, 50, 90], [120, 80, 40], [150, 170, 210], [60, 40, 30]];
        for colour in stains.into_iter().chain([[70, 35, 90], [243, 243, 246]]) {
            assert_eq!(code(colour) & 15, NONE, "{colour:?}");
        }
    }
}
