//! Frames of all sizes and formats in one batch give what each gives alone.

use std::ops::ControlFlow;
use std::sync::Arc;

use cust::memory::DeviceBuffer;
use gst_video::{VideoFormat, VideoInfo};
use gstrsdetectnet::Detection;
use gstrsdetectnet::cuda::context::Context;
use gstrsdetectnet::cuda::stream::finish_default_stream;
use gstrsdetectnet::decode::Selection;
use gstrsdetectnet::detector::{
    Backend, Detector, DetectorOptions, Frames, Precision, Request, Search,
};
use gstrsdetectnet::frame::buffer::{FrameShape, SYSTEM_FORMATS};
use gstrsdetectnet::frame::{DeviceFrame, DevicePlane, DeviceStorage};

use crate::common::init;
use crate::media::{PICTURES, picture, shared_cache};
use crate::prepared;

pub const MOST: usize = 32;
const THRESHOLD: f32 = 0.2;

/// How far a detection may be from what the frame gives alone.
pub struct Tolerance {
    pub iou: f32,
    pub confidence: f32,
}

/// A frame on the GPU, and its memory.
pub struct Uploaded {
    pub name: String,
    pub frame: DeviceFrame,
    _planes: Vec<DeviceBuffer<u8>>,
}

fn upload(name: &str, format: VideoFormat) -> Uploaded {
    let sample = picture(name).converted(format, None);
    let info = VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
    let shape = FrameShape::new(info).unwrap();
    let buffer = sample.buffer_owned().unwrap();
    let mapped = shape.read(&buffer).unwrap();
    let view = mapped.view().unwrap();
    let mut planes = [DevicePlane::default(); 3];
    let memory = (0..view.format.planes()).map(|plane| {
        let memory = DeviceBuffer::from_slice(view.planes[plane].data).unwrap();
        planes[plane] = DevicePlane {
            pointer: memory.as_device_ptr().as_raw(),
            pitch: view.planes[plane].stride,
        };
        memory
    });
    let memory = memory.collect();
    Uploaded {
        name: format!("{name} as {format}"),
        frame: DeviceFrame {
            format: view.format,
            colorimetry: view.colorimetry,
            width: view.width,
            height: view.height,
            storage: DeviceStorage::Pitch,
            planes,
        },
        _planes: memory,
    }
}

pub fn load(precision: Precision, batch_size: u32, instance: &str) -> Detector {
    let options = DetectorOptions {
        model: "ssd-mobilenet-v2".into(),
        backend: Backend::TensorRt,
        precision,
        batch_size,
        engine_cache: Some(shared_cache()),
        instance: instance.into(),
        ..DetectorOptions::default()
    };
    Detector::load(&options, None, &mut |_, _| ControlFlow::Continue(())).unwrap()
}

/// Frames of all pictures and formats, as many as run together at most.
pub fn upload_all() -> Vec<Uploaded> {
    let colored = SYSTEM_FORMATS
        .into_iter()
        .filter(|format| *format != VideoFormat::Gray8);
    let frames = colored.flat_map(|format| PICTURES.map(|name| upload(name, format)));
    let frames: Vec<_> = frames.take(MOST).collect();
    assert!(frames.len() > MOST / 2, "there are too few formats");
    // Other streams do not wait for the default one, on which the copies are. A wait for the whole context would be
    // refused while batches are prepared, whose work is captured.
    finish_default_stream().unwrap();
    frames
}

pub fn detect(detector: &Detector, frames: &[DeviceFrame]) -> Vec<Vec<Detection>> {
    submit(detector, frames).wait().unwrap().1
}

/// Has frames inspected, which must live until the request has been waited for.
pub fn submit(detector: &Detector, frames: &[DeviceFrame]) -> Request {
    let selection = Selection {
        thresholds: vec![THRESHOLD; detector.labels().as_slice().len()],
        iou_threshold: 0.5,
        max_detections: 100,
        ..Selection::default()
    };
    let search = Search {
        selection: Arc::new(selection),
        ..Search::default()
    };
    let frames = Frames::Device {
        frames,
        pending: None,
    };
    detector.submit(frames, &search, Vec::new()).unwrap()
}

/// Asserts that both found the same; what lies so near to the threshold that the tolerance decides may be missing.
pub fn assert_same(what: &str, batch: &[Detection], alone: &[Detection], tolerance: &Tolerance) {
    let same = |a: &Detection, b: &Detection| {
        a.class_id == b.class_id
            && (a.confidence - b.confidence).abs() <= tolerance.confidence
            && a.bounding_box.iou(&b.bounding_box) >= tolerance.iou
    };
    for (some, others) in [(batch, alone), (alone, batch)] {
        let certain = some
            .iter()
            .filter(|d| d.confidence > THRESHOLD + tolerance.confidence);
        for detection in certain {
            let found = others.iter().any(|other| same(detection, other));
            assert!(
                found,
                "{what}: {detection:?} differs; {batch:?} in a batch, {alone:?} alone"
            );
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn frames_of_all_sizes_and_formats_give_in_one_batch_what_they_give_alone() {
    init();
    let context = Context::primary(0).unwrap();
    let _current = context.enter().unwrap();
    let frames = upload_all();
    let device_frames: Vec<_> = frames.iter().map(|uploaded| uploaded.frame).collect();

    let fp32 = Tolerance {
        iou: 0.99,
        confidence: 0.01,
    };
    let fp16 = Tolerance {
        iou: 0.95,
        confidence: 0.03,
    };
    for (precision, tolerance) in [(Precision::Fp32, fp32), (Precision::Fp16, fp16)] {
        let alone = load(precision, 1, "alone");
        let lone: Vec<_> = device_frames
            .iter()
            .map(|frame| detect(&alone, std::slice::from_ref(frame)).remove(0))
            .collect();
        let found: usize = lone.iter().map(Vec::len).sum();
        assert!(
            found >= frames.len() / 2,
            "only {found} objects in {} frames",
            frames.len()
        );

        // One engine for all sizes, and one for each, as they are made for streams that come one after the other.
        let one_engine = load(precision, MOST as u32, "one engine");
        prepared::listen();
        let grown = load(precision, 0, "grown");
        grown.expect(2 * MOST);
        prepared::wait_for_batches_of(MOST as u32);
        for (engines, detector) in [("one engine", &one_engine), ("grown", &grown)] {
            for size in [1, 2, 3, 5, 8, 16, 31, frames.len()] {
                let size = size.min(frames.len());
                let batch = detect(detector, &device_frames[..size]);
                assert_eq!(batch.len(), size);
                for ((uploaded, found), lone) in frames.iter().zip(&batch).zip(&lone) {
                    let what =
                        format!("{precision:?}, {engines}, {size} frames, {}", uploaded.name);
                    assert_same(&what, found, lone, &tolerance);
                }
            }
        }
        println!(
            "{precision:?}: {found} objects in {} frames are the same in batches",
            frames.len()
        );
    }
}
