//! The journal: what the agent does and what each step has finished, in SQLite. A row is written after the files that it
//! speaks of are safe on disk, so whatever the journal says is there. Every write is idempotent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use consilium_common::messages::{Evaluation, Update, WorkOrder};
use consilium_common::{Digest, RoundNumber, StudyId, Timestamp};
use consilium_learning::acquisition::Candidate;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous};
use sqlx::{Row, SqlitePool};

use crate::agent::{AgentState, TaskKind};
use crate::clock;
use crate::error::SiteError;
use crate::records::{CorrectionRecord, MemberRecord, Rehearsed, Selected, TrainingSet};

/// The journal of one site.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    pool: SqlitePool,
}

/// What the agent does, since when, and what a person should know.
#[derive(Clone, Debug)]
pub(crate) struct Now {
    pub(crate) state: AgentState,
    pub(crate) since: Timestamp,
    pub(crate) note: Option<String>,
}

/// A slide of a round's scan.
#[derive(Clone, Debug, Default)]
pub(crate) struct ScanRow {
    pub(crate) candidates: Vec<Candidate>,
    /// Boxes that may be rehearsed.
    pub(crate) rehearsal: Vec<Candidate>,
    pub(crate) problem: Option<String>,
}

/// A slide that could not be used.
#[derive(Clone, Debug)]
pub(crate) struct SlideProblem {
    pub(crate) slide: String,
    pub(crate) problem: String,
    pub(crate) seen: Timestamp,
}

type Result<T> = std::result::Result<T, SiteError>;

impl Journal {
    /// Opens the journal, creating or migrating it. A newer schema is refused.
    pub(crate) async fn open(path: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let pool = SqlitePoolOptions::new().max_connections(2).connect_with(options).await;
        let pool = pool.map_err(SiteError::journal("opening"))?;
        let migrated = sqlx::migrate!("./migrations").run(&pool).await;
        migrated.map_err(|source| SiteError::Schema { path: path.to_owned(), source })?;
        Ok(Self { pool })
    }

