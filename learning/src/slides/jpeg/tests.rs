use super::*;
use crate::slides::jpeg2000::tests::tile;

/// 17 x 9 pixels by libjpeg-turbo, colours halved in both directions, across and down, and the digests of its own reading.
const HALVED: [(&str, &str); 3] = [
    (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5aYV\
        pQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT0//wAARCAAJAB\
        EDASIAAhEBAxEB/8QAFgABAQEAAAAAAAAAAAAAAAAABQYA/8QAHRAAAQMFAQAAAAAAAAAAAAAAAAQRoQUGFiJBYv/EABYBAQEBAAAAAAAAAAAAAA\
        AAAAUEBv/EACERAAEDAQkAAAAAAAAAAAAAAAABAgMFBBEUFTJRU6Hh/9oADAMBAAIRAxEAPwCfSUB20gaSW47aQLIuD6LgdZ3rLqJadU5kuJnG/E\
        GKUwVnDOLvw0uPn3P/2Q==",
        "8e6bfa80a89a919ae90753e2147f2900ec78fe4636e90647277e6e77abcd07e6",
    ),
    (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5aYV\
        pQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT0//wAARCAAJAB\
        EDASEAAhEBAxEB/8QAGQAAAgMBAAAAAAAAAAAAAAAAAAUBAwQG/8QAHRAAAQMFAQAAAAAAAAAAAAAAAAQRoQUGFiJBYv/EABcBAAMBAAAAAAAAAA\
        AAAAAAAAMEBgf/xAAeEQABAwQDAAAAAAAAAAAAAAAAAgURBBMUQRUhYf/aAAwDAQACEQMRAD8A59JQHbSB0ktx20gRQq6GbXGI7N+N+IAJjFFyfp\
        ei4P0XBah0Z436IAkCqP/Z",
        "69f6421619507b102ada055bd48e149dbcdbdffb800d1b48f956313195caf463",
    ),
    (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5aYV\
        pQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT0//wAARCAAJAB\
        EDARIAAhEBAxEB/8QAFQABAQAAAAAAAAAAAAAAAAAABgX/xAAdEAABAwUBAAAAAAAAAAAAAAAABBGhBQYWIkFi/8QAFQEBAQAAAAAAAAAAAAAAAA\
        AABQT/xAAgEQABAwIHAAAAAAAAAAAAAAAAAgMEBTEBFBVRU6Hh/9oADAMBAAIRAxEAPwA+koDtpAwRcB25C13Bo1SeJKS3HbSBqi4XtowXcej1R4\
        M434gSgWsI4u/BbPv7n//Z",
        "2a5a79e30492f586ddc13bcafe2aa1eb62f172259d62d15798c2cc071a380458",
    ),
];

fn encoded(width: u16, height: u16, sampling: jpeg_encoder::SamplingFactor, restart: u16) -> Vec<u8> {
    let image = crate::slides::tests::noise(width.into(), height.into());
    let mut bytes = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, 90);
    encoder.set_sampling_factor(sampling);
    if restart > 0 {
        encoder.set_restart_interval(restart);
    }
    encoder.encode(image.as_raw(), width, height, jpeg_encoder::ColorType::Ycbcr).unwrap();
    bytes
}

/// What a general decoder makes of it, colours as they are stored.
fn general(bytes: &[u8]) -> Vec<u8> {
    use zune_jpeg::zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};
    let options = DecoderOptions::default().jpeg_set_out_colorspace(ColorSpace::YCbCr);
    zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), options).decode().unwrap()
}

#[test]
fn subsampled_colours_equal_libjpegs_to_the_byte() {
    for (text, digest) in HALVED {
        let read = samples(None, &tile(text), (17, 9), 3, false).unwrap().unwrap();
        assert_eq!(blake3::hash(&read).to_hex().as_str(), digest);
    }
}

#[test]
fn whole_colours_are_within_one_of_any_other_decoder() {
    for (width, height, restart) in [(64, 64, 0), (33, 17, 2), (8, 100, 1), (1, 1, 0)] {
        let bytes = encoded(width, height, jpeg_encoder::SamplingFactor::F_1_1, restart);
        let size = (usize::from(width), usize::from(height));
        let (own, other) = (samples(None, &bytes, size, 3, false).unwrap().unwrap(), general(&bytes));
        assert_eq!(own.len(), other.len());
        assert!(own.iter().zip(&other).all(|(a, b)| a.abs_diff(*b) <= 1), "{size:?}");
    }
}

#[test]
fn shared_tables_serve_tiles_without_their_own() {
    let bytes = encoded(40, 24, jpeg_encoder::SamplingFactor::F_2_2, 0);
    let expected = samples(None, &bytes, (40, 24), 3, false).unwrap().unwrap();
    // The segments of the tables go to the shared part, all others stay.
    let (mut shared, mut bare, mut at) = (vec![0xFF, 0xD8], vec![0xFF, 0xD8], 2);
    while bytes[at + 1] != 0xDA {
        let end = at + 2 + usize::from(be16(&bytes, at + 2).unwrap());
        let tables = [0xDB, 0xC4].contains(&bytes[at + 1]);
        if tables { &mut shared } else { &mut bare }.extend(&bytes[at..end]);
        at = end;
    }
    bare.extend(&bytes[at..]);
    shared.extend([0xFF, 0xD9]);
    let tables = Tables::shared(&shared);
    assert_eq!(samples(Some(&tables), &bare, (40, 24), 3, false).unwrap().unwrap(), expected);
    assert!(samples(None, &bare, (40, 24), 3, false).unwrap_err().contains("table is missing"));
}

#[test]
fn another_form_is_left_to_another_decoder() {
    let mut bytes = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, 90);
    encoder.set_progressive(true);
    encoder.encode(&[90; 3 * 64], 8, 8, jpeg_encoder::ColorType::Rgb).unwrap();
    assert_eq!(samples(None, &bytes, (8, 8), 3, false), Ok(None));
}

#[test]
fn damage_is_named() {
    let bytes = encoded(64, 64, jpeg_encoder::SamplingFactor::F_1_1, 0);
    let why = |bytes: &[u8], size, count| samples(None, bytes, size, count, false).unwrap_err();
    assert!(why(&bytes, (63, 64), 3).contains("64 x 64 pixels, not 63 x 64"));
    assert!(why(&bytes, (64, 64), 1).contains("3 colour components, not 1"));
    assert!(why(b"", (64, 64), 3).contains("does not start like a JPEG"));
    assert!(why(&bytes[..300], (64, 64), 3).contains("ends in its header"));
    assert!(why(&bytes[..bytes.len() / 2], (64, 64), 3).contains("of 8"));
}

#[test]
fn any_damage_gives_a_tile_or_a_sentence() {
    for sampling in [jpeg_encoder::SamplingFactor::F_1_1, jpeg_encoder::SamplingFactor::F_2_2] {
        let good = encoded(19, 21, sampling, 1);
        for at in 0..good.len() {
            for value in [0, 1, 0x11, 0x7F, 0xFF, good[at] ^ 0x10] {
                let mut stored = good.clone();
                stored[at] = value;
                if let Ok(Some(data)) = samples(None, &stored, (19, 21), 3, false) {
                    assert_eq!(data.len(), 19 * 21 * 3);
                }
            }
            if let Ok(Some(data)) = samples(None, &good[..at], (19, 21), 3, false) {
                assert_eq!(data.len(), 19 * 21 * 3);
            }
        }
    }
}
