//! Boundaries of objects, followed along pixel edges while rows of labels come.
//!
//! An object is a 4-connected set of pixels of one label above 0. The rows above the current one are forgotten; of an
//! object that is still open its corners are kept, and it is given out with the first row that does not go on with it.
//! Rings keep the object at their right on the screen, where y goes down: outer rings have a positive area by the usual
//! formula on the numbers, as RFC 7946 asks, holes a negative one.

use std::ops::Range;

use super::arena::Arena;

/// Corners of open objects before everything open is cut off at the current row: 21 MB, and some 130 MB more while one
/// object of so many is written. A slide of tissue as one object has a fifth of it; only noise has more, and nobody could
/// edit an outline of so many corners.
const MAX_OPEN_CORNERS: usize = 1 << 20;

/// A corner of a ring, in pixel edges: (0, 0) is the top-left corner of the first pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vertex {
    /// Column edge.
    pub x: u32,
    /// Row edge.
    pub y: u32,
    /// Two pixels of the label meet here with only their corners: rings may touch.
    pub pinned: bool,
}

/// A finished object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its label.
    pub label: u8,
    /// Its pixels.
    pub pixels: u64,
    /// The outer ring, then the holes. No ring meets itself; two rings may share a pinned corner. Not closed: the first
    /// corner is not repeated.
    pub rings: Vec<Vec<Vertex>>,
}

/// Pixels of one label side by side in a row.
#[derive(Clone, Debug)]
struct Run {
    start: u32,
    end: u32,
    label: u8,
    part: u32,
    /// First corner of the chain that its left edge leads to; edges at the left lead up.
    left: u32,
    /// Last corner of the chain that leads to its right edge, which leads down.
    right: u32,
}

/// What is known of an open object.
#[derive(Debug, Default)]
struct Part {
    /// The part that it was found to belong to; itself if none.
    parent: u32,
    /// Runs of the current row.
    runs: u32,
    pixels: u64,
    /// A corner of each closed ring.
    rings: Vec<u32>,
    /// Parts that were joined to it.
    joined: Vec<u32>,
}

/// Follows boundaries through rows of labels.
#[derive(Debug)]
pub struct Tracer {
    width: usize,
    labels: usize,
    most_open: usize,
    y: u32,
    /// The row above, and its runs.
    above: Vec<u8>,
    upper: Vec<Run>,
    lower: Vec<Run>,
    arena: Arena,
    parts: Vec<Part>,
    free: Vec<u32>,
    cuts: u64,
}

impl Tracer {
    /// For rows of `width` pixels; only the labels 1 to `labels - 1` are followed.
    pub fn new(width: u32, labels: usize) -> Self {
        Self {
            width: width as usize,
            labels,
            most_open: MAX_OPEN_CORNERS,
            y: 0,
            above: vec![0; width as usize],
            upper: Vec::new(),
            lower: Vec::new(),
            arena: Arena::default(),
            parts: Vec::new(),
            free: Vec::new(),
            cuts: 0,
        }
    }

    /// How often all open objects were cut off at a row, because they had more corners than may be kept.
    pub fn cuts(&self) -> u64 {
        self.cuts
    }

    #[cfg(test)]
    pub(super) fn with_most_open(mut self, corners: usize) -> Self {
        self.most_open = corners;
        self
    }

    /// Adds the next row, of the width given; `out` gets the objects that end above it, from left to right.
    pub fn push_row(&mut self, row: &[u8], out: &mut dyn FnMut(Object)) {
        debug_assert_eq!(row.len(), self.width);
        if self.arena.len() > self.most_open {
            self.cuts += 1;
            self.end_row(&vec![0; self.width], out);
        }
        let mut lower = std::mem::take(&mut self.lower);
        find_runs(row, self.labels, &mut lower);
        self.lower = lower;
        self.end_row(row, out);
        self.y += 1;
    }

    /// Ends all objects at the last row.
    pub fn finish(mut self, out: &mut dyn FnMut(Object)) {
        self.end_row(&vec![0; self.width], out);
    }

    /// Connects the runs above with those below, whose pixels are `row`.
    fn end_row(&mut self, row: &[u8], out: &mut dyn FnMut(Object)) {
        let (upper, mut lower) = (std::mem::take(&mut self.upper), std::mem::take(&mut self.lower));
        self.join(&upper, &mut lower);
        self.close_below(&upper, &mut lower, row);
        self.open_above(&upper, &mut lower, row);
        for run in &upper {
            let root = self.root(run.part);
            let part = &mut self.parts[root as usize];
            part.runs -= 1;
            if part.runs == 0 {
                out(self.take(root, run.label));
            }
        }
        self.above.copy_from_slice(row);
        self.upper = lower;
        self.lower = upper;
        self.lower.clear();
    }

