//! Fewer corners: Douglas and Peucker's rule on rings of pixel edges.
//!
//! What is left out lies within the tolerance of what stays. Pinned corners and their neighbours stay, so rings that
//! touch there do so as before. Whether the result is still valid is [`super::valid`]'s business.

use super::trace::Vertex;

/// The corners of a ring that stay; the whole ring where fewer than three would.
pub(super) fn simplify(ring: &[Vertex], tolerance_px: f64) -> Vec<Vertex> {
    let n = ring.len();
    let mut keep = vec![false; n];
    for (i, _) in ring.iter().enumerate().filter(|(_, v)| v.pinned) {
        keep[(i + n - 1) % n] = true;
        keep[i] = true;
        keep[(i + 1) % n] = true;
    }
    // Two corners to start from: the first, and the one farthest from it.
    let far = |v: &Vertex| distance2(*v, ring[0]);
    let farthest = (0..n).max_by(|&a, &b| far(&ring[a]).total_cmp(&far(&ring[b]))).unwrap_or(0);
    keep[0] = true;
    keep[farthest] = true;
    let anchors: Vec<usize> = (0..n).filter(|&i| keep[i]).collect();
    for (i, &from) in anchors.iter().enumerate() {
        let to = anchors.get(i + 1).copied().unwrap_or(n);
        keep_between(ring, from, to, tolerance_px * tolerance_px, &mut keep);
    }
    let kept: Vec<Vertex> = ring.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(v, _)| *v).collect();
    if kept.len() < 3 { ring.to_vec() } else { kept }
}

/// Between two corners that stay, keeps the one farthest from their chord if it is too far, and goes on on both sides.
fn keep_between(ring: &[Vertex], from: usize, to: usize, tolerance2: f64, keep: &mut [bool]) {
    let mut open = vec![(from, to)];
    while let Some((from, to)) = open.pop() {
        let (a, b) = (ring[from], ring[to % ring.len()]);
        let mut farthest = (tolerance2, None);
        for (i, &v) in ring.iter().enumerate().take(to).skip(from + 1) {
            let distance = to_segment2(v, a, b);
            if distance > farthest.0 {
                farthest = (distance, Some(i));
            }
        }
        if let (_, Some(i)) = farthest {
            keep[i] = true;
            open.push((from, i));
            open.push((i, to));
        }
    }
}

fn distance2(a: Vertex, b: Vertex) -> f64 {
    let (dx, dy) = (f64::from(a.x) - f64::from(b.x), f64::from(a.y) - f64::from(b.y));
    dx * dx + dy * dy
}

/// Squared distance of a corner from a segment.
fn to_segment2(v: Vertex, a: Vertex, b: Vertex) -> f64 {
    let (dx, dy) = (f64::from(b.x) - f64::from(a.x), f64::from(b.y) - f64::from(a.y));
    let (px, py) = (f64::from(v.x) - f64::from(a.x), f64::from(v.y) - f64::from(a.y));
    let length2 = dx * dx + dy * dy;
    let along = px * dx + py * dy;
    if along <= 0.0 {
        px * px + py * py
    } else if along >= length2 {
        distance2(v, b)
    } else {
        let cross = px * dy - py * dx;
        cross * cross / length2
    }
}
