//! Corners of rings that are still open, linked in the direction of travel.
//!
//! A chain is a run of linked corners. Its two ends know each other, so that two chains are joined, and a ring is seen to
//! close, in constant time.

use super::trace::Vertex;

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Node {
    vertex: Vertex,
    next: u32,
    /// At the end of a chain: its other end.
    other: u32,
}

/// All open corners. Places of finished rings are used again.
#[derive(Debug, Default)]
pub(super) struct Arena {
    nodes: Vec<Node>,
    free: Vec<u32>,
}

impl Arena {
    /// Corners in use.
    pub(super) fn len(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    /// A chain of one corner.
    pub(super) fn corner(&mut self, vertex: Vertex) -> u32 {
        match self.free.pop() {
            Some(place) => {
                self.nodes[place as usize] = Node { vertex, next: NONE, other: place };
                place
            }
            None => {
                // Fewer than NONE: the tracer bounds how many are open.
                let place = self.nodes.len() as u32;
                self.nodes.push(Node { vertex, next: NONE, other: place });
                place
            }
        }
    }

    /// Goes on from the last corner of a chain to the first of another, or of the same: then its ring is closed, and
    /// true is returned.
    pub(super) fn link(&mut self, last: u32, first: u32) -> bool {
        self.nodes[last as usize].next = first;
        if self.nodes[last as usize].other == first {
            return true;
        }
        let (start, end) = (self.nodes[last as usize].other, self.nodes[first as usize].other);
        self.nodes[start as usize].other = end;
        self.nodes[end as usize].other = start;
        false
    }

    /// Takes a closed ring out.
    pub(super) fn take(&mut self, start: u32) -> Vec<Vertex> {
        let mut ring = Vec::new();
        let mut place = start;
        loop {
            let node = self.nodes[place as usize];
            ring.push(node.vertex);
            self.free.push(place);
            place = node.next;
            if place == start || place == NONE {
                return ring;
            }
        }
    }
}
