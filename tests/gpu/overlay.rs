//! The overlay on a GPU: to the byte what the renderer of the CPU draws.
//! Run with `cargo test --test gpu_overlay -- --ignored --test-threads=1`.

#[allow(dead_code, reason = "some of it is for other tests")]
mod gpu;
#[allow(dead_code, reason = "some of it is for other tests")]
#[path = "../kernels/machine.rs"]
mod machine;
#[path = "../kernels/overlay_cases.rs"]
mod overlay_cases;
#[allow(dead_code, reason = "some of it is for other tests")]
#[path = "../kernels/picture.rs"]
mod picture;
#[allow(dead_code, reason = "some of it is for other tests")]
#[path = "../kernels/random.rs"]
mod random;

use gstrsdetectnet::cuda::stream::{Event, Stream};
use gstrsdetectnet::frame::{Colorimetry, PixelFormat};
use gstrsdetectnet::overlay::cuda::DeviceOverlay;
use gstrsdetectnet::overlay::draw::DrawError;

use gpu::Gpu;
use overlay_cases::{LABELS, assert_planes, detections, drawn_by_the_cpu, overlay};
use picture::Picture;

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn overlays_are_those_of_the_cpu_in_every_format() {
    overlay_cases::overlays_are_those_of_the_cpu_in_every_format(&Gpu::new());
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn overlays_have_the_frame_s_colours_in_every_matrix_and_range() {
    overlay_cases::overlays_have_the_frame_s_colours_in_every_matrix_and_range(&Gpu::new());
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn shapes_far_beyond_the_frame_are_drawn_as_on_the_cpu() {
    overlay_cases::shapes_far_beyond_the_frame_are_drawn_as_on_the_cpu(&Gpu::new());
}

/// Draws into a batch of frames of different sizes and formats, twice over, as the detector does.
fn draw_a_batch(capacity: usize) {
    let gpu = Gpu::new();
    let mut device = DeviceOverlay::with_capacity(capacity).unwrap();
    let (stream, event) = (Stream::new().unwrap(), Event::new().unwrap());
    let mut overlay = overlay();
    for _ in 0..2 {
        let pixels = [
            (PixelFormat::Nv12, (1280, 720)),
            (PixelFormat::Rgba, (321, 243)),
            (PixelFormat::P010, (642, 360)),
        ]
        .map(|(format, size)| Picture::noise(format, Colorimetry::default(), size, 0));
        let frames = pixels.each_ref().map(|pixels| pixels.linear(&gpu));
        let mut expected = Vec::new();
        for (pixels, frame) in pixels.iter().zip(&frames) {
            let (width, height) = (frame.width, frame.height);
            let picture = overlay.picture(&detections(width, height), &LABELS, width, height);
            expected.push(drawn_by_the_cpu(pixels, picture));
            // SAFETY: the machine keeps the frames, and the wait follows.
            unsafe { device.enqueue(picture, frame, gpu.kernels(), &stream, &event) }.unwrap();
        }
        device.finish(&stream, &event).unwrap();
        for (frame, expected) in frames.iter().zip(&expected) {
            assert_planes(&gpu, frame, expected);
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_batch_of_frames_is_drawn_with_one_wait() {
    draw_a_batch(16384);
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn more_than_there_is_room_for_is_drawn_all_the_same() {
    draw_a_batch(7);
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn frames_in_textures_are_refused_with_a_sentence() {
    let gpu = Gpu::new();
    let mut device = DeviceOverlay::new().unwrap();
    let (stream, event) = (Stream::new().unwrap(), Event::new().unwrap());
    let pixels = Picture::noise(PixelFormat::Nv12, Colorimetry::default(), (64, 48), 0);
    let frame = pixels.textures(&gpu);
    let mut overlay = overlay();
    let picture = overlay.picture(&detections(64, 48), &LABELS, 64, 48);
    // SAFETY: nothing is enqueued.
    let refused = unsafe { device.enqueue(picture, &frame, gpu.kernels(), &stream, &event) };
    assert_eq!(refused, Err(DrawError::Textures));
    device.finish(&stream, &event).unwrap();
}
