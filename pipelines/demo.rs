//! An application around the element: it annotates a clip, reads the detections of every frame from the buffers,
//! and keeps the frame in which most was found.
//!
//! `demo --clip FILE --out FOLDER [--PROPERTY VALUE]…`, where every property of the element is an option:
//! `--model yolo.onnx --threshold 0.3 --classes person,car`.

use std::error::Error;
use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gst::glib;
use gst::prelude::*;
use serde_json::json;

type Failure = Box<dyn Error>;

const PIPELINE: &str = "filesrc name=clip ! decodebin ! videoconvert \
    ! rsdetectnet name=detector overlay=box,label,confidence \
    ! videoconvert ! video/x-raw,format=I420 ! x264enc speed-preset=veryfast ! h264parse ! mp4mux \
    ! filesink name=annotated";

/// What is kept of the frames that have passed.
#[derive(Default)]
struct Record {
    /// One of JSON for each frame.
    lines: String,
    frames: u64,
    objects: usize,
    /// The frame in which most was found, and the sum of the confidences in it.
    best: Option<(f32, gst::Sample)>,
}

impl Record {
    fn add(&mut self, buffer: &gst::Buffer, caps: &gst::Caps) {
        let found = gstrsdetectnet::detections(buffer);
        let size = |name| caps.structure(0)?.get::<i32>(name).ok();
        let line = json!({
            "frame": self.frames, "pts": buffer.pts().map(gst::ClockTime::nseconds),
            "width": size("width"), "height": size("height"),
            "objects": found.iter().map(json_object).collect::<Vec<_>>(),
        });
        self.lines += &format!("{line}\n");
        self.frames += 1;
        self.objects += found.len();
        let score = found.iter().map(|one| one.detection.confidence).sum();
        if self.best.as_ref().is_none_or(|(best, _)| score > *best) {
            let sample = gst::Sample::builder().buffer(buffer).caps(caps).build();
            self.best = Some((score, sample));
        }
    }
}

fn json_object(found: &gstrsdetectnet::LabeledDetection) -> serde_json::Value {
    let (detection, area) = (found.detection, found.detection.bounding_box);
    json!({
        "label": found.label, "label_id": detection.class_id, "confidence": detection.confidence,
        "x": area.x, "y": area.y, "w": area.width, "h": area.height,
    })
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the detections from each buffer as it leaves the element.
fn record_from(detector: &gst::Element) -> Result<Arc<Mutex<Record>>, Failure> {
    let record = Arc::new(Mutex::new(Record::default()));
    let of_probe = Arc::clone(&record);
    let pad = detector.static_pad("src").ok_or("no src pad")?;
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        if let (Some(buffer), Some(caps)) = (info.buffer(), pad.current_caps()) {
            lock(&of_probe).add(buffer, &caps);
        }
        gst::PadProbeReturn::Ok
    });
    Ok(record)
}

/// Sets a property from text, as gst-launch does.
fn set_property(element: &gst::Element, name: &str, text: &str) -> Result<(), Failure> {
    let property = element.find_property(name);
    let property = property.ok_or_else(|| format!("rsdetectnet has no property '{name}'"))?;
    let value = glib::Value::deserialize_with_pspec(text, &property);
    let value = value.map_err(|_| format!("{name} cannot be '{text}'"))?;
    element.set_property_from_value(name, &value);
    Ok(())
}

fn show_progress(pipeline: &gst::Pipeline, record: &Mutex<Record>, elapsed: Duration) {
    let seconds = |time: Option<gst::ClockTime>| time.map_or(0.0, gst::ClockTime::seconds_f64);
    let position = seconds(pipeline.query_position());
    let duration = seconds(pipeline.query_duration());
    let Record {
        frames, objects, ..
    } = *lock(record);
    let fps = frames as f64 / elapsed.as_secs_f64();
    print!("{position:.1} of {duration:.1} s, {frames} frames, {objects} objects, {fps:.0} fps  ");
    match std::io::stdout().is_terminal() {
        true => print!("\r"),
        false => println!(),
    }
    let _ = std::io::stdout().flush();
}

/// Plays the clip to its end.
fn play(pipeline: &gst::Pipeline, record: &Mutex<Record>) -> Result<(), Failure> {
    let bus = pipeline.bus().ok_or("the pipeline has no bus")?;
    let playing = pipeline.set_state(gst::State::Playing);
    let started = Instant::now();
    loop {
        let message = bus.timed_pop(gst::ClockTime::SECOND);
        match message.as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Eos(_)) => break,
            Some(gst::MessageView::Error(error)) => {
                let details = error.debug().unwrap_or_default();
                // The first line is a place in the source.
                let reason = details.lines().nth(1).unwrap_or_default();
                return Err(format!("{} {reason}", error.error()).trim_end().into());
            }
            Some(gst::MessageView::Progress(progress)) => println!("{}", progress.get().2),
            Some(_) => {}
            None if playing.is_err() => return Err("the pipeline did not start".into()),
            None => show_progress(pipeline, record, started.elapsed()),
        }
    }
    show_progress(pipeline, record, started.elapsed());
    println!();
    Ok(())
}

fn write_png(frame: &gst::Sample, file: &Path) -> Result<(), Failure> {
    let caps = gst::Caps::new_empty_simple("image/png");
    let png = gst_video::convert_sample(frame, &caps, Some(gst::ClockTime::from_seconds(10)))?;
    let png = png.buffer().ok_or("the frame did not become a picture")?;
    Ok(fs::write(file, png.map_readable()?)?)
}

fn run() -> Result<(), Failure> {
    gst::init()?;
    gstrsdetectnet::plugin_register_static()?;
    let pipeline = gst::parse::launch(PIPELINE)?.downcast::<gst::Pipeline>();
    let pipeline = pipeline.map_err(|_| "the elements are no pipeline")?;
    let element = |name| pipeline.by_name(name).ok_or("an element is missing");
    let detector = element("detector")?;

    let mut out = PathBuf::from("out");
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    for option in arguments.chunks(2) {
        match option {
            [name, file] if name == "--clip" => element("clip")?.set_property("location", file),
            [name, folder] if name == "--out" => out = folder.into(),
            [name, text] => set_property(&detector, name.trim_start_matches("--"), text)?,
            _ => return Err(format!("{} needs a value", option.concat()).into()),
        }
    }
    fs::create_dir_all(&out).map_err(|error| format!("{}: {error}", out.display()))?;
    element("annotated")?.set_property("location", out.join("annotated.mp4"));

    let record = record_from(&detector)?;
    let played = play(&pipeline, &record);
    let stats = detector.property::<gst::Structure>("stats");
    pipeline.set_state(gst::State::Null)?;
    played?;

    let record = lock(&record);
    let (_, best) = record.best.as_ref().ok_or("the clip has no frames")?;
    write_png(best, &out.join("frame.png"))?;
    fs::write(out.join("detections.jsonl"), &record.lines)?;
    for stage in ["preprocess", "infer", "decode", "attach", "total"] {
        let microseconds = stats.get::<u32>(&format!("{stage}-p50-us"))?;
        println!(
            "{stage:>10} {:6.2} ms a frame (median)",
            f64::from(microseconds) / 1000.0
        );
    }
    for file in ["annotated.mp4", "frame.png", "detections.jsonl"] {
        println!("{}", out.join(file).display());
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("demo: {failure}");
            ExitCode::FAILURE
        }
    }
}
