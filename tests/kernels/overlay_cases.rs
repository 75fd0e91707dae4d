//! Pictures of the overlay, drawn on a machine and by the renderer of the CPU: the same bytes.

use gstrsdetectnet::detection::{BoundingBox, Detection};
use gstrsdetectnet::frame::{ColorMatrix, Colorimetry, DeviceFrame, PixelFormat};
use gstrsdetectnet::overlay::color::Color;
use gstrsdetectnet::overlay::draw::{Canvas, Primitive};
use gstrsdetectnet::overlay::layout::{Picture, Shape};
use gstrsdetectnet::overlay::text::Font;
use gstrsdetectnet::overlay::{Overlay, Parts, cpu, cuda};

use crate::machine::Machine;
use crate::picture::frames::system_frame_mut;
use crate::picture::{FORMATS, Picture as Pixels};
use crate::random::Random;

pub const LABELS: [&str; 4] = [
    "Person",
    "Caf\u{e9} _@W#M|_",
    "",
    "a long label that is cut",
];

pub fn overlay() -> Overlay {
    Overlay::new(Parts {
        outline: true,
        fill: true,
        label: true,
        confidence: true,
        track: true,
        tail: true,
    })
}

/// Boxes in and around a frame, and some that no network should give.
pub fn detections(width: usize, height: usize) -> Vec<Detection> {
    let (width, height) = (width as f32, height as f32);
    let mut random = Random::new(31);
    let mut boxes: Vec<[f32; 4]> = (0..8)
        .map(|_| {
            let (x, y) = (random.unit() * width, random.unit() * height);
            [
                x - 5.0,
                y - 5.0,
                random.unit() * width,
                random.unit() * height,
            ]
        })
        .collect();
    boxes.extend([
        [f32::NAN, 3.0, 10.0, 10.0],
        [3.0, 3.0, f32::NAN, 10.0],
        [f32::NEG_INFINITY, 0.0, f32::INFINITY, 9.0],
        [-1e30, -1e30, 2e30, 2e30],
        [width - 0.2, height - 0.2, 4e9, 4e9],
        [5.0, 5.0, -3.0, 8.0],
        [2.5, 1.5, 0.01, 0.01],
        [f32::MAX, f32::MAX, f32::MAX, f32::MAX],
        [0.0, 0.0, width, height],
    ]);
    boxes
        .into_iter()
        .zip(0..)
        .map(|([x, y, width, height], index)| Detection {
            class_id: if index == 3 { u32::MAX } else { index % 5 },
            confidence: 0.07 * index as f32,
            bounding_box: BoundingBox {
                x,
                y,
                width,
                height,
            },
            object_id: (index % 2 == 0).then_some(u64::MAX - u64::from(index)),
            oriented: None,
        })
        .collect()
}

/// Shapes that no layout makes.
fn hostile_picture() -> Picture {
    let color = |alpha| Color {
        red: 200,
        green: 30,
        blue: 90,
        alpha,
    };
    let fill = |left, top, width, height, alpha| Shape::Fill {
        left,
        top,
        width,
        height,
        color: color(alpha),
    };
    let text: Vec<u8> = (0..=u8::MAX).collect();
    let glyphs = |left, top, height, scale, alpha| Shape::Glyphs {
        left,
        top,
        font: Font::of_height(height).0,
        scale,
        text: 0..text.len(),
        color: color(alpha),
    };
    let shapes = vec![
        fill(i32::MIN, i32::MIN, u32::MAX, u32::MAX, 40),
        fill(i32::MAX, i32::MAX, u32::MAX, u32::MAX, 200),
        fill(-3, 7, u32::MAX, 5, 130),
        fill(5, 5, 0, 9, 255),
        fill(11, 3, 3, 1, 254),
        glyphs(-701, 3, 8, 1, 255),
        glyphs(-900, 9, 11, 1, 99),
        glyphs(-1533, -4, 14, 2, 180),
        glyphs(-999, 1, 20, 3, 255),
        glyphs(i32::MIN, i32::MIN, 20, 1 << 26, 70),
        glyphs(i32::MIN, -9, 14, u32::MAX, 90),
        glyphs(i32::MAX - 4, 2, 8, 1, 255),
        glyphs(3, i32::MAX, 8, 1, 255),
        fill(1, 1, 4, 4, 0),
    ];
    let mut picture = Picture::default();
    picture.shapes = shapes;
    picture.text = text;
    picture
}

