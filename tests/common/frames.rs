//! Frames in system memory of planes that a test owns: for each its bytes, and from one row to the next.
#![allow(dead_code, reason = "each test file uses its own part")]

use gstrsdetectnet::frame::system::{Plane, PlaneMut};
use gstrsdetectnet::frame::{Colorimetry, PixelFormat, SystemFrame, SystemFrameMut};

pub const FORMATS: [PixelFormat; 15] = [
    PixelFormat::Nv12,
    PixelFormat::Nv21,
    PixelFormat::I420,
    PixelFormat::P010,
    PixelFormat::Yuy2,
    PixelFormat::Uyvy,
    PixelFormat::Rgb,
    PixelFormat::Bgr,
    PixelFormat::Rgba,
    PixelFormat::Bgra,
    PixelFormat::Rgbx,
    PixelFormat::Bgrx,
    PixelFormat::Argb,
    PixelFormat::Xrgb,
    PixelFormat::Gray8,
];

/// The frame of this width and height.
pub fn system_frame(
    format: PixelFormat,
    colorimetry: Colorimetry,
    (width, height): (usize, usize),
    planes: &[(Vec<u8>, usize)],
) -> SystemFrame<'_> {
    let mut borrowed = [Plane::default(); 3];
    for (plane, (data, stride)) in borrowed.iter_mut().zip(planes) {
        *plane = Plane {
            data,
            stride: *stride,
        };
    }
    SystemFrame::new(format, colorimetry, width, height, borrowed)
        .expect("the planes fit the format")
}

/// The same to be written to.
pub fn system_frame_mut(
    format: PixelFormat,
    colorimetry: Colorimetry,
    (width, height): (usize, usize),
    planes: &mut [(Vec<u8>, usize)],
) -> SystemFrameMut<'_> {
    let mut borrowed = [(); 3].map(|()| PlaneMut::default());
    for (plane, (data, stride)) in borrowed.iter_mut().zip(planes) {
        *plane = PlaneMut {
            data,
            stride: *stride,
        };
    }
    SystemFrameMut::new(format, colorimetry, width, height, borrowed)
        .expect("the planes fit the format")
}
