//! From stain to picture: Beer-Lambert through the centre's stain vectors, then its scanner: white balance, tone curve,
//! saturation, focus, noise, dust on the glass.

use image::RgbImage;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::centre::Centre;
use super::film::{Film, STEPS};
use super::layout::Layout;
use super::noise::{Field, Tile, rng_of};

/// The picture that the centre's scanner makes of a film.
pub(crate) fn develop(film: &Film, layout: &Layout, centre: &Centre, seed: &str) -> RgbImage {
    let size = film.size;
    let table = colour_table(centre);
    let mut rgb = vec![0u8; size * size * 3];
    let mut thickness = Vec::new();
    for (y, (line, out)) in film.stain.chunks(size).zip(rgb.chunks_mut(size * 3)).enumerate() {
        layout.thickness.row(y * film.step, &mut thickness);
        for (x, ([h, e], pixel)) in line.iter().zip(out.chunks_exact_mut(3)).enumerate() {
            let thick = 1.0 + centre.unevenness * thickness[x * film.step / Field::STEP];
            let index = |v: u8| ((f32::from(v) * thick) as usize).min(255);
            pixel.copy_from_slice(&table[index(*h) << 8 | index(*e)]);
        }
    }
    let mut rng = rng_of(&format!("{seed}/scanner"));
    dust(&mut rgb, size, &mut rng);
    for _ in 0..centre.blur {
        blur(&mut rgb, size);
    }
    add_noise(&mut rgb, centre.noise, &mut rng);
    // Unwrap-free: the buffer has exactly size x size x 3 bytes, so `from_raw` gives `Some`.
    RgbImage::from_raw(size as u32, size as u32, rgb).unwrap_or_default()
}

/// The colour of every pair of stain levels.
fn colour_table(centre: &Centre) -> Vec<[u8; 3]> {
    let mut table = Vec::with_capacity(256 * 256);
    for h in 0..256 {
        for e in 0..256 {
            let (h, e) = (h as f32 / STEPS * centre.haematoxylin_dose, e as f32 / STEPS * centre.eosin_dose);
            let light: [f32; 3] =
                std::array::from_fn(|c| (-(h * centre.haematoxylin[c] + e * centre.eosin[c])).exp().powf(centre.gamma));
            let grey = light.iter().sum::<f32>() / 3.0;
            table.push(std::array::from_fn(|c| {
                let value = grey + (light[c] - grey) * centre.saturation;
                (value.clamp(0.0, 1.0) * centre.white[c] + 0.5) as u8
            }));
        }
    }
    table
}

/// A few specks and a hair on the cover glass.
fn dust(rgb: &mut [u8], size: usize, rng: &mut ChaCha8Rng) {
    let mut dab = |x: f32, y: f32, radius: f32, depth: f32| {
        let reach = radius.ceil() as i32 + 1;
        for py in y as i32 - reach..=y as i32 + reach {
            for px in x as i32 - reach..=x as i32 + reach {
                if px < 0 || py < 0 || px >= size as i32 || py >= size as i32 {
                    continue;
                }
                let d = (px as f32 - x).hypot(py as f32 - y);
                let keep = 1.0 - depth * (1.0 - d / radius).clamp(0.0, 1.0);
                let at = (py as usize * size + px as usize) * 3;
                rgb[at..at + 3].iter_mut().for_each(|v| *v = (f32::from(*v) * keep) as u8);
            }
        }
    };
    let side = size as f32;
    for _ in 0..70 {
        let (x, y) = (rng.random_range(0.0..side), rng.random_range(0.0..side));
        dab(x, y, rng.random_range(2.0..8.0), rng.random_range(0.08..0.5));
    }
    let (mut x, mut y) = (rng.random_range(0.0..side), rng.random_range(0.0..side));
    let mut heading: f32 = rng.random_range(0.0..std::f32::consts::TAU);
    for _ in 0..rng.random_range(80..320) {
        dab(x, y, 3.2, 0.22);
        heading += rng.random_range(-0.11..0.11);
        (x, y) = (x + 1.6 * heading.cos(), y + 1.6 * heading.sin());
    }
}

/// One pass of the 3 x 3 binomial kernel (1 2 1) x (1 2 1) / 16; the border stays as it is.
fn blur(rgb: &mut [u8], size: usize) {
    let stride = size * 3;
    let mut ring = [vec![0u16; stride], vec![0u16; stride], vec![0u16; stride]];
    let across = |row: &[u8], out: &mut [u16]| {
        for i in 3..stride - 3 {
            out[i] = u16::from(row[i - 3]) + 2 * u16::from(row[i]) + u16::from(row[i + 3]);
        }
    };
    across(&rgb[..stride], &mut ring[0]);
    across(&rgb[stride..2 * stride], &mut ring[1]);
    for y in 1..size - 1 {
        across(&rgb[(y + 1) * stride..(y + 2) * stride], &mut ring[(y + 1) % 3]);
        let (above, here, below) = (&ring[(y - 1) % 3], &ring[y % 3], &ring[(y + 1) % 3]);
        let out = &mut rgb[y * stride..(y + 1) * stride];
        for i in 3..stride - 3 {
            out[i] = ((above[i] + 2 * here[i] + below[i] + 8) >> 4) as u8;
        }
    }
}

/// Sensor noise from a periodic table read at a random offset for each row.
fn add_noise(rgb: &mut [u8], amplitude: f32, rng: &mut ChaCha8Rng) {
    const LENGTH: usize = 1 << 16;
    let grain = Tile::new(rng.random_range(0..u32::MAX), 2, 2);
    let table: Vec<i16> =
        (0..LENGTH).map(|i| (grain.at((i & 511) as i32, (i >> 9) as i32) * amplitude * 1.4).round() as i16).collect();
    for block in rgb.chunks_mut(4099 * 3) {
        let offset: usize = rng.random_range(0..LENGTH);
        for (i, value) in block.iter_mut().enumerate() {
            *value = (i16::from(*value) + table[(offset + i) & (LENGTH - 1)]).clamp(0, 255) as u8;
        }
    }
}
