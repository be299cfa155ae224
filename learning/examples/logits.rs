//! Writes members, an input and our logits for `tests/interop/plain_conv_unet.py` to compare with PyTorch:
//! `cargo run -p consilium-learning --example logits -- FOLDER`.

use std::error::Error;
use std::path::{Path, PathBuf};

use consilium_common::bundle::Provenance;
use consilium_common::plan::{Architecture, Norm, Task, Training};
use consilium_common::{Digest, GenerationNumber, Mpp};
use consilium_learning::network::{Ensemble, InputScale, MemberWeights, Predictor};
use consilium_learning::training::{Trainer, TrainingImage, train_members};
use image::{GrayImage, Luma, Rgb, RgbImage};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("say where to write: a folder")?);
    let plain = Architecture::plain(2, 8, 4);
    write_case(&folder.join("batch-norm"), &plain)?;
    write_case(&folder.join("instance-norm"), &Architecture { norm: Norm::Instance, ..plain.clone() })?;
    let uneven = Architecture {
        classes: 3,
        features: vec![6, 10, 7],
        strides: vec![1, 2, 4],
        convs: vec![1, 3, 2],
        decoder_convs: vec![1, 2],
        ..plain
    };
    write_case(&folder.join("uneven"), &uneven)?;
    Ok(())
}

/// Two members after a few steps of training, so that statistics and biases are not those of a fresh network.
fn write_case(folder: &Path, arch: &Architecture) -> Result<(), Box<dyn Error>> {
    let image =
        RgbImage::from_fn(
            96,
            64,
            |x, y| Rgb([0, 1, 2].map(|c| ((x * 7 + y * 13 + c * 29 + (x * y) % 31) % 256) as u8)),
        );
    let labels = GrayImage::from_fn(96, 64, |x, y| Luma([((x / 16 + y / 16) % arch.classes as u32) as u8]));
    let images = [TrainingImage { image: image.clone(), labels, input: InputScale::RGB_TO_01 }];
    let starts: Vec<MemberWeights> = (0..2).map(|seed| MemberWeights::initialise(arch, seed)).collect();
    let settings = Training::new(5, 2, 32, 0.01);
    let trained =
        train_members(Trainer::Cpu, starts.len(), arch, &starts, &images, &settings, "logits", &|_, _, _| true)?;
    let members: Vec<MemberWeights> = trained.into_iter().map(|t| t.weights).collect();
    let classes = (0..arch.classes).map(|c| format!("class-{c}")).collect();
    let task = Task { classes, spacing_um: Mpp::new(1.0)? };
    let provenance =
        Provenance { study: None, plan: Digest::of(b"none"), round: None, parent: None, contributions: Vec::new() };
    Ensemble::save(folder, &task, arch, &members, provenance, GenerationNumber(0))?;
    let predictor = Predictor::new(&Ensemble::load(folder)?);
    for member in 0..members.len() {
        let logits = predictor.logits(member, std::slice::from_ref(&image), &InputScale::RGB_TO_01);
        let bytes: Vec<u8> = logits.iter().flat_map(|v| v.to_le_bytes()).collect();
        std::fs::write(folder.join(format!("logits-{member}.f32")), bytes)?;
    }
    std::fs::write(folder.join("input.u8"), image.as_raw())?;
    std::fs::write(
        folder.join("shape.json"),
        format!("{{\"width\": {}, \"height\": {}}}\n", image.width(), image.height()),
    )?;
    println!("{}: {} members", folder.display(), members.len());
    Ok(())
}
