//! What a model takes of the GPU's memory.

use gstrsdetectnet::cuda::context::{Context, memory};
use gstrsdetectnet::detector::{Detector, Precision};
use gstrsdetectnet::engine::tensorrt::{Batches, EngineCache, library};

use crate::batches::{MOST, detect, load, upload_all};
use crate::common::init;
use crate::machine::{BUNDLED, Gpu, go_on, onnx_model, prepared as prepare};
use crate::media::shared_cache;
use crate::prepared;

const MIB: usize = 1 << 20;
/// Sizes of batches up to [`MOST`], each with an engine of its own.
const ENGINES: usize = 6;
/// For what the driver rounds up, and what it takes for itself.
const MARGIN: usize = 64 * MIB;

/// Bytes for tensors and activations of a batch of the bundled model in float16.
fn need_of_a_lane(batch: u32) -> usize {
    let gpu = Gpu::open();
    let model = prepare(BUNDLED, Precision::Fp16);
    let options = gpu.options(Precision::Fp16, Batches::Each(vec![batch]));
    let cache = EngineCache::open(&shared_cache()).unwrap();
    let kept = cache
        .load_or_build(
            library().unwrap(),
            &onnx_model(&model),
            &options,
            &mut go_on,
        )
        .unwrap();
    let mut context = kept.engine.new_context_without_memory().unwrap();
    context.set_batch(batch).unwrap();
    let tensors = kept.engine.tensors().iter().enumerate();
    let tensors: usize = tensors
        .map(|(index, tensor)| {
            let values: i64 = context.shape(index).iter().product();
            usize::try_from(values).unwrap() * tensor.data_type.size()
        })
        .sum();
    let activations = context.memory_size().unwrap();
    println!(
        "a batch of {batch}: {:.1} MiB of tensors, {:.1} MiB of activations",
        tensors as f64 / MIB as f64,
        activations as f64 / MIB as f64
    );
    assert!(activations > 0);
    tensors + activations
}

/// What a detector takes once it has run, in bytes.
fn taken(what: &str, load: impl FnOnce() -> Detector) -> usize {
    let frames = upload_all();
    let frames: Vec<_> = frames.iter().map(|uploaded| uploaded.frame).collect();
    let free = || memory().unwrap().free;
    let before = free();
    let detector = load();
    let loaded = before.saturating_sub(free());
    for size in [1, 2, 4, 8, 16, frames.len()] {
        detect(&detector, &frames[..size]);
    }
    let run = before.saturating_sub(free());
    drop(detector);
    let left = before.saturating_sub(free());
    println!(
        "{what}: {} MiB loaded, {} MiB after it ran, {} MiB after it went",
        loaded / MIB,
        run / MIB,
        left / MIB
    );
    loaded.max(run)
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn a_model_takes_the_memory_of_two_of_its_largest_batches_and_not_that_of_all_sizes() {
    init();
    let context = Context::primary(0).unwrap();
    let _current = context.enter().unwrap();
    let most = MOST as u32;
    let needs: Vec<_> = Batches::UpTo(most)
        .sizes()
        .into_iter()
        .map(need_of_a_lane)
        .collect();
    let largest = *needs.last().unwrap();
    let all: usize = needs.iter().sum();
    // Code that TensorRT loads once for the process.
    taken("the first", || load(Precision::Fp16, most, "first"));
    let one = taken("batch-size=1", || load(Precision::Fp16, 1, "one"));
    let fixed = taken("batch-size=32", || load(Precision::Fp16, most, "fixed"));
    let grown = taken("grown to 32", || {
        prepared::listen();
        let detector = load(Precision::Fp16, 0, "grown");
        detector.expect(2 * MOST);
        prepared::wait_for_batches_of(most);
        detector
    });
    let limit = 2 * largest + ENGINES * one + MARGIN;
    println!(
        "two batches of 32 need {} MiB, two of each size {} MiB; the limit is {} MiB",
        2 * largest / MIB,
        2 * all / MIB,
        limit / MIB
    );
    for (what, taken) in [("batch-size=32", fixed), ("grown to 32", grown)] {
        assert!(taken <= limit, "{what} takes {} MiB", taken / MIB);
    }
}
