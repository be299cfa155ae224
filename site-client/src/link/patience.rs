//! Trying again for as long as it takes: exponential backoff with jitter, for ever, and one log line for each distinct
//! cause instead of one for each attempt.

use std::sync::Mutex;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tracing::{info, warn};

use super::LinkError;

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What was said last about the connection.
#[derive(Debug)]
pub(crate) struct Patience {
    cause: Mutex<Option<String>>,
    first_wait: Duration,
    longest_wait: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { cause: Mutex::default(), first_wait: FIRST_WAIT, longest_wait: LONGEST_WAIT }
    }
}

impl Patience {
    /// Repeats a call while its failure is of the kind that passes by itself.
    pub(crate) async fn until_done<T, F>(&self, doing: &'static str, mut call: F) -> Result<T, LinkError>
    where
        F: AsyncFnMut() -> Result<T, LinkError>,
    {
        let mut waits = ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(self.first_wait)
            .with_max_delay(self.longest_wait)
            .without_max_times()
            .build();
        loop {
            match call().await {
                Err(error) if error.is_retryable() => {
                    self.say(doing, &error.to_string());
                    tokio::time::sleep(waits.next().unwrap_or(self.longest_wait)).await;
                }
                done => {
                    if done.is_ok() {
                        self.clear();
                    }
                    return done;
                }
            }
        }
    }

    /// What keeps the coordinator from answering, if it does not.
    pub(crate) fn cause(&self) -> Option<String> {
        self.cause.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    fn say(&self, doing: &'static str, cause: &str) {
        let mut last = self.cause.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if last.as_deref() != Some(cause) {
            warn!(doing, cause, "no connection; trying again until it works");
            *last = Some(cause.to_owned());
        }
    }

    fn clear(&self) {
        let mut last = self.cause.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if last.take().is_some() {
            info!("the coordinator answers again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_outlasts_an_outage_and_stops_at_a_refusal() {
        let brief = Duration::from_millis(1);
        let patience = Patience { first_wait: brief, longest_wait: brief, ..Patience::default() };
        let mut attempts = 0;
        let done = patience
            .until_done("testing", async || {
                attempts += 1;
                if attempts < 40 { Err(LinkError::Unreachable("nobody answers".into())) } else { Ok(attempts) }
            })
            .await;
        assert_eq!(done.unwrap(), 40);
        assert_eq!(patience.cause(), None);
        let refused: Result<(), _> =
            patience.until_done("testing", async || Err(LinkError::Refused("revoked".into()))).await;
        assert!(matches!(refused, Err(LinkError::Refused(_))));
    }
}
