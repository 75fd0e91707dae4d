//! Preprocessing on the CPU keeps the rules of `preprocess`: known colours, one picture in every format, and
//! arbitrary frames against a slow reference in 64-bit floating point.

mod allocations;
#[path = "../common/counting.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod counting;
mod crops;
mod opencv;
mod pictures;
mod processors;

use gstrsdetectnet::detection::BoundingBox;
use gstrsdetectnet::frame::{ColorMatrix, Colorimetry, PixelFormat};
use gstrsdetectnet::preprocess::cpu::{Preprocessor, TensorElement};
use gstrsdetectnet::preprocess::{
    Anchor, ChannelOrder, InputGeometry, Placement, Preparation, ResizeMode, Shrinking,
    TensorLayout,
};
use pictures::{FORMATS, Picture, reference};
use proptest::prelude::*;

const PLAIN: Preparation = Preparation {
    resize: ResizeMode::Stretch,
    order: ChannelOrder::Rgb,
    mean: [0.0; 3],
    scale: [1.0; 3],
};

fn input(width: usize, height: usize, layout: TensorLayout) -> InputGeometry {
    InputGeometry {
        width,
        height,
        layout,
    }
}

fn tensor<T: TensorElement>(
    picture: &Picture,
    input: InputGeometry,
    preparation: Preparation,
) -> Vec<T> {
    shrunk_tensor(picture, input, preparation, Shrinking::Bilinear)
}

fn shrunk_tensor<T: TensorElement>(
    picture: &Picture,
    input: InputGeometry,
    preparation: Preparation,
    shrinking: Shrinking,
) -> Vec<T> {
    let mut tensor = vec![T::default(); 3 * input.width * input.height];
    Preprocessor::new(input, preparation, shrinking).run(&picture.frame(), &mut tensor);
    tensor
}

/// The colour of a one-coloured picture with these stored Y, U, V.
fn color_of(format: PixelFormat, colorimetry: Colorimetry, codes: [u16; 3]) -> [f32; 3] {
    let mut picture = Picture::new(format, colorimetry, 4, 4, 0);
    picture.fill(|component, _, _| f64::from(codes[component]));
    let values = tensor(&picture, input(1, 1, TensorLayout::Nchw), PLAIN);
    [values[0], values[1], values[2]]
}

#[track_caller]
fn assert_close(actual: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(actual.len(), expected.len());
    for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        assert!(
            (actual - expected).abs() <= tolerance,
            "element {index} is {actual}, not {expected}"
        );
    }
}

const RED: [f32; 3] = [255.0, 0.0, 0.0];
const GREEN: [f32; 3] = [0.0, 255.0, 0.0];
const BLUE: [f32; 3] = [0.0, 0.0, 255.0];
const WHITE: [f32; 3] = [255.0; 3];
const BLACK: [f32; 3] = [0.0; 3];

/// The codes of pure colours as the standards' equations round them to 8 bits: half a code of luma and chroma
/// are up to 0.5 * (1.16 + 2.15) levels.
#[test]
fn pure_colours_of_each_standard_come_out_within_the_rounding_of_their_codes() {
    use ColorMatrix::{Bt601, Bt709, Bt2020};
    let known = [
        (Bt601, false, [81, 90, 240], RED),
        (Bt601, false, [145, 54, 34], GREEN),
        (Bt601, false, [41, 240, 110], BLUE),
        (Bt601, false, [235, 128, 128], WHITE),
        (Bt601, false, [16, 128, 128], BLACK),
        (Bt601, true, [76, 85, 255], RED),
        (Bt601, true, [150, 44, 21], GREEN),
        (Bt601, true, [29, 255, 107], BLUE),
        (Bt601, true, [255, 128, 128], WHITE),
        (Bt601, true, [0, 128, 128], BLACK),
        (Bt601, true, [77, 128, 128], [77.0; 3]),
        (Bt709, false, [63, 102, 240], RED),
        (Bt709, false, [173, 42, 26], GREEN),
        (Bt709, false, [32, 240, 118], BLUE),
        (Bt709, false, [126, 128, 128], [128.0; 3]),
        (Bt2020, false, [74, 97, 240], RED),
        (Bt2020, false, [164, 47, 25], GREEN),
        (Bt2020, false, [29, 240, 119], BLUE),
    ];
    for (matrix, full_range, codes, expected) in known {
        let colorimetry = Colorimetry { matrix, full_range };
        let color = color_of(PixelFormat::I420, colorimetry, codes);
        assert_close(&color, &expected, 1.66);
    }
}

