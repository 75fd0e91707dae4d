//! What each way to run several batch sizes costs: to build, to start a second time, and for each launch.
//! `MODEL=yolov5s.onnx` takes another model than the bundled one, `STRATEGIES=engines,profiles` some of them alone.

use std::env;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use gstrsdetectnet::engine::tensorrt::{
    BatchStrategy, Batches, EngineCache, Network, Precision, Specialization, library,
};

use crate::child;
use crate::machine::{BUNDLED, Gpu, Runner, network, prepared};

const LARGEST: u32 = 32;
/// Those that take longest come last, and are left out when the time is over.
const STRATEGIES: [(&str, BatchStrategy); 5] = [
    ("engines", BatchStrategy::Engines),
    ("profiles", BatchStrategy::Profiles),
    ("range-never", BatchStrategy::Range(Specialization::Never)),
    ("range-lazy", BatchStrategy::Range(Specialization::Lazy)),
    ("range-eager", BatchStrategy::Range(Specialization::Eager)),
];
const TIME: Duration = Duration::from_secs(80);
/// What the compiler in the background gets.
const LAZY_TIME: Duration = Duration::from_millis(1500);
const FOLDER: &str = "RSDETECTNET_TEST_FOLDER";
const STRATEGY: &str = "RSDETECTNET_TEST_STRATEGY";

/// The model as it is built, which a second start need not make again to be timed.
const PREPARED: &str = "prepared.onnx";

fn onnx() -> Vec<u8> {
    match env::var_os("MODEL") {
        Some(path) => fs::read(path).unwrap(),
        None => BUNDLED.to_vec(),
    }
}

/// Loads the network of a strategy; builds what is not kept.
fn load(gpu: &Gpu, folder: &Path, model: &[u8], strategy: BatchStrategy) -> Network {
    let cache = EngineCache::open(folder).unwrap();
    let options = gpu.options(Precision::Fp16, Batches::UpTo(LARGEST));
    network(&cache, model, &options, strategy)
}

/// Runs every size once and, where kernels are compiled beside, until that is done.
fn run_every_size(runner: &mut Runner<Network>, strategy: BatchStrategy) {
    let sizes: Vec<u32> = runner.runs.batches().collect();
    for batch in sizes {
        let start = Instant::now();
        let lazy = strategy == BatchStrategy::Range(Specialization::Lazy);
        loop {
            runner.enqueue(batch);
            runner.finish();
            if !lazy || start.elapsed() > LAZY_TIME {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The engines that another strategy has built, which do not depend on when kernels are compiled.
fn take_engines(from: &Path, to: &Path) {
    for file in fs::read_dir(from).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|e| e == "engine-cache") {
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn strategies_for_batches_timings() {
    let begin = Instant::now();
    let gpu = Gpu::open();
    let model = prepared(&onnx(), Precision::Fp16);
    let wanted = env::var("STRATEGIES").unwrap_or_default();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.split(',').any(|w| w == name);
    println!(
        "{}, {}, {}; s and ms to be ready, µs for each launch of a CUDA graph of so many images",
        library().unwrap().version(),
        gpu.identity().name,
        env::var("MODEL").unwrap_or_else(|_| "ssd-mobilenet-v2".into())
    );
    println!(
        "{:>12} {:>7} {:>7} | {:>7} {:>8} {:>8} {:>8} {:>6} | {:>6} {:>6} {:>6} {:>6} {:>6} {:>6} {:>9}",
        "strategy",
        "build",
        "compile",
        "open",
        "loaded",
        "one",
        "all",
        "MiB",
        1,
        2,
        4,
        8,
        16,
        32,
        "images/s"
    );
    let mut range: Option<tempfile::TempDir> = None;
    for (name, strategy) in STRATEGIES.into_iter().filter(|(name, _)| is_wanted(name)) {
        if begin.elapsed() > TIME {
            println!("{name:>12} NOT MEASURED: the time is over; name it in STRATEGIES");
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        let is_range = matches!(strategy, BatchStrategy::Range(_));
        if let Some(range) = range.as_ref().filter(|_| is_range) {
            take_engines(range.path(), folder.path());
        }
        fs::write(folder.path().join(PREPARED), &model).unwrap();
        let start = Instant::now();
        let network = load(&gpu, folder.path(), &model, strategy);
        let built = start.elapsed();
        let mut runner = Runner::new(network);
        let start = Instant::now();
        run_every_size(&mut runner, strategy);
        let compiled = start.elapsed();
        runner.runs.keep_kernels().unwrap();
        drop(runner);
        let said = child(
            "strategies::child_runs_a_strategy",
            folder.path(),
            &[(STRATEGY, name)],
        );
        let row = said.split("row: ").nth(1).unwrap().lines().next().unwrap();
        println!(
            "{name:>12} {:>6.1}s {:>6.1}s | {row}",
            built.as_secs_f64(),
            compiled.as_secs_f64()
        );
        if is_range {
            range.get_or_insert(folder);
        }
    }
    println!("in {:?}", begin.elapsed());
}

#[test]
#[ignore = "a child process of the test above"]
fn child_runs_a_strategy() {
    let (Some(folder), Ok(strategy)) = (env::var_os(FOLDER), env::var(STRATEGY)) else {
        return;
    };
    let named = STRATEGIES.into_iter().find(|(name, _)| *name == strategy);
    let (_, strategy) = named.unwrap();
    let folder = Path::new(&folder);
    let model = fs::read(folder.join(PREPARED)).unwrap();
    let milliseconds = |start: Instant| start.elapsed().as_millis();

    let start = Instant::now();
    let gpu = Gpu::open();
    library().unwrap();
    let opened = milliseconds(start);

    let free = gpu.free_memory();
    let start = Instant::now();
    let network = load(&gpu, folder, &model, strategy);
    assert!(!network.was_built());
    let loaded = milliseconds(start);
    let sizes: Vec<u32> = network.batches().collect();
    let mut runner = Runner::new(network);
    runner.enqueue(sizes[0]);
    runner.finish();
    let one = milliseconds(start);
    run_every_size(&mut runner, strategy);
    let all = milliseconds(start);
    let mut graphs: Vec<_> = sizes.iter().map(|batch| runner.capture(*batch)).collect();
    let times: Vec<f64> = graphs
        .iter_mut()
        .map(|graph| microseconds(&runner, graph))
        .collect();
    let used = free.saturating_sub(gpu.free_memory()) >> 20;
    let times_text: Vec<String> = times.iter().map(|time| format!("{time:>6.0}")).collect();
    let rate = f64::from(*sizes.last().unwrap()) / times.last().unwrap() * 1e6;
    println!(
        "row: {opened:>5}ms {loaded:>6}ms {one:>6}ms {all:>6}ms {used:>6} | {} {rate:>9.0}",
        times_text.join(" ")
    );
}

/// For each of many launches in a row, the shortest of some rounds.
fn microseconds(runner: &Runner<Network>, graph: &mut gstrsdetectnet::cuda::stream::Graph) -> f64 {
    const LAUNCHES: u32 = 50;
    let mut round = || {
        let start = Instant::now();
        for _ in 0..LAUNCHES {
            runner.launch(graph);
        }
        runner.finish();
        start.elapsed().as_secs_f64() * 1e6 / f64::from(LAUNCHES)
    };
    round();
    (0..3).map(|_| round()).fold(f64::INFINITY, f64::min)
}
