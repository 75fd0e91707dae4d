//! A frame of noise, and what preprocessing must make of it: plain loops, in whole numbers where the rules have them
//! and else in double precision.

#[path = "../common/frames.rs"]
pub mod frames;

use gstrsdetectnet::frame::{
    Colorimetry, DeviceFrame, DevicePlane, DeviceStorage, PixelFormat, SystemFrame,
};
use gstrsdetectnet::preprocess::Placement;

pub use frames::FORMATS;
use frames::system_frame;

use crate::machine::Machine;
use crate::random::Random;

pub struct Picture {
    pub format: PixelFormat,
    pub colorimetry: Colorimetry,
    pub width: usize,
    pub height: usize,
    planes: Vec<(Vec<u8>, usize)>,
}

impl Picture {
    /// `padding` bytes, a multiple of 4, follow each row.
    pub fn noise(
        format: PixelFormat,
        colorimetry: Colorimetry,
        (width, height): (usize, usize),
        padding: usize,
    ) -> Self {
        let mut random = Random::new((width * 1000 + height) as u64);
        let planes = (0..format.planes())
            .map(|plane| {
                let (row, rows) = format.plane_size(plane, width, height);
                let pitch = row.next_multiple_of(4) + padding;
                (random.bytes(pitch * rows), pitch)
            })
            .collect();
        Self {
            format,
            colorimetry,
            width,
            height,
            planes,
        }
    }

    /// Every byte is this one.
    pub fn plain(
        format: PixelFormat,
        colorimetry: Colorimetry,
        size: (usize, usize),
        byte: u8,
    ) -> Self {
        let mut picture = Self::noise(format, colorimetry, size, 0);
        (picture.planes.iter_mut()).for_each(|(data, _)| data.fill(byte));
        picture
    }

    /// The frame in linear memory of a machine.
    pub fn linear(&self, machine: &impl Machine) -> DeviceFrame {
        let mut planes = [DevicePlane::default(); 3];
        for (plane, (data, pitch)) in planes.iter_mut().zip(&self.planes) {
            *plane = DevicePlane {
                pointer: machine.upload(data),
                pitch: *pitch,
            };
        }
        self.frame(DeviceStorage::Pitch, planes)
    }

    /// The frame as textures of a machine.
    pub fn textures(&self, machine: &impl Machine) -> DeviceFrame {
        let mut objects = [DevicePlane::default(); 3];
        for (plane, object) in objects.iter_mut().enumerate().take(self.planes.len()) {
            let (channels, bytes) = match (self.format, plane) {
                (PixelFormat::P010, _) => (plane + 1, 2),
                (PixelFormat::Nv12 | PixelFormat::Nv21, _) => (plane + 1, 1),
                (PixelFormat::Yuy2 | PixelFormat::Uyvy, _) => (2, 1),
                (PixelFormat::I420 | PixelFormat::Gray8, _) => (1, 1),
                _ => (4, 1),
            };
            let texels = self.texels(plane);
            let (_, rows) = self.format.plane_size(plane, self.width, self.height);
            let width = texels.len() / rows / channels / bytes;
            object.pointer = machine.texture(&texels, width, rows, channels, bytes);
        }
        self.frame(DeviceStorage::Texture, objects)
    }

