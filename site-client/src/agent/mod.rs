//! The agent: one task that owns what this site does. It asks the coordinator what to do, walks through the steps, and
//! writes its state into the journal at every transition. Killed at any moment it goes on where it was.
//!
//! While it works it keeps an eye on the coordinator: when something else is asked (the round was closed, a candidate is
//! to be evaluated), the task is put aside. What it had finished stays and is used if it is asked for again.

mod state;

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use consilium_common::limits;
use consilium_common::messages::{Task, WorkOrder};
use tracing::{error, info};

pub(crate) use state::{AgentState, EvaluateStep, LearnStep, TaskKind};

use crate::clock::Stopwatch;
use crate::error::SiteError;
use crate::link::{LinkError, Outbound};
use crate::work::{Job, Work, correct, evaluate, fetch, fine_tune, patches, scan, select, submit};

/// How often the coordinator is asked, during a task, whether the task still stands.
const RECHECK: Duration = Duration::from_secs(20);
/// A coordinator that answers "wait" without waiting is not asked more often than this.
const PAUSE: Duration = Duration::from_secs(1);

/// How soon `status` learns of a broken connection.
const NOTE: Duration = Duration::from_secs(2);

/// A task to do.
type Assigned = (TaskKind, WorkOrder);

/// How a task ended.
enum End {
    Done,
    /// Something else is asked.
    PutAside(Option<Assigned>),
}

/// The agent of one site.
pub(crate) struct Agent {
    pub(crate) work: Work,
    recheck: Duration,
}

impl Agent {
    pub(crate) fn new(work: Work) -> Self {
        Self { work, recheck: RECHECK }
    }

    /// Works until something happens that only a person can change.
    pub(crate) async fn run(&self) -> Result<(), SiteError> {
        tokio::select! {
            ended = self.work_on() => ended,
            () = self.report_progress() => Ok(()),
            noted = self.note_connection() => noted,
        }
    }

    /// Keeps in the journal what stands between this site and the coordinator, for `status`.
    async fn note_connection(&self) -> Result<(), SiteError> {
        let mut noted = None;
        loop {
            let cause = self.work.link.patience.cause();
            // Best effort: with a full disk the work itself meets the problem and says so.
            if cause != noted && self.work.journal.set_note(cause.as_deref()).await.is_ok() {
                noted = cause;
            }
            tokio::time::sleep(NOTE).await;
        }
    }

    async fn work_on(&self) -> Result<(), SiteError> {
        let before = self.work.journal.now().await?;
        if before.is_none() {
            self.work.journal.set_state(&AgentState::Idle { waiting_for: "the coordinator".to_owned() }).await?;
        }
        let mut next = before.and_then(|now| now.state.open_task().map(|(kind, order)| (kind, order.clone())));
        if let Some((kind, order)) = &next {
            info!(study = %order.study, round = order.round.0, task = kind.as_str(), "going on where it stopped");
        }
        let mut troubles = waits();
        loop {
            let (kind, order) = match next.take() {
                Some(task) => task,
                None => self.ask().await?,
            };
            let ended = tokio::select! {
                done = Box::pin(self.perform(kind, &order)) => done.map(|()| End::Done),
                other = Box::pin(self.watch(kind, &order)) => other.map(End::PutAside),
            };
            match ended {
                Ok(End::Done) => troubles = waits(),
                Ok(End::PutAside(other)) => {
                    info!(study = %order.study, round = order.round.0, task = kind.as_str(), "put aside");
                    next = other;
                }
                Err(failure) => self.trouble(failure, kind, order, &mut troubles).await?,
            }
        }
    }

