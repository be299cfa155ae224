//! The study as a state machine: which round it is in, what it waits for, and what happens next.
//!
//! ```text
//!                    all sites, or deadline with quorum
//!   Evaluating(g=0) ----------------------------------> publish 0
//!        ^                                                 |
//!        |  Aggregated(candidate)                          v
//!   Aggregating(r) <--------- all, or quorum ------- Collecting(r)  <---- round rejected, failed or published:
//!        |   |                                                            r + 1, until the plan's rounds are done
//!        |   '--> AggregationFailed: keep the generation -----------------> Collecting(r+1) | Ended
//!        '--> Evaluating(r, candidate) --> publish, or reject and keep the generation --> Collecting(r+1) | Ended
//! ```
//!
//! `step` is pure: no clock, no I/O, no randomness. The caller persists the new state together with the `Record*`
//! effects in one transaction, and only then answers and acts.

mod step;
mod task;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use step::step;
pub use task::{next_deadline, phase_name, task_for, waiting_for};

use crate::bundle::Contribution;
use crate::digest::Digest;
use crate::error::ErrorCode;
use crate::ids::{GenerationNumber, RoundNumber, SiteId, StudyId};
use crate::messages::{Evaluation, GenerationRef, Update};
use crate::units::Timestamp;

/// All that a study needs to go on after a restart. Its history (past generations, rejections) is recorded by effects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Study {
    /// Its name.
    pub id: StudyId,
    /// The digest of its plan.
    pub plan: Digest,
    /// Its sites and whether each has joined; a revoked site is taken out.
    pub sites: BTreeMap<SiteId, Membership>,
    /// The published generation, absent until generation 0 has been evaluated.
    pub published: Option<Publication>,
    /// What was accepted in the round before this one, so that a repeated submission is recognised.
    pub last_accepted: BTreeMap<SiteId, Digest>,
    /// Where it stands.
    pub phase: Phase,
}

/// A site's part in a study.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// True once the site has fetched the plan.
    pub joined: bool,
}

/// A published generation and what the sites said of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Publication {
    /// The generation.
    pub generation: GenerationRef,
    /// The round that produced it.
    pub round: RoundNumber,
    /// Evaluations, by site.
    pub evaluations: BTreeMap<SiteId, Evaluation>,
}

/// An update as it was accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accepted {
    /// Digest of the update, its idempotency key.
    pub digest: Digest,
    /// The update.
    pub update: Update,
}

/// Where a study stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "kebab-case")]
pub enum Phase {
    /// Sites evaluate a candidate on their held-out slides.
    Evaluating {
        /// The round that produced the candidate; 0 for generation 0.
        round: RoundNumber,
        /// The candidate.
        candidate: GenerationRef,
        /// Since when.
        since: Timestamp,
        /// Reports so far.
        evaluations: BTreeMap<SiteId, Evaluation>,
    },
    /// Sites learn from the published generation.
    Collecting {
        /// The round.
        round: RoundNumber,
        /// Since when.
        since: Timestamp,
        /// Updates so far.
        updates: BTreeMap<SiteId, Accepted>,
    },
    /// The coordinator computes the candidate.
    Aggregating {
        /// The round.
        round: RoundNumber,
        /// Since when.
        since: Timestamp,
        /// The updates that go in.
        updates: BTreeMap<SiteId, Accepted>,
    },
    /// The study is over.
    Ended {
        /// How it ended.
        outcome: Outcome,
        /// When.
        at: Timestamp,
    },
}

/// How a study ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// All rounds of the plan were held.
    Finished,
    /// An operator, or a failure that cannot mend itself, ended it.
    Aborted {
        /// Why.
        reason: String,
    },
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A site fetched the plan.
    Joined(SiteId),
    /// A site handed in an update whose blobs are complete and checked.
    Submitted(SiteId, Update),
    /// A site reported on a generation.
    Evaluated(SiteId, Evaluation),
    /// The candidate of a round is in the blob store.
    Aggregated(RoundNumber, Digest),
    /// The candidate of a round could not be computed and never can be.
    AggregationFailed(RoundNumber, String),
    /// A site's certificate was revoked.
    Removed(SiteId),
    /// Time has passed.
    Tick,
    /// An operator ends the study.
    Abort(String),
}

/// What the caller does after persisting the new state. `Record*` belong in the same transaction as the state.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Write down a published generation, or one that got a late evaluation (same generation number: replace).
    RecordPublication(Publication),
    /// Write down a round that published nothing.
    RecordRejection {
        /// The round.
        round: RoundNumber,
        /// Why.
        reason: String,
    },
    /// Write down that an update which was accepted is not part of its round: its site left before.
    RecordWithdrawal {
        /// The round.
        round: RoundNumber,
        /// The site.
        site: SiteId,
    },
    /// Compute the candidate, then say `Aggregated` or `AggregationFailed`. Idempotent: asked again after a restart.
    Aggregate(AggregationOrder),
}

/// What to aggregate, in the order in which it is summed.
#[derive(Clone, Debug, PartialEq)]
pub struct AggregationOrder {
    /// The study.
    pub study: StudyId,
    /// The digest of its plan.
    pub plan: Digest,
    /// The round.
    pub round: RoundNumber,
    /// The generation that the deltas are relative to.
    pub base: GenerationRef,
    /// The number that the candidate gets.
    pub generation: GenerationNumber,
    /// Sites sorted by name with weight and update digest, for the manifest.
    pub contributions: Vec<Contribution>,
    /// The delta blobs of each contribution, in member order.
    pub deltas: Vec<Vec<Digest>>,
}

/// Whether an event changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It did.
    Accepted,
    /// The same thing had been accepted before; nothing changed.
    Repeated,
}

/// An event that the state does not allow, and why, for the one who caused it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The kind.
    pub code: ErrorCode,
    /// One sentence with the next step.
    pub message: String,
}

impl Study {
    /// A new study: its sites evaluate generation 0 first, as the baseline of every later one.
    pub fn new(
        id: StudyId,
        plan: Digest,
        sites: impl IntoIterator<Item = SiteId>,
        manifest: Digest,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            plan,
            sites: sites.into_iter().map(|site| (site, Membership::default())).collect(),
            published: None,
            last_accepted: BTreeMap::new(),
            phase: Phase::Evaluating {
                round: RoundNumber(0),
                candidate: GenerationRef { number: GenerationNumber(0), manifest },
                since: now,
                evaluations: BTreeMap::new(),
            },
        }
    }

    /// The round that is being held, absent once the study has ended.
    pub fn round(&self) -> Option<RoundNumber> {
        match &self.phase {
            Phase::Evaluating { round, .. } | Phase::Collecting { round, .. } | Phase::Aggregating { round, .. } => {
                Some(*round)
            }
            Phase::Ended { .. } => None,
        }
    }

    /// The aggregation that a state in `Aggregating` stands for; to be asked for again after a restart.
    pub fn aggregation(&self, plan: &crate::Plan) -> Option<AggregationOrder> {
        step::aggregation_order(self, plan)
    }
}

#[cfg(test)]
mod tests;
