//! Pictures in every pixel format, and what preprocessing must make of them: slow and plain.

#[path = "../common/frames.rs"]
mod frames;

use gstrsdetectnet::frame::{Colorimetry, PixelFormat, SystemFrame, SystemFrameMut};
use gstrsdetectnet::preprocess::{
    ChannelOrder, InputGeometry, Placement, Preparation, ResizeMode, Shrinking, TensorLayout,
};

pub use frames::FORMATS;
use frames::{system_frame, system_frame_mut};

#[derive(Debug)]
pub struct Picture {
    format: PixelFormat,
    colorimetry: Colorimetry,
    width: usize,
    height: usize,
    /// Bytes and stride; the last row ends with its last used byte.
    planes: [(Vec<u8>, usize); 3],
}

/// Where a sample lies: plane, row of the plane, byte in the row.
/// Components are Y, U, V or R, G, B; column and row count the component's own samples.
fn locate(
    format: PixelFormat,
    component: usize,
    column: usize,
    row: usize,
) -> (usize, usize, usize) {
    use PixelFormat as F;
    let (plane, byte) = match (format, component) {
        (F::Nv12 | F::Nv21 | F::I420 | F::Gray8, 0) => (0, column),
        (F::Nv12, 1) | (F::Nv21, 2) => (1, 2 * column),
        (F::Nv12, 2) | (F::Nv21, 1) => (1, 2 * column + 1),
        (F::I420, _) => (component, column),
        (F::P010, 0) => (0, 2 * column),
        (F::P010, 1) => (1, 4 * column),
        (F::P010, 2) => (1, 4 * column + 2),
        (F::Yuy2, 0) => (0, 2 * column),
        (F::Yuy2, 1) => (0, 4 * column + 1),
        (F::Yuy2, 2) => (0, 4 * column + 3),
        (F::Uyvy, 0) => (0, 2 * column + 1),
        (F::Uyvy, 1) => (0, 4 * column),
        (F::Uyvy, 2) => (0, 4 * column + 2),
        (F::Rgb, _) => (0, 3 * column + component),
        (F::Bgr, _) => (0, 3 * column + 2 - component),
        (F::Rgba | F::Rgbx, _) => (0, 4 * column + component),
        (F::Bgra | F::Bgrx, _) => (0, 4 * column + 2 - component),
        (F::Argb | F::Xrgb, _) => (0, 4 * column + 1 + component),
        _ => unreachable!("{format:?} has no component {component}"),
    };
    (plane, row, byte)
}

impl Picture {
    pub fn new(
        format: PixelFormat,
        colorimetry: Colorimetry,
        width: usize,
        height: usize,
        slack: usize,
    ) -> Self {
        let planes = [0, 1, 2].map(|plane| {
            if plane >= format.planes() {
                return (Vec::new(), 0);
            }
            let (row, rows) = format.plane_size(plane, width, height);
            let stride = row + slack;
            (vec![0; stride * rows.saturating_sub(1) + row], stride)
        });
        Self {
            format,
            colorimetry,
            width,
            height,
            planes,
        }
    }

    /// A picture whose colour at pixel (x, y) is `rgb(x, y)`, 0 to 255, each component where its samples lie.
    pub fn drawn(
        format: PixelFormat,
        colorimetry: Colorimetry,
        width: usize,
        height: usize,
        rgb: impl Fn(f64, f64) -> [f64; 3],
    ) -> Self {
        let mut picture = Self::new(format, colorimetry, width, height, 5);
        let (halved_x, halved_y) = picture.chroma_halved();
        picture.fill(|component, column, row| {
            let (mut x, mut y) = (column as f64, row as f64);
            if component > 0 && halved_x {
                x *= 2.0;
            }
            if component > 0 && halved_y {
                y = 2.0 * y + 0.5;
            }
            let color = rgb(x, y);
            if format.is_yuv() {
                encode(format, colorimetry, color)[component]
            } else {
                color[component]
            }
        });
        picture
    }

