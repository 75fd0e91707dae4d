//! TensorRT with a GPU: the bundled model is built, kept, loaded and run.
//! `cargo test --test gpu_tensorrt -- --ignored --test-threads 1 --nocapture`

use std::env;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use gstrsdetectnet::engine::tensorrt::{
    Batches, BuildOptions, DataType, Engine, EngineCache, KeptEngine, LoadOptions, OnnxModel,
    Precision, Progress, TensorRtError, build, library,
};

#[path = "leak.rs"]
mod leak;
#[path = "tensorrt/leaks.rs"]
mod leaks;
#[path = "tensorrt/machine.rs"]
mod machine;
#[path = "tensorrt/shared.rs"]
mod shared;

use machine::{BUNDLED, Gpu, Runner, go_on, largest_difference, onnx_model, picture, prepared};

/// How far results of one image may be apart that different kernels computed: sums in another order, over some 50
/// layers. Confused memory gives differences of the size of the results themselves.
const FLOAT32_LIMIT: f32 = 1e-3;
const FLOAT16_LIMIT: f32 = 2e-2;

fn options(gpu: &Gpu) -> BuildOptions {
    gpu.options(Precision::Fp32, Batches::UpTo(8))
}

fn prepare(cache: &EngineCache, gpu: &Gpu) -> KeptEngine {
    bundled(cache, &options(gpu))
}

/// An engine of the bundled model: what is kept, or else built.
fn bundled(cache: &EngineCache, options: &BuildOptions) -> KeptEngine {
    let library = library().unwrap();
    cache
        .load_or_build(library, &onnx_model(BUNDLED), options, &mut go_on)
        .unwrap()
}

