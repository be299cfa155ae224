//! What a site says, in as many words as the tests need.

use consilium_common::messages::{Evaluation, Task, Update, UpdateMetrics, WorkOrder};
use consilium_common::{Digest, limits};
use consilium_proto::v1;
use consilium_proto::v1::federation_client::FederationClient;
use consilium_proto::v1::transfer_client::TransferClient;
use tonic::{Status, transport::Channel};

use super::EnrolledSite;

impl EnrolledSite {
    pub(crate) fn federation(&self) -> FederationClient<Channel> {
        FederationClient::new(self.channel.clone())
    }

    pub(crate) fn transfer(&self) -> TransferClient<Channel> {
        TransferClient::new(self.channel.clone())
    }

    pub(crate) async fn task(&self, wait_s: u32) -> Task {
        self.federation().next_task(v1::NextTaskRequest { wait_s }).await.unwrap().into_inner().try_into().unwrap()
    }

    pub(crate) async fn evaluate(&self, order: &WorkOrder, dice: f64) {
        let report = Evaluation {
            study: order.study.clone(),
            round: order.round,
            manifest: order.manifest,
            slides: 2,
            mean_dice: Some(dice),
            pooled_dice: vec![Some(dice)],
            ece: None,
        };
        self.federation().report_evaluation(v1::ReportEvaluationRequest::from(&report)).await.unwrap();
    }

    pub(crate) async fn stat(&self, digest: &Digest) -> (u64, bool) {
        let request = v1::StatRequest { digests: vec![digest.as_bytes().to_vec()] };
        let blob = self.transfer().stat(request).await.unwrap().into_inner().blobs.remove(0);
        (blob.have_bytes, blob.complete)
    }

    /// Sends `bytes[from..to]` in one stream of chunks of this size.
    pub(crate) async fn send(
        &self,
        bytes: &[u8],
        from: usize,
        to: usize,
        chunk: usize,
    ) -> Result<v1::UploadResponse, Status> {
        let digest = Digest::of(bytes);
        let chunks: Vec<_> = bytes[from..to]
            .chunks(chunk)
            .scan(from, |at, data| {
                let offset = *at as u64;
                *at += data.len();
                Some(v1::UploadRequest {
                    digest: digest.as_bytes().to_vec(),
                    total_bytes: bytes.len() as u64,
                    offset,
                    data: data.to_vec().into(),
                })
            })
            .collect();
        Ok(self.transfer().upload(tokio_stream::iter(chunks)).await?.into_inner())
    }

    pub(crate) async fn download(&self, digest: &Digest, offset: u64) -> Result<Vec<u8>, Status> {
        let request = v1::DownloadRequest { digest: digest.as_bytes().to_vec(), offset };
        let mut stream = self.transfer().download(request).await?.into_inner();
        let (mut bytes, mut total) = (Vec::new(), 0);
        while let Some(chunk) = stream.message().await? {
            assert_eq!(chunk.offset, offset + bytes.len() as u64);
            assert!(chunk.data.len() <= limits::CHUNK_BYTES);
            bytes.extend_from_slice(&chunk.data);
            total = chunk.total_bytes;
        }
        assert_eq!(total, offset + bytes.len() as u64);
        Ok(bytes)
    }
}

/// An update whose every member is this delta.
pub(crate) fn update(order: &WorkOrder, members: usize, delta: Digest) -> Update {
    Update {
        study: order.study.clone(),
        round: order.round,
        base: order.manifest,
        weight: 3.0,
        members: vec![delta; members],
        metrics: UpdateMetrics {
            slides_scanned: 1,
            patches_corrected: 2,
            patches_trained: 3,
            mean_uncertainty: 0.125,
            dice_before_correction: Some(0.25),
            control_dice: Some(0.5),
            loss_first: 0.75,
            loss_last: 0.625,
        },
    }
}
