//! Whether rings make a valid polygon: simple, apart from each other, holes inside the outer ring and not in each other.
//!
//! Exact, on the integers that are written. Rings may share a corner that is pinned in both, and nothing else. Neighbours
//! are found in rows, so the work grows little faster than the number of corners.

use std::collections::BTreeSet;

/// A corner as it is written, in hundredths of a level-0 pixel. At most 2^20 px a side: products fit in 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) x: i64,
    pub(super) y: i64,
    pub(super) pinned: bool,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    a: Point,
    b: Point,
    ring: usize,
    index: usize,
    /// Segments in its ring.
    of: usize,
}

/// The rings, outer one first, that are not as they should be; none if the polygon is valid.
pub(super) fn faulty(rings: &[Vec<Point>]) -> BTreeSet<usize> {
    let turned = |&(i, ring): &(usize, &Vec<Point>)| ring.len() < 3 || (doubled_area(ring) > 0) != (i == 0);
    let mut faulty: BTreeSet<usize> = rings.iter().enumerate().filter(turned).map(|(i, _)| i).collect();
    let segments = segments(rings);
    let rows = Rows::new(&segments);
    for list in rows.lists() {
        find_conflicts(&segments, list, &mut faulty);
    }
    // Where a hole lies is only known of rings that do not cross.
    if faulty.is_empty() {
        faulty.extend((1..rings.len()).filter(|&hole| !inside(&segments, &rows, &rings[hole], hole)));
        if !faulty.is_empty() {
            // The outer ring may have moved across it.
            faulty.insert(0);
        }
    }
    faulty
}

/// Twice the area; positive for outer rings.
pub(super) fn doubled_area(ring: &[Point]) -> i64 {
    let next = ring.iter().cycle().skip(1);
    ring.iter().zip(next).map(|(a, b)| a.x * b.y - b.x * a.y).sum()
}

fn segments(rings: &[Vec<Point>]) -> Vec<Segment> {
    let of = |(number, ring): (usize, &Vec<Point>)| {
        let of = ring.len();
        let pairs: Vec<Segment> = (0..of)
            .map(|index| Segment { a: ring[index], b: ring[(index + 1) % of], ring: number, index, of })
            .collect();
        pairs
    };
    rings.iter().enumerate().flat_map(of).collect()
}

/// Segments by the rows that they cross, in each from left to right.
struct Rows {
    top: i64,
    height: i64,
    starts: Vec<usize>,
    items: Vec<u32>,
}

impl Rows {
    fn new(segments: &[Segment]) -> Self {
        let span = |s: &Segment| (s.a.y.min(s.b.y), s.a.y.max(s.b.y));
        let top = segments.iter().map(|s| span(s).0).min().unwrap_or(0);
        let bottom = segments.iter().map(|s| span(s).1).max().unwrap_or(0);
        // As high as the mean segment: so many lists as segments at most, and two entries a segment on average.
        let sum: i64 = segments.iter().map(|s| span(s).1 - span(s).0).sum();
        let height = (sum / segments.len().max(1) as i64).max(1);
        let rows = ((bottom - top) / height + 1) as usize;
        let range = |s: &Segment| ((span(s).0 - top) / height) as usize..=((span(s).1 - top) / height) as usize;
        let mut starts = vec![0; rows + 1];
        for s in segments {
            range(s).for_each(|row| starts[row + 1] += 1);
        }
        for row in 0..rows {
            starts[row + 1] += starts[row];
        }
        let mut order: Vec<u32> = (0..segments.len() as u32).collect();
        order.sort_unstable_by_key(|&i| segments[i as usize].a.x.min(segments[i as usize].b.x));
        let mut items = vec![0; starts[rows]];
        let mut next = starts.clone();
        for i in order {
            for row in range(&segments[i as usize]) {
                items[next[row]] = i;
                next[row] += 1;
            }
        }
        Self { top, height, starts, items }
    }

    fn lists(&self) -> impl Iterator<Item = &[u32]> {
        self.starts.windows(2).map(|pair| &self.items[pair[0]..pair[1]])
    }

    fn at(&self, y: i64) -> &[u32] {
        let row = ((y - self.top) / self.height) as usize;
        &self.items[self.starts[row]..self.starts[row + 1]]
    }
}

/// Adds the rings of segments that meet where they should not. The list goes from left to right.
fn find_conflicts(segments: &[Segment], list: &[u32], faulty: &mut BTreeSet<usize>) {
    for (i, &first) in list.iter().enumerate() {
        let s = &segments[first as usize];
        let right = s.a.x.max(s.b.x);
        let others = list[i + 1..].iter().map(|&second| &segments[second as usize]);
        for t in others.take_while(|t| t.a.x.min(t.b.x) <= right) {
            if conflict(s, t) {
                faulty.extend([s.ring, t.ring]);
            }
        }
    }
}

