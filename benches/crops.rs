//! Crops of 1080p NV12 frames in system memory, as the element makes them: `cargo bench --bench crops`.
//! Those of frames on a GPU: `cargo bench --bench gpu`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use divan::Bencher;
use divan::counter::ItemsCount;
use gst::prelude::*;
use gst_check::Harness;
use gstrsdetectnet::BoundingBox;
use gstrsdetectnet::crop::render::{CropResize, Renderer};
use gstrsdetectnet::crop::{Rectangle, copy};
use gstrsdetectnet::frame::system::{Plane, PlaneMut};
use gstrsdetectnet::frame::{ColorMatrix, Colorimetry, PixelFormat, SystemFrame, SystemFrameMut};

const WIDTH: usize = 1920;
const HEIGHT: usize = 1080;
const COLORIMETRY: Colorimetry = Colorimetry {
    matrix: ColorMatrix::Bt709,
    full_range: false,
};

fn main() {
    divan::main();
}

struct Picture {
    format: PixelFormat,
    size: (usize, usize),
    planes: [(Vec<u8>, usize); 3],
}

impl Picture {
    fn new(format: PixelFormat, width: usize, height: usize) -> Self {
        let planes = [0, 1, 2].map(|plane| {
            if plane >= format.planes() {
                return (Vec::new(), 0);
            }
            let (row, rows) = format.plane_size(plane, width, height);
            ((0..row * rows).map(|i| (i * 7 % 251) as u8).collect(), row)
        });
        Self {
            format,
            size: (width, height),
            planes,
        }
    }

    fn frame(&self) -> SystemFrame<'_> {
        let (width, height) = self.size;
        let planes = self.planes.each_ref().map(|(data, stride)| Plane {
            data,
            stride: *stride,
        });
        SystemFrame::new(self.format, COLORIMETRY, width, height, planes).expect("whole planes")
    }

    fn frame_mut(&mut self) -> SystemFrameMut<'_> {
        let (width, height) = self.size;
        let planes = self.planes.each_mut().map(|(data, stride)| PlaneMut {
            data,
            stride: *stride,
        });
        SystemFrameMut::new(self.format, COLORIMETRY, width, height, planes).expect("whole planes")
    }
}

/// Sizes of objects, in pixels.
const OBJECTS: [(f32, f32); 3] = [(60.0, 120.0), (200.0, 400.0), (500.0, 900.0)];

fn rectangle(object: usize) -> Rectangle {
    let (width, height) = OBJECTS[object];
    let bounding_box = BoundingBox {
        x: 301.0,
        y: 77.0,
        width,
        height,
    };
    let size = (WIDTH as u32, HEIGHT as u32);
    Rectangle::around(bounding_box, 0.0, PixelFormat::Nv12, size)
}

/// What the video waits for.
#[divan::bench(args = [0, 1, 2])]
fn copy_out(bencher: Bencher, object: usize) {
    let frame = Picture::new(PixelFormat::Nv12, WIDTH, HEIGHT);
    let rectangle = rectangle(object);
    let mut staged = Picture::new(PixelFormat::Nv12, rectangle.width, rectangle.height);
    bencher
        .counter(ItemsCount::new(1usize))
        .bench_local(|| copy(&frame.frame(), rectangle, &mut staged.frame_mut()));
}

/// Copied out and made 224x224 RGBA; the sizes alternate, so that no table serves twice.
#[divan::bench]
fn crop_to_224x224_rgba(bencher: Bencher) {
    let frame = Picture::new(PixelFormat::Nv12, WIDTH, HEIGHT);
    let rectangles = [0, 1, 2].map(rectangle);
    let mut staged = rectangles.map(|r| Picture::new(PixelFormat::Nv12, r.width, r.height));
    let mut target = Picture::new(PixelFormat::Rgba, 224, 224);
    let mut renderer = Renderer::default();
    bencher
        .counter(ItemsCount::new(rectangles.len()))
        .bench_local(|| {
            for (rectangle, staged) in rectangles.iter().zip(&mut staged) {
                copy(&frame.frame(), *rectangle, &mut staged.frame_mut());
                renderer.render(
                    &staged.frame(),
                    &mut target.frame_mut(),
                    CropResize::Stretch,
                );
            }
        });
}

