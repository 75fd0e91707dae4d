//! Starts: from an empty cache, from a full one, from a damaged one, cancelled, and many in a row.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use gst::prelude::*;
use gst_check::Harness;
use gst_video::VideoFormat;
use gstrsdetectnet::cuda::context::{Context, memory};
use gstrsdetectnet::engine::tensorrt::library;

use crate::common::{assert_found, init};
use crate::media::{COLORS_SSD, bundled_detector, shared_cache};
use crate::stream::{colorful, has, launch, play};

/// What the element says while an engine is built.
const BUILDING: &str = "Building an engine";

/// One element alone, and its bus.
fn element(description: &str) -> (gst::Element, gst::Bus) {
    init();
    let element = gst::parse::launch(description).unwrap();
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    (element, bus)
}

fn progress(bus: &gst::Bus) -> Vec<String> {
    let messages = std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Progress]));
    messages
        .filter_map(|message| match message.view() {
            gst::MessageView::Progress(progress) => Some(progress.get().2.to_owned()),
            _ => None,
        })
        .collect()
}

fn error(bus: &gst::Bus) -> Option<String> {
    let message = bus.pop_filtered(&[gst::MessageType::Error])?;
    match message.view() {
        gst::MessageView::Error(error) => Some(error.error().to_string()),
        _ => None,
    }
}

/// Starts an element, inspects a picture whose objects are known, and returns what it said of its start.
fn start_and_inspect(description: &str) -> Vec<String> {
    let (element, bus) = element(description);
    let (picture, wanted) = colorful();
    let sample = picture.converted(VideoFormat::Nv12, None);
    let mut harness = Harness::with_element(&element, Some("sink"), Some("src"));
    harness.set_src_caps(sample.caps_owned().unwrap());
    harness.play();
    let pushed = harness.push_and_pull(sample.buffer_owned().unwrap());
    let buffer = pushed.unwrap_or_else(|flow| panic!("{flow}: {:?}", error(&bus)));
    assert_found(&gstrsdetectnet::detections(&buffer), &wanted, 0.99, 0.9);
    progress(&bus)
}

fn was_built(progress: &[String]) -> bool {
    assert!(
        progress.last().unwrap().contains(" runs on TensorRT"),
        "{progress:?}"
    );
    progress.iter().any(|text| text.starts_with(BUILDING))
}

/// The engine in a cache that holds one.
fn engine(cache: &Path) -> PathBuf {
    let files = fs::read_dir(cache)
        .unwrap()
        .map(|file| file.unwrap().path());
    let is_engine = |path: &PathBuf| path.extension().is_some_and(|e| e == "engine-cache");
    let engines: Vec<PathBuf> = files.filter(is_engine).collect();
    assert_eq!(engines.len(), 1, "{engines:?}");
    engines[0].clone()
}

