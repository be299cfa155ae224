//! Which boxes are too blurred to be asked about: networks are unsure where a slide is out of focus, and nobody can correct
//! there. A box's sharpness is that of the blocks of [`crate::tissue::Blur`], and it is compared within its slide only.

use std::collections::BTreeSet;

use consilium_common::Mpp;
use consilium_common::plan::Acquisition;
use image::RgbImage;
use rayon::prelude::*;

use super::{Candidate, PatchBox};
use crate::network::random;
use crate::scan::{Maps, ScanError};
use crate::tissue::blur::{COARSEST_UM, SPACING_UM, luminance, sharp_of, sharpness};

/// Boxes that say how sharp a slide is.
const SAMPLED: usize = 200;

/// How the pixels of a slide's boxes are seen.
pub struct Sight<'a> {
    /// The plan's spacing, of which boxes are.
    pub spacing: Mpp,
    /// The pixels of a box; [`ScanError::Stopped`] where nobody waits for the answer any more.
    pub pixels: &'a (dyn Fn(PatchBox) -> Result<RgbImage, ScanError> + Sync),
}

impl Sight<'_> {
    /// True where the plan asks for sharpness, and its pixels are fine enough to show it.
    pub(super) fn matters(&self, settings: &Acquisition) -> bool {
        settings.min_sharpness > 0.0 && self.spacing.um_per_px() <= COARSEST_UM
    }

    /// Leaves out what the plan holds for blurred, of all candidates of a slide.
    ///
    /// # Errors
    /// The maps or the slide cannot be read.
    pub fn keep_sharp_of(
        &self,
        maps: &dyn Maps,
        all: &mut Vec<Candidate>,
        settings: &Acquisition,
    ) -> Result<(), ScanError> {
        if self.matters(settings) {
            let mut sample = Sample::default();
            all.iter().for_each(|candidate| sample.add(candidate));
            let least = self.least(maps, sample, settings)?;
            self.take_blurred(maps, all, least, &mut BTreeSet::new())?;
        }
        Ok(())
    }

    /// What boxes of a slide are to reach: the plan's share of what a fifth of the sample exceed.
    pub(super) fn least(&self, maps: &dyn Maps, sample: Sample, settings: &Acquisition) -> Result<f64, ScanError> {
        let of = |patch: PatchBox| self.sharpness(maps, patch);
        let sampled: Vec<Option<f64>> = sample.boxes().into_par_iter().map(of).collect::<Result<_, _>>()?;
        Ok(settings.min_sharpness * sharp_of(sampled.into_iter().flatten().collect()).unwrap_or(0.0))
    }

    /// Takes the boxes out that are less sharp. A box without structure is neither sharp nor blurred, and stays. Those in
    /// `sharp` are not looked at again, and what stays is put there.
    pub(super) fn take_blurred(
        &self,
        maps: &dyn Maps,
        boxes: &mut Vec<Candidate>,
        least: f64,
        sharp: &mut BTreeSet<PatchBox>,
    ) -> Result<BTreeSet<PatchBox>, ScanError> {
        let is_blurred = |Candidate { patch, .. }: &Candidate| match sharp.contains(patch) {
            true => Ok(false),
            false => Ok(self.sharpness(maps, *patch)?.is_some_and(|sharpness| sharpness < least)),
        };
        let found: Vec<bool> = boxes.par_iter().map(is_blurred).collect::<Result<_, ScanError>>()?;
        let mut blurred = found.into_iter();
        let taken =
            boxes.extract_if(.., |_| blurred.next().unwrap_or(false)).map(|candidate| candidate.patch).collect();
        sharp.extend(boxes.iter().map(|candidate| candidate.patch));
        Ok(taken)
    }

    /// The sharpness of a box, of as many of the plan's pixels together as come closest to 1 um.
    fn sharpness(&self, maps: &dyn Maps, patch: PatchBox) -> Result<Option<f64>, ScanError> {
        let factor = (SPACING_UM / self.spacing.um_per_px()).round().max(1.0) as usize;
        let tissue = maps.read(patch.x..patch.x + patch.side, patch.y..patch.y + patch.side)?.tissue;
        let light = luminance(&(self.pixels)(patch)?);
        let (side, wide) = (patch.side as usize / factor, patch.side as usize);
        let mut small = (Vec::with_capacity(side * side), Vec::with_capacity(side * side));
        for (y, x) in (0..side).flat_map(|y| (0..side).map(move |x| (y * factor, x * factor))) {
            let places = (y..y + factor).flat_map(|y| (x..x + factor).map(move |x| y * wide + x));
            small.0.push(places.clone().map(|at| light[at]).sum::<f64>() / (factor * factor) as f64);
            small.1.push(u8::from(places.clone().all(|at| tissue[at] != 0)));
        }
        Ok(sharpness(&small.0, side, &small.1))
    }
}

/// Some of a slide's candidates, the same however they come.
#[derive(Default)]
pub(super) struct Sample(Vec<(u64, PatchBox)>);

impl Sample {
    pub(super) fn add(&mut self, candidate: &Candidate) {
        let PatchBox { x, y, .. } = candidate.patch;
        self.0.push((random::seed(&format!("sharpness/{x}/{y}")), candidate.patch));
        if self.0.len() > 2 * SAMPLED {
            self.cut();
        }
    }

    fn boxes(mut self) -> Vec<PatchBox> {
        self.cut();
        self.0.into_iter().map(|(_, patch)| patch).collect()
    }

