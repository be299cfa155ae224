//! What is checked before the engine is asked: blobs of an update and of a new study. These checks read whole files and
//! run beside the engine, never inside it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use consilium_common::messages::Update;
use consilium_common::plan::TensorShape;
use consilium_common::round::{Event, Study, Verdict, step, task_for};
use consilium_common::{Digest, EnsembleManifest, ErrorCode, Invalid, Plan, SiteId, StudyId, limits, tensors};
use tokio::sync::Semaphore;

use super::{EngineHandle, Studies};
use crate::blobs::member::MemberReader;
use crate::blobs::{BlobDir, not_here};
use crate::clock::Clock;
use crate::error::{CoordinatorError, Result};
use crate::store::{NewStudy, Store};

/// Files that are checked at once; more would only fight for the disk.
const CHECKS: usize = 2;

/// The checks' surroundings.
#[derive(Clone)]
pub(crate) struct Intake {
    pub(crate) engine: EngineHandle,
    pub(crate) store: Store,
    pub(crate) blobs: Arc<BlobDir>,
    pub(crate) clock: Arc<dyn Clock>,
    slots: Arc<Semaphore>,
}

/// What a site may upload now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowance {
    /// Bytes of one blob.
    pub(crate) max_bytes: u64,
    /// Blobs that no update refers to yet.
    pub(crate) max_loose: usize,
}

/// The name under which a site's uploads are kept.
pub(crate) fn owner_of(site: &SiteId) -> String {
    format!("site-{site}")
}

/// The name under which operators' uploads are kept.
pub(crate) const OPERATOR: &str = "operator";

impl Intake {
    pub(crate) fn new(engine: EngineHandle, store: Store, blobs: Arc<BlobDir>, clock: Arc<dyn Clock>) -> Self {
        Self { engine, store, blobs, clock, slots: Arc::new(Semaphore::new(CHECKS)) }
    }

    /// Checks an update and hands it to its study. The same update again is answered without a second look.
    pub(crate) async fn submit(&self, site: SiteId, update: Update) -> Result<Verdict> {
        let entry = self.engine.study(&update.study)?;
        // A dry run: what the study would refuse or knows already need not be read from disk.
        let event = Event::Submitted(site.clone(), update.clone());
        let (_, _, verdict) = step(&entry.plan, &entry.state, event, self.clock.now())?;
        if verdict == Verdict::Repeated {
            return Ok(verdict);
        }
        let owner = owner_of(&site);
        let digests: BTreeSet<Digest> = update.members.iter().copied().collect();
        for digest in &digests {
            if self.store.upload_bytes(&owner, digest).await?.is_none() {
                return Err(not_here(digest));
            }
        }
        let expected = entry.plan.architecture.tensors();
        self.check_members(digests.into_iter().map(|digest| (digest, None)).collect(), expected).await?;
        self.engine.submit(owner, site, update).await
    }

    /// Checks a new study's plan, sites and ensemble, and creates it.
    pub(crate) async fn create_study(
        &self,
        id: StudyId,
        plan_bytes: Vec<u8>,
        manifest_digest: Digest,
        mut sites: Vec<SiteId>,
    ) -> Result<Digest> {
        let plan = Plan::from_canonical(&plan_bytes)?;
        let plan_digest = Digest::of(&plan_bytes);
        if plan.canonical_bytes()? != plan_bytes {
            return Err(Invalid::new("plan", "is not in canonical form; use the client of the same version").into());
        }
        sites.sort();
        sites.dedup();
        self.check_sites(&plan, &sites).await?;
        let manifest = self.blobs.read_small(&manifest_digest, limits::MAX_DOCUMENT_BYTES)?;
        let manifest = EnsembleManifest::parse(&manifest)?;
        check_bundle(&plan, &manifest)?;
        let expected = plan.architecture.tensors();
        let members = manifest.members.iter().map(|member| (member.digest, Some(member.bytes))).collect();
        self.check_members(members, expected).await?;

        let mut blobs: Vec<Digest> = manifest.members.iter().map(|member| member.digest).collect();
        blobs.push(manifest_digest);
        let state = Study::new(id, plan_digest, sites.clone(), manifest_digest, self.clock.now());
        let new = NewStudy { state, plan: plan_bytes, manifest: manifest_digest, sites };
        self.engine.create(new, plan, blobs).await?;
        Ok(plan_digest)
    }