    /// The frame in this process's own memory.
    pub fn system(&self) -> SystemFrame<'_> {
        let size = (self.width, self.height);
        system_frame(self.format, self.colorimetry, size, &self.planes)
    }

    /// The bytes of each plane, and from one row to the next.
    pub fn planes(&self) -> &[(Vec<u8>, usize)] {
        &self.planes
    }

    fn frame(&self, storage: DeviceStorage, planes: [DevicePlane; 3]) -> DeviceFrame {
        DeviceFrame {
            format: self.format,
            colorimetry: self.colorimetry,
            width: self.width,
            height: self.height,
            storage,
            planes,
        }
    }

    /// A plane without gaps between rows, and three channels as four.
    fn texels(&self, plane: usize) -> Vec<u8> {
        let (data, pitch) = &self.planes[plane];
        let (row, _) = self.format.plane_size(plane, self.width, self.height);
        let rows = data.chunks(*pitch).flat_map(|r| &r[..row]).copied();
        if !matches!(self.format, PixelFormat::Rgb | PixelFormat::Bgr) {
            return rows.collect();
        }
        let rows: Vec<u8> = rows.collect();
        rows.chunks(3)
            .flat_map(|p| [p[0], p[1], p[2], 77])
            .collect()
    }

    fn byte(&self, plane: usize, column: usize, row: usize) -> f64 {
        let (data, pitch) = &self.planes[plane];
        f64::from(data[row * pitch + column])
    }

    fn ten_bits(&self, plane: usize, column: usize, row: usize) -> f64 {
        let high = self.byte(plane, 2 * column + 1, row);
        let low = (self.byte(plane, 2 * column, row) / 64.0).floor();
        high * 4.0 + low
    }

    fn luma(&self, x: usize, y: usize) -> f64 {
        match self.format {
            PixelFormat::P010 => self.ten_bits(0, x, y),
            PixelFormat::Yuy2 => self.byte(0, 2 * x, y),
            PixelFormat::Uyvy => self.byte(0, 2 * x + 1, y),
            _ => self.byte(0, x, y),
        }
    }

    fn chroma(&self, x: usize, y: usize) -> [f64; 2] {
        match self.format {
            PixelFormat::Nv12 => [self.byte(1, 2 * x, y), self.byte(1, 2 * x + 1, y)],
            PixelFormat::Nv21 => [self.byte(1, 2 * x + 1, y), self.byte(1, 2 * x, y)],
            PixelFormat::I420 => [self.byte(1, x, y), self.byte(2, x, y)],
            PixelFormat::P010 => [self.ten_bits(1, 2 * x, y), self.ten_bits(1, 2 * x + 1, y)],
            PixelFormat::Yuy2 => [self.byte(0, 4 * x + 1, y), self.byte(0, 4 * x + 3, y)],
            _ => [self.byte(0, 4 * x, y), self.byte(0, 4 * x + 2, y)],
        }
    }

    fn rgb(&self, x: usize, y: usize) -> [f64; 3] {
        let (size, red, green, blue) = match self.format {
            PixelFormat::Rgb => (3, 0, 1, 2),
            PixelFormat::Bgr => (3, 2, 1, 0),
            PixelFormat::Rgba | PixelFormat::Rgbx => (4, 0, 1, 2),
            PixelFormat::Bgra | PixelFormat::Bgrx => (4, 2, 1, 0),
            _ => (4, 1, 2, 3),
        };
        [red, green, blue].map(|channel| self.byte(0, size * x + channel, y))
    }

    /// Red, green and blue, 0 to 255, of a pixel of the frame's picture in the tensor.
    pub fn pixel(&self, placement: &Placement, x: usize, y: usize, average: bool) -> [f64; 3] {
        let h = Axis::new(x, self.width, placement.width, average);
        let v = Axis::new(y, self.height, placement.height, average);
        let depth = match self.format {
            PixelFormat::P010 => 10,
            _ => 8,
        };
        if !self.format.is_yuv() && self.format != PixelFormat::Gray8 {
            return mix(&h, &v, (self.width, self.height), depth, |x, y| {
                self.rgb(x, y)
            });
        }
        let [luma] = mix(&h, &v, (self.width, self.height), depth, |x, y| {
            [self.luma(x, y)]
        });
        let packed = matches!(self.format, PixelFormat::Yuy2 | PixelFormat::Uyvy);
        let (chroma_v, chroma_height) = if packed {
            (v, self.height)
        } else {
            (v.halved(0.5), self.height.div_ceil(2))
        };
        let chroma = self.format.is_yuv().then(|| {
            let chroma_width = self.width.div_ceil(2);
            let size = (chroma_width, chroma_height);
            mix(&h.halved(0.0), &chroma_v, size, depth, |x, y| {
                self.chroma(x, y)
            })
        });
        self.convert(luma, chroma)
    }

    /// H.273 section 8.3.
    fn convert(&self, luma: f64, chroma: Option<[f64; 2]>) -> [f64; 3] {
        let ten_bits = self.format == PixelFormat::P010;
        let (unit, full) = if ten_bits {
            (4.0, 1023.0)
        } else {
            (1.0, 255.0)
        };
        let (y, range) = if self.colorimetry.full_range {
            (luma / full, full)
        } else {
            ((luma - 16.0 * unit) / (219.0 * unit), 224.0 * unit)
        };
        let [pb, pr] = chroma.map_or([0.0; 2], |c| c.map(|c| (c - 128.0 * unit) / range));
        let (kr, kb) = self.colorimetry.matrix.luma_weights();
        let (kr, kb) = (f64::from(kr), f64::from(kb));
        let red = y + 2.0 * (1.0 - kr) * pr;
        let blue = y + 2.0 * (1.0 - kb) * pb;
        let green = (y - kr * red - kb * blue) / (1.0 - kr - kb);
        [red, green, blue].map(|c| (c * 255.0).clamp(0.0, 255.0))
    }
}

