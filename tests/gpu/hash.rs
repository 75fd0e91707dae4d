//! Thumbnails of frames in the memory of a GPU: to the byte those of the CPU, and how long one waits for them.
//! Run with `cargo test --test gpu_hash -- --ignored --test-threads=1 --nocapture`.

#[allow(dead_code, reason = "some of it is for other tests")]
mod gpu;
#[allow(dead_code, reason = "some of it is for other tests")]
#[path = "../kernels/machine.rs"]
mod machine;
#[allow(dead_code, reason = "some of it is for other tests")]
#[path = "../kernels/picture.rs"]
mod picture;
#[allow(dead_code, reason = "some of it is for other tests")]
#[path = "../kernels/random.rs"]
mod random;

use std::sync::Arc;
use std::time::{Duration, Instant};

use cust::sys;
use gstrsdetectnet::crop::Rectangle;
use gstrsdetectnet::cuda::context::Context;
use gstrsdetectnet::frame::{Colorimetry, DeviceFrame, DevicePlane, DeviceStorage, PixelFormat};
use gstrsdetectnet::thumbnail::Area;
use gstrsdetectnet::thumbnail::cpu::Thumbnailer;
use gstrsdetectnet::thumbnail::cuda::{DeviceThumbnailer, ThumbnailError};

use gpu::{Gpu, succeed};
use picture::{FORMATS, Picture};
use random::Random;

/// The context that is current; it lives as long as the machine that made it.
fn current_context() -> Context {
    let mut handle = std::ptr::null_mut();
    // SAFETY: the call writes to the variable.
    succeed(unsafe { sys::cuCtxGetCurrent(&mut handle) });
    // SAFETY: the tests drop what they make of it before their machine.
    unsafe { Context::foreign(handle.cast(), Arc::new(())) }.unwrap()
}

/// The frame with its first plane, the one that counts, in an array, as block-linear frames of a Jetson are.
fn in_arrays(picture: &Picture, gpu: &Gpu) -> DeviceFrame {
    let (data, pitch) = &picture.planes()[0];
    let channels = pitch / picture.width;
    assert_eq!(channels * picture.width, *pitch, "rows have no gaps");
    let mut frame = picture.linear(gpu);
    frame.storage = DeviceStorage::BlockLinear;
    frame.planes[0] = DevicePlane {
        pointer: gpu.array(data, picture.width, picture.height, channels),
        pitch: 0,
    };
    frame
}

fn areas_of(pictures: &[Picture], each: usize) -> Vec<Area> {
    let mut random = Random::new(9);
    let mut areas: Vec<Area> = pictures
        .iter()
        .enumerate()
        .map(|(frame, picture)| Area::whole(frame, picture.width, picture.height))
        .collect();
    for (frame, picture) in pictures.iter().enumerate() {
        areas.extend((0..each).map(|_| {
            let (x, y) = (random.below(picture.width), random.below(picture.height));
            let pixels = Rectangle {
                x,
                y,
                width: random.below(picture.width - x) + 1,
                height: random.below(picture.height - y) + 1,
            };
            Area { frame, pixels }
        }));
    }
    areas
}

