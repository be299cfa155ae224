//! `Federation`: what sites say. Only `Enrol` needs no certificate.

use std::sync::Arc;
use std::time::Duration;

use consilium_common::messages::{Evaluation, Progress, Task, Update};
use consilium_common::round::{Event, Verdict};
use consilium_common::{ErrorCode, SiteId, StudyId, limits};
use consilium_proto::v1::federation_server::Federation;
use consilium_proto::{parse_id, status, v1};
use tonic::{Request, Response, Status};
use tracing::{info, warn};

use super::Context;
use super::access::peer;
use crate::engine::next_task;
use crate::error::CoordinatorError;
use crate::identity::enrolment;

type Answer<T> = Result<Response<T>, Status>;

pub(super) struct Service(pub(super) Arc<Context>);

#[tonic::async_trait]
impl Federation for Service {
    async fn enrol(&self, request: Request<v1::EnrolRequest>) -> Answer<v1::EnrolResponse> {
        let address = request.remote_addr();
        let v1::EnrolRequest { site_id, token, csr_pem } = request.into_inner();
        let site: SiteId = parse_id(&site_id).map_err(status::invalid)?;
        let Context { intake, authority, clock, .. } = &*self.0;
        match enrolment::enrol(&intake.store, authority, &site, &token, &csr_pem, clock.now()).await {
            Ok(certificate_pem) => {
                Ok(Response::new(v1::EnrolResponse { certificate_pem, ca_pem: authority.pem().to_owned() }))
            }
            Err(error) => {
                warn!(%site, ?address, %error, "enrolment refused");
                Err(error.into())
            }
        }
    }

    async fn join(&self, request: Request<v1::JoinRequest>) -> Answer<v1::JoinResponse> {
        let site = self.0.site(peer(&request)).await?;
        let study: StudyId = parse_id(&request.into_inner().study_id).map_err(status::invalid)?;
        let engine = &self.0.intake.engine;
        if engine.event(&study, Event::Joined(site.clone())).await? == Verdict::Accepted {
            info!(%site, %study, "site joined");
        }
        let entry = engine.study(&study)?;
        Ok(Response::new(v1::JoinResponse { plan: entry.plan_bytes.to_vec() }))
    }

    async fn next_task(&self, request: Request<v1::NextTaskRequest>) -> Answer<v1::NextTaskResponse> {
        let site = self.0.site(peer(&request)).await?;
        let wait = Duration::from_secs(u64::from(request.into_inner().wait_s).min(limits::LONG_POLL_S));
        let deadline = tokio::time::Instant::now() + wait;
        let mut changes = self.0.intake.engine.changes();
        loop {
            let studies = Arc::clone(&changes.borrow_and_update());
            let task = next_task(&studies, &site, self.0.clock.now());
            if !matches!(task, Task::Wait { .. }) {
                return Ok(Response::new((&task).into()));
            }
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return Ok(Response::new((&task).into())),
                () = self.0.stop.cancelled() => return Err(CoordinatorError::Closing.into()),
                changed = changes.changed() => changed.map_err(|_| CoordinatorError::Closing)?,
            }
        }
    }

    async fn report_progress(&self, request: Request<v1::ReportProgressRequest>) -> Answer<v1::ReportProgressResponse> {
        let site = self.0.site(peer(&request)).await?;
        let progress: Progress = request.into_inner().try_into().map_err(status::invalid)?;
        let entry = self.0.intake.engine.study(&progress.study)?;
        if !entry.state.sites.contains_key(&site) {
            let why = format!("site {site} is not part of study {}; ask the central group", progress.study);
            return Err(CoordinatorError::refused(ErrorCode::Forbidden, why).into());
        }
        self.0.presence.progress(&site, progress);
        Ok(Response::new(v1::ReportProgressResponse {}))
    }

    async fn submit(&self, request: Request<v1::SubmitRequest>) -> Answer<v1::SubmitResponse> {
        let site = self.0.site(peer(&request)).await?;
        let update: Update = request.into_inner().try_into().map_err(status::invalid)?;
        let (study, round, pass) = (update.study.clone(), update.round, update.is_pass());
        let verdict = self.0.intake.submit(site.clone(), update).await.inspect_err(|error| {
            warn!(%site, %study, %round, %error, "update refused");
        })?;
        let already_accepted = verdict == Verdict::Repeated;
        info!(%site, %study, %round, pass, already_accepted, "update accepted");
        Ok(Response::new(v1::SubmitResponse { already_accepted }))
    }

    async fn report_evaluation(
        &self,
        request: Request<v1::ReportEvaluationRequest>,
    ) -> Answer<v1::ReportEvaluationResponse> {
        let site = self.0.site(peer(&request)).await?;
        let report: Evaluation = request.into_inner().try_into().map_err(status::invalid)?;
        let (study, round, mean_dice) = (report.study.clone(), report.round, report.mean_dice);
        if self.0.intake.engine.event(&study, Event::Evaluated(site.clone(), report)).await? == Verdict::Accepted {
            info!(%site, %study, %round, ?mean_dice, "evaluation accepted");
        }
        Ok(Response::new(v1::ReportEvaluationResponse {}))
    }
}
