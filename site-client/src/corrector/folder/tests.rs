//! The folder corrector against a person who is slow, careless and finally right.

use super::*;
use consilium_common::plan::{Task, UNLABELLED};
use consilium_common::{GenerationNumber, Mpp, RoundNumber};
use consilium_learning::acquisition::PatchBox;
use image::{GrayImage, Luma, Rgb, RgbImage};

use crate::corrector::Outcome;

struct Scene {
    _dir: tempfile::TempDir,
    shared: PathBuf,
    batch: Batch,
    corrector: FolderCorrector,
}

const SIDE: u32 = 16;

fn prediction() -> GrayImage {
    GrayImage::from_fn(SIDE, SIDE, |x, _| Luma([u8::from(x > 7)]))
}

fn scene(settled: Duration) -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: Vec<u8>| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let offered = OfferedPatch {
        name: "patch-01".into(),
        slide: "S1".into(),
        patch: PatchBox { x: 32, y: 48, side: SIDE },
        level0: (64, 96),
        image: write("i.png", picture::png(RgbImage::from_pixel(SIDE, SIDE, Rgb([200, 120, 180]))).unwrap()),
        prediction: write("p.png", picture::png(prediction()).unwrap()),
        uncertainty: write("u.png", picture::png(GrayImage::from_pixel(SIDE, SIDE, Luma([20]))).unwrap()),
    };
    let task = Task { classes: vec!["background".into(), "tumour".into()], spacing_um: Mpp::new(1.0).unwrap() };
    let batch = Batch {
        study: "liver".parse().unwrap(),
        round: RoundNumber(2),
        generation: GenerationNumber(1),
        task,
        patches: vec![offered],
    };
    let shared = dir.path().join("shared");
    let corrector = FolderCorrector { dir: shared.clone(), person: Some("Dr. A".into()), settled };
    corrector.offer(&batch).unwrap();
    Scene { shared: shared.join("liver/round-2"), _dir: dir, batch, corrector }
}

impl Scene {
    fn save(&self, bytes: &[u8]) {
        fs::write(self.shared.join("patch-01-correction.png"), bytes).unwrap();
    }
    fn poll(&self) -> Vec<Correction> {
        self.corrector.poll(&self.batch, &[0]).unwrap()
    }
    fn problem(&self) -> Option<String> {
        fs::read_to_string(self.shared.join("patch-01-correction.problem.txt")).ok()
    }
}

#[test]
fn the_folder_explains_itself() {
    let scene = scene(SETTLED);
    let mut names: Vec<String> =
        fs::read_dir(&scene.shared).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let png = |kind: &str| format!("patch-01-{kind}.png");
    assert_eq!(names, ["README.txt".into(), png("image"), png("overlay"), png("prediction"), png("uncertainty")]);
    let readme = fs::read_to_string(scene.shared.join("README.txt")).unwrap();
    assert!(readme.contains("  1  #009e73  tumour\n"), "{readme}");
    assert!(readme.contains("patch-01  slide S1  x 64  y 96"), "{readme}");
}

#[test]
fn an_edited_map_is_taken_with_its_provenance() {
    let scene = scene(SETTLED);
    assert!(scene.poll().is_empty());
    let edited = GrayImage::from_fn(SIDE, SIDE, |x, _| Luma([u8::from(x > 5)]));
    scene.save(&picture::palette_png(&edited).unwrap());
    let taken = scene.poll().remove(0);
    assert_eq!(taken.labels, edited);
    assert_eq!(taken.provenance.outcome, Outcome::Edited);
    assert_eq!((taken.provenance.who.as_str(), taken.provenance.generation), ("Dr. A", GenerationNumber(1)));
    assert!(taken.provenance.when.starts_with("20"), "{}", taken.provenance.when);
}

#[test]
fn unchanged_is_accepted_and_all_white_is_rejected() {
    let scene = scene(SETTLED);
    scene.save(&picture::png(prediction()).unwrap());
    assert_eq!(scene.poll()[0].provenance.outcome, Outcome::Accepted);
    scene.save(&picture::png(GrayImage::from_pixel(SIDE, SIDE, Luma([UNLABELLED]))).unwrap());
    assert_eq!(scene.poll()[0].provenance.outcome, Outcome::Rejected);
}

#[test]
fn half_a_file_is_waited_for_and_refused_only_once_it_has_settled() {
    let whole = picture::png(prediction()).unwrap();
    let patient = scene(Duration::from_secs(3600));
    patient.save(&whole[..whole.len() / 2]);
    assert!(patient.poll().is_empty());
    assert_eq!(patient.problem(), None, "it may still be on its way");
    patient.save(&whole);
    assert_eq!(patient.poll().len(), 1);

    let settled = scene(Duration::ZERO);
    settled.save(&whole[..whole.len() / 2]);
    assert!(settled.poll().is_empty());
    assert!(settled.problem().unwrap().contains("save it again as PNG"));
}

#[test]
fn a_wrong_file_is_refused_clearly_and_the_note_goes_when_it_is_right() {
    let scene = scene(SETTLED);
    scene.save(&picture::png(GrayImage::new(8, 8)).unwrap());
    assert!(scene.poll().is_empty());
    let problem = scene.problem().unwrap();
    assert!(problem.contains("8 x 8 pixels and must be 16 x 16"), "{problem}");
    scene.save(&picture::png(GrayImage::from_pixel(SIDE, SIDE, Luma([7]))).unwrap());
    assert!(scene.poll().is_empty());
    assert!(scene.problem().unwrap().contains("has the value 7"));
    scene.save(&picture::png(prediction()).unwrap());
    assert_eq!(scene.poll().len(), 1);
    assert_eq!(scene.problem(), None);
}