    /// A failure that ends the daemon is returned; any other is noted and waited out.
    async fn trouble(
        &self,
        failure: SiteError,
        task: TaskKind,
        order: WorkOrder,
        troubles: &mut ExponentialBackoff,
    ) -> Result<(), SiteError> {
        if failure.ends_daemon() {
            return Err(self.refused(failure).await);
        }
        let wait = troubles.next().unwrap_or(LONGEST_TROUBLE);
        // The text may name a file of this hospital: it goes to the journal, for `status`; the log says where to look.
        let (study, round) = (order.study.clone(), order.round.0);
        let problem = failure.to_string();
        error!(%study, round, task = task.as_str(), retry_in_s = wait.as_secs(),
            "the task cannot go on; `consilium-site status` says why");
        let state = AgentState::Blocked { order, task, problem };
        // With a full disk the journal cannot be written either; the task is tried again all the same.
        if let Err(e) = self.work.journal.set_state(&state).await {
            error!(error = %e, "the journal cannot be written");
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }

    async fn refused(&self, failure: SiteError) -> SiteError {
        if let SiteError::Refused(reason) = &failure {
            let state = AgentState::Refused { reason: reason.clone() };
            if let Err(e) = self.work.journal.set_state(&state).await {
                error!(error = %e, "the journal cannot be written");
            }
        }
        failure
    }

    /// Asks for a task, for as long as there is none.
    async fn ask(&self) -> Result<Assigned, SiteError> {
        let wait_s = u32::try_from(limits::LONG_POLL_S).unwrap_or(30);
        let mut shown = None;
        loop {
            let asking = Stopwatch::start();
            let question = async || self.work.link.next_task(wait_s).await;
            let task = match self.work.link.patience.until_done("asking for a task", question).await {
                Ok(task) => task,
                Err(failure) => {
                    let failure = SiteError::from(failure);
                    if failure.ends_daemon() {
                        return Err(self.refused(failure).await);
                    }
                    error!(error = %failure, "the coordinator's answer cannot be used; asking again");
                    tokio::time::sleep(RECHECK).await;
                    continue;
                }
            };
            match assigned(task) {
                Ok(task) => return Ok(task),
                Err(waiting_for) => {
                    if shown.as_ref() != Some(&waiting_for) {
                        info!(waiting_for, "nothing to do");
                        match self.work.journal.set_state(&AgentState::Idle { waiting_for: waiting_for.clone() }).await
                        {
                            Ok(()) => shown = Some(waiting_for),
                            // With a full disk there may still be work that needs none.
                            Err(e) => error!(error = %e, "the journal cannot be written"),
                        }
                    }
                    if asking.seconds() < PAUSE.as_secs_f64() {
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        }
    }

    /// Returns when the coordinator asks for something else than this task.
    async fn watch(&self, kind: TaskKind, order: &WorkOrder) -> Result<Option<Assigned>, SiteError> {
        loop {
            tokio::time::sleep(self.recheck).await;
            let question = async || self.work.link.next_task(0).await;
            match self.work.link.patience.until_done("asking whether the task stands", question).await {
                Ok(task) => match assigned(task) {
                    Ok((same_kind, same_order)) if same_kind == kind && same_order == *order => {}
                    Ok(other) => return Ok(Some(other)),
                    Err(_) => return Ok(None),
                },
                Err(LinkError::Refused(why)) => return Err(SiteError::Refused(why)),
                // Whether the task still stands is not known; going on is never wrong.
                Err(_) => {}
            }
        }
    }

    async fn perform(&self, kind: TaskKind, order: &WorkOrder) -> Result<(), SiteError> {
        self.work.journal.begin(kind, order).await?;
        match kind {
            TaskKind::Learn => self.learn(order).await,
            TaskKind::Evaluate => self.evaluate(order).await,
        }
    }

    async fn learn(&self, order: &WorkOrder) -> Result<(), SiteError> {
        let work = &self.work;
        let to =
            async |step: LearnStep| work.journal.set_state(&AgentState::Learning { order: order.clone(), step }).await;
        to(LearnStep::Join).await?;
        let job = Job { work, order, plan: fetch::plan(work, order).await? };
        let update = match work.journal.update(order).await? {
            Some(update) if update.members.iter().all(|delta| work.blobs.has(delta)) => update,
            _ => {
                to(LearnStep::Download).await?;
                let ensemble = timed(&job, "download", fetch::ensemble(&job)).await?;
                to(LearnStep::Scan).await?;
                timed(&job, "scan", scan::pool(&job, &ensemble)).await?;
                to(LearnStep::Select).await?;
                let selected = timed(&job, "select", select::patches(&job)).await?;
                let asked = u32::try_from(selected.len()).unwrap_or(u32::MAX);
                to(LearnStep::Correct { corrected: 0, asked }).await?;
                timed(&job, "correct", correct::all(&job, &selected)).await?;
                to(LearnStep::FineTune).await?;
                let set = timed(&job, "fine-tune", fine_tune::members(&job, &ensemble)).await?;
                submit::update(&job, &set).await?
            }
        };
        to(LearnStep::Upload).await?;
        timed(&job, "upload", submit::upload(&job, &update)).await?;
        to(LearnStep::Submit).await?;
        patches::timing(&job).await?;
        submit::hand_in(&job, &update).await
    }

    async fn evaluate(&self, order: &WorkOrder) -> Result<(), SiteError> {
        let work = &self.work;
        let to = async |step| work.journal.set_state(&AgentState::Evaluating { order: order.clone(), step }).await;
        to(EvaluateStep::Join).await?;
        let job = Job { work, order, plan: fetch::plan(work, order).await? };
        let evaluation = match work.journal.evaluation(order).await? {
            Some(evaluation) => evaluation,
            None => {
                to(EvaluateStep::Download).await?;
                let ensemble = timed(&job, "download", fetch::ensemble(&job)).await?;
                to(EvaluateStep::Scan).await?;
                timed(&job, "evaluate", evaluate::held_out(&job, &ensemble)).await?
            }
        };
        to(EvaluateStep::Report).await?;
        patches::timing(&job).await?;
        evaluate::hand_in(&job, &evaluation).await
    }

    /// Sends the newest progress figure, at most one a second; a lost one does no harm.
    async fn report_progress(&self) {
        let mut figures = self.work.progress.subscribe();
        while figures.changed().await.is_ok() {
            let newest = figures.borrow_and_update().clone();
            if let Some(progress) = newest {
                let _ = self.work.link.send(Outbound::Progress(&progress), &|_| {}).await;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

const LONGEST_TROUBLE: Duration = Duration::from_secs(600);

fn waits() -> ExponentialBackoff {
    let builder = ExponentialBuilder::default().with_jitter().with_min_delay(Duration::from_secs(5));
    builder.with_max_delay(LONGEST_TROUBLE).without_max_times().build()
}

/// The task of an answer, or for what the study waits.
fn assigned(task: Task) -> Result<Assigned, String> {
    match task {
        Task::Wait { waiting_for, .. } => Err(waiting_for),
        Task::Learn(order) => Ok((TaskKind::Learn, order)),
        Task::Evaluate(order) => Ok((TaskKind::Evaluate, order)),
    }
}

async fn timed<T>(
    job: &Job<'_>,
    stage: &str,
    step: impl Future<Output = Result<T, SiteError>>,
) -> Result<T, SiteError> {
    let watch = Stopwatch::start();
    let done = Box::pin(step).await?;
    job.work.journal.add_seconds(job.order, stage, watch.seconds()).await?;
    Ok(done)
}

#[cfg(test)]
mod tests;
