//! TensorRT with a GPU: the bundled model is built, kept, loaded and run.
//! `cargo test --test gpu_tensorrt -- --ignored --test-threads 1 --nocapture`

use std::env;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use gstrsdetectnet::engine::tensorrt::{
    BuildOptions, Context, DataType, DeviceIdentity, Engine, EngineCache, KeptEngine, OnnxModel,
    Precision, Progress, TensorRtError, TensorSpec, build, library,
};

mod driver;

use driver::{Buffer, Gpu};

const MODEL: &[u8] = include_bytes!("../../pipelines/models/ssd-mobilenet-v2.onnx");

fn options(gpu: &Gpu) -> BuildOptions {
    BuildOptions {
        precision: Precision::Fp32,
        batches: (1, 8),
        dla_core: None,
        workspace_bytes: None,
        input_shapes: Vec::new(),
        device: DeviceIdentity {
            name: gpu.name(),
            compute_capability: gpu.compute_capability(),
            driver_version: gpu.driver_version().to_string(),
        },
    }
}

fn model() -> OnnxModel<'static> {
    OnnxModel {
        bytes: MODEL,
        path: Some(Path::new("ssd-mobilenet-v2.onnx")),
        external_files: &[],
    }
}

fn prepare(cache: &EngineCache, gpu: &Gpu) -> KeptEngine {
    let go_on = &mut |_: Progress<'_>| ControlFlow::Continue(());
    cache
        .load_or_build(library().unwrap(), &model(), &options(gpu), go_on)
        .unwrap()
}

/// A context with memory on the GPU for each tensor at the largest batch.
struct Runner<'a> {
    gpu: &'a Gpu,
    context: Context,
    tensors: Vec<(TensorSpec, Buffer)>,
}

impl<'a> Runner<'a> {
    fn new(engine: &Engine, gpu: &'a Gpu) -> Self {
        let mut context = engine.new_context().unwrap();
        context.set_batch(engine.max_batch()).unwrap();
        let tensors: Vec<(TensorSpec, Buffer)> = engine
            .tensors()
            .iter()
            .enumerate()
            .map(|(index, tensor)| {
                let count: i64 = context.shape(index).iter().product();
                let size = usize::try_from(count).unwrap() * tensor.data_type.size();
                (tensor.clone(), gpu.allocate(size))
            })
            .collect();
        for (index, (_, buffer)) in tensors.iter().enumerate() {
            // SAFETY: the buffer holds the tensor at the largest batch and lives as long as the context.
            unsafe { context.set_address(index, buffer.address()) }.unwrap();
        }
        Self {
            gpu,
            context,
            tensors,
        }
    }

    /// Values of the outputs, in order, for a batch whose inputs lie one after the other in `input`.
    fn run(&mut self, batch: u32, input: &[f32]) -> Vec<Vec<f32>> {
        self.context.set_batch(batch).unwrap();
        for (tensor, buffer) in &self.tensors {
            if tensor.is_input {
                self.gpu.upload(buffer, input);
            }
        }
        // SAFETY: the stream is the GPU's own; `synchronize` waits for the work before anything is freed.
        unsafe { self.context.enqueue(self.gpu.stream()) }.unwrap();
        self.gpu.synchronize();
        let outputs = self.tensors.iter().enumerate();
        outputs
            .filter(|(_, (tensor, _))| !tensor.is_input)
            .map(|(index, (_, buffer))| {
                let count: i64 = self.context.shape(index).iter().product();
                self.gpu.download(buffer, usize::try_from(count).unwrap())
            })
            .collect()
    }

    /// Values of one image of the input.
    fn image_size(&self) -> usize {
        let input = self.tensors.iter().find(|(tensor, _)| tensor.is_input);
        let sizes = &input.unwrap().0.shape[1..];
        usize::try_from(sizes.iter().product::<i64>()).unwrap()
    }
}

/// A picture with structure, so that the network's outputs differ from place to place.
fn picture(size: usize, seed: usize) -> Vec<f32> {
    let value = |index: usize| ((index * 7 + seed * 131) % 511) as f32 / 255.0 - 1.0;
    (0..size).map(value).collect()
}

