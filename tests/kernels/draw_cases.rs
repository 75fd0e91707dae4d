//! Drawing on a machine against the rules applied to one stored sample after the other.

use gstrsdetectnet::frame::{Colorimetry, PixelFormat};
use gstrsdetectnet::overlay::draw::{Canvas, Ink, Primitive};

use crate::machine::Machine;
use crate::picture::{FORMATS, Picture};
use crate::random::Random;

/// Rows of the masks.
const MASK_ROWS: usize = 40;

/// What is drawn, before it becomes a primitive.
struct Shape {
    left: i32,
    top: i32,
    width: u32,
    height: u32,
    /// First row, and how many pixels of the frame one of its pixels is wide.
    mask: Option<(usize, u32)>,
    ink: Ink,
}

impl Shape {
    fn random(random: &mut Random, format: PixelFormat) -> Self {
        let peak = if format == PixelFormat::P010 {
            1024
        } else {
            256
        };
        let scale = 1 + random.below(3) as u32;
        let alpha = [255, 255, 128, 90, 3, 0][random.below(6)];
        let masked = random.below(2) == 0;
        Self {
            left: random.below(90) as i32 - 15,
            top: random.below(60) as i32 - 15,
            width: if masked { 11 } else { random.below(40) as u32 },
            height: if masked { 9 } else { random.below(30) as u32 },
            mask: masked.then(|| (random.below(MASK_ROWS - 9), scale)),
            ink: Ink {
                values: [0; 3].map(|_| random.below(peak) as u16),
                alpha,
            },
        }
    }

    fn primitive(&self) -> Primitive {
        let (size, place) = ((self.width, self.height), (self.left, self.top));
        match self.mask {
            None => Primitive::fill(self.left, self.top, self.width, self.height, self.ink),
            Some((row, scale)) => Primitive::mask(place, row as u32, size, scale, self.ink),
        }
    }

    fn covers(&self, x: usize, y: usize, masks: &[u16]) -> bool {
        let (column, row) = (x as i32 - self.left, y as i32 - self.top);
        let scale = self.mask.map_or(1, |(_, scale)| scale as i32);
        let (column, row) = (column.div_euclid(scale), row.div_euclid(scale));
        let within =
            (0..self.width as i32).contains(&column) && (0..self.height as i32).contains(&row);
        within
            && self
                .mask
                .is_none_or(|(first, _)| masks[first + row as usize] >> column & 1 == 1)
    }
}

/// A stored value: where it lies, the pixels it stands for, and which of an ink's values it takes.
struct Sample {
    plane: usize,
    offset: usize,
    pixels: Vec<(usize, usize)>,
    channel: usize,
}

/// Samples of a plane: `size` bytes for every `step` pixels, in which each part begins at a byte and takes a value.
fn samples(
    picture: &Picture,
    plane: usize,
    size: usize,
    step: (usize, usize),
    parts: &[(usize, usize)],
) -> Vec<Sample> {
    let pitch = picture.planes()[plane].1;
    let (width, height) = (picture.width, picture.height);
    let mut samples = Vec::new();
    for row in 0..height.div_ceil(step.1) {
        for column in 0..width.div_ceil(step.0) {
            let xs = column * step.0..((column + 1) * step.0).min(width);
            let ys = row * step.1..((row + 1) * step.1).min(height);
            let pixels: Vec<_> = ys.flat_map(|y| xs.clone().map(move |x| (x, y))).collect();
            for &(part, channel) in parts {
                samples.push(Sample {
                    plane,
                    offset: row * pitch + column * size + part,
                    pixels: pixels.clone(),
                    channel,
                });
            }
        }
    }
    samples
}

const ALPHA: usize = 3;

