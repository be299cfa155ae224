//! Transfers of blobs: in chunks, resumed at the last one, alive as long as chunks move. No bound on the whole.

use std::path::Path;
use std::time::Duration;

use consilium_common::{Digest, Invalid, limits};
use consilium_proto::v1;
use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{ANSWER, DeltaFile, Link, LinkError};

/// Without a chunk for so long the connection is taken for dead: 1 MiB in two minutes is 70 kbit/s.
const STALL: Duration = Duration::from_secs(120);

/// What is known of the size of a blob before it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    Exactly(u64),
    AtMost(u64),
}

impl Size {
    fn most(self) -> u64 {
        match self {
            Self::Exactly(bytes) | Self::AtMost(bytes) => bytes,
        }
    }
}

impl Link {
    /// Fetches a blob into `part`, going on where the file ends. The caller verifies the digest.
    pub(crate) async fn download(
        &self,
        digest: &Digest,
        size: Size,
        part: &Path,
        seen: &(dyn Fn(u64) + Sync),
    ) -> Result<(), LinkError> {
        let open = OpenOptions::new().create(true).append(true).open(part).await;
        let mut file = open.map_err(LinkError::local("open", part))?;
        let mut have = file.metadata().await.map_err(LinkError::local("read", part))?.len();
        if have > size.most() {
            file.set_len(0).await.map_err(LinkError::local("write", part))?;
            have = 0;
        }
        if size == Size::Exactly(have) {
            return Ok(());
        }
        let mut client = self.transfer().await?;
        let request = v1::DownloadRequest { digest: digest.as_bytes().to_vec(), offset: have };
        let mut stream = match tokio::time::timeout(ANSWER, client.download(request)).await {
            Ok(answer) => answer.map_err(LinkError::status)?.into_inner(),
            Err(_) => return Err(stalled("download")),
        };
        loop {
            let next = tokio::time::timeout(STALL, stream.message()).await.map_err(|_| stalled("download"))?;
            let Some(chunk) = next.map_err(LinkError::status)? else { break };
            check_chunk(&chunk, have, size)?;
            file.write_all(&chunk.data).await.map_err(LinkError::local("write", part))?;
            have += chunk.data.len() as u64;
            seen(have);
            if have == chunk.total_bytes {
                break;
            }
        }
        file.sync_all().await.map_err(LinkError::local("write", part))?;
        match size {
            Size::Exactly(bytes) if have < bytes => Err(LinkError::Unreachable("the download ended early".to_owned())),
            _ => Ok(()),
        }
    }

    /// Sends the rest of a file of deltas.
    pub(super) async fn upload(
        &self,
        delta: &DeltaFile,
        from: u64,
        seen: &(dyn Fn(u64) + Sync),
    ) -> Result<(), LinkError> {
        let total = fs::metadata(&delta.path).await.map_err(LinkError::local("read", &delta.path))?.len();
        let from = from.min(total);
        let what = format!("delta of member {}", delta.member);
        self.list_bytes(Some((&delta.study, Some(delta.round))), &what, total - from, delta.digest, true)?;
        let mut client = self.transfer().await?;
        let (sender, receiver) = mpsc::channel(1);
        let answer = client.upload(ReceiverStream::new(receiver));
        let feed = feed(delta, from, total, sender, seen);
        tokio::pin!(answer, feed);
        let mut fed = false;
        loop {
            tokio::select! {
                answer = &mut answer => {
                    let answer = answer.map_err(LinkError::status)?.into_inner();
                    return if answer.complete {
                        Ok(())
                    } else {
                        Err(LinkError::Unreachable(format!("only {} of {total} bytes arrived", answer.have_bytes)))
                    };
                }
                result = &mut feed, if !fed => {
                    result?;
                    fed = true;
                }
                () = tokio::time::sleep(STALL), if fed => return Err(stalled("upload")),
            }
        }
    }
}

async fn feed(
    delta: &DeltaFile,
    from: u64,
    total: u64,
    sender: mpsc::Sender<v1::UploadRequest>,
    seen: &(dyn Fn(u64) + Sync),
) -> Result<(), LinkError> {
    let failed = || LinkError::local("read", &delta.path);
    let mut file = File::open(&delta.path).await.map_err(failed())?;
    file.seek(std::io::SeekFrom::Start(from)).await.map_err(failed())?;
    let mut offset = from;
    loop {
        let mut data = Vec::with_capacity(limits::CHUNK_BYTES);
        (&mut file).take(limits::CHUNK_BYTES as u64).read_to_end(&mut data).await.map_err(failed())?;
        let bytes = data.len() as u64;
        let chunk = v1::UploadRequest {
            digest: delta.digest.as_bytes().to_vec(),
            total_bytes: total,
            offset,
            data: data.into(),
        };
        match tokio::time::timeout(STALL, sender.send(chunk)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Ok(()), // the call has ended; its answer says why
            Err(_) => return Err(stalled("upload")),
        }
        offset += bytes;
        seen(offset);
        if offset >= total || bytes == 0 {
            return Ok(());
        }
    }
}

fn check_chunk(chunk: &v1::DownloadResponse, have: u64, size: Size) -> Result<(), Invalid> {
    let fail = |why: String| Err(Invalid::new("download", why));
    let fits = match size {
        Size::Exactly(bytes) => chunk.total_bytes == bytes,
        Size::AtMost(bytes) => chunk.total_bytes <= bytes,
    };
    if !fits {
        return fail(format!("a blob of {} bytes is not the one that was asked for", chunk.total_bytes));
    }
    if chunk.offset != have || have + chunk.data.len() as u64 > chunk.total_bytes {
        return fail(format!("a chunk at {} where {have} was due", chunk.offset));
    }
    Ok(())
}

fn stalled(what: &str) -> LinkError {
    LinkError::Unreachable(format!("the {what} has not moved for {} seconds", STALL.as_secs()))
}