    fn cut(&mut self) {
        self.0.sort_unstable();
        self.0.truncate(SAMPLED);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use consilium_common::plan::Score;
    use image::imageops;

    use super::*;
    use crate::acquisition::{Turn, candidates, select, shortlist};
    use crate::scan::{ORDINARY, Strip};

    const SIDE: u32 = 320;

    /// A slide of speckles, whose right third is out of focus.
    fn slide() -> RgbImage {
        let speck = |x: u32, y: u32| random::seed(&format!("{x}/{y}")) % 200;
        let mut image = RgbImage::from_fn(SIDE, SIDE, |x, y| image::Rgb([50 + speck(x / 3, y / 3) as u8; 3]));
        let blurred = imageops::blur(&image, 4.0);
        let from = 2 * SIDE / 3;
        imageops::replace(
            &mut image,
            &imageops::crop_imm(&blurred, from, 0, SIDE - from, SIDE).to_image(),
            from.into(),
            0,
        );
        image
    }

    /// Most uncertain to the right.
    fn maps() -> Strip {
        let mut maps = Strip::background(0, SIDE, SIDE, 2);
        maps.tissue.fill(1);
        maps.colour.fill(ORDINARY);
        maps.uncertainty = (0..SIDE * SIDE).map(|i| (i % SIDE) as f32).collect();
        maps.entropy.clone_from(&maps.uncertainty);
        maps
    }

    #[test]
    fn what_is_out_of_focus_is_not_asked_about() {
        let (image, maps) = (slide(), maps());
        let pixels =
            |patch: PatchBox| Ok(imageops::crop_imm(&image, patch.x, patch.y, patch.side, patch.side).to_image());
        let sight = Sight { spacing: Mpp::new(0.5).unwrap(), pixels: &pixels };
        let turn = Turn { round: 0, rounds: 1, seed: "s" };
        for score in Score::ALL {
            let loose = Acquisition::new(score, 4, 32, 0.5);
            let settings = Acquisition { min_sharpness: 0.25, ..loose.clone() };
            let mut all = candidates(&maps, "a", &settings, &[]).unwrap();
            let found = all.len();
            sight.keep_sharp_of(&maps, &mut all, &loose).unwrap();
            assert_eq!(all.len(), found, "nothing is asked of sharpness");
            sight.keep_sharp_of(&maps, &mut all, &settings).unwrap();
            assert!(
                all.iter().all(|c| c.patch.x < 2 * SIDE / 3) && all.iter().any(|c| c.patch.x > SIDE / 2),
                "{score:?}"
            );
            let seen = Mutex::new(BTreeMap::new());
            let counted = |patch: PatchBox| {
                *seen.lock().unwrap().entry(patch).or_insert(0) += 1;
                pixels(patch)
            };
            let counting = Sight { pixels: &counted, ..sight };
            let short = shortlist(&maps, "a", &settings, &[], &turn, &counting).unwrap();
            // Once to say what is sharp on this slide, and once more to be judged.
            assert!(seen.lock().unwrap().values().all(|&times| times <= 2), "{score:?}");
            assert!(!short.is_empty() && short.len() < found);
            assert!(short.iter().all(|candidate| all.contains(candidate)), "{score:?}");
            assert_eq!(select(&short, &settings, &turn), select(&all, &settings, &turn), "{score:?}");
        }
    }

    #[test]
    fn a_sharpness_is_as_numpy_has_it() {
        let text = include_str!("../../tests/golden/acquisition.json");
        let golden = serde_json::from_str::<serde_json::Value>(text).unwrap()["sharpness"].take();
        let bytes = |key: &str| -> Vec<u8> {
            golden[key].as_array().unwrap().iter().map(|value| value.as_u64().unwrap() as u8).collect()
        };
        let image = RgbImage::from_raw(24, 24, bytes("colours")).unwrap();
        let maps = Strip { tissue: bytes("tissue"), ..Strip::background(0, 24, 24, 2) };
        for um in ["0.5", "1"] {
            let sight = Sight { spacing: Mpp::new(um.parse().unwrap()).unwrap(), pixels: &|_| Ok(image.clone()) };
            let found = sight.sharpness(&maps, PatchBox { x: 0, y: 0, side: 24 }).unwrap().unwrap();
            assert!((found - golden[um].as_f64().unwrap()).abs() < 1e-9, "{um}: {found}");
        }
    }

    #[test]
    fn a_slide_that_is_blurred_all_over_is_asked_about() {
        let (image, maps) = (imageops::blur(&slide(), 6.0), maps());
        let pixels =
            |patch: PatchBox| Ok(imageops::crop_imm(&image, patch.x, patch.y, patch.side, patch.side).to_image());
        let sight = Sight { spacing: Mpp::new(0.5).unwrap(), pixels: &pixels };
        let settings = Acquisition { min_sharpness: 0.25, ..Acquisition::new(Score::Entropy, 4, 32, 0.5) };
        let mut all = candidates(&maps, "a", &settings, &[]).unwrap();
        let found = all.len();
        sight.keep_sharp_of(&maps, &mut all, &settings).unwrap();
        assert!(all.len() > found * 9 / 10, "{} of {found}", all.len());
        let coarse = Sight { spacing: Mpp::new(2.1).unwrap(), pixels: &|_| unreachable!("it would show nothing") };
        coarse.keep_sharp_of(&maps, &mut all, &settings).unwrap();
    }

    #[test]
    fn a_sample_does_not_hang_on_the_order() {
        let one = |n: u32| Candidate::at("a", PatchBox { x: n * 7 % 1000, y: n, side: 8 });
        let all: Vec<Candidate> = (0..1000).map(one).collect();
        let mut whole = Sample::default();
        all.iter().for_each(|candidate| whole.add(candidate));
        let mut parts = Sample::default();
        all.iter().rev().for_each(|candidate| parts.add(candidate));
        let (whole, parts) = (whole.boxes(), parts.boxes());
        assert!(whole == parts && whole.len() == SAMPLED);
    }
}
