//! Metastases of known extent: each deposit is a bent line of known length with ragged flesh of bounded width around it, so
//! that its largest extent lies within the limits of its stage whatever the seed.

use std::f32::consts::{PI, TAU};
use std::ops::Range;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::SPACING_UM;
use super::noise::{Field, fbm, rng_of};
use super::scene::Stage;

/// Painted pixels a millimetre.
const PX_PER_MM: f32 = (1000.0 / SPACING_UM) as f32;
/// Pixels between deposits, so that two of them are never one.
const GAP_PX: f32 = 240.0;
/// Places that are tried for a deposit.
const TRIES: usize = 300;

/// One deposit. Its extent is at least the chord of its line, and at most the line's length plus twice its half width.
struct Deposit {
    line: Vec<(f32, f32)>,
    half_width: f32,
    salt: u32,
}

/// A kind of deposit: distance between the ends of its line, and half its width, in mm.
struct Kind {
    chord_mm: Range<f32>,
    half_width_mm: Range<f32>,
}

/// At most 0.07 x 1.2 + 2 x 0.05 = 0.184 mm.
const CLUSTER: Kind = Kind { chord_mm: 0.01..0.07, half_width_mm: 0.022..0.050 };
/// 0.23 mm to 0.60 x 1.2 + 2 x 0.13 = 0.98 mm.
const MICRO: Kind = Kind { chord_mm: 0.23..0.60, half_width_mm: 0.06..0.13 };
/// 2.08 mm to 2.45 x 1.2 + 2 x 0.36 = 3.66 mm.
const MACRO: Kind = Kind { chord_mm: 2.08..2.45, half_width_mm: 0.20..0.36 };

/// Lays the deposits of a stage into the tissue, which closes around them. Positive inside, in about pixels from the border.
pub(crate) fn lay(seed: &str, size: usize, stage: Stage, tissue: &mut Field) -> Field {
    let mut rng = rng_of(&format!("{seed}/deposits"));
    let clusters = |rng: &mut ChaCha8Rng, count: Range<usize>| (0..rng.random_range(count)).map(|_| &CLUSTER);
    let mut kinds: Vec<&Kind> = Vec::new();
    match stage {
        Stage::Negative => {}
        Stage::Itc => kinds.extend(clusters(&mut rng, 4..9)),
        Stage::Micro => {
            kinds.push(&MICRO);
            kinds.extend(clusters(&mut rng, 0..4));
        }
        Stage::Macro => {
            kinds.push(&MACRO);
            kinds.extend(clusters(&mut rng, 1..5));
        }
    }
    let mut deposits: Vec<Deposit> = Vec::new();
    for kind in kinds {
        deposits.extend(placed(kind, size, tissue, &deposits, &mut rng));
    }
    let field = Field::sample(size, size, |x, y| deposits.iter().map(|d| d.depth(x, y)).fold(-1e4, f32::max));
    for (tissue, tumour) in tissue.data.iter_mut().zip(&field.data) {
        *tissue = tissue.max(tumour + 20.0);
    }
    field
}

/// The place with most tissue around of those tried. Only the first deposit is laid where there is too little.
fn placed(kind: &Kind, size: usize, tissue: &Field, others: &[Deposit], rng: &mut ChaCha8Rng) -> Option<Deposit> {
    let chord = PX_PER_MM * rng.random_range(kind.chord_mm.clone());
    let half_width = PX_PER_MM * rng.random_range(kind.half_width_mm.clone());
    let salt = rng.random_range(0..u32::MAX);
    let mut best: Option<(f32, Vec<(f32, f32)>)> = None;
    for _ in 0..TRIES {
        let centre = (rng.random_range(0.0..size as f32), rng.random_range(0.0..size as f32));
        let line = line(centre, chord, rng);
        let room = |&(x, y): &(f32, f32)| {
            let inside = x.min(y).min(size as f32 - x).min(size as f32 - y) - half_width - 60.0;
            let apart = others.iter().map(|other| -other.depth(x, y) - half_width - GAP_PX).fold(f32::MAX, f32::min);
            if inside.min(apart) < 0.0 { -1e6 } else { tissue.at(x, y) - half_width }
        };
        let room = line.iter().map(room).fold(f32::MAX, f32::min);
        if best.as_ref().is_none_or(|(most, _)| room > *most) {
            best = Some((room, line));
        }
        if room > 40.0 {
            break;
        }
    }
    let (room, line) = best?;
    (room > 0.0 || others.is_empty()).then_some(Deposit { line, half_width, salt })
}

/// A bent line whose ends are a chord apart and whose length is less than 1.2 chords.
fn line(centre: (f32, f32), chord: f32, rng: &mut ChaCha8Rng) -> Vec<(f32, f32)> {
    let steps = ((chord / 100.0) as usize).clamp(3, 24);
    let (start, bend, sway): (f32, f32, f32) =
        (rng.random_range(0.0..TAU), rng.random_range(-1.2..1.2), rng.random_range(-0.4..0.4));
    let (mut points, mut at) = (vec![(0.0f32, 0.0f32)], (0.0f32, 0.0f32));
    for step in 0..steps {
        let t = (step as f32 + 0.5) / steps as f32;
        let heading = start + bend * (t - 0.5) + sway * (2.0 * TAU * t).sin();
        at = (at.0 + heading.cos(), at.1 + heading.sin());
        points.push(at);
    }
    let scale = chord / at.0.hypot(at.1);
    points.iter().map(|p| (centre.0 + (p.0 - 0.5 * at.0) * scale, centre.1 + (p.1 - 0.5 * at.1) * scale)).collect()
}

impl Deposit {
    /// Pixels inside its border, negative outside.
    fn depth(&self, x: f32, y: f32) -> f32 {
        let (mut nearest, mut along) = (f32::MAX, 0.0);
        for (index, ends) in self.line.windows(2).enumerate() {
            let ((ax, ay), (bx, by)) = (ends[0], ends[1]);
            let (ux, uy) = (bx - ax, by - ay);
            let t = (((x - ax) * ux + (y - ay) * uy) / (ux * ux + uy * uy).max(1e-6)).clamp(0.0, 1.0);
            let away = (x - ax - t * ux).hypot(y - ay - t * uy);
            if away < nearest {
                (nearest, along) = (away, (index as f32 + t) / (self.line.len() - 1) as f32);
            }
        }
        if nearest > 2.0 * self.half_width {
            return self.half_width - nearest;
        }
        // Fuller in the middle, with lobes and teeth; never wider than the half width.
        let wave = (0.9 * self.half_width).max(40.0);
        let lobes = fbm(self.salt, x / wave, y / wave, 3);
        let full = (0.66 + 0.34 * (PI * along).sin()) * (0.45 + 0.55 * ((lobes - 0.25) * 2.0).clamp(0.0, 1.0));
        self.half_width * full - nearest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_chord_and_is_hardly_longer() {
        let mut rng = rng_of("line");
        for _ in 0..200 {
            let chord = rng.random_range(20.0..5000.0f32);
            let line = line((4000.0, 4000.0), chord, &mut rng);
            let (first, last) = (line[0], line[line.len() - 1]);
            assert!(((last.0 - first.0).hypot(last.1 - first.1) / chord - 1.0).abs() < 1e-3);
            let length: f32 = line.windows(2).map(|w| (w[1].0 - w[0].0).hypot(w[1].1 - w[0].1)).sum();
            assert!(length < 1.2 * chord, "{length} of {chord}");
        }
    }
}