/// Engines for batches of 1 and 4, as engine files have them and as the element builds them.
fn engines_of_every_kind(gpu: &Gpu) -> impl Iterator<Item = (Vec<Batches>, Vec<Engine>)> {
    let a_range = vec![Batches::UpTo(4)];
    let profiles = vec![Batches::Each(vec![4, 1])];
    let an_engine_each = [1, 4].map(|size| Batches::Each(vec![size])).to_vec();
    [a_range, profiles, an_engine_each]
        .into_iter()
        .map(|of_engines| {
            let folder = tempfile::tempdir().unwrap();
            let cache = EngineCache::open(folder.path()).unwrap();
            let load = |batches: &Batches| {
                let options = gpu.options(Precision::Fp32, batches.clone());
                bundled(&cache, &options).engine
            };
            let engines = of_engines.iter().map(load).collect();
            (of_engines, engines)
        })
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
    println!("{:?}", engine.tensors());
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

    let (mut single, mut batch) = (Runner::new(engine, 1), Runner::new(engine, 8));
    let size = single.image_size();
    let images: Vec<f32> = (0..8).flat_map(|seed| picture(size, seed)).collect();
    let together = batch.run(&images);
    for seed in [0, 3, 7] {
        let alone = single.run(&picture(size, seed));
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
        let mut first = Runner::new(&kept.engine, 1);
        let mut second = Runner::new(&kept.engine, 1);
        drop(kept);
        let size = first.image_size();
        let (one, other) = (picture(size, 1), picture(size, 5));
        let alone = first.run(&one);
        let again = largest_difference(&alone, &first.run(&one));
        let other_alone = first.run(&other);
        let contexts = largest_difference(&other_alone, &second.run(&other));
        let pictures = largest_difference(&alone, &other_alone);

        first.upload(&one);
        let mut at_once: f32 = 0.0;
        for _ in 0..50 {
            first.enqueue();
            second.enqueue();
            at_once = at_once
                .max(largest_difference(&alone, &first.outputs()))
                .max(largest_difference(&other_alone, &second.outputs()));
        }
        println!(
            "{precision:?}: largest difference of a context to itself {again:.1e}, to the other {contexts:.1e}, \
             with both at once {at_once:.1e}; of the pictures {pictures:.1e}"
        );
        let between = contexts.max(at_once);
        assert!(pictures > 10.0 * between, "the pictures look the same");
        assert!(again < limit && contexts < limit && at_once < limit);
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn graphs_of_every_batch_size_stay_good_while_others_run() {
    let gpu = Gpu::open();
    for (of_engines, engines) in engines_of_every_kind(&gpu) {
        let mut runners = [1, 4].map(|batch| {
            let engine = engines.iter().find(|engine| engine.takes(batch));
            Runner::new(engine.unwrap(), batch)
        });
        let size = runners[0].image_size();
        let images: Vec<f32> = (0..4).flat_map(|seed| picture(size, seed)).collect();
        let [one, four] = &mut runners;
        let expected = [one.run(&images[..size]), four.run(&images)];
        let mut graphs = [one.capture(), four.capture()];
        let mut largest: f32 = 0.0;
        for round in 0..20 {
            let together = [&[0][..], &[1], &[1], &[0, 1]][round % 4];
            for &which in together {
                runners[which].forget_outputs();
            }
            for &which in together {
                runners[which].launch(&mut graphs[which]);
            }
            for &which in together {
                let difference = largest_difference(&runners[which].outputs(), &expected[which]);
                largest = largest.max(difference);
            }
        }
        println!("{of_engines:?}: largest difference {largest:.1e}");
        assert!(largest < FLOAT32_LIMIT, "{of_engines:?}");
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn the_second_start_is_ready_within_a_second() {
    let gpu = Gpu::open();
    let folder = tempfile::tempdir().unwrap();
    let cache = EngineCache::open(folder.path()).unwrap();
    for (batch, options) in second_start_options(&gpu) {
        let kept = bundled(&cache, &options);
        assert!(kept.was_built);
        print_first_run(batch, &mut Runner::new(&kept.engine, batch));
        cache.keep_kernels(&kept).unwrap();
    }
    let said = child("child_starts_from_the_cache", folder.path());
    println!("{said}");
    let milliseconds = said.split("ready after ").nth(1).unwrap();
    let milliseconds: u64 = milliseconds.split(' ').next().unwrap().parse().unwrap();
    assert!(Duration::from_millis(milliseconds) <= Duration::from_secs(1));
}

/// An engine for each batch, the smallest first, as the element prepares them for `batch-size=32`.
fn second_start_options(gpu: &Gpu) -> Vec<(u32, BuildOptions)> {
    let options = |batch| gpu.options(Precision::Fp32, Batches::Each(vec![batch]));
    let sizes = Batches::UpTo(32).sizes().into_iter();
    sizes.map(|batch| (batch, options(batch))).collect()
}

fn print_first_run(batch: u32, runner: &mut Runner) {
    let start = Instant::now();
    runner.enqueue();
    runner.finish();
    println!("first run of batch {batch}: {:?}", start.elapsed());
}

/// What a test of this binary says in a process of its own.
fn child(test: &str, folder: &Path) -> String {
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("RSDETECTNET_TEST_FOLDER", folder)
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
    library().unwrap();
    let opened = start.elapsed();
    let load = |(batch, options): (u32, BuildOptions)| {
        let kept = bundled(&cache, &options);
        assert!(!kept.was_built);
        (batch, Runner::new(&kept.engine, batch))
    };
    // What an element waits for; the larger batches follow while frames already come.
    let mut options = second_start_options(&gpu).into_iter();
    let (_, mut single) = load(options.next().unwrap());
    let loaded = start.elapsed();
    let image = picture(single.image_size(), 0);
    single.run(&image);
    println!(
        "library open after {opened:?}, loaded after {loaded:?}, ready after {} ms",
        start.elapsed().as_millis()
    );
    let runners: Vec<(u32, Runner)> = options.map(load).collect();
    println!("all sizes are loaded after {:?}", start.elapsed());
    for (batch, mut runner) in runners {
        print_first_run(batch, &mut runner);
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
