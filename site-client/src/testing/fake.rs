//! A coordinator with the real protocol and a memory of everything that reached it.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use consilium_common::messages::{Evaluation, Progress, Task, Update};
use consilium_common::{Digest, ErrorCode, Timestamp};
use consilium_proto::status::to_status;
use consilium_proto::v1;
use consilium_proto::v1::federation_server::{Federation, FederationServer};
use consilium_proto::v1::transfer_server::{Transfer, TransferServer};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

#[derive(Default)]
pub(crate) struct State {
    plan: Vec<u8>,
    pub(crate) blobs: BTreeMap<Digest, Vec<u8>>,
    pub(crate) parts: BTreeMap<Digest, Vec<u8>>,
    /// What the next question is answered with; taken away by the matching answer.
    pub(crate) tasks: Vec<Task>,
    pub(crate) updates: Vec<Update>,
    pub(crate) evaluations: Vec<Evaluation>,
    pub(crate) progress: Vec<Progress>,
    /// (digest, offset of the first byte, bytes) of every upload call.
    pub(crate) uploads: Vec<(Digest, u64, u64)>,
    /// Offsets that downloads asked for.
    pub(crate) offsets: Vec<u64>,
    /// Downloads break after so many bytes.
    pub(crate) break_after: Option<usize>,
    /// Every call fails so.
    pub(crate) fail: Option<ErrorCode>,
    /// Updates are refused so.
    pub(crate) refuse_update: Option<ErrorCode>,
    /// Uploads are refused so.
    pub(crate) refuse_upload: Option<ErrorCode>,
}

#[derive(Clone)]
struct Service(Arc<Mutex<State>>);