    pub fn frame(&self) -> SystemFrame<'_> {
        let size = (self.width, self.height);
        system_frame(self.format, self.colorimetry, size, &self.planes)
    }

    /// The same to be drawn into.
    pub fn frame_mut(&mut self) -> SystemFrameMut<'_> {
        let size = (self.width, self.height);
        system_frame_mut(self.format, self.colorimetry, size, &mut self.planes)
    }

    /// The stored numbers of a component's samples in a rectangle of pixels: x, y, width and height.
    pub fn codes(&self, component: usize, [x, y, width, height]: [usize; 4]) -> Vec<f64> {
        let (halved_x, halved_y) = match component {
            0 => (false, false),
            _ => self.chroma_halved(),
        };
        let range = |start: usize, length: usize, halved: bool| match halved {
            true => start / 2..(start + length).div_ceil(2),
            false => start..start + length,
        };
        let columns = range(x, width, halved_x);
        range(y, height, halved_y)
            .flat_map(|row| columns.clone().map(move |column| (column, row)))
            .map(|(column, row)| self.code(component, column, row))
            .collect()
    }

    pub fn components(&self) -> usize {
        if self.format == PixelFormat::Gray8 {
            1
        } else {
            3
        }
    }

    fn chroma_halved(&self) -> (bool, bool) {
        let packed = matches!(self.format, PixelFormat::Yuy2 | PixelFormat::Uyvy);
        let yuv = self.format.is_yuv();
        (yuv, yuv && !packed)
    }

    fn size(&self, component: usize) -> (usize, usize) {
        let (halved_x, halved_y) = match component {
            0 => (false, false),
            _ => self.chroma_halved(),
        };
        let half = |size: usize, halved: bool| if halved { size.div_ceil(2) } else { size };
        (half(self.width, halved_x), half(self.height, halved_y))
    }

    /// Sets every sample; codes are rounded.
    pub fn fill(&mut self, code: impl Fn(usize, usize, usize) -> f64) {
        for component in 0..self.components() {
            let (columns, rows) = self.size(component);
            for row in 0..rows {
                for column in 0..columns {
                    let (plane, line, byte) = locate(self.format, component, column, row);
                    let (data, stride) = &mut self.planes[plane];
                    let target = &mut data[line * *stride + byte..];
                    let code = code(component, column, row).round();
                    if self.format == PixelFormat::P010 {
                        let word = (code.clamp(0.0, 1023.0) as u16) << 6;
                        target[..2].copy_from_slice(&word.to_le_bytes());
                    } else {
                        target[0] = code.clamp(0.0, 255.0) as u8;
                    }
                }
            }
        }
    }

    /// Fills every byte, also those that do not count.
    pub fn randomise(&mut self, seed: u64) {
        let mut state = seed | 1;
        for (data, _) in &mut self.planes {
            for byte in data {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                *byte = (state >> 32) as u8;
            }
        }
    }

    /// The stored number of a sample.
    fn code(&self, component: usize, column: usize, row: usize) -> f64 {
        let (plane, line, byte) = locate(self.format, component, column, row);
        let (data, stride) = &self.planes[plane];
        let source = &data[line * stride + byte..];
        match self.format {
            PixelFormat::P010 => f64::from(u16::from_le_bytes([source[0], source[1]]) >> 6),
            _ => f64::from(source[0]),
        }
    }

    /// A component over an area given in its own samples.
    fn sampled(&self, component: usize, x: Extent, y: Extent) -> f64 {
        let (columns, rows) = self.size(component);
        if let (Extent::At(x), Extent::At(y)) = (x, y) {
            return self.interpolated(component, fixed_column(x, columns), fixed_row(y, rows))
                as f64;
        }
        let columns = x.shares(columns);
        let row = |row| -> f64 {
            let samples = columns.iter();
            samples
                .map(|(column, share)| share * self.code(component, *column, row))
                .sum()
        };
        let rows = y.shares(rows).into_iter();
        rows.map(|(index, share)| share * row(index)).sum()
    }

    /// A component between two columns and two rows, in whole numbers: what OpenCV's `resize` does with INTER_LINEAR,
    /// and the like for ten bits.
    fn interpolated(
        &self,
        component: usize,
        columns: [(usize, i64); 2],
        rows: [(usize, i64); 2],
    ) -> i64 {
        let (columns_shift, rows_shift) = match self.format {
            PixelFormat::P010 => (5, 1),
            _ => (4, 2),
        };
        let weighted = |(row, weight): (usize, i64)| {
            let code = |column| self.code(component, column, row) as i64;
            let sum: i64 = columns
                .iter()
                .map(|(column, weight)| weight * code(*column))
                .sum();
            (weight * (sum >> columns_shift)) >> 16
        };
        let sum: i64 = rows.into_iter().map(weighted).sum();
        (sum + (1 << (rows_shift - 1))) >> rows_shift
    }

    /// The colour over an area given in pixels, 0 to 255.
    fn color(&self, x: Extent, y: Extent) -> [f64; 3] {
        if self.format == PixelFormat::Gray8 {
            let luma = self.sampled(0, x, y);
            return decode(self.format, self.colorimetry, [luma, 128.0, 128.0]);
        }
        let (halved_x, halved_y) = self.chroma_halved();
        let chroma_x = if halved_x { x.map(|x| x / 2.0) } else { x };
        let chroma_y = match halved_y {
            true => y.map(|y| (y - 0.5) / 2.0),
            false => y,
        };
        let codes = [
            self.sampled(0, x, y),
            self.sampled(1, chroma_x, chroma_y),
            self.sampled(2, chroma_x, chroma_y),
        ];
        if self.format.is_yuv() {
            decode(self.format, self.colorimetry, codes)
        } else {
            codes
        }
    }
}