#[test]
fn ten_bit_codes_mean_the_same_as_eight_bit_ones() {
    for full_range in [false, true] {
        let colorimetry = Colorimetry {
            full_range,
            ..Colorimetry::default()
        };
        let black = if full_range { 0 } else { 64 };
        let white = if full_range { 1023 } else { 940 };
        let format = PixelFormat::P010;
        let neutral = |luma| color_of(format, colorimetry, [luma, 512, 512]);
        assert_close(&neutral(black), &BLACK, 1e-3);
        assert_close(&neutral(white), &WHITE, 1e-3);
    }
    let limited = Colorimetry::default();
    let deep = color_of(PixelFormat::P010, limited, [4 * 100, 4 * 90, 4 * 140]);
    let plain = color_of(PixelFormat::Nv12, limited, [100, 90, 140]);
    assert_close(&deep, &plain, 1e-3);
}

#[test]
fn grey_frames_follow_the_range_of_their_colorimetry() {
    for (full_range, code, expected) in [
        (false, 16, 0.0),
        (false, 235, 255.0),
        (false, 5, 0.0),
        (false, 250, 255.0),
        (true, 0, 0.0),
        (true, 128, 128.0),
        (true, 255, 255.0),
    ] {
        let colorimetry = Colorimetry {
            full_range,
            ..Colorimetry::default()
        };
        let color = color_of(PixelFormat::Gray8, colorimetry, [code; 3]);
        assert_close(&color, &[expected; 3], 1e-3);
    }
}

/// Rounding of 8-bit Y, U, V, when they are drawn and when they are interpolated, costs up to 1.16 + 2.11 levels, that
/// of RGB 1, and chroma held at the right and lower edges a little of the gradient.
#[test]
fn one_picture_in_any_format_gives_one_tensor_within_five_levels() {
    let gradient = |x: f64, y: f64| {
        [
            40.0 + 0.7 * x + 0.5 * y,
            200.0 - 0.6 * x,
            60.0 + 0.8 * y + 0.3 * x,
        ]
    };
    for (width, height) in [(96, 64), (95, 63)] {
        let draw =
            |format, colorimetry| Picture::drawn(format, colorimetry, width, height, gradient);
        for target in [(40, 30), (96, 64), (150, 170)] {
            let input = input(target.0, target.1, TensorLayout::Nchw);
            let rgb = draw(PixelFormat::Rgb, Colorimetry::default());
            let expected: Vec<f32> = tensor(&rgb, input, PLAIN);
            for format in FORMATS
                .into_iter()
                .filter(|format| *format != PixelFormat::Gray8)
            {
                for full_range in [false, true] {
                    let matrix = ColorMatrix::Bt709;
                    let picture = draw(format, Colorimetry { matrix, full_range });
                    let actual: Vec<f32> = tensor(&picture, input, PLAIN);
                    let tolerance = if format.is_yuv() { 5.0 } else { 0.0 };
                    assert_close(&actual, &expected, tolerance);
                }
            }
        }
    }
}

#[test]
fn letterbox_padding_is_the_prepared_fill_in_every_channel_and_layout() {
    let preparation = Preparation {
        resize: ResizeMode::Letterbox {
            fill: 114,
            anchor: Anchor::Center,
        },
        order: ChannelOrder::Bgr,
        mean: [104.0, 117.0, 124.0],
        scale: [1.0, 0.5, 0.25],
    };
    let padding = [10.0, -1.5, -2.5];
    let blue = [BLUE[2] - 104.0, -58.5, -31.0];
    let picture = Picture::drawn(PixelFormat::Rgba, Colorimetry::default(), 8, 4, |_, _| {
        [0.0, 0.0, 255.0]
    });
    // 8x4 in 6x6 is 6x3, one row of padding above and two below.
    let is_picture = |pixel: usize| (1..4).contains(&(pixel / 6));
    let planar: Vec<f32> = tensor(&picture, input(6, 6, TensorLayout::Nchw), preparation);
    let pixels: Vec<f32> = tensor(&picture, input(6, 6, TensorLayout::Nhwc), preparation);
    for pixel in 0..36 {
        let expected = if is_picture(pixel) { blue } else { padding };
        for channel in 0..3 {
            assert_eq!(planar[36 * channel + pixel], expected[channel]);
            assert_eq!(pixels[3 * pixel + channel], expected[channel]);
        }
    }
}