    async fn check_sites(&self, plan: &Plan, sites: &[SiteId]) -> Result<()> {
        let need = plan.quorum.min_sites;
        if sites.len() < need || sites.len() > limits::MAX_SITES {
            let why = format!("{} sites are given, the plan's quorum.min_sites needs {need}; add --site", sites.len());
            return Err(Invalid::new("sites", why).into());
        }
        let known: BTreeMap<_, _> = self.store.sites().await?.into_iter().map(|row| (row.site, row.revoked)).collect();
        for site in sites {
            let why = match known.get(site) {
                Some(false) => continue,
                Some(true) => format!("site {site} is revoked; invite it again first"),
                None => format!("site {site} is not known; invite it first with `site invite {site}`"),
            };
            return Err(Invalid::new("sites", why).into());
        }
        Ok(())
    }

    /// Checks that these blobs are complete, of the given size where one is given, and hold finite tensors of the
    /// architecture.
    async fn check_members(&self, blobs: BTreeMap<Digest, Option<u64>>, expected: Vec<TensorShape>) -> Result<()> {
        if blobs.is_empty() {
            return Ok(());
        }
        // The semaphore is never closed.
        let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(|_| CoordinatorError::Closing)?;
        let dir = Arc::clone(&self.blobs);
        let check = move || {
            let _slot = slot;
            for (digest, bytes) in blobs {
                let size = dir.size(&digest)?.ok_or_else(|| not_here(&digest))?;
                if bytes.is_some_and(|bytes| bytes != size) {
                    let why = format!("blob {} has {size} bytes, the manifest says otherwise", digest.short());
                    return Err(Invalid::new("bundle", why).into());
                }
                let named = |error: CoordinatorError| match error {
                    CoordinatorError::Invalid(Invalid { what, why }) => {
                        Invalid::new(format!("blob {}: {what}", digest.short()), why).into()
                    }
                    other => other,
                };
                MemberReader::open(&dir.path(&digest), &expected).and_then(|m| m.check_values()).map_err(named)?;
            }
            Ok(())
        };
        tokio::task::spawn_blocking(check).await.map_err(|e| CoordinatorError::internal("checking blobs", e))?
    }
}

/// Checks that an ensemble is of the kind that a plan describes.
///
/// # Errors
/// Names what differs.
pub(crate) fn check_bundle(plan: &Plan, manifest: &EnsembleManifest) -> Result<()> {
    let fail =
        |why: String| Err(Invalid::new("bundle", format!("{why}; use the plan that it was trained with")).into());
    if manifest.task != plan.task {
        return fail("its classes or spacing are not those of the plan".into());
    }
    if manifest.architecture != plan.architecture {
        return fail("its architecture is not that of the plan".into());
    }
    if manifest.members.len() != plan.members {
        return fail(format!("it has {} members, the plan {}", manifest.members.len(), plan.members));
    }
    if manifest.generation.0 != 0 {
        return fail(format!("it is generation {}, a study starts from generation 0", manifest.generation));
    }
    Ok(())
}

/// What a site may upload: deltas of the studies that wait for its update, and nothing while none does.
pub(crate) fn allowance(studies: &Studies, site: &SiteId) -> Option<Allowance> {
    let learning = studies.values().filter(|entry| {
        matches!(task_for(&entry.plan, &entry.state, site), consilium_common::messages::Task::Learn(_))
    });
    let mut all = None;
    for entry in learning {
        let expected = entry.plan.architecture.tensors();
        // Another writer of safetensors may lay out its header with more room.
        let slack = 64 * 1024 + 256 * expected.len() as u64;
        let sum = all.get_or_insert(Allowance { max_bytes: 0, max_loose: 0 });
        sum.max_bytes = sum.max_bytes.max(tensors::file_len(&expected) + slack);
        // Twice: a site that trained again after a crash may come with other deltas before the first ones are swept.
        sum.max_loose += 2 * entry.plan.members;
    }
    all
}

/// The refusal of an upload that nobody waits for.
pub(crate) fn no_open_task(site: &SiteId) -> CoordinatorError {
    let why = format!("no study waits for an update of site {site}; ask for the next task");
    CoordinatorError::refused(ErrorCode::OutOfDate, why)
}

#[cfg(test)]
mod tests {
    use consilium_common::bundle::Normalisation;

    use super::*;
    use crate::testing;

    #[test]
    fn an_ensemble_of_another_kind_starts_no_study() {
        let plan = testing::plan(1, None);
        let members = [testing::constant(&plan, 0.0), testing::constant(&plan, 1.0)];
        let fits = EnsembleManifest::parse(&testing::manifest(&plan, &members)).unwrap();
        check_bundle(&plan, &fits).unwrap();
        let scored = EnsembleManifest { normalisation: Normalisation::ZScore, ..fits.clone() };
        check_bundle(&plan, &scored).unwrap();
        let fewer = EnsembleManifest { members: fits.members[..1].to_vec(), ..fits };
        let refused = check_bundle(&plan, &fewer).unwrap_err().to_string();
        assert!(refused.contains("1 members, the plan 2"), "{refused}");
    }
}
