//! For tests: a coordinator that speaks the real protocol over plain loopback, and a small hospital on disk.

mod fake;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use consilium_common::bundle::{MANIFEST_FILE, Provenance};
use consilium_common::messages::WorkOrder;
use consilium_common::plan::{
    Acquisition, Aggregation, Architecture, Gate, Plan, Quorum, SCHEMA, ScanSettings, Score, Task, Training,
};
use consilium_common::{Digest, GenerationNumber, Mpp, RoundNumber};
use consilium_learning::network::{Ensemble, MemberWeights};
use image::{GrayImage, Luma, Rgb, RgbImage};
use tokio::sync::Semaphore;

pub(crate) use fake::{Fake, State};

use crate::agent::Agent;
use crate::boot;
use crate::config::{CorrectorConfig, SiteConfig};
use crate::files;
use crate::journal::Journal;
use crate::layout::Layout;
use crate::ledger::Ledger;
use crate::link::{Dial, Link};

pub(crate) const PATCH: u32 = 32;
pub(crate) const SIDE: u32 = 128;

pub(crate) fn plan() -> Plan {
    let mut fine_tuning = Training::new(3, 2, PATCH, 0.01);
    fine_tuning.freeze_norm_statistics = true;
    Plan {
        schema: SCHEMA,
        title: "a small study".into(),
        seed: 7,
        rounds: 2,
        members: 2,
        task: Task { classes: vec!["background".into(), "tumour".into()], spacing_um: Mpp::new(4.0).unwrap() },
        architecture: Architecture::plain(2, 4, 2),
        scan: ScanSettings { tile_px: PATCH, ..ScanSettings::default() },
        acquisition: Acquisition::new(Score::UgaMean, 2, PATCH, 0.3),
        initial_training: Training::new(2, 1, PATCH, 0.01),
        fine_tuning,
        rehearsal: Default::default(),
        aggregation: Aggregation::default(),
        quorum: Quorum { min_sites: 1, deadline_s: None },
        gate: Gate::default(),
    }
}

/// A hospital: two pool slides, one of the train split, one held out, and a broken one.
pub(crate) struct Scene {
    dir: tempfile::TempDir,
    pub(crate) plan: Plan,
    pub(crate) manifest: Digest,
    pub(crate) bundle: PathBuf,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        fs::create_dir_all(data.join("slides")).unwrap();
        fs::create_dir_all(data.join("masks")).unwrap();
        for (index, name) in ["P1", "P2", "R1", "T1"].into_iter().enumerate() {
            let (image, mask) = slide(index as u32);
            image.save(data.join(format!("slides/{name}.png"))).unwrap();
            mask.save(data.join(format!("masks/{name}.png"))).unwrap();
        }
        fs::write(data.join("slides/BROKEN.png"), b"not a picture").unwrap();
        let table = "slide,mpp,split\nP1,4,pool\nP2,4,pool\nR1,4,train\nT1,4,test\nBROKEN,4,pool\n";
        fs::write(data.join("slides.csv"), table).unwrap();
        let plan = plan();
        let bundle = dir.path().join("bundle");
        let manifest = save_bundle(&bundle, &plan, 1, GenerationNumber(0));
        Self { dir, plan, manifest, bundle }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn order(&self, round: u32) -> WorkOrder {
        WorkOrder {
            study: "small".parse().unwrap(),
            plan: self.plan.digest().unwrap(),
            round: RoundNumber(round),
            generation: GenerationNumber(0),
            manifest: self.manifest,
        }
    }

    pub(crate) fn config(&self, state: &str, corrector: CorrectorConfig) -> SiteConfig {
        let (state, data) = (self.path().join(state), self.path().join("data"));
        SiteConfig::new("https://127.0.0.1:1", "hospital-a".parse().unwrap(), state, data, corrector)
    }

    /// A coordinator that serves this study's plan and first generation.
    pub(crate) async fn coordinator(&self) -> Fake {
        let fake = Fake::start(self.plan.canonical_bytes().unwrap()).await;
        for entry in fs::read_dir(&self.bundle).unwrap() {
            fake.add_blob(fs::read(entry.unwrap().path()).unwrap());
        }
        fake
    }

    /// An agent over a state folder, as the daemon would build it.
    pub(crate) async fn agent(&self, fake: &Fake, state: &str, corrector: CorrectorConfig) -> Agent {
        let config = self.config(state, corrector);
        let layout = Layout::new(&config.state_dir);
        files::create_dir(layout.root()).unwrap();
        let ledger = Arc::new(Ledger::open(&layout.ledger()).unwrap());
        let link = Link::new(Dial::Open(fake.channel()), ledger);
        let journal = Journal::open(&layout.journal()).await.unwrap();
        let compute = Arc::new(Semaphore::new(2));
        Agent::new(boot::assemble(config, layout, journal, link, compute).unwrap())
    }
}

pub(crate) fn save_bundle(dir: &Path, plan: &Plan, seed: u64, generation: GenerationNumber) -> Digest {
    let members: Vec<MemberWeights> =
        (0..plan.members as u64).map(|m| MemberWeights::initialise(&plan.architecture, seed + m)).collect();
    let provenance =
        Provenance { study: None, plan: plan.digest().unwrap(), round: None, parent: None, contributions: vec![] };
    Ensemble::save(dir, &plan.task, &plan.architecture, &members, provenance, generation).unwrap();
    Digest::of(&fs::read(dir.join(MANIFEST_FILE)).unwrap())
}

/// Glass on the left, pink tissue on the right, dark tumour in a disc.
fn slide(index: u32) -> (RgbImage, GrayImage) {
    let inside = |x: u32, y: u32| {
        let (dx, dy) = (f64::from(x) - 90.0, f64::from(y) - 40.0 - 10.0 * f64::from(index));
        dx.hypot(dy) < 22.0
    };
    let noise = |x: u32, y: u32| ((x * 7 + y * 13 + index * 29) % 17) as u8;
    let image = RgbImage::from_fn(SIDE, SIDE, |x, y| match (x < 32, inside(x, y)) {
        (true, _) => Rgb([245, 244, 246]),
        (_, true) => Rgb([110 + noise(x, y), 60 + noise(y, x), 140]),
        _ => Rgb([215 - noise(x, y), 140 + noise(y, x), 190]),
    });
    let mask = GrayImage::from_fn(SIDE, SIDE, |x, y| Luma([u8::from(inside(x, y))]));
    (image, mask)
}
