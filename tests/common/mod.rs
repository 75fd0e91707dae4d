//! What the tests share: the element, pictures whose objects are known, and comparisons.
#![allow(dead_code, reason = "each test file uses its own part")]

pub mod leaks;
pub mod pads;
pub mod programs;

use std::path::{Path, PathBuf};
use std::sync::Once;

use gst::prelude::*;
use gst_check::Harness;

pub type Builder = gst::element_factory::ElementBuilder<'static>;
use gstrsdetectnet::{BoundingBox, LabeledDetection};

/// The side of the pictures that the models of tests/models see, and of their cells, in pixels.
pub const INPUT_SIDE: u32 = 64;
pub const CELL: u32 = 8;

pub fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        gst::init().unwrap();
        gstrsdetectnet::plugin_register_static().unwrap();
        leaks::look_at_the_end();
    });
}

pub fn tests_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(name)
}

/// The library that cargo built beside the tests.
pub fn library() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let library = tests
        .ancestors()
        .nth(2)
        .unwrap()
        .join("libgstrsdetectnet.so");
    assert!(
        library.is_file(),
        "{} is missing: run cargo build first",
        library.display()
    );
    library
}

/// The path of a generated model, as the `model` property takes it.
pub fn model(name: &str) -> String {
    tests_file("models").join(name).to_str().unwrap().to_owned()
}

/// An element with one of the generated models.
pub fn colors_element(model_name: &str) -> Builder {
    init();
    let labels = match model_name.contains("ssd") {
        true => tests_file("models/colors.labels.txt"),
        false => tests_file("models/colors-yolov5.labels.txt"),
    };
    gst::ElementFactory::make("rsdetectnet")
        .property("model", model(model_name))
        .property("labels", labels.to_str().unwrap().to_owned())
}

/// The bus of an element without a pipeline. Messages hold their element, and the element its bus: so the bus is taken
/// away at the end.
pub struct Bus {
    bus: gst::Bus,
    element: gst::Element,
}

pub fn listen(element: &gst::Element) -> Bus {
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    Bus {
        bus,
        element: element.clone(),
    }
}

impl std::ops::Deref for Bus {
    type Target = gst::Bus;

    fn deref(&self) -> &gst::Bus {
        &self.bus
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.element.set_bus(None);
    }
}

/// Starts an element that cannot start, and returns the error that it posts.
pub fn start_error(element: &gst::Element) -> String {
    let bus = listen(element);
    assert!(element.set_state(gst::State::Paused).is_err(), "it started");
    let message = bus.pop_filtered(&[gst::MessageType::Error]).unwrap();
    element.set_state(gst::State::Null).unwrap();
    match message.view() {
        gst::MessageView::Error(error) => error.error().to_string(),
        _ => unreachable!(),
    }
}

/// The most memory that this process ever held, in bytes.
pub fn peak_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kibibytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kibibytes.parse::<usize>().unwrap() * 1024
}

pub fn harness(element: &gst::Element, caps: &gst_video::VideoInfo) -> Harness {
    let mut harness = Harness::with_element(element, Some("sink"), Some("src"));
    harness.set_src_caps(caps.to_caps().unwrap());
    harness.play();
    harness
}

/// The pads `src`, `detections` and `crops` of an element that gets pictures like this one, and its bus.
pub fn all_outputs(element: &gst::Element, picture: &Picture) -> ([Harness; 3], Bus) {
    let mut harness = Harness::with_element(element, Some("sink"), Some("src"));
    let lines = Harness::with_element(element, None, Some("detections"));
    let crops = Harness::with_element(element, None, Some("crops"));
    harness.set_src_caps(picture.info().to_caps().unwrap());
    let mut outputs = [harness, lines, crops];
    outputs.iter_mut().for_each(Harness::play);
    let bus = listen(element);
    (outputs, bus)
}

/// The element messages that were posted since the last call.
pub fn elements_of_bus(bus: &gst::Bus) -> Vec<gst::Structure> {
    let messages = std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Element]));
    messages
        .map(|message| message.structure().unwrap().to_owned())
        .collect()
}

/// RGB pixels of a picture in memory.
#[derive(Clone)]
pub struct Picture {
    pub width: u32,
    pub height: u32,
    pub rgb: Vec<u8>,
}

pub const RED: [u8; 3] = [255, 0, 0];
pub const GREEN: [u8; 3] = [0, 255, 0];
pub const BLUE: [u8; 3] = [0, 0, 255];

impl Picture {
    /// Grey, in which the generated models find nothing.
    pub fn grey(width: u32, height: u32) -> Self {
        let rgb = vec![114; (width * height * 3) as usize];
        Self { width, height, rgb }
    }

    /// Fills a rectangle of pixels.
    pub fn with_block(mut self, x: u32, y: u32, width: u32, height: u32, color: [u8; 3]) -> Self {
        for row in y..(y + height).min(self.height) {
            for column in x..(x + width).min(self.width) {
                let at = ((row * self.width + column) * 3) as usize;
                self.rgb[at..at + 3].copy_from_slice(&color);
            }
        }
        self
    }

