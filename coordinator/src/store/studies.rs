//! Studies: the current state as JSON, beside it the history that the state machine does not need (publications,
//! rejections, accepted updates) and the blobs that a study's sites may download.

use consilium_common::messages::Update;
use consilium_common::round::{Publication, Study};
use consilium_common::{Digest, ErrorCode, RoundNumber, SiteId, StudyId, Timestamp};
use sqlx::{Row, Sqlite, Transaction};

use super::{Store, damaged};
use crate::error::{CoordinatorError, Result, While};
use crate::view::UpdateView;

/// What is written in the same transaction as a new state.
#[derive(Clone, Debug)]
pub(crate) enum Record {
    /// A published generation, or the same one with a late evaluation.
    Publication(Publication),
    /// A round that published nothing.
    Rejection { round: RoundNumber, reason: String },
    /// An accepted update of the upload owner's site; its blobs are kept from now on.
    Update { owner: String, site: SiteId, digest: Digest, update: Update },
    /// An accepted update is not part of its round after all.
    Withdrawal { round: RoundNumber, site: SiteId },
    /// Blobs that the study's sites may download from now on.
    Blobs(Vec<Digest>),
}

/// A study that is about to begin.
#[derive(Clone, Debug)]
pub(crate) struct NewStudy {
    pub(crate) state: Study,
    pub(crate) plan: Vec<u8>,
    pub(crate) manifest: Digest,
    pub(crate) sites: Vec<SiteId>,
}

/// A study as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct StudyRow {
    pub(crate) state: Study,
    pub(crate) plan: Vec<u8>,
    pub(crate) manifest: Digest,
    pub(crate) sites: Vec<SiteId>,
}

/// What happened in a study so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// Published generations in order.
    pub(crate) publications: Vec<Publication>,
    /// Rounds that published nothing, in order, with the reason.
    pub(crate) rejections: Vec<(RoundNumber, String)>,
}

fn json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| damaged("writing JSON", e))
}

impl Store {
    /// Stores a new study with the blobs of generation 0.
    pub(crate) async fn create_study(&self, new: &NewStudy, records: &[Record], now: Timestamp) -> Result<()> {
        let doing = "storing a new study";
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO studies (study, plan, initial_manifest, initial_sites, state, created) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(new.state.id.as_str())
        .bind(&new.plan)
        .bind(&new.manifest.as_bytes()[..])
        .bind(json(&new.sites)?)
        .bind(json(&new.state)?)
        .bind(now.0)
        .execute(&mut *tx)
        .await
        .doing(doing)?;
        for record in records {
            write(&mut tx, &new.state.id, record, now).await?;
        }
        tx.commit().await.doing(doing)
    }

    /// Stores a study's new state together with what is to be recorded.
    pub(crate) async fn save_study(&self, state: &Study, records: &[Record], now: Timestamp) -> Result<()> {
        let doing = "storing the state of a study";
        let mut tx = self.begin().await?;
        let done = sqlx::query("UPDATE studies SET state = ? WHERE study = ?")
            .bind(json(state)?)
            .bind(state.id.as_str())
            .execute(&mut *tx)
            .await
            .doing(doing)?;
        if done.rows_affected() != 1 {
            return Err(damaged(doing, format!("study {} is not in the database", state.id)));
        }
        for record in records {
            write(&mut tx, &state.id, record, now).await?;
        }
        tx.commit().await.doing(doing)
    }

    /// All studies, by name.
    pub(crate) async fn studies(&self) -> Result<Vec<StudyRow>> {
        let doing = "reading the studies";
        let rows: Vec<(String, Vec<u8>, Vec<u8>, String)> =
            sqlx::query_as("SELECT state, plan, initial_manifest, initial_sites FROM studies ORDER BY study")
                .fetch_all(&self.pool)
                .await
                .doing(doing)?;
        let parse = |(state, plan, manifest, sites): (String, Vec<u8>, Vec<u8>, String)| {
            Ok(StudyRow {
                state: serde_json::from_str(&state).map_err(|e| damaged(doing, e))?,
                plan,
                manifest: Digest::try_from(&manifest[..]).map_err(|e| damaged(doing, e))?,
                sites: serde_json::from_str(&sites).map_err(|e| damaged(doing, e))?,
            })
        };
        rows.into_iter().map(parse).collect()
    }

    /// Publications and rejections of a study.
    pub(crate) async fn history(&self, study: &StudyId) -> Result<History> {
        let doing = "reading the history of a study";
        let published: Vec<(String,)> =
            sqlx::query_as("SELECT publication FROM generations WHERE study = ? ORDER BY generation")
                .bind(study.as_str())
                .fetch_all(&self.pool)
                .await
                .doing(doing)?;
        let rejected: Vec<(u32, String)> =
            sqlx::query_as("SELECT round, reason FROM rejections WHERE study = ? ORDER BY round")
                .bind(study.as_str())
                .fetch_all(&self.pool)
                .await
                .doing(doing)?;
        let publications = published.iter().map(|(text,)| serde_json::from_str(text).map_err(|e| damaged(doing, e)));
        Ok(History {
            publications: publications.collect::<Result<_>>()?,
            rejections: rejected.into_iter().map(|(round, reason)| (RoundNumber(round), reason)).collect(),
        })
    }

