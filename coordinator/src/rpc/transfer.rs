//! `Transfer`: blobs in chunks. A site downloads what belongs to its studies and uploads while a study waits for its
//! update, so much and no more; an operator transfers anything.

use std::io::Read;
use std::sync::Arc;

use consilium_common::{Digest, ErrorCode, Invalid, SiteId, limits};
use consilium_proto::v1::transfer_server::Transfer;
use consilium_proto::{digest_from, status, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Context;
use super::access::{Caller, peer};
use crate::blobs::{BlobDir, Extent, PartWriter};
use crate::engine::intake::{OPERATOR, allowance, no_open_task, owner_of};
use crate::error::{CoordinatorError, Result, While};

/// Chunks read ahead of a download; a slow link holds no more than this in memory.
const READ_AHEAD: usize = 4;
/// Digests in one `Stat`: a manifest, its members and as many deltas, with room.
const MAX_STAT: usize = 4 * limits::MAX_MEMBERS;

pub(super) struct Service(pub(super) Arc<Context>);

/// Runs blocking file work beside the async tasks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| CoordinatorError::internal("a file task ended abnormally", e))?
}

fn owner(caller: &Caller) -> String {
    match caller {
        Caller::Operator => OPERATOR.to_owned(),
        Caller::Site(site) => owner_of(site),
    }
}

#[tonic::async_trait]
impl Transfer for Service {
    type DownloadStream = ReceiverStream<Result<v1::DownloadResponse, Status>>;

    async fn stat(&self, request: Request<v1::StatRequest>) -> Result<Response<v1::StatResponse>, Status> {
        let caller = self.0.anyone(peer(&request)).await?;
        let digests = request.into_inner().digests;
        if digests.len() > MAX_STAT {
            return Err(status::invalid(Invalid::new("digests", format!("at most {MAX_STAT} in one call"))));
        }
        let mut answers = Vec::with_capacity(digests.len());
        for bytes in digests {
            let digest = digest_from(&bytes).map_err(status::invalid)?;
            let extent = self.extent(&caller, digest).await?;
            answers.push(v1::BlobState { digest: bytes, have_bytes: extent.have, complete: extent.complete });
        }
        Ok(Response::new(v1::StatResponse { blobs: answers }))
    }

