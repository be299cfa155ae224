//! The one place that reads the clock.

use std::time::Instant;

use consilium_common::Timestamp;

/// This moment.
pub(crate) fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond())
}

/// A moment for people and files: RFC 3339, UTC, whole seconds.
pub(crate) fn text(moment: Timestamp) -> String {
    match jiff::Timestamp::from_second(moment.0.div_euclid(1000)) {
        Ok(moment) => moment.to_string(),
        Err(_) => format!("{} ms", moment.0),
    }
}

/// Measures how long a stage takes; the figures go to timing.json and to no decision.
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

/// How long ago, in words: "3 min", "2 h 10 min", "4 days".
pub(crate) fn ago(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.seconds_since(since);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_spans_read_well() {
        assert_eq!(text(Timestamp(1_700_000_000_123)), "2023-11-14T22:13:20Z");
        let at = |seconds: i64| ago(Timestamp(0), Timestamp(seconds * 1000));
        assert_eq!([at(5), at(61), at(7_800), at(400_000)], ["5 s", "1 min", "2 h 10 min", "4 days"]);
    }
}
