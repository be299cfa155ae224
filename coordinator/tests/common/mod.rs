//! A real coordinator on a loopback port, sites that enrol with it, and a small study.
#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod site;

use std::path::Path;
use std::time::Duration;

use consilium_common::bundle::{
    Averaging, EnsembleManifest, MemberFile, Normalisation, Padding, Provenance, member_file_name,
};
use consilium_common::plan::{Acquisition, Architecture, Gate, Plan, Quorum, ScanSettings, Score, Task, Training};
use consilium_common::{Digest, GenerationNumber, Mpp, SiteId, StudyId, tensors};
use consilium_coordinator::client::{OperatorClient, OperatorConfig};
use consilium_coordinator::{CoordinatorConfig, init, serve};
use consilium_proto::channel::{self, Identity, Trust};
use consilium_proto::v1;
use consilium_proto::v1::federation_client::FederationClient;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::Channel;

pub(crate) struct Coordinator {
    pub(crate) dir: TempDir,
    pub(crate) address: String,
    pub(crate) fingerprint: String,
    pub(crate) operator: OperatorClient,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

pub(crate) struct EnrolledSite {
    pub(crate) identity: Identity,
    pub(crate) ca_pem: String,
    pub(crate) channel: Channel,
}

impl Coordinator {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let report = init(dir.path(), &[]).unwrap();
        Self::serve(dir, report.ca_fingerprint).await
    }

    async fn serve(dir: TempDir, fingerprint: String) -> Self {
        let config = CoordinatorConfig { data_dir: dir.path().to_owned(), listen: "127.0.0.1:0".parse().unwrap() };
        let (ready, address) = oneshot::channel();
        let stop = CancellationToken::new();
        let token = stop.clone();
        let running = tokio::spawn(async move { serve(config, ready, token).await.unwrap() });
        let address = address.await.unwrap();
        let operator = OperatorConfig::of_data_dir(dir.path()).unwrap().at(address);
        let operator = OperatorClient::connect(&operator).await.unwrap();
        Self { dir, address: format!("https://{address}"), fingerprint, operator, stop, running }
    }

    pub(crate) async fn stop(self) -> (TempDir, String) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(20), self.running).await.expect("stops in time").unwrap();
        (self.dir, self.fingerprint)
    }

    pub(crate) async fn restart(self) -> Self {
        let (dir, fingerprint) = self.stop().await;
        Self::serve(dir, fingerprint).await
    }

    /// Enrols with a token, the CA pinned by its fingerprint.
    pub(crate) async fn enrol_with(&self, name: &str, token: &str, key: &KeyPair) -> Result<v1::EnrolResponse, Status> {
        let pinned = Trust::Fingerprint(self.fingerprint.clone());
        let channel = channel::connect(&self.address, None, &pinned).await.unwrap();
        let csr_pem = CertificateParams::default().serialize_request(key).unwrap().pem().unwrap();
        let request = v1::EnrolRequest { site_id: name.into(), token: token.into(), csr_pem };
        Ok(FederationClient::new(channel).enrol(request).await?.into_inner())
    }

    /// Invites and enrols a site and connects as it.
    pub(crate) async fn site(&self, name: &str) -> EnrolledSite {
        let token = self.operator.invite(&site(name), 0).await.unwrap().token;
        let key = KeyPair::generate().unwrap();
        let answer = self.enrol_with(name, &token, &key).await.unwrap();
        let identity = Identity { certificate_pem: answer.certificate_pem, key_pem: key.serialize_pem() };
        let channel = self.connect(&identity, &answer.ca_pem).await.unwrap();
        EnrolledSite { identity, ca_pem: answer.ca_pem, channel }
    }

    pub(crate) async fn connect(&self, identity: &Identity, ca_pem: &str) -> Result<Channel, channel::ChannelError> {
        channel::connect(&self.address, Some(identity), &Trust::Ca(ca_pem.into())).await
    }
}

pub(crate) fn site(name: &str) -> SiteId {
    name.parse().unwrap()
}

pub(crate) fn study(name: &str) -> StudyId {
    name.parse().unwrap()
}

pub(crate) fn plan() -> Plan {
    plan_of(Architecture::plain(2, 8, 3), 2)
}

pub(crate) fn plan_of(architecture: Architecture, members: usize) -> Plan {
    Plan {
        schema: 1,
        title: "test".into(),
        seed: 7,
        rounds: 1,
        members,
        task: Task { classes: vec!["background".into(), "tumour".into()], spacing_um: Mpp::new(4.0).unwrap() },
        architecture,
        scan: ScanSettings { tile_px: 64, ..ScanSettings::default() },
        acquisition: Acquisition::new(Score::Random, 5, 64, 0.5),
        initial_training: Training::new(1, 1, 64, 0.01),
        fine_tuning: Training::new(1, 1, 64, 0.01),
        rehearsal: Default::default(),
        aggregation: Default::default(),
        quorum: Quorum { min_sites: 1, deadline_s: None },
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

/// Writes a bundle whose member m has weights m everywhere; answers its manifest's bytes.
pub(crate) fn write_bundle(dir: &Path, plan: &Plan) -> Vec<u8> {
    let mut members = Vec::new();
    for index in 0..plan.members {
        let bytes = constant(plan, f32::from(u8::try_from(index).unwrap()));
        std::fs::write(dir.join(member_file_name(index)), &bytes).unwrap();
        let (digest, len) = (Digest::of(&bytes), bytes.len() as u64);
        members.push(MemberFile { file: member_file_name(index), digest, bytes: len });
    }
    let provenance =
        Provenance { study: None, plan: plan.digest().unwrap(), round: None, parent: None, contributions: Vec::new() };
    let manifest = EnsembleManifest {
        schema: 1,
        generation: GenerationNumber(0),
        task: plan.task.clone(),
        architecture: plan.architecture.clone(),
        normalisation: Normalisation::RgbTo01,
        averaging: Averaging::Probabilities,
        padding: Padding::White,
        members,
        provenance,
    };
    let bytes = manifest.to_bytes().unwrap();
    std::fs::write(dir.join("ensemble.json"), &bytes).unwrap();
    bytes
}
