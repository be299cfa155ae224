//! The work itself, step by step. Each step asks the journal what is finished, does the rest, makes it durable and
//! returns; so every step can be begun again at any moment and ends with the same bytes. Heavy parts run on blocking
//! threads under the shared compute limit and stop soon after nobody waits for them any more.

pub(crate) mod correct;
pub(crate) mod evaluate;
pub(crate) mod fetch;
pub(crate) mod fine_tune;
pub(crate) mod patches;
pub(crate) mod scan;
pub(crate) mod select;
pub(crate) mod submit;

use std::sync::Arc;

use consilium_common::messages::{Progress, Stage, WorkOrder};
use consilium_common::{Plan, SiteId};
use consilium_learning::acquisition::Turn;
use consilium_learning::dataset::DataFolder;
use consilium_learning::network::Ensemble;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::blobs::Blobs;
use crate::config::SiteConfig;
use crate::corrector::Corrector;
use crate::error::SiteError;
use crate::files;
use crate::journal::Journal;
use crate::layout::Layout;
use crate::link::Link;
use crate::scanner::Scanner;

/// What every step works with.
pub(crate) struct Work {
    pub(crate) config: SiteConfig,
    pub(crate) layout: Layout,
    pub(crate) journal: Journal,
    pub(crate) blobs: Blobs,
    pub(crate) link: Link,
    pub(crate) corrector: Arc<dyn Corrector>,
    pub(crate) compute: Arc<Semaphore>,
    pub(crate) progress: watch::Sender<Option<Progress>>,
}

/// A task with its plan.
pub(crate) struct Job<'a> {
    pub(crate) work: &'a Work,
    pub(crate) order: &'a WorkOrder,
    pub(crate) plan: Plan,
}

impl Job<'_> {
    /// The text from which every random choice of this site in this round derives.
    pub(crate) fn seed(&self) -> String {
        seed_text(&self.plan, &self.work.config.site, self.order)
    }

    /// The text from which the choice of patches derives.
    pub(crate) fn selection_seed(&self) -> String {
        format!("{}/select", self.seed())
    }

    /// The text from which what is rehearsed derives.
    pub(crate) fn rehearsal_seed(&self) -> String {
        format!("{}/rehearsal", self.seed())
    }

    /// When this round's choice is made; `seed` is [`Self::selection_seed`].
    pub(crate) fn turn<'s>(&self, seed: &'s str) -> Turn<'s> {
        Turn { round: self.order.round.0.saturating_sub(1), rounds: self.plan.rounds, seed }
    }

    /// An ensemble, ready to scan slides as the plan says.
    pub(crate) fn scanner(&self, ensemble: &Ensemble) -> Result<Scanner, SiteError> {
        let config = &self.work.config;
        Scanner::new(ensemble, self.plan.scan.clone(), config.scan_memory_bytes(), config.device)
    }

    /// Removes the maps that rounds which were put aside have left.
    pub(crate) fn clear_other_rounds(&self) -> Result<(), SiteError> {
        let scratch = self.work.layout.scratch_of_other_rounds(&self.order.study, self.order.round);
        scratch.iter().try_for_each(|folder| files::remove_dir(folder))
    }

    /// A reporter of how far a stage is.
    pub(crate) fn reporter(&self, stage: Stage) -> Reporter {
        let (study, round) = (self.order.study.clone(), self.order.round);
        let reporter =
            Reporter { to: self.work.progress.clone(), base: Progress { study, round, stage, done: 0, total: 0 } };
        reporter.say(0, 0);
        reporter
    }

    /// Reads the data folder; what is wrong with single slides is noted for `status`.
    pub(crate) async fn data(&self) -> Result<DataFolder, SiteError> {
        let dir = self.work.config.data_dir.clone();
        let open =
            move |_: &CancellationToken| DataFolder::open(&dir).map_err(SiteError::learning("reading the data folder"));
        let folder = blocking("reading the data folder", open).await?;
        let there =
            folder.slides.iter().map(|s| s.name.as_str()).chain(folder.problems.iter().map(|p| p.slide.as_str()));
        self.work.journal.forget_problems_except(&there.collect()).await?;
        for problem in &folder.problems {
            self.work.journal.put_problem(&problem.slide, &problem.why).await?;
        }
        Ok(folder)
    }
}

pub(crate) fn seed_text(plan: &Plan, site: &SiteId, order: &WorkOrder) -> String {
    format!("{}/{}/{site}/round-{}", plan.seed, order.study, order.round)
}

/// Tells the coordinator how far a stage is, at most once a second and without waiting.
#[derive(Clone)]
pub(crate) struct Reporter {
    to: watch::Sender<Option<Progress>>,
    base: Progress,
}

impl Reporter {
    pub(crate) fn say(&self, done: u64, total: u64) {
        self.to.send_replace(Some(Progress { done, total, ..self.base.clone() }));
    }
}

/// Runs something heavy on a blocking thread. The token is cancelled when nobody waits for the result any more.
pub(crate) async fn blocking<T, F>(what: &'static str, run: F) -> Result<T, SiteError>
where
    T: Send + 'static,
    F: FnOnce(&CancellationToken) -> Result<T, SiteError> + Send + 'static,
{
    let stop = CancellationToken::new();
    let _guard = stop.clone().drop_guard();
    tokio::task::spawn_blocking(move || run(&stop)).await.map_err(|_| SiteError::Crashed(what))?
}

/// The same under the compute limit; the permit is held until the computation really ends.
pub(crate) async fn computing<T, F>(compute: &Arc<Semaphore>, what: &'static str, run: F) -> Result<T, SiteError>
where
    T: Send + 'static,
    F: FnOnce(&CancellationToken) -> Result<T, SiteError> + Send + 'static,
{
    // The semaphore is never closed; if it were, the daemon is going down.
    let permit = Arc::clone(compute).acquire_owned().await.map_err(|_| SiteError::Stopped)?;
    blocking(what, move |stop| {
        let _permit = permit;
        run(stop)
    })
    .await
}

/// The ensemble of an order, loaded.
pub(crate) type Loaded = Arc<Ensemble>;
