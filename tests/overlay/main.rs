//! What the overlay promises: the right pixels in every format, and no others.

mod any;
#[path = "../common/frames.rs"]
mod frames;
mod shapes;

use frames::{FORMATS, system_frame_mut};
use gstrsdetectnet::detection::{BoundingBox, Detection};
use gstrsdetectnet::frame::{ColorMatrix, Colorimetry, PixelFormat, SystemFrameMut};
use gstrsdetectnet::overlay::color::{Channel, Color};
use gstrsdetectnet::overlay::layout::{Picture, Shape};
use gstrsdetectnet::overlay::{Look, Overlay, Parts};

const OUTLINE: Parts = Parts {
    outline: true,
    fill: false,
    label: false,
    confidence: false,
    track: false,
    tail: false,
};

const ALL: Parts = Parts {
    outline: true,
    fill: true,
    label: true,
    confidence: true,
    track: true,
    tail: true,
};

/// A frame that owns its planes, whose rows are followed by some bytes that are not the frame's.
#[derive(Clone, Debug, PartialEq)]
struct Canvas {
    format: PixelFormat,
    colorimetry: Colorimetry,
    width: usize,
    height: usize,
    planes: [(Vec<u8>, usize); 3],
}

impl Canvas {
    fn new(format: PixelFormat, width: usize, height: usize, padding: usize) -> Self {
        let planes = [0, 1, 2].map(|plane| {
            if plane >= format.planes() {
                return (Vec::new(), 0);
            }
            let (row, rows) = format.plane_size(plane, width, height);
            let stride = row + padding;
            // Any pattern that makes each byte differ from its neighbours will do.
            let bytes = (0..stride * rows.max(1)).map(|i| (i * 37 + i / 251 + plane * 90) as u8);
            (bytes.collect(), stride)
        });
        Self {
            format,
            colorimetry: Colorimetry::default(),
            width,
            height,
            planes,
        }
    }

    /// Fills all channels with grey.
    fn grey(mut self, grey: u8) -> Self {
        let color = Color::opaque(grey, grey, grey);
        let (colorimetry, bits) = (self.colorimetry, bits(self.format));
        for (channel, plane, at, size) in channels(self.format) {
            let value = color.sample(channel, colorimetry, bits);
            let [shift_x, shift_y] = shifts(self.format, channel);
            for y in 0..self.height.div_ceil(1 << shift_y) {
                for x in 0..self.width.div_ceil(1 << shift_x) {
                    self.store(plane, at + x * size, y, value);
                }
            }
        }
        self
    }

    fn draw(&mut self, parts: Parts, detections: &[Detection], labels: &[&str]) {
        Overlay::new(parts).draw(&mut self.frame(), detections, labels);
    }

    fn frame(&mut self) -> SystemFrameMut<'_> {
        let size = (self.width, self.height);
        system_frame_mut(self.format, self.colorimetry, size, &mut self.planes)
    }

    fn load(&self, plane: usize, byte: usize, y: usize) -> u32 {
        let (data, stride) = &self.planes[plane];
        let at = y * stride + byte;
        match self.format {
            PixelFormat::P010 => u32::from(u16::from_le_bytes([data[at], data[at + 1]]) >> 6),
            _ => u32::from(data[at]),
        }
    }

    fn store(&mut self, plane: usize, byte: usize, y: usize, value: u32) {
        let (data, stride) = &mut self.planes[plane];
        let at = y * *stride + byte;
        match self.format {
            PixelFormat::P010 => {
                data[at..at + 2].copy_from_slice(&((value as u16) << 6).to_le_bytes());
            }
            _ => data[at] = value as u8,
        }
    }

    /// The sample of a channel that stands for a pixel.
    fn sample(&self, wanted: Channel, x: usize, y: usize) -> u32 {
        let [shift_x, shift_y] = shifts(self.format, wanted);
        let place = channels(self.format).into_iter().find(|c| c.0 == wanted);
        let (_, plane, at, size) = place.unwrap();
        self.load(plane, at + (x >> shift_x) * size, y >> shift_y)
    }

    /// A pixel in 8-bit RGB, computed in f64 by the definition of the frame's colorimetry.
    fn rgb(&self, x: usize, y: usize) -> [f64; 3] {
        if !self.format.is_yuv() {
            return [Channel::Red, Channel::Green, Channel::Blue]
                .map(|channel| f64::from(self.sample(channel, x, y)));
        }
        let (red_weight, blue_weight) = self.colorimetry.matrix.luma_weights();
        let (kr, kb) = (f64::from(red_weight), f64::from(blue_weight));
        let unit = f64::from(1u32 << (bits(self.format) - 8));
        let [luma, cb, cr] = [Channel::Luma, Channel::Cb, Channel::Cr]
            .map(|channel| f64::from(self.sample(channel, x, y)) / unit);
        let (luma, cb, cr) = if self.colorimetry.full_range {
            (luma, cb - 128.0, cr - 128.0)
        } else {
            let chroma = |value: f64| (value - 128.0) * 255.0 / 224.0;
            ((luma - 16.0) * 255.0 / 219.0, chroma(cb), chroma(cr))
        };
        let red = luma + 2.0 * (1.0 - kr) * cr;
        let blue = luma + 2.0 * (1.0 - kb) * cb;
        [red, (luma - kr * red - kb * blue) / (1.0 - kr - kb), blue]
    }
}

