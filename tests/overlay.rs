//! What the overlay promises: the right pixels in every format, and no others.

#[path = "common/frames.rs"]
mod frames;

use frames::{FORMATS, system_frame_mut};
use gstrsdetectnet::detection::{BoundingBox, Detection};
use gstrsdetectnet::frame::{ColorMatrix, Colorimetry, PixelFormat, SystemFrameMut};
use gstrsdetectnet::overlay::color::{Channel, Color};
use gstrsdetectnet::overlay::layout::{Picture, Shape};
use gstrsdetectnet::overlay::{Look, Overlay, Parts};
use proptest::prelude::*;

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

/// A class colour darkened by the shadow around an outline.
fn shadowed(value: u32) -> u32 {
    (value * 135 + 127) / 255
}

#[test]
fn an_outline_in_rgb_is_one_pixel_of_colour_within_the_box_and_one_of_shadow_around_it() {
    let mut canvas = Canvas::new(PixelFormat::Rgb, 24, 20, 5).grey(200);
    canvas.draw(OUTLINE, &[detection(0, 3.6, 5.4, 12.0, 9.0)], &[""]);
    let red = Color::of_class(0);
    for y in 0..20 {
        for x in 0..24 {
            let in_box = (4..16).contains(&x) && (5..14).contains(&y);
            let inside = (5..15).contains(&x) && (6..13).contains(&y);
            let near = (3..17).contains(&x) && (4..15).contains(&y);
            let expected = match (near, in_box, inside) {
                (_, true, false) => [red.red, red.green, red.blue].map(f64::from),
                (true, false, _) => [f64::from(shadowed(200)); 3],
                _ => [200.0; 3],
            };
            assert_eq!(canvas.rgb(x, y), expected, "{x} {y}");
        }
    }
}

#[test]
fn an_outline_in_nv12_and_grey_has_the_class_colour_in_the_frames_own_colorimetry() {
    // Lines of 2 pixels at even coordinates cover whole chroma samples. Values computed apart from the crate,
    // for the colour (255, 117, 116) of class 0.
    assert_eq!(Color::of_class(0), Color::opaque(255, 117, 116));
    for (matrix, full_range, expected) in [
        (ColorMatrix::Bt601, false, [152, 107, 189]),
        (ColorMatrix::Bt601, true, [158, 104, 197]),
        (ColorMatrix::Bt709, false, [142, 114, 189]),
        (ColorMatrix::Bt709, true, [146, 112, 197]),
    ] {
        for format in [PixelFormat::Nv12, PixelFormat::Gray8] {
            let mut canvas = Canvas::new(format, 600, 560, 0);
            canvas.colorimetry = Colorimetry { matrix, full_range };
            let before = canvas.clone();
            canvas.draw(OUTLINE, &[detection(0, 100.0, 50.0, 200.0, 80.0)], &[""]);
            for (x, y) in [(100, 50), (299, 51), (101, 90), (298, 129), (200, 128)] {
                let drawn = match format {
                    PixelFormat::Gray8 => vec![canvas.sample(Channel::Luma, x, y)],
                    _ => [Channel::Luma, Channel::Cb, Channel::Cr]
                        .map(|channel| canvas.sample(channel, x, y))
                        .to_vec(),
                };
                assert_eq!(drawn, expected[..drawn.len()], "{matrix:?} {full_range}");
            }
            for (x, y) in [(102, 52), (297, 127), (98, 90), (302, 90), (200, 48)] {
                assert_eq!(
                    canvas.sample(Channel::Luma, x, y),
                    before.sample(Channel::Luma, x, y)
                );
            }
        }
    }
}

