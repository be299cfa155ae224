//! The most recently used decoded tiles of one slide, within a fixed number of bytes.
//!
//! Neighbouring reads overlap (half-tile steps, resampling margins); without this each tile would be decoded four times.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of decoded tiles that one slide keeps: one row of 256 px tiles of a slide 170,000 px wide.
const CACHE_BYTES: usize = 128 << 20;

/// Level and index of a tile.
pub(super) type TileKey = (usize, u64);

/// RGB bytes of one tile.
pub(super) type Tile = Arc<Vec<u8>>;

/// A least-recently-used set of tiles.
#[derive(Debug, Default)]
pub(super) struct TileCache(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    tiles: BTreeMap<TileKey, (u64, Tile)>,
    clock: u64,
    bytes: usize,
}

impl TileCache {
    /// The tile, if it is still there.
    pub(super) fn get(&self, key: TileKey) -> Option<Tile> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.clock += 1;
        let now = inner.clock;
        let (used, tile) = inner.tiles.get_mut(&key)?;
        *used = now;
        Some(Arc::clone(tile))
    }

    /// Keeps the tile and drops the longest unused ones beyond the bound.
    pub(super) fn put(&self, key: TileKey, tile: Tile) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.clock += 1;
        inner.bytes += tile.len();
        let now = inner.clock;
        if let Some((_, old)) = inner.tiles.insert(key, (now, tile)) {
            inner.bytes -= old.len();
        }
        while inner.bytes > CACHE_BYTES && inner.tiles.len() > 1 {
            let oldest = inner.tiles.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key);
            let Some((_, dropped)) = oldest.and_then(|key| inner.tiles.remove(&key)) else { return };
            inner.bytes -= dropped.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_was_used_last_within_its_bytes() {
        let cache = TileCache::default();
        let tile = || Arc::new(vec![0u8; CACHE_BYTES / 4]);
        for index in 0..4 {
            cache.put((0, index), tile());
        }
        assert!(cache.get((0, 0)).is_some());
        cache.put((0, 4), tile());
        assert!(cache.get((0, 0)).is_some(), "used a moment ago");
        assert!(cache.get((0, 1)).is_none(), "the longest unused");
        cache.put((0, 4), tile());
        assert_eq!(cache.0.lock().unwrap().bytes, CACHE_BYTES);
    }
}
