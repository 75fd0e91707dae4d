//! Interpolated samples are those of OpenCV's `resize`, byte for byte: opencv.txt has what it gave.

use gstrsdetectnet::frame::system::Plane;
use gstrsdetectnet::frame::{Colorimetry, PixelFormat, SystemFrame};
use gstrsdetectnet::preprocess::cpu::Preprocessor;
use gstrsdetectnet::preprocess::{
    Anchor, ChannelOrder, InputGeometry, Preparation, ResizeMode, Shrinking, TensorLayout,
};
use sha2::{Digest, Sha256};

const LETTERBOX: ResizeMode = ResizeMode::Letterbox {
    fill: 114,
    anchor: Anchor::Center,
};

/// A line of the table.
struct Case {
    resize: ResizeMode,
    channels: usize,
    size: (usize, usize),
    target: (usize, usize),
    result: String,
}

fn cases() -> Vec<Case> {
    let lines = include_str!("opencv.txt").lines();
    let case = |line: &str| {
        let fields: Vec<&str> = line.split(' ').collect();
        let number = |index: usize| fields[index].parse::<usize>().unwrap();
        Case {
            resize: match fields[0] {
                "stretch" => ResizeMode::Stretch,
                _ => LETTERBOX,
            },
            channels: number(1),
            size: (number(2), number(3)),
            target: (number(4), number(5)),
            result: fields[6].into(),
        }
    };
    lines
        .filter(|line| !line.starts_with('#'))
        .map(case)
        .collect()
}

/// The picture that make-opencv-table.py makes.
fn picture(channels: usize, (width, height): (usize, usize)) -> Vec<u8> {
    let noise = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 24) as u8;
    (0..width * height * channels).map(noise).collect()
}

/// The pixels of a picture in a format of as many channels or four.
fn stored(pixels: Vec<u8>, format: PixelFormat) -> Vec<u8> {
    let places = match format {
        PixelFormat::Gray8 | PixelFormat::Rgb => return pixels,
        PixelFormat::Bgr => &[2, 1, 0][..],
        PixelFormat::Rgba => &[0, 1, 2, 0],
        PixelFormat::Bgrx => &[2, 1, 0, 0],
        _ => &[0, 0, 1, 2],
    };
    let mut stored = Vec::with_capacity(pixels.len() / 3 * places.len());
    for pixel in pixels.chunks(3) {
        stored.extend(places.iter().map(|place| pixel[*place]));
    }
    stored
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn prepared(case: &Case, format: PixelFormat, order: ChannelOrder) -> Vec<u8> {
    let (width, height) = case.size;
    let pixels = stored(picture(case.channels, case.size), format);
    let plane = Plane {
        data: &pixels,
        stride: pixels.len() / height,
    };
    let colorimetry = Colorimetry {
        full_range: true,
        ..Colorimetry::default()
    };
    let planes = [plane, Plane::default(), Plane::default()];
    let frame = SystemFrame::new(format, colorimetry, width, height, planes).unwrap();
    let input = InputGeometry {
        width: case.target.0,
        height: case.target.1,
        layout: TensorLayout::Nhwc,
    };
    let preparation = Preparation {
        resize: case.resize,
        order,
        mean: [0.0; 3],
        scale: [1.0; 3],
    };
    let mut tensor = vec![0u8; 3 * input.width * input.height];
    Preprocessor::new(input, preparation, Shrinking::Bilinear).run(&frame, &mut tensor);
    tensor
}

fn check(case: &Case, format: PixelFormat) {
    let mut bytes = prepared(case, format, ChannelOrder::Rgb);
    if case.channels == 1 {
        assert!(bytes.chunks(3).all(|pixel| pixel == [pixel[0]; 3]));
        bytes = bytes.into_iter().step_by(3).collect();
    }
    let result = match hexadecimal(&bytes) {
        shown if case.result.len() == shown.len() => shown,
        _ => hexadecimal(&Sha256::digest(&bytes)[..16]),
    };
    let (from, to) = (case.size, case.target);
    assert_eq!(
        result, case.result,
        "{format:?} {:?} {from:?} to {to:?}",
        case.resize
    );
}

#[test]
fn every_byte_is_the_one_that_opencv_gives() {
    use PixelFormat::{Argb, Bgr, Bgrx, Gray8, Rgb, Rgba};
    let cases = cases();
    assert_eq!(cases.len(), 66);
    for case in &cases {
        let formats = match case.channels {
            1 => &[Gray8][..],
            _ if case.size.0 > 640 => &[Rgb],
            _ => &[Rgb, Bgr, Rgba, Bgrx, Argb],
        };
        for format in formats {
            check(case, *format);
        }
    }
}