#[test]
fn a_line_that_covers_half_of_a_chroma_sample_tints_it_by_half() {
    let mut canvas = Canvas::new(PixelFormat::Nv12, 64, 64, 0).grey(100);
    canvas.draw(OUTLINE, &[detection(0, 21.0, 21.0, 20.0, 20.0)], &[""]);
    let cr = Color::of_class(0).sample(Channel::Cr, canvas.colorimetry, 8);
    // The left line is column 21; the shadow in column 20 leaves grey grey.
    let expected = (128 * (255 - 128) + cr * 128 + 127) / 255;
    assert_eq!(canvas.sample(Channel::Cr, 21, 30), expected);
}

#[test]
fn a_filled_box_lets_through_what_its_alpha_leaves() {
    let fill = Parts {
        fill: true,
        ..Parts::default()
    };
    let red = Color::opaque(255, 0, 0);
    for (fill_alpha, expected) in [
        (0, [200, 200, 200]),
        (51, [211, 160, 160]),
        (255, [255, 0, 0]),
    ] {
        let look = Look {
            parts: fill,
            fill_alpha,
            colors: vec![None, Some(red)],
        };
        let mut canvas = Canvas::new(PixelFormat::Rgb, 30, 30, 0).grey(200);
        let object = detection(1, 5.0, 6.0, 10.0, 8.0);
        Overlay::new(look).draw(&mut canvas.frame(), &[object], &["", "red"]);
        for (x, y) in (0..30).flat_map(|y| (0..30).map(move |x| (x, y))) {
            let inside = (5..15).contains(&x) && (6..14).contains(&y);
            let wanted = if inside { expected } else { [200; 3] };
            assert_eq!(canvas.rgb(x, y), wanted.map(f64::from), "{x} {y}");
        }
    }
}

