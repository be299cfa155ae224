//! The coordinator's memory: sites, revocations, studies and their history, who uploaded what. SQLite, every change one
//! transaction that is on disk (WAL, synchronous FULL) before the call returns. Blobs lie beside it (`blobs`).
//!
//! Migrations are numbered and never changed; a database with one that this program does not know is refused.

mod sites;
mod studies;
mod uploads;

use std::path::Path;
use std::time::Duration;

use sqlx::migrate::MigrateError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqlitePool, Transaction};

pub(crate) use sites::SiteRow;
pub(crate) use studies::{History, NewStudy, Record};

use crate::error::{CoordinatorError, Result, While};

/// Reads run beside each other and beside the one writer.
const CONNECTIONS: u32 = 4;
/// A writer waits this long for another; each takes milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// The database.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pool: SqlitePool,
}

impl Store {
    /// Opens the database, makes it if it is not there, and brings its schema up to date.
    pub(crate) async fn open(path: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS).connect_with(options).await;
        let pool = pool.doing("opening the database")?;
        match sqlx::migrate!("./migrations").run(&pool).await {
            Ok(()) => Ok(Self { pool }),
            Err(MigrateError::VersionMissing(found)) => Err(CoordinatorError::Newer { path: path.to_owned(), found }),
            Err(error) => Err(sqlx::Error::Migrate(Box::new(error))).doing("bringing the database up to date"),
        }
    }

    /// Closes all connections; the write-ahead log is folded in.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    /// A transaction that writes from the start, so that it never fails half-way for want of the lock.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>> {
        self.pool.begin_with("BEGIN IMMEDIATE").await.doing("beginning a transaction")
    }
}

/// A stored value that this program cannot read: damage, or a bug.
fn damaged(doing: &'static str, why: impl ToString) -> CoordinatorError {
    CoordinatorError::Store { doing, source: sqlx::Error::Decode(why.to_string().into()) }
}

#[cfg(test)]
mod tests;
