//! What a training is said to hold, against what is allocated. Alone in its process, which counts for all threads.

use consilium_common::plan::{Architecture, Encoder, Norm, Training};
use consilium_learning::network::{InputScale, MemberWeights};
use consilium_learning::training::{Trainer, TrainingImage, train_member, training_bytes};
use image::{GrayImage, Luma, Rgb, RgbImage};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// Runs some steps.
fn train(arch: &Architecture, settings: &Training) {
    let start = MemberWeights::initialise(arch, 1);
    let image = RgbImage::from_fn(300, 300, |x, y| Rgb([(x * 7) as u8, (y * 5) as u8, (x + y) as u8]));
    let labels = GrayImage::from_fn(300, 300, |x, y| Luma([u8::from((x / 20 + y / 20) % 2 == 0)]));
    let images = [TrainingImage { image, labels, input: InputScale::RGB_TO_01 }];
    train_member(Trainer::Cpu, arch, &start, &images, settings, 3, &|_, _| true).expect("a training");
}

/// Bytes that a training allocates at most on so many threads, which begin with nothing, beside `base`; and what is said.
fn on_threads(threads: usize, base: usize, arch: &Architecture, settings: &Training) -> (u64, u64) {
    // Threads of a pool that was dropped end, and give back what they kept, when they are ready.
    let settled = || ALLOCATED.current_usage() < base + (1 << 18);
    for _ in (0..10_000).take_while(|_| !settled()) {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    ALLOCATED.reset_peak_usage();
    let said = pool.install(|| {
        train(arch, settings);
        training_bytes(arch, settings)
    });
    ((ALLOCATED.peak_usage() - base) as u64, said)
}

#[test]
fn what_a_training_is_said_to_hold_is_what_it_holds() {
    let plain = Architecture::plain(2, 8, 4);
    let wide = Architecture { norm: Norm::Batch, ..Architecture::plain(3, 16, 5) };
    let residual = Architecture { encoder: Encoder::Residual, ..plain.clone() };
    let small = Training::new(3, 4, 96, 0.01);
    let large = Training::new(3, 2, 256, 0.01);
    let parts = Training { accumulation: 4, ..Training::new(3, 4, 192, 0.01) };
    let cases = [
        ("plain", &plain, &small),
        ("wide", &wide, &large),
        ("residual", &residual, &large),
        ("in parts", &wide, &parts),
    ];
    let base = ALLOCATED.current_usage();
    for threads in [1, 2, 12] {
        for (what, arch, settings) in cases {
            let (held, said) = on_threads(threads, base, arch, settings);
            println!("{what}, {threads} threads: {:.2} of what is held", said as f64 / held as f64);
            assert!(held <= said && said <= 3 * held, "{what}, {threads} threads: {said} bytes said, {held} held");
        }
    }
}
