//! Pipelines whose crops are looked at, and the crops that the CPU makes.

use gst::prelude::*;
use gst_video::VideoInfo;
use gstrsdetectnet::crop::render::{CropResize, Renderer};
use gstrsdetectnet::crop::{Rectangle, copy};
use gstrsdetectnet::frame::video_info::{colorimetry, pixel_format};
use gstrsdetectnet::frame::{Colorimetry, PixelFormat};
use gstrsdetectnet::{CropDetails, crop_details};

use crate::pixels::Pixels;
use crate::stream::{launch, play};

pub const CUDA: &str = "video/x-raw(memory:CUDAMemory)";
pub const NVMM: &str = "video/x-raw(memory:NVMM)";
pub const SYSTEM: &str = "video/x-raw";

/// A crop as it came out.
pub struct Crop {
    pub details: CropDetails,
    pub caps: gst::Caps,
    pub pixels: Pixels,
    pub times: (Option<gst::ClockTime>, Option<gst::ClockTime>),
}

impl Crop {
    pub fn of(sample: &gst::Sample) -> Self {
        let (buffer, caps) = (sample.buffer_owned().unwrap(), sample.caps_owned().unwrap());
        Self {
            details: crop_details(&buffer).unwrap(),
            pixels: Pixels::of(&buffer, &caps),
            times: (buffer.pts(), buffer.duration()),
            caps,
        }
    }

    /// Asserts that this is what the CPU cuts out of the frame.
    pub fn assert_cut_out_of(&self, frame: &Pixels, resize: CropResize, what: &str) {
        let info = VideoInfo::from_caps(&self.caps).unwrap();
        let expected = cut_on_the_cpu(frame, &self.details, &info, resize);
        let (own, wanted) = (&self.pixels, &expected);
        let native = (frame.format, self.details.width, self.details.height);
        if native == (wanted.format, info.width(), info.height()) {
            own.assert_same(wanted, what);
        } else {
            assert_close(own, wanted, what);
        }
    }
}

/// A description of a pipeline: what a detector called `detector` makes of frames, and its crops into `sink`.
pub fn pipeline(upstream: &str, detector: &str, downstream: &str) -> String {
    format!(
        "{upstream} ! {detector} crop-overflow=block ! queue ! fakesink name=video async=false \
         detector.crops ! {downstream} ! appsink name=sink sync=false async=false"
    )
}

/// All crops of a run.
pub fn crops(description: &str, input: &[gst::Sample]) -> Vec<Crop> {
    let pipeline = launch(description);
    let bus = pipeline.bus().unwrap();
    let samples = play(&pipeline, description, input);
    let warning = bus.pop_filtered(&[gst::MessageType::Warning]);
    if let Some(gst::MessageView::Warning(warning)) = warning.as_ref().map(|message| message.view())
    {
        panic!("{description}: {}", warning.error());
    }
    samples.iter().map(Crop::of).collect()
}

fn untouched(
    format: PixelFormat,
    colorimetry: Colorimetry,
    (width, height): (usize, usize),
) -> Pixels {
    let plane = |plane| {
        let (row, rows) = format.plane_size(plane, width, height);
        vec![0; row * rows]
    };
    Pixels {
        format,
        colorimetry,
        width,
        height,
        planes: (0..format.planes()).map(plane).collect(),
    }
}

fn cut_on_the_cpu(
    frame: &Pixels,
    details: &CropDetails,
    info: &VideoInfo,
    resize: CropResize,
) -> Pixels {
    let rectangle = Rectangle {
        x: details.x as usize,
        y: details.y as usize,
        width: details.width as usize,
        height: details.height as usize,
    };
    let size = (rectangle.width, rectangle.height);
    let mut staged = untouched(frame.format, frame.colorimetry, size);
    copy(&frame.frame(), rectangle, &mut staged.frame_mut());
    let (format, _) = pixel_format(info.format()).unwrap();
    let colors = match format.is_yuv() == frame.format.is_yuv() {
        true => frame.colorimetry,
        false => colorimetry(info),
    };
    let size = (info.width() as usize, info.height() as usize);
    let mut target = untouched(format, colors, size);
    Renderer::default().render(&staged.frame(), &mut target.frame_mut(), resize);
    target
}

/// Asserts values that are at most one level apart.
fn assert_close(own: &Pixels, wanted: &Pixels, what: &str) {
    assert_eq!(
        (own.format, own.width, own.height),
        (wanted.format, wanted.width, wanted.height),
        "{what}"
    );
    // The lowest bit of ten lies in the upper byte's neighbour.
    let words = own.format == PixelFormat::P010;
    for (plane, (own, wanted)) in own.planes.iter().zip(&wanted.planes).enumerate() {
        let level = |bytes: &[u8]| match words {
            true => i32::from(u16::from_le_bytes([bytes[0], bytes[1]]) >> 6),
            false => i32::from(bytes[0]),
        };
        let size = if words { 2 } else { 1 };
        let pairs = own.chunks(size).zip(wanted.chunks(size));
        let apart = pairs.map(|(own, wanted)| (level(own) - level(wanted)).abs());
        let most = apart.max().unwrap_or(0);
        assert!(most <= 1, "{what}: {most} levels apart in plane {plane}");
    }
}
