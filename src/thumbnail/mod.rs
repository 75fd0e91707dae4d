//! Frames and objects as small grey pictures of `side` x `side` bytes: what users know as `hash`.
//!
//! The rules are the same on every processor, and all in whole numbers, so that every processor gives the same bytes:
//! 1. Each pixel of the picture has a level, from 0 to a highest one that stands for white ([`Levels`]). That of YUV
//!    and grey formats is the luma sample as it is stored (of P010 its 10 bits), limited to the range from black to
//!    white and counted from black: 0 to 219 in limited range, 0 to 255 in full range, with 10 bits 0 to 876 and 0 to
//!    1023. Chroma does not count. That of RGB formats is the sum of red, green and blue times the luma weights of the
//!    frame's colorimetry in whole 256ths, 0 to 255 * 256. Where there is alpha it is multiplied with alpha, as over
//!    black; padding bytes do not count.
//! 2. The picture, of `width` x `height` pixels, is divided evenly into `side` x `side` cells. In units of 1 / `side`
//!    of a pixel, pixel `i` of a row reaches from `i * side` to `(i + 1) * side` and cell `x` from `x * width` to
//!    `(x + 1) * width`: all whole numbers, and columns likewise. A pixel counts in a cell by the area that both cover.
//! 3. The byte of a cell is 255 times the mean level, divided by the highest level and rounded to nearest, halves up.
//!    Rows come from top to bottom, the cells of a row from left to right.
//!
//! An object's picture are the pixels of its box ([`pixels_of`]), the same as those of its region of interest.

pub mod cpu;
pub mod cuda;

use crate::detection::{BoundingBox, Detection};
use crate::frame::Rectangle;
use crate::frame::{Colorimetry, PixelFormat};

/// The largest side of a thumbnail.
pub const MAX_SIDE: usize = 64;

/// A picture to make a thumbnail of: pixels of one of the frames that are given, by its place among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    pub frame: usize,
    pub pixels: Rectangle,
}

impl Area {
    /// A whole frame of this size in pixels.
    pub fn whole(frame: usize, width: usize, height: usize) -> Self {
        Self {
            frame,
            pixels: Rectangle {
                x: 0,
                y: 0,
                width,
                height,
            },
        }
    }
}

/// The pixels of a box of a frame of this size in pixels: at least one, within the frame.
pub fn pixels_of(
    bounding_box: BoundingBox,
    (frame_width, frame_height): (usize, usize),
) -> Rectangle {
    let clipped = bounding_box.clipped_to(frame_width as f32, frame_height as f32);
    let (x, y, width, height) = clipped.covering_pixels(frame_width as u32, frame_height as u32);
    Rectangle {
        x: x as usize,
        y: y as usize,
        width: width as usize,
        height: height as usize,
    }
}

/// How pixels become levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Levels {
    /// Luma samples less `black`, at most `span`.
    Luma { black: u32, span: u32 },
    /// Red, green and blue by their weights, whose sum is 256; times alpha, where it counts.
    Weighted { weights: [u32; 3], alpha: bool },
}

impl Levels {
    pub fn new(format: PixelFormat, colorimetry: Colorimetry) -> Self {
        if format.is_yuv() || format == PixelFormat::Gray8 {
            let (unit, full) = match format {
                PixelFormat::P010 => (4, 1023),
                _ => (1, 255),
            };
            return match colorimetry.full_range {
                true => Self::Luma {
                    black: 0,
                    span: full,
                },
                false => Self::Luma {
                    black: 16 * unit,
                    span: 219 * unit,
                },
            };
        }
        let (red, blue) = colorimetry.matrix.luma_weights();
        let [red, blue] = [red, blue].map(|weight| (weight * 256.0).round() as u32);
        Self::Weighted {
            weights: [red, 256 - red - blue, blue],
            alpha: matches!(
                format,
                PixelFormat::Rgba | PixelFormat::Bgra | PixelFormat::Argb
            ),
        }
    }

    /// The level of white.
    pub fn highest(self) -> u64 {
        match self {
            Self::Luma { span, .. } => span.into(),
            Self::Weighted { alpha: false, .. } => 255 * 256,
            Self::Weighted { alpha: true, .. } => 255 * 255 * 256,
        }
    }