/// The sample before a place, and the weights of this and the next one in parts of 2048.
fn fixed_weights(place: f64) -> (i64, [i64; 2]) {
    let place = place as f32;
    let before = place.floor();
    let after = place - before;
    let weight = |part: f32| f64::from(part * 2048.0).round_ties_even() as i64;
    (before as i64, [weight(1.0 - after), weight(after)])
}

/// Outside of a row there is only the sample at its end.
fn fixed_column(place: f64, columns: usize) -> [(usize, i64); 2] {
    let (before, [left, right]) = fixed_weights(place);
    let last = columns as i64 - 1;
    match before {
        _ if before < 0 => [(0, 2048), (0, 0)],
        _ if before >= last => [(columns - 1, 2048), (columns - 1, 0)],
        _ => [(before as usize, left), (before as usize + 1, right)],
    }
}

/// Outside of a column both samples are that at its end, each with its weight.
fn fixed_row(place: f64, rows: usize) -> [(usize, i64); 2] {
    let (before, [upper, lower]) = fixed_weights(place);
    let within = |row: i64| row.clamp(0, rows as i64 - 1) as usize;
    [(within(before), upper), (within(before + 1), lower)]
}

/// What a pixel of the tensor takes of one axis, in samples that lie at whole numbers.
#[derive(Clone, Copy)]
enum Extent {
    /// What lies at a place.
    At(f64),
    /// The mean of all that lies between two places.
    Between(f64, f64),
}

impl Extent {
    fn of_pixel(pixel: usize, samples: usize, placed: usize, shrinking: Shrinking) -> Self {
        let place = |at: f64| at * samples as f64 / placed as f64 - 0.5;
        let pixel = pixel as f64;
        match shrinking == Shrinking::Average && samples as f64 / placed as f64 > 2.0 {
            true => Self::Between(place(pixel), place(pixel + 1.0)),
            // As OpenCV computes it.
            false => Self::At((pixel + 0.5) * (1.0 / (placed as f64 / samples as f64)) - 0.5),
        }
    }

    fn map(self, place: impl Fn(f64) -> f64) -> Self {
        match self {
            Self::At(at) => Self::At(place(at)),
            Self::Between(begin, end) => Self::Between(place(begin), place(end)),
        }
    }

    /// Samples and their shares; those at the edges hold beyond them for a place, and not for a mean.
    fn shares(self, samples: usize) -> Vec<(usize, f64)> {
        let last = (samples - 1) as f64;
        match self {
            Self::At(at) => {
                let at = at.clamp(0.0, last);
                let (first, fraction) = (at.floor() as usize, at.fract());
                let second = (first + 1).min(samples - 1);
                vec![(first, 1.0 - fraction), (second, fraction)]
            }
            Self::Between(begin, end) => {
                let (begin, end) = (begin.max(-0.5), end.min(last + 0.5));
                let covered = begin.max(0.0) as usize..=(end.ceil() as usize).min(samples - 1);
                covered
                    .map(|sample| {
                        let middle = sample as f64;
                        let length = end.min(middle + 0.5) - begin.max(middle - 0.5);
                        (sample, length / (end - begin))
                    })
                    .filter(|(_, share)| *share > 0.0)
                    .collect()
            }
        }
    }
}

