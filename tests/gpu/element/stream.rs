//! Pipelines around the element, and what goes in and comes out of it.

use std::sync::{Arc, Mutex};

use gst::prelude::*;
use gst_video::VideoFormat;
use gstrsdetectnet::LabeledDetection;

use crate::common::{Picture, init};
use crate::pixels::Pixels;

/// An engine may have to be built first.
const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(60);
pub const FRAME: gst::ClockTime = gst::ClockTime::from_mseconds(40);

/// Formats of every kind: in planes and packed, with and without chroma that is halved, of 8 and of 10 bits.
pub const EVERY_KIND: [VideoFormat; 7] = [
    VideoFormat::Nv12,
    VideoFormat::I420,
    VideoFormat::P01010le,
    VideoFormat::Yuy2,
    VideoFormat::Rgba,
    VideoFormat::Bgrx,
    VideoFormat::Rgb,
];

/// One buffer at a pad of the element.
struct Passing {
    memory: usize,
    pixels: Pixels,
}

/// One frame that went through the element.
pub struct Seen {
    /// Whether it came out in the memory in which it went in.
    pub same_memory: bool,
    pub before: Pixels,
    pub after: Pixels,
    pub detections: Vec<LabeledDetection>,
}

pub fn launch(description: &str) -> gst::Pipeline {
    init();
    gst::parse::launch(description)
        .unwrap_or_else(|error| panic!("{description}: {error}"))
        .downcast::<gst::Pipeline>()
        .unwrap()
}

/// Whether this machine has an element; says so where it has not.
pub fn has(element: &str) -> bool {
    init();
    let found = gst::ElementFactory::find(element).is_some();
    if !found {
        println!("NOT TESTED: there is no {element} here");
    }
    found
}

/// Panics with what a pipeline complains of.
fn check_errors(pipeline: &gst::Pipeline, description: &str) {
    let bus = pipeline.bus().unwrap();
    if let Some(message) = bus.pop_filtered(&[gst::MessageType::Error])
        && let gst::MessageView::Error(error) = message.view()
    {
        panic!("{description}: {} ({:?})", error.error(), error.debug());
    }
}

/// Numbers a sample's buffer as the frame of a stream.
pub fn numbered(sample: &gst::Sample, number: u64) -> gst::Sample {
    let mut buffer = sample.buffer_owned().unwrap();
    let edit = buffer.make_mut();
    edit.set_pts(FRAME * number);
    edit.set_duration(FRAME);
    gst::Sample::builder()
        .buffer(&buffer)
        .caps(&sample.caps_owned().unwrap())
        .build()
}

/// Pushes samples into the pipeline's `source`, where it has one, and returns what arrives at its `sink`.
pub fn play(
    pipeline: &gst::Pipeline,
    description: &str,
    input: &[gst::Sample],
) -> Vec<gst::Sample> {
    play_each(pipeline, description, input, |sample| sample)
}

/// As [`play`], but keeps of each sample only what is taken of it: decoders wait for frames that nobody gives back.
pub fn play_each<T>(
    pipeline: &gst::Pipeline,
    description: &str,
    input: &[gst::Sample],
    mut take: impl FnMut(gst::Sample) -> T,
) -> Vec<T> {
    let app_sink = pipeline.by_name("sink").and_downcast::<gst_app::AppSink>();
    let app_sink = app_sink.unwrap();
    pipeline.set_state(gst::State::Playing).unwrap_or_else(|_| {
        check_errors(pipeline, description);
        panic!("{description}: it does not start");
    });
    if let Some(source) = pipeline.by_name("source").and_downcast::<gst_app::AppSrc>() {
        source.set_format(gst::Format::Time);
        for (sample, number) in input.iter().zip(0..) {
            // What was refused is on the bus.
            let _ = source.push_sample(&numbered(sample, number));
        }
        let _ = source.end_of_stream();
    }
    let mut output = Vec::new();
    while let Some(sample) = app_sink.try_pull_sample(PATIENCE) {
        output.push(take(sample));
    }
    let ended = app_sink.is_eos();
    check_errors(pipeline, description);
    assert!(ended, "{description}: it does not end");
    pipeline.set_state(gst::State::Null).unwrap();
    output
}