fn largest_difference(left: &[f32], right: &[f32]) -> f32 {
    assert_eq!(left.len(), right.len());
    let differences = left
        .iter()
        .zip(right)
        .map(|(left, right)| (left - right).abs());
    differences.fold(0.0, f32::max)
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
    assert_eq!(engine.batches(), 1..=8);

    let mut runner = Runner::new(engine, &gpu);
    let size = runner.image_size();
    let images: Vec<f32> = (0..8).flat_map(|seed| picture(size, seed)).collect();
    let together = runner.run(8, &images);
    for seed in [0, 3, 7] {
        let alone = runner.run(1, &picture(size, seed));
        for (alone, together) in alone.iter().zip(&together) {
            assert!(alone.iter().all(|value| value.is_finite()));
            let slot = &together[seed * alone.len()..][..alone.len()];
            assert!(largest_difference(alone, slot) < 1e-3);
        }
    }
    let refused = engine.new_context().unwrap().set_batch(9).unwrap_err();
    assert!(
        refused.to_string().contains("batches of 1 to 8, not 9"),
        "{refused}"
    );
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn two_contexts_of_one_engine_run_at_once_with_the_same_result() {
    let gpu = Gpu::open();
    let folder = tempfile::tempdir().unwrap();
    let kept = prepare(&EngineCache::open(folder.path()).unwrap(), &gpu);
    let mut first = Runner::new(&kept.engine, &gpu);
    let mut second = Runner::new(&kept.engine, &gpu);
    drop(kept);
    let image = picture(first.image_size(), 1);
    for (first, second) in first.run(1, &image).iter().zip(&second.run(1, &image)) {
        assert!(largest_difference(first, second) < 1e-5);
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn the_second_start_is_ready_within_a_second() {
    let gpu = Gpu::open();
    let folder = tempfile::tempdir().unwrap();
    let cache = EngineCache::open(folder.path()).unwrap();
    let kept = prepare(&cache, &gpu);
    let mut runner = Runner::new(&kept.engine, &gpu);
    let image = picture(runner.image_size(), 0);
    for batch in 1..=8 {
        let start = Instant::now();
        runner.run(batch, &image.repeat(batch as usize));
        println!("first run of batch {batch}: {:?}", start.elapsed());
    }
    cache.keep_kernels(&kept).unwrap();
    let child = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "child_starts_from_the_cache",
            "--ignored",
            "--nocapture",
        ])
        .env("RSDETECTNET_TEST_FOLDER", folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    println!("{said}");
    assert!(
        child.status.success(),
        "{}",
        String::from_utf8_lossy(&child.stderr)
    );
    let milliseconds = said.split("ready after ").nth(1).unwrap();
    let milliseconds: u64 = milliseconds.split(' ').next().unwrap().parse().unwrap();
    assert!(Duration::from_millis(milliseconds) <= Duration::from_secs(1));
}

#[test]
#[ignore = "a child process of the test above"]
fn child_starts_from_the_cache() {
    let Some(folder) = env::var_os("RSDETECTNET_TEST_FOLDER") else {
        return;
    };
    let gpu = Gpu::open();
    let start = Instant::now();
    let kept = prepare(&EngineCache::open(Path::new(&folder)).unwrap(), &gpu);
    assert!(!kept.was_built);
    let loaded = start.elapsed();
    let mut runner = Runner::new(&kept.engine, &gpu);
    let image = picture(runner.image_size(), 0);
    runner.run(1, &image);
    println!(
        "loaded after {loaded:?}, ready after {} ms",
        start.elapsed().as_millis()
    );
    for batch in 1..=8 {
        let start = Instant::now();
        runner.run(batch, &image.repeat(batch as usize));
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
    let mut go_on = |_: Progress<'_>| ControlFlow::Continue(());
    let not_onnx = OnnxModel {
        bytes: b"this is not a model",
        ..model()
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
        (model(), int8, "QuantizeLinear"),
        (model(), on_dla, "no DLA core 0"),
    ] {
        let error = build(library, &model, &options, &mut go_on).unwrap_err();
        println!("{error}");
        assert!(matches!(error, TensorRtError::Build(_)), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
        assert!(!error.to_string().contains("does not say why"), "{error}");
    }
    let error = Engine::deserialize(library, b"this is not an engine", None).unwrap_err();
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
    let result = build(library, &model(), &options(&gpu), &mut stop_at_the_tenth);
    if library.reports_progress() {
        assert_eq!(result, Err(TensorRtError::Cancelled));
    } else {
        assert!(result.is_ok());
    }
}