    /// Gives each lower run its part: that of the runs it touches above, joined, or a new one.
    fn join(&mut self, upper: &[Run], lower: &mut [Run]) {
        let mut first = 0;
        for run in lower {
            let mut part = None;
            for i in touching(upper, &mut first, run) {
                if upper[i].label == run.label {
                    let other = self.root(upper[i].part);
                    part = Some(part.map_or(other, |part| self.union(part, other)));
                    if upper[i].start == run.start {
                        run.left = upper[i].left;
                    }
                    if upper[i].end == run.end {
                        run.right = upper[i].right;
                    }
                }
            }
            run.part = part.unwrap_or_else(|| self.new_part());
            let part = &mut self.parts[run.part as usize];
            part.runs += 1;
            part.pixels += u64::from(run.end - run.start);
        }
    }

    /// Bottom edges: where an upper run has no run of its label below it. They lead to the left.
    fn close_below(&mut self, upper: &[Run], lower: &mut [Run], row: &[u8]) {
        let mut first = 0;
        for run in upper {
            let (mut x, mut before) = (run.start, None);
            for i in touching(lower, &mut first, run) {
                if lower[i].label != run.label {
                    continue;
                }
                if lower[i].start > x {
                    let (left, right) = self.edge(run.label, row, lower[i].start, x);
                    lower[i].left = left;
                    self.after_bottom(run, before, lower, right);
                }
                (x, before) = (lower[i].end.min(run.end), Some(i));
            }
            if x < run.end {
                let (first_corner, last_corner) = self.edge(run.label, row, run.end, x);
                self.link(run, run.right, first_corner);
                self.after_bottom(run, before, lower, last_corner);
            }
        }
    }

    /// What follows a bottom edge: the upper run's left edge, or the right edge of the lower run before it.
    fn after_bottom(&mut self, run: &Run, before: Option<usize>, lower: &mut [Run], corner: u32) {
        match before {
            Some(i) => lower[i].right = corner,
            None => self.link(run, corner, run.left),
        }
    }

    /// Top edges: where a lower run has no run of its label above it. They lead to the right.
    fn open_above(&mut self, upper: &[Run], lower: &mut [Run], row: &[u8]) {
        let mut first = 0;
        for run in lower {
            let (mut x, mut before) = (run.start, None);
            let range = touching(upper, &mut first, run);
            let label = run.label;
            for above in upper[range].iter().filter(|above| above.label == label) {
                if above.start > x {
                    let (left, right) = self.edge(run.label, row, x, above.start);
                    self.before_top(run, before, left);
                    self.link(above, right, above.left);
                }
                (x, before) = (above.end.min(run.end), Some(above));
            }
            if x < run.end {
                let (left, right) = self.edge(run.label, row, x, run.end);
                self.before_top(run, before, left);
                run.right = right;
            }
        }
    }

    /// What leads to a top edge: the lower run's left edge, or the right edge of the upper run before it.
    fn before_top(&mut self, run: &mut Run, before: Option<&Run>, corner: u32) {
        match before {
            Some(above) => self.link(above, above.right, corner),
            None => run.left = corner,
        }
    }

    /// A horizontal edge between the rows, from one column to another: its first and last corner.
    fn edge(&mut self, label: u8, row: &[u8], from: u32, to: u32) -> (u32, u32) {
        let (first, last) = (self.vertex(label, row, from), self.vertex(label, row, to));
        let (first, last) = (self.arena.corner(first), self.arena.corner(last));
        self.arena.link(first, last);
        (first, last)
    }

    fn vertex(&self, label: u8, row: &[u8], x: u32) -> Vertex {
        let at = |row: &[u8], x: Option<usize>| x.and_then(|x| row.get(x)).is_some_and(|&l| l == label);
        let (left, right) = ((x as usize).checked_sub(1), Some(x as usize));
        let [nw, ne, sw, se] = [at(&self.above, left), at(&self.above, right), at(row, left), at(row, right)];
        Vertex { x, y: self.y, pinned: nw == se && ne == sw && nw != ne }
    }

    fn link(&mut self, run: &Run, last: u32, first: u32) {
        if self.arena.link(last, first) {
            let root = self.root(run.part);
            self.parts[root as usize].rings.push(first);
        }
    }

    fn new_part(&mut self) -> u32 {
        let place = self.free.pop().unwrap_or(self.parts.len() as u32);
        let part = Part { parent: place, ..Part::default() };
        match self.parts.get_mut(place as usize) {
            Some(old) => *old = part,
            None => self.parts.push(part),
        }
        place
    }