#[test]
fn a_tail_follows_its_object_fades_with_age_and_is_nobody_else_s() {
    let tail = Parts {
        tail: true,
        ..Parts::default()
    };
    let mut overlay = Overlay::new(Look {
        colors: vec![Some(Color::WHITE)],
        ..tail.into()
    });
    let at = |x: u8, object_id| Detection {
        object_id,
        ..detection(0, f32::from(x), 40.0, 20.0, 20.0)
    };
    let mut drawn = Canvas::new(PixelFormat::Gray8, 200, 100, 0);
    for step in 0..40u8 {
        drawn = Canvas::new(PixelFormat::Gray8, 200, 100, 0).grey(0);
        let objects = [at(10 + 4 * step, Some(7)), at(170 - 4 * step, None)];
        overlay.draw(&mut drawn.frame(), &objects, &["white"]);
    }
    let black = Color::BLACK.sample(Channel::Luma, drawn.colorimetry, 8);
    // The middle is at 20, 24, … 176: 31 pieces of 4 pixels in the row of the middle are left of the last.
    let row: Vec<_> = (0..200)
        .map(|x| drawn.sample(Channel::Luma, x, 50))
        .collect();
    let (first, last) = (176 - 31 * 4, 176);
    assert!(
        row[..first]
            .iter()
            .chain(&row[last..])
            .all(|luma| *luma == black)
    );
    assert!(row[first..last].iter().all(|luma| *luma > black));
    assert!(row[first..last].is_sorted());
    assert!(row[last - 1] > 2 * row[first]);
    let rest = (0..200).flat_map(|x| (0..100).map(move |y| (x, y)));
    let mut rest = rest.filter(|(_, y)| *y != 50);
    assert!(rest.all(|(x, y)| drawn.sample(Channel::Luma, x, y) == black));
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

#[test]
fn text_is_drawn_where_its_glyphs_are_and_its_plate_is_filled_elsewhere() {
    let mut canvas = Canvas::new(PixelFormat::Rgb, 160, 120, 0);
    let label = Parts {
        label: true,
        ..Parts::default()
    };
    canvas.draw(label, &[detection(0, 20.0, 50.0, 60.0, 60.0)], &["L"]);
    // The plate of 9x10 pixels begins at 20, 40; the cell of 5x8 lies in its middle.
    let glyph = (40..50).map(|y| {
        let black = |x| canvas.rgb(x, y) == [0.0; 3];
        (20..29).map(|x| if black(x) { '#' } else { '.' }).collect()
    });
    let expected = [
        ".........",
        ".........",
        "..#......",
        "..#......",
        "..#......",
        "..#......",
        "..#......",
        "..####...",
        ".........",
        ".........",
    ];
    assert_eq!(glyph.collect::<Vec<String>>(), expected);
}

fn any_coordinate() -> impl Strategy<Value = f32> {
    prop_oneof![
        6 => -20f32..120.0,
        1 => any::<f32>(),
        1 => proptest::sample::select(vec![
            f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, f32::MIN_POSITIVE, -0.0,
        ]),
    ]
}

prop_compose! {
    fn any_detection()(
        class_id in prop_oneof![0..4u32, any::<u32>()],
        confidence in prop_oneof![0f32..1.0, any::<f32>()],
        [x, y, width, height] in std::array::from_fn(|_| any_coordinate()),
        object_id in prop_oneof![any::<Option<u64>>(), (0..3u64).prop_map(Some)],
    ) -> Detection {
        Detection {
            class_id,
            confidence,
            bounding_box: BoundingBox { x, y, width, height },
            object_id,
            oriented: None,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Compared with the rules to the bit, padding included: so nothing outside the shapes changes either.
    #[test]
    fn any_detections_in_any_frame_are_drawn_by_the_rules_and_nothing_else_changes(
        format in proptest::sample::select(FORMATS.to_vec()),
        width in prop_oneof![0..4usize, 0..100usize],
        height in prop_oneof![0..4usize, 0..60usize],
        padding in 0..9usize,
        full_range in any::<bool>(),
        parts in any::<[bool; 6]>(),
        fill_alpha in any::<u8>(),
        // Those of earlier frames first, which leave their tails.
        frames in proptest::collection::vec(proptest::collection::vec(any_detection(), 0..6), 1..4),
        label in "\\PC{0,8}|[a-z\\x00-\\x1f]{0,40}",
    ) {
        let [outline, fill, label_part, confidence, track, tail] = parts;
        let parts = Parts { outline, fill, label: label_part, confidence, track, tail };
        let colors = vec![None, Some(Color::opaque(1, 200, 77))];
        let look = Look { parts, fill_alpha, colors };
        let labels = [label.as_str(), "Person", "Caf\u{e9}"];
        let mut canvas = Canvas::new(format, width, height, padding);
        canvas.colorimetry = Colorimetry { matrix: ColorMatrix::Bt709, full_range };
        let mut expected = canvas.clone();
        let (mut overlay, mut same) = (Overlay::new(look.clone()), Overlay::new(look));
        for detections in &frames {
            let picture = overlay.picture(detections, &labels, width, height);
            draw_by_the_rules(&mut expected, picture);
            same.draw(&mut canvas.frame(), detections, &labels);
        }
        prop_assert!(canvas == expected);
    }
}

#[test]
fn a_box_over_every_edge_and_corner_leaves_all_bytes_outside_the_frame_alone() {
    for format in FORMATS {
        for (width, height) in [(1, 1), (2, 1), (1, 2), (33, 17), (34, 18)] {
            let blank = Canvas::new(format, width, height, 7);
            let mut canvas = blank.clone();
            for x in [-15.0, 5.0, 25.0] {
                for y in [-10.0, 2.0, 12.0] {
                    canvas.draw(ALL, &[detection(1, x, y, 20.0, 12.0)], &["a", "b"]);
                }
            }
            canvas.draw(ALL, &[detection(1, -1e9, -1e9, 2e9, 2e9)], &["a", "b"]);
            assert_ne!(canvas, blank);
            for plane in 0..format.planes() {
                let (row, rows) = format.plane_size(plane, width, height);
                let (drawn, stride) = &canvas.planes[plane];
                for y in 0..rows {
                    let padding = y * stride + row..(y + 1) * stride;
                    assert_eq!(drawn[padding.clone()], blank.planes[plane].0[padding]);
                }
            }
        }
    }
}
