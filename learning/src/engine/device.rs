//! The device that somebody asked for, as a word: `auto`, `cpu`, `onnx`, `libtorch` or `cuda:N`; the last two with `:bf16`
//! for numbers of half the size between the layers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Most graphics cards in a machine that are told apart.
const MAX_CARDS: u32 = 64;

/// How numbers are kept between the layers of a network; weights that are trained, statistics, sums and losses are always
/// float32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// float32.
    #[default]
    Fp32,
    /// bfloat16: float32's range with 8 bits of precision; faster where the hardware has it (AMX, tensor cores).
    Bf16,
}

impl Precision {
    /// What it adds to a device's word.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::Fp32 => "",
            Self::Bf16 => BF16,
        }
    }
}

/// The end of a word that asks for it.
const BF16: &str = ":bf16";

/// What computes the networks of a scan or of a training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    /// The fastest engine that is there.
    #[default]
    Auto,
    /// Our own kernels, always there.
    Cpu,
    /// ONNX Runtime on the processor.
    Onnx,
    /// libtorch on the processor, in a program that was built with it.
    Libtorch(Precision),
    /// The graphics card of this number, from 0: by libtorch in a program that was built with it, else by ONNX Runtime.
    Cuda(u32, Precision),
}

/// A word that is no device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no device of this program; give auto, cpu, onnx, libtorch or cuda:N with N the number of the card, from 0"
)]
pub struct UnknownDevice(pub String);

impl FromStr for Device {
    type Err = UnknownDevice;

    fn from_str(word: &str) -> Result<Self, UnknownDevice> {
        let (place, precision) = match word.strip_suffix(BF16) {
            Some(place) => (place, Precision::Bf16),
            None => (word, Precision::Fp32),
        };
        let card = |n: &str| n.parse().ok().filter(|&n| n < MAX_CARDS && place == format!("cuda:{n}"));
        match (place, precision) {
            ("auto", Precision::Fp32) => Ok(Self::Auto),
            ("cpu", Precision::Fp32) => Ok(Self::Cpu),
            ("onnx", Precision::Fp32) => Ok(Self::Onnx),
            ("libtorch", _) => Ok(Self::Libtorch(precision)),
            _ => match place.strip_prefix("cuda:").and_then(card) {
                Some(card) => Ok(Self::Cuda(card, precision)),
                None => Err(UnknownDevice(word.into())),
            },
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Onnx => f.write_str("onnx"),
            Self::Libtorch(precision) => write!(f, "libtorch{}", precision.suffix()),
            Self::Cuda(card, precision) => write!(f, "cuda:{card}{}", precision.suffix()),
        }
    }
}

impl TryFrom<String> for Device {
    type Error = UnknownDevice;

    fn try_from(word: String) -> Result<Self, UnknownDevice> {
        word.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_devices() {
        for (word, device) in [
            ("auto", Device::Auto),
            ("cpu", Device::Cpu),
            ("onnx", Device::Onnx),
            ("libtorch", Device::Libtorch(Precision::Fp32)),
            ("libtorch:bf16", Device::Libtorch(Precision::Bf16)),
            ("cuda:0", Device::Cuda(0, Precision::Fp32)),
            ("cuda:63", Device::Cuda(63, Precision::Fp32)),
            ("cuda:1:bf16", Device::Cuda(1, Precision::Bf16)),
        ] {
            assert_eq!(word.parse(), Ok(device));
            assert_eq!(device.to_string(), word);
            let json = serde_json::to_string(&device).unwrap();
            assert_eq!(json, format!("\"{word}\""));
            assert_eq!(serde_json::from_str::<Device>(&json).unwrap(), device);
        }
        assert_eq!(Device::default(), Device::Auto);
    }

    #[test]
    fn other_words_are_refused_with_what_there_is() {
        let words = ["", "CPU", "gpu", "cuda", "cuda:", "cuda:-1", "cuda:+1", "cuda:01", "cuda:64", "cuda:4294967296"];
        for word in words.into_iter().chain(["cpu:bf16", "auto:bf16", "libtorch:fp16", "cuda::bf16", ":bf16"]) {
            let message = word.parse::<Device>().unwrap_err().to_string();
            for part in [word, "auto", "cpu", "onnx", "libtorch", "cuda:N"] {
                assert!(message.contains(part), "{message}");
            }
            assert!(serde_json::from_str::<Device>(&format!("\"{word}\"")).is_err());
        }
    }
}
