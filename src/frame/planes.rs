//! How kernels find the samples of a frame: what they need to know of its planes, and what they ask of them.

use crate::frame::{DeviceFrame, DevicePlane, DeviceStorage, PixelFormat};

/// Why kernels cannot use a frame where it is.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlaneError {
    #[error(
        "plane {plane} of the {format:?} frame lies at 0x{address:x} with {pitch} bytes a row: both must be multiples of {alignment}"
    )]
    Misaligned {
        format: PixelFormat,
        plane: usize,
        address: u64,
        pitch: usize,
        alignment: usize,
    },
    #[error(
        "plane {plane} of the {width} pixels wide {format:?} frame has {pitch} bytes a row, at least {needed} are needed"
    )]
    PitchTooSmall {
        format: PixelFormat,
        width: usize,
        plane: usize,
        pitch: usize,
        needed: usize,
    },
    #[error("a {width}x{height} frame is empty or too large: each side may have 1 to 65535 pixels")]
    Size { width: usize, height: usize },
}

/// `Layout` of preprocess.cuh, and what tells the formats of a layout apart. For pixels of 32 bits that is where
/// red, green and blue lie, in bits, and alpha, in bytes plus 1.
pub fn layout(format: PixelFormat) -> (u32, u32) {
    let places =
        |red: u32, green: u32, blue: u32, alpha: u32| red | green << 8 | blue << 16 | alpha << 24;
    match format {
        PixelFormat::Nv12 => (0, 0),
        PixelFormat::Nv21 => (0, 1),
        PixelFormat::I420 => (1, 0),
        PixelFormat::P010 => (2, 0),
        PixelFormat::Yuy2 => (3, 0),
        PixelFormat::Uyvy => (3, 1),
        PixelFormat::Rgb => (4, 0),
        PixelFormat::Bgr => (4, 1),
        PixelFormat::Rgba => (5, places(0, 8, 16, 4)),
        PixelFormat::Rgbx => (5, places(0, 8, 16, 0)),
        PixelFormat::Bgra => (5, places(16, 8, 0, 4)),
        PixelFormat::Bgrx => (5, places(16, 8, 0, 0)),
        PixelFormat::Argb => (5, places(8, 16, 24, 1)),
        PixelFormat::Xrgb => (5, places(8, 16, 24, 0)),
        PixelFormat::Gray8 => (6, 0),
    }
}

/// Bytes that a kernel reads at once, and to whose multiples planes must be aligned.
fn alignment(format: PixelFormat, plane: usize) -> usize {
    match (format, plane) {
        (PixelFormat::Nv12 | PixelFormat::Nv21, 1) | (PixelFormat::P010, 0) => 2,
        (PixelFormat::P010, _) => 4,
        (PixelFormat::Yuy2 | PixelFormat::Uyvy, _) => 4,
        (
            PixelFormat::Rgba
            | PixelFormat::Bgra
            | PixelFormat::Rgbx
            | PixelFormat::Bgrx
            | PixelFormat::Argb
            | PixelFormat::Xrgb,
            _,
        ) => 4,
        _ => 1,
    }
}

/// Checks a frame's size, and the pitch and alignment of planes in linear memory.
pub fn check(frame: &DeviceFrame) -> Result<(), PlaneError> {
    let (width, height) = (frame.width, frame.height);
    let sides = 1..=usize::from(u16::MAX);
    if !sides.contains(&width) || !sides.contains(&height) {
        return Err(PlaneError::Size { width, height });
    }
    if frame.storage != DeviceStorage::Pitch {
        return Ok(());
    }
    let format = frame.format;
    let used = frame.planes.iter().enumerate().take(format.planes());
    for (
        plane,
        &DevicePlane {
            pointer: address,
            pitch,
        },
    ) in used
    {
        let (needed, _) = format.plane_size(plane, width, height);
        if pitch < needed {
            return Err(PlaneError::PitchTooSmall {
                format,
                width,
                plane,
                pitch,
                needed,
            });
        }
        let alignment = alignment(format, plane);
        if address % alignment as u64 != 0 || pitch % alignment != 0 {
            return Err(PlaneError::Misaligned {
                format,
                plane,
                address,
                pitch,
                alignment,
            });
        }
    }
    Ok(())
}
