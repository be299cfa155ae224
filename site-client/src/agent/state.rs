//! What the agent does, as a value: persisted in the journal at every transition, shown by `status`, and enough to go on
//! after a crash. What a step has finished is in the journal beside it, so beginning a task again costs nothing.

use std::fmt;

use consilium_common::messages::WorkOrder;
use serde::{Deserialize, Serialize};

/// A step of the learn task, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub(crate) enum LearnStep {
    /// Fetching and checking the plan.
    Join,
    /// Fetching the ensemble.
    Download,
    /// Running the ensemble over the pool slides.
    Scan,
    /// Choosing patches.
    Select,
    /// Waiting for corrections.
    Correct {
        /// Patches that came back.
        corrected: u32,
        /// Patches that were handed out.
        asked: u32,
    },
    /// Fine-tuning the members.
    FineTune,
    /// Uploading the deltas.
    Upload,
    /// Handing in the update.
    Submit,
}

/// A step of the evaluate task, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum EvaluateStep {
    /// Fetching and checking the plan.
    Join,
    /// Fetching the ensemble.
    Download,
    /// Running the ensemble over the held-out slides.
    Scan,
    /// Handing in the figures.
    Report,
}

/// Learn or evaluate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TaskKind {
    /// Scan, select, correct, fine-tune, submit.
    Learn,
    /// Evaluate a candidate.
    Evaluate,
}

impl TaskKind {
    /// Its name in the journal.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Learn => "learn",
            Self::Evaluate => "evaluate",
        }
    }
}

/// What the agent does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub(crate) enum AgentState {
    /// Nothing is asked of this site.
    Idle {
        /// For whom or what the study waits, in the coordinator's words.
        waiting_for: String,
    },
    /// Working on a learn task.
    Learning {
        /// The task.
        order: WorkOrder,
        /// How far it is.
        #[serde(flatten)]
        step: LearnStep,
    },
    /// Working on an evaluate task.
    Evaluating {
        /// The task.
        order: WorkOrder,
        /// How far it is.
        step: EvaluateStep,
    },
    /// A task cannot go on; it is tried again by and by.
    Blocked {
        /// The task.
        order: WorkOrder,
        /// Which kind.
        task: TaskKind,
        /// What is in the way, with the next step.
        problem: String,
    },
    /// The coordinator does not want this site. Ends the daemon.
    Refused {
        /// The reason.
        reason: String,
    },
}

impl AgentState {
    /// The task to go on with after a restart.
    pub(crate) fn open_task(&self) -> Option<(TaskKind, &WorkOrder)> {
        match self {
            Self::Learning { order, .. } => Some((TaskKind::Learn, order)),
            Self::Evaluating { order, .. } => Some((TaskKind::Evaluate, order)),
            Self::Blocked { order, task, .. } => Some((*task, order)),
            Self::Idle { .. } | Self::Refused { .. } => None,
        }
    }
}

impl fmt::Display for LearnStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Join => f.write_str("waiting for the coordinator: fetching the plan"),
            Self::Download => f.write_str("waiting for the coordinator: fetching the ensemble"),
            Self::Scan => f.write_str("scanning the pool slides"),
            Self::Select => f.write_str("selecting patches"),
            Self::Correct { corrected, asked } => write!(f, "waiting for corrections: {corrected} of {asked}"),
            Self::FineTune => f.write_str("fine-tuning the members"),
            Self::Upload => f.write_str("waiting for the coordinator: uploading the deltas"),
            Self::Submit => f.write_str("waiting for the coordinator: handing in the update"),
        }
    }
}

impl fmt::Display for EvaluateStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Join => "waiting for the coordinator: fetching the plan",
            Self::Download => "waiting for the coordinator: fetching the candidate",
            Self::Scan => "evaluating on the held-out slides",
            Self::Report => "waiting for the coordinator: handing in the evaluation",
        })
    }
}

impl fmt::Display for AgentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle { waiting_for } => write!(f, "nothing to do; waiting for: {waiting_for}"),
            Self::Learning { order, step } => write!(f, "{}, round {}: {step}", order.study, order.round),
            Self::Evaluating { order, step } => write!(f, "{}, round {}: {step}", order.study, order.round),
            Self::Blocked { order, task, problem } => {
                let task = task.as_str();
                write!(f, "{}, round {}: {task} cannot go on and is tried again: {problem}", order.study, order.round)
            }
            Self::Refused { reason } => write!(f, "refused: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use consilium_common::{Digest, GenerationNumber, RoundNumber};

    #[test]
    fn a_state_survives_the_journal_and_says_what_it_waits_for() {
        let order = WorkOrder {
            study: "liver".parse().unwrap(),
            plan: Digest::of(b"p"),
            round: RoundNumber(3),
            generation: GenerationNumber(2),
            manifest: Digest::of(b"m"),
        };
        let state = AgentState::Learning { order, step: LearnStep::Correct { corrected: 3, asked: 5 } };
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<AgentState>(&text).unwrap(), state);
        assert_eq!(state.to_string(), "liver, round 3: waiting for corrections: 3 of 5");
    }
}
