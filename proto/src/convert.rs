//! Conversions between the wire and the domain. From the wire everything is checked; to the wire nothing can fail.

use std::str::FromStr;

use consilium_common::messages::{Evaluation, Progress, Stage, Task, Update, UpdateMetrics, WorkOrder};
use consilium_common::{Digest, GenerationNumber, Invalid, RoundNumber, Timestamp, limits};

use crate::v1;

/// A digest from its 32 bytes on the wire.
pub fn digest_from(bytes: &[u8]) -> Result<Digest, Invalid> {
    Digest::try_from(bytes)
}

/// A site or study name from the wire.
pub fn parse_id<T: FromStr<Err = Invalid>>(text: &str) -> Result<T, Invalid> {
    text.parse()
}

fn bytes(digest: &Digest) -> Vec<u8> {
    digest.as_bytes().to_vec()
}

impl From<&WorkOrder> for v1::WorkOrder {
    fn from(order: &WorkOrder) -> Self {
        Self {
            study_id: order.study.to_string(),
            plan_digest: bytes(&order.plan),
            round: order.round.0,
            generation: order.generation.0,
            manifest_digest: bytes(&order.manifest),
        }
    }
}

impl TryFrom<v1::WorkOrder> for WorkOrder {
    type Error = Invalid;
    fn try_from(order: v1::WorkOrder) -> Result<Self, Invalid> {
        Ok(Self {
            study: order.study_id.parse()?,
            plan: digest_from(&order.plan_digest)?,
            round: RoundNumber(order.round),
            generation: GenerationNumber(order.generation),
            manifest: digest_from(&order.manifest_digest)?,
        })
    }
}

impl From<&Task> for v1::NextTaskResponse {
    fn from(task: &Task) -> Self {
        use v1::next_task_response::Task as Wire;
        let wire = match task {
            Task::Wait { waiting_for, since } => {
                Wire::Wait(v1::Wait { waiting_for: waiting_for.clone(), since_unix_ms: since.0 })
            }
            Task::Learn(order) => Wire::Learn(order.into()),
            Task::Evaluate(order) => Wire::Evaluate(order.into()),
        };
        Self { task: Some(wire) }
    }
}

impl TryFrom<v1::NextTaskResponse> for Task {
    type Error = Invalid;
    fn try_from(response: v1::NextTaskResponse) -> Result<Self, Invalid> {
        use v1::next_task_response::Task as Wire;
        match response
            .task
            .ok_or_else(|| Invalid::new("task", "is missing; is the coordinator newer than this site?"))?
        {
            Wire::Wait(wait) => Ok(Self::Wait { waiting_for: wait.waiting_for, since: Timestamp(wait.since_unix_ms) }),
            Wire::Learn(order) => Ok(Self::Learn(order.try_into()?)),
            Wire::Evaluate(order) => Ok(Self::Evaluate(order.try_into()?)),
        }
    }
}

const STAGES: [(Stage, v1::Stage); 7] = [
    (Stage::Download, v1::Stage::Download),
    (Stage::Scan, v1::Stage::Scan),
    (Stage::Select, v1::Stage::Select),
    (Stage::Correct, v1::Stage::Correct),
    (Stage::FineTune, v1::Stage::FineTune),
    (Stage::Upload, v1::Stage::Upload),
    (Stage::Evaluate, v1::Stage::Evaluate),
];

impl From<Stage> for v1::Stage {
    fn from(stage: Stage) -> Self {
        STAGES.into_iter().find(|(domain, _)| *domain == stage).map_or(Self::Unspecified, |(_, wire)| wire)
    }
}

impl TryFrom<v1::Stage> for Stage {
    type Error = Invalid;
    fn try_from(stage: v1::Stage) -> Result<Self, Invalid> {
        let found = STAGES.into_iter().find(|(_, wire)| *wire == stage);
        found.map(|(domain, _)| domain).ok_or_else(|| Invalid::new("stage", "is not given"))
    }
}

impl From<&Progress> for v1::ReportProgressRequest {
    fn from(progress: &Progress) -> Self {
        Self {
            study_id: progress.study.to_string(),
            round: progress.round.0,
            stage: v1::Stage::from(progress.stage).into(),
            done: progress.done,
            total: progress.total,
        }
    }
}

