//! The grid that boxes lie on.

/// First pixels of the boxes along one axis, all of which lie inside; with `to_edge` a last one ends at the far edge. A step
/// of 0 counts as 1.
pub(super) fn starts(length: u32, side: u32, step: u32, to_edge: bool) -> Vec<u32> {
    let Some(last) = length.checked_sub(side).filter(|_| side > 0) else { return Vec::new() };
    let mut starts: Vec<u32> = (0..=last).step_by(step.max(1) as usize).collect();
    if to_edge && starts.last() != Some(&last) {
        starts.push(last);
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_lie_inside_and_may_reach_the_edge() {
        assert_eq!(starts(40, 16, 7, true), [0, 7, 14, 21, 24]);
        assert_eq!(starts(40, 16, 16, false), [0, 16]);
        assert_eq!(starts(16, 16, 16, true), [0]);
        assert_eq!(starts(17, 16, 0, true), [0, 1]);
        assert!(starts(15, 16, 4, true).is_empty() && starts(9, 0, 4, true).is_empty());
    }
}
