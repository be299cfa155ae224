//! The ensemble on disk: `ensemble.json` plus one safetensors file a member. Loading checks every size, digest, name and
//! shape; saving writes the manifest last, so a bundle with a manifest is complete.

use std::path::Path;

use consilium_common::bundle::{self, Conventions, EnsembleManifest, MemberFile, Provenance};
use consilium_common::plan::{Architecture, Task};
use consilium_common::{Digest, GenerationNumber, Invalid, limits};

use super::error::WeightsError;
use super::weights::{MemberWeights, read_limited, write_atomically};

/// An ensemble in memory: the manifest and the weights of its members, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Ensemble {
    /// The manifest.
    pub manifest: EnsembleManifest,
    /// The members.
    pub members: Vec<MemberWeights>,
}

impl Ensemble {
    /// Loads a bundle.
    ///
    /// # Errors
    /// A file is missing or unreadable, is not the one that the manifest names, or does not fit the architecture.
    pub fn load(dir: &Path) -> Result<Self, WeightsError> {
        let path = dir.join(bundle::MANIFEST_FILE);
        let io = |source| WeightsError::Io { doing: "read", path: path.clone(), source };
        if std::fs::metadata(&path).map_err(io)?.len() > limits::MAX_DOCUMENT_BYTES as u64 {
            return Err(Invalid::new(bundle::MANIFEST_FILE, "is longer than a manifest may be").into());
        }
        let manifest = EnsembleManifest::parse(&std::fs::read(&path).map_err(io)?)?;
        Self::assemble(manifest, |member| read_limited(&dir.join(&member.file)))
    }

    /// Builds an ensemble from a parsed manifest and a source of member bytes (a blob store, a folder).
    ///
    /// # Errors
    /// Those of the source, and as for [`Ensemble::load`].
    pub fn assemble(
        manifest: EnsembleManifest,
        mut bytes_of: impl FnMut(&MemberFile) -> Result<Vec<u8>, WeightsError>,
    ) -> Result<Self, WeightsError> {
        let mut members = Vec::with_capacity(manifest.members.len());
        for member in &manifest.members {
            let bytes = bytes_of(member)?;
            let differs = |why: String| WeightsError::Digest { file: member.file.clone(), why };
            if bytes.len() as u64 != member.bytes {
                return Err(differs(format!("it has {} bytes, not {}", bytes.len(), member.bytes)));
            }
            let digest = Digest::of(&bytes);
            if digest != member.digest {
                return Err(differs(format!("its digest is {}, not {}", digest.short(), member.digest.short())));
            }
            members.push(MemberWeights::parse(&bytes, &manifest.architecture, &member.file)?);
        }
        Ok(Self { manifest, members })
    }

    /// Writes a bundle of our own conventions into a folder, which is created if needed, and returns its manifest.
    ///
    /// # Errors
    /// A member does not fit the architecture or is not finite, or the file system refused.
    pub fn save(
        dir: &Path,
        task: &Task,
        architecture: &Architecture,
        members: &[MemberWeights],
        provenance: Provenance,
        generation: GenerationNumber,
    ) -> Result<EnsembleManifest, WeightsError> {
        Self::save_as(dir, task, architecture, members, Conventions::default(), provenance, generation)
    }

    /// The same for an ensemble that is used in another way.
    ///
    /// # Errors
    /// As for [`Ensemble::save`].
    pub fn save_as(
        dir: &Path,
        task: &Task,
        architecture: &Architecture,
        members: &[MemberWeights],
        conventions: Conventions,
        provenance: Provenance,
        generation: GenerationNumber,
    ) -> Result<EnsembleManifest, WeightsError> {
        let mut files = Vec::with_capacity(members.len());
        for (index, weights) in members.iter().enumerate() {
            let file = bundle::member_file_name(index);
            if !weights.fits(architecture) {
                return Err(Invalid::new(file, "does not have the tensors of the architecture").into());
            }
            if let Some((name, value)) = weights.first_bad_value() {
                return Err(WeightsError::Value { file, name: name.to_owned(), value });
            }
            let bytes = weights.to_bytes()?;
            write_atomically(&dir.join(&file), &bytes)?;
            files.push(MemberFile { file, digest: Digest::of(&bytes), bytes: bytes.len() as u64 });
        }
        let manifest = EnsembleManifest {
            schema: bundle::SCHEMA,
            generation,
            task: task.clone(),
            architecture: architecture.clone(),
            normalisation: conventions.normalisation,
            averaging: conventions.averaging,
            padding: conventions.padding,
            members: files,
            provenance,
        };
        let bytes = manifest.to_bytes()?;
        // What is written must be readable again, so the reader's checks run before the manifest appears.
        EnsembleManifest::parse(&bytes)?;
        write_atomically(&dir.join(bundle::MANIFEST_FILE), &bytes)?;
        Ok(manifest)
    }
}
