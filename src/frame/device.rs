//! Frames in GPU memory, as the pointers that kernels read.

use std::ffi::c_void;

use super::{Colorimetry, PixelFormat, Rectangle};

/// A `CUstream` on which a frame is still being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingStream(pub *mut c_void);

// SAFETY: a stream belongs to no thread.
unsafe impl Send for PendingStream {}

/// One plane of a frame in GPU memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DevicePlane {
    /// A `CUdeviceptr`, or the `CUarray` or `CUtexObject` that the frame's [`DeviceStorage`] says.
    pub pointer: u64,
    /// Bytes from one row to the next; 0 unless the storage is [`DeviceStorage::Pitch`].
    pub pitch: usize,
}

/// How the planes lie in GPU memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceStorage {
    /// Rows one after the other, read through device pointers.
    Pitch,
    /// Tiles in the hardware's own order, which only a texture over the `CUarray` reads.
    BlockLinear,
    /// `CUtexObject`s over arrays that return whole numbers at whole coordinates, as
    /// [`PointTexture`](crate::frame::texture::PointTexture) does. A texel holds the samples that lie at one
    /// place: Y; U and V; R, G, B and A in the format's order. Frames of packed 4:2:2 are textures of the
    /// frame's width, rounded up to even, with luma and one chroma sample in each texel.
    Texture,
}

/// A frame in GPU memory. It is a plain value: the pointers are valid only while the buffer it was
/// borrowed from stays mapped, and only in the CUDA context that the buffer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceFrame {
    pub format: PixelFormat,
    pub colorimetry: Colorimetry,
    pub width: usize,
    pub height: usize,
    pub storage: DeviceStorage,
    /// In the order that [`PixelFormat`] names them; unused planes are zero.
    pub planes: [DevicePlane; 3],
}

/// Why memory on a GPU cannot be seen as a frame.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum DeviceFrameError {
    #[error("a frame of {width}x{height} pixels has no area")]
    Empty { width: usize, height: usize },
    #[error("plane {plane} of the {format:?} frame has no address in GPU memory")]
    NullPlane { format: PixelFormat, plane: usize },
    #[error(
        "rows of plane {plane} of the {format:?} frame are {pitch} bytes apart, but hold {row} bytes"
    )]
    PitchTooSmall {
        format: PixelFormat,
        plane: usize,
        pitch: usize,
        row: usize,
    },
    #[error(
        "plane {plane} of the {width}x{height} {format:?} frame ends {end} bytes into memory of {size} bytes"
    )]
    BeyondMemory {
        format: PixelFormat,
        width: usize,
        height: usize,
        plane: usize,
        end: usize,
        size: usize,
    },
}

impl DeviceFrame {
    /// All of the frame.
    pub fn whole(&self) -> Rectangle {
        Rectangle {
            x: 0,
            y: 0,
            width: self.width,
            height: self.height,
        }
    }

    /// The planes of a part of the frame that begins at even pixels; those that are no linear memory are the frame's
    /// own. None where the rectangle is no such part.
    pub fn part(&self, part: Rectangle) -> Option<[DevicePlane; 3]> {
        if !part.is_part_of(self.width, self.height) {
            return None;
        }
        let mut planes = self.planes;
        if self.storage == DeviceStorage::Pitch {
            for (i, plane) in planes.iter_mut().enumerate().take(self.format.planes()) {
                plane.pointer += self.format.offset(i, plane.pitch, part) as u64;
            }
        }
        Some(planes)
    }

    /// Refuses a frame that a kernel could not read: no area, no address, rows that overlap.
    pub fn checked(self) -> Result<Self, DeviceFrameError> {
        if self.width == 0 || self.height == 0 {
            return Err(DeviceFrameError::Empty {
                width: self.width,
                height: self.height,
            });
        }
        for plane in 0..self.format.planes() {
            let DevicePlane { pointer, pitch } = self.planes[plane];
            if pointer == 0 {
                return Err(DeviceFrameError::NullPlane {
                    format: self.format,
                    plane,
                });
            }
            let (row, _) = self.format.plane_size(plane, self.width, self.height);
            if self.storage == DeviceStorage::Pitch && pitch < row {
                return Err(DeviceFrameError::PitchTooSmall {
                    format: self.format,
                    plane,
                    pitch,
                    row,
                });
            }
        }
        Ok(self)
    }

    /// Refuses a plane that starts `offset` bytes into memory of `size` bytes and does not end within it.
    pub(super) fn check_extent(
        &self,
        plane: usize,
        offset: usize,
        size: usize,
    ) -> Result<(), DeviceFrameError> {
        let (row, rows) = self.format.plane_size(plane, self.width, self.height);
        let end = self.planes[plane]
            .pitch
            .saturating_mul(rows.saturating_sub(1))
            .saturating_add(offset)
            .saturating_add(row);
        if end > size {
            return Err(DeviceFrameError::BeyondMemory {
                format: self.format,
                width: self.width,
                height: self.height,
                plane,
                end,
                size,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nv12() -> DeviceFrame {
        let plane = DevicePlane {
            pointer: 0x1000,
            pitch: 64,
        };
        DeviceFrame {
            format: PixelFormat::Nv12,
            colorimetry: Colorimetry::default(),
            width: 64,
            height: 32,
            storage: DeviceStorage::Pitch,
            planes: [plane, plane, DevicePlane::default()],
        }
    }

    #[test]
    fn a_frame_that_kernels_can_read_passes_and_every_flaw_has_its_sentence() {
        assert_eq!(nv12().checked(), Ok(nv12()));

        let mut flawed = nv12();
        flawed.height = 0;
        assert_eq!(
            flawed.checked().unwrap_err().to_string(),
            "a frame of 64x0 pixels has no area"
        );
        let mut flawed = nv12();
        flawed.planes[1].pointer = 0;
        assert_eq!(
            flawed.checked().unwrap_err().to_string(),
            "plane 1 of the Nv12 frame has no address in GPU memory"
        );
        let mut flawed = nv12();
        flawed.planes[0].pitch = 63;
        assert_eq!(
            flawed.checked().unwrap_err().to_string(),
            "rows of plane 0 of the Nv12 frame are 63 bytes apart, but hold 64 bytes"
        );
        flawed.storage = DeviceStorage::BlockLinear;
        assert_eq!(flawed.checked(), Ok(flawed));
    }

    #[test]
    fn a_plane_must_end_within_its_memory() {
        let frame = nv12();
        assert_eq!(frame.check_extent(1, 64 * 32, 64 * 48), Ok(()));
        assert_eq!(
            frame
                .check_extent(1, 64 * 32, 64 * 48 - 1)
                .unwrap_err()
                .to_string(),
            "plane 1 of the 64x32 Nv12 frame ends 3072 bytes into memory of 3071 bytes"
        );
        assert!(frame.check_extent(0, usize::MAX, 64 * 48).is_err());
    }
}
