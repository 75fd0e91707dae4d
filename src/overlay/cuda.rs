//! Renders shapes into frames in the memory of a GPU, by the rules in [`super`].

use std::array;

use super::color::{Channel, Color};
use super::layout::{Picture, Shape};
use super::text::Font;
use crate::cuda::stream::{Event, Stream};
use crate::cuda::{CudaError, Kernels};
use crate::frame::{Colorimetry, DeviceFrame, PixelFormat};
use crate::overlay::draw::{DrawError, Ink, Painter, Primitive};

/// Primitives that are enqueued at most before the host waits for them.
const CAPACITY: usize = 16384;

/// Draws pictures into frames of one context, which must be current whenever it is used, and when it goes.
#[derive(Debug)]
pub struct DeviceOverlay {
    painter: Painter,
    primitives: Vec<Primitive>,
}

impl DeviceOverlay {
    /// Takes all memory on the GPU that it needs, half a megabyte.
    pub fn new() -> Result<Self, CudaError> {
        Self::with_capacity(CAPACITY)
    }

    /// With room for so many primitives, at least 1. What a picture has beyond that is drawn after a wait.
    pub fn with_capacity(capacity: usize) -> Result<Self, CudaError> {
        Ok(Self {
            painter: Painter::new(capacity.max(1), &mask_rows())?,
            primitives: Vec::new(),
        })
    }

    /// Enqueues the drawing of a picture.
    ///
    /// # Safety
    /// The current context is the one of the overlay, the kernels, the stream, the event and the frame. The frame
    /// has the described size and lives until [`DeviceOverlay::finish`] has returned, which is called before the
    /// overlay goes, also after an error.
    pub unsafe fn enqueue(
        &mut self,
        picture: &Picture,
        frame: &DeviceFrame,
        kernels: &Kernels,
        stream: &Stream,
        event: &Event,
    ) -> Result<(), DrawError> {
        primitives(picture, frame, &mut self.primitives);
        let mut left = &self.primitives[..];
        while !left.is_empty() {
            if self.painter.room() == 0 {
                stream.finish(event)?;
                self.painter.reuse();
            }
            let (now, later) = left.split_at(left.len().min(self.painter.room()));
            // SAFETY: the caller vouches for the context and the frame; the painter is reused only after a wait.
            unsafe { self.painter.draw(kernels, stream.raw(), frame, now) }?;
            left = later;
        }
        Ok(())
    }

    /// Waits until all is drawn, if anything is.
    pub fn finish(&mut self, stream: &Stream, event: &Event) -> Result<(), CudaError> {
        if self.painter.is_drawing() {
            stream.finish(event)?;
            self.painter.reuse();
        }
        Ok(())
    }
}

/// The rows of all glyphs of all fonts, as [`primitives`] counts them.
pub fn mask_rows() -> Vec<u16> {
    let rows = Font::all().into_iter().flat_map(Font::rows);
    rows.copied().collect()
}

/// Where the glyphs of a font begin in [`mask_rows`].
fn first_row(font: &Font) -> usize {
    let others = Font::all().into_iter();
    others
        .take_while(|other| !std::ptr::eq(*other, font))
        .map(|other| other.rows().len())
        .sum()
}

/// Replaces `primitives` by those of a picture for a frame. Glyphs that cover nothing are left out.
pub fn primitives(picture: &Picture, frame: &DeviceFrame, primitives: &mut Vec<Primitive>) {
    primitives.clear();
    for shape in &picture.shapes {
        match *shape {
            Shape::Fill {
                left,
                top,
                width,
                height,
                color,
            } => {
                let ink = ink(color, frame.format, frame.colorimetry);
                primitives.push(Primitive::fill(left, top, width, height, ink));
            }
            Shape::Glyphs {
                left,
                top,
                font,
                scale,
                ref text,
                color,
            } => {
                let ink = ink(color, frame.format, frame.colorimetry);
                let first_row = first_row(font);
                let size = (font.width, font.height);
                let mut glyph_left = i64::from(left);
                for &code in &picture.text[text.clone()] {
                    if glyph_left >= frame.width as i64 {
                        break;
                    }
                    let place = i32::try_from(glyph_left).map(|left| (left, top));
                    glyph_left += i64::from(font.width) * i64::from(scale);
                    // The frame begins at 0: what ends before is not seen.
                    let (Ok(place), true) = (place, glyph_left > 0) else {
                        continue;
                    };
                    let glyph = usize::from(code) * font.height as usize;
                    let rows = &font.rows()[glyph..][..font.height as usize];
                    if rows.iter().all(|row| *row == 0) {
                        continue;
                    }
                    let mask = (first_row + glyph) as u32;
                    primitives.push(Primitive::mask(place, mask, size, scale, ink));
                }
            }
        }
    }
}

/// A colour as frames of this format store it.
fn ink(color: Color, format: PixelFormat, colorimetry: Colorimetry) -> Ink {
    let channels = match format.is_yuv() || format == PixelFormat::Gray8 {
        true => [Channel::Luma, Channel::Cb, Channel::Cr],
        false => [Channel::Red, Channel::Green, Channel::Blue],
    };
    let bits = if format == PixelFormat::P010 { 10 } else { 8 };
    Ink {
        values: array::from_fn(|i| color.sample(channels[i], colorimetry, bits) as u16),
        alpha: color.alpha,
    }
}
