//! The engine: one task owns the state of all studies. Others send it a command and wait for the answer, or read the
//! snapshot that it publishes after every change. A change is in the database before anybody hears of it.
//!
//! What becomes of an event is decided by `common::round::step` alone; this module stores the outcome and acts on it.

mod aggregate;
pub(crate) mod intake;
mod task;

use std::collections::BTreeMap;
use std::sync::Arc;

use consilium_common::messages::{Task, Update};
use consilium_common::round::{Event, Study, Verdict, task_for, waiting_for};
use consilium_common::{Digest, ErrorCode, Plan, SiteId, StudyId, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use task::Engine;
#[cfg(test)]
pub(crate) use task::Worker;

use crate::error::{CoordinatorError, Result};
use crate::store::NewStudy;

/// Commands that may wait for the engine; each is a few kB, and senders wait when it is full.
const QUEUE: usize = 256;

/// A study as the engine holds it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) plan: Arc<Plan>,
    pub(crate) plan_bytes: Arc<Vec<u8>>,
    /// Manifest of generation 0 and the sites, as the study was created.
    pub(crate) manifest: Digest,
    pub(crate) sites: Arc<Vec<SiteId>>,
    pub(crate) state: Study,
}

/// All studies at one moment.
pub(crate) type Studies = Arc<BTreeMap<StudyId, Arc<Entry>>>;

pub(super) type Reply<T> = oneshot::Sender<Result<T>>;

pub(super) enum Command {
    Create {
        new: Box<NewStudy>,
        plan: Box<Plan>,
        blobs: Vec<Digest>,
        reply: Reply<()>,
    },
    Submit {
        owner: String,
        site: SiteId,
        update: Box<Update>,
        reply: Reply<Verdict>,
    },
    Event {
        study: StudyId,
        event: Box<Event>,
        reply: Reply<Verdict>,
    },
    Remove {
        site: SiteId,
        reply: Reply<()>,
    },
    #[cfg(test)]
    Tick {
        reply: Reply<()>,
    },
}

/// How the rest of the program talks to the engine.
#[derive(Clone, Debug)]
pub(crate) struct EngineHandle {
    commands: mpsc::Sender<Command>,
    studies: watch::Receiver<Studies>,
}

impl EngineHandle {
    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| CoordinatorError::Closing)?;
        answer.await.map_err(|_| CoordinatorError::Closing)?
    }

    /// Creates a study whose plan and blobs have been checked. The same study again is nothing new.
    pub(crate) async fn create(&self, new: NewStudy, plan: Plan, blobs: Vec<Digest>) -> Result<()> {
        self.ask(|reply| Command::Create { new: Box::new(new), plan: Box::new(plan), blobs, reply }).await
    }

    /// Accepts an update whose blobs have been checked.
    pub(crate) async fn submit(&self, owner: String, site: SiteId, update: Update) -> Result<Verdict> {
        self.ask(|reply| Command::Submit { owner, site, update: Box::new(update), reply }).await
    }

    /// Tells a study that something happened.
    pub(crate) async fn event(&self, study: &StudyId, event: Event) -> Result<Verdict> {
        self.ask(|reply| Command::Event { study: study.clone(), event: Box::new(event), reply }).await
    }

    /// Takes a site out of all studies.
    pub(crate) async fn remove_site(&self, site: &SiteId) -> Result<()> {
        self.ask(|reply| Command::Remove { site: site.clone(), reply }).await
    }

    #[cfg(test)]
    pub(crate) async fn tick(&self) -> Result<()> {
        self.ask(|reply| Command::Tick { reply }).await
    }

    /// All studies as they are now.
    pub(crate) fn studies(&self) -> Studies {
        Arc::clone(&self.studies.borrow())
    }

    /// One study as it is now.
    pub(crate) fn study(&self, id: &StudyId) -> Result<Arc<Entry>> {
        self.studies.borrow().get(id).cloned().ok_or_else(|| no_such_study(id))
    }

    /// Something that says when a study changes.
    pub(crate) fn changes(&self) -> watch::Receiver<Studies> {
        self.studies.clone()
    }
}

/// The refusal of a name that no study has.
pub(crate) fn no_such_study(id: &StudyId) -> CoordinatorError {
    let why = format!("there is no study {id} here; `consilium-coordinator study list` shows those that are");
    CoordinatorError::refused(ErrorCode::NotFound, why)
}

/// What a site does next over all its studies: evaluations first, they are short; then learning, by name of the study.
pub(crate) fn next_task(studies: &Studies, site: &SiteId, now: Timestamp) -> Task {
    let mut learn = None;
    let mut waits = Vec::new();
    for entry in studies.values().filter(|entry| entry.state.sites.contains_key(site)) {
        match task_for(&entry.plan, &entry.state, site) {
            evaluate @ Task::Evaluate(_) => return evaluate,
            order @ Task::Learn(_) => learn = learn.or(Some(order)),
            Task::Wait { .. } if entry.state.round().is_none() => {}
            Task::Wait { .. } => {
                let (waiting_for, since) = waiting_for(&entry.plan, &entry.state);
                waits.push((since, format!("study {}: {waiting_for}", entry.state.id)));
            }
        }
    }
    if let Some(order) = learn {
        return order;
    }
    let Some(since) = waits.iter().map(|(since, _)| *since).min() else {
        let waiting_for = "the central group: no running study has this site in it".into();
        return Task::Wait { waiting_for, since: now };
    };
    let waiting_for = waits.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("; ");
    Task::Wait { waiting_for: consilium_common::messages::clip_reason(&waiting_for), since }
}

#[cfg(test)]
mod tests;
