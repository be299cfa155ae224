//! Steps 1 and 2: the plan, verified against the digest of the order, and the ensemble, verified against its manifest
//! and the plan.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use consilium_common::bundle::EnsembleManifest;
use consilium_common::messages::{Stage, WorkOrder};
use consilium_common::{Digest, Invalid, Plan, limits};
use consilium_learning::network::{Ensemble, WeightsError};

use super::{Job, Loaded, Work, blocking};
use crate::error::SiteError;
use crate::files;
use crate::link::Size;

/// Generations whose members stay on disk: the published one, and a candidate.
const GENERATIONS_KEPT: u32 = 2;

/// The plan of an order, from the journal or from the coordinator.
pub(crate) async fn plan(work: &Work, order: &WorkOrder) -> Result<Plan, SiteError> {
    if let Some(bytes) = work.journal.plan(&order.study).await? {
        return verified(&bytes, order);
    }
    let join = async || work.link.join(&order.study).await;
    let bytes = work.link.patience.until_done("joining a study", join).await?;
    let plan = verified(&bytes, order)?;
    work.journal.put_plan(&order.study, &bytes).await?;
    if let Some(study_dir) = work.layout.round(&order.study, order.round).parent() {
        files::write_atomic(&study_dir.join("plan.toml"), plan.to_toml()?.as_bytes(), files::SHARED)?;
    }
    tracing::info!(study = %order.study, plan = %order.plan.short(), "joined");
    Ok(plan)
}

fn verified(bytes: &[u8], order: &WorkOrder) -> Result<Plan, SiteError> {
    let digest = Digest::of(bytes);
    if digest != order.plan {
        let why = format!(
            "has the digest {}, but the order names {}; the plan of a study never changes, ask the central group",
            digest.short(),
            order.plan.short()
        );
        return Err(Invalid::new(format!("the plan of {}", order.study), why).into());
    }
    Ok(Plan::from_canonical(bytes)?)
}

/// The ensemble of an order: fetched where it is not here yet, checked, loaded.
pub(crate) async fn ensemble(job: &Job<'_>) -> Result<Loaded, SiteError> {
    let (work, order) = (job.work, job.order);
    let reporter = job.reporter(Stage::Download);
    let size = Size::AtMost(limits::MAX_DOCUMENT_BYTES as u64);
    let path = work.blobs.fetch(&work.link, &order.manifest, size, &|_| {}).await?;
    let manifest = EnsembleManifest::parse(&files::read(&path)?)?;
    fits_plan(&manifest, job)?;
    make_room(job).await?;
    let total: u64 = manifest.members.iter().map(|m| m.bytes).sum();
    let before = AtomicU64::new(0);
    for member in &manifest.members {
        let done = before.load(Ordering::Relaxed);
        let seen = |bytes: u64| reporter.say(done + bytes, total);
        work.blobs.fetch(&work.link, &member.digest, Size::Exactly(member.bytes), &seen).await?;
        before.fetch_add(member.bytes, Ordering::Relaxed);
        reporter.say(done + member.bytes, total);
    }
    let blobs = work.blobs.clone();
    let load = move |_: &_| {
        let read = |member: &consilium_common::MemberFile| {
            let path = blobs.path(&member.digest);
            std::fs::read(&path).map_err(|source| WeightsError::Io { doing: "read", path, source })
        };
        Ensemble::assemble(manifest, read).map_err(SiteError::learning("loading the ensemble"))
    };
    Ok(Arc::new(blocking("loading the ensemble", load).await?))
}

fn fits_plan(manifest: &EnsembleManifest, job: &Job<'_>) -> Result<(), Invalid> {
    let plan = &job.plan;
    let same = manifest.task == plan.task
        && manifest.architecture == plan.architecture
        && manifest.members.len() == plan.members
        && manifest.generation == job.order.generation;
    if same {
        return Ok(());
    }
    let why = "has another task, architecture, member count or number than plan and order say; ask the central group";
    Err(Invalid::new("the ensemble", why))
}

/// Removes blobs that neither the generations used last nor unfinished rounds, of this study and others, need.
async fn make_room(job: &Job<'_>) -> Result<(), SiteError> {
    let work = job.work;
    let mut keep = BTreeSet::new();
    for manifest in work.journal.use_bundle(&job.order.manifest, GENERATIONS_KEPT).await? {
        keep.insert(manifest);
        // One that is not here, or no longer readable, has no members to keep.
        if let Ok(bytes) = std::fs::read(work.blobs.path(&manifest))
            && let Ok(parsed) = EnsembleManifest::parse(&bytes)
        {
            keep.extend(parsed.members.iter().map(|m| m.digest));
        }
    }
    keep.extend(work.journal.members(job.order).await?.values().map(|record| record.delta));
    keep.extend(work.journal.unanswered_deltas().await?);
    work.blobs.keep_only(&keep)
}
