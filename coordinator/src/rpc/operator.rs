//! `Operator`: what the central group says.

use std::sync::Arc;
use std::time::Duration;

use consilium_common::messages::clip_reason;
use consilium_common::round::Event;
use consilium_common::{ErrorCode, SiteId, StudyId};
use consilium_proto::v1::operator_server::Operator;
use consilium_proto::{digest_from, parse_id, status, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tracing::{info, warn};

use super::Context;
use super::access::peer;
use crate::engine::no_such_study;
use crate::error::{CoordinatorError, Result};
use crate::identity::enrolment;

type Answer<T> = Result<Response<T>, Status>;

/// Signs of life do not wake a watcher; it looks at them this often.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// States that wait for a slow watcher.
const WATCH_QUEUE: usize = 4;

pub(super) struct Service(pub(super) Arc<Context>);

#[tonic::async_trait]
impl Operator for Service {
    type WatchStudyStream = ReceiverStream<Result<v1::WatchStudyResponse, Status>>;

    async fn invite_site(&self, request: Request<v1::InviteSiteRequest>) -> Answer<v1::InviteSiteResponse> {
        self.0.operator(peer(&request))?;
        let v1::InviteSiteRequest { site_id, valid_s } = request.into_inner();
        let site: SiteId = parse_id(&site_id).map_err(status::invalid)?;
        let invited = enrolment::invite(&self.0.intake.store, &site, valid_s, self.0.clock.now()).await?;
        Ok(Response::new(v1::InviteSiteResponse {
            token: invited.token,
            ca_fingerprint: self.0.authority.fingerprint(),
            expires_unix_ms: invited.expires.0,
        }))
    }

    async fn list_sites(&self, request: Request<v1::ListSitesRequest>) -> Answer<v1::ListSitesResponse> {
        self.0.operator(peer(&request))?;
        let rows = self.0.intake.store.sites().await?;
        let sites = rows.into_iter().map(|row| self.0.site_view(row).into()).collect();
        Ok(Response::new(v1::ListSitesResponse { sites }))
    }

    async fn revoke_site(&self, request: Request<v1::RevokeSiteRequest>) -> Answer<v1::RevokeSiteResponse> {
        let operator = self.0.operator(peer(&request))?;
        let v1::RevokeSiteRequest { site_id, reason } = request.into_inner();
        let site: SiteId = parse_id(&site_id).map_err(status::invalid)?;
        let Context { intake, authority, tls, clock, .. } = &*self.0;
        let now = clock.now();
        if !intake.store.revoke(&site, &clip_reason(&reason), now).await? {
            let why = format!("site {site} is not known; `consilium-coordinator site list` shows those that are");
            return Err(CoordinatorError::refused(ErrorCode::NotFound, why).into());
        }
        warn!(%site, operator, reason, "site revoked");
        tls.set_revoked(authority, &intake.store.revocations().await?, now)?;
        intake.engine.remove_site(&site).await?;
        Ok(Response::new(v1::RevokeSiteResponse {}))
    }

    async fn create_study(&self, request: Request<v1::CreateStudyRequest>) -> Answer<v1::CreateStudyResponse> {
        let operator = self.0.operator(peer(&request))?;
        let v1::CreateStudyRequest { study_id, plan, manifest_digest, site_ids } = request.into_inner();
        let id: StudyId = parse_id(&study_id).map_err(status::invalid)?;
        let manifest = digest_from(&manifest_digest).map_err(status::invalid)?;
        let sites = site_ids.iter().map(|id| parse_id(id)).collect::<Result<_, _>>().map_err(status::invalid)?;
        let plan_digest = self.0.intake.create_study(id.clone(), plan, manifest, sites).await?;
        info!(study = %id, operator, "study created or confirmed");
        Ok(Response::new(v1::CreateStudyResponse { plan_digest: plan_digest.as_bytes().to_vec() }))
    }

    async fn list_studies(&self, request: Request<v1::ListStudiesRequest>) -> Answer<v1::ListStudiesResponse> {
        self.0.operator(peer(&request))?;
        let mut studies = Vec::new();
        for entry in self.0.intake.engine.studies().values() {
            studies.push(self.0.summary(entry).await?.into());
        }
        Ok(Response::new(v1::ListStudiesResponse { studies }))
    }

    async fn get_study(&self, request: Request<v1::GetStudyRequest>) -> Answer<v1::GetStudyResponse> {
        self.0.operator(peer(&request))?;
        let id: StudyId = parse_id(&request.into_inner().study_id).map_err(status::invalid)?;
        let entry = self.0.intake.engine.study(&id)?;
        Ok(Response::new(self.0.view(&entry).await?.into()))
    }

    async fn watch_study(&self, request: Request<v1::WatchStudyRequest>) -> Answer<Self::WatchStudyStream> {
        self.0.operator(peer(&request))?;
        let id: StudyId = parse_id(&request.into_inner().study_id).map_err(status::invalid)?;
        self.0.intake.engine.study(&id)?;
        let (sender, receiver) = mpsc::channel(WATCH_QUEUE);
        let context = Arc::clone(&self.0);
        tokio::spawn(async move {
            if let Err(error) = watch(&context, &id, &sender).await {
                // The watcher may be gone; then nobody needs to know.
                let _ = sender.send(Err(error.into())).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn abort_study(&self, request: Request<v1::AbortStudyRequest>) -> Answer<v1::AbortStudyResponse> {
        let operator = self.0.operator(peer(&request))?;
        let v1::AbortStudyRequest { study_id, reason } = request.into_inner();
        let id: StudyId = parse_id(&study_id).map_err(status::invalid)?;
        let reason = if reason.trim().is_empty() { "no reason given".to_owned() } else { clip_reason(&reason) };
        warn!(study = %id, operator, reason, "study aborted");
        self.0.intake.engine.event(&id, Event::Abort(reason)).await?;
        Ok(Response::new(v1::AbortStudyResponse {}))
    }
}

/// Sends a study's state now and whenever it differs, until the study ends, the watcher goes or the coordinator stops.
async fn watch(
    context: &Context,
    id: &StudyId,
    sender: &mpsc::Sender<Result<v1::WatchStudyResponse, Status>>,
) -> Result<()> {
    let mut changes = context.intake.engine.changes();
    let mut last = None;
    loop {
        let entry = changes.borrow_and_update().get(id).cloned().ok_or_else(|| no_such_study(id))?;
        let view = context.view(&entry).await?;
        if last.as_ref() != Some(&view) {
            let ended = view.has_ended();
            let message = v1::WatchStudyResponse { study: Some(view.clone().into()) };
            if sender.send(Ok(message)).await.is_err() || ended {
                return Ok(());
            }
            last = Some(view);
        }
        tokio::select! {
            () = tokio::time::sleep(WATCH_EVERY) => {}
            () = sender.closed() => return Ok(()),
            () = context.stop.cancelled() => return Err(CoordinatorError::Closing),
            changed = changes.changed() => changed.map_err(|_| CoordinatorError::Closing)?,
        }
    }
}
