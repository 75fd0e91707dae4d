//! How many crops a second.

use std::time::{Duration, Instant};

use cust::memory::DeviceBuffer;
use cust::sys;
use gst::prelude::*;
use gst_check::Harness;
use gst_video::{VideoFormat, VideoInfo};
use gstrsdetectnet::crop::Rectangle;
use gstrsdetectnet::crop::cuda::{Cut, DeviceCropper, Downloads};
use gstrsdetectnet::crop::render::CropResize;
use gstrsdetectnet::cuda::context::Context;
use gstrsdetectnet::cuda::driver::check;
use gstrsdetectnet::frame::buffer::FrameShape;
use gstrsdetectnet::frame::gstcuda::CudaContext;

use crate::common::Picture;
use crate::cutting::CUDA;
use crate::media::{bundled_detector, picture, shared_cache};
use crate::stream::{launch, play, uploads};

const OBJECTS: usize = 32;
const ROUNDS: u32 = 500;

fn shape(format: VideoFormat, width: u32, height: u32) -> FrameShape {
    FrameShape::new(VideoInfo::builder(format, width, height).build().unwrap()).unwrap()
}

fn rectangles() -> impl Iterator<Item = Rectangle> {
    (0..OBJECTS)
        .map(|i| Rectangle {
            x: i * 47 % 1400,
            y: i * 26 % 400,
            width: 100 + i * 12,
            height: 120 + i * 14,
        })
        .map(|r| Rectangle {
            x: r.x / 2 * 2,
            y: r.y / 2 * 2,
            ..r
        })
}

fn print(what: &str, crops: usize, time: Duration) -> f64 {
    let rate = crops as f64 / time.as_secs_f64();
    println!(
        "  {what}: {rate:.0} crops/s, {:.1?} for a frame of {OBJECTS}",
        time / (crops / OBJECTS) as u32
    );
    rate
}

/// One frame after the other, each with the wait of the host.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn ten_thousand_crops_a_second_are_cut_out_of_1080p() {
    gst::init().unwrap();
    let context = Context::primary(0).unwrap();
    let _current = context.enter().unwrap();
    let video = shape(VideoFormat::Nv12, 1920, 1080);
    let noise: Vec<u8> = (0..video.info.size() as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let frame = DeviceBuffer::from_slice(&noise).unwrap();
    let crop = shape(VideoFormat::Rgba, 224, 224);
    let size = crop.info.size();
    // SAFETY: nothing reads it before crops are written there.
    let room = unsafe { DeviceBuffer::<u8>::uninitialized(OBJECTS * size) }.unwrap();
    // SAFETY: a context is current. The wait is for streams that do not wait for the one of the copy.
    check("cuCtxSynchronize", unsafe { sys::cuCtxSynchronize() }).unwrap();
    let cuts = |address: u64| -> Vec<Cut> {
        let cut = |(index, rectangle): (usize, Rectangle)| Cut {
            source: video.at(frame.as_device_ptr().as_raw()),
            rectangle,
            target: crop.at(address + (index * size) as u64),
            resize: CropResize::Letterbox,
        };
        rectangles().enumerate().map(cut).collect()
    };
    let mut cropper = DeviceCropper::new(&context).unwrap();
    println!("{OBJECTS} crops of 224x224 RGBA out of NV12 1920x1080:");
    let in_place = cuts(room.as_device_ptr().as_raw());
    let mut measure = |rounds: u32| {
        let start = Instant::now();
        for _ in 0..rounds {
            // SAFETY: frame and room live, and nobody else uses them.
            unsafe { cropper.cut(&in_place, None, None) }.unwrap();
        }
        start.elapsed()
    };
    measure(20);
    let time = measure(ROUNDS);
    let rate = print("into CUDA memory", OBJECTS * ROUNDS as usize, time);
    assert!(rate >= 10_000.0, "{rate}");

    let downloads = Downloads::default();
    let start = Instant::now();
    for _ in 0..ROUNDS {
        let mut download = downloads.take(&context, OBJECTS * size).unwrap();
        let cuts = cuts(download.address());
        // SAFETY: frame and download live, and nobody else uses them.
        unsafe { cropper.cut(&cuts, None, Some((&mut download, OBJECTS * size))) }.unwrap();
        download.wait().unwrap();
    }
    print(
        "into pinned memory",
        OBJECTS * ROUNDS as usize,
        start.elapsed(),
    );
}

/// A picture of which a model with a low threshold makes as many objects as it may.
fn busy() -> gst::Sample {
    let small = picture("astronaut.png");
    let mut large = Picture::grey(1920, 1080);
    for (index, pixel) in large.rgb.chunks_exact_mut(3).enumerate() {
        let (x, y) = (
            index % 1920 % small.width as usize,
            index / 1920 % small.height as usize,
        );
        let at = 3 * (y * small.width as usize + x);
        pixel.copy_from_slice(&small.rgb[at..at + 3]);
    }
    large.converted(VideoFormat::Nv12, None)
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn crops_a_second_through_the_element() {
    gst::init().unwrap();
    // The context that elements share with each other where nobody gives them another one.
    let shared = CudaContext::shared(0).unwrap();
    println!("224x224 RGBA out of NV12 1920x1080, through the element:");
    for upstream in uploads(VideoFormat::Nv12) {
        // A frame that is there already: what is measured is the element, not the upload.
        let description = format!("{upstream} ! appsink name=sink sync=false");
        let pipeline = launch(&description);
        pipeline.set_context(&shared.to_gst_context());
        let frames = play(&pipeline, &description, &[busy(), busy()]);
        for wish in [
            format!("{CUDA},format=RGBA"),
            "video/x-raw,format=RGBA".into(),
        ] {
            let detector = bundled_detector("fp16", &shared_cache());
            let bin = gst::parse::bin_from_description(
                &format!(
                    "{detector} threshold=0.001 iou-threshold=1.0 max-detections={OBJECTS} \
                     crop-overflow=block detector.crops ! {wish},width=224,height=224 ! \
                     fakesink async=false sync=false"
                ),
                false,
            )
            .unwrap();
            let detector = bin.by_name("detector").unwrap();
            for name in ["sink", "src"] {
                let target = detector.static_pad(name).unwrap();
                let ghost = gst::GhostPad::builder_with_target(&target).unwrap();
                bin.add_pad(&ghost.name(name).build()).unwrap();
            }
            let mut harness = Harness::with_element(&bin, Some("sink"), Some("src"));
            harness.set_src_caps(frames[0].caps_owned().unwrap());
            harness.play();
            let count = || {
                let stats = detector.property::<gst::Structure>("stats");
                let number = |name| stats.get::<u64>(name).unwrap();
                (number("crops"), number("crops-dropped"))
            };
            let mut pass = |number: usize| {
                for frame in frames.iter().cycle().take(number) {
                    harness
                        .push_and_pull(frame.buffer_owned().unwrap())
                        .unwrap();
                }
            };
            pass(50);
            let (start, before) = (Instant::now(), count());
            pass(500);
            let (time, after) = (start.elapsed(), count());
            let crops = (after.0 - before.0) as usize;
            print(&format!("{wish} from {upstream}"), crops, time);
            assert_eq!(after.1, 0, "crops were dropped");
            assert!(crops >= 500 * OBJECTS / 2, "{crops}");
            bin.set_state(gst::State::Null).unwrap();
        }
    }
}