fn conflict(s: &Segment, t: &Segment) -> bool {
    let apart = |a: i64, b: i64, c: i64, d: i64| a.max(b) < c.min(d) || c.max(d) < a.min(b);
    if apart(s.a.x, s.b.x, t.a.x, t.b.x) || apart(s.a.y, s.b.y, t.a.y, t.b.y) {
        return false;
    }
    let same = |p: Point, q: Point| (p.x, p.y) == (q.x, q.y);
    let follows = |s: &Segment, t: &Segment| s.ring == t.ring && (s.index + 1) % s.of == t.index;
    let shared = |p: Point, q: Point| same(p, q) && p.pinned && q.pinned;
    // (shared corner, the other ends)
    let joint = if follows(s, t) {
        Some((s.b, s.a, t.b))
    } else if follows(t, s) {
        Some((s.a, s.b, t.a))
    } else if shared(s.a, t.a) {
        Some((s.a, s.b, t.b))
    } else if shared(s.a, t.b) {
        Some((s.a, s.b, t.a))
    } else if shared(s.b, t.a) {
        Some((s.b, s.a, t.b))
    } else if shared(s.b, t.b) {
        Some((s.b, s.a, t.a))
    } else {
        None
    };
    match joint {
        // They may only meet in the corner, not lie on each other.
        Some((p, a, b)) => cross(p, a, b) == 0 && (a.x - p.x) * (b.x - p.x) + (a.y - p.y) * (b.y - p.y) > 0,
        None => {
            let side = |p, q, r| cross(p, q, r).signum();
            side(s.a, s.b, t.a) * side(s.a, s.b, t.b) <= 0 && side(t.a, t.b, s.a) * side(t.a, t.b, s.b) <= 0
        }
    }
}

/// Twice the area of the triangle: its sign says on which side of `p q` the point `r` lies.
fn cross(p: Point, q: Point, r: Point) -> i64 {
    (q.x - p.x) * (r.y - p.y) - (q.y - p.y) * (r.x - p.x)
}

/// Whether a hole lies in an odd number of other rings: in the outer one alone, as rings do not cross.
fn inside(segments: &[Segment], rows: &Rows, ring: &[Point], hole: usize) -> bool {
    // Where rings touch in all its corners, their order around the corners is as it was traced.
    let Some(p) = ring.iter().find(|p| !p.pinned) else { return true };
    let left = rows.at(p.y).iter().map(|&i| &segments[i as usize]).filter(|s| {
        let straddles = (s.a.y > p.y) != (s.b.y > p.y);
        // Left of the point: on its left for a segment that leads down, on its right for one that leads up.
        let turn = cross(s.a, s.b, *p);
        s.ring != hole && straddles && (if s.b.y > s.a.y { turn < 0 } else { turn > 0 })
    });
    left.count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid(rings: &[Vec<Point>]) -> bool {
        faulty(rings).is_empty()
    }

    fn ring(points: &[(i64, i64)]) -> Vec<Point> {
        points.iter().map(|&(x, y)| Point { x, y, pinned: false }).collect()
    }

    #[test]
    fn what_crosses_touches_or_lies_outside_is_refused() {
        let outer = || ring(&[(0, 0), (100, 0), (100, 100), (0, 100)]);
        let hole = |x: i64, y: i64| ring(&[(x, y), (x, y + 10), (x + 10, y + 10), (x + 10, y)]);
        assert!(valid(&[outer(), hole(10, 10), hole(40, 10), hole(10, 60)]));
        let some = faulty(&[outer(), hole(10, 10), hole(40, 10), hole(45, 15)]);
        assert_eq!(some, [2, 3].into(), "only the rings at fault");
        assert!(!valid(&[outer(), hole(200, 10)]), "outside");
        assert!(!valid(&[outer(), hole(95, 10)]), "across the edge");
        assert!(!valid(&[outer(), hole(90, 10)]), "along the edge");
        assert!(!valid(&[outer(), hole(10, 10), hole(20, 20)]), "touching corners");
        assert!(!valid(&[outer(), hole(10, 10), hole(15, 15)]), "crossing");
        let inner = ring(&[(12, 12), (12, 14), (14, 14), (14, 12)]);
        assert!(!valid(&[outer(), hole(10, 10), inner]), "a hole in a hole");
        assert!(!valid(&[hole(0, 0)]), "the wrong way round");
        assert!(!valid(&[ring(&[(0, 0), (10, 0), (0, 10), (10, 10)])]), "a bow tie");
        assert!(!valid(&[ring(&[(0, 0), (10, 0), (10, 10), (10, 5), (20, 5), (0, 9)])]), "a spike");
    }

    #[test]
    fn pinned_corners_may_be_shared() {
        let mut outer = ring(&[(0, 0), (100, 0), (100, 50), (100, 100), (0, 100)]);
        let mut hole = ring(&[(100, 50), (80, 40), (80, 60)]);
        assert!(!valid(&[outer.clone(), hole.clone()]));
        (outer[2].pinned, hole[0].pinned) = (true, true);
        assert!(valid(&[outer, hole]));
    }
}