#[test]
fn integer_tensors_are_rounded_and_saturate() {
    let grey = |code: u8| {
        let mut picture = Picture::new(PixelFormat::Rgb, Colorimetry::default(), 1, 1, 0);
        picture.fill(|_, _, _| f64::from(code));
        picture
    };
    let one = input(1, 1, TensorLayout::Nhwc);
    let scaled = |mean: f32, scale: f32| Preparation {
        mean: [mean; 3],
        scale: [scale; 3],
        ..PLAIN
    };
    for (code, mean, scale, expected) in [
        (200, 0.0, 1.0, 200),
        (101, 0.0, 0.5, 50),
        (103, 0.0, 0.5, 52),
        (102, 0.0, 0.505, 52),
        (101, 0.0, 0.49, 49),
        (200, 0.0, 2.0, 255),
        (10, 20.0, 1.0, 0),
    ] {
        let actual: Vec<u8> = tensor(&grey(code), one, scaled(mean, scale));
        assert_eq!(actual, [expected; 3]);
    }
    for (code, mean, scale, expected) in [
        (0, 128.0, 1.0, -128),
        (255, 128.0, 1.0, 127),
        (127, 128.0, 0.5, 0),
        (125, 128.0, 0.5, -2),
        (127, 128.0, 0.6, -1),
        (0, 128.0, 2.0, -128),
        (255, 0.0, 1.0, 127),
    ] {
        let actual: Vec<i8> = tensor(&grey(code), one, scaled(mean, scale));
        assert_eq!(actual, [expected; 3]);
    }
}

#[test]
fn a_frame_without_pixels_leaves_only_padding() {
    let preparation = Preparation {
        resize: ResizeMode::Letterbox {
            fill: 7,
            anchor: Anchor::Center,
        },
        ..PLAIN
    };
    let empty = Picture::new(PixelFormat::Nv12, Colorimetry::default(), 0, 0, 0);
    let actual: Vec<f32> = tensor(&empty, input(4, 4, TensorLayout::Nchw), preparation);
    assert_eq!(actual, [7.0; 48]);
}

#[test]
fn a_preprocessor_follows_changes_of_format_and_size() {
    let target = input(20, 12, TensorLayout::Nchw);
    let mut preprocessor = Preprocessor::new(target, PLAIN, Shrinking::Bilinear);
    let mut actual = vec![f32::NAN; 3 * 20 * 12];
    for (seed, format) in FORMATS.into_iter().enumerate() {
        for (width, height) in [(31, 17), (31, 18), (5, 3)] {
            let mut picture = Picture::new(format, Colorimetry::default(), width, height, 3);
            picture.randomise(seed as u64);
            preprocessor.run(&picture.frame(), &mut actual);
            let fresh: Vec<f32> = tensor(&picture, target, PLAIN);
            assert_eq!(actual, fresh);
        }
    }
}

/// Sizes that shrink to less than half on both axes, on one, and on none, to odd and even tensors.
#[test]
fn averages_of_every_format_count_every_sample_by_the_part_that_a_pixel_covers() {
    let letterbox = Preparation {
        resize: ResizeMode::Letterbox {
            fill: 114,
            anchor: Anchor::Center,
        },
        ..PLAIN
    };
    let target = input(19, 14, TensorLayout::Nchw);
    for format in FORMATS {
        for (width, height) in [(131, 77), (76, 56), (97, 20), (21, 83), (38, 28), (39, 29)] {
            let mut picture = Picture::new(format, Colorimetry::default(), width, height, 3);
            picture.randomise((width * height) as u64);
            for preparation in [PLAIN, letterbox] {
                let average = Shrinking::Average;
                let actual: Vec<f32> = shrunk_tensor(&picture, target, preparation, average);
                let expected = reference(&picture, target, &preparation, average);
                let expected: Vec<f32> = expected.into_iter().map(|value| value as f32).collect();
                assert_close(&actual, &expected, 1e-3);
            }
        }
    }
}

#[test]
fn a_line_beside_the_nearest_two_samples_counts_only_in_an_average() {
    let mut picture = Picture::new(PixelFormat::Rgb, Colorimetry::default(), 40, 40, 0);
    picture.fill(|component, column, row| match component {
        0 if column == 0 => 200.0,
        1 if row == 3 => 100.0,
        _ => 0.0,
    });
    let one = input(4, 4, TensorLayout::Nhwc);
    let upper_left = |shrinking| {
        let tensor: Vec<f32> = shrunk_tensor(&picture, one, PLAIN, shrinking);
        [tensor[0], tensor[1], tensor[2]]
    };
    assert_eq!(upper_left(Shrinking::Bilinear), [0.0; 3]);
    assert_close(&upper_left(Shrinking::Average), &[20.0, 10.0, 0.0], 1e-5);
}

