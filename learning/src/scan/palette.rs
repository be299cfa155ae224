//! Colours of classes, the same in every picture and outline.

/// Okabe and Ito's colours, which people with any colour vision tell apart, those first that stand out on pink tissue.
const COLOURS: [[u8; 3]; 7] =
    [[0, 158, 115], [0, 114, 178], [230, 159, 0], [240, 228, 66], [86, 180, 233], [213, 94, 0], [204, 121, 167]];

/// The colour of a class: white for the background, seven colours, then the same ever darker.
pub fn class_colour(class: usize) -> [u8; 3] {
    let Some(index) = class.checked_sub(1) else { return [255; 3] };
    let darker = (index / COLOURS.len()).min(8) as u32;
    COLOURS[index % COLOURS.len()].map(|c| (u32::from(c) * 3u32.pow(darker) / 4u32.pow(darker)) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_have_different_colours() {
        let colours: std::collections::BTreeSet<_> =
            (0..consilium_common::limits::MAX_CLASSES).map(class_colour).collect();
        assert_eq!(colours.len(), consilium_common::limits::MAX_CLASSES);
        class_colour(usize::MAX);
    }
}