/// Notes every buffer that passes a pad of the element.
fn watch(pipeline: &gst::Pipeline, pad: &str) -> Arc<Mutex<Vec<Passing>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let pad = pipeline.by_name("detector").unwrap().static_pad(pad);
    pad.unwrap()
        .add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            let buffer = info.buffer().unwrap();
            let caps = pad.current_caps().unwrap();
            let pixels = Pixels::of(buffer, &caps);
            if caps.features(0).unwrap().contains("memory:CUDAMemory") {
                let info = gst_video::VideoInfo::from_caps(&caps).unwrap();
                let in_system_memory = Pixels::of_system(buffer, &info);
                in_system_memory.assert_same(&pixels, "read in system memory");
            }
            noted.lock().unwrap().push(Passing {
                memory: buffer.peek_memory(0).as_ptr() as usize,
                pixels,
            });
            gst::PadProbeReturn::Ok
        });
    seen
}

/// What the element, named `detector`, makes of frames: `upstream ! detector`.
pub fn inspect(upstream: &str, detector: &str, input: &[gst::Sample]) -> Vec<Seen> {
    let description = format!("{upstream} ! {detector} ! appsink name=sink sync=false");
    let pipeline = launch(&description);
    let (before, after) = (watch(&pipeline, "sink"), watch(&pipeline, "src"));
    let output = play_each(&pipeline, &description, input, |sample| {
        gstrsdetectnet::detections(sample.buffer().unwrap())
    });
    let take = |seen: Arc<Mutex<Vec<Passing>>>| std::mem::take(&mut *seen.lock().unwrap());
    let (before, after) = (take(before), take(after));
    assert_eq!(
        (before.len(), after.len()),
        (output.len(), output.len()),
        "{description}"
    );
    let passed = before.into_iter().zip(after).zip(output);
    passed
        .map(|((before, after), detections)| Seen {
            same_memory: before.memory == after.memory,
            before: before.pixels,
            after: after.pixels,
            detections,
        })
        .collect()
}

/// A source of samples that an element puts into GPU memory; None where it cannot take this format.
pub fn upload(element: &str, feature: &str, format: VideoFormat) -> Option<String> {
    let caps = |features: &[&str]| {
        let caps = gst_video::VideoCapsBuilder::new().format(format);
        match features {
            [] => caps.build(),
            _ => caps.features(features.iter().copied()).build(),
        }
    };
    let factory = gst::ElementFactory::find(element)?;
    if !factory.can_sink_any_caps(&caps(&[])) || !factory.can_src_any_caps(&caps(&[feature])) {
        println!("NOT TESTED: {element} takes no {format}");
        return None;
    }
    Some(format!(
        "appsrc name=source ! {element} ! video/x-raw({feature}),format={format}"
    ))
}

/// The ways into GPU memory that this machine has.
pub fn uploads(format: VideoFormat) -> Vec<String> {
    let ways = [
        ("cudaupload", "memory:CUDAMemory"),
        ("nvvideoconvert", "memory:NVMM"),
    ];
    let present = ways.into_iter().filter(|(element, _)| has(element));
    present
        .filter_map(|(element, feature)| upload(element, feature, format))
        .collect()
}

/// Red, green and blue cells that the generated models find, each with its box.
pub fn colorful() -> (Picture, Vec<(&'static str, gstrsdetectnet::BoundingBox)>) {
    use crate::common::{BLUE, GREEN, RED};
    let picture = Picture::grey(256, 256)
        .with_cell(1, 2, RED)
        .with_cell(4, 4, GREEN)
        .with_cell(7, 6, BLUE);
    let wanted = vec![
        ("red", picture.cell_box(1, 2)),
        ("green", picture.cell_box(4, 4)),
        ("blue", picture.cell_box(7, 6)),
    ];
    (picture, wanted)
}
