//! A video frame as planes of pixels, borrowed where they lie.

pub mod buffer;
pub mod context_offer;
pub mod cuda;
pub mod device;
pub mod gstcuda;
pub mod memory;
pub mod nvmm;
pub mod planes;
mod rectangle;
pub mod system;
pub mod texture;
pub mod upload;
pub mod video_info;

pub use device::{DeviceFrame, DevicePlane, DeviceStorage, PendingStream};
pub use rectangle::Rectangle;
pub use system::{SystemFrame, SystemFrameMut};

/// How pixels are stored. Formats that differ only in the order of planes share a variant:
/// YV12 is [`PixelFormat::I420`] with its chroma planes named the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PixelFormat {
    /// Planes: Y, interleaved UV at half width and height.
    Nv12,
    /// Planes: Y, interleaved VU at half width and height.
    Nv21,
    /// Planes: Y, U, V; chroma at half width and height.
    I420,
    /// As NV12 with 16-bit little-endian samples, the value in the upper 10 bits.
    P010,
    /// One plane of Y0 U Y1 V.
    Yuy2,
    /// One plane of U Y0 V Y1.
    Uyvy,
    Rgb,
    Bgr,
    Rgba,
    Bgra,
    Rgbx,
    Bgrx,
    Argb,
    Xrgb,
    Gray8,
}

impl PixelFormat {
    /// Whether samples are luma and chroma and need a colour matrix.
    pub fn is_yuv(self) -> bool {
        matches!(
            self,
            Self::Nv12 | Self::Nv21 | Self::I420 | Self::P010 | Self::Yuy2 | Self::Uyvy
        )
    }

    /// Number of planes, in the order given at each variant.
    pub fn planes(self) -> usize {
        match self {
            Self::Nv12 | Self::Nv21 | Self::P010 => 2,
            Self::I420 => 3,
            _ => 1,
        }
    }

    /// Columns and rows of pixels that share a chroma sample; 1 and 1 where none do.
    pub fn subsampling(self) -> (usize, usize) {
        match self {
            Self::Nv12 | Self::Nv21 | Self::I420 | Self::P010 => (2, 2),
            Self::Yuy2 | Self::Uyvy => (2, 1),
            _ => (1, 1),
        }
    }

    /// Width in bytes and height in rows of the used part of a plane.
    pub fn plane_size(self, plane: usize, width: usize, height: usize) -> (usize, usize) {
        let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
        match (self, plane) {
            (Self::Nv12 | Self::Nv21, 1) => (2 * half_width, half_height),
            (Self::P010, 0) => (2 * width, height),
            (Self::P010, _) => (4 * half_width, half_height),
            (Self::I420, 1 | 2) => (half_width, half_height),
            (Self::Yuy2 | Self::Uyvy, _) => (4 * half_width, height),
            (Self::Rgb | Self::Bgr, _) => (3 * width, height),
            (Self::Rgba | Self::Bgra | Self::Rgbx | Self::Bgrx | Self::Argb | Self::Xrgb, _) => {
                (4 * width, height)
            }
            _ => (width, height),
        }
    }

    /// Bytes from the beginning of a plane to the first sample of a part that begins at even pixels.
    pub(crate) fn offset(self, plane: usize, stride: usize, part: Rectangle) -> usize {
        let (bytes, rows) = self.plane_size(plane, part.x, part.y);
        rows * stride + bytes
    }
}

/// The matrix between RGB and luma/chroma, by the standard that defines its luma weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ColorMatrix {
    #[default]
    Bt601,
    Bt709,
    Bt2020,
    Smpte240m,
    Fcc,
}

impl ColorMatrix {
    /// The luma weights of red and blue, Kr and Kb (ITU-R BT.601-7, BT.709-6, BT.2020-2, SMPTE 240M, FCC 73.682).
    pub fn luma_weights(self) -> (f32, f32) {
        match self {
            Self::Bt601 => (0.299, 0.114),
            Self::Bt709 => (0.2126, 0.0722),
            Self::Bt2020 => (0.2627, 0.0593),
            Self::Smpte240m => (0.212, 0.087),
            Self::Fcc => (0.30, 0.11),
        }
    }
}

/// How YUV and grey samples stand for colours. RGB samples are taken as they are, 0 to 255.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Colorimetry {
    pub matrix: ColorMatrix,
    /// Luma 0..255 instead of 16..235.
    pub full_range: bool,
}

/// Why a buffer cannot be seen as a frame.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FrameError {
    #[error(
        "plane {plane} of the {width}x{height} {format:?} frame holds {actual} bytes, at least {needed} are needed"
    )]
    PlaneTooSmall {
        format: PixelFormat,
        width: usize,
        height: usize,
        plane: usize,
        actual: usize,
        needed: usize,
    },
    #[error("the buffer says that it holds {buffer}, the caps say {caps}")]
    MetaDiffers { buffer: String, caps: String },
    #[error("the buffer could not be mapped for {0}")]
    NotMapped(&'static str),
}