/// Black, span of luma, neutral and span of chroma, in codes.
fn quantisation(format: PixelFormat, colorimetry: Colorimetry) -> [f64; 4] {
    match (format, colorimetry.full_range) {
        (PixelFormat::P010, false) => [64.0, 876.0, 512.0, 896.0],
        (PixelFormat::P010, true) => [0.0, 1023.0, 512.0, 1023.0],
        (_, false) => [16.0, 219.0, 128.0, 224.0],
        (_, true) => [0.0, 255.0, 128.0, 255.0],
    }
}

fn weights(colorimetry: Colorimetry) -> [f64; 3] {
    let (red, blue) = colorimetry.matrix.luma_weights();
    let (red, blue) = (f64::from(red), f64::from(blue));
    [red, 1.0 - red - blue, blue]
}

/// RGB, 0 to 255, as codes of Y, U, V.
fn encode(format: PixelFormat, colorimetry: Colorimetry, rgb: [f64; 3]) -> [f64; 3] {
    let [black, luma_span, neutral, chroma_span] = quantisation(format, colorimetry);
    let [kr, kg, kb] = weights(colorimetry);
    let [r, g, b] = rgb.map(|value| value / 255.0);
    let luma = kr * r + kg * g + kb * b;
    [
        black + luma_span * luma,
        neutral + chroma_span * (b - luma) / (2.0 * (1.0 - kb)),
        neutral + chroma_span * (r - luma) / (2.0 * (1.0 - kr)),
    ]
}

/// Codes of Y, U, V as RGB, 0 to 255, clamped.
fn decode(format: PixelFormat, colorimetry: Colorimetry, [y, u, v]: [f64; 3]) -> [f64; 3] {
    let [black, luma_span, neutral, chroma_span] = quantisation(format, colorimetry);
    let [kr, kg, kb] = weights(colorimetry);
    let luma = (y - black) / luma_span;
    let red = luma + 2.0 * (1.0 - kr) * (v - neutral) / chroma_span;
    let blue = luma + 2.0 * (1.0 - kb) * (u - neutral) / chroma_span;
    let green = (luma - kr * red - kb * blue) / kg;
    [red, green, blue].map(|value| (255.0 * value).clamp(0.0, 255.0))
}

/// The tensor that the rules of preprocessing ask for.
pub fn reference(
    picture: &Picture,
    input: InputGeometry,
    preparation: &Preparation,
    shrinking: Shrinking,
) -> Vec<f64> {
    let placement = Placement::new(preparation.resize, input, picture.width, picture.height);
    let mut tensor = vec![f64::NAN; 3 * input.width * input.height];
    for row in 0..input.height {
        for column in 0..input.width {
            let x = column.wrapping_sub(placement.left);
            let y = row.wrapping_sub(placement.top);
            let mut color = if x < placement.width && y < placement.height {
                picture.color(
                    Extent::of_pixel(x, picture.width, placement.width, shrinking),
                    Extent::of_pixel(y, picture.height, placement.height, shrinking),
                )
            } else {
                match preparation.resize {
                    ResizeMode::Letterbox { fill, .. } => [f64::from(fill); 3],
                    _ => {
                        unreachable!("a stretched picture fills the input")
                    }
                }
            };
            if preparation.order == ChannelOrder::Bgr {
                color.reverse();
            }
            for (channel, value) in color.into_iter().enumerate() {
                let pixel = row * input.width + column;
                let index = match input.layout {
                    TensorLayout::Nchw => channel * input.width * input.height + pixel,
                    TensorLayout::Nhwc => 3 * pixel + channel,
                };
                let (mean, scale) = (preparation.mean[channel], preparation.scale[channel]);
                tensor[index] = (value - f64::from(mean)) * f64::from(scale);
            }
        }
    }
    tensor
}