fn bits(format: PixelFormat) -> u32 {
    if format == PixelFormat::P010 { 10 } else { 8 }
}

/// Every channel with its plane, its first byte, and the bytes from one sample to the next.
fn channels(format: PixelFormat) -> Vec<(Channel, usize, usize, usize)> {
    use Channel::{Alpha, Blue, Cb, Cr, Green, Luma, Red};
    let packed = |order: &[Channel], size| {
        let at = |(i, &channel)| (channel, 0, i, size);
        order.iter().enumerate().map(at).collect()
    };
    match format {
        PixelFormat::Nv12 => vec![(Luma, 0, 0, 1), (Cb, 1, 0, 2), (Cr, 1, 1, 2)],
        PixelFormat::Nv21 => vec![(Luma, 0, 0, 1), (Cr, 1, 0, 2), (Cb, 1, 1, 2)],
        PixelFormat::I420 => vec![(Luma, 0, 0, 1), (Cb, 1, 0, 1), (Cr, 2, 0, 1)],
        PixelFormat::P010 => vec![(Luma, 0, 0, 2), (Cb, 1, 0, 4), (Cr, 1, 2, 4)],
        PixelFormat::Yuy2 => vec![(Luma, 0, 0, 2), (Cb, 0, 1, 4), (Cr, 0, 3, 4)],
        PixelFormat::Uyvy => vec![(Luma, 0, 1, 2), (Cb, 0, 0, 4), (Cr, 0, 2, 4)],
        PixelFormat::Rgb => packed(&[Red, Green, Blue], 3),
        PixelFormat::Bgr => packed(&[Blue, Green, Red], 3),
        PixelFormat::Rgba => packed(&[Red, Green, Blue, Alpha], 4),
        PixelFormat::Bgra => packed(&[Blue, Green, Red, Alpha], 4),
        PixelFormat::Rgbx => packed(&[Red, Green, Blue], 4),
        PixelFormat::Bgrx => packed(&[Blue, Green, Red], 4),
        PixelFormat::Argb => packed(&[Alpha, Red, Green, Blue], 4),
        PixelFormat::Xrgb => vec![(Red, 0, 1, 4), (Green, 0, 2, 4), (Blue, 0, 3, 4)],
        PixelFormat::Gray8 => vec![(Luma, 0, 0, 1)],
    }
}

/// By how much the coordinates of a pixel are shifted right to those of its sample.
fn shifts(format: PixelFormat, channel: Channel) -> [usize; 2] {
    match (format, channel) {
        (PixelFormat::Yuy2 | PixelFormat::Uyvy, Channel::Cb | Channel::Cr) => [1, 0],
        (_, Channel::Cb | Channel::Cr) => [1, 1],
        _ => [0, 0],
    }
}

/// The colour of a shape at a pixel, if it covers it.
fn color_at(picture: &Picture, shape: &Shape, x: usize, y: usize) -> Option<Color> {
    let (x, y) = (x as i64, y as i64);
    let within = |left: i32, top: i32, width: u32, height: u32| {
        let (x, y) = (x - i64::from(left), y - i64::from(top));
        (x >= 0 && y >= 0 && x < i64::from(width) && y < i64::from(height)).then_some((x, y))
    };
    match shape {
        Shape::Fill {
            left,
            top,
            width,
            height,
            color,
        } => within(*left, *top, *width, *height).map(|_| *color),
        Shape::Glyphs {
            left,
            top,
            font,
            scale,
            text,
            color,
        } => {
            let text = &picture.text[text.clone()];
            let width = text.len() as u32 * font.width * scale;
            let (x, y) = within(*left, *top, width, font.height * scale)?;
            let (x, y) = (x as u32 / scale, y as u32 / scale);
            let code = text[(x / font.width) as usize];
            (font.row(code, y) >> (x % font.width) & 1 == 1).then_some(*color)
        }
    }
}

/// The shapes of a picture with each glyph on its own.
fn single_shapes(picture: &Picture) -> Vec<Shape> {
    let single = |shape: &Shape| match shape {
        Shape::Fill { .. } => vec![shape.clone()],
        Shape::Glyphs {
            left,
            top,
            font,
            scale,
            text,
            color,
        } => (text.clone().enumerate())
            .map(|(index, code)| Shape::Glyphs {
                left: left + (index as u32 * font.width * scale) as i32,
                top: *top,
                font,
                scale: *scale,
                text: code..code + 1,
                color: *color,
            })
            .collect(),
    };
    picture.shapes.iter().flat_map(single).collect()
}

