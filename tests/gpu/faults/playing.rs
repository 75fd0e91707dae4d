//! Frames on their way through an element, and what comes of them, errors included.

use std::time::{Duration, Instant};

use gst::prelude::*;
use gst_video::VideoFormat;
use gstrsdetectnet::LabeledDetection;
use gstrsdetectnet::frame::gstcuda::CudaContext;

use crate::common::pads::Stream;
use crate::common::{Picture, assert_adds_up, assert_found, init};
use crate::media::picture;
use crate::stream::{colorful, has, launch, numbered, play};

/// An engine may have to be built.
const PATIENCE: Duration = Duration::from_secs(90);

/// What came of frames.
pub struct Played {
    pub found: Vec<Vec<LabeledDetection>>,
    /// What the element said of its start.
    pub progress: Vec<String>,
}

impl Played {
    /// Whether an engine was built.
    pub fn was_built(&self) -> bool {
        let building = |text: &String| text.starts_with("Building an engine");
        self.progress.iter().any(building)
    }
}

/// Has an element inspect frames; the sentence of the error, if there is one. That it neither ends nor fails is a
/// failure of the test.
pub fn attempt(detector: &str, input: &[gst::Sample]) -> Result<Played, String> {
    let description =
        format!("appsrc name=source format=time ! {detector} ! appsink name=sink sync=false");
    let pipeline = launch(&description);
    let bus = pipeline.bus().unwrap();
    let element = pipeline.by_name("detector").unwrap();
    let source = pipeline.by_name("source").and_downcast::<gst_app::AppSrc>();
    let sink = pipeline.by_name("sink").and_downcast::<gst_app::AppSink>();
    let (source, sink) = (source.unwrap(), sink.unwrap());
    let mut played = Played {
        found: Vec::new(),
        progress: Vec::new(),
    };
    let mut errors = Vec::new();
    let begin = Instant::now();
    if pipeline.set_state(gst::State::Playing).is_ok() {
        for (sample, number) in input.iter().zip(0..) {
            // What was refused is on the bus.
            let _ = source.push_sample(&numbered(sample, number));
        }
        let _ = source.end_of_stream();
        while errors.is_empty() && !sink.is_eos() {
            if let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_mseconds(50)) {
                let buffer = sample.buffer().unwrap();
                played.found.push(gstrsdetectnet::detections(buffer));
            }
            hear(&bus, &mut played, &mut errors);
            assert!(
                begin.elapsed() < PATIENCE,
                "it neither ends nor fails: {detector}"
            );
        }
    }
    hear(&bus, &mut played, &mut errors);
    pipeline.set_state(gst::State::Null).unwrap();
    assert_adds_up(&element);
    match errors.first() {
        Some(error) => Err(error.clone()),
        None => {
            assert_eq!(played.found.len(), input.len(), "{detector}");
            Ok(played)
        }
    }
}

fn hear(bus: &gst::Bus, played: &mut Played, errors: &mut Vec<String>) {
    while let Some(message) = bus.pop() {
        match message.view() {
            gst::MessageView::Progress(progress) => {
                played.progress.push(progress.get().2.to_owned());
            }
            gst::MessageView::Error(error) => errors.push(error.error().to_string()),
            _ => {}
        }
    }
}

/// Frames in which the generated models find red, green and blue.
pub fn colorful_frames(count: usize) -> Vec<gst::Sample> {
    vec![colorful().0.converted(VideoFormat::Nv12, None); count]
}

/// Asserts that all of [`colorful_frames`] were found out.
pub fn assert_colorful(played: &Played) {
    for found in &played.found {
        assert_found(found, &colorful().1, 0.99, 0.9);
    }
}

/// Frames in which the bundled model finds something, of which it needs some memory.
pub fn astronauts(count: usize) -> Vec<gst::Sample> {
    vec![picture("astronaut.png").converted(VideoFormat::Nv12, None); count]
}

/// Asserts that the bundled model found a Person in all of [`astronauts`].
pub fn assert_astronauts(played: &Played) {
    for found in &played.found {
        let is_person = |found: &LabeledDetection| found.label == "Person";
        assert!(found.iter().any(is_person), "{found:?}");
    }
}

/// The same frames in CUDA memory of the context that all elements share; None where there is no element that uploads.
pub fn uploaded(samples: &[gst::Sample]) -> Option<Vec<gst::Sample>> {
    if !has("cudaupload") {
        return None;
    }
    let description = "appsrc name=source ! cudaupload ! video/x-raw(memory:CUDAMemory) \
                       ! appsink name=sink sync=false";
    let pipeline = launch(description);
    pipeline.set_context(&CudaContext::shared(0).unwrap().to_gst_context());
    let uploaded = play(&pipeline, description, samples);
    assert_eq!(uploaded.len(), samples.len());
    Some(uploaded)
}

/// A picture in NV12, and where its cell is.
pub fn with_cell(
    (width, height): (u32, u32),
    (column, row): (u32, u32),
    color: [u8; 3],
) -> (gst::Sample, gstrsdetectnet::BoundingBox) {
    let picture = Picture::grey(width, height).with_cell(column, row, color);
    let bounding_box = picture.cell_box(column, row);
    (picture.converted(VideoFormat::Nv12, None), bounding_box)
}

/// An element that plays frames with the caps of this sample, between two pads.
pub fn stream(detector: &str, sample: &gst::Sample) -> Stream {
    init();
    let element = gst::parse::launch(detector).unwrap();
    let stream = Stream::new(&element);
    stream.begin(&sample.caps_owned().unwrap());
    stream
}

/// Pushes a sample's buffer, which others may push again.
pub fn push(stream: &Stream, sample: &gst::Sample) -> Result<gst::FlowSuccess, gst::FlowError> {
    stream.source.push(sample.buffer().unwrap().copy())
}

/// Pushes frames until one is refused, and returns the error that the element posted.
pub fn push_until_it_fails(stream: &Stream, sample: &gst::Sample) -> String {
    let begin = Instant::now();
    loop {
        if push(stream, sample).is_err()
            && let Some(error) = stream.error()
        {
            return error;
        }
        assert!(begin.elapsed() < PATIENCE, "nothing fails");
        std::thread::sleep(Duration::from_millis(1));
    }
}
