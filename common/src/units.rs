//! Units: micrometres per pixel and points in time. No clock is read here; time is handed in.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::Invalid;
use crate::limits;

/// Spacing in micrometres per pixel, between 0.01 and 1000.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Mpp(f64);

impl Mpp {
    /// Checks the range; NaN and infinities are refused.
    pub fn new(um_per_px: f64) -> Result<Self, Invalid> {
        if um_per_px.is_finite() && (limits::MIN_MPP..=limits::MAX_MPP).contains(&um_per_px) {
            Ok(Self(um_per_px))
        } else {
            let range = format!("{} to {}", limits::MIN_MPP, limits::MAX_MPP);
            Err(Invalid::new("spacing", format!("{um_per_px} um/px is outside {range}")))
        }
    }

    /// Micrometres per pixel.
    pub fn um_per_px(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Mpp {
    type Error = Invalid;
    fn try_from(value: f64) -> Result<Self, Invalid> {
        Self::new(value)
    }
}

impl From<Mpp> for f64 {
    fn from(mpp: Mpp) -> f64 {
        mpp.0
    }
}

impl fmt::Display for Mpp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} um/px", self.0)
    }
}

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This moment plus some seconds.
    #[must_use]
    pub fn plus_seconds(self, seconds: u64) -> Self {
        let ms = i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(ms))
    }

    /// Whole seconds from `earlier` to this moment, 0 if it lies in the future.
    pub fn seconds_since(self, earlier: Timestamp) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0) / 1000).unwrap_or(0)
    }
}