/// What an output pixel covers on one axis, in samples: its middle, and the edges if it is averaged.
#[derive(Clone, Copy)]
struct Axis {
    centre: f64,
    edges: Option<(f64, f64)>,
}

impl Axis {
    fn new(output: usize, samples: usize, placed: usize, average: bool) -> Self {
        let step = samples as f64 / placed as f64;
        let at = output as f64;
        Self {
            // As OpenCV computes it.
            centre: (at + 0.5) * (1.0 / (placed as f64 / samples as f64)) - 0.5,
            edges: (average && samples > 2 * placed).then_some((at * step, (at + 1.0) * step)),
        }
    }

    /// In a grid of half as many samples, of which the first lies at `first` of this one.
    fn halved(&self, first: f64) -> Self {
        let edge = |edge: f64| (edge - 0.5 - first) / 2.0 + 0.5;
        let half = |edges: (f64, f64)| {
            let (middle, extent) = ((edges.0 + edges.1) / 2.0, (edges.1 - edges.0) / 2.0);
            (edge(middle) - extent / 2.0, edge(middle) + extent / 2.0)
        };
        Self {
            centre: (self.centre - first) / 2.0,
            edges: self.edges.map(half),
        }
    }

    /// Samples and their shares.
    fn shares(&self, samples: usize) -> Vec<(usize, f64)> {
        let limit = samples as f64;
        let Some((begin, end)) = self.edges else {
            let centre = self.centre.clamp(0.0, limit - 1.0);
            let first = centre.floor();
            let next = (first + 1.0).min(limit - 1.0);
            let fraction = centre - first;
            return vec![(first as usize, 1.0 - fraction), (next as usize, fraction)];
        };
        let (begin, end) = (begin.max(0.0), end.min(limit));
        (0..samples)
            .map(|i| {
                let covered = end.min(i as f64 + 1.0) - begin.max(i as f64);
                (i, covered / (end - begin))
            })
            .filter(|(_, share)| *share > 0.0)
            .collect()
    }
}

fn mix<const N: usize>(
    h: &Axis,
    v: &Axis,
    (width, height): (usize, usize),
    depth: u32,
    fetch: impl Fn(usize, usize) -> [f64; N],
) -> [f64; N] {
    let mut sum = [0.0; N];
    if h.edges.is_none() && v.edges.is_none() {
        for (channel, sum) in sum.iter_mut().enumerate() {
            let code = |x, y| fetch(x, y)[channel] as u32;
            *sum = f64::from(fixed_point(
                h.centre,
                v.centre,
                (width, height),
                depth,
                code,
            ));
        }
        return sum;
    }
    for (y, share_y) in v.shares(height) {
        for (x, share_x) in h.shares(width) {
            for (sum, value) in sum.iter_mut().zip(fetch(x, y)) {
                *sum += share_x * share_y * value;
            }
        }
    }
    sum
}

/// What OpenCV's `resize` gives for samples of 8 bits, and the like for those of 10: a sum with weights of 11 bits is
/// cut to 15 bits, or 16; of the next, the upper half is 2 bits, or 1, longer than a sample.
fn fixed_point(
    column: f64,
    row: f64,
    (width, height): (usize, usize),
    depth: u32,
    code: impl Fn(usize, usize) -> u32,
) -> u32 {
    let (cut, rest) = if depth == 8 { (4, 2) } else { (5, 1) };
    let split = |at: f64| {
        let at = at as f32;
        let weight = |part: f32| (part * 2048.0).round_ties_even() as u32;
        let fraction = at - at.floor();
        (at.floor() as i64, weight(1.0 - fraction), weight(fraction))
    };
    let (left, left_weight, right_weight) = split(column);
    let (top, top_weight, bottom_weight) = split(row);
    let line = |row: i64| {
        let y = row.clamp(0, height as i64 - 1) as usize;
        let sum = match usize::try_from(left) {
            Err(_) => 2048 * code(0, y),
            Ok(x) if x + 1 >= width => 2048 * code(width - 1, y),
            Ok(x) => left_weight * code(x, y) + right_weight * code(x + 1, y),
        };
        sum >> cut
    };
    let upper_half = |weight: u32, row: i64| (weight * line(row)) >> 16;
    let sum = upper_half(top_weight, top) + upper_half(bottom_weight, top + 1);
    (sum + (1 << (rest - 1))) >> rest
}
