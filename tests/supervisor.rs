//! What applications are given to watch over their pipelines.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use gst::prelude::*;
use gstrsdetectnet::{Metrics, ModelKeeper, Supervisor, stats};

/// Longer than anything takes here.
const LONG: Duration = Duration::from_secs(120);
const ENDED: &str = "the stream ended";
const STALLED: &str = "no frame has come for 5 s";
const FRAMES: &str = "pattern=blue ! video/x-raw,format=RGB,width=64,height=64,framerate=25/1";

fn properties() -> String {
    let labels = tests_file("models/colors.labels.txt");
    let model = model("colors-ssd.onnx");
    format!("model={model} labels={}", labels.display())
}

fn description(source: &str) -> String {
    format!(
        "{source} {FRAMES} ! rsdetectnet {} ! fakesink",
        properties()
    )
}

fn supervisor(source: &str, once: bool) -> Supervisor {
    init();
    Supervisor::new(&description(source), once, |_| {}).unwrap()
}

/// Ticks until something holds, or the source is at its end; what was told of failures.
fn tick_until(
    one: &mut Supervisor,
    mut holds: impl FnMut(&Supervisor, &[String]) -> bool,
) -> (Result<bool, String>, Vec<String>) {
    let start = Instant::now();
    let mut told = Vec::new();
    loop {
        assert!(start.elapsed() < LONG, "{told:?}");
        let goes_on = one.tick(|reason| told.push(reason.to_owned()));
        if goes_on != Ok(true) || holds(one, &told) {
            return (goes_on, told);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_file_is_read_once_and_its_counts_stay() {
    let mut file = supervisor("videotestsrc num-buffers=7", true);
    assert_eq!(tick_until(&mut file, |_, _| false), (Ok(false), vec![]));
    let counts = file.stats();
    assert_eq!((counts.frames, counts.inspected), (7, 7));
    assert_eq!(counts.detections, 7 * 64);
    assert_eq!((file.restarts(), file.is_up()), (0, false));
    assert_eq!(file.latest().detections.len(), 64);
}

#[test]
fn a_camera_whose_stream_ends_is_started_again_and_counted_through() {
    let mut camera = supervisor("videotestsrc num-buffers=7 is-live=true", false);
    let begin = Instant::now();
    let ends = |told: &[String]| told.iter().filter(|reason| *reason == ENDED).count();
    let (goes_on, told) = tick_until(&mut camera, |camera, told| {
        ends(told) >= 2 && camera.stats().frames >= 16 && camera.is_up()
    });
    assert_eq!(goes_on, Ok(true));
    // A machine that is busy for seconds gives no frame for as long.
    let stalls = told.iter().filter(|reason| *reason == STALLED).count();
    assert_eq!(ends(&told) + stalls, told.len(), "{told:?}");
    let restarts = camera.restarts();
    assert!(restarts >= told.len() as u64);
    assert!(camera.stats().frames <= 7 * (restarts + 1));
    assert!(camera.latest().delay.unwrap() < begin.elapsed());
    let mut metrics = Metrics::default();
    camera.add_metrics(&mut metrics, &[("camera", "gate")]);
    let text = metrics.to_string();
    for sample in [
        "up{camera=\"gate\"} 1\n".to_owned(),
        format!("restarts_total{{camera=\"gate\"}} {restarts}\n"),
    ] {
        assert!(text.contains(&format!("rsdetectnet_{sample}")), "{text}");
    }
    let before = camera.stats().frames;
    camera.restart();
    assert!(!camera.is_up());
    assert!(camera.stats().frames >= before);
    let start = Instant::now();
    Supervisor::finish([camera], start + LONG);
    assert!(start.elapsed() < LONG);
}

#[test]
fn a_reason_that_stays_the_same_is_told_once_and_tries_become_rarer() {
    init();
    let source = format!(
        "filesrc location=/no/film ! decodebin ! rsdetectnet {}",
        properties()
    );
    let tries = Arc::new(AtomicU32::new(0));
    let of_camera = Arc::clone(&tries);
    let count = move |_: &gst::Pipeline| {
        of_camera.fetch_add(1, Ordering::Relaxed);
    };
    let mut camera = Supervisor::new(&format!("{source} ! fakesink"), false, count).unwrap();
    let start = Instant::now();
    let (_, told) = tick_until(&mut camera, |_, _| tries.load(Ordering::Relaxed) == 6);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("No such file"), "{told:?}");
    // After 0, 0.25, 0.75, 1.25, 1.75 and 2.25 seconds, and what starting takes.
    assert!(start.elapsed() >= Duration::from_millis(2250));

    let mut file = Supervisor::new(&format!("{source} ! fakesink"), true, |_| {}).unwrap();
    let (ended, _) = tick_until(&mut file, |_, _| false);
    assert!(ended.unwrap_err().contains("No such file"));
}

#[test]
fn of_many_those_at_their_end_are_taken_out() {
    let source = |frames| supervisor(&format!("videotestsrc num-buffers={frames}"), true);
    let mut all: BTreeMap<String, Supervisor> = BTreeMap::new();
    assert_eq!(Supervisor::tick_all(&mut all, |_, _| {}), Ok(true));
    all.insert("short".into(), source(1));
    all.insert("long".into(), source(30));
    let start = Instant::now();
    while Supervisor::tick_all(&mut all, |_, _| {}) == Ok(true) {
        assert!(start.elapsed() < LONG);
        thread::sleep(Duration::from_millis(5));
    }
    assert!(all.is_empty());
}

#[test]
fn what_is_no_pipeline_with_a_detector_is_refused_in_a_sentence() {
    init();
    for (description, sentence) in [
        (
            "videotestsrc ! fakesink",
            "there is no rsdetectnet in the pipeline",
        ),
        ("nothing", "no element \"nothing\""),
        ("fakesink", "'fakesink' is a single element"),
    ] {
        let refused = Supervisor::new(description, false, |_| {}).err().unwrap();
        assert!(refused.contains(sentence), "{refused}");
    }
    let other = gst::ElementFactory::make("identity").build().unwrap();
    assert_eq!(stats(&other), None);
}

#[test]
fn a_kept_model_is_shared_until_it_is_let_go() {
    init();
    let properties = format!("{} model-instance-id=kept", properties());
    let keeper = ModelKeeper::start(&properties).unwrap();
    let pause = || {
        thread::sleep(Duration::from_millis(20));
        false
    };
    let backend = keeper.wait(pause).unwrap().unwrap();
    assert!(backend.starts_with("ONNX Runtime"), "{backend}");
    let element =
        gst::parse::bin_from_description(&format!("rsdetectnet name=d {properties}"), true);
    let element = element.unwrap().by_name("d").unwrap();
    element.set_state(gst::State::Paused).unwrap();
    assert_eq!(stats(&element).unwrap().model_streams, 2);
    drop(keeper);
    assert_eq!(stats(&element).unwrap().model_streams, 1);
    element.set_state(gst::State::Null).unwrap();
    assert_eq!(
        ModelKeeper::start(&properties).unwrap().wait(|| true),
        Ok(None)
    );

    let broken = ModelKeeper::start("model=/no/model.onnx").unwrap();
    assert!(broken.wait(pause).unwrap_err().contains("/no/model.onnx"));
}
