//! What several tests need: a small plan, constant weights, a house with its own clock.

use std::path::Path;
use std::sync::Arc;

use consilium_common::bundle::{
    Averaging, EnsembleManifest, MemberFile, Normalisation, Padding, Provenance, member_file_name,
};
use consilium_common::messages::{Evaluation, Update, UpdateMetrics};
use consilium_common::plan::{Acquisition, Architecture, Gate, Plan, Quorum, ScanSettings, Score, Task, Training};
use consilium_common::{Digest, GenerationNumber, Mpp, RoundNumber, SiteId, StudyId, tensors};
use tokio_util::sync::CancellationToken;

use crate::blobs::BlobDir;
use crate::clock::fake::FakeClock;
use crate::engine::intake::{Intake, OPERATOR, owner_of};
use crate::engine::{Engine, EngineHandle, Worker};
use crate::store::Store;

pub(crate) fn plan(min_sites: usize, deadline_s: Option<u64>) -> Plan {
    Plan {
        schema: 1,
        title: "test".into(),
        seed: 7,
        rounds: 2,
        members: 2,
        task: Task { classes: vec!["background".into(), "tumour".into()], spacing_um: Mpp::new(4.0).unwrap() },
        architecture: Architecture::plain(2, 4, 2),
        scan: ScanSettings { tile_px: 64, ..ScanSettings::default() },
        acquisition: Acquisition::new(Score::Random, 5, 64, 0.5),
        initial_training: Training::new(1, 1, 64, 0.01),
        fine_tuning: Training::new(1, 1, 64, 0.01),
        rehearsal: Default::default(),
        aggregation: Default::default(),
        quorum: Quorum { min_sites, deadline_s },
        gate: Gate { max_dice_drop: None },
    }
}

/// A member file in which every value is `value`.
pub(crate) fn constant(plan: &Plan, value: f32) -> Vec<u8> {
    let expected = plan.architecture.tensors();
    let mut bytes = tensors::write_header(&expected);
    let elements: usize = expected.iter().map(|t| t.elements()).sum();
    bytes.extend(value.to_le_bytes().repeat(elements));
    bytes
}

/// The manifest of an ensemble of these member files.
pub(crate) fn manifest(plan: &Plan, members: &[Vec<u8>]) -> Vec<u8> {
    let file = |(index, bytes): (usize, &Vec<u8>)| MemberFile {
        file: member_file_name(index),
        digest: Digest::of(bytes),
        bytes: bytes.len() as u64,
    };
    EnsembleManifest {
        schema: 1,
        generation: GenerationNumber(0),
        task: plan.task.clone(),
        architecture: plan.architecture.clone(),
        normalisation: Normalisation::RgbTo01,
        averaging: Averaging::Probabilities,
        padding: Padding::White,
        members: members.iter().enumerate().map(file).collect(),
        provenance: Provenance {
            study: None,
            plan: plan.digest().unwrap(),
            round: None,
            parent: None,
            contributions: Vec::new(),
        },
    }
    .to_bytes()
    .unwrap()
}

pub(crate) fn site(name: &str) -> SiteId {
    name.parse().unwrap()
}

pub(crate) fn study() -> StudyId {
    "s".parse().unwrap()
}

pub(crate) fn evaluation(round: u32, manifest: Digest, dice: f64) -> Evaluation {
    Evaluation {
        study: study(),
        round: RoundNumber(round),
        manifest,
        slides: 1,
        mean_dice: Some(dice),
        pooled_dice: vec![Some(dice)],
        ece: Some(0.1),
    }
}

/// A coordinator without a port.
pub(crate) struct House {
    pub(crate) store: Store,
    pub(crate) blobs: Arc<BlobDir>,
    pub(crate) clock: Arc<FakeClock>,
    pub(crate) engine: EngineHandle,
    pub(crate) intake: Intake,
    worker: Worker,
    stop: CancellationToken,
}

impl House {
    pub(crate) async fn open(dir: &Path, clock: Arc<FakeClock>) -> Self {
        let store = Store::open(&dir.join("db.sqlite")).await.unwrap();
        let blobs = Arc::new(BlobDir::open(&dir.join("blobs")).unwrap());
        let stop = CancellationToken::new();
        let (engine, worker) =
            Engine::start(store.clone(), Arc::clone(&blobs), clock.clone(), stop.clone()).await.unwrap();
        let intake = Intake::new(engine.clone(), store.clone(), Arc::clone(&blobs), clock.clone());
        Self { store, blobs, clock, engine, intake, worker, stop }
    }

    /// Stops everything, as a restart does.
    pub(crate) async fn close(self) {
        self.stop.cancel();
        self.worker.stopped().await;
        self.store.close().await;
    }

    pub(crate) async fn upload(&self, owner: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.store.begin_upload(owner, &digest, bytes.len() as u64, self.now()).await.unwrap();
        let writer = self.blobs.writer(owner, &digest);
        let extent = self.blobs.extent(owner, &digest).unwrap();
        if !extent.complete {
            writer.append(extent.have, &bytes[usize::try_from(extent.have).unwrap()..]).unwrap();
            self.blobs.complete(&writer).unwrap();
        }
        digest
    }

    pub(crate) fn now(&self) -> consilium_common::Timestamp {
        use crate::clock::Clock;
        self.clock.now()
    }

    /// Creates the study with all weights 1 and invites its sites; answers generation 0's manifest.
    pub(crate) async fn create(&self, plan: &Plan, sites: &[&str]) -> Digest {
        for name in sites {
            self.store.invite(&site(name), b"hash", self.now()).await.unwrap();
        }
        let members = vec![constant(plan, 1.0), constant(plan, 1.0)];
        for bytes in &members {
            self.upload(OPERATOR, bytes).await;
        }
        let manifest = self.upload(OPERATOR, &manifest(plan, &members)).await;
        let sites = sites.iter().map(|name| site(name)).collect();
        self.intake.create_study(study(), plan.canonical_bytes().unwrap(), manifest, sites).await.unwrap();
        manifest
    }

    /// An update of a site whose every delta is `value`, its blobs uploaded.
    pub(crate) async fn update(&self, plan: &Plan, name: &str, round: u32, base: Digest, value: f32) -> Update {
        let delta = self.upload(&owner_of(&site(name)), &constant(plan, value)).await;
        Update {
            study: study(),
            round: RoundNumber(round),
            base,
            weight: 1.0,
            members: vec![delta; 2],
            metrics: UpdateMetrics::default(),
        }
    }

    pub(crate) async fn report(&self, name: &str, round: u32, manifest: Digest, dice: f64) {
        let event = consilium_common::round::Event::Evaluated(site(name), evaluation(round, manifest, dice));
        self.engine.event(&study(), event).await.unwrap();
    }

    /// Waits until the study's phase has this name.
    pub(crate) async fn until(&self, phase: &str) -> consilium_common::round::Study {
        let mut changes = self.engine.changes();
        let reached = async {
            loop {
                let entry = changes.borrow_and_update().get(&study()).cloned().unwrap();
                if consilium_common::round::phase_name(&entry.state) == phase {
                    return entry.state.clone();
                }
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), reached).await.expect(phase)
    }
}