#[test]
fn an_axis_that_shrinks_to_half_or_more_is_never_averaged() {
    let target = input(20, 15, TensorLayout::Nchw);
    for format in FORMATS {
        let mut picture = Picture::new(format, Colorimetry::default(), 40, 30, 0);
        picture.randomise(7);
        let plain: Vec<f32> = tensor(&picture, target, PLAIN);
        let averaged: Vec<f32> = shrunk_tensor(&picture, target, PLAIN, Shrinking::Average);
        assert_eq!(plain, averaged);
    }
}

fn resize_modes() -> impl Strategy<Value = ResizeMode> {
    let anchor = prop_oneof![Just(Anchor::Center), Just(Anchor::TopLeft)];
    prop_oneof![
        Just(ResizeMode::Stretch),
        (any::<u8>(), anchor).prop_map(|(fill, anchor)| ResizeMode::Letterbox { fill, anchor }),
    ]
}

fn inputs() -> impl Strategy<Value = InputGeometry> {
    let layout = prop_oneof![Just(TensorLayout::Nchw), Just(TensorLayout::Nhwc)];
    (1..80usize, 1..60usize, layout)
        .prop_map(|(width, height, layout)| input(width, height, layout))
}

fn preparations() -> impl Strategy<Value = Preparation> {
    let order = prop_oneof![Just(ChannelOrder::Rgb), Just(ChannelOrder::Bgr)];
    let mean = prop::array::uniform3(0.0..255.0f32);
    let scale = prop::array::uniform3(0.001..2.0f32);
    (resize_modes(), order, mean, scale).prop_map(|(resize, order, mean, scale)| Preparation {
        resize,
        order,
        mean,
        scale,
    })
}

fn random_pictures() -> impl Strategy<Value = Picture> {
    let matrix = prop_oneof![
        Just(ColorMatrix::Bt601),
        Just(ColorMatrix::Bt709),
        Just(ColorMatrix::Bt2020),
        Just(ColorMatrix::Smpte240m),
        Just(ColorMatrix::Fcc),
    ];
    let colorimetry =
        (matrix, any::<bool>()).prop_map(|(matrix, full_range)| Colorimetry { matrix, full_range });
    let size = prop_oneof![
        (1..6usize, 1..6usize),
        (1..200usize, 1..90usize),
        (8100..8193usize, 1..4usize),
        (1..4usize, 8100..8193usize),
    ];
    let format = prop::sample::select(FORMATS.to_vec());
    (format, colorimetry, size, 0..9usize, any::<u64>()).prop_map(
        |(format, colorimetry, (width, height), slack, seed)| {
            let mut picture = Picture::new(format, colorimetry, width, height, slack);
            picture.randomise(seed);
            picture
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_frame_gives_the_reference_tensor(
        picture in random_pictures(),
        input in inputs(),
        preparation in preparations(),
        shrinking in prop_oneof![Just(Shrinking::Bilinear), Just(Shrinking::Average)],
    ) {
        let actual: Vec<f32> = shrunk_tensor(&picture, input, preparation, shrinking);
        let expected = reference(&picture, input, &preparation, shrinking);
        for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {
            let arithmetic = match shrinking {
            Shrinking::Bilinear => 2e-4,
            Shrinking::Average => 1e-3,
        };
        let tolerance = arithmetic * f64::from(preparation.scale.into_iter().fold(1.0, f32::max));
            prop_assert!(
                (f64::from(*actual) - expected).abs() <= tolerance,
                "element {} is {}, not {}", index, actual, expected
            );
        }
    }

    #[test]
    fn boxes_find_back_into_the_frame(
        resize in resize_modes(),
        input in inputs(),
        (width, height) in (1..8192usize, 1..8192usize),
        (left, top, right, bottom) in (0.0..1.0f32, 0.0..1.0f32, 0.0..1.0f32, 0.0..1.0f32),
    ) {
        let placement = Placement::new(resize, input, width, height);
        prop_assert!(placement.left + placement.width <= input.width);
        prop_assert!(placement.top + placement.height <= input.height);
        let (frame_width, frame_height) = (width as f32, height as f32);
        let original = BoundingBox::from_corners(
            left.min(right) * frame_width,
            top.min(bottom) * frame_height,
            left.max(right) * frame_width,
            top.max(bottom) * frame_height,
        );
        let inside = placement.to_input(original);
        prop_assert!(inside.x >= placement.left as f32 - 1e-3);
        prop_assert!(inside.bottom() <= (placement.top + placement.height) as f32 + 1e-3);
        let back = placement.to_frame(inside);
        let tolerance = 1e-4 * frame_width.max(frame_height);
        prop_assert!((back.x - original.x).abs() <= tolerance);
        prop_assert!((back.y - original.y).abs() <= tolerance);
        prop_assert!((back.width - original.width).abs() <= tolerance);
        prop_assert!((back.height - original.height).abs() <= tolerance);
    }
}
