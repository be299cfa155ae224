//! How a coordinator starts and stops, in one boring order: lock, store, blobs, identity, engine, listener, services;
//! then until cancelled; then long polls are answered, open streams end, the engine stops, the database is folded.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tracing::{info, warn};

use crate::blobs::BlobDir;
use crate::clock::{Clock, SystemClock};
use crate::config::{CoordinatorConfig, Paths};
use crate::engine::Engine;
use crate::engine::intake::Intake;
use crate::error::{CoordinatorError, Result, While};
use crate::identity::authority::Authority;
use crate::identity::tls::{self, TlsState};
use crate::presence::Presence;
use crate::rpc::{self, Context};
use crate::store::Store;

/// A peer that is silent for interval + timeout is dead: its connection is closed.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Calls of one connection at once: a long poll, a watch, and transfers beside them.
const CONCURRENT_CALLS: u32 = 64;
/// A window that lets one stream fill a fast line with some delay.
const WINDOW: u32 = 4 << 20;
/// What still runs this long after the stop is cut off; every call can be made again.
const GRACE: Duration = Duration::from_secs(5);

/// Serves the coordinator of `config.data_dir` until `shutdown`. `ready` learns the address once it listens.
///
/// # Errors
/// When the folder holds no coordinator, is served already, or was written by a newer version; when the port is taken.
pub async fn serve(
    config: CoordinatorConfig,
    ready: oneshot::Sender<SocketAddr>,
    shutdown: CancellationToken,
) -> Result<()> {
    serve_with(config, Arc::new(SystemClock), ready, shutdown).await
}

async fn serve_with(
    config: CoordinatorConfig,
    clock: Arc<dyn Clock>,
    ready: oneshot::Sender<SocketAddr>,
    shutdown: CancellationToken,
) -> Result<()> {
    let paths = config.paths();
    let _lock = lock(&config, &paths)?;
    let store = Store::open(&paths.database).await?;
    let blobs = Arc::new(BlobDir::open(&paths.blobs)?);
    let authority = Authority::load(&paths.identity)?;
    let tls = TlsState::load(&paths, &authority, &store.revocations().await?, clock.now())?;
    let tls = Arc::new(tls);
    let listener = tls::bind(config.listen).await?;
    let address = listener.local_addr().doing(|| "reading the address that was bound".into())?;

    // The engine stops after the services, so that calls that are under way are answered.
    let engine_stop = CancellationToken::new();
    let (engine, worker) =
        Engine::start(store.clone(), Arc::clone(&blobs), Arc::clone(&clock), engine_stop.clone()).await?;
    let context = Arc::new(Context {
        intake: Intake::new(engine, store.clone(), blobs, Arc::clone(&clock)),
        authority,
        tls: Arc::clone(&tls),
        clock,
        presence: Presence::default(),
        stop: shutdown.clone(),
    });
    info!(%address, ca_fingerprint = context.authority.fingerprint(), "coordinator ready");
    // Whoever started us may not care for the address.
    let _ = ready.send(address);

    let connections = ReceiverStream::new(tls::accept(listener, tls, shutdown.clone()));
    let serving = Server::builder()
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .max_concurrent_streams(CONCURRENT_CALLS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .add_routes(rpc::routes(&context))
        .serve_with_incoming_shutdown(connections, shutdown.clone().cancelled_owned());
    let cut_off = async {
        shutdown.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    let served = tokio::select! {
        served = serving => served.map_err(|e| CoordinatorError::internal("serving", e)),
        () = cut_off => {
            warn!("some connections did not end in time and were cut off");
            Ok(())
        }
    };
    engine_stop.cancel();
    worker.stopped().await;
    store.close().await;
    info!("coordinator stopped");
    served
}

/// Makes sure that nobody else serves this folder; the lock ends with the process, however it ends.
fn lock(config: &CoordinatorConfig, paths: &Paths) -> Result<File> {
    if !paths.identity.is_dir() {
        return Err(CoordinatorError::NotInitialised { path: config.data_dir.clone() });
    }
    let doing = || format!("locking {}", paths.lock.display());
    fs::create_dir_all(&config.data_dir).doing(doing)?;
    let file = OpenOptions::new().create(true).write(true).truncate(false).open(&paths.lock).doing(doing)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(CoordinatorError::Locked { path: config.data_dir.clone() }),
        Err(TryLockError::Error(error)) => Err(error).doing(doing),
    }
}