    async fn download(&self, request: Request<v1::DownloadRequest>) -> Result<Response<Self::DownloadStream>, Status> {
        let caller = self.0.anyone(peer(&request)).await?;
        let v1::DownloadRequest { digest, offset } = request.into_inner();
        let digest = digest_from(&digest).map_err(status::invalid)?;
        let not_found = || {
            let why = format!("there is no blob {} for you here; ask for the next task", digest.short());
            CoordinatorError::refused(ErrorCode::NotFound, why)
        };
        if let Caller::Site(site) = &caller
            && !self.may_download(site, &digest).await?
        {
            return Err(not_found().into());
        }
        let blobs = Arc::clone(&self.0.intake.blobs);
        let total = blobs.size(&digest)?.ok_or_else(not_found)?;
        if offset > total {
            let why = format!("{offset} lies behind the end of the blob, which has {total} bytes");
            return Err(status::invalid(Invalid::new("offset", why)));
        }
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        let stop = self.0.stop.clone();
        tokio::spawn(async move {
            let sent = tokio::select! {
                () = stop.cancelled() => Err(CoordinatorError::Closing),
                sent = send_chunks(blobs, digest, offset, total, &sender) => sent,
            };
            if let Err(error) = sent {
                // The receiver may be gone; then nobody needs to know.
                let _ = sender.send(Err(error.into())).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn upload(
        &self,
        request: Request<Streaming<v1::UploadRequest>>,
    ) -> Result<Response<v1::UploadResponse>, Status> {
        let caller = self.0.anyone(peer(&request)).await?;
        let mut stream = request.into_inner();
        let Some(first) = stream.message().await? else {
            return Err(status::invalid(Invalid::new("upload", "holds no chunk")));
        };
        let digest = digest_from(&first.digest).map_err(status::invalid)?;
        let total = first.total_bytes;
        let owner = owner(&caller);
        self.admit(&caller, &owner, digest, total).await?;
        let known = self.extent(&caller, digest).await?;
        if known.complete {
            return Ok(Response::new(v1::UploadResponse { have_bytes: known.have, complete: true }));
        }
        let writer = Arc::new(self.0.intake.blobs.writer(&owner, &digest));
        let done = self.receive(&mut stream, first, digest, total, &writer).await;
        self.0.intake.blobs.release(&owner, &writer);
        Ok(Response::new(done?))
    }
}

impl Service {
    /// How far a blob is, for the one who asks: others' uploads are not seen.
    async fn extent(&self, caller: &Caller, digest: Digest) -> Result<Extent> {
        let owner = owner(caller);
        let upload = self.0.intake.store.upload_bytes(&owner, &digest).await?;
        if let Caller::Site(site) = caller
            && upload.is_none()
            && !self.may_download(site, &digest).await?
        {
            return Ok(Extent { have: 0, complete: false });
        }
        let blobs = Arc::clone(&self.0.intake.blobs);
        blocking(move || {
            let extent = blobs.extent(&owner, &digest)?;
            if !extent.complete && extent.have > 0 && upload == Some(extent.have) {
                // All bytes had come when something interrupted us before the last look at them.
                let writer = blobs.writer(&owner, &digest);
                let completed = blobs.complete(&writer);
                blobs.release(&owner, &writer);
                completed?;
                return blobs.extent(&owner, &digest);
            }
            Ok(extent)
        })
        .await
    }

    async fn may_download(&self, site: &SiteId, digest: &Digest) -> Result<bool> {
        let studies = self.0.intake.engine.studies();
        let with_blob = self.0.intake.store.studies_with_blob(digest).await?;
        Ok(with_blob.iter().any(|id| studies.get(id).is_some_and(|e| e.state.sites.contains_key(site))))
    }

    /// Whether this upload may begin. Of a site's blobs that no update came to refer to, the oldest make room.
    async fn admit(&self, caller: &Caller, owner: &str, digest: Digest, total: u64) -> Result<()> {
        let intake = &self.0.intake;
        let limit = match caller {
            Caller::Operator => limits::MAX_BLOB_BYTES,
            Caller::Site(site) => {
                let allowed = allowance(&intake.engine.studies(), site).ok_or_else(|| no_open_task(site))?;
                let loose = intake.store.loose_uploads(owner).await?;
                if !loose.contains(&digest) {
                    let surplus = (loose.len() + 1).saturating_sub(allowed.max_loose);
                    for old in loose.into_iter().take(surplus) {
                        let blob_too = intake.store.forget_upload(owner, &old).await?;
                        let (blobs, owner) = (Arc::clone(&intake.blobs), owner.to_owned());
                        blocking(move || blobs.remove(&owner, &old, blob_too)).await?;
                    }
                }
                allowed.max_bytes
            }
        };
        if total == 0 || total > limit {
            let why = format!("the blob has {total} bytes, 1 to {limit} are accepted here");
            return Err(Invalid::new("total_bytes", why).into());
        }
        intake.store.begin_upload(owner, &digest, total, intake.clock.now()).await
    }

    async fn receive(
        &self,
        stream: &mut Streaming<v1::UploadRequest>,
        first: v1::UploadRequest,
        digest: Digest,
        total: u64,
        writer: &Arc<PartWriter>,
    ) -> Result<v1::UploadResponse, Status> {
        let mut next = Some(first);
        while let Some(chunk) = next {
            check_chunk(&chunk, &digest, total)?;
            let work = Arc::clone(writer);
            let have = blocking(move || work.append(chunk.offset, &chunk.data)).await?;
            if have == total {
                let (blobs, work) = (Arc::clone(&self.0.intake.blobs), Arc::clone(writer));
                blocking(move || blobs.complete(&work)).await?;
                return Ok(v1::UploadResponse { have_bytes: total, complete: true });
            }
            next = tokio::select! {
                () = self.0.stop.cancelled() => return Err(CoordinatorError::Closing.into()),
                message = stream.message() => message?,
            };
        }
        let work = Arc::clone(writer);
        let have_bytes = blocking(move || work.flush()).await?;
        Ok(v1::UploadResponse { have_bytes, complete: false })
    }
}

fn check_chunk(chunk: &v1::UploadRequest, digest: &Digest, total: u64) -> Result<()> {
    let same = chunk.digest.is_empty() || chunk.digest == digest.as_bytes();
    if !same || (chunk.total_bytes != 0 && chunk.total_bytes != total) {
        return Err(Invalid::new("upload", "all chunks of a stream belong to one blob").into());
    }
    // An empty chunk at the end is a question: everything was sent before, is it complete?
    let empty = chunk.data.is_empty() && chunk.offset != total;
    if empty || chunk.data.len() > limits::CHUNK_BYTES {
        let why = format!("{} bytes; 1 to {} are accepted", chunk.data.len(), limits::CHUNK_BYTES);
        return Err(Invalid::new("chunk", why).into());
    }
    if chunk.offset.checked_add(chunk.data.len() as u64).is_none_or(|end| end > total) {
        return Err(Invalid::new("chunk", "goes beyond the end of the blob").into());
    }
    Ok(())
}

async fn send_chunks(
    blobs: Arc<BlobDir>,
    digest: Digest,
    mut offset: u64,
    total_bytes: u64,
    sender: &mpsc::Sender<Result<v1::DownloadResponse, Status>>,
) -> Result<()> {
    let mut file = blocking(move || blobs.open_at(&digest, offset)).await?;
    loop {
        let want = usize::try_from(total_bytes - offset).unwrap_or(usize::MAX).min(limits::CHUNK_BYTES);
        let read = move || {
            let mut data = vec![0; want];
            file.read_exact(&mut data).doing(|| format!("reading blob {}", digest.short()))?;
            Ok((file, data))
        };
        let (back, data) = blocking(read).await?;
        file = back;
        let chunk = v1::DownloadResponse { total_bytes, offset, data: data.into() };
        if sender.send(Ok(chunk)).await.is_err() {
            return Ok(());
        }
        offset += want as u64;
        // An empty rest is answered too, with one empty chunk: the receiver learns the size.
        if offset >= total_bytes {
            return Ok(());
        }
    }
}
