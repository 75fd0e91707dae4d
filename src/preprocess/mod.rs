//! From a frame's own pixels straight into the network's input tensor, in one pass.
//!
//! The rules are the same on every processor: bilinear interpolation with half-pixel centres on the
//! samples as they are stored (chroma in its own, horizontally co-sited and vertically centred grid, as
//! MPEG-2 and H.264 place it by default), then the colour matrix, then `(value - mean) * scale`.

pub mod cpu;

use crate::detection::BoundingBox;

/// How a frame is made to fit the network's input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ResizeMode {
    /// Both axes fill the input; the aspect ratio is lost.
    Stretch,
    /// The aspect ratio is kept; what remains free is filled with this grey, 0 to 255.
    Letterbox { fill: u8, anchor: Anchor },
}

/// Where a letterboxed frame lies within the network's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    Center,
    TopLeft,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelOrder {
    Rgb,
    Bgr,
}

/// What a model wants done to pixels before it sees them: `(value - mean) * scale`, with `value`
/// 0 to 255 and the entries of `mean` and `scale` in the order of the tensor's channels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preparation {
    pub resize: ResizeMode,
    pub order: ChannelOrder,
    pub mean: [f32; 3],
    pub scale: [f32; 3],
}

/// Order of the axes of the input tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorLayout {
    Nchw,
    Nhwc,
}

/// The network's input, seen as an image: width and height in pixels, three channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputGeometry {
    pub width: usize,
    pub height: usize,
    pub layout: TensorLayout,
}

/// Where a frame lies within the network's input, and so how boxes find back into the frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placement {
    /// Left and top of the frame's picture in the input, in pixels of the input.
    pub left: usize,
    pub top: usize,
    /// Size of the frame's picture in the input, in pixels of the input; at least 1x1.
    pub width: usize,
    pub height: usize,
    /// Size of the frame in its own pixels.
    pub frame_width: usize,
    pub frame_height: usize,
}

impl Placement {
    pub fn new(
        resize: ResizeMode,
        input: InputGeometry,
        frame_width: usize,
        frame_height: usize,
    ) -> Self {
        let (width, height, anchor) = match resize {
            ResizeMode::Stretch => (input.width, input.height, Anchor::TopLeft),
            ResizeMode::Letterbox { anchor, .. } => {
                let ratio = (input.width as f64 / frame_width as f64)
                    .min(input.height as f64 / frame_height as f64);
                let fit = |size: usize, limit: usize| {
                    ((size as f64 * ratio).round() as usize).clamp(1, limit)
                };
                (
                    fit(frame_width, input.width),
                    fit(frame_height, input.height),
                    anchor,
                )
            }
        };
        let (left, top) = match anchor {
            Anchor::TopLeft => (0, 0),
            Anchor::Center => ((input.width - width) / 2, (input.height - height) / 2),
        };
        Self {
            left,
            top,
            width,
            height,
            frame_width,
            frame_height,
        }
    }

    /// Pixels of the frame for one pixel of the input, horizontally and vertically.
    pub fn frame_pixels_per_input_pixel(&self) -> (f32, f32) {
        (
            self.frame_width as f32 / self.width as f32,
            self.frame_height as f32 / self.height as f32,
        )
    }

    /// A box in pixels of the network's input as a box in pixels of the frame, not clipped.
    pub fn to_frame(&self, input: BoundingBox) -> BoundingBox {
        let (x, y) = self.frame_pixels_per_input_pixel();
        BoundingBox {
            x: (input.x - self.left as f32) * x,
            y: (input.y - self.top as f32) * y,
            width: input.width * x,
            height: input.height * y,
        }
    }

    /// A box in pixels of the frame as a box in pixels of the network's input.
    pub fn to_input(&self, frame: BoundingBox) -> BoundingBox {
        let (x, y) = self.frame_pixels_per_input_pixel();
        BoundingBox {
            x: frame.x / x + self.left as f32,
            y: frame.y / y + self.top as f32,
            width: frame.width / x,
            height: frame.height / y,
        }
    }
}
