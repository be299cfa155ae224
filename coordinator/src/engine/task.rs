//! The task that owns the studies: take a command, step, store, publish, act.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use consilium_common::messages::Update;
use consilium_common::round::{AggregationOrder, Effect, Event, Verdict, next_deadline, phase_name, step};
use consilium_common::{Digest, ErrorCode, Plan, RoundNumber, SiteId, StudyId};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::aggregate::{Candidate, aggregate};
use super::{Command, EngineHandle, Entry, QUEUE, Studies, no_such_study};
use crate::blobs::BlobDir;
use crate::clock::Clock;
use crate::error::{CoordinatorError, Result};
use crate::store::{NewStudy, Record, Store};

/// How often deadlines are looked at and failed writes tried again.
const TICK: Duration = Duration::from_secs(1);
/// Rest before an aggregation that met a full or broken disk is tried again.
const AGGREGATION_RETRY: Duration = Duration::from_secs(10);

/// The end of an aggregation.
struct Done {
    study: StudyId,
    round: RoundNumber,
    outcome: Result<Candidate, CoordinatorError>,
}

/// What the engine's task owns.
pub(crate) struct Engine {
    store: Store,
    blobs: Arc<BlobDir>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
    studies: BTreeMap<StudyId, Arc<Entry>>,
    published: watch::Sender<Studies>,
    commands: mpsc::Receiver<Command>,
    done: (mpsc::Sender<Done>, mpsc::Receiver<Done>),
    /// Events of our own making that could not be stored yet.
    retry: VecDeque<(StudyId, Event, Vec<Record>)>,
    /// One aggregation at a time: each takes the memory of a few bands and the disk's whole bandwidth.
    aggregations: Arc<Semaphore>,
}

/// The running engine.
pub(crate) struct Worker(JoinHandle<()>);

impl Worker {
    /// Waits until the engine has stopped, which its token asks for.
    pub(crate) async fn stopped(self) {
        if let Err(error) = self.0.await {
            error!(%error, "the engine ended abnormally");
        }
    }
}

impl Engine {
    /// Loads all studies, takes out sites that were revoked, starts the task and asks again for what was under way.
    pub(crate) async fn start(
        store: Store,
        blobs: Arc<BlobDir>,
        clock: Arc<dyn Clock>,
        stop: CancellationToken,
    ) -> Result<(EngineHandle, Worker)> {
        let mut studies = BTreeMap::new();
        for row in store.studies().await? {
            let entry = Entry {
                plan: Arc::new(Plan::from_canonical(&row.plan)?),
                plan_bytes: Arc::new(row.plan),
                manifest: row.manifest,
                sites: Arc::new(row.sites),
                state: row.state,
            };
            studies.insert(entry.state.id.clone(), Arc::new(entry));
        }
        let (sender, commands) = mpsc::channel(QUEUE);
        let (published, watcher) = watch::channel(Arc::new(studies.clone()));
        let done = mpsc::channel(QUEUE);
        let aggregations = Arc::new(Semaphore::new(1));
        let retry = VecDeque::new();
        let mut engine = Self { store, blobs, clock, stop, studies, published, commands, done, retry, aggregations };
        engine.resume().await?;
        let worker = Worker(tokio::spawn(engine.run()));
        Ok((EngineHandle { commands: sender, studies: watcher }, worker))
    }

    /// What a crash may have cut off: the removal of revoked sites, deadlines, aggregations.
    async fn resume(&mut self) -> Result<()> {
        for row in self.store.sites().await?.into_iter().filter(|row| row.revoked) {
            self.remove(&row.site).await?;
        }
        for entry in self.studies.values() {
            info!(study = %entry.state.id, phase = phase_name(&entry.state), "study resumed");
            if let Some(order) = entry.state.aggregation(&entry.plan) {
                self.aggregate(order, Arc::clone(&entry.plan));
            }
        }
        Ok(())
    }

