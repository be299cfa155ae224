//! The client's side of a transfer: a file goes up or comes down in chunks, goes on where it stopped, and gives up only
//! when several tries in a row have moved nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use consilium_common::{Digest, ErrorCode, limits};
use consilium_proto::v1;
use consilium_proto::v1::transfer_client::TransferClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tracing::warn;

use super::refused;
use crate::blobs::hash;
use crate::error::{CoordinatorError, Result, While};

/// Tries in a row without a byte of progress before a transfer gives up.
const TRIES: u32 = 5;
/// Rest between tries.
const PAUSE: Duration = Duration::from_secs(2);
/// Chunks read ahead.
const READ_AHEAD: usize = 4;

/// What is to be uploaded.
#[derive(Clone, Debug)]
pub(super) struct LocalFile {
    pub(super) source: Source,
    pub(super) digest: Digest,
    pub(super) bytes: u64,
}

/// Where its bytes are.
#[derive(Clone, Debug)]
pub(super) enum Source {
    File(PathBuf),
    Memory(Vec<u8>),
}

fn client(channel: &Channel) -> TransferClient<Channel> {
    TransferClient::new(channel.clone())
}

/// Uploads a file unless it is there.
pub(super) async fn upload(channel: &Channel, file: &LocalFile) -> Result<()> {
    let (mut best, mut failures) = (0, 0);
    loop {
        let error = match try_upload(channel, file).await {
            Ok((_, true)) => return Ok(()),
            Ok((have, false)) if have > best => {
                (best, failures) = (have, 0);
                continue;
            }
            Ok((have, false)) => {
                let why = format!("the upload of {} stopped at {have} of {} bytes", file.digest.short(), file.bytes);
                CoordinatorError::refused(ErrorCode::Unavailable, why)
            }
            Err(error) => error,
        };
        failures += 1;
        if !error.code().is_retryable() || failures >= TRIES {
            return Err(error);
        }
        warn!(%error, "the upload is tried again");
        tokio::time::sleep(PAUSE).await;
    }
}

async fn try_upload(channel: &Channel, file: &LocalFile) -> Result<(u64, bool)> {
    let digest = file.digest.as_bytes().to_vec();
    let stat = client(channel).stat(v1::StatRequest { digests: vec![digest.clone()] }).await.map_err(refused)?;
    let state = stat.into_inner().blobs.into_iter().next();
    let (have, complete) = state.map_or((0, false), |state| (state.have_bytes, state.complete));
    if complete {
        return Ok((have, true));
    }
    let (sender, chunks) = mpsc::channel(READ_AHEAD);
    let (source, total_bytes) = (file.source.clone(), file.bytes);
    let reader = tokio::task::spawn_blocking(move || read_chunks(&source, digest, have, total_bytes, &sender));
    let sent = client(channel).upload(ReceiverStream::new(chunks)).await;
    let read = reader.await.map_err(|e| CoordinatorError::internal("reading a file", e))?;
    // What could not be read explains best why sending failed.
    read?;
    let answer = sent.map_err(refused)?.into_inner();
    Ok((answer.have_bytes, answer.complete))
}

fn read_chunks(
    source: &Source,
    digest: Vec<u8>,
    mut offset: u64,
    total_bytes: u64,
    sender: &mpsc::Sender<v1::UploadRequest>,
) -> Result<()> {
    let mut reader: Box<dyn Read> = match source {
        Source::Memory(bytes) => Box::new(&bytes[usize::try_from(offset).unwrap_or(0).min(bytes.len())..]),
        Source::File(path) => {
            let doing = || format!("reading {}", path.display());
            let mut file = File::open(path).doing(doing)?;
            file.seek(SeekFrom::Start(offset)).doing(doing)?;
            Box::new(file)
        }
    };
    loop {
        let want = usize::try_from(total_bytes.saturating_sub(offset)).unwrap_or(usize::MAX).min(limits::CHUNK_BYTES);
        let mut data = vec![0; want];
        reader.read_exact(&mut data).doing(|| "reading a file of the bundle".into())?;
        let chunk = v1::UploadRequest { digest: digest.clone(), total_bytes, offset, data: data.into() };
        // The other end may have had enough; its answer says why.
        if sender.blocking_send(chunk).is_err() {
            return Ok(());
        }
        offset += want as u64;
        if offset >= total_bytes {
            return Ok(());
        }
    }
}

/// Downloads a blob to `path`, through `path.part`, and checks its digest. A file that is there and right stays.
pub(super) async fn download(channel: &Channel, digest: &Digest, path: &Path) -> Result<()> {
    if path.exists() {
        if digest_of(path).await? == *digest {
            return Ok(());
        }
        let why = format!("{} is another file; choose an empty folder", path.display());
        return Err(CoordinatorError::refused(ErrorCode::Conflict, why));
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    let part = PathBuf::from(name);
    let (mut best, mut failures) = (0, 0);
    loop {
        let error = match try_download(channel, digest, &part).await {
            Ok(()) => break,
            Err(error) => error,
        };
        let have = fs::metadata(&part).map_or(0, |metadata| metadata.len());
        failures = if have > best { 0 } else { failures + 1 };
        best = have.max(best);
        if !error.code().is_retryable() || failures >= TRIES {
            return Err(error);
        }
        warn!(%error, "the download is tried again");
        tokio::time::sleep(PAUSE).await;
    }
    if digest_of(&part).await? != *digest {
        fs::remove_file(&part).doing(|| format!("removing {}", part.display()))?;
        let why = format!("{} arrived damaged and was dropped; run the same command again", path.display());
        return Err(CoordinatorError::refused(ErrorCode::Unavailable, why));
    }
    fs::rename(&part, path).doing(|| format!("writing {}", path.display()))
}

async fn try_download(channel: &Channel, digest: &Digest, part: &Path) -> Result<()> {
    let doing = || format!("writing {}", part.display());
    let mut file = OpenOptions::new().append(true).create(true).open(part).doing(doing)?;
    let mut offset = file.metadata().doing(doing)?.len();
    let request = v1::DownloadRequest { digest: digest.as_bytes().to_vec(), offset };
    let mut stream = client(channel).download(request).await.map_err(refused)?.into_inner();
    let mut total = None;
    while let Some(chunk) = stream.message().await.map_err(refused)? {
        if chunk.offset != offset || chunk.data.len() > limits::CHUNK_BYTES {
            return Err(CoordinatorError::refused(ErrorCode::Internal, "the coordinator sent a chunk out of order"));
        }
        offset += chunk.data.len() as u64;
        total = Some(chunk.total_bytes);
        // Chunks of 1 MiB: written faster than they arrive, without leaving this task.
        file.write_all(&chunk.data).doing(doing)?;
    }
    if total != Some(offset) {
        return Err(CoordinatorError::refused(ErrorCode::Unavailable, "the download stopped before its end"));
    }
    file.sync_all().doing(doing)
}

async fn digest_of(path: &Path) -> Result<Digest> {
    let path = path.to_owned();
    let work = move || {
        let doing = || format!("reading {}", path.display());
        hash(File::open(&path).doing(doing)?).doing(doing)
    };
    tokio::task::spawn_blocking(work).await.map_err(|e| CoordinatorError::internal("reading a file", e))?
}
