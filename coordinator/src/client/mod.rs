//! The operator's end of the wire: what the command line and the simulator use to steer a coordinator. Every call can be
//! made again; transfers go on where they stopped.

mod bundle;
mod transfer;

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use consilium_common::{Digest, ErrorCode, GenerationNumber, Invalid, Plan, SiteId, StudyId, Timestamp};
use consilium_proto::channel::{self, Cause, ChannelError, Identity, Trust};
use consilium_proto::status::from_status;
use consilium_proto::v1::operator_client::OperatorClient as Wire;
use consilium_proto::{digest_from, v1};
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::config::CoordinatorConfig;
use crate::error::{CoordinatorError, Result, While};
use crate::identity::{CA_CERT, OPERATOR_CERT, OPERATOR_KEY};
use crate::view::{InvitationView, SiteView, StudySummary, StudyView};

/// Bytes of an answer: the status of a study with as many sites and rounds as there may be is a few MiB.
const MAX_ANSWER: usize = 64 << 20;

/// Where the coordinator is and who calls it.
#[derive(Clone, Debug)]
pub struct OperatorConfig {
    /// `https://host:port`.
    pub address: String,
    identity: Identity,
    ca: String,
}

impl OperatorConfig {
    /// The first operator of the coordinator in this data folder, on this machine.
    ///
    /// # Errors
    /// When the folder holds no coordinator or cannot be read.
    pub fn of_data_dir(data_dir: &Path) -> Result<Self> {
        let config = CoordinatorConfig::load(data_dir)?;
        let identity = config.paths().identity;
        let read = |name: &str| {
            let path = identity.join(name);
            fs::read_to_string(&path).doing(|| format!("reading {}", path.display()))
        };
        let (certificate_pem, key_pem) = (read(OPERATOR_CERT)?, read(OPERATOR_KEY)?);
        let this = Self { address: String::new(), identity: Identity { certificate_pem, key_pem }, ca: read(CA_CERT)? };
        Ok(this.at(config.listen))
    }

    /// The same operator, with the coordinator at this address (one that listens on all interfaces is dialled locally).
    #[must_use]
    pub fn at(mut self, mut listening: SocketAddr) -> Self {
        match listening {
            SocketAddr::V4(v4) if v4.ip().is_unspecified() => listening.set_ip(Ipv4Addr::LOCALHOST.into()),
            SocketAddr::V6(v6) if v6.ip().is_unspecified() => listening.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        self.address = format!("https://{listening}");
        self
    }
}

/// A connection to a coordinator.
#[derive(Clone, Debug)]
pub struct OperatorClient {
    channel: Channel,
}

impl OperatorClient {
    /// Connects.
    ///
    /// # Errors
    /// When nobody answers, or one side does not believe the other's certificate.
    pub async fn connect(config: &OperatorConfig) -> Result<Self> {
        let trust = Trust::Ca(config.ca.clone());
        let channel = channel::connect(&config.address, Some(&config.identity), &trust).await.map_err(|error| {
            let code = match &error {
                ChannelError::Transport(source) if channel::cause(source) == Cause::Unreachable => {
                    ErrorCode::Unavailable
                }
                ChannelError::Transport(_) => ErrorCode::Forbidden,
                _ => ErrorCode::InvalidInput,
            };
            CoordinatorError::refused(code, format!("{}: {error}", config.address))
        })?;
        Ok(Self { channel })
    }

