//! A real coordinator and real sites in this process, over loopback gRPC with mutual TLS, until the study has ended.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use consilium_common::plan::Plan;
use consilium_common::{SiteId, StudyId};
use consilium_coordinator::client::{OperatorClient, OperatorConfig};
use consilium_coordinator::view::StudyView;
use consilium_coordinator::{CoordinatorConfig, init, serve};
use consilium_site_client::{CorrectorConfig, SiteConfig, SiteError, enrol, run_with};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{JoinSet, LocalSet};
use tokio_util::sync::CancellationToken;

use super::ExperimentError;
use super::console::{Console, SiteBars};
use super::workspace::Workspace;

/// How often the study is looked at.
const LOOK: Duration = Duration::from_millis(400);

/// What a study is held with.
pub(crate) struct Federation<'a> {
    pub(crate) workspace: &'a Workspace,
    pub(crate) sites: &'a [SiteId],
    pub(crate) study: &'a StudyId,
    pub(crate) plan: &'a Plan,
    pub(crate) console: &'a Console,
    pub(crate) shutdown: &'a CancellationToken,
}

/// Something that ran beside the study has ended.
enum Ended {
    Coordinator(Result<(), consilium_coordinator::CoordinatorError>),
    Site(SiteId, Result<(), SiteError>),
}

impl Federation<'_> {
    /// Holds the study from its creation to its end.
    pub(crate) async fn hold(&self) -> Result<StudyView, ExperimentError> {
        let stop = self.shutdown.child_token();
        let mut running = JoinSet::new();
        // The daemons share this thread: they only wait, their computations run on threads of their own.
        let here = LocalSet::new();
        let all = here.run_until(async {
            let held = tokio::select! {
                held = Box::pin(self.hold_with(&stop, &mut running)) => held,
                () = self.shutdown.cancelled() => Err(ExperimentError::Stopped),
            };
            stop.cancel();
            while running.join_next().await.is_some() {}
            held
        });
        Box::pin(all).await
    }

    async fn hold_with(
        &self,
        stop: &CancellationToken,
        running: &mut JoinSet<Ended>,
    ) -> Result<StudyView, ExperimentError> {
        let folder = self.workspace.coordinator();
        init(&folder, &["localhost".to_owned(), Ipv4Addr::LOCALHOST.to_string()])?;
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let config = CoordinatorConfig { data_dir: folder.clone(), listen };
        let (ready, address) = oneshot::channel();
        let serving = serve(config, ready, stop.clone());
        running.spawn_local(async move { Ended::Coordinator(Box::pin(serving).await) });
        let address = address.await.map_err(|_| ExperimentError::EndedEarly("the coordinator".into()))?;

        let operator = OperatorClient::connect(&OperatorConfig::of_data_dir(&folder)?.at(address)).await?;
        let configs = self.enrol_sites(&operator, address).await?;
        let bundle = self.workspace.first_ensemble();
        operator.create_study(self.study, self.plan, &bundle, self.sites).await?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let compute = Arc::new(Semaphore::new(cores));
        for config in configs {
            let (site, compute, stop) = (config.site.clone(), Arc::clone(&compute), stop.clone());
            running.spawn_local(async move { Ended::Site(site, Box::pin(run_with(config, stop, compute)).await) });
        }
        let view = self.watch(&operator, running).await?;
        operator.export(self.study, None, &self.workspace.ensemble()).await?;
        Ok(view)
    }

    /// Invites and enrols every site, as a person would by hand.
    async fn enrol_sites(
        &self,
        operator: &OperatorClient,
        address: SocketAddr,
    ) -> Result<Vec<SiteConfig>, ExperimentError> {
        let mut configs = Vec::new();
        for site in self.sites {
            let invitation = operator.invite(site, 0).await?;
            let config = SiteConfig::new(
                &format!("https://localhost:{}", address.port()),
                site.clone(),
                self.workspace.state(site.as_str()),
                self.workspace.data(site.as_str()),
                CorrectorConfig::Masks,
            );
            let enrolled = Box::pin(enrol(&config, &invitation.token, &invitation.ca_fingerprint)).await;
            enrolled.map_err(|source| ExperimentError::Site { site: site.clone(), source })?;
            configs.push(config);
        }
        Ok(configs)
    }

    /// Looks at the study until it has ended, or something else has.
    async fn watch(
        &self,
        operator: &OperatorClient,
        running: &mut JoinSet<Ended>,
    ) -> Result<StudyView, ExperimentError> {
        let bars = self.console.study(self.sites, self.plan.rounds);
        loop {
            let view = operator.status(self.study).await?;
            show(&bars, &view, self.sites);
            if view.has_ended() {
                bars.finish(&format!("{} rounds held by {} sites", self.plan.rounds, self.sites.len()));
                return if view.outcome.starts_with("finished") {
                    Ok(view)
                } else {
                    Err(ExperimentError::Unfinished(view.outcome))
                };
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                Some(ended) = running.join_next() => return Err(early(ended)),
            }
        }
    }
}

fn early(ended: Result<Ended, tokio::task::JoinError>) -> ExperimentError {
    match ended {
        Ok(Ended::Coordinator(Err(error))) => error.into(),
        Ok(Ended::Coordinator(Ok(()))) => ExperimentError::EndedEarly("the coordinator".into()),
        Ok(Ended::Site(site, Err(source))) => ExperimentError::Site { site, source },
        Ok(Ended::Site(site, Ok(()))) => ExperimentError::EndedEarly(format!("site {site}")),
        Err(crashed) => ExperimentError::EndedEarly(format!("a part that crashed ({crashed})")),
    }
}

fn show(bars: &SiteBars, view: &StudyView, sites: &[SiteId]) {
    let summary = &view.summary;
    let answered = view.sites.iter().filter(|s| !s.answered.is_empty()).count();
    let round = summary.round.0;
    let learning = summary.phase == "collecting";
    let what = match summary.phase.as_str() {
        "evaluating" if round == 0 => "evaluating generation 0".to_owned(),
        "evaluating" => format!("round {round}: evaluating"),
        "collecting" => format!("round {round}: learning"),
        phase => format!("round {round}: {phase}"),
    };
    let status = format!("{what}, {answered} of {} sites done", sites.len());
    let done = u64::from(round) * 2 - u64::from(learning && round > 0);
    let of = |site: &SiteId| {
        let progress = view.sites.iter().find(|p| p.site == *site);
        match progress.and_then(|p| p.stage.filter(|_| p.answered.is_empty())) {
            Some((stage, done, total)) => (stage_name(stage), done, total),
            None => ("waiting".to_owned(), 0, 1),
        }
    };
    bars.show(&status, done, &sites.iter().map(of).collect::<Vec<_>>());
}

fn stage_name(stage: consilium_common::messages::Stage) -> String {
    serde_json::to_value(stage).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}
