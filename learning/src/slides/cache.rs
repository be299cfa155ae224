//! The most recently used decoded tiles of one slide, within a fixed number of bytes.
//!
//! Neighbouring reads overlap (half-tile steps, resampling margins); without this each tile would be decoded four times.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of decoded tiles that one slide keeps: one row of 256 px tiles of a slide 85,000 px wide.
const CACHE_BYTES: usize = 64 << 20;

/// What a tile takes beside its pixels, in the two lists and as an allocation: tiny tiles are mostly this.
const OVERHEAD_BYTES: usize = 256;

/// Level and index of a tile.
pub(super) type TileKey = (usize, u64);

/// RGB bytes of one tile.
pub(super) type Tile = Arc<Vec<u8>>;

fn cost(tile: &Tile) -> usize {
    tile.len() + OVERHEAD_BYTES
}

/// A least-recently-used set of tiles. Looking up and dropping take a time that hardly grows with their number.
#[derive(Debug, Default)]
pub(super) struct TileCache(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Each tile, and when it was used.
    tiles: HashMap<TileKey, (u64, Tile)>,
    /// The same times in order.
    used: BTreeMap<u64, TileKey>,
    clock: u64,
    bytes: usize,
}

impl TileCache {
    /// The tile, if it is still there.
    pub(super) fn get(&self, key: TileKey) -> Option<Tile> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Inner { tiles, used, clock, .. } = &mut *inner;
        let (time, tile) = tiles.get_mut(&key)?;
        used.remove(time);
        *clock += 1;
        *time = *clock;
        used.insert(*clock, key);
        Some(Arc::clone(tile))
    }

    /// Keeps the tile and drops the longest unused ones beyond the bound.
    pub(super) fn put(&self, key: TileKey, tile: Tile) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Inner { tiles, used, clock, bytes } = &mut *inner;
        *clock += 1;
        *bytes += cost(&tile);
        used.insert(*clock, key);
        if let Some((time, old)) = tiles.insert(key, (*clock, tile)) {
            used.remove(&time);
            *bytes -= cost(&old);
        }
        while *bytes > CACHE_BYTES && tiles.len() > 1 {
            let Some((_, dropped)) = used.pop_first().and_then(|(_, key)| tiles.remove(&key)) else { return };
            *bytes -= cost(&dropped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_was_used_last_within_its_bytes() {
        let cache = TileCache::default();
        let tile = || Arc::new(vec![0u8; CACHE_BYTES / 4 - OVERHEAD_BYTES]);
        for index in 0..4 {
            cache.put((0, index), tile());
        }
        assert!(cache.get((0, 0)).is_some());
        cache.put((0, 4), tile());
        assert!(cache.get((0, 0)).is_some(), "used a moment ago");
        assert!(cache.get((0, 1)).is_none(), "the longest unused");
        cache.put((0, 4), tile());
        let inner = cache.0.lock().unwrap();
        assert_eq!((inner.bytes, inner.tiles.len(), inner.used.len()), (CACHE_BYTES, 4, 4));
    }
}