fn all_samples(picture: &Picture) -> Vec<Sample> {
    let of =
        |plane, size, step, parts: &[(usize, usize)]| samples(picture, plane, size, step, parts);
    let (full, half, wide) = ((1, 1), (2, 2), (2, 1));
    match picture.format {
        PixelFormat::Nv12 => vec![of(0, 1, full, &[(0, 0)]), of(1, 2, half, &[(0, 1), (1, 2)])],
        PixelFormat::Nv21 => vec![of(0, 1, full, &[(0, 0)]), of(1, 2, half, &[(0, 2), (1, 1)])],
        PixelFormat::P010 => vec![of(0, 2, full, &[(0, 0)]), of(1, 4, half, &[(0, 1), (2, 2)])],
        PixelFormat::Yuy2 => vec![of(0, 2, full, &[(0, 0)]), of(0, 4, wide, &[(1, 1), (3, 2)])],
        PixelFormat::Uyvy => vec![of(0, 2, full, &[(1, 0)]), of(0, 4, wide, &[(0, 1), (2, 2)])],
        PixelFormat::I420 => {
            let luma = of(0, 1, full, &[(0, 0)]);
            vec![luma, of(1, 1, half, &[(0, 1)]), of(2, 1, half, &[(0, 2)])]
        }
        PixelFormat::Rgb => vec![of(0, 3, full, &[(0, 0), (1, 1), (2, 2)])],
        PixelFormat::Bgr => vec![of(0, 3, full, &[(0, 2), (1, 1), (2, 0)])],
        PixelFormat::Rgba => vec![of(0, 4, full, &[(0, 0), (1, 1), (2, 2), (3, ALPHA)])],
        PixelFormat::Bgra => vec![of(0, 4, full, &[(0, 2), (1, 1), (2, 0), (3, ALPHA)])],
        PixelFormat::Argb => vec![of(0, 4, full, &[(0, ALPHA), (1, 0), (2, 1), (3, 2)])],
        PixelFormat::Xrgb => vec![of(0, 4, full, &[(1, 0), (2, 1), (3, 2)])],
        PixelFormat::Rgbx => vec![of(0, 4, full, &[(0, 0), (1, 1), (2, 2)])],
        PixelFormat::Bgrx => vec![of(0, 4, full, &[(0, 2), (1, 1), (2, 0)])],
        PixelFormat::Gray8 => vec![of(0, 1, full, &[(0, 0)])],
    }
    .into_iter()
    .flatten()
    .collect::<Vec<Sample>>()
}

fn expected(picture: &Picture, shapes: &[Shape], masks: &[u16]) -> Vec<Vec<u8>> {
    let mut planes: Vec<Vec<u8>> = picture
        .planes()
        .iter()
        .map(|(data, _)| data.clone())
        .collect();
    let ten_bits = picture.format == PixelFormat::P010;
    for sample in all_samples(picture) {
        let data = &mut planes[sample.plane][sample.offset..];
        let pixels = sample.pixels.len() as u32;
        for shape in shapes {
            let covers = |(x, y): &&(usize, usize)| shape.covers(*x, *y, masks);
            let covered = sample.pixels.iter().filter(covers).count() as u32;
            let opacity = (u32::from(shape.ink.alpha) * covered + pixels / 2) / pixels;
            if opacity == 0 {
                continue;
            }
            let value = match sample.channel {
                ALPHA => 255,
                channel => u32::from(shape.ink.values[channel]),
            };
            let blend = |old: u32| (old * (255 - opacity) + value * opacity + 127) / 255;
            if ten_bits {
                let old = u16::from_le_bytes([data[0], data[1]]) >> 6;
                let new = (blend(old.into()) as u16) << 6;
                data[..2].copy_from_slice(&new.to_le_bytes());
            } else {
                data[0] = blend(data[0].into()) as u8;
            }
        }
    }
    planes
}

fn check(machine: &impl Machine, picture: &Picture, shapes: &[Shape]) {
    let masks: Vec<u16> = {
        let mut random = Random::new(21);
        (0..MASK_ROWS).map(|_| random.next() as u16).collect()
    };
    let primitives: Vec<Primitive> = shapes.iter().map(Shape::primitive).collect();
    // SAFETY: a primitive has no padding.
    let bytes = unsafe {
        std::slice::from_raw_parts(
            primitives.as_ptr().cast::<u8>(),
            size_of_val(&primitives[..]),
        )
    };
    let mask_bytes: Vec<u8> = masks.iter().flat_map(|row| row.to_ne_bytes()).collect();
    let frame = picture.linear(machine);
    let (primitives, masks_address) = (machine.upload(bytes), machine.upload(&mask_bytes));
    machine.draw(&Canvas::new(&frame, primitives, shapes.len(), masks_address).unwrap());

    for (plane, (device, expected)) in frame
        .planes
        .iter()
        .zip(expected(picture, shapes, &masks))
        .enumerate()
    {
        let actual = machine.download(device.pointer, expected.len());
        let different = actual.iter().zip(&expected).position(|(a, b)| a != b);
        assert_eq!(different, None, "{:?} plane {plane}", picture.format);
    }
}

pub fn fills_and_masks_blend_in_every_format(machine: &impl Machine) {
    for format in FORMATS {
        for size in [(77, 45), (64, 32), (1, 1)] {
            let picture = Picture::noise(format, Colorimetry::default(), size, 4);
            let mut random = Random::new(22);
            let shapes: Vec<Shape> = (0..40)
                .map(|_| Shape::random(&mut random, format))
                .collect();
            check(machine, &picture, &shapes);
        }
    }
}

pub fn more_primitives_than_a_block_takes_at_once_keep_their_order(machine: &impl Machine) {
    let picture = Picture::noise(PixelFormat::Nv12, Colorimetry::default(), (70, 40), 0);
    let mut random = Random::new(23);
    let shapes: Vec<Shape> = (0..2500)
        .map(|_| Shape::random(&mut random, picture.format))
        .collect();
    check(machine, &picture, &shapes);
}
