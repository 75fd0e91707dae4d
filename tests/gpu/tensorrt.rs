//! TensorRT with a GPU: the bundled model is built, kept, loaded and run.
//! `cargo test --test gpu_tensorrt -- --ignored --test-threads 1 --nocapture`

use std::env;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use gstrsdetectnet::engine::tensorrt::{
    BatchStrategy, Batches, BuildOptions, DataType, Engine, EngineCache, KeptEngine, LoadOptions,
    OnnxModel, Precision, Progress, Specialization, TensorRtError, build, library,
};

#[path = "leak.rs"]
mod leak;
#[path = "tensorrt/leaks.rs"]
mod leaks;
#[path = "tensorrt/machine.rs"]
mod machine;
#[path = "tensorrt/strategies.rs"]
mod strategies;

use machine::{
    BUNDLED, Gpu, OneContext, Runner, go_on, largest_difference, network, onnx_model, picture,
    prepared,
};

/// How far results of one image may be apart that different kernels computed: sums in another order, over some 50
/// layers. Confused memory gives differences of the size of the results themselves.
const FLOAT32_LIMIT: f32 = 1e-3;
const FLOAT16_LIMIT: f32 = 2e-2;

fn options(gpu: &Gpu) -> BuildOptions {
    gpu.options(Precision::Fp32, Batches::UpTo(8))
}

