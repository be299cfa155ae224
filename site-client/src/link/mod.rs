//! The wire: one outbound mutual-TLS connection to the coordinator. The only module that names generated types.
//!
//! What may leave is the enum [`Outbound`]: an update, an evaluation, a progress figure, a file of weight deltas. `send`
//! is the only way out and writes each to the ledger first. No type here can hold a pixel, a slide's name or a place.

mod enrol;
mod patience;
mod transfer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use consilium_common::messages::{Evaluation, Progress, Task, Update};
use consilium_common::{Digest, ErrorCode, Invalid, RoundNumber, StudyId, limits};
use consilium_proto::channel::{self, Cause, ChannelError, Identity, Trust};
use consilium_proto::status::from_status;
use consilium_proto::v1;
use consilium_proto::v1::federation_client::FederationClient;
use consilium_proto::v1::transfer_client::TransferClient;
use prost::Message;
use tokio::sync::Mutex;
use tonic::transport::Channel;

use crate::ledger::Ledger;

pub(crate) use enrol::enrol;
pub(crate) use patience::Patience;
pub(crate) use transfer::Size;

/// Bound of a call that needs no waiting on the other side.
const ANSWER: Duration = Duration::from_secs(60);
/// A progress figure that takes longer is worthless.
const PROGRESS: Duration = Duration::from_secs(10);

/// Why something did not get through.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// For good: revoked, foreign CA, not allowed. Only people can change that.
    #[error("{0}")]
    Refused(String),
    /// Nobody answers, or the connection broke: try again.
    #[error("{0}")]
    Unreachable(String),
    /// The coordinator answered that it cannot or will not.
    #[error("the coordinator answered: {message}")]
    Answer {
        /// In terms that a caller can act on.
        code: ErrorCode,
        /// The coordinator's sentence.
        message: String,
    },
    /// The address, a certificate or a key cannot be used.
    #[error("{0}")]
    Setup(String),
    /// What came breaks a rule.
    #[error("the coordinator sent something that cannot be used: {0}")]
    Content(#[from] Invalid),
    /// A file of this site could not be read or written on the way.
    #[error("cannot {doing} {}: {source}", path.display())]
    Local {
        /// Read, write, list ...
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl LinkError {
    /// True where the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Answer { code, .. } => code.is_retryable(),
            _ => false,
        }
    }

    /// The process exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) => 77,
            Self::Unreachable(_) | Self::Local { .. } => 69,
            Self::Answer { code, .. } => code.exit_code(),
            Self::Setup(_) => 64,
            Self::Content(_) => 70,
        }
    }

    fn status(status: tonic::Status) -> Self {
        let answered = status.metadata().contains_key("consilium-error");
        match from_status(&status) {
            ErrorCode::Unauthenticated | ErrorCode::Forbidden => Self::Refused(status.message().to_owned()),
            code if answered => Self::Answer { code, message: status.message().to_owned() },
            // No answer of the coordinator's own: the transport failed, and the reason hides in the source chain.
            ErrorCode::Unavailable | ErrorCode::Internal => Self::transport(&status),
            code => Self::Answer { code, message: status.message().to_owned() },
        }
    }

    fn transport(error: &(dyn std::error::Error + 'static)) -> Self {
        let text = channel::explain(error);
        match channel::cause(error) {
            Cause::Unreachable => Self::Unreachable(text),
            _ => Self::Refused(text),
        }
    }

    fn channel(error: ChannelError) -> Self {
        match error {
            ChannelError::Transport(error) => Self::transport(&error),
            other => Self::Setup(other.to_string()),
        }
    }

    fn local(doing: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Local { doing, path, source }
    }
}

/// A file of weight deltas that is ready to go.
#[derive(Clone, Debug)]
pub(crate) struct DeltaFile {
    pub(crate) study: StudyId,
    pub(crate) round: RoundNumber,
    pub(crate) member: usize,
    pub(crate) digest: Digest,
    pub(crate) path: PathBuf,
}

