//! Heavy work that a person may stop, and what it leaves behind.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::experiment::ExperimentError;

/// What a comparison, or a run of active learning, leaves behind.
#[derive(Clone, Debug, PartialEq)]
pub struct Reported {
    /// The report.
    pub report: PathBuf,
    /// The table for a terminal.
    pub table: String,
    /// Seconds that this run took, without what was there before.
    pub seconds: f64,
}

/// A flag that is set once `shutdown` is cancelled, for work that cannot wait for a token.
pub(crate) struct StopFlag {
    pub(crate) flag: Arc<AtomicBool>,
    watcher: AbortHandle,
}

impl StopFlag {
    pub(crate) fn of(shutdown: CancellationToken) -> Self {
        let flag = Arc::new(AtomicBool::new(false));
        let watcher = tokio::spawn({
            let flag = Arc::clone(&flag);
            async move {
                shutdown.cancelled().await;
                flag.store(true, Ordering::Relaxed);
            }
        });
        Self { flag, watcher: watcher.abort_handle() }
    }
}

impl Drop for StopFlag {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

/// Runs heavy work on a thread of its own until it ends or sees that it is to stop.
pub(crate) async fn until_stopped<T: Send + 'static>(
    shutdown: CancellationToken,
    work: impl FnOnce(&AtomicBool) -> Result<T, ExperimentError> + Send + 'static,
) -> Result<T, ExperimentError> {
    let stop = StopFlag::of(shutdown);
    let flag = Arc::clone(&stop.flag);
    tokio::task::spawn_blocking(move || work(&flag)).await.map_err(|_| ExperimentError::BrokeOff)?
}
