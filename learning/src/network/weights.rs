//! The weights of one member as plain numbers: exactly the tensors of `Architecture::tensors()`, and their safetensors
//! form. Equal weights give equal bytes. Everything read from outside is checked by name, shape, type and value.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

use consilium_common::aggregation::weighted_mean;
use consilium_common::plan::{Architecture, TensorShape};
use consilium_common::{Invalid, limits};
use rand_chacha::ChaCha8Rng;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::error::WeightsError;
use super::random;

/// Slope of LeakyReLU for negative input.
pub(crate) const LEAKY_SLOPE: f32 = 0.01;

/// One tensor: shape, outermost first, and values in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightTensor {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values.
    pub values: Vec<f32>,
}

/// The weights of one member, or the difference of two. The tensors are those of the architecture that it was made for.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberWeights {
    tensors: BTreeMap<String, WeightTensor>,
}

impl MemberWeights {
    /// Fresh weights, as nnU-Net starts: He normal for LeakyReLU 0.01 in (transposed) convolutions, biases 0, norms 1 and 0.
    pub fn initialise(arch: &Architecture, seed: u64) -> Self {
        let fill = |t: &TensorShape| match t.name.rsplit('.').next() {
            _ if t.shape.len() == 4 => he_normal(t, &mut random::rng(&format!("{seed}/initialise/{}", t.name))),
            Some("weight" | "running_var") => vec![1.0; t.elements()],
            _ => vec![0.0; t.elements()],
        };
        let tensors = arch.tensors().into_iter().map(|t| {
            let values = fill(&t);
            (t.name, WeightTensor { shape: t.shape, values })
        });
        Self { tensors: tensors.collect() }
    }

    /// Builds weights from tensors that are known to be those of one architecture.
    pub(crate) fn from_tensors(tensors: BTreeMap<String, WeightTensor>) -> Self {
        Self { tensors }
    }

    /// Reads and checks a member file. A `num_batches_tracked` as PyTorch writes it is ignored, nothing else is.
    ///
    /// # Errors
    /// An unreadable file, a wrong format, a missing or unknown tensor, a wrong shape or type, a value that is not finite.
    pub fn read(path: &Path, arch: &Architecture) -> Result<Self, WeightsError> {
        let bytes = read_limited(path)?;
        Self::parse(&bytes, arch, &path.display().to_string())
    }

    /// As [`MemberWeights::read`], from bytes.
    ///
    /// # Errors
    /// As for [`MemberWeights::read`].
    pub fn from_bytes(bytes: &[u8], arch: &Architecture) -> Result<Self, WeightsError> {
        Self::parse(bytes, arch, "the member file")
    }

    pub(crate) fn parse(bytes: &[u8], arch: &Architecture, file: &str) -> Result<Self, WeightsError> {
        let format = |why: String| WeightsError::Format { file: file.to_owned(), why };
        let header = bytes.first_chunk::<8>().map(|b| u64::from_le_bytes(*b));
        match header {
            None => return Err(format(format!("it is only {} bytes long", bytes.len()))),
            Some(n) if n > limits::MAX_TENSOR_HEADER_BYTES => {
                return Err(format(format!("its header claims {n} bytes")));
            }
            Some(_) => {}
        }
        let found = SafeTensors::deserialize(bytes).map_err(|e| format(e.to_string()))?;
        if found.len() > limits::MAX_TENSORS {
            return Err(format(format!("it has {} tensors", found.len())));
        }
        let mut left: BTreeMap<String, TensorView<'_>> = found.tensors().into_iter().collect();
        left.retain(|name, _| !name.ends_with(".num_batches_tracked"));
        let mut tensors = BTreeMap::new();
        for need in arch.tensors() {
            let missing = || WeightsError::Missing { file: file.to_owned(), name: need.name.clone() };
            let view = left.remove(&need.name).ok_or_else(missing)?;
            let values = checked_values(&view, &need, file)?;
            tensors.insert(need.name, WeightTensor { shape: need.shape, values });
        }
        match left.pop_first() {
            Some((name, _)) => Err(WeightsError::Unexpected { file: file.to_owned(), name }),
            None => Ok(Self { tensors }),
        }
    }

    /// The safetensors bytes: tensors sorted by name, no time, no host.
    ///
    /// # Errors
    /// Only if the format cannot hold the tensors.
    pub fn to_bytes(&self) -> Result<Vec<u8>, WeightsError> {
        let format = |e: safetensors::SafeTensorError| WeightsError::Format {
            file: "the member file".to_owned(),
            why: e.to_string(),
        };
        let raw: Vec<(&str, &[usize], Vec<u8>)> = self
            .tensors
            .iter()
            .map(|(name, t)| {
                (name.as_str(), t.shape.as_slice(), t.values.iter().flat_map(|v| v.to_le_bytes()).collect())
            })
            .collect();
        let mut views = Vec::with_capacity(raw.len());
        for (name, shape, bytes) in &raw {
            views.push((*name, TensorView::new(Dtype::F32, shape.to_vec(), bytes).map_err(format)?));
        }
        let note = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        safetensors::serialize(views, Some(note)).map_err(format)
    }