/// Everything that can leave a site. The list is the guarantee: to send something else, it has to be added here.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outbound<'a> {
    Update(&'a Update),
    Evaluation(&'a Evaluation),
    Progress(&'a Progress),
    /// The file, and how many of its bytes the coordinator has already.
    Delta(&'a DeltaFile, u64),
}

/// How to reach the coordinator.
pub(crate) enum Dial {
    /// Mutual TLS with the certificate from enrolment.
    Tls { address: String, identity: Identity, ca_pem: String },
    /// A connection that exists; for tests.
    #[cfg(test)]
    Open(Channel),
}

/// The connection, and the ledger of what went through it.
pub(crate) struct Link {
    dial: Dial,
    open: Mutex<Option<Channel>>,
    ledger: Arc<Ledger>,
    pub(crate) patience: Patience,
}

/// What the coordinator has of a blob.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) bytes: u64,
    pub(crate) complete: bool,
}

impl Link {
    pub(crate) fn new(dial: Dial, ledger: Arc<Ledger>) -> Self {
        Self { dial, open: Mutex::new(None), ledger, patience: Patience::default() }
    }

    async fn channel(&self) -> Result<Channel, LinkError> {
        let mut open = self.open.lock().await;
        if let Some(channel) = open.as_ref() {
            return Ok(channel.clone());
        }
        let channel = match &self.dial {
            Dial::Tls { address, identity, ca_pem } => {
                let trust = Trust::Ca(ca_pem.clone());
                channel::connect(address, Some(identity), &trust).await.map_err(LinkError::channel)?
            }
            #[cfg(test)]
            Dial::Open(channel) => channel.clone(),
        };
        Ok(open.insert(channel).clone())
    }

    async fn federation(&self) -> Result<FederationClient<Channel>, LinkError> {
        Ok(FederationClient::new(self.channel().await?))
    }

    async fn transfer(&self) -> Result<TransferClient<Channel>, LinkError> {
        Ok(TransferClient::new(self.channel().await?))
    }

    /// Asks what there is to do; the coordinator holds the question for up to `wait_s`.
    pub(crate) async fn next_task(&self, wait_s: u32) -> Result<Task, LinkError> {
        let mut client = self.federation().await?;
        let bound = ANSWER + Duration::from_secs(wait_s.into());
        let response = within(bound, client.next_task(v1::NextTaskRequest { wait_s })).await?;
        Ok(response.try_into()?)
    }

    /// Takes part in a study; answers the canonical bytes of its plan.
    pub(crate) async fn join(&self, study: &StudyId) -> Result<Vec<u8>, LinkError> {
        let request = v1::JoinRequest { study_id: study.to_string() };
        self.list(Some((study, None)), "join", &request, Digest::of(study.as_str().as_bytes()), true)?;
        let mut client = self.federation().await?;
        let plan = within(ANSWER, client.join(request)).await?.plan;
        if plan.len() > limits::MAX_DOCUMENT_BYTES {
            return Err(Invalid::new("plan", format!("is {} bytes, more than a plan may have", plan.len())).into());
        }
        Ok(plan)
    }

    /// What the coordinator has of these blobs, in their order.
    pub(crate) async fn held(&self, study: &StudyId, digests: &[Digest]) -> Result<Vec<Held>, LinkError> {
        let request = v1::StatRequest { digests: digests.iter().map(|d| d.as_bytes().to_vec()).collect() };
        let all: Vec<u8> = request.digests.concat();
        self.list(Some((study, None)), "question about blobs", &request, Digest::of(&all), false)?;
        let mut client = self.transfer().await?;
        let blobs = within(ANSWER, client.stat(request)).await?.blobs;
        let in_order = blobs.len() == digests.len() && blobs.iter().zip(digests).all(|(b, d)| b.digest == d.as_bytes());
        if !in_order {
            return Err(Invalid::new("stat", "the answer is not about the blobs that were asked for").into());
        }
        Ok(blobs.iter().map(|b| Held { bytes: b.have_bytes, complete: b.complete }).collect())
    }

    /// The only way out for content. Listed in the ledger before the first byte leaves.
    pub(crate) async fn send(&self, what: Outbound<'_>, seen: &(dyn Fn(u64) + Sync)) -> Result<(), LinkError> {
        match what {
            Outbound::Update(update) => {
                let request = v1::SubmitRequest::from(update);
                self.list(Some((&update.study, Some(update.round))), "update", &request, update.digest()?, true)?;
                let mut client = self.federation().await?;
                within(ANSWER, client.submit(request)).await.map(|_| ())
            }
            Outbound::Evaluation(report) => {
                let request = v1::ReportEvaluationRequest::from(report);
                let about = Some((&report.study, Some(report.round)));
                self.list(about, "evaluation", &request, Digest::of_json(report)?, true)?;
                let mut client = self.federation().await?;
                within(ANSWER, client.report_evaluation(request)).await.map(|_| ())
            }
            Outbound::Progress(progress) => {
                let request = v1::ReportProgressRequest::from(progress);
                let mut client = self.federation().await?;
                let about = Some((&progress.study, Some(progress.round)));
                self.list(about, "progress", &request, Digest::of_json(progress)?, false)?;
                within(PROGRESS, client.report_progress(request)).await.map(|_| ())
            }
            Outbound::Delta(delta, from) => self.upload(delta, from, seen).await,
        }
    }

    fn list<M: Message>(
        &self,
        about: Option<(&StudyId, Option<RoundNumber>)>,
        what: &str,
        message: &M,
        digest: Digest,
        durable: bool,
    ) -> Result<(), LinkError> {
        self.list_bytes(about, what, message.encoded_len() as u64, digest, durable)
    }

    fn list_bytes(
        &self,
        about: Option<(&StudyId, Option<RoundNumber>)>,
        what: &str,
        bytes: u64,
        digest: Digest,
        durable: bool,
    ) -> Result<(), LinkError> {
        let written = self.ledger.write(about, what, bytes, digest, durable);
        written.map_err(LinkError::local("write the ledger", self.ledger.path()))
    }
}

async fn within<T>(
    bound: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, LinkError> {
    match tokio::time::timeout(bound, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(LinkError::status(status)),
        Err(_) => {
            Err(LinkError::Unreachable(format!("the coordinator has not answered for {} seconds", bound.as_secs())))
        }
    }
}