    /// Opens an existing journal to look at, beside a running daemon or without one.
    pub(crate) async fn open_to_read(path: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new().filename(path).create_if_missing(false);
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await;
        Ok(Self { pool: pool.map_err(SiteError::journal("opening"))? })
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    // ---- the agent

    pub(crate) async fn now(&self) -> Result<Option<Now>> {
        let row = sqlx::query("select state, since_ms, note from agent where id = 1").fetch_optional(&self.pool).await;
        let Some(row) = row.map_err(SiteError::journal("reading the state"))? else { return Ok(None) };
        Ok(Some(Now {
            state: json(&text(&row, 0)?, "state")?,
            since: Timestamp(row.try_get(1).map_err(SiteError::journal("reading the state"))?),
            note: row.try_get(2).map_err(SiteError::journal("reading the state"))?,
        }))
    }

    pub(crate) async fn set_state(&self, state: &AgentState) -> Result<()> {
        let sql = "insert into agent (id, state, since_ms) values (1, ?, ?) \
                   on conflict (id) do update set state = excluded.state, since_ms = excluded.since_ms";
        let query = sqlx::query(sql).bind(to_json(state)?).bind(clock::now().0);
        query.execute(&self.pool).await.map_err(SiteError::journal("writing the state"))?;
        Ok(())
    }

    /// Changes the state without beginning a new one: what it waits for is the same, since the same moment.
    pub(crate) async fn update_state(&self, state: &AgentState) -> Result<()> {
        let query = sqlx::query("update agent set state = ? where id = 1").bind(to_json(state)?);
        query.execute(&self.pool).await.map_err(SiteError::journal("writing the state"))?;
        Ok(())
    }

    pub(crate) async fn set_note(&self, note: Option<&str>) -> Result<()> {
        let query = sqlx::query("update agent set note = ? where id = 1").bind(note);
        query.execute(&self.pool).await.map_err(SiteError::journal("writing a note"))?;
        Ok(())
    }

    // ---- studies and tasks

    pub(crate) async fn plan(&self, study: &StudyId) -> Result<Option<Vec<u8>>> {
        let row = sqlx::query("select plan from study where study = ?").bind(study.as_str());
        let row = row.fetch_optional(&self.pool).await.map_err(SiteError::journal("reading a plan"))?;
        row.map(|r| r.try_get(0).map_err(SiteError::journal("reading a plan"))).transpose()
    }

    pub(crate) async fn put_plan(&self, study: &StudyId, plan: &[u8]) -> Result<()> {
        let sql = "insert into study (study, plan, joined_ms) values (?, ?, ?) on conflict (study) do nothing";
        let query = sqlx::query(sql).bind(study.as_str()).bind(plan).bind(clock::now().0);
        query.execute(&self.pool).await.map_err(SiteError::journal("writing a plan"))?;
        Ok(())
    }

    /// Notes that a task is begun. Results of the same round from another generation are dropped; corrections, a
    /// person's work, are kept.
    pub(crate) async fn begin(&self, kind: TaskKind, order: &WorkOrder) -> Result<()> {
        let failed = || SiteError::journal("beginning a task");
        let (study, round) = (order.study.as_str(), order.round.0);
        let mut tx = self.pool.begin().await.map_err(failed())?;
        let sql = "select manifest from task where study = ? and round = ? and kind = ?";
        let row = sqlx::query(sql).bind(study).bind(round).bind(kind.as_str()).fetch_optional(&mut *tx).await;
        let before = row.map_err(failed())?.map(|row| text(&row, 0)).transpose()?;
        if kind == TaskKind::Learn && before.as_ref().is_some_and(|m| *m != order.manifest.to_string()) {
            for sql in [
                "delete from scan where study = ? and round = ?",
                "delete from rehearsal where study = ? and round = ?",
                "delete from training_set where study = ? and round = ?",
                "delete from member where study = ? and round = ?",
                "delete from update_made where study = ? and round = ?",
            ] {
                sqlx::query(sql).bind(study).bind(round).execute(&mut *tx).await.map_err(failed())?;
            }
        }
        let sql = "insert into task (study, round, kind, manifest, begun_ms) values (?, ?, ?, ?, ?) \
                   on conflict (study, round, kind) do update set manifest = excluded.manifest";
        let query = sqlx::query(sql).bind(study).bind(round).bind(kind.as_str());
        let query = query.bind(order.manifest.to_string()).bind(clock::now().0);
        query.execute(&mut *tx).await.map_err(failed())?;
        tx.commit().await.map_err(failed())
    }

    pub(crate) async fn add_seconds(&self, order: &WorkOrder, stage: &str, seconds: f64) -> Result<()> {
        let sql = "insert into timing (study, round, stage, seconds) values (?, ?, ?, ?) \
                   on conflict (study, round, stage) do update set seconds = seconds + excluded.seconds";
        let query = sqlx::query(sql).bind(order.study.as_str()).bind(order.round.0).bind(stage).bind(seconds);
        query.execute(&self.pool).await.map_err(SiteError::journal("writing a time"))?;
        Ok(())
    }

    pub(crate) async fn seconds(&self, order: &WorkOrder) -> Result<BTreeMap<String, f64>> {
        let query = sqlx::query("select stage, seconds from timing where study = ? and round = ?");
        let rows = query.bind(order.study.as_str()).bind(order.round.0).fetch_all(&self.pool).await;
        let rows = rows.map_err(SiteError::journal("reading times"))?;
        let pair = |row: &SqliteRow| Ok((text(row, 0)?, row.try_get(1).map_err(SiteError::journal("reading times"))?));
        rows.iter().map(pair).collect()
    }

    // ---- scan, selection, corrections

    pub(crate) async fn scans(&self, study: &StudyId, round: RoundNumber) -> Result<BTreeMap<String, ScanRow>> {
        let sql = "select slide, candidates, problem, rehearsal from scan where study = ? and round = ?";
        let rows = self.rows(sql, study, round).await?;
        let mut scans = BTreeMap::new();
        for row in &rows {
            let problem = row.try_get(2).map_err(SiteError::journal("reading scans"))?;
            let (candidates, rehearsal) = (json(&text(row, 1)?, "candidates")?, json(&text(row, 3)?, "rehearsal")?);
            scans.insert(text(row, 0)?, ScanRow { candidates, rehearsal, problem });
        }
        Ok(scans)
    }

    pub(crate) async fn put_scan(&self, order: &WorkOrder, slide: &str, scan: &ScanRow) -> Result<()> {
        let sql = "insert into scan (study, round, slide, candidates, problem, rehearsal) values (?, ?, ?, ?, ?, ?) \
                   on conflict (study, round, slide) do update set candidates = excluded.candidates, \
                   problem = excluded.problem, rehearsal = excluded.rehearsal";
        let query = sqlx::query(sql).bind(order.study.as_str()).bind(order.round.0).bind(slide);
        let query = query.bind(to_json(&scan.candidates)?).bind(scan.problem.as_deref());
        let query = query.bind(to_json(&scan.rehearsal)?);
        query.execute(&self.pool).await.map_err(SiteError::journal("writing a scan"))?;
        Ok(())
    }

    /// The selections of this study, by round.
    pub(crate) async fn selections(&self, study: &StudyId) -> Result<BTreeMap<u32, Vec<Selected>>> {
        let query = sqlx::query("select round, patches from selection where study = ?").bind(study.as_str());
        let rows = query.fetch_all(&self.pool).await.map_err(SiteError::journal("reading selections"))?;
        rows.iter().map(|row| Ok((number(row, 0)?, json(&text(row, 1)?, "selection")?))).collect()
    }

    /// What a round rehearses.
    pub(crate) async fn rehearsed(&self, order: &WorkOrder) -> Result<Vec<Rehearsed>> {
        let sql = "select boxes from rehearsal where study = ? and round = ?";
        let rows = self.rows(sql, &order.study, order.round).await?;
        rows.first().map_or(Ok(Vec::new()), |row| json(&text(row, 0)?, "rehearsal"))
    }

    /// Keeps what was selected and what is rehearsed. The candidates of the scans are no longer needed.
    pub(crate) async fn put_selection(
        &self,
        order: &WorkOrder,
        patches: &[Selected],
        rehearsed: &[Rehearsed],
    ) -> Result<()> {
        let failed = || SiteError::journal("writing a selection");
        let (study, round) = (order.study.as_str(), order.round.0);
        let mut tx = self.pool.begin().await.map_err(failed())?;
        let sql = "insert into selection (study, round, patches, made_ms) values (?, ?, ?, ?) \
                   on conflict (study, round) do nothing";
        let query = sqlx::query(sql).bind(study).bind(round).bind(to_json(&patches)?).bind(clock::now().0);
        query.execute(&mut *tx).await.map_err(failed())?;
        let sql = "insert into rehearsal (study, round, boxes) values (?, ?, ?) on conflict (study, round) do nothing";
        let query = sqlx::query(sql).bind(study).bind(round).bind(to_json(&rehearsed)?);
        query.execute(&mut *tx).await.map_err(failed())?;
        let sql = "update scan set candidates = '[]', rehearsal = '[]' where study = ? and round = ?";
        sqlx::query(sql).bind(study).bind(round).execute(&mut *tx).await.map_err(failed())?;
        tx.commit().await.map_err(failed())
    }

    /// The corrections of this study, by round and patch.
    pub(crate) async fn corrections(&self, study: &StudyId) -> Result<BTreeMap<(u32, u32), CorrectionRecord>> {
        let query = sqlx::query("select round, patch, record from correction where study = ?").bind(study.as_str());
        let rows = query.fetch_all(&self.pool).await.map_err(SiteError::journal("reading corrections"))?;
        let entry = |row: &SqliteRow| Ok(((number(row, 0)?, number(row, 1)?), json(&text(row, 2)?, "correction")?));
        rows.iter().map(entry).collect()
    }

    pub(crate) async fn put_correction(
        &self,
        study: &StudyId,
        (round, patch): (u32, u32),
        record: &CorrectionRecord,
    ) -> Result<()> {
        let sql = "insert into correction (study, round, patch, record) values (?, ?, ?, ?) \
                   on conflict (study, round, patch) do nothing";
        let query = sqlx::query(sql).bind(study.as_str()).bind(round).bind(patch).bind(to_json(record)?);
        query.execute(&self.pool).await.map_err(SiteError::journal("writing a correction"))?;
        Ok(())
    }

    // ---- fine-tuning and update

    pub(crate) async fn training_set(&self, order: &WorkOrder) -> Result<Option<TrainingSet>> {
        let sql = "select parts from training_set where study = ? and round = ?";
        let rows = self.rows(sql, &order.study, order.round).await?;
        rows.first().map(|row| json(&text(row, 0)?, "training set")).transpose()
    }

    pub(crate) async fn put_training_set(&self, order: &WorkOrder, set: &TrainingSet) -> Result<()> {
        let sql =
            "insert into training_set (study, round, parts) values (?, ?, ?) on conflict (study, round) do nothing";
        let query = sqlx::query(sql).bind(order.study.as_str()).bind(order.round.0).bind(to_json(set)?);
        query.execute(&self.pool).await.map_err(SiteError::journal("writing a training set"))?;
        Ok(())
    }

    pub(crate) async fn members(&self, order: &WorkOrder) -> Result<BTreeMap<usize, MemberRecord>> {
        let sql = "select member, record from member where study = ? and round = ?";
        let rows = self.rows(sql, &order.study, order.round).await?;
        rows.iter().map(|row| Ok((number(row, 0)? as usize, json(&text(row, 1)?, "member")?))).collect()
    }

    /// Deltas that no coordinator has answered for yet, of the newest round of the few studies begun last: what an
    /// aborted study leaves goes in time.
    pub(crate) async fn unanswered_deltas(&self) -> Result<BTreeSet<Digest>> {
        let sql = "select m.record from member m left join update_made u on u.study = m.study and u.round = m.round \
                   where u.answered_ms is null and m.round = (select max(round) from task where study = m.study) \
                   and m.study in (select study from task group by study order by max(begun_ms) desc limit 3)";
        let rows = sqlx::query(sql).fetch_all(&self.pool).await.map_err(SiteError::journal("reading members"))?;
        rows.iter().map(|row| Ok(json::<MemberRecord>(&text(row, 0)?, "member")?.delta)).collect()
    }

    pub(crate) async fn put_member(&self, order: &WorkOrder, member: usize, record: &MemberRecord) -> Result<()> {
        let sql = "insert into member (study, round, member, record) values (?, ?, ?, ?) \
                   on conflict (study, round, member) do update set record = excluded.record";
        let query = sqlx::query(sql).bind(order.study.as_str()).bind(order.round.0);
        let query = query.bind(i64::try_from(member).unwrap_or(i64::MAX)).bind(to_json(record)?);
        query.execute(&self.pool).await.map_err(SiteError::journal("writing a member"))?;
        Ok(())
    }

    /// The update of a round, and whether the coordinator has answered it.
    pub(crate) async fn update(&self, order: &WorkOrder) -> Result<Option<Update>> {
        let sql = "select body from update_made where study = ? and round = ?";
        let rows = self.rows(sql, &order.study, order.round).await?;
        rows.first().map(|row| json(&text(row, 0)?, "update")).transpose()
    }

    pub(crate) async fn put_update(&self, update: &Update) -> Result<()> {
        let sql = "insert into update_made (study, round, body) values (?, ?, ?) on conflict (study, round) do nothing";
        let query = sqlx::query(sql).bind(update.study.as_str()).bind(update.round.0).bind(to_json(update)?);
        query.execute(&self.pool).await.map_err(SiteError::journal("writing an update"))?;
        Ok(())
    }

    pub(crate) async fn update_answered(&self, order: &WorkOrder) -> Result<()> {
        let query = sqlx::query("update update_made set answered_ms = ? where study = ? and round = ?");
        let query = query.bind(clock::now().0).bind(order.study.as_str()).bind(order.round.0);
        query.execute(&self.pool).await.map_err(SiteError::journal("writing an answer"))?;
        Ok(())
    }

    // ---- evaluation

    pub(crate) async fn evaluation(&self, order: &WorkOrder) -> Result<Option<Evaluation>> {
        let query = sqlx::query("select body from evaluation where study = ? and round = ? and manifest = ?");
        let query = query.bind(order.study.as_str()).bind(order.round.0).bind(order.manifest.to_string());
        let row = query.fetch_optional(&self.pool).await.map_err(SiteError::journal("reading an evaluation"))?;
        row.map(|row| json(&text(&row, 0)?, "evaluation")).transpose()
    }

    pub(crate) async fn put_evaluation(&self, report: &Evaluation) -> Result<()> {
        let sql = "insert into evaluation (study, round, manifest, body) values (?, ?, ?, ?) \
                   on conflict (study, round, manifest) do nothing";
        let query = sqlx::query(sql).bind(report.study.as_str()).bind(report.round.0);
        let query = query.bind(report.manifest.to_string()).bind(to_json(report)?);
        query.execute(&self.pool).await.map_err(SiteError::journal("writing an evaluation"))?;
        Ok(())
    }

    pub(crate) async fn evaluation_answered(&self, report: &Evaluation) -> Result<()> {
        let sql = "update evaluation set answered_ms = ? where study = ? and round = ? and manifest = ?";
        let query = sqlx::query(sql).bind(clock::now().0).bind(report.study.as_str()).bind(report.round.0);
        let query = query.bind(report.manifest.to_string());
        query.execute(&self.pool).await.map_err(SiteError::journal("writing an answer"))?;
        Ok(())
    }

    // ---- slides and bundles

    pub(crate) async fn put_problem(&self, slide: &str, problem: &str) -> Result<()> {
        let sql = "insert into slide_problem (slide, problem, seen_ms) values (?, ?, ?) \
                   on conflict (slide) do update set problem = excluded.problem, seen_ms = excluded.seen_ms";
        let query = sqlx::query(sql).bind(slide).bind(problem).bind(clock::now().0);
        query.execute(&self.pool).await.map_err(SiteError::journal("writing a problem"))?;
        Ok(())
    }

    pub(crate) async fn clear_problem(&self, slide: &str) -> Result<()> {
        let query = sqlx::query("delete from slide_problem where slide = ?").bind(slide);
        query.execute(&self.pool).await.map_err(SiteError::journal("clearing a problem"))?;
        Ok(())
    }

    /// Forgets the problems of slides that are gone.
    pub(crate) async fn forget_problems_except(&self, there: &BTreeSet<&str>) -> Result<()> {
        for problem in self.problems().await? {
            if !there.contains(problem.slide.as_str()) {
                self.clear_problem(&problem.slide).await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn problems(&self) -> Result<Vec<SlideProblem>> {
        let query = sqlx::query("select slide, problem, seen_ms from slide_problem order by slide");
        let rows = query.fetch_all(&self.pool).await.map_err(SiteError::journal("reading problems"))?;
        let problem = |row: &SqliteRow| {
            let seen = Timestamp(row.try_get(2).map_err(SiteError::journal("reading problems"))?);
            Ok(SlideProblem { slide: text(row, 0)?, problem: text(row, 1)?, seen })
        };
        rows.iter().map(problem).collect()
    }

    /// Notes that a generation is in use; answers the `keep` generations used last.
    pub(crate) async fn use_bundle(&self, manifest: &Digest, keep: u32) -> Result<Vec<Digest>> {
        let failed = || SiteError::journal("noting a generation");
        let sql = "insert into bundle (manifest, used_ms) values (?, ?) \
                   on conflict (manifest) do update set used_ms = excluded.used_ms";
        let query = sqlx::query(sql).bind(manifest.to_string()).bind(clock::now().0);
        query.execute(&self.pool).await.map_err(failed())?;
        let query = sqlx::query("select manifest from bundle order by used_ms desc, rowid desc limit ?").bind(keep);
        let rows = query.fetch_all(&self.pool).await.map_err(failed())?;
        rows.iter().map(|row| Ok(text(row, 0)?.parse::<Digest>()?)).collect()
    }

    async fn rows(&self, sql: &'static str, study: &StudyId, round: RoundNumber) -> Result<Vec<SqliteRow>> {
        let query = sqlx::query(sql).bind(study.as_str()).bind(round.0);
        query.fetch_all(&self.pool).await.map_err(SiteError::journal("reading"))
    }
}

fn text(row: &SqliteRow, column: usize) -> Result<String> {
    row.try_get(column).map_err(SiteError::journal("reading"))
}

fn number(row: &SqliteRow, column: usize) -> Result<u32> {
    row.try_get(column).map_err(SiteError::journal("reading"))
}

fn json<T: DeserializeOwned>(text: &str, what: &'static str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| SiteError::Journal {
        doing: "reading",
        source: sqlx::Error::Decode(format!("{what}: {e}").into()),
    })
}

fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|e| SiteError::Journal { doing: "writing", source: sqlx::Error::Encode(Box::new(e)) })
}

#[cfg(test)]
mod tests;
