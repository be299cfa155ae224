//! What a slide shows. The default scene is the demonstration's: much tumour, few things that look like it. The others
//! have the stages of lymph-node metastases as Camelyon17 names them, and benign look-alikes.

use super::SPACING_UM;

/// How far a metastasis has come, by the largest extent of its largest deposit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// No tumour at all.
    Negative,
    /// Isolated tumour cells: clusters of less than 0.2 mm.
    Itc,
    /// Micrometastasis: 0.2 to 2 mm.
    Micro,
    /// Macrometastasis: more than 2 mm.
    Macro,
}

impl Stage {
    /// All stages in the order in which the slides of a centre have them.
    pub const ALL: [Self; 4] = [Self::Negative, Self::Itc, Self::Micro, Self::Macro];

    /// Its word in `slides.csv`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Negative => "negative",
            Self::Itc => "itc",
            Self::Micro => "micro",
            Self::Macro => "macro",
        }
    }
}

/// How many areas of each kind a slide has that a network may take for tumour. Fewer where there is no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookAlikes {
    /// Lymphoid follicles with germinal centres, 0.4 to 0.8 mm.
    pub follicles: u32,
    /// Areas of crowded small glands, 0.4 to 1 mm.
    pub crowded_glands: u32,
    /// Areas of crushed tissue with smeared nuclei, 0.8 to 1.6 mm long.
    pub crushed: u32,
}

impl LookAlikes {
    /// Those of the centre at this place in the order of centres. Every centre has all kinds; the central one has few, the
    /// others many of one or two kinds that the first ensemble has hardly seen.
    pub fn of_centre(index: usize) -> Self {
        const CENTRAL: [u32; 3] = [3, 1, 1];
        const OTHERS: [[u32; 3]; 4] = [[4, 5, 1], [9, 2, 1], [3, 4, 3], [4, 2, 4]];
        let other = index.checked_sub(1).map(|place| OTHERS[place % OTHERS.len()]);
        let [follicles, crowded_glands, crushed] = other.unwrap_or(CENTRAL);
        Self { follicles, crowded_glands, crushed }
    }
}

/// What a slide shows and how finely it is scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scene {
    /// The stage of its metastasis; none gives the demonstration's tumour on a fifth to a third of the tissue.
    pub stage: Option<Stage>,
    /// Its benign look-alikes.
    pub look_alikes: LookAlikes,
    /// Painted pixels of [`SPACING_UM`] along a side of a level-0 pixel: 1 or 2.
    pub shrink: u32,
}

impl Default for Scene {
    fn default() -> Self {
        Self { stage: None, look_alikes: LookAlikes::default(), shrink: 1 }
    }
}

impl Scene {
    /// Side in level-0 pixels of a slide with rare tumour: 4.1 mm, so that a macrometastasis is a small part of it.
    pub const RARE_SIDE_PX: u32 = 4096;

    /// A slide with rare tumour at 1 um/px.
    pub fn rare(stage: Stage, look_alikes: LookAlikes) -> Self {
        Self { stage: Some(stage), look_alikes, shrink: 2 }
    }

    /// Level-0 spacing, um/px.
    pub fn spacing_um(&self) -> f64 {
        SPACING_UM * f64::from(self.shrink)
    }
}
