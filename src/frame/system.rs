//! Frames in system memory.

use super::{Colorimetry, FrameError, PixelFormat, Rectangle};

/// One plane of a frame that is only read. Rows are `stride` bytes apart.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plane<'a> {
    pub data: &'a [u8],
    pub stride: usize,
}

/// A frame in system memory, borrowed for reading. Unused planes are empty.
#[derive(Clone, Copy, Debug)]
pub struct SystemFrame<'a> {
    pub format: PixelFormat,
    pub colorimetry: Colorimetry,
    pub width: usize,
    pub height: usize,
    pub planes: [Plane<'a>; 3],
}

/// One plane of a frame that is written to.
#[derive(Debug, Default)]
pub struct PlaneMut<'a> {
    pub data: &'a mut [u8],
    pub stride: usize,
}

/// A frame in system memory, borrowed for drawing. Unused planes are empty.
#[derive(Debug)]
pub struct SystemFrameMut<'a> {
    pub format: PixelFormat,
    pub colorimetry: Colorimetry,
    pub width: usize,
    pub height: usize,
    pub planes: [PlaneMut<'a>; 3],
}

/// Checks that every plane holds the rows that format and size promise.
fn check_planes(
    format: PixelFormat,
    width: usize,
    height: usize,
    planes: [(usize, usize); 3],
) -> Result<(), FrameError> {
    for (plane, (actual, stride)) in planes.into_iter().enumerate().take(format.planes()) {
        let (row, rows) = format.plane_size(plane, width, height);
        let needed = stride
            .max(row)
            .saturating_mul(rows.saturating_sub(1))
            .saturating_add(row);
        if actual < needed || stride < row {
            return Err(FrameError::PlaneTooSmall {
                format,
                width,
                height,
                plane,
                actual,
                needed,
            });
        }
    }
    Ok(())
}

impl<'a> SystemFrame<'a> {
    /// A part of the frame that begins at even pixels, as a frame. None where the rectangle is no such part.
    pub fn part(&self, part: Rectangle) -> Option<Self> {
        if !part.is_part_of(self.width, self.height) {
            return None;
        }
        let mut planes = self.planes;
        for (i, plane) in planes.iter_mut().enumerate().take(self.format.planes()) {
            plane.data = plane
                .data
                .get(self.format.offset(i, plane.stride, part)..)?;
        }
        Some(Self {
            width: part.width,
            height: part.height,
            planes,
            ..*self
        })
    }

    /// A frame over planes in the order that [`PixelFormat`] names them.
    pub fn new(
        format: PixelFormat,
        colorimetry: Colorimetry,
        width: usize,
        height: usize,
        planes: [Plane<'a>; 3],
    ) -> Result<Self, FrameError> {
        check_planes(
            format,
            width,
            height,
            planes.map(|p| (p.data.len(), p.stride)),
        )?;
        Ok(Self {
            format,
            colorimetry,
            width,
            height,
            planes,
        })
    }
}

impl<'a> SystemFrameMut<'a> {
    /// A frame over planes in the order that [`PixelFormat`] names them.
    pub fn new(
        format: PixelFormat,
        colorimetry: Colorimetry,
        width: usize,
        height: usize,
        planes: [PlaneMut<'a>; 3],
    ) -> Result<Self, FrameError> {
        check_planes(
            format,
            width,
            height,
            planes.each_ref().map(|p| (p.data.len(), p.stride)),
        )?;
        Ok(Self {
            format,
            colorimetry,
            width,
            height,
            planes,
        })
    }
}