fn modified(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn the_second_start_takes_the_engine_of_the_first_and_a_damaged_one_is_built_anew() {
    let folder = tempfile::tempdir().unwrap();
    let detector = COLORS_SSD.detector(folder.path());
    let reports_progress = library().unwrap().reports_progress();

    assert_eq!(was_built(&start_and_inspect(&detector)), reports_progress);
    let path = engine(folder.path());
    let built = modified(&path);

    assert!(!was_built(&start_and_inspect(&detector)));
    assert_eq!(
        (engine(folder.path()), modified(&path)),
        (path.clone(), built)
    );

    let whole = fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 0xff;
    for content in [&damaged[..], &whole[..whole.len() / 2], &[]] {
        fs::write(&path, content).unwrap();
        assert_eq!(was_built(&start_and_inspect(&detector)), reports_progress);
        assert!(fs::metadata(&path).unwrap().len() > whole.len() as u64 / 2);
        let built = modified(&path);
        assert!(!was_built(&start_and_inspect(&detector)));
        assert_eq!(modified(&path), built);
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn engines_of_another_user_are_not_loaded() {
    if !rustix::process::geteuid().is_root() {
        println!("NOT TESTED: only root can give files away");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("engines");
    let detector = COLORS_SSD.detector(&cache);
    start_and_inspect(&detector);
    let path = engine(&cache);
    let built = modified(&path);

    chown(&path, Some(4321), None).unwrap();
    start_and_inspect(&detector);
    assert_ne!(
        modified(&path),
        built,
        "the file of another user was loaded"
    );

    chown(&cache, Some(4321), None).unwrap();
    let (element, bus) = element(&detector);
    assert!(element.set_state(gst::State::Paused).is_err());
    let error = error(&bus).unwrap();
    element.set_state(gst::State::Null).unwrap();
    println!("{error}");
    assert!(error.contains("4321"), "{error}");
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn a_build_neither_holds_up_the_application_nor_keeps_it_from_stopping() {
    if !library().unwrap().reports_progress() {
        println!("NOT TESTED: this TensorRT cannot be stopped while it builds");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let pipeline = launch(&format!(
        "videotestsrc num-buffers=3 ! video/x-raw,format=NV12,width=320,height=240 ! {} ! fakesink",
        bundled_detector("fp32", folder.path())
    ));
    pipeline.set_auto_flush_bus(false);
    let bus = pipeline.bus().unwrap();
    let start = Instant::now();
    pipeline.set_state(gst::State::Paused).unwrap();
    println!("PAUSED was asked for after {:?}", start.elapsed());

    let deadline = Instant::now() + Duration::from_secs(60);
    let texts = || progress(&bus);
    let mut said = Vec::new();
    while !said.iter().any(|text: &String| text.starts_with(BUILDING)) {
        assert!(Instant::now() < deadline, "{said:?}, {:?}", error(&bus));
        said.extend(texts());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(
        !said.iter().any(|text| text.contains(" runs on ")),
        "{said:?}"
    );

    let stop = Instant::now();
    pipeline.set_state(gst::State::Null).unwrap();
    let took = stop.elapsed();
    println!("stopped after {took:?}");
    assert!(took < Duration::from_secs(5));
    assert_eq!(error(&bus), None);
    assert!(!texts().iter().any(|text| text.contains(" runs on ")));
    let kept = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(kept, 0, "an engine that was not finished is kept");
}

/// Free memory of the GPU, in bytes.
pub fn free_memory(context: &Context) -> usize {
    let _current = context.enter().unwrap();
    memory().unwrap().free
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn a_thousand_starts_leave_the_gpu_s_memory_as_it_was() {
    const STARTS: usize = 1000;
    const SETTLED: usize = 20;
    const MAY_GROW: usize = 32 << 20;
    // TensorRT-RTX 1.4 keeps 42 to 56 KiB of each context that was made, run and destroyed (`gpu_tensorrt
    // what_a_start_leaves_behind`), and a model has two.
    const TENSORRT_KEEPS: usize = 2 * (64 << 10);
    let limit = Duration::from_secs(60);
    let detector = COLORS_SSD.detector(&shared_cache());
    start_and_inspect(&detector);
    let context = Context::primary(0).unwrap();
    let (element, bus) = element(&detector);
    element.set_state(gst::State::Ready).unwrap();
    let mut settled = 0;
    let mut starts = 0;
    let begin = Instant::now();
    while starts < STARTS && begin.elapsed() < limit {
        element.set_state(gst::State::Paused).unwrap();
        assert!(!was_built(&progress(&bus)));
        element.set_state(gst::State::Ready).unwrap();
        starts += 1;
        if starts == SETTLED {
            settled = free_memory(&context);
        }
    }
    let left = free_memory(&context);
    element.set_state(gst::State::Null).unwrap();
    println!(
        "{starts} starts, {:?} each; {} KiB less memory free than after {SETTLED}",
        begin.elapsed() / starts as u32,
        settled.saturating_sub(left) / 1024
    );
    assert!(starts > SETTLED, "starts take too long");
    assert!(settled.saturating_sub(left) <= MAY_GROW + starts * TENSORRT_KEEPS);
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn frames_in_gpu_memory_are_refused_by_onnx_runtime_with_a_sentence() {
    if !has("cudaupload") {
        return;
    }
    let (element, bus) = element("rsdetectnet backend=onnxruntime");
    if element.set_state(gst::State::Paused).is_err() {
        let error = error(&bus).unwrap();
        element.set_state(gst::State::Null).unwrap();
        println!("{error}");
        assert!(error.contains("ONNX Runtime"), "{error}");
        return;
    }
    element.set_state(gst::State::Null).unwrap();
    let upload = "appsrc name=source ! cudaupload ! video/x-raw(memory:CUDAMemory) \
                  ! appsink name=sink sync=false";
    let sample = colorful().0.converted(VideoFormat::Nv12, None);
    let uploaded = play(&launch(upload), upload, &[sample]).remove(0);
    let mut harness = Harness::with_element(&element, Some("sink"), Some("src"));
    element.set_bus(Some(&bus));
    harness.set_src_caps(uploaded.caps_owned().unwrap());
    harness.play();
    let pushed = harness.push(uploaded.buffer_owned().unwrap());
    assert_eq!(pushed, Err(gst::FlowError::Error));
    let error = error(&bus).unwrap();
    assert!(error.contains("backend=tensorrt"), "{error}");
}
