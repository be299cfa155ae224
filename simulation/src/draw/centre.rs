//! The centres: how a hospital's laboratory stains and how its scanner sees. Five are written out, from pink and pale to
//! purple and dark; further ones are mixed from them by seed.

use rand::RngExt;

use super::noise::rng_of;

/// Stain and scanner of one centre.
#[derive(Clone, Debug, PartialEq)]
pub struct Centre {
    /// Its name, also the site's.
    pub name: String,
    /// Optical density per unit of haematoxylin in red, green and blue.
    pub haematoxylin: [f32; 3],
    /// The same for eosin.
    pub eosin: [f32; 3],
    /// Concentration of haematoxylin, 1 is usual.
    pub haematoxylin_dose: f32,
    /// Concentration of eosin, 1 is usual.
    pub eosin_dose: f32,
    /// What the scanner gives for empty glass.
    pub white: [f32; 3],
    /// Tone curve of the scanner: 1 is linear, above darkens the middle tones.
    pub gamma: f32,
    /// Colour saturation of the scanner, 1 is neutral.
    pub saturation: f32,
    /// Passes of a 3 x 3 binomial blur: the focus.
    pub blur: u32,
    /// Amplitude of sensor noise in 8-bit levels.
    pub noise: f32,
    /// How much the section's thickness varies across the slide, as a fraction.
    pub unevenness: f32,
}

/// The first is the central centre of the demonstration: it stains dark, so that everywhere else tumour looks paler than
/// what the first ensemble has seen, each time in another tone.
pub(super) fn named() -> Vec<Centre> {
    let centre = |name: &str| Centre {
        name: name.to_owned(),
        haematoxylin: [0.62, 0.71, 0.33],
        eosin: [0.13, 0.91, 0.40],
        haematoxylin_dose: 1.0,
        eosin_dose: 1.0,
        white: [244.0, 243.0, 243.0],
        gamma: 1.0,
        saturation: 1.0,
        blur: 1,
        noise: 2.0,
        unevenness: 0.10,
    };
    vec![
        // Purple and dark: overstained, thick sections.
        Centre {
            haematoxylin: [0.66, 0.72, 0.24],
            eosin: [0.28, 0.86, 0.30],
            haematoxylin_dose: 1.12,
            eosin_dose: 1.05,
            white: [238.0, 235.0, 241.0],
            gamma: 1.04,
            unevenness: 0.18,
            ..centre("kingsford")
        },
        // Pink and pale: short haematoxylin, long eosin, bright scanner.
        Centre {
            haematoxylin: [0.56, 0.75, 0.36],
            eosin: [0.08, 0.86, 0.36],
            haematoxylin_dose: 0.80,
            eosin_dose: 0.95,
            white: [250.0, 247.0, 248.0],
            gamma: 0.95,
            noise: 2.5,
            ..centre("lakeside")
        },
        // As in the textbook, a little light.
        Centre { haematoxylin_dose: 0.90, gamma: 0.98, ..centre("northhill") },
        // Blue: a blue-violet haematoxylin, weak eosin, a cold and soft scanner.
        Centre {
            haematoxylin: [0.78, 0.60, 0.17],
            eosin: [0.20, 0.78, 0.26],
            haematoxylin_dose: 0.84,
            eosin_dose: 0.64,
            white: [231.0, 239.0, 248.0],
            gamma: 0.96,
            saturation: 1.15,
            blur: 3,
            ..centre("riverbank")
        },
        // Faded and brownish: old slides, yellow light, a noisy camera.
        Centre {
            haematoxylin: [0.57, 0.65, 0.52],
            eosin: [0.07, 0.76, 0.64],
            haematoxylin_dose: 0.78,
            eosin_dose: 0.98,
            white: [246.0, 240.0, 222.0],
            gamma: 1.0,
            saturation: 0.85,
            noise: 5.0,
            ..centre("southport")
        },
    ]
}

/// The first `count` centres; beyond the written ones they are mixed from two of them, the same for the same seed.
pub fn centres(count: usize, seed: u64) -> Vec<Centre> {
    let base = named();
    let mut out: Vec<Centre> = base.iter().take(count).cloned().collect();
    while out.len() < count {
        let index = out.len() + 1;
        let mut rng = rng_of(&format!("{seed}/centre-{index}"));
        let first = &base[rng.random_range(0..base.len())];
        let second = &base[rng.random_range(0..base.len())];
        let share: f32 = rng.random_range(0.25..0.75);
        out.push(mix(first, second, share, format!("centre-{index:02}")));
    }
    out
}

fn mix(a: &Centre, b: &Centre, share: f32, name: String) -> Centre {
    let one = |x: f32, y: f32| x + (y - x) * share;
    let three = |x: [f32; 3], y: [f32; 3]| [one(x[0], y[0]), one(x[1], y[1]), one(x[2], y[2])];
    Centre {
        name,
        haematoxylin: three(a.haematoxylin, b.haematoxylin),
        eosin: three(a.eosin, b.eosin),
        haematoxylin_dose: one(a.haematoxylin_dose, b.haematoxylin_dose),
        eosin_dose: one(a.eosin_dose, b.eosin_dose),
        white: three(a.white, b.white),
        gamma: one(a.gamma, b.gamma),
        saturation: one(a.saturation, b.saturation),
        blur: if share < 0.5 { a.blur } else { b.blur },
        noise: one(a.noise, b.noise),
        unevenness: one(a.unevenness, b.unevenness),
    }
}