/// The rules of the overlay, sample by sample, as they stand in the documentation.
fn draw_by_the_rules(canvas: &mut Canvas, picture: &Picture) {
    let shapes = single_shapes(picture);
    for (channel, plane, at, size) in channels(canvas.format) {
        let [shift_x, shift_y] = shifts(canvas.format, channel);
        for y in 0..canvas.height.div_ceil(1 << shift_y) {
            for x in 0..canvas.width.div_ceil(1 << shift_x) {
                let columns = (x << shift_x)..((x + 1) << shift_x).min(canvas.width);
                let rows = (y << shift_y)..((y + 1) << shift_y).min(canvas.height);
                let pixels: Vec<_> = rows
                    .flat_map(|y| columns.clone().map(move |x| (x, y)))
                    .collect();
                for shape in &shapes {
                    let colors: Vec<_> = pixels
                        .iter()
                        .filter_map(|&(x, y)| color_at(picture, shape, x, y))
                        .collect();
                    let Some(color) = colors.first() else {
                        continue;
                    };
                    let pixels = pixels.len() as u32;
                    let opacity =
                        (u32::from(color.alpha) * colors.len() as u32 + pixels / 2) / pixels;
                    if opacity > 0 {
                        let value = color.sample(channel, canvas.colorimetry, bits(canvas.format));
                        let old = canvas.load(plane, at + x * size, y);
                        let new = (old * (255 - opacity) + value * opacity + 127) / 255;
                        canvas.store(plane, at + x * size, y, new);
                    }
                }
            }
        }
    }
}

fn detection(class_id: u32, x: f32, y: f32, width: f32, height: f32) -> Detection {
    Detection {
        class_id,
        confidence: 0.87,
        bounding_box: BoundingBox {
            x,
            y,
            width,
            height,
        },
        object_id: Some(12),
        oriented: None,
    }
}

#[test]
fn every_format_shows_the_same_picture() {
    let detections = [
        detection(1, 20.0, 30.0, 80.0, 60.0),
        detection(2, 41.0, 1.0, 37.0, 51.0),
        detection(3, 90.0, 70.0, 30.0, 40.0),
    ];
    let draw = |format, colorimetry| {
        let mut canvas = Canvas::new(format, 131, 121, 3);
        canvas.colorimetry = colorimetry;
        let mut canvas = canvas.grey(100);
        canvas.draw(ALL, &detections, &["", "Caf\u{e9}", "Coffee cup", "Dog"]);
        canvas
    };
    for matrix in [ColorMatrix::Bt601, ColorMatrix::Bt2020] {
        for full_range in [false, true] {
            let colorimetry = Colorimetry { matrix, full_range };
            let wanted = draw(PixelFormat::Rgb, colorimetry);
            let luma = draw(PixelFormat::Gray8, colorimetry);
            for canvas in FORMATS.map(|format| draw(format, colorimetry)) {
                assert_same_picture(&canvas, &wanted, &luma);
            }
        }
    }
}

fn assert_same_picture(canvas: &Canvas, wanted: &Canvas, luma: &Canvas) {
    let format = canvas.format;
    for y in 0..canvas.height {
        for x in 0..canvas.width {
            if !format.is_yuv() && format != PixelFormat::Gray8 {
                assert_eq!(canvas.rgb(x, y), wanted.rgb(x, y), "{format:?} {x} {y}");
                continue;
            }
            let unit = 1 << (bits(format) - 8);
            let (own, other) = (
                canvas.sample(Channel::Luma, x, y),
                luma.sample(Channel::Luma, x, y) * unit,
            );
            assert!(own.abs_diff(other) <= 3 * (unit - 1), "{format:?} {x} {y}");
            let corner = (x & !1, y & !1);
            let shared = [(0, 0), (1, 0), (0, 1), (1, 1)]
                .map(|(dx, dy)| (corner.0 + dx, corner.1 + dy))
                .map(|(x, y)| (x.min(canvas.width - 1), y.min(canvas.height - 1)));
            let same = |&(other_x, other_y): &(usize, usize)| {
                wanted.rgb(other_x, other_y) == wanted.rgb(x, y)
            };
            if format.is_yuv() && shared.iter().all(same) {
                for (own, other) in canvas.rgb(x, y).into_iter().zip(wanted.rgb(x, y)) {
                    assert!(
                        (own - other).abs() < 3.5,
                        "{format:?} {x} {y}: {own} {other}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_filler_byte_stays_and_alpha_becomes_opaque() {
    for (format, at) in [
        (PixelFormat::Rgbx, 3),
        (PixelFormat::Bgrx, 3),
        (PixelFormat::Rgba, 3),
        (PixelFormat::Argb, 0),
        (PixelFormat::Xrgb, 0),
    ] {
        let mut canvas = Canvas::new(format, 40, 40, 0);
        canvas.planes[0].0.fill(100);
        canvas.draw(OUTLINE, &[detection(0, 10.0, 10.0, 20.0, 20.0)], &[""]);
        let has_alpha = matches!(format, PixelFormat::Rgba | PixelFormat::Argb);
        let expected = if has_alpha { [255, 173] } else { [100, 100] };
        assert_eq!(canvas.load(0, 10 * 4 + at, 20), expected[0], "{format:?}");
        assert_eq!(canvas.load(0, 9 * 4 + at, 20), expected[1], "{format:?}");
    }
}