    fn root(&mut self, mut part: u32) -> u32 {
        while self.parts[part as usize].parent != part {
            let above = self.parts[part as usize].parent;
            self.parts[part as usize].parent = self.parts[above as usize].parent;
            part = above;
        }
        part
    }

    /// Joins two roots; the one with more rings stays, so that few move.
    fn union(&mut self, a: u32, b: u32) -> u32 {
        if a == b {
            return a;
        }
        let weight = |part: &Part| part.rings.len() + part.joined.len();
        let smaller = weight(&self.parts[a as usize]) < weight(&self.parts[b as usize]);
        let (root, joined) = if smaller { (b, a) } else { (a, b) };
        let part = std::mem::take(&mut self.parts[joined as usize]);
        self.parts[joined as usize].parent = root;
        let kept = &mut self.parts[root as usize];
        kept.runs += part.runs;
        kept.pixels += part.pixels;
        kept.rings.extend(part.rings);
        kept.joined.extend(part.joined);
        kept.joined.push(joined);
        root
    }

    /// Takes a finished object out.
    fn take(&mut self, root: u32, label: u8) -> Object {
        let part = std::mem::take(&mut self.parts[root as usize]);
        self.free.push(root);
        self.free.extend(part.joined);
        let mut rings = Vec::with_capacity(part.rings.len());
        for start in part.rings {
            split(self.arena.take(start), &mut rings);
        }
        // Exactly one ring has its object inside: the outer one. Holes by place, whatever order they closed in.
        rings.sort_by_cached_key(|ring| {
            let top = ring.iter().map(|v| (v.y, v.x)).min();
            (doubled_area(ring) < 0, top)
        });
        Object { label, pixels: part.pixels, rings }
    }
}

/// Runs of labels 1 to `labels - 1` in a row.
fn find_runs(row: &[u8], labels: usize, runs: &mut Vec<Run>) {
    let mut start = 0;
    while start < row.len() {
        let end = run_end(row, start);
        let label = row[start];
        if label != 0 && usize::from(label) < labels {
            // A row is at most MAX_SLIDE_SIDE_PX long.
            runs.push(Run { start: start as u32, end: end as u32, label, part: 0, left: 0, right: 0 });
        }
        start = end;
    }
}

/// Where the values equal to that at `start` end; eight at a time, as most of a row is background.
fn run_end(row: &[u8], start: usize) -> usize {
    let label = row[start];
    let eight = [label; 8];
    let mut end = start + 1;
    while row.get(end..end + 8).is_some_and(|next| next == eight) {
        end += 8;
    }
    while row.get(end) == Some(&label) {
        end += 1;
    }
    end
}

/// The runs of another row that share a column with `run`. `first` moves on with the runs, which come from left to right.
fn touching(others: &[Run], first: &mut usize, run: &Run) -> Range<usize> {
    while others.get(*first).is_some_and(|other| other.end <= run.start) {
        *first += 1;
    }
    let count = others[*first..].iter().take_while(|other| other.start < run.end).count();
    *first..*first + count
}

/// Twice the area of a ring, positive with the object inside.
pub(super) fn doubled_area(ring: &[Vertex]) -> i64 {
    let next = ring.iter().cycle().skip(1);
    ring.iter().zip(next).map(|(a, b)| i64::from(a.x) * i64::from(b.y) - i64::from(b.x) * i64::from(a.y)).sum()
}

/// Takes a ring apart where it meets itself. It does so only around what is not the object, so the parts never cross.
fn split(ring: Vec<Vertex>, rings: &mut Vec<Vec<Vertex>>) {
    let mut places: Vec<(u32, u32)> = ring.iter().filter(|v| v.pinned).map(|v| (v.x, v.y)).collect();
    places.sort_unstable();
    if places.windows(2).all(|pair| pair[0] != pair[1]) {
        rings.push(ring);
        return;
    }
    // Where the walk so far passed each pinned corner.
    let mut passed: std::collections::HashMap<(u32, u32), usize> = std::collections::HashMap::new();
    let mut walk: Vec<Vertex> = Vec::with_capacity(ring.len());
    for vertex in ring {
        if vertex.pinned {
            let place = (vertex.x, vertex.y);
            if let Some(&start) = passed.get(&place) {
                let part = walk.split_off(start);
                for v in part.iter().filter(|v| v.pinned) {
                    passed.remove(&(v.x, v.y));
                }
                rings.push(part);
            }
            passed.insert(place, walk.len());
        }
        walk.push(vertex);
    }
    rings.push(walk);
}
