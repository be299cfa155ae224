//! The daemon, from configuration to work, in one boring order: folders, lock, ledger, identity, journal, link, agent.
//! No globals and no environment: several sites can run in one process.

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, info_span};

use crate::agent::Agent;
use crate::blobs::Blobs;
use crate::config::SiteConfig;
use crate::corrector;
use crate::error::SiteError;
use crate::files;
use crate::identity::IdentityFiles;
use crate::journal::Journal;
use crate::layout::Layout;
use crate::ledger::Ledger;
use crate::link::{Dial, Link};
use crate::work::Work;

/// Runs a site until `shutdown`, with the compute limit of its own configuration.
pub async fn run(config: SiteConfig, shutdown: CancellationToken) -> Result<(), SiteError> {
    let compute = Arc::new(Semaphore::new(compute_limit(&config)));
    run_with(config, shutdown, compute).await
}

/// Runs a site until `shutdown`. `compute` bounds the heavy computations of all sites that share it.
pub async fn run_with(
    config: SiteConfig,
    shutdown: CancellationToken,
    compute: Arc<Semaphore>,
) -> Result<(), SiteError> {
    let span = info_span!("site", id = %config.site);
    let started = async {
        let layout = Layout::new(&config.state_dir);
        files::create_private_dir(layout.root())?;
        // One daemon a state folder.
        let lock = files::lock(&layout.lock())?;
        let ledger = Arc::new(Ledger::open(&layout.ledger())?);
        let (identity, ca_pem) = IdentityFiles::in_dir(&layout.identity()).load()?;
        let link = Link::new(Dial::Tls { address: config.coordinator.clone(), identity, ca_pem }, ledger);
        let journal = Journal::open(&layout.journal()).await?;
        let agent = Agent::new(assemble(config, layout, journal.clone(), link, compute)?);
        info!("running");
        let ended = tokio::select! {
            ended = Box::pin(agent.run()) => ended,
            () = shutdown.cancelled() => Ok(()),
        };
        journal.close().await;
        drop(lock);
        info!("stopped");
        ended
    };
    Box::pin(started).instrument(span).await
}

/// Everything that the agent works with.
pub(crate) fn assemble(
    config: SiteConfig,
    layout: Layout,
    journal: Journal,
    link: Link,
    compute: Arc<Semaphore>,
) -> Result<Work, SiteError> {
    let blobs = Blobs::open(&layout.blobs())?;
    let corrector = Arc::from(corrector::of(&config.corrector, &config.data_dir));
    let progress = watch::Sender::new(None);
    Ok(Work { config, layout, journal, blobs, link, corrector, compute, progress })
}

fn compute_limit(config: &SiteConfig) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    config.threads.unwrap_or(cores).max(1)
}
