//! The bundle: an ensemble on disk or on its way, as `ensemble.json` (the manifest) plus one safetensors file a member.
//! The manifest holds no time and no host, so that equal inputs give an equal manifest, byte for byte.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::Invalid;
use crate::ids::{GenerationNumber, RoundNumber, SiteId, StudyId};
use crate::limits;
use crate::plan::{Architecture, Task};

/// The schema that this code writes and reads.
pub const SCHEMA: u32 = 1;
/// The manifest's file name inside a bundle.
pub const MANIFEST_FILE: &str = "ensemble.json";

/// How members are combined into one prediction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Averaging {
    /// Mean of softmax probabilities, over tiles and over members (nnU-Net v1, and ours).
    #[default]
    Probabilities,
    /// Mean of logits, over tiles and over members, and softmax last (nnU-Net v2).
    Logits,
}

/// How pixels become network input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalisation {
    /// 8-bit RGB divided by 255 (nnU-Net's `rgb_to_0_1`).
    #[default]
    RgbTo01,
    /// Of each channel the mean of the slide taken away, and the rest divided by its standard deviation (nnU-Net's
    /// z-score, without a mask).
    ZScore,
}

/// What lies beyond the edge of a slide that is smaller than a tile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Padding {
    /// White, which is what a slide shows where there is no tissue (ours).
    #[default]
    White,
    /// Zero after normalisation: black, or with z-scores the mean colour (nnU-Net).
    Zero,
}

impl Padding {
    fn is_white(&self) -> bool {
        *self == Self::White
    }
}

/// How an ensemble is used: what must be as it was in training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conventions {
    /// How pixels become input.
    pub normalisation: Normalisation,
    /// How tiles and members are combined.
    pub averaging: Averaging,
    /// What lies beyond the edge of a small slide.
    pub padding: Padding,
}

/// One member: its file in the bundle, the digest and size of that file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberFile {
    /// File name inside the bundle, `member-0.safetensors` and so on.
    pub file: String,
    /// BLAKE3 of the file.
    pub digest: Digest,
    /// Bytes of the file.
    pub bytes: u64,
}

/// One site's part in a generation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contribution {
    /// The site.
    pub site: SiteId,
    /// The weight that it was given, before normalisation.
    pub weight: f64,
    /// The digest of its update.
    pub update: Digest,
}

/// Where a generation comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The study, absent for an ensemble trained offline.
    pub study: Option<StudyId>,
    /// The digest of the plan that it was trained or aggregated under.
    pub plan: Digest,
    /// The round that produced it, absent for an ensemble trained offline.
    pub round: Option<RoundNumber>,
    /// The manifest of the parent generation, absent for an ensemble trained offline.
    pub parent: Option<Digest>,
    /// The updates that went in, sorted by site.
    pub contributions: Vec<Contribution>,
}

/// `ensemble.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnsembleManifest {
    /// Version of this document, [`SCHEMA`].
    pub schema: u32,
    /// The generation's number; 0 for an ensemble trained offline.
    pub generation: GenerationNumber,
    /// Classes and spacing.
    pub task: Task,
    /// The network that all members share.
    pub architecture: Architecture,
    /// How pixels become input.
    pub normalisation: Normalisation,
    /// How members are combined.
    pub averaging: Averaging,
    /// What lies beyond the edge of a small slide.
    #[serde(default, skip_serializing_if = "Padding::is_white")]
    pub padding: Padding,
    /// The members, in order.
    pub members: Vec<MemberFile>,
    /// Where it comes from.
    pub provenance: Provenance,
}

impl EnsembleManifest {
    /// Parses and validates a manifest document.
    pub fn parse(bytes: &[u8]) -> Result<Self, Invalid> {
        if bytes.len() > limits::MAX_DOCUMENT_BYTES {
            return Err(Invalid::new(
                MANIFEST_FILE,
                format!("is {} bytes, more than a manifest may have", bytes.len()),
            ));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(|e| Invalid::new(MANIFEST_FILE, e.to_string()))?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// How the ensemble is used.
    pub fn conventions(&self) -> Conventions {
        Conventions { normalisation: self.normalisation, averaging: self.averaging, padding: self.padding }
    }

    /// The bytes whose digest names this ensemble: indented JSON with a final newline.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Invalid> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|e| Invalid::new(MANIFEST_FILE, e.to_string()))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    fn validate(&self) -> Result<(), Invalid> {
        let fail = |why: String| Err(Invalid::new(MANIFEST_FILE, why));
        if self.schema != SCHEMA {
            return fail(format!("schema {} is not {SCHEMA}; use a newer consilium to read it", self.schema));
        }
        self.task.validate()?;
        self.architecture.validate()?;
        if self.members.is_empty() || self.members.len() > limits::MAX_MEMBERS {
            return fail(format!("{} members; 1 to {} are possible", self.members.len(), limits::MAX_MEMBERS));
        }
        for (index, member) in self.members.iter().enumerate() {
            if member.file != member_file_name(index) {
                return fail(format!("member {index} must be called {}", member_file_name(index)));
            }
            if member.bytes == 0 || member.bytes > limits::MAX_BLOB_BYTES {
                return fail(format!("member {index} has an impossible size of {} bytes", member.bytes));
            }
        }
        Ok(())
    }
}

/// The file name of a member inside a bundle. Never taken from outside, so no path can escape the bundle.
pub fn member_file_name(index: usize) -> String {
    format!("member-{index}.safetensors")
}