/// What the renderer of the CPU makes of the same pixels.
pub fn drawn_by_the_cpu(pixels: &Pixels, picture: &Picture) -> Vec<Vec<u8>> {
    let mut planes = pixels.planes().to_vec();
    let size = (pixels.width, pixels.height);
    let mut frame = system_frame_mut(pixels.format, pixels.colorimetry, size, &mut planes);
    cpu::render(picture, &mut frame, &mut Vec::new());
    planes.into_iter().map(|(data, _)| data).collect()
}

/// Asserts that a machine's frame has these bytes, those between the rows included.
pub fn assert_planes(machine: &impl Machine, frame: &DeviceFrame, expected: &[Vec<u8>]) {
    for (plane, (device, expected)) in frame.planes.iter().zip(expected).enumerate() {
        let actual = machine.download(device.pointer, expected.len());
        let different = actual.iter().zip(expected).position(|(a, b)| a != b);
        assert_eq!(
            different, None,
            "{:?} {}x{} plane {plane}",
            frame.format, frame.width, frame.height
        );
    }
}

/// What an overlay draws for the last of several frames, so that objects have come a way.
fn after_some_frames(overlay: &mut Overlay, width: usize, height: usize) -> &Picture {
    for step in [0.0, 3.5, -20.0, 300.0, 7.0, 7.5] {
        let mut moved = detections(width, height);
        for (object, index) in moved.iter_mut().zip(0u8..) {
            object.bounding_box.x += step * f32::from(index % 3);
            object.bounding_box.y += 2.0 * step;
        }
        overlay.picture(&moved, &LABELS, width, height);
    }
    overlay.picture(&detections(width, height), &LABELS, width, height)
}

fn check(machine: &impl Machine, pixels: &Pixels, picture: &Picture) {
    let frame = pixels.linear(machine);
    let mut primitives: Vec<Primitive> = Vec::new();
    cuda::primitives(picture, &frame, &mut primitives);
    // SAFETY: a primitive has no padding.
    let bytes = unsafe {
        std::slice::from_raw_parts(
            primitives.as_ptr().cast::<u8>(),
            size_of_val(&primitives[..]),
        )
    };
    let rows: Vec<u8> = (cuda::mask_rows().iter())
        .flat_map(|row| row.to_ne_bytes())
        .collect();
    let (address, masks) = (machine.upload(bytes), machine.upload(&rows));
    machine.draw(&Canvas::new(&frame, address, primitives.len(), masks).unwrap());
    assert_planes(machine, &frame, &drawn_by_the_cpu(pixels, picture));
}

pub fn overlays_are_those_of_the_cpu_in_every_format(machine: &impl Machine) {
    let mut overlay = overlay();
    for format in FORMATS {
        for (width, height) in [(333, 187), (130, 121), (64, 48), (1, 1)] {
            let pixels = Pixels::noise(format, Colorimetry::default(), (width, height), 12);
            let picture = after_some_frames(&mut overlay, width, height);
            check(machine, &pixels, picture);
        }
    }
}

pub fn overlays_have_the_frame_s_colours_in_every_matrix_and_range(machine: &impl Machine) {
    let mut overlay = overlay();
    let (width, height) = (120, 90);
    let detections = detections(width, height);
    for format in [PixelFormat::Nv12, PixelFormat::P010, PixelFormat::Gray8] {
        for matrix in [
            ColorMatrix::Bt601,
            ColorMatrix::Bt709,
            ColorMatrix::Bt2020,
            ColorMatrix::Smpte240m,
            ColorMatrix::Fcc,
        ] {
            for full_range in [false, true] {
                let colorimetry = Colorimetry { matrix, full_range };
                let pixels = Pixels::noise(format, colorimetry, (width, height), 0);
                let picture = overlay.picture(&detections, &LABELS, width, height);
                check(machine, &pixels, picture);
            }
        }
    }
}

pub fn shapes_far_beyond_the_frame_are_drawn_as_on_the_cpu(machine: &impl Machine) {
    let picture = hostile_picture();
    for format in FORMATS {
        for size in [(201, 77), (64, 32), (1, 1)] {
            let pixels = Pixels::noise(format, Colorimetry::default(), size, 4);
            check(machine, &pixels, &picture);
        }
    }
}
