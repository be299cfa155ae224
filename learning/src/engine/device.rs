//! The device that somebody asked for, as a word: `auto`, `cpu`, `onnx` or `cuda:N`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Most graphics cards in a machine that are told apart.
const MAX_CARDS: u32 = 64;

/// What computes the networks of a scan.
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
    /// ONNX Runtime on the graphics card of this number, from 0.
    Cuda(u32),
}

/// A word that is no device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no device of this program; give auto, cpu, onnx or cuda:N with N the number of the card, from 0")]
pub struct UnknownDevice(pub String);

impl FromStr for Device {
    type Err = UnknownDevice;

    fn from_str(word: &str) -> Result<Self, UnknownDevice> {
        let card = |n: &str| n.parse().ok().filter(|&n| n < MAX_CARDS && word == format!("cuda:{n}"));
        match word {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "onnx" => Ok(Self::Onnx),
            _ => word.strip_prefix("cuda:").and_then(card).map(Self::Cuda).ok_or_else(|| UnknownDevice(word.into())),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Onnx => f.write_str("onnx"),
            Self::Cuda(card) => write!(f, "cuda:{card}"),
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
            ("cuda:0", Device::Cuda(0)),
            ("cuda:63", Device::Cuda(63)),
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
        for word in ["", "CPU", "gpu", "cuda", "cuda:", "cuda:-1", "cuda:+1", "cuda:01", "cuda:64", "cuda:4294967296"] {
            let message = word.parse::<Device>().unwrap_err().to_string();
            for part in [word, "auto", "cpu", "onnx", "cuda:N"] {
                assert!(message.contains(part), "{message}");
            }
            assert!(serde_json::from_str::<Device>(&format!("\"{word}\"")).is_err());
        }
    }
}
