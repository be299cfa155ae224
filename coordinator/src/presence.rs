//! When each site was last heard of and how far it says it is. For the operator's eyes only: kept in memory, and the
//! time of the last sign of life now and then in the database.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use consilium_common::messages::Progress;
use consilium_common::{SiteId, StudyId, Timestamp};

/// A sign of life is written to the database when the one there is older than this.
const WRITE_EVERY_S: u64 = 60;

#[derive(Debug, Default)]
struct Seen {
    at: Millis,
    written: Millis,
    progress: BTreeMap<StudyId, Progress>,
}

/// 0 means never.
type Millis = i64;

/// Signs of life of all sites.
#[derive(Debug, Default)]
pub(crate) struct Presence(Mutex<BTreeMap<SiteId, Seen>>);

impl Presence {
    fn with<T>(&self, site: &SiteId, act: impl FnOnce(&mut Seen) -> T) -> T {
        act(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(site.clone()).or_default())
    }

    /// Notes a sign of life. True if it is time to write it to the database.
    pub(crate) fn seen(&self, site: &SiteId, now: Timestamp) -> bool {
        self.with(site, |seen| {
            seen.at = now.0;
            let due = now.seconds_since(Timestamp(seen.written)) >= WRITE_EVERY_S;
            if due {
                seen.written = now.0;
            }
            due
        })
    }

    /// Notes how far a site is in a study that it is part of.
    pub(crate) fn progress(&self, site: &SiteId, progress: Progress) {
        self.with(site, |seen| seen.progress.insert(progress.study.clone(), progress));
    }

    /// When the site was last heard of since the coordinator started, and what it said of a study.
    pub(crate) fn of(&self, site: &SiteId, study: Option<&StudyId>) -> (Timestamp, Option<Progress>) {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(seen) = map.get(site) else { return (Timestamp(0), None) };
        (Timestamp(seen.at), study.and_then(|study| seen.progress.get(study)).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_is_spared() {
        let (presence, site) = (Presence::default(), "a".parse().unwrap());
        assert!(presence.seen(&site, Timestamp(1_000_000)));
        assert!(!presence.seen(&site, Timestamp(1_059_000)));
        assert!(presence.seen(&site, Timestamp(1_060_000)));
        assert_eq!(presence.of(&site, None).0, Timestamp(1_060_000));
    }
}
