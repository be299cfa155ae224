use super::*;

/// 32 x 32 pixels `(8 x, 8 y, 4 (x + y))`, lossless with the component transform, by OpenJPEG 2.5.4.
pub(in crate::slides) const RGB: &str = "/0//UQAvAAAAAAAgAAAAIAAAAAAAAAAAAAAAIAAAACAAAAAAAAAAAAADBwEBBwEBBwEB/1IADAAAAAEBAgQEAAH/XAAKQEBISFBISFD\
/ZAAlAAFDcmVhdGVkIGJ5IE9wZW5KUEVHIHZlcnNpb24gMi41LjT/kAAKAAAAAAEBAAH/k9+BsBIrZcr0e0372DapQYhZkLo1jtn5m/DqsDpN2aDqrQ\
Mfl8fUAwvVSM9E4etWG1kRavO9m01wX8+0kCd1ZoqfHKW9uo86r1sz/JdCkHT3om9RLmHe9kjLuFHDWHbsB9+BQCd1ZoqfHKW9uo86r1sz/JdCkHT3o\
m9RLmHe9kjLuFHDWHbsB6A71ozAfCJA+QIANqGFPz2mNDPA+QNA+QMANqGZrmOfPmKirYhtwfOHg+cONqGZrmOjXz5ioq2IbivAOiQHwihfp8cxnawp\
QD/AfCLAfCMAX6fHiJ+dlqkA/3/A+QLA+QKAX6fHiLedlqkBB//Z";

/// 32 x 32: `5 x + 3 y`, and half as wide `100 + 2 x + y` and `150 - 2 x`, lossless without the transform.
pub(in crate::slides) const HALVED: &str = "/0//UQAvAAAAAAAgAAAAIAAAAAAAAAAAAAAAIAAAACAAAAAAAAAAAAADBwEBBwIBBwIB/1IADAAAAAEAAgQEAAH/XAAKQEBISFBIS\
FD/ZAAlAAFDcmVhdGVkIGJ5IE9wZW5KUEVHIHZlcnNpb24gMi41LjD/kAAKAAAAAABxAAP/k9+BsBIrZtPDUzJ4YYVvLud8Us3wJ/fWNvjbL1WptPjG\
sBLiTV10SQ/1qFqHtlNKdoNcg17u0E2qH8PnLBFNthxfkc72oJGqVff1Zf8JprSmGh/D5xwUGbu0fIA4ozEj8AAyl/+QAAoAAAAAADIBA/+TwPkCQHw\
iADahmsc9pi7XwHwiQDogIhzvfykg/3/AfCGAIXDv/5AACgAAAAAALwID/5PAfCJAOiBfp8eJnawpXMA6JAEYNqF4X4QgH8A6IDX1dl//2Q==";