    /// Writes the member file; a reader sees the whole file or none.
    ///
    /// # Errors
    /// The file system refused.
    pub fn write(&self, path: &Path) -> Result<(), WeightsError> {
        write_atomically(path, &self.to_bytes()?)
    }

    /// What has to be added to `base` to come here. Both must be of one architecture.
    #[must_use]
    pub fn delta_from(&self, base: &Self) -> Self {
        self.zip(base, |own, base| own - base)
    }

    /// These weights moved by a delta. Both must be of one architecture.
    #[must_use]
    pub fn plus(&self, delta: &Self) -> Self {
        self.zip(delta, |own, delta| own + delta)
    }

    /// These weights moved by the weighted mean of deltas: the numbers that a coordinator computes of the same updates.
    /// All must be of one architecture.
    ///
    /// # Errors
    /// As [`weighted_mean`].
    pub fn moved_by(&self, deltas: &[(f64, &Self)]) -> Result<Self, Invalid> {
        let mean = |(name, own): (&String, &WeightTensor)| {
            let deltas: Vec<(f64, &[f32])> = deltas
                .iter()
                .filter_map(|&(weight, delta)| Some((weight, delta.tensors.get(name)?.values.as_slice())))
                .collect();
            let values = weighted_mean(&own.values, &deltas)?;
            Ok((name.clone(), WeightTensor { shape: own.shape.clone(), values }))
        };
        Ok(Self { tensors: self.tensors.iter().map(mean).collect::<Result<_, Invalid>>()? })
    }

    fn zip(&self, other: &Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let combine = |(name, own): (&String, &WeightTensor)| {
            // A tensor that the other side does not have counts as zeros: architectures are checked where files are read.
            let values = match other.tensors.get(name) {
                Some(o) => own.values.iter().zip(&o.values).map(|(&a, &b)| f(a, b)).collect(),
                None => own.values.clone(),
            };
            (name.clone(), WeightTensor { shape: own.shape.clone(), values })
        };
        Self { tensors: self.tensors.iter().map(combine).collect() }
    }

    /// A tensor by its nnU-Net name.
    pub fn get(&self, name: &str) -> Option<&WeightTensor> {
        self.tensors.get(name)
    }

    /// All tensors, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &WeightTensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// True if the tensors are exactly those of this architecture.
    pub fn fits(&self, arch: &Architecture) -> bool {
        let need = arch.tensors();
        need.len() == self.tensors.len()
            && need
                .iter()
                .all(|n| self.get(&n.name).is_some_and(|t| t.shape == n.shape && t.values.len() == n.elements()))
    }

    /// The first value that no trained network has (NaN, infinite or beyond the limit), with its tensor's name.
    pub fn first_bad_value(&self) -> Option<(&str, f32)> {
        self.iter().find_map(|(name, t)| t.values.iter().find(|v| is_bad(**v)).map(|v| (name, *v)))
    }
}

fn is_bad(value: f32) -> bool {
    !value.is_finite() || value.abs() > limits::MAX_ABS_WEIGHT
}

fn checked_values(view: &TensorView<'_>, need: &TensorShape, file: &str) -> Result<Vec<f32>, WeightsError> {
    if view.dtype() != Dtype::F32 || view.shape() != need.shape {
        return Err(WeightsError::Kind {
            file: file.to_owned(),
            name: need.name.clone(),
            found: format!("{:?} {:?}", view.dtype(), view.shape()),
            needed: format!("F32 {:?}", need.shape),
        });
    }
    let values: Vec<f32> = view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    match values.iter().find(|v| is_bad(**v)) {
        Some(&value) => Err(WeightsError::Value { file: file.to_owned(), name: need.name.clone(), value }),
        None => Ok(values),
    }
}

/// torch's `kaiming_normal_(a=0.01)`: fan-in is the second axis times the kernel, for transposed convolutions too.
fn he_normal(t: &TensorShape, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let fan_in: usize = t.shape[1..].iter().product();
    let slope = f64::from(LEAKY_SLOPE);
    let std = (2.0 / (1.0 + slope * slope) / fan_in as f64).sqrt();
    (0..t.elements()).map(|_| (random::normal(rng) * std) as f32).collect()
}

pub(crate) fn read_limited(path: &Path) -> Result<Vec<u8>, WeightsError> {
    let io = |source| WeightsError::Io { doing: "read", path: path.to_owned(), source };
    let size = std::fs::metadata(path).map_err(io)?.len();
    if size > limits::MAX_BLOB_BYTES {
        let why = format!("it is {size} bytes long, more than a member may be");
        return Err(WeightsError::Format { file: path.display().to_string(), why });
    }
    std::fs::read(path).map_err(io)
}

/// Writes beside the target, syncs, renames: after a crash there is the old file, the new one, or none.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), WeightsError> {
    let io = |source| WeightsError::Io { doing: "write", path: path.to_owned(), source };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(io)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(io)?;
    file.write_all(bytes).map_err(io)?;
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|e| io(e.error))?;
    Ok(())
}