    /// The byte of a cell of a picture of so many pixels, from the sum of its levels times the areas they cover. With
    /// sides of up to 65,535 pixels, no number exceeds 64 bits.
    fn byte(self, sum: u64, pixels: u64) -> u8 {
        let white = self.highest() * pixels;
        ((255 * sum + white / 2) / white) as u8
    }
}

/// The pixels of one axis that a cell covers, from `first` to `last`, and the lengths that it covers of those two;
/// `trail` is 0 where they are one. It covers those between them wholly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    first: usize,
    last: usize,
    lead: u64,
    trail: u64,
}

impl Span {
    /// Of the cell `index` of `side`, on an axis of `length` pixels.
    fn new(index: usize, side: usize, length: usize) -> Self {
        let (begin, end) = (index * length, (index + 1) * length);
        let (first, last) = (begin / side, (end - 1) / side);
        let lead = end.min((first + 1) * side) - begin;
        let trail = match last > first {
            true => end - last * side,
            false => 0,
        };
        Self {
            first,
            last,
            lead: lead as u64,
            trail: trail as u64,
        }
    }
}

/// The mean absolute difference of two thumbnails (or of as many bytes of several), in levels of 0 to 255; infinite
/// where they have not the same length.
pub fn difference(a: &[u8], b: &[u8]) -> f64 {
    if a.len() != b.len() || a.is_empty() {
        return f64::INFINITY;
    }
    let sum: u64 = a
        .iter()
        .zip(b)
        .map(|(a, b)| u64::from(a.abs_diff(*b)))
        .sum();
    sum as f64 / a.len() as f64
}

/// The thumbnails of a buffer's frames and of the objects in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thumbnails {
    side: usize,
    /// Of all frames, then of all objects of all frames.
    bytes: Vec<u8>,
    /// For each frame, how many thumbnails come before that of its first object.
    first_objects: Vec<usize>,
}

impl Thumbnails {
    /// Begins anew, for thumbnails of `side` x `side` bytes: those of all frames and then those of all their
    /// detections are to be appended to the returned bytes.
    pub fn begin(&mut self, side: usize, detections: &[Vec<Detection>]) -> &mut Vec<u8> {
        self.side = side;
        self.first_objects.clear();
        let mut first = detections.len();
        self.first_objects.extend(detections.iter().map(|found| {
            let own = first;
            first += found.len();
            own
        }));
        self.bytes.clear();
        &mut self.bytes
    }

    /// Puts other thumbnails of as many frames in the place of those that there are.
    pub fn replace_frames(&mut self, frames: &[u8]) {
        if let Some(bytes) = self.bytes.get_mut(..frames.len()) {
            bytes.copy_from_slice(frames);
        }
    }

    pub fn side(&self) -> usize {
        self.side
    }

    /// The bytes of all frames, one frame after the other.
    pub fn of_frames(&self) -> &[u8] {
        let length = self.first_objects.len() * self.side * self.side;
        self.bytes.get(..length).unwrap_or_default()
    }

