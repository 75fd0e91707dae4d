//! From a frame's own pixels straight into the network's input tensor, in one pass.
//!
//! The rules are the same on every processor:
//! 1. The centre of the picture's pixel `x` lies at column `u = (x + 0.5) * scale - 0.5` of the frame's pixels, with
//!    `scale = 1 / (placement.width / frame_width)`, and row `v` is found likewise ([`Placement::frame_column`],
//!    [`Placement::frame_row`]).
//! 2. Each component is interpolated in its own grid of samples, as they are stored. Luma, grey and RGB samples
//!    lie at `(u, v)`. Chroma lies at column `u / 2` (co-sited with every second pixel) and, where it also has half
//!    the rows (4:2:0), at row `(v - 0.5) / 2` (between two rows): where MPEG-2 and H.264 place it by default.
//!    A grid has half the columns or rows of the frame, rounded up.
//! 3. Between samples of 8 bits, numbers are those of OpenCV's `resize` with `INTER_LINEAR`, bit by bit
//!    (`modules/imgproc/src/resize.cpp`: `HResizeLinear` and `VResizeLinear` of fixed point), which most networks were
//!    trained and are measured with. A coordinate `p` of a grid, rounded to 32 bits, lies between the samples at
//!    `floor(p)` and the next one; of the fraction `f` come their weights `2048 * (1 - f)` and `2048 * f`, each rounded
//!    to the nearest whole number, halves to even. First between columns, `s = (w0 * left + w1 * right) >> 4`; then
//!    between rows, `((w0 * upper >> 16) + (w1 * lower >> 16) + 2) >> 2`. Left of the first column, and from the last
//!    one on, that column's sample has the weight 2048 alone; rows beyond the edges are the edge's, with their weights.
//!    Samples of 10 bits stay such: `>> 5` between columns, and `+ 1) >> 1` in the end. Only rule 6 filters more when
//!    downscaling.
//! 4. [`color::ColorTransform`] makes RGB of the interpolated samples, each operation rounded to 32 bits, and each of
//!    R, G, B is clamped to 0..255. RGB formats are taken as they are; alpha and padding bytes do not count.
//! 5. The tensor's channel `c`, in the order of [`Preparation::order`], is `(value - mean[c]) * scale[c]`; around
//!    the picture it is `(fill - mean[c]) * scale[c]`. Tensors of integers are rounded to nearest, halves to even,
//!    and saturate.
//! 6. With [`Shrinking::Average`], an axis on which the frame has more than twice the pixels of its picture in the
//!    tensor takes, instead of rule 3, the mean of all samples under the picture's pixel. The pixel `x` reaches from
//!    column `x * frame_width / placement.width - 0.5` of the frame's pixels to that of `x + 1`, and rows likewise
//!    ([`Placement::frame_column_edge`], [`Placement::frame_row_edge`]). Rule 2 takes both edges into each grid, as
//!    it does with centres; there they are clamped to `-0.5..=n - 0.5`. Sample `i` reaches from `i - 0.5` to
//!    `i + 0.5`, and its weight is the part of the length between the edges that it covers. The other axis, if it is
//!    not averaged too, has the two samples of rule 3 with the weights `1 - f` and `f`, not rounded.
//!
//! Numbers that are not whole have 32 bits, except coordinates, which have 64 until rule 3 rounds them. So tensors of
//! rules 1 to 5 are equal bit by bit, whatever computes them; those of rule 6 nearly. (GPUs compute a coordinate in two
//! numbers of 32 bits. Where a frame has more than 8192 pixels on an axis, or its picture 2048 or more, one that is
//! just between two numbers of 32 bits may become the other one there.)

pub mod color;
pub mod cpu;
pub mod cuda;

use crate::detection::BoundingBox;

/// How a frame is made to fit the network's input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ResizeMode {
    /// Both axes fill the input; the aspect ratio is lost.
    Stretch,
    /// The aspect ratio is kept; the input shows the middle of the frame. Who calls cuts that out
    /// ([`crate::region`]): what remains fills the input on both axes.
    Crop,
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

/// How a frame is sampled where it is larger than its picture in the network's input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shrinking {
    /// Between the nearest two samples of each axis, however many lie under a pixel.
    #[default]
    Bilinear,
    /// On an axis that shrinks to less than half, the mean of all samples under a pixel.
    Average,
}

impl Shrinking {
    /// Whether an axis with so many pixels in the frame and in its picture is averaged.
    pub fn averages(self, frame: usize, placed: usize) -> bool {
        self == Self::Average && frame > 2 * placed
    }
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

/// Pixels of an axis of the frame for one of its picture, rounded as OpenCV does: from the inverse.
fn scale(frame: usize, placed: usize) -> f64 {
    1.0 / (placed as f64 / frame as f64)
}

/// Where the centre of a pixel of the picture lies on an axis of the frame; pixels are at whole numbers.
pub(crate) fn scaled(pixel: f64, frame: usize, placed: usize) -> f64 {
    (pixel + 0.5) * scale(frame, placed) - 0.5
}

impl Placement {
    /// For an image that shows no frame.
    pub const NONE: Self = Self {
        left: 0,
        top: 0,
        width: 1,
        height: 1,
        frame_width: 1,
        frame_height: 1,
    };

    pub fn new(
        resize: ResizeMode,
        input: InputGeometry,
        frame_width: usize,
        frame_height: usize,
    ) -> Self {
        let (width, height, anchor) = match resize {
            ResizeMode::Stretch | ResizeMode::Crop => (input.width, input.height, Anchor::TopLeft),
            ResizeMode::Letterbox { anchor, .. } => {
                let ratio = (input.width as f64 / frame_width as f64)
                    .min(input.height as f64 / frame_height as f64);
                let fit = |size: usize, limit: usize| {
                    ((size as f64 * ratio).round_ties_even() as usize).clamp(1, limit.max(1))
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
            Anchor::Center => (
                input.width.saturating_sub(width) / 2,
                input.height.saturating_sub(height) / 2,
            ),
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

    /// The column of the frame's pixels at the centre of the picture's column `x`; pixels are at whole numbers.
    pub fn frame_column(&self, x: usize) -> f64 {
        scaled(x as f64, self.frame_width, self.width)
    }

    /// The row of the frame's pixels at the centre of the picture's row `y`; pixels are at whole numbers.
    pub fn frame_row(&self, y: usize) -> f64 {
        scaled(y as f64, self.frame_height, self.height)
    }

    /// The column of the frame's pixels at the left edge of the picture's column `x`; pixels are at whole numbers.
    pub fn frame_column_edge(&self, x: usize) -> f64 {
        x as f64 * self.frame_width as f64 / self.width as f64 - 0.5
    }

    /// The row of the frame's pixels at the upper edge of the picture's row `y`; pixels are at whole numbers.
    pub fn frame_row_edge(&self, y: usize) -> f64 {
        y as f64 * self.frame_height as f64 / self.height as f64 - 0.5
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
