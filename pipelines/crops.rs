//! Writes every object that a camera or a file shows as a JPEG, named by what it is and when it was seen:
//!
//! ```text
//! cargo run --release --example crops -- rtsp://user:password@camera/stream objects
//! cargo run --release --example crops -- csi:0 objects threshold=0.6 crop-margin=0.1
//! cargo run --release --example crops -- street.mp4 objects crop-classes=person,car crop-max-per-frame=3
//! ```
//!
//! The source is an address, a file, or the number of a CSI camera; everything after the folder is a property of
//! rsdetectnet. Of a file no object is left out; of a camera those are that the disk cannot keep up with.

use std::path::Path;
use std::process::ExitCode;

use gst::glib;
use gst::prelude::*;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run() {
        Ok(written) => {
            println!("{written} objects");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<u64, Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [source, folder, properties @ ..] = arguments.as_slice() else {
        return Err("usage: crops SOURCE FOLDER [PROPERTY=VALUE...]".into());
    };
    gst::init()?;
    gstrsdetectnet::plugin_register_static()?;
    std::fs::create_dir_all(folder)?;
    let is_file = Path::new(source).is_file();
    let pipeline = build(source, is_file)?;
    let detector = pipeline.by_name("detector").ok_or("no detector")?;
    for property in properties {
        let (name, value) = property
            .split_once('=')
            .ok_or_else(|| format!("{property} is not PROPERTY=VALUE"))?;
        if detector.find_property(name).is_none() {
            return Err(format!("rsdetectnet has no property {name}").into());
        }
        detector.set_property_from_str(name, value);
    }
    name_files(&pipeline, folder, is_file)?;
    play(&pipeline)?;
    let stats = detector.property::<gst::Structure>("stats");
    Ok(stats.get::<u64>("crops")? - stats.get::<u64>("crops-dropped")?)
}

fn build(source: &str, is_file: bool) -> Result<gst::Pipeline, Failure> {
    let decoded = match source.split_once("csi:") {
        Some(("", camera)) => {
            let number: u32 = camera
                .parse()
                .map_err(|_| format!("{source} is no camera: write csi:0"))?;
            format!("nvarguscamerasrc sensor-id={number} ! nvvidconv ! video/x-raw,format=NV12")
        }
        None if !is_file && !source.contains("://") => {
            return Err(format!("{source} is no file, no address and no camera").into());
        }
        _ => "uridecodebin name=source ! videoconvert".into(),
    };
    // Without a sink for the video itself, a file plays as fast as it can be inspected.
    let overflow = if is_file { "block" } else { "drop-oldest" };
    let pipeline = gst::parse::launch(&format!(
        "{decoded} ! rsdetectnet name=detector crop-overflow={overflow} \
         detector.crops ! jpegenc quality=90 ! multifilesink name=files sync=false"
    ))?;
    let pipeline = pipeline
        .downcast::<gst::Pipeline>()
        .map_err(|_| "no pipeline")?;
    if let Some(element) = pipeline.by_name("source") {
        let address = match is_file {
            true => glib::filename_to_uri(std::fs::canonicalize(source)?, None)?,
            false => source.into(),
        };
        element.set_property("uri", address);
    }
    Ok(pipeline)
}

/// Has the sink write each crop to a file of its own: `person-2026-05-04T12-30-59-0001.jpg` for a camera,
/// `person-00-01-02.480-0001.jpg` for a file.
fn name_files(pipeline: &gst::Pipeline, folder: &str, is_file: bool) -> Result<(), Failure> {
    let sink = pipeline.by_name("files").ok_or("no sink")?;
    let pad = sink.static_pad("sink").ok_or("no pad")?;
    let folder = Path::new(folder).to_owned();
    let weak = sink.downgrade();
    let mut number = 0;
    let number = std::sync::Mutex::new(move || {
        number += 1;
        number
    });
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let (Some(sink), Some(buffer)) = (weak.upgrade(), info.buffer()) else {
            return gst::PadProbeReturn::Ok;
        };
        let label = gstrsdetectnet::crop_details(buffer).map_or("object".into(), |d| d.label);
        let time = match is_file {
            true => in_the_file(buffer.pts()),
            false => now(),
        };
        let count = number.lock().map_or(0, |mut next| next());
        let name = format!("{}-{time}-{count:04}.jpg", plain(&label));
        sink.set_property("location", folder.join(name).to_string_lossy().as_ref());
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

/// A label as part of a file's name, and of a format string.
fn plain(label: &str) -> String {
    let letter = |c: char| if c.is_alphanumeric() { c } else { '_' };
    label.chars().map(letter).collect()
}

fn in_the_file(time: Option<gst::ClockTime>) -> String {
    let time = time.unwrap_or_default();
    let (hours, minutes) = (time.hours(), time.minutes() % 60);
    let (seconds, milliseconds) = (time.seconds() % 60, time.mseconds() % 1000);
    format!("{hours:02}-{minutes:02}-{seconds:02}.{milliseconds:03}")
}

fn now() -> String {
    glib::DateTime::now_local()
        .and_then(|now| now.format("%Y-%m-%dT%H-%M-%S"))
        .map_or_else(|_| "unknown".into(), Into::into)
}

/// Plays to the end; warnings are told on the way.
fn play(pipeline: &gst::Pipeline) -> Result<(), Failure> {
    let bus = pipeline.bus().ok_or("no bus")?;
    // What failed is on the bus; there is nothing to wait for where it did so at once.
    let patience = match pipeline.set_state(gst::State::Playing) {
        Ok(_) => gst::ClockTime::NONE,
        Err(_) => Some(gst::ClockTime::ZERO),
    };
    let mut end = Err("the pipeline does not start".into());
    for message in bus.iter_timed(patience) {
        match message.view() {
            gst::MessageView::Warning(warning) => eprintln!("{}", warning.error()),
            gst::MessageView::Error(error) => {
                let details = error.debug().unwrap_or_default();
                end = Err(format!("{} {details}", error.error()).into());
                break;
            }
            gst::MessageView::Eos(_) => {
                end = Ok(());
                break;
            }
            _ => {}
        }
    }
    pipeline.set_state(gst::State::Null)?;
    end
}