/// Frames in a round.
const FRAMES: usize = 20;

/// What finds the objects.
#[derive(Clone, Copy, Debug)]
enum Finder {
    /// The bundled model: what one stream gives, all in all.
    Bundled,
    /// A model that costs next to nothing: what the crops cost, all in all.
    Tiny,
}

impl Finder {
    /// The element's settings, and a frame in which there are as many objects as it may find.
    fn settings_and_frame(self, objects: usize) -> (String, gst::Buffer) {
        let mut picture = Picture::new(PixelFormat::Nv12, WIDTH, HEIGHT);
        let settings = match self {
            // With so low a threshold, any picture holds as many objects as it may.
            Self::Bundled => "threshold=0.0001".to_owned(),
            // With its margin, an object has about as many pixels as those above have in the mean.
            Self::Tiny => {
                for object in 0..objects {
                    picture.paint_red_cell(object * 2 % 64 + object / 32);
                }
                let models = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models");
                format!(
                    "model={models}/colors-ssd.onnx labels={models}/colors.labels.txt crop-margin=1"
                )
            }
        };
        let planes = picture.planes.into_iter();
        let pixels: Vec<u8> = planes.flat_map(|(data, _)| data).collect();
        let settings = format!("{settings} iou-threshold=1 max-detections={objects}");
        (settings, gst::Buffer::from_mut_slice(pixels))
    }
}

impl Picture {
    /// Paints one of the 8x8 cells of a frame that tests/models/colors-ssd.onnx sees.
    fn paint_red_cell(&mut self, cell: usize) {
        let (columns, rows) = (WIDTH / 8, HEIGHT / 8);
        let (left, top) = (cell % 8 * columns, cell / 8 * rows);
        for y in top..top + rows {
            self.planes[0].0[y * WIDTH + left..][..columns].fill(63);
        }
        for y in top.div_ceil(2)..(top + rows) / 2 {
            for pair in self.planes[1].0[y * WIDTH + left..][..columns]
                .as_chunks_mut::<2>()
                .0
            {
                *pair = [102, 240];
            }
        }
    }
}

/// Detection, crops of 224x224 RGBA on the thread of their pad, and a sink.
#[divan::bench(
    sample_count = 9,
    sample_size = 1,
    args = [(Finder::Bundled, 32), (Finder::Bundled, 100), (Finder::Tiny, 32)]
)]
fn through_the_element(bencher: Bencher, (finder, objects): (Finder, usize)) {
    gst::init().expect("GStreamer");
    gstrsdetectnet::plugin_register_static().expect("the plugin");
    let (settings, frame) = finder.settings_and_frame(objects);
    let bin = gst::parse::bin_from_description(
        &format!(
            "rsdetectnet name=detector backend=onnxruntime {settings} crop-overflow=block detector.crops ! \
             video/x-raw,format=RGBA,width=224,height=224 ! fakesink name=sink async=false"
        ),
        false,
    )
    .expect("a pipeline");
    let by_name = |name| bin.by_name(name).expect("an element of the pipeline");
    let detector = by_name("detector");
    for name in ["sink", "src"] {
        let target = detector.static_pad(name).expect("a pad of the video");
        let ghost = gst::GhostPad::builder_with_target(&target).expect("a ghost pad");
        bin.add_pad(&ghost.name(name).build())
            .expect("a pad of the bin");
    }
    let arrived = Arc::new(AtomicUsize::new(0));
    let counted = arrived.clone();
    let pad = by_name("sink").static_pad("sink").expect("a sink's pad");
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        gst::PadProbeReturn::Ok
    });
    let mut harness = Harness::with_element(&bin, Some("sink"), Some("src"));
    harness.set_src_caps_str("video/x-raw,format=NV12,width=1920,height=1080,framerate=30/1");
    harness.play();
    bencher
        .counter(ItemsCount::new(FRAMES * objects))
        .bench_local(|| {
            arrived.store(0, Ordering::SeqCst);
            for _ in 0..FRAMES {
                harness.push_and_pull(frame.copy()).expect("a frame");
            }
            while arrived.load(Ordering::SeqCst) < FRAMES * objects {
                std::thread::yield_now();
            }
        });
    bin.set_state(gst::State::Null).expect("an end");
}
