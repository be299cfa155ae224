//! Bundles on the operator's disk: checked against a plan before anything is sent, and written by an export.

use std::fs::{self, File};
use std::path::Path;

use consilium_common::bundle::{EnsembleManifest, MANIFEST_FILE};
use consilium_common::{Digest, ErrorCode, GenerationNumber, Invalid, Plan, limits};
use tonic::transport::Channel;

use super::transfer::{self, LocalFile, Source};
use crate::blobs::hash;
use crate::blobs::member::MemberReader;
use crate::engine::intake::check_bundle;
use crate::error::{CoordinatorError, Result, While};

/// A bundle that fits a plan, ready to be sent.
pub(super) struct LocalBundle {
    /// The digest of the manifest that is sent.
    pub(super) manifest: Digest,
    /// Members, then the manifest.
    pub(super) files: Vec<LocalFile>,
}

impl LocalBundle {
    /// Reads a bundle and checks digests, shapes and values, and that it is what the plan describes.
    pub(super) fn open(dir: &Path, plan: &Plan) -> Result<Self> {
        let path = dir.join(MANIFEST_FILE);
        let bytes = read_manifest(&path)?;
        let parsed = EnsembleManifest::parse(&bytes)?;
        let (manifest, bytes) = as_generation_0(parsed, bytes)?;
        check_bundle(plan, &manifest)?;
        let expected = plan.architecture.tensors();
        let mut files = Vec::with_capacity(manifest.members.len() + 1);
        for member in &manifest.members {
            let path = dir.join(&member.file);
            let doing = || format!("reading {}", path.display());
            if hash(File::open(&path).doing(doing)?).doing(doing)? != member.digest {
                let why = "its bytes do not match the digest in ensemble.json; copy the bundle again";
                return Err(Invalid::new(path.display().to_string(), why).into());
            }
            MemberReader::open(&path, &expected)?.check_values()?;
            files.push(LocalFile { source: Source::File(path), digest: member.digest, bytes: member.bytes });
        }
        let digest = Digest::of(&bytes);
        files.push(LocalFile { digest, bytes: bytes.len() as u64, source: Source::Memory(bytes) });
        Ok(Self { manifest: digest, files })
    }
}

fn read_manifest(path: &Path) -> Result<Vec<u8>> {
    let size = fs::metadata(path).map(|m| m.len()).or_else(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            let why = "is not there; a bundle is a folder with ensemble.json and one file a member";
            Err(CoordinatorError::from(Invalid::new(path.display().to_string(), why)))
        }
        _ => Err(error).doing(|| format!("reading {}", path.display())),
    })?;
    if size > limits::MAX_DOCUMENT_BYTES as u64 {
        return Err(Invalid::new(path.display().to_string(), "is too long to be a manifest").into());
    }
    fs::read(path).doing(|| format!("reading {}", path.display()))
}

/// A study starts from generation 0. A later generation of another study becomes one that names it as its parent.
fn as_generation_0(mut manifest: EnsembleManifest, bytes: Vec<u8>) -> Result<(EnsembleManifest, Vec<u8>)> {
    if manifest.generation == GenerationNumber(0) {
        return Ok((manifest, bytes));
    }
    manifest.generation = GenerationNumber(0);
    manifest.provenance.parent = Some(Digest::of(&bytes));
    let bytes = manifest.to_bytes()?;
    Ok((manifest, bytes))
}

/// Downloads the bundle of a manifest. The manifest is written last: a folder with one is whole.
pub(super) async fn export(channel: &Channel, manifest: Digest, out: &Path) -> Result<()> {
    fs::create_dir_all(out).doing(|| format!("creating {}", out.display()))?;
    let path = out.join(MANIFEST_FILE);
    let aside = out.join(format!("{MANIFEST_FILE}.new"));
    if path.exists() {
        if Digest::of(&read_manifest(&path)?) != manifest {
            let why = format!("{} holds another bundle; choose another --out", out.display());
            return Err(CoordinatorError::refused(ErrorCode::Conflict, why));
        }
        fs::rename(&path, &aside).doing(|| format!("writing {}", aside.display()))?;
    }
    transfer::download(channel, &manifest, &aside).await?;
    let parsed = EnsembleManifest::parse(&read_manifest(&aside)?)?;
    for member in &parsed.members {
        transfer::download(channel, &member.digest, &out.join(&member.file)).await?;
    }
    fs::rename(&aside, &path).doing(|| format!("writing {}", path.display()))
}