    /// The bytes of an object, by its frame and by its place among the detections there.
    pub fn of_object(&self, frame: usize, object: usize) -> Option<&[u8]> {
        let length = self.side * self.side;
        let first = (self.first_objects.get(frame)? + object) * length;
        self.bytes.get(first..first + length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::ColorMatrix;

    fn levels(format: PixelFormat, matrix: ColorMatrix, full_range: bool) -> Levels {
        Levels::new(format, Colorimetry { matrix, full_range })
    }

    #[test]
    fn levels_follow_range_bits_matrix_and_alpha() {
        use ColorMatrix::{Bt601, Bt709, Bt2020, Fcc, Smpte240m};
        let luma = |black, span| Levels::Luma { black, span };
        assert_eq!(levels(PixelFormat::Nv12, Bt709, false), luma(16, 219));
        assert_eq!(levels(PixelFormat::Gray8, Bt601, true), luma(0, 255));
        assert_eq!(levels(PixelFormat::P010, Bt2020, false), luma(64, 876));
        assert_eq!(levels(PixelFormat::P010, Bt2020, true), luma(0, 1023));
        for (matrix, weights) in [
            (Bt601, [77, 150, 29]),
            (Bt709, [54, 184, 18]),
            (Bt2020, [67, 174, 15]),
            (Smpte240m, [54, 180, 22]),
            (Fcc, [77, 151, 28]),
        ] {
            for (format, alpha) in [
                (PixelFormat::Rgb, false),
                (PixelFormat::Bgrx, false),
                (PixelFormat::Xrgb, false),
                (PixelFormat::Argb, true),
                (PixelFormat::Bgra, true),
            ] {
                let expected = Levels::Weighted { weights, alpha };
                assert_eq!(levels(format, matrix, false), expected, "{format:?}");
                assert_eq!(weights.iter().sum::<u32>(), 256);
            }
        }
    }

    #[test]
    fn the_largest_picture_of_white_is_white_without_an_overflow() {
        let pixels = 65_535 * 65_535;
        let alpha = levels(PixelFormat::Rgba, ColorMatrix::Bt709, false);
        let white = alpha.highest() * pixels;
        assert_eq!(alpha.byte(white, pixels), 255);
        assert_eq!(alpha.byte(white / 2, pixels), 128);
        assert_eq!(alpha.byte(white / 510 - 1, pixels), 0);
        assert_eq!(alpha.byte(white / 510 + 1, pixels), 1);
        // `thumbnail.cuh` counts in the bits above.
        assert!(white < 1 << 56);
    }

    #[test]
    fn the_cells_of_an_axis_cover_each_pixel_once() {
        for (side, length) in [(1, 1), (1, 99), (16, 1080), (64, 5), (7, 7), (3, 65_535)] {
            let mut covered = vec![0; length];
            for index in 0..side {
                let Span {
                    first,
                    last,
                    lead,
                    trail,
                } = Span::new(index, side, length);
                covered[first] += lead;
                covered[last] += trail;
                for pixel in covered.iter_mut().take(last).skip(first + 1) {
                    *pixel += side as u64;
                }
            }
            assert_eq!(covered, vec![side as u64; length], "{side} of {length}");
        }
    }

    #[test]
    fn differences_are_means_over_all_bytes() {
        assert_eq!(difference(&[0, 10, 255, 7], &[1, 7, 255, 7]), 1.0);
        assert_eq!(difference(&[5; 64], &[5; 64]), 0.0);
        assert_eq!(difference(&[5; 64], &[5; 63]), f64::INFINITY);
        assert_eq!(difference(&[], &[]), f64::INFINITY);
    }

    #[test]
    fn the_pixels_of_a_box_are_within_the_frame_and_at_least_one() {
        let at = |x, y, width, height| Rectangle {
            x,
            y,
            width,
            height,
        };
        let pixels = |left, top, right, bottom| {
            pixels_of(
                BoundingBox::from_corners(left, top, right, bottom),
                (64, 48),
            )
        };
        assert_eq!(pixels(10.4, 10.6, 20.0, 30.0), at(10, 11, 10, 19));
        assert_eq!(pixels(-5.0, 40.0, 9.0, 90.0), at(0, 40, 9, 8));
        assert_eq!(pixels(63.9, 47.9, 63.95, 47.95), at(63, 47, 1, 1));
        assert_eq!(pixels(90.0, 90.0, 99.0, 99.0), at(63, 47, 1, 1));
    }

    #[test]
    fn objects_are_found_by_their_frame() {
        let detection = Detection {
            class_id: 0,
            confidence: 1.0,
            bounding_box: BoundingBox::default(),
            object_id: None,
            oriented: None,
        };
        let detections = [vec![detection; 2], vec![], vec![detection]];
        let mut thumbnails = Thumbnails::default();
        let bytes = thumbnails.begin(1, &detections);
        bytes.extend([1, 2, 3, 10, 11, 30]);
        assert_eq!(thumbnails.of_object(0, 1), Some(&[11][..]));
        assert_eq!(thumbnails.of_object(2, 0), Some(&[30][..]));
        assert_eq!(thumbnails.of_object(2, 1), None);
        assert_eq!(thumbnails.of_object(3, 0), None);
        assert_eq!(thumbnails.of_frames(), [1, 2, 3]);
        thumbnails.replace_frames(&[4, 5, 6]);
        assert_eq!(thumbnails.of_frames(), [4, 5, 6]);
        assert_eq!(thumbnails.of_object(0, 0), Some(&[10][..]));
        thumbnails.begin(2, &[vec![]]).extend([7; 4]);
        assert_eq!(thumbnails.of_frames(), [7; 4]);
        assert_eq!(thumbnails.of_object(0, 0), None);
        assert!(Thumbnails::default().of_frames().is_empty());
    }
}