    async fn run(mut self) {
        let mut ticker = tokio::time::interval(TICK);
        ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                command = self.commands.recv() => match command {
                    Some(command) => self.handle(command).await,
                    None => return,
                },
                // The engine holds a sender itself, so the channel never closes.
                Some(done) = self.done.1.recv() => self.finished(done).await,
                _ = ticker.tick() => self.tick().await,
            }
        }
    }

    async fn handle(&mut self, command: Command) {
        // A caller that has gone away does not need its answer.
        match command {
            Command::Create { new, plan, blobs, reply } => {
                let _ = reply.send(self.create(*new, *plan, blobs).await);
            }
            Command::Submit { owner, site, update, reply } => {
                let _ = reply.send(self.submit(owner, site, *update).await);
            }
            Command::Event { study, event, reply } => {
                let _ = reply.send(self.apply(&study, *event, Vec::new()).await);
            }
            Command::Remove { site, reply } => {
                let _ = reply.send(self.remove(&site).await);
            }
            #[cfg(test)]
            Command::Tick { reply } => {
                self.tick().await;
                let _ = reply.send(Ok(()));
            }
        }
    }

    async fn create(&mut self, new: NewStudy, plan: Plan, blobs: Vec<Digest>) -> Result<()> {
        let id = new.state.id.clone();
        if let Some(known) = self.studies.get(&id) {
            if known.plan_bytes[..] == new.plan[..]
                && known.manifest == new.manifest
                && known.sites[..] == new.sites[..]
            {
                return Ok(());
            }
            let why = format!("study {id} exists with another plan, ensemble or list of sites; choose another name");
            return Err(CoordinatorError::refused(ErrorCode::Conflict, why));
        }
        self.store.create_study(&new, &[Record::Blobs(blobs)], self.clock.now()).await?;
        info!(study = %id, sites = new.sites.len(), plan = %new.state.plan.short(), "study created");
        let entry = Entry {
            plan: Arc::new(plan),
            plan_bytes: Arc::new(new.plan),
            manifest: new.manifest,
            sites: Arc::new(new.sites),
            state: new.state,
        };
        self.studies.insert(id, Arc::new(entry));
        self.publish();
        Ok(())
    }

    async fn submit(&mut self, owner: String, site: SiteId, update: Update) -> Result<Verdict> {
        let (study, digest) = (update.study.clone(), update.digest()?);
        let record = Record::Update { owner, site: site.clone(), digest, update: update.clone() };
        self.apply(&study, Event::Submitted(site, update), vec![record]).await
    }

    async fn remove(&mut self, site: &SiteId) -> Result<()> {
        let affected = self.studies.values().filter(|e| e.state.sites.contains_key(site) && e.state.round().is_some());
        for study in affected.map(|entry| entry.state.id.clone()).collect::<Vec<_>>() {
            self.apply(&study, Event::Removed(site.clone()), Vec::new()).await?;
        }
        Ok(())
    }

    /// Steps a study. The new state and the records are stored first; if that fails, nothing has happened.
    async fn apply(&mut self, id: &StudyId, event: Event, mut records: Vec<Record>) -> Result<Verdict> {
        let entry = Arc::clone(self.studies.get(id).ok_or_else(|| no_such_study(id))?);
        let now = self.clock.now();
        let (next, effects, verdict) = step(&entry.plan, &entry.state, event, now)?;
        if next == entry.state && effects.is_empty() {
            return Ok(verdict);
        }
        let mut orders = Vec::new();
        for effect in effects {
            match effect {
                Effect::RecordPublication(publication) => records.push(Record::Publication(publication)),
                Effect::RecordRejection { round, reason } => {
                    warn!(study = %id, %round, reason, "round rejected");
                    records.push(Record::Rejection { round, reason });
                }
                Effect::RecordWithdrawal { round, site } => records.push(Record::Withdrawal { round, site }),
                Effect::Aggregate(order) => orders.push(order),
            }
        }
        self.store.save_study(&next, &records, now).await?;
        if phase_name(&next) != phase_name(&entry.state) || next.round() != entry.state.round() {
            info!(study = %id, phase = phase_name(&next), round = next.round().map(|r| r.0), "study moved on");
        }
        let entry = Entry {
            plan: Arc::clone(&entry.plan),
            plan_bytes: Arc::clone(&entry.plan_bytes),
            manifest: entry.manifest,
            sites: Arc::clone(&entry.sites),
            state: next,
        };
        let plan = Arc::clone(&entry.plan);
        self.studies.insert(id.clone(), Arc::new(entry));
        self.publish();
        for order in orders {
            self.aggregate(order, Arc::clone(&plan));
        }
        Ok(verdict)
    }

    fn publish(&self) {
        self.published.send_replace(Arc::new(self.studies.clone()));
    }

    /// An event that nobody waits for: if it cannot be stored now, it is tried again.
    async fn apply_or_retry(&mut self, study: StudyId, event: Event, records: Vec<Record>) {
        if let Err(error) = self.apply(&study, event.clone(), records.clone()).await {
            if error.code().is_retryable() {
                error!(%study, %error, "an event could not be stored and is tried again");
                self.retry.push_back((study, event, records));
            } else {
                error!(%study, %error, "an event was refused");
            }
        }
    }

    async fn tick(&mut self) {
        for (study, event, records) in std::mem::take(&mut self.retry) {
            self.apply_or_retry(study, event, records).await;
        }
        let now = self.clock.now();
        let due = self.studies.values().filter(|e| next_deadline(&e.plan, &e.state).is_some_and(|at| at <= now));
        for study in due.map(|entry| entry.state.id.clone()).collect::<Vec<_>>() {
            if let Err(error) = self.apply(&study, Event::Tick, Vec::new()).await {
                error!(%study, %error, "a deadline could not be stored and is tried again");
            }
        }
    }

    async fn finished(&mut self, done: Done) {
        let Done { study, round, outcome } = done;
        match outcome {
            Ok(candidate) => {
                info!(%study, %round, manifest = %candidate.manifest.short(), "round aggregated");
                let records = vec![Record::Blobs(candidate.blobs)];
                self.apply_or_retry(study, Event::Aggregated(round, candidate.manifest), records).await;
            }
            // Nothing that a site sends can mend this: every further round would fail in the same way.
            Err(error) if error.code() == ErrorCode::Internal => {
                error!(%study, %round, %error, "study cannot go on");
                self.apply_or_retry(study, Event::Abort(error.to_string()), Vec::new()).await;
            }
            Err(error) => {
                error!(%study, %round, %error, "round cannot be aggregated");
                self.apply_or_retry(study, Event::AggregationFailed(round, error.to_string()), Vec::new()).await;
            }
        }
    }

    /// Starts an aggregation; its end comes back through the channel.
    fn aggregate(&self, order: AggregationOrder, plan: Arc<Plan>) {
        let (blobs, done, stop) = (Arc::clone(&self.blobs), self.done.0.clone(), self.stop.clone());
        let slots = Arc::clone(&self.aggregations);
        tokio::spawn(async move {
            // The semaphore is never closed.
            let Ok(_slot) = slots.acquire_owned().await else { return };
            let order = Arc::new(order);
            let outcome = loop {
                let (blobs, plan, work) = (Arc::clone(&blobs), Arc::clone(&plan), Arc::clone(&order));
                let result = tokio::task::spawn_blocking(move || aggregate(&blobs, &plan, &work)).await;
                match result {
                    Ok(Err(error)) if error.code() == ErrorCode::Unavailable => {
                        warn!(study = %order.study, round = %order.round, %error, "aggregation is tried again");
                    }
                    Ok(outcome) => break outcome,
                    Err(error) => break Err(CoordinatorError::internal("aggregating", error)),
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(AGGREGATION_RETRY) => {}
                }
            };
            // The receiver is gone only when the engine has stopped; the next start asks again.
            let _ = done.send(Done { study: order.study.clone(), round: order.round, outcome }).await;
        });
    }
}