pub(crate) struct Fake {
    service: Service,
    address: String,
    server: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Fake {
    pub(crate) async fn start(plan: Vec<u8>) -> Self {
        let service = Service(Arc::new(Mutex::new(State { plan, ..State::default() })));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let router = Server::builder()
            .add_service(FederationServer::new(service.clone()))
            .add_service(TransferServer::new(service.clone()));
        let server = tokio::spawn(async move {
            router.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        Self { service, address, server }
    }

    pub(crate) fn channel(&self) -> Channel {
        Endpoint::from_shared(self.address.clone()).unwrap().connect_lazy()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.service.state()
    }

    pub(crate) fn add_blob(&self, bytes: Vec<u8>) {
        self.state().blobs.insert(Digest::of(&bytes), bytes);
    }

    pub(crate) fn ask(&self, task: Task) {
        self.state().tasks.push(task);
    }

    /// Waits until something is true of what reached the coordinator.
    pub(crate) async fn until(&self, what: impl Fn(&State) -> bool) {
        for _ in 0..6000 {
            if what(&self.state()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it did not happen within a minute");
    }
}

impl Service {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn check(&self) -> Result<(), Status> {
        match self.state().fail {
            Some(code) => Err(to_status(code, "this site may not take part")),
            None => Ok(()),
        }
    }
}

#[tonic::async_trait]
impl Federation for Service {
    async fn enrol(&self, _: Request<v1::EnrolRequest>) -> Result<Response<v1::EnrolResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn join(&self, _: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        self.check()?;
        Ok(Response::new(v1::JoinResponse { plan: self.state().plan.clone() }))
    }

    async fn next_task(&self, request: Request<v1::NextTaskRequest>) -> Result<Response<v1::NextTaskResponse>, Status> {
        self.check()?;
        for _ in 0..request.into_inner().wait_s.min(1) * 50 {
            if !self.state().tasks.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let wait = Task::Wait { waiting_for: "the other sites".into(), since: Timestamp(0) };
        let task = self.state().tasks.first().cloned().unwrap_or(wait);
        Ok(Response::new((&task).into()))
    }

    async fn report_progress(
        &self,
        request: Request<v1::ReportProgressRequest>,
    ) -> Result<Response<v1::ReportProgressResponse>, Status> {
        let progress = request.into_inner().try_into().unwrap();
        self.state().progress.push(progress);
        Ok(Response::new(v1::ReportProgressResponse {}))
    }

    async fn submit(&self, request: Request<v1::SubmitRequest>) -> Result<Response<v1::SubmitResponse>, Status> {
        self.check()?;
        let update: Update = request.into_inner().try_into().unwrap();
        let mut state = self.state();
        let complete = update.members.iter().all(|m| state.blobs.contains_key(m));
        assert!(complete || state.refuse_upload.is_some(), "blobs come before the update");
        state.tasks.retain(|task| !matches!(task, Task::Learn(order) if order.round == update.round));
        if let Some(code) = state.refuse_update {
            return Err(to_status(code, "the round is closed"));
        }
        state.updates.push(update);
        Ok(Response::new(v1::SubmitResponse { already_accepted: false }))
    }

    async fn report_evaluation(
        &self,
        request: Request<v1::ReportEvaluationRequest>,
    ) -> Result<Response<v1::ReportEvaluationResponse>, Status> {
        self.check()?;
        let report: Evaluation = request.into_inner().try_into().unwrap();
        let mut state = self.state();
        state.tasks.retain(|task| !matches!(task, Task::Evaluate(_)));
        state.evaluations.push(report);
        Ok(Response::new(v1::ReportEvaluationResponse {}))
    }
}

type Chunks = Pin<Box<dyn Stream<Item = Result<v1::DownloadResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Transfer for Service {
    async fn stat(&self, request: Request<v1::StatRequest>) -> Result<Response<v1::StatResponse>, Status> {
        let state = self.state();
        let blob = |bytes: &Vec<u8>| {
            let digest = Digest::try_from(bytes.as_slice()).unwrap();
            let complete = state.blobs.contains_key(&digest);
            let have = state.parts.get(&digest).map_or(0, |part| part.len() as u64);
            v1::BlobState { digest: bytes.clone(), have_bytes: have, complete }
        };
        Ok(Response::new(v1::StatResponse { blobs: request.into_inner().digests.iter().map(blob).collect() }))
    }

    type DownloadStream = Chunks;

    async fn download(&self, request: Request<v1::DownloadRequest>) -> Result<Response<Chunks>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        state.offsets.push(request.offset);
        let digest = Digest::try_from(request.digest.as_slice()).unwrap();
        let blob = state.blobs.get(&digest).cloned();
        let blob = blob.ok_or_else(|| to_status(ErrorCode::NotFound, "no such blob"))?;
        let (total_bytes, mut offset) = (blob.len() as u64, request.offset);
        let rest = &blob[request.offset as usize..];
        let sent = state.break_after.map_or(rest.len(), |bytes| bytes.min(rest.len()));
        let mut chunks: Vec<Result<v1::DownloadResponse, Status>> = Vec::new();
        for data in rest[..sent].chunks(1000) {
            chunks.push(Ok(v1::DownloadResponse { total_bytes, offset, data: data.to_vec().into() }));
            offset += data.len() as u64;
        }
        if sent < rest.len() {
            chunks.push(Err(Status::unavailable("the line is cut")));
        }
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }

    async fn upload(
        &self,
        request: Request<Streaming<v1::UploadRequest>>,
    ) -> Result<Response<v1::UploadResponse>, Status> {
        if let Some(code) = self.state().refuse_upload {
            return Err(to_status(code, "the round is closed"));
        }
        let mut stream = request.into_inner();
        let mut last = v1::UploadResponse { have_bytes: 0, complete: false };
        let mut first = true;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk?;
            let digest = Digest::try_from(chunk.digest.as_slice()).unwrap();
            let mut state = self.state();
            let part = state.parts.entry(digest).or_default();
            assert_eq!(part.len() as u64, chunk.offset, "an upload goes on where it stopped");
            part.extend_from_slice(&chunk.data);
            let part = part.clone();
            let bytes = chunk.data.len() as u64;
            match state.uploads.last_mut().filter(|_| !first) {
                Some(upload) => upload.2 += bytes,
                None => state.uploads.push((digest, chunk.offset, bytes)),
            }
            first = false;
            last.have_bytes = part.len() as u64;
            if last.have_bytes == chunk.total_bytes {
                assert_eq!(Digest::of(&part), digest);
                state.parts.remove(&digest);
                state.blobs.insert(digest, part);
                last.complete = true;
            }
        }
        Ok(Response::new(last))
    }
}