impl TryFrom<v1::ReportProgressRequest> for Progress {
    type Error = Invalid;
    fn try_from(request: v1::ReportProgressRequest) -> Result<Self, Invalid> {
        let stage = request.stage();
        Ok(Self {
            study: request.study_id.parse()?,
            round: RoundNumber(request.round),
            stage: stage.try_into()?,
            done: request.done,
            total: request.total,
        })
    }
}

impl From<&UpdateMetrics> for v1::UpdateMetrics {
    fn from(m: &UpdateMetrics) -> Self {
        Self {
            slides_scanned: m.slides_scanned,
            patches_corrected: m.patches_corrected,
            patches_trained: m.patches_trained,
            mean_uncertainty: m.mean_uncertainty,
            dice_before_correction: m.dice_before_correction,
            loss_first: m.loss_first,
            loss_last: m.loss_last,
            control_dice: m.control_dice,
        }
    }
}

impl From<v1::UpdateMetrics> for UpdateMetrics {
    fn from(m: v1::UpdateMetrics) -> Self {
        Self {
            slides_scanned: m.slides_scanned,
            patches_corrected: m.patches_corrected,
            patches_trained: m.patches_trained,
            mean_uncertainty: m.mean_uncertainty,
            dice_before_correction: m.dice_before_correction,
            loss_first: m.loss_first,
            loss_last: m.loss_last,
            control_dice: m.control_dice,
        }
    }
}

impl From<&Update> for v1::SubmitRequest {
    fn from(update: &Update) -> Self {
        Self {
            study_id: update.study.to_string(),
            round: update.round.0,
            base_manifest_digest: bytes(&update.base),
            weight: update.weight,
            member_digests: update.members.iter().map(bytes).collect(),
            metrics: Some((&update.metrics).into()),
        }
    }
}

/// Shape and digests are checked here; numbers against the plan by `Update::validate`.
impl TryFrom<v1::SubmitRequest> for Update {
    type Error = Invalid;
    fn try_from(request: v1::SubmitRequest) -> Result<Self, Invalid> {
        if request.member_digests.len() > limits::MAX_MEMBERS {
            return Err(Invalid::new("update.members", format!("more than {} deltas", limits::MAX_MEMBERS)));
        }
        let metrics = request.metrics.ok_or_else(|| Invalid::new("update.metrics", "is missing"))?;
        Ok(Self {
            study: request.study_id.parse()?,
            round: RoundNumber(request.round),
            base: digest_from(&request.base_manifest_digest)?,
            weight: request.weight,
            members: request.member_digests.iter().map(|d| digest_from(d)).collect::<Result<_, _>>()?,
            metrics: metrics.into(),
        })
    }
}

impl From<&Evaluation> for v1::ReportEvaluationRequest {
    fn from(report: &Evaluation) -> Self {
        Self {
            study_id: report.study.to_string(),
            round: report.round.0,
            manifest_digest: bytes(&report.manifest),
            slides: report.slides,
            mean_dice: report.mean_dice,
            pooled_dice: report.pooled_dice.iter().map(|&value| v1::OptionalDice { value }).collect(),
            ece: report.ece,
        }
    }
}

/// Figures are checked against the plan by `Evaluation::validate`.
impl TryFrom<v1::ReportEvaluationRequest> for Evaluation {
    type Error = Invalid;
    fn try_from(request: v1::ReportEvaluationRequest) -> Result<Self, Invalid> {
        if request.pooled_dice.len() > limits::MAX_CLASSES {
            return Err(Invalid::new("evaluation.pooled_dice", format!("more than {} classes", limits::MAX_CLASSES)));
        }
        Ok(Self {
            study: request.study_id.parse()?,
            round: RoundNumber(request.round),
            manifest: digest_from(&request.manifest_digest)?,
            slides: request.slides,
            mean_dice: request.mean_dice,
            pooled_dice: request.pooled_dice.iter().map(|d| d.value).collect(),
            ece: request.ece,
        })
    }
}
