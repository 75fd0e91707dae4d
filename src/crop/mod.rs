//! Objects cut out of a frame: which ones ([`select`]), which pixels ([`Rectangle`]), and their copy, as they are or
//! in another size and format ([`render`]).
//!
//! The rules are the same on every processor:
//! 1. A crop is a whole number of pixels: the box with its margin, rounded to nearest and at least one pixel, then
//!    outward so that no chroma sample is cut apart, and within the frame.
//! 2. In the frame's own format and size, a crop's samples are the frame's own.
//! 3. Else the rectangle is a frame of its own: nothing outside of it counts. It is resampled by the rules 1 to 3 of
//!    [`crate::preprocess`], each of the target's grids of samples at the places where that grid lies: co-sited
//!    chroma stays co-sited. Colours are converted by the affine map from the samples of one format to those of the
//!    other, rounded to nearest, halves to even, and saturate. Alpha and padding bytes become 255.
//! 4. A letterboxed crop keeps its aspect ratio, lies in the middle (rounded to whole chroma samples), and has black
//!    around it.

mod color;
pub mod cuda;
mod lanes;
pub mod recycle;
pub mod render;
pub mod select;

use crate::detection::BoundingBox;
use crate::frame::{PixelFormat, SystemFrame, SystemFrameMut};

pub use crate::frame::Rectangle;

impl Rectangle {
    /// The pixels of a box of a frame of this size in pixels. `margin` is added on each side, as a part of the box's
    /// own width and height.
    pub fn around(
        bounding_box: BoundingBox,
        margin: f32,
        format: PixelFormat,
        (frame_width, frame_height): (u32, u32),
    ) -> Self {
        let (right, down) = (bounding_box.width * margin, bounding_box.height * margin);
        let grown = BoundingBox {
            x: bounding_box.x - right,
            y: bounding_box.y - down,
            width: bounding_box.width + 2.0 * right,
            height: bounding_box.height + 2.0 * down,
        };
        let clipped = grown.clipped_to(frame_width as f32, frame_height as f32);
        let (x, y, width, height) = clipped.covering_pixels(frame_width, frame_height);
        let (columns, rows) = format.subsampling();
        let outward = |start: u32, length: u32, step: usize, limit: u32| {
            let (start, end) = (start as usize, (start + length) as usize);
            let first = start - start % step;
            (
                first,
                end.next_multiple_of(step).min(limit as usize) - first,
            )
        };
        let (x, width) = outward(x, width, columns, frame_width);
        let (y, height) = outward(y, height, rows, frame_height);
        Self {
            x,
            y,
            width,
            height,
        }
    }
}

/// Copies a rectangle of a frame, sample for sample.
///
/// # Panics
/// If the target has another format than the frame or another size than the rectangle, or if the rectangle does not
/// lie within the frame.
pub fn copy(frame: &SystemFrame<'_>, rectangle: Rectangle, target: &mut SystemFrameMut<'_>) {
    let Rectangle {
        x,
        y,
        width,
        height,
    } = rectangle;
    assert_eq!(
        (target.format, target.width, target.height),
        (frame.format, width, height),
        "a copy has the format of the frame and the size of the rectangle"
    );
    assert!(x + width <= frame.width && y + height <= frame.height);
    for plane in 0..frame.format.planes() {
        let (left, top) = frame.format.plane_size(plane, x, y);
        let (bytes, rows) = frame.format.plane_size(plane, width, height);
        let (from, to) = (&frame.planes[plane], &mut target.planes[plane]);
        for row in 0..rows {
            let source = &from.data[(top + row) * from.stride + left..][..bytes];
            to.data[row * to.stride..][..bytes].copy_from_slice(source);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FORMATS: [PixelFormat; 4] = [
        PixelFormat::Nv12,
        PixelFormat::Yuy2,
        PixelFormat::Rgb,
        PixelFormat::P010,
    ];

    proptest! {
        #[test]
        fn rectangles_cover_their_box_within_the_frame_and_cut_no_chroma_sample(
            (x, y, w, h) in (-50f32..2100.0, -50f32..2100.0, 0f32..2100.0, 0f32..2100.0),
            frame in (1u32..2000, 1u32..2000),
            margin in 0f32..2.0,
            format in proptest::sample::select(FORMATS.as_slice()),
        ) {
            let bounding_box = BoundingBox { x, y, width: w, height: h };
            let r = Rectangle::around(bounding_box, margin, format, frame);
            let (width, height) = (frame.0 as usize, frame.1 as usize);
            let (columns, rows) = format.subsampling();
            prop_assert!(r.width >= 1 && r.height >= 1);
            prop_assert!(r.x + r.width <= width && r.y + r.height <= height);
            prop_assert!(r.x.is_multiple_of(columns) && r.y.is_multiple_of(rows));
            prop_assert!(r.width.is_multiple_of(columns) || r.x + r.width == width);
            prop_assert!(r.height.is_multiple_of(rows) || r.y + r.height == height);
            let inside = bounding_box.clipped_to(frame.0 as f32, frame.1 as f32);
            if inside.area() > 0.0 {
                prop_assert!(r.x as f32 <= inside.x + 0.5 && r.y as f32 <= inside.y + 0.5);
                prop_assert!((r.x + r.width) as f32 >= inside.right() - 0.5);
                prop_assert!((r.y + r.height) as f32 >= inside.bottom() - 0.5);
            }
        }
    }

    #[test]
    fn a_margin_grows_the_box_on_each_side() {
        let bounding_box = BoundingBox::from_corners(100.0, 50.0, 140.0, 70.0);
        let around = |margin, format| Rectangle::around(bounding_box, margin, format, (640, 72));
        let rectangle = |x, y, width, height| Rectangle {
            x,
            y,
            width,
            height,
        };
        assert_eq!(around(0.0, PixelFormat::Rgb), rectangle(100, 50, 40, 20));
        assert_eq!(around(0.1, PixelFormat::Rgb), rectangle(96, 48, 48, 24));
        assert_eq!(around(0.25, PixelFormat::Rgb), rectangle(90, 45, 60, 27));
        assert_eq!(around(0.25, PixelFormat::Nv12), rectangle(90, 44, 60, 28));
    }

    #[test]
    fn one_pixel_becomes_one_chroma_sample() {
        let pixel = BoundingBox::from_corners(7.0, 7.0, 8.0, 8.0);
        let size = |format, frame| {
            let r = Rectangle::around(pixel, 0.0, format, frame);
            (r.x, r.y, r.width, r.height)
        };
        assert_eq!(size(PixelFormat::Rgb, (99, 99)), (7, 7, 1, 1));
        assert_eq!(size(PixelFormat::Uyvy, (99, 99)), (6, 7, 2, 1));
        assert_eq!(size(PixelFormat::I420, (99, 99)), (6, 6, 2, 2));
        assert_eq!(size(PixelFormat::I420, (7, 7)), (6, 6, 1, 1));
    }
}