    /// Fills one of the 8x8 cells that the generated models see when the frame is stretched.
    pub fn with_cell(self, column: u32, row: u32, color: [u8; 3]) -> Self {
        let (width, height) = (self.width / 8, self.height / 8);
        self.with_block(column * width, row * height, width, height, color)
    }

    pub fn cell_box(&self, column: u32, row: u32) -> BoundingBox {
        let (width, height) = (self.width as f32 / 8.0, self.height as f32 / 8.0);
        BoundingBox {
            x: column as f32 * width,
            y: row as f32 * height,
            width,
            height,
        }
    }

    /// A picture of tests/media.
    pub fn read_png(name: &str) -> Self {
        Self::decode_png(
            name,
            &std::fs::read(tests_file("media").join(name)).unwrap(),
        )
    }

    pub fn decode_png(name: &str, bytes: &[u8]) -> Self {
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes))
            .read_info()
            .unwrap();
        let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut rgb).unwrap();
        assert_eq!(info.color_type, png::ColorType::Rgb, "{name}");
        rgb.truncate(info.buffer_size());
        Self {
            width: info.width,
            height: info.height,
            rgb,
        }
    }

    pub fn info(&self) -> gst_video::VideoInfo {
        let builder =
            gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, self.width, self.height);
        builder.fps(gst::Fraction::new(30, 1)).build().unwrap()
    }

    /// As a buffer in RGB with GStreamer's own strides.
    pub fn buffer(&self) -> gst::Buffer {
        let info = self.info();
        let mut data = vec![0; info.size()];
        let row = self.width as usize * 3;
        for (from, to) in self
            .rgb
            .chunks(row)
            .zip(data.chunks_mut(info.stride()[0] as usize))
        {
            to[..row].copy_from_slice(from);
        }
        gst::Buffer::from_mut_slice(data)
    }

    /// As a sample in another format, converted by videoconvert.
    pub fn converted(
        &self,
        format: gst_video::VideoFormat,
        colorimetry: Option<&str>,
    ) -> gst::Sample {
        init();
        let mut caps = gst_video::VideoCapsBuilder::new()
            .format(format)
            .width(self.width as i32)
            .height(self.height as i32)
            .framerate(gst::Fraction::new(30, 1));
        if let Some(colorimetry) = colorimetry {
            caps = caps.field("colorimetry", colorimetry);
        }
        let sample = gst::Sample::builder()
            .buffer(&self.buffer())
            .caps(&self.info().to_caps().unwrap())
            .build();
        let timeout = gst::ClockTime::from_seconds(20);
        gst_video::convert_sample(&sample, &caps.build(), Some(timeout)).unwrap()
    }
}

/// Two equal red cells next to each other, a blue one and a weak green one.
pub fn four_cells() -> Picture {
    Picture::grey(64, 64)
        .with_cell(1, 1, RED)
        .with_cell(2, 1, RED)
        .with_cell(5, 5, BLUE)
        .with_cell(7, 0, [0, 153, 0])
}

/// Pushes one frame through a fresh harness of the element and returns what was found.
pub fn detect_one(element: &gst::Element, sample: &gst::Sample) -> Vec<LabeledDetection> {
    let info = gst_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
    let mut harness = harness(element, &info);
    let buffer = harness
        .push_and_pull(sample.buffer_owned().unwrap())
        .unwrap();
    gstrsdetectnet::detections(&buffer)
}

/// Takes an element out of a pipeline for good. A change of the pipeline's state that is under way on another thread
/// would start one again that has left, were its state not locked.
pub fn take_out(pipeline: &gst::Pipeline, element: &gst::Element) {
    element.set_locked_state(true);
    pipeline.remove(element).unwrap();
    element.set_state(gst::State::Null).unwrap();
}

/// Asserts that every frame that came in has become something, once none is under way.
pub fn assert_adds_up(element: &gst::Element) {
    let stats = gstrsdetectnet::stats(element).unwrap();
    let became = stats.inspected
        + stats.unchanged
        + stats.skipped
        + stats.late
        + stats.dropped
        + stats.failed
        + stats.flushed;
    assert_eq!(stats.frames, became, "{stats:?}");
}

/// Asserts that each wanted (label, box) was found once with this IoU and confidence, and nothing else.
pub fn assert_found(
    found: &[LabeledDetection],
    wanted: &[(&str, BoundingBox)],
    iou: f32,
    confidence: f32,
) {
    assert_eq!(found.len(), wanted.len(), "{found:?} instead of {wanted:?}");
    for (label, bounding_box) in wanted {
        assert!(
            found.iter().any(|f| f.label == *label
                && f.detection.bounding_box.iou(bounding_box) >= iou
                && f.detection.confidence >= confidence),
            "no {label} at {bounding_box:?} in {found:?}"
        );
    }
}
