//! What an operator sees of sites and studies. The server fills these, the client and its tables read them; `rpc::convert`
//! carries them over the wire.

use consilium_common::messages::{Stage, UpdateMetrics};
use consilium_common::{Digest, GenerationNumber, RoundNumber, SiteId, StudyId, Timestamp};
use serde::Serialize;

/// Whether a site may work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It has a token and no certificate.
    Invited,
    /// It has a valid certificate.
    Enrolled,
    /// Its certificate is revoked.
    Revoked,
}

/// A site as the coordinator knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SiteView {
    /// Its name.
    pub site: SiteId,
    /// Whether it may work.
    pub standing: Standing,
    /// When it was last heard of.
    pub last_seen: Option<Timestamp>,
    /// When its certificate expires.
    pub certificate_expires: Option<Timestamp>,
}

/// A fresh invitation. The token is shown once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InvitationView {
    /// The one-time token.
    pub token: String,
    /// SHA-256 of the coordinator's CA certificate, hexadecimal.
    pub ca_fingerprint: String,
    /// When the token expires.
    pub expires: Timestamp,
}

/// A study in one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StudySummary {
    /// Its name.
    pub study: StudyId,
    /// The plan's title.
    pub title: String,
    /// evaluating, collecting, aggregating, finished or aborted.
    pub phase: String,
    /// The round that is being held, or was last.
    pub round: RoundNumber,
    /// Rounds of the plan.
    pub rounds: u32,
    /// The published generation, 0 from the beginning.
    pub generation: GenerationNumber,
    /// For whom or what it waits.
    pub waiting_for: String,
    /// Since when.
    pub since: Timestamp,
}

/// A site's part in the current round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SiteProgress {
    /// The site.
    pub site: SiteId,
    /// Whether it has fetched the plan.
    pub joined: bool,
    /// What it has handed in for this phase: "", "update", "pass" or "evaluation".
    pub answered: String,
    /// What it says it is doing, units done and in all.
    pub stage: Option<(Stage, u64, u64)>,
    /// When it was last heard of.
    pub last_seen: Option<Timestamp>,
}

/// A site's figures for a generation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SiteEvaluation {
    /// The site.
    pub site: SiteId,
    /// Held-out slides.
    pub slides: u32,
    /// Mean over slides of the mean foreground Dice.
    pub mean_dice: Option<f64>,
    /// Expected calibration error.
    pub ece: Option<f64>,
}

/// A published generation with what the sites said of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GenerationView {
    /// Its number.
    pub generation: GenerationNumber,
    /// The blob of its manifest.
    pub manifest: Digest,
    /// The round that produced it.
    pub round: RoundNumber,
    /// Figures by site.
    pub evaluations: Vec<SiteEvaluation>,
}

/// What a site said with an update that was accepted and not withdrawn with its site.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UpdateView {
    /// The round that the update is of.
    pub round: RoundNumber,
    /// The site.
    pub site: SiteId,
    /// The weight that it asked for; 0 for a pass.
    pub weight: f64,
    /// How the update came about, in numbers.
    pub metrics: UpdateMetrics,
}

/// All that is to be seen of a study.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StudyView {
    /// The study in one line.
    pub summary: StudySummary,
    /// The digest of its plan.
    pub plan: Digest,
    /// Its sites.
    pub sites: Vec<SiteProgress>,
    /// Its published generations, in order.
    pub generations: Vec<GenerationView>,
    /// The accepted updates of the newest rounds, by round and site.
    pub updates: Vec<UpdateView>,
    /// Rounds that published nothing, in order, with the reason.
    pub rejected: Vec<(RoundNumber, String)>,
    /// How it ended; empty while it runs.
    pub outcome: String,
}

impl StudyView {
    /// True once nothing more will happen.
    pub fn has_ended(&self) -> bool {
        !self.outcome.is_empty()
    }
}