    fn wire(&self) -> Wire<Channel> {
        Wire::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// Makes a one-time token for a site; `valid_s` 0 takes the coordinator's default.
    ///
    /// # Errors
    /// When the coordinator cannot be reached or refuses.
    pub async fn invite(&self, site: &SiteId, valid_s: u64) -> Result<InvitationView> {
        let request = v1::InviteSiteRequest { site_id: site.to_string(), valid_s };
        let answer = self.wire().invite_site(request).await.map_err(refused)?.into_inner();
        Ok(InvitationView {
            token: answer.token,
            ca_fingerprint: answer.ca_fingerprint,
            expires: Timestamp(answer.expires_unix_ms),
        })
    }

    /// All sites, by name.
    ///
    /// # Errors
    /// When the coordinator cannot be reached or refuses.
    pub async fn sites(&self) -> Result<Vec<SiteView>> {
        let answer = self.wire().list_sites(v1::ListSitesRequest {}).await.map_err(refused)?.into_inner();
        Ok(answer.sites.into_iter().map(TryInto::try_into).collect::<Result<_, Invalid>>()?)
    }

    /// Revokes a site's certificate and takes the site out of all studies.
    ///
    /// # Errors
    /// When the coordinator cannot be reached or does not know the site.
    pub async fn revoke(&self, site: &SiteId, reason: &str) -> Result<()> {
        let request = v1::RevokeSiteRequest { site_id: site.to_string(), reason: reason.to_owned() };
        self.wire().revoke_site(request).await.map_err(refused)?;
        Ok(())
    }

    /// Checks plan against bundle, uploads the bundle (what is there already is not sent again) and creates the study.
    /// Answers the plan's digest.
    ///
    /// # Errors
    /// When plan and bundle do not fit, a file is damaged, a site is not known, or the study exists with another content.
    pub async fn create_study(
        &self,
        study: &StudyId,
        plan: &Plan,
        bundle_dir: &Path,
        sites: &[SiteId],
    ) -> Result<Digest> {
        let bundle = bundle::LocalBundle::open(bundle_dir, plan)?;
        for file in &bundle.files {
            transfer::upload(&self.channel, file).await?;
        }
        let request = v1::CreateStudyRequest {
            study_id: study.to_string(),
            plan: plan.canonical_bytes()?,
            manifest_digest: bundle.manifest.as_bytes().to_vec(),
            site_ids: sites.iter().map(ToString::to_string).collect(),
        };
        let answer = self.wire().create_study(request).await.map_err(refused)?.into_inner();
        Ok(digest_from(&answer.plan_digest)?)
    }

    /// All studies, one line each.
    ///
    /// # Errors
    /// When the coordinator cannot be reached or refuses.
    pub async fn studies(&self) -> Result<Vec<StudySummary>> {
        let answer = self.wire().list_studies(v1::ListStudiesRequest {}).await.map_err(refused)?.into_inner();
        Ok(answer.studies.into_iter().map(TryInto::try_into).collect::<Result<_, Invalid>>()?)
    }

    /// All that is to be seen of a study.
    ///
    /// # Errors
    /// When the coordinator cannot be reached or does not know the study.
    pub async fn status(&self, study: &StudyId) -> Result<StudyView> {
        let request = v1::GetStudyRequest { study_id: study.to_string() };
        Ok(self.wire().get_study(request).await.map_err(refused)?.into_inner().try_into()?)
    }

    /// A study's state now and whenever it changes, until it ends.
    ///
    /// # Errors
    /// When the coordinator cannot be reached or does not know the study.
    pub async fn watch(&self, study: &StudyId) -> Result<StudyWatch> {
        let request = v1::WatchStudyRequest { study_id: study.to_string() };
        Ok(StudyWatch(self.wire().watch_study(request).await.map_err(refused)?.into_inner()))
    }

    /// Ends a study for good.
    ///
    /// # Errors
    /// When the coordinator cannot be reached, does not know the study, or it has ended already.
    pub async fn abort(&self, study: &StudyId, reason: &str) -> Result<()> {
        let request = v1::AbortStudyRequest { study_id: study.to_string(), reason: reason.to_owned() };
        self.wire().abort_study(request).await.map_err(refused)?;
        Ok(())
    }

    /// Downloads a published generation as a bundle into `out`; an interrupted export goes on. The newest one without a
    /// number. Answers the number.
    ///
    /// # Errors
    /// When there is no such generation, `out` holds something else, or a file arrives damaged.
    pub async fn export(
        &self,
        study: &StudyId,
        generation: Option<GenerationNumber>,
        out: &Path,
    ) -> Result<GenerationNumber> {
        let view = self.status(study).await?;
        let found = match generation {
            None => view.generations.last(),
            Some(number) => view.generations.iter().find(|g| g.generation == number),
        };
        let found = found.ok_or_else(|| {
            let there: Vec<_> = view.generations.iter().map(|g| g.generation.to_string()).collect();
            let there = if there.is_empty() { "none yet".to_owned() } else { there.join(", ") };
            let why = format!("study {study} has not published that generation; published: {there}");
            CoordinatorError::refused(ErrorCode::NotFound, why)
        })?;
        bundle::export(&self.channel, found.manifest, out).await?;
        Ok(found.generation)
    }
}

/// A stream of a study's states.
#[derive(Debug)]
pub struct StudyWatch(Streaming<v1::WatchStudyResponse>);

impl StudyWatch {
    /// The next state; `None` once the study has ended.
    ///
    /// # Errors
    /// When the connection breaks; watch again.
    pub async fn next(&mut self) -> Result<Option<StudyView>> {
        let Some(message) = self.0.message().await.map_err(refused)? else { return Ok(None) };
        let study = message.study.ok_or_else(|| Invalid::new("study", "is missing in the answer"))?;
        Ok(Some(study.try_into()?))
    }
}

/// What a status means to whoever called.
pub(crate) fn refused(status: Status) -> CoordinatorError {
    use std::error::Error;
    if status.source().is_some() {
        let code = match channel::cause(&status) {
            Cause::Unreachable => from_status(&status),
            _ => ErrorCode::Forbidden,
        };
        return CoordinatorError::refused(code, channel::explain(&status));
    }
    CoordinatorError::refused(from_status(&status), status.message())
}