pub(in crate::slides) fn tile(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

fn pixels(pixel: impl Fn(usize, usize) -> [usize; 3]) -> Vec<u8> {
    (0..32 * 32).flat_map(|i| pixel(i % 32, i / 32)).map(|v| v as u8).collect()
}

#[test]
fn a_lossless_tile_comes_back_to_the_byte() {
    let expected = pixels(|x, y| [8 * x, 8 * y, 4 * (x + y)]);
    assert_eq!(samples(&tile(RGB), 32, 32, 3).unwrap(), expected);
    // The same stream in a JP2 that calls it YCbCr: the container of the slide decides, not the JP2.
    let mut jp2 = as_rgb_jp2(&tile(RGB), 32, 32, 3);
    let colour = jp2.windows(4).position(|w| w == b"colr").unwrap();
    jp2[colour + 10] = 18;
    assert_eq!(samples(&jp2, 32, 32, 3).unwrap(), expected);
}

#[test]
fn subsampled_components_are_repeated_and_their_colours_left_alone() {
    let expected = pixels(|x, y| [(5 * x + 3 * y) % 256, 100 + 2 * (x / 2) + y, 150 - 2 * (x / 2)]);
    assert_eq!(samples(&tile(HALVED), 32, 32, 3).unwrap(), expected);
}

#[test]
fn what_the_container_does_not_say_is_refused_before_decoding() {
    let good = tile(RGB);
    let refusal = |stored: &[u8], size: usize, components| samples(stored, size, size, components).unwrap_err();
    assert!(refusal(&good, 31, 3).contains("32 x 32 pixels, not 31 x 31"));
    assert!(refusal(&good, 32, 1).contains("3 colour components, not 1"));
    assert!(refusal(b"", 32, 3).contains("no JPEG 2000"));
    assert!(refusal(&good[..30], 32, 3).contains("ends in its header"));
    let with = |at: usize, bytes: &[u8]| {
        let mut stored = good.clone();
        stored[at..at + bytes.len()].copy_from_slice(bytes);
        refusal(&stored, 32, 3)
    };
    assert!(with(8, &[0xFF; 4]).contains("pixels, not 32 x 32"));
    assert!(with(16, &[0, 0, 0, 1]).contains("own corner"));
    assert!(with(42, &[11]).contains("12 bits"));
    assert!(with(46, &[9]).contains("subsampled"));
}

#[test]
fn blocks_and_tiles_without_number_are_refused() {
    let mut stored = tile(RGB);
    let large = |stored: &mut [u8], side: u32| {
        for at in [8, 12] {
            stored[at..at + 4].copy_from_slice(&side.to_be_bytes());
        }
    };
    large(&mut stored, 4096);
    assert!(samples(&stored, 4096, 4096, 3).unwrap_err().contains("cut into tiles of 32 x 32"));
    for at in [24, 28] {
        stored[at..at + 4].copy_from_slice(&4096u32.to_be_bytes());
    }
    let style = stored.windows(2).position(|w| w == [0xFF, 0x52]).unwrap();
    // 32 layers of blocks of 4 x 4 pixels.
    stored[style + 7] = 32;
    stored[style + 10..style + 12].fill(0);
    assert!(samples(&stored, 4096, 4096, 3).unwrap_err().contains("blocks"));
}

/// The stream of 4096 x 4096 px with 32 layers of blocks of 4 x 4 px, and the place of its COD.
fn fine() -> (Vec<u8>, usize) {
    let mut stream = tile(RGB);
    for at in [8, 12, 24, 28] {
        stream[at..at + 4].copy_from_slice(&4096u32.to_be_bytes());
    }
    let style = stream.windows(2).position(|w| w == [0xFF, 0x52]).unwrap();
    stream[style + 7] = 32;
    stream[style + 10..style + 12].fill(0);
    (stream, style)
}

#[test]
fn no_false_length_hides_fine_blocks() {
    let refused = |stream: Vec<u8>, why: &str| {
        let found = walk::checked(&stream, 3, 4096 * 4096).map(|_| ()).unwrap_err();
        assert!(found.contains(why), "{found}, not {why}");
    };
    let (stream, style) = fine();
    refused(stream.clone(), "blocks");
    let with = |at: usize, bytes: &[u8]| {
        let mut stream = stream.clone();
        stream[at..at + bytes.len()].copy_from_slice(bytes);
        stream
    };
    let inserted = |at: usize, bytes: &[u8]| [&stream[..at], bytes, &stream[at..]].concat();
    refused(with(style + 2, &[0xFF, 0xFF]), "longer than the stream");
    refused(with(style + 2, &[0, 13]), "cannot be 13 bytes");
    refused(with(4, &[0, 77]), "segment FF51");
    refused(inserted(style, &[0xFF, 0x30]), "blocks");
    refused(inserted(style, &[0xFF, 0x5E, 0, 40, 0, 0, 0]), "segment FF5E");
    // One derived step of quantization, whose length claims more; a segment that nobody knows.
    refused(inserted(style, &[0xFF, 0x5C, 0, 40, 1, 0, 0]), "segment FF5C");
    refused(inserted(style, &[0xFF, 0x50, 0, 4, 0, 0]), "segment FF50");
    // A coarse main header, and the fine COD in the header of a tile-part.
    let cod = stream[style..style + 14].to_vec();
    let mut coarse = with(style + 10, &[4, 4]);
    coarse[style + 7] = 1;
    let part = coarse.windows(2).position(|w| w == [0xFF, 0x90]).unwrap();
    let behind = |sot: &[u8]| [&coarse[..part], sot, &cod, &[0xFF, 0x93, 0xFF, 0xD9]].concat();
    refused(behind(&[0xFF, 0x90, 0, 10, 0, 0, 0, 0, 0, 28, 0, 1]), "blocks");
    refused(behind(&[0xFF, 0x90, 0, 2, 0, 0, 0, 0, 0, 28, 0, 1]), "segment FF90");
    let short = [&coarse[..part], &[0xFF, 0x90, 0, 10, 0, 0, 0, 0, 0, 13, 0, 1, 0xFF, 0x93], &cod].concat();
    refused(short, "ends before it begins");
    // Fine blocks of one component, and the many layers only afterwards.
    let coc = [&[0xFF, 0x53, 0, 9, 0, 0, 5, 1, 1][..], &cod[12..14]].concat();
    let many = with(style + 10, &[4, 4]);
    let mut late = [&many[..style], &coc, &many[style..]].concat();
    refused(late.clone(), "blocks");
    late[style + 3] = 10;
    refused(late, "segment FF53");
}

#[test]
fn what_decodes_only_in_part_is_an_error() {
    let good = tile(RGB);
    let part = good.windows(2).position(|w| w == [0xFF, 0x90]).unwrap();
    let end = good.len() - 2;
    let mut cut = good[..end - 60].to_vec();
    cut.extend([0xFF, 0xD9]);
    assert!(samples(&cut, 32, 32, 3).is_err(), "the part is shorter than it says");
    let length = u32::try_from(cut.len() - 2 - part).unwrap();
    cut[part + 6..part + 10].copy_from_slice(&length.to_be_bytes());
    assert!(samples(&cut, 32, 32, 3).is_err(), "the part is shorter than its packets");
    // What the standard allows: no length of the last part, and no end marker is missed.
    let expected = samples(&good, 32, 32, 3).unwrap();
    let mut open = good.clone();
    open[part + 6..part + 10].fill(0);
    open.push(0);
    assert_eq!(samples(&open, 32, 32, 3).unwrap(), expected);
    assert_eq!(samples(&good[..end], 32, 32, 3).unwrap(), expected);
}

#[test]
fn any_damage_gives_a_tile_or_a_sentence() {
    for text in [RGB, HALVED] {
        let good = tile(text);
        for at in 4..good.len() {
            for value in [0, 1, 0x7F, 0xFF, good[at] ^ 0x10] {
                let mut stored = good.clone();
                stored[at] = value;
                match samples(&stored, 32, 32, 3) {
                    Ok(data) => assert_eq!(data.len(), 32 * 32 * 3),
                    Err(why) => assert!(!why.is_empty() && !why.contains('\n'), "{why}"),
                }
            }
            if let Ok(data) = samples(&good[..at], 32, 32, 3) {
                assert_eq!(data.len(), 32 * 32 * 3);
            }
        }
    }
}
