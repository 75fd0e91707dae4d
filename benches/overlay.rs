//! Time and allocations of drawing 20 detections into a frame of 1920x1080.

use divan::{AllocProfiler, Bencher};
use gstrsdetectnet::detection::{BoundingBox, Detection};
use gstrsdetectnet::frame::system::PlaneMut;
use gstrsdetectnet::frame::{Colorimetry, PixelFormat, SystemFrameMut};
use gstrsdetectnet::overlay::{Overlay, Parts};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const WIDTH: usize = 1920;
const HEIGHT: usize = 1080;

fn main() {
    divan::main();
}

/// Boxes of 60 to 630 by 100 to 670 pixels, at odd and even positions.
fn detections() -> Vec<Detection> {
    (0..20u8)
        .map(|i| Detection {
            class_id: u32::from(i % 5),
            confidence: 0.87,
            bounding_box: BoundingBox {
                x: f32::from(i) * 61.0,
                y: f32::from(i) * 19.0,
                width: 60.0 + f32::from(i) * 30.0,
                height: 100.0 + f32::from(i) * 30.0,
            },
            object_id: Some(u64::from(i)),
            oriented: None,
        })
        .collect()
}

#[divan::bench(args = [
    PixelFormat::Nv12,
    PixelFormat::I420,
    PixelFormat::P010,
    PixelFormat::Yuy2,
    PixelFormat::Rgb,
    PixelFormat::Rgba,
    PixelFormat::Gray8,
])]
fn draw_20_detections(bencher: Bencher, format: PixelFormat) {
    let mut buffers = [0, 1, 2].map(|plane| {
        let (row, rows) = match plane < format.planes() {
            true => format.plane_size(plane, WIDTH, HEIGHT),
            false => (0, 0),
        };
        (vec![100u8; row * rows], row)
    });
    let planes = buffers.each_mut().map(|(data, stride)| PlaneMut {
        data,
        stride: *stride,
    });
    let mut frame =
        SystemFrameMut::new(format, Colorimetry::default(), WIDTH, HEIGHT, planes).unwrap();
    let labels = [
        "Person",
        "Bicycle",
        "Coffee cup",
        "Stationary bicycle",
        "Dog",
    ];
    let detections = detections();
    let mut overlay = Overlay::new(Parts {
        outline: true,
        fill: false,
        label: true,
        confidence: true,
        track: true,
        tail: false,
    });
    overlay.draw(&mut frame, &detections, &labels);
    bencher.bench_local(|| overlay.draw(&mut frame, &detections, &labels));
}