fn prepare(cache: &EngineCache, gpu: &Gpu) -> KeptEngine {
    let library = library().unwrap();
    cache
        .load_or_build(library, &onnx_model(BUNDLED), &options(gpu), &mut go_on)
        .unwrap()
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn the_bundled_model_builds_once_and_gives_an_image_the_same_result_in_every_batch() {
    let gpu = Gpu::open();
    let folder = tempfile::tempdir().unwrap();
    let cache = EngineCache::open(folder.path()).unwrap();
    let start = Instant::now();
    let kept = prepare(&cache, &gpu);
    println!(
        "{}: built in {:?}",
        library().unwrap().version(),
        start.elapsed()
    );
    assert!(kept.was_built);
    assert!(!prepare(&cache, &gpu).was_built);

    let engine = &kept.engine;
    println!(
        "{:?}, {} bytes a context",
        engine.tensors(),
        engine.device_memory_size()
    );
    let named = |name: &str| engine.tensors().iter().find(|tensor| tensor.name == name);
    let input = named("input").unwrap();
    assert!(input.is_input);
    assert_eq!((input.shape[0], input.shape[1]), (-1, 3));
    assert_eq!(input.data_type, DataType::F32);
    for output in ["scores", "boxes"].map(|name| named(name).unwrap()) {
        assert!(!output.is_input);
        assert_eq!(output.shape[0], -1);
    }
    assert!(engine.batches().eq([1..=8]));

    let mut runner = Runner::new(OneContext::new(engine));
    let size = runner.image_size();
    let images: Vec<f32> = (0..8).flat_map(|seed| picture(size, seed)).collect();
    let together = runner.run(8, &images);
    for seed in [0, 3, 7] {
        let alone = runner.run(1, &picture(size, seed));
        let slot: Vec<Vec<f32>> = alone
            .iter()
            .zip(&together)
            .map(|(alone, together)| together[seed * alone.len()..][..alone.len()].to_vec())
            .collect();
        let difference = largest_difference(&alone, &slot);
        println!("image {seed} alone and among 8: {difference:.1e}");
        assert!(difference < FLOAT32_LIMIT);
    }
    let refused = engine.new_context().unwrap().set_batch(9).unwrap_err();
    assert!(
        refused.to_string().contains("batches of 1 to 8, not 9"),
        "{refused}"
    );
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn two_contexts_of_one_engine_run_at_once_and_each_sees_its_own_picture() {
    let gpu = Gpu::open();
    let library = library().unwrap();
    for (precision, limit) in [
        (Precision::Fp32, FLOAT32_LIMIT),
        (Precision::Fp16, FLOAT16_LIMIT),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let cache = EngineCache::open(folder.path()).unwrap();
        let model = prepared(BUNDLED, precision);
        let options = gpu.options(precision, Batches::UpTo(8));
        let kept = cache
            .load_or_build(library, &onnx_model(&model), &options, &mut go_on)
            .unwrap();
        let mut first = Runner::new(OneContext::new(&kept.engine));
        let mut second = Runner::new(OneContext::new(&kept.engine));
        drop(kept);
        let size = first.image_size();
        let (one, other) = (picture(size, 1), picture(size, 5));
        let alone = first.run(1, &one);
        let again = largest_difference(&alone, &first.run(1, &one));
        let other_alone = first.run(1, &other);
        let contexts = largest_difference(&other_alone, &second.run(1, &other));
        let pictures = largest_difference(&alone, &other_alone);

        first.upload(&one);
        let mut at_once: f32 = 0.0;
        for _ in 0..50 {
            first.enqueue(1);
            second.enqueue(1);
            at_once = at_once
                .max(largest_difference(&alone, &first.outputs(1)))
                .max(largest_difference(&other_alone, &second.outputs(1)));
        }
        println!(
            "{precision:?}: largest difference of a context to itself {again:.1e}, to the other {contexts:.1e}, \
             with both at once {at_once:.1e}; of the pictures {pictures:.1e}"
        );
        assert!(pictures > 10.0 * limit, "the pictures look the same");
        assert!(again < limit && contexts < limit && at_once < limit);
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn graphs_of_every_batch_size_stay_good_while_others_run() {
    let gpu = Gpu::open();
    for strategy in [
        BatchStrategy::Range(Specialization::Eager),
        BatchStrategy::Profiles,
        BatchStrategy::Engines,
    ] {
        let folder = tempfile::tempdir().unwrap();
        let cache = EngineCache::open(folder.path()).unwrap();
        let options = gpu.options(Precision::Fp32, Batches::Each(vec![4, 1]));
        let network = network(&cache, BUNDLED, &options, strategy);
        assert!(network.batches().eq([1, 4]), "{strategy:?}");
        assert_eq!(
            [1, 2, 4, 5].map(|images| network.batch_for(images)),
            [Some(1), Some(4), Some(4), None]
        );
        let mut runner = Runner::new(network);
        let size = runner.image_size();
        let images: Vec<f32> = (0..4).flat_map(|seed| picture(size, seed)).collect();
        let expected = [1, 4].map(|batch| runner.run(batch, &images));
        let mut graphs = [1, 4].map(|batch| runner.capture(batch));
        let mut largest: f32 = 0.0;
        for round in 0..20 {
            let (which, batch) = [(0, 1), (1, 4), (1, 4)][round % 3];
            runner.launch(&mut graphs[which]);
            largest = largest.max(largest_difference(&runner.outputs(batch), &expected[which]));
        }
        println!("{strategy:?}: largest difference {largest:.1e}");
        assert!(largest < FLOAT32_LIMIT, "{strategy:?}");
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn the_second_start_is_ready_within_a_second() {
    let gpu = Gpu::open();
    let folder = tempfile::tempdir().unwrap();
    let cache = EngineCache::open(folder.path()).unwrap();
    let options = second_start_options(&gpu);
    let strategy = BatchStrategy::of(library().unwrap());
    let network = network(&cache, BUNDLED, &options, strategy);
    assert!(network.was_built());
    let sizes: Vec<u32> = network.batches().collect();
    let mut runner = Runner::new(network);
    for batch in sizes {
        let start = Instant::now();
        runner.enqueue(batch);
        runner.finish();
        println!("first run of batch {batch}: {:?}", start.elapsed());
    }
    runner.runs.keep_kernels().unwrap();
    let said = child("child_starts_from_the_cache", folder.path(), &[]);
    println!("{said}");
    let milliseconds = said.split("ready after ").nth(1).unwrap();
    let milliseconds: u64 = milliseconds.split(' ').next().unwrap().parse().unwrap();
    assert!(Duration::from_millis(milliseconds) <= Duration::from_secs(1));
}

fn second_start_options(gpu: &Gpu) -> BuildOptions {
    gpu.options(Precision::Fp32, Batches::UpTo(32))
}

/// What a test of this binary says in a process of its own.
fn child(test: &str, folder: &Path, variables: &[(&str, &str)]) -> String {
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("RSDETECTNET_TEST_FOLDER", folder)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    let errors = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{said}{errors}");
    said
}

#[test]
#[ignore = "a child process of the test above"]
fn child_starts_from_the_cache() {
    let Some(folder) = env::var_os("RSDETECTNET_TEST_FOLDER") else {
        return;
    };
    let gpu = Gpu::open();
    let start = Instant::now();
    let cache = EngineCache::open(Path::new(&folder)).unwrap();
    let strategy = BatchStrategy::of(library().unwrap());
    let opened = start.elapsed();
    let network = network(&cache, BUNDLED, &second_start_options(&gpu), strategy);
    assert!(!network.was_built());
    let loaded = start.elapsed();
    let sizes: Vec<u32> = network.batches().collect();
    let mut runner = Runner::new(network);
    let image = picture(runner.image_size(), 0);
    runner.run(1, &image);
    println!(
        "library open after {opened:?}, loaded after {loaded:?}, ready after {} ms",
        start.elapsed().as_millis()
    );
    for batch in sizes {
        let start = Instant::now();
        runner.enqueue(batch);
        runner.finish();
        println!("first run of batch {batch}: {:?}", start.elapsed());
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn a_damaged_engine_is_built_anew() {
    let gpu = Gpu::open();
    let folder = tempfile::tempdir().unwrap();
    let cache = EngineCache::open(folder.path()).unwrap();
    assert!(prepare(&cache, &gpu).was_built);
    let file = fs::read_dir(folder.path()).unwrap().next().unwrap();
    let path = file.unwrap().path();
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(&path, bytes).unwrap();
    assert!(prepare(&cache, &gpu).was_built);
    assert!(!prepare(&cache, &gpu).was_built);
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn what_cannot_be_built_or_loaded_is_one_sentence() {
    let gpu = Gpu::open();
    let library = library().unwrap();
    let not_onnx = OnnxModel {
        bytes: b"this is not a model",
        ..onnx_model(BUNDLED)
    };
    let int8 = BuildOptions {
        precision: Precision::Int8,
        ..options(&gpu)
    };
    let on_dla = BuildOptions {
        dla_core: Some(0),
        precision: Precision::Auto,
        ..options(&gpu)
    };
    for (model, options, reason) in [
        (not_onnx, options(&gpu), ""),
        (onnx_model(BUNDLED), int8, "QuantizeLinear"),
        (onnx_model(BUNDLED), on_dla, "no DLA core 0"),
    ] {
        let error = build(library, &model, &options, &mut go_on).unwrap_err();
        println!("{error}");
        assert!(matches!(error, TensorRtError::Build(_)), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
        assert!(!error.to_string().contains("does not say why"), "{error}");
    }
    let error = Engine::deserialize(library, b"this is not an engine", LoadOptions::default());
    let error = error.unwrap_err();
    println!("{error}");
    assert!(matches!(error, TensorRtError::Load(_)), "{error}");
    assert!(!error.to_string().contains("does not say why"), "{error}");
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn a_build_tells_of_its_progress_and_stops_when_it_is_told_to() {
    let gpu = Gpu::open();
    let library = library().unwrap();
    let mut told = 0;
    let mut stop_at_the_tenth = |progress: Progress<'_>| {
        println!("{} {}/{}", progress.phase, progress.done, progress.of);
        assert!(progress.done <= progress.of);
        told += 1;
        if told < 10 {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    };
    let model = onnx_model(BUNDLED);
    let result = build(library, &model, &options(&gpu), &mut stop_at_the_tenth);
    if library.reports_progress() {
        assert_eq!(result, Err(TensorRtError::Cancelled));
    } else {
        assert!(result.is_ok());
    }
}