fn by_the_cpu(pictures: &[Picture], areas: &[Area], side: usize) -> Vec<u8> {
    let mut thumbnails = Vec::new();
    for area in areas {
        let frame = pictures[area.frame].system();
        Thumbnailer::default().append(&frame, &[*area], side, &mut thumbnails);
    }
    thumbnails
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn frames_and_boxes_of_every_memory_have_the_bytes_of_the_cpu() {
    let gpu = Gpu::new();
    let mut thumbnailer = DeviceThumbnailer::new(&current_context()).unwrap();
    let pictures: Vec<Picture> = FORMATS
        .into_iter()
        .zip(0..)
        .map(|(format, i)| {
            let size = (1280 - 4 * i, 720 - 7 * i);
            Picture::noise(format, Colorimetry::default(), size, 64)
        })
        .collect();
    let frames: Vec<DeviceFrame> = pictures.iter().map(|p| p.linear(&gpu)).collect();
    let areas = areas_of(&pictures, 20);
    // The room grows, stays, and is used in part.
    for side in [8, 64, 16, 1] {
        for areas in [&areas[..], &areas[..9], &areas[40..], &[]] {
            // What is there already stays.
            let mut made = vec![42];
            thumbnailer
                .append(&frames, None, areas, side, &mut made)
                .unwrap();
            let wanted = by_the_cpu(&pictures, areas, side);
            assert_eq!(made[0], 42);
            assert!(made[1..] == wanted, "{side}, {} areas", areas.len());
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn block_linear_frames_have_the_bytes_of_the_cpu() {
    let gpu = Gpu::new();
    let mut thumbnailer = DeviceThumbnailer::new(&current_context()).unwrap();
    let pictures = [
        (PixelFormat::Nv12, (1920, 1080)),
        (PixelFormat::Rgba, (640, 363)),
        (PixelFormat::Argb, (100, 31)),
        (PixelFormat::Gray8, (80, 60)),
        (PixelFormat::Uyvy, (200, 90)),
    ]
    .map(|(format, size)| Picture::noise(format, Colorimetry::default(), size, 0));
    let frames = pictures.each_ref().map(|p| in_arrays(p, &gpu));
    let areas = areas_of(&pictures, 8);
    for _ in 0..3 {
        let mut made = Vec::new();
        thumbnailer
            .append(&frames, None, &areas, 16, &mut made)
            .unwrap();
        assert!(made == by_the_cpu(&pictures, &areas, 16));
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn after_an_error_the_next_thumbnails_are_right() {
    let gpu = Gpu::new();
    let mut thumbnailer = DeviceThumbnailer::new(&current_context()).unwrap();
    let pictures = [Picture::noise(
        PixelFormat::Nv12,
        Colorimetry::default(),
        (640, 480),
        0,
    )];
    let frames = [pictures[0].linear(&gpu)];
    let good = areas_of(&pictures, 150);
    let mut bad = good.clone();
    // In the second launch.
    bad[140].pixels.width = 641;
    for _ in 0..2 {
        let mut made = Vec::new();
        let refused = thumbnailer.append(&frames, None, &bad, 16, &mut made);
        assert_eq!(refused, Err(ThumbnailError::Outside(bad[140])));
        assert!(made.is_empty());
        thumbnailer
            .append(&frames, None, &good, 16, &mut made)
            .unwrap();
        assert!(made == by_the_cpu(&pictures, &good, 16));
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn timings() {
    const ROUNDS: usize = 500;
    let gpu = Gpu::new();
    let mut thumbnailer = DeviceThumbnailer::new(&current_context()).unwrap();
    let size = (1920, 1080);
    let pictures = [Picture::noise(
        PixelFormat::Nv12,
        Colorimetry::default(),
        size,
        0,
    )];
    let linear = [pictures[0].linear(&gpu)];
    let arrays = [in_arrays(&pictures[0], &gpu)];
    println!("NV12 1920x1080, thumbnails of 16x16, from the call until the bytes are on the host:");
    for (name, frames, boxes) in [
        ("the frame", &linear, 0),
        ("the frame, block linear", &arrays, 0),
        ("the frame and 20 boxes", &linear, 20),
        ("the frame and 100 boxes", &linear, 100),
    ] {
        let areas = areas_of(&pictures, boxes);
        let mut bytes = Vec::new();
        let mut times: Vec<Duration> = (0..ROUNDS)
            .map(|_| {
                bytes.clear();
                let start = Instant::now();
                thumbnailer
                    .append(frames, None, &areas, 16, &mut bytes)
                    .unwrap();
                start.elapsed()
            })
            .collect();
        times.sort();
        println!(
            "  {name}: median {:.1?}, 99% {:.1?}",
            times[ROUNDS / 2],
            times[ROUNDS * 99 / 100]
        );
    }
}
