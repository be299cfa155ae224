//! Aggregation on disk: base and deltas are read in bands, the new members and their manifest become blobs.
//!
//! The same order gives the same bytes, so doing it again after a crash changes nothing. Memory is a few bands, whatever
//! the number of sites and the size of the model.

use consilium_common::aggregation::BandSum;
use consilium_common::bundle::{self, EnsembleManifest, MemberFile, Provenance, member_file_name};
use consilium_common::plan::TensorShape;
use consilium_common::round::AggregationOrder;
use consilium_common::{Digest, ErrorCode, Invalid, Plan, limits, tensors};

use crate::blobs::BlobDir;
use crate::blobs::member::MemberReader;
use crate::error::{CoordinatorError, Result};

/// A computed generation.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// The blob of its manifest.
    pub(super) manifest: Digest,
    /// All its blobs, the manifest among them.
    pub(super) blobs: Vec<Digest>,
}

/// Computes the candidate of a round.
pub(super) fn aggregate(blobs: &BlobDir, plan: &Plan, order: &AggregationOrder) -> Result<Candidate> {
    let base = of_base(base_manifest(blobs, order))?;
    let expected = plan.architecture.tensors();
    let mut members = Vec::with_capacity(base.members.len());
    for (index, member) in base.members.iter().enumerate() {
        let deltas = order.contributions.iter().zip(&order.deltas).map(|(contribution, deltas)| {
            let delta = deltas.get(index).ok_or_else(|| Invalid::new("aggregation", "an update lacks a member"))?;
            Ok((contribution.weight, MemberReader::open(&blobs.path(delta), &expected)?))
        });
        let deltas = deltas.collect::<Result<Vec<_>>>()?;
        let base = of_base(MemberReader::open(&blobs.path(&member.digest), &expected))?;
        let (digest, bytes) = aggregate_member(blobs, &expected, &base, &deltas)?;
        members.push(MemberFile { file: member_file_name(index), digest, bytes });
    }
    let mut all: Vec<Digest> = members.iter().map(|member| member.digest).collect();
    let manifest = EnsembleManifest {
        schema: bundle::SCHEMA,
        generation: order.generation,
        members,
        provenance: Provenance {
            study: Some(order.study.clone()),
            plan: order.plan,
            round: Some(order.round),
            parent: Some(order.base.manifest),
            contributions: order.contributions.clone(),
        },
        ..base
    };
    let manifest = blobs.put(&manifest.to_bytes()?)?;
    all.push(manifest);
    Ok(Candidate { manifest, blobs: all })
}

fn base_manifest(blobs: &BlobDir, order: &AggregationOrder) -> Result<EnsembleManifest> {
    Ok(EnsembleManifest::parse(&blobs.read_small(&order.base.manifest, limits::MAX_DOCUMENT_BYTES)?)?)
}

/// A generation of this coordinator that breaks a rule is the house's failure, not that of an update.
fn of_base<T>(result: Result<T>) -> Result<T> {
    result.map_err(|error| match error.code() {
        ErrorCode::Unavailable => error,
        _ => CoordinatorError::internal("reading the published generation", error),
    })
}

fn aggregate_member(
    blobs: &BlobDir,
    expected: &[TensorShape],
    base: &MemberReader,
    deltas: &[(f64, MemberReader)],
) -> Result<(Digest, u64)> {
    let mut file = blobs.create()?;
    file.write(&tensors::write_header(expected))?;
    let (mut values, mut delta_values) = (Vec::new(), Vec::new());
    for band in MemberReader::bands(base.elements()) {
        let mut sum = BandSum::new(band.len());
        for (weight, delta) in deltas {
            delta.read(band.clone(), &mut delta_values)?;
            sum.add(*weight, &delta_values)?;
        }
        base.read(band, &mut values)?;
        let mut mean = sum.finish(&values)?;
        // Little-endian on disk, whatever the machine.
        for value in &mut mean {
            *value = f32::from_bits(value.to_bits().to_le());
        }
        file.write(bytemuck::cast_slice(&mean))?;
    }
    blobs.commit(file)
}