    /// What the sites said with the updates of a study's newest rounds, by round and site: whole rounds, as many as `most`
    /// updates leave room for.
    pub(crate) async fn updates(&self, study: &StudyId, most: usize) -> Result<Vec<UpdateView>> {
        let doing = "reading the updates of a study";
        let mut rows: Vec<(u32, String, f64, String)> = sqlx::query_as(
            "SELECT round, site, json_extract(body, '$.weight'), json_extract(body, '$.metrics') FROM updates \
             WHERE study = ? AND NOT withdrawn ORDER BY round DESC, site DESC LIMIT ?",
        )
        .bind(study.as_str())
        .bind(i64::try_from(most + 1).unwrap_or(i64::MAX))
        .fetch_all(&self.pool)
        .await
        .doing(doing)?;
        if rows.len() > most {
            // There is more, and the oldest round may be here in part.
            let oldest = rows.last().map(|row| row.0);
            rows.retain(|row| Some(row.0) != oldest);
        }
        let parse = |(round, site, weight, metrics): &(u32, String, f64, String)| {
            let site = site.parse().map_err(|e| damaged(doing, e))?;
            let metrics = serde_json::from_str(metrics).map_err(|e| damaged(doing, e))?;
            Ok(UpdateView { round: RoundNumber(*round), site, weight: *weight, metrics })
        };
        rows.iter().rev().map(parse).collect()
    }

    /// The studies whose sites may download this blob.
    pub(crate) async fn studies_with_blob(&self, digest: &Digest) -> Result<Vec<StudyId>> {
        let doing = "looking up a blob";
        let rows = sqlx::query("SELECT study FROM study_blobs WHERE digest = ? ORDER BY study")
            .bind(&digest.as_bytes()[..])
            .fetch_all(&self.pool)
            .await
            .doing(doing)?;
        let parse = |row: &sqlx::sqlite::SqliteRow| {
            let name: String = row.try_get(0).doing(doing)?;
            name.parse().map_err(|e| damaged(doing, e))
        };
        rows.iter().map(parse).collect()
    }
}

async fn write(tx: &mut Transaction<'static, Sqlite>, study: &StudyId, record: &Record, now: Timestamp) -> Result<()> {
    let doing = "recording what happened in a study";
    match record {
        Record::Publication(publication) => {
            sqlx::query("INSERT OR REPLACE INTO generations (study, generation, publication) VALUES (?, ?, ?)")
                .bind(study.as_str())
                .bind(publication.generation.number.0)
                .bind(json(publication)?)
                .execute(&mut **tx)
                .await
                .doing(doing)?;
        }
        Record::Rejection { round, reason } => {
            sqlx::query("INSERT OR REPLACE INTO rejections (study, round, reason) VALUES (?, ?, ?)")
                .bind(study.as_str())
                .bind(round.0)
                .bind(reason)
                .execute(&mut **tx)
                .await
                .doing(doing)?;
        }
        Record::Update { owner, site, digest, update } => {
            sqlx::query(
                "INSERT OR REPLACE INTO updates (study, round, site, digest, body, received) VALUES (?, ?, ?, ?, ?, ?)",
            )
            .bind(study.as_str())
            .bind(update.round.0)
            .bind(site.as_str())
            .bind(&digest.as_bytes()[..])
            .bind(json(update)?)
            .bind(now.0)
            .execute(&mut **tx)
            .await
            .doing(doing)?;
            keep(tx, owner, &update.members).await?;
        }
        Record::Withdrawal { round, site } => {
            sqlx::query("UPDATE updates SET withdrawn = 1 WHERE study = ? AND round = ? AND site = ?")
                .bind(study.as_str())
                .bind(round.0)
                .bind(site.as_str())
                .execute(&mut **tx)
                .await
                .doing(doing)?;
        }
        Record::Blobs(digests) => {
            for digest in digests {
                sqlx::query("INSERT OR IGNORE INTO study_blobs (study, digest) VALUES (?, ?)")
                    .bind(study.as_str())
                    .bind(&digest.as_bytes()[..])
                    .execute(&mut **tx)
                    .await
                    .doing(doing)?;
            }
        }
    }
    Ok(())
}

/// Keeps an update's blobs. One that was swept away since it was checked must be uploaded again.
async fn keep(tx: &mut Transaction<'static, Sqlite>, owner: &str, digests: &[Digest]) -> Result<()> {
    for digest in digests {
        let done = sqlx::query("UPDATE uploads SET kept = 1 WHERE owner = ? AND digest = ?")
            .bind(owner)
            .bind(&digest.as_bytes()[..])
            .execute(&mut **tx)
            .await
            .doing("keeping the blobs of an update")?;
        if done.rows_affected() == 0 {
            let why = format!("blob {} was not uploaded by this site; upload it and submit again", digest.short());
            return Err(CoordinatorError::refused(ErrorCode::InvalidInput, why));
        }
    }
    Ok(())
}
