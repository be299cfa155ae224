//! The only place that reads the time of day. Tests hand in their own clock.

use std::time::{SystemTime, UNIX_EPOCH};

use consilium_common::Timestamp;

/// Where the time comes from.
pub(crate) trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch, now.
    fn now(&self) -> Timestamp;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // A clock before 1970 reads as 1970: certificates would refuse it first.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
pub(crate) mod fake {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::{Clock, Timestamp};

    /// A clock that moves when it is told to.
    #[derive(Debug)]
    pub(crate) struct FakeClock(AtomicI64);

    impl FakeClock {
        pub(crate) fn new() -> Self {
            Self(AtomicI64::new(1_800_000_000_000))
        }

        pub(crate) fn advance(&self, seconds: i64) {
            self.0.fetch_add(seconds * 1000, Ordering::SeqCst);
        }
    }

    impl Clock for FakeClock {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.load(Ordering::SeqCst))
        }
    }
}
