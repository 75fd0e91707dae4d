//! Crops: their own samples where format and size are the frame's, and else the rules of preprocessing.

use gstrsdetectnet::crop::render::{CropResize, Renderer};
use gstrsdetectnet::crop::{Rectangle, copy};
use gstrsdetectnet::frame::{ColorMatrix, Colorimetry, PixelFormat};
use gstrsdetectnet::preprocess::{
    Anchor, ChannelOrder, InputGeometry, Preparation, ResizeMode, Shrinking, TensorLayout,
};
use proptest::prelude::*;

use super::pictures::{FORMATS, Picture, reference};

const LIMITED: Colorimetry = Colorimetry {
    matrix: ColorMatrix::Bt709,
    full_range: false,
};
const FULL: Colorimetry = Colorimetry {
    matrix: ColorMatrix::Bt601,
    full_range: true,
};

fn noise(format: PixelFormat, width: usize, height: usize, seed: u64) -> Picture {
    let mut picture = Picture::new(format, LIMITED, width, height, 7);
    picture.randomise(seed);
    picture
}

/// A rectangle within a frame, in whole chroma samples.
fn rectangle(
    format: PixelFormat,
    (width, height): (usize, usize),
    [left, top, across, down]: [f64; 4],
) -> Rectangle {
    let (columns, rows) = format.subsampling();
    let span = |start: f64, length: f64, size: usize, step: usize| {
        let first = ((start * size as f64) as usize).min(size - 1) / step * step;
        let free = size - first;
        let length = (1 + (length * (free - 1) as f64) as usize).next_multiple_of(step);
        (first, length.min(free))
    };
    let (x, width) = span(left, across, width, columns);
    let (y, height) = span(top, down, height, rows);
    Rectangle {
        x,
        y,
        width,
        height,
    }
}

proptest! {
    #[test]
    fn copies_have_the_samples_of_the_frame_at_edges_odd_sizes_and_single_pixels(
        format in proptest::sample::select(FORMATS.as_slice()),
        size in (1usize..70, 1usize..70),
        part in [0f64..1.0, 0f64..1.0, 0f64..1.0, 0f64..1.0],
    ) {
        let frame = noise(format, size.0, size.1, 5);
        let r = rectangle(format, size, part);
        let mut target = Picture::new(format, LIMITED, r.width, r.height, 3);
        copy(&frame.frame(), r, &mut target.frame_mut());
        for component in 0..frame.components() {
            let here = target.codes(component, [0, 0, r.width, r.height]);
            prop_assert_eq!(here, frame.codes(component, [r.x, r.y, r.width, r.height]));
        }
    }
}

/// The RGB samples of a frame drawn into another size by the reference of preprocessing.
fn resampled(frame: &Picture, width: usize, height: usize, resize: ResizeMode) -> Vec<f64> {
    let input = InputGeometry {
        width,
        height,
        layout: TensorLayout::Nhwc,
    };
    let preparation = Preparation {
        resize,
        order: ChannelOrder::Rgb,
        mean: [0.0; 3],
        scale: [1.0; 3],
    };
    reference(frame, input, &preparation, Shrinking::default())
}

fn assert_close(given: &[f64], wanted: &[f64], tolerance: f64, what: &str) {
    assert_eq!(given.len(), wanted.len(), "{what}");
    for (index, (given, wanted)) in given.iter().zip(wanted).enumerate() {
        let apart = (given - wanted).abs();
        assert!(
            apart <= tolerance,
            "{what}: {given} is not {wanted} at {index}"
        );
    }
}

#[test]
fn crops_of_every_format_become_rgb_as_the_network_would_see_them() {
    let mut renderer = Renderer::default();
    for format in FORMATS {
        let frame = noise(format, 51, 37, 9);
        for (width, height) in [(224, 224), (51, 37), (20, 9), (1, 1)] {
            for target_format in [PixelFormat::Rgb, PixelFormat::Bgra, PixelFormat::Argb] {
                if format == target_format && (width, height) == (51, 37) {
                    continue;
                }
                let mut target = Picture::new(target_format, LIMITED, width, height, 0);
                renderer.render(&frame.frame(), &mut target.frame_mut(), CropResize::Stretch);
                let wanted = resampled(&frame, width, height, ResizeMode::Stretch);
                for component in 0..3 {
                    let wanted: Vec<_> =
                        wanted.iter().skip(component).step_by(3).copied().collect();
                    let given = target.codes(component, [0, 0, width, height]);
                    let what = format!("{format:?} to {target_format:?} {width}x{height}");
                    assert_close(&given, &wanted, 0.502, &what);
                }
            }
        }
    }
}

/// A picture whose colours change slowly, and not at all in colour where one of the formats has none.
fn gradient(
    format: PixelFormat,
    other: PixelFormat,
    width: usize,
    height: usize,
    size: f64,
) -> Picture {
    let grey = format == PixelFormat::Gray8 || other == PixelFormat::Gray8;
    let colorimetry = match (grey, format) {
        (true, _) => FULL,
        (false, PixelFormat::I420 | PixelFormat::Uyvy) => FULL,
        _ => LIMITED,
    };
    Picture::drawn(format, colorimetry, width, height, |x, y| {
        let (x, y) = (
            (x + 0.5) / width as f64 * size,
            (y + 0.5) / height as f64 * size,
        );
        match grey {
            true => [60.0 + x + y; 3],
            false => [60.0 + x, 150.0 - 0.5 * y, 80.0 + 0.5 * (x + y)],
        }
    })
}

#[test]
fn every_format_becomes_every_other_with_its_colours_and_chroma_in_place() {
    let mut renderer = Renderer::default();
    for from in FORMATS {
        for to in FORMATS {
            for (width, height) in [(64, 48), (33, 71)] {
                let source = gradient(from, to, 64, 48, 40.0);
                let wanted = gradient(to, from, width, height, 40.0);
                let mut target = gradient(to, from, width, height, 0.0);
                renderer.render(
                    &source.frame(),
                    &mut target.frame_mut(),
                    CropResize::Stretch,
                );
                for component in 0..target.components() {
                    let whole = [0, 0, width, height];
                    let (given, wanted) = (
                        target.codes(component, whole),
                        wanted.codes(component, whole),
                    );
                    // Y, U, V are rounded when they are drawn and when they are interpolated, and then the result is.
                    let tolerance = if to == PixelFormat::P010 { 10.0 } else { 3.8 };
                    assert_close(
                        &given,
                        &wanted,
                        tolerance,
                        &format!("{from:?} to {to:?} {width}x{height} {component}"),
                    );
                }
            }
        }
    }
}

#[test]
fn formats_that_store_the_same_samples_keep_them_bit_by_bit() {
    use PixelFormat::{Bgra, Bgrx, I420, Nv12, Nv21, Rgb, Rgba, Uyvy, Yuy2};
    for formats in [
        &[Nv12, Nv21, I420][..],
        &[Yuy2, Uyvy],
        &[Rgb, Rgba, Bgra, Bgrx],
    ] {
        for from in formats {
            for to in formats {
                let frame = noise(*from, 33, 21, 3);
                let mut target = Picture::new(*to, LIMITED, 33, 21, 1);
                Renderer::default().render(
                    &frame.frame(),
                    &mut target.frame_mut(),
                    CropResize::Letterbox,
                );
                for component in 0..3 {
                    let whole = [0, 0, 33, 21];
                    assert_eq!(
                        target.codes(component, whole),
                        frame.codes(component, whole),
                        "{from:?} to {to:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_letterbox_keeps_the_aspect_ratio_between_black_bars() {
    for format in FORMATS {
        let white = Picture::drawn(PixelFormat::Rgb, LIMITED, 40, 20, |_, _| [255.0; 3]);
        let mut target = noise(format, 80, 80, 1);
        Renderer::default().render(
            &white.frame(),
            &mut target.frame_mut(),
            CropResize::Letterbox,
        );
        let (black, bright, neutral) = match format {
            PixelFormat::P010 => (64.0, 940.0, 512.0),
            _ if format.is_yuv() || format == PixelFormat::Gray8 => (16.0, 235.0, 128.0),
            _ => (0.0, 255.0, 0.0),
        };
        for component in 0..target.components() {
            let chroma = format.is_yuv() && component > 0;
            let (black, bright) = if chroma {
                (neutral, neutral)
            } else {
                (black, bright)
            };
            for (rows, wanted) in [
                ([0, 0, 80, 20], black),
                ([0, 20, 80, 40], bright),
                ([0, 60, 80, 20], black),
            ] {
                let codes = target.codes(component, rows);
                assert!(
                    codes.iter().all(|code| *code == wanted),
                    "{format:?} {component} {rows:?}"
                );
            }
        }
    }
}

#[test]
fn a_letterboxed_noise_is_the_one_that_the_network_would_see() {
    let frame = noise(PixelFormat::Nv12, 30, 50, 4);
    let mut target = Picture::new(PixelFormat::Rgb, LIMITED, 64, 64, 0);
    Renderer::default().render(
        &frame.frame(),
        &mut target.frame_mut(),
        CropResize::Letterbox,
    );
    let anchor = Anchor::Center;
    let wanted = resampled(&frame, 64, 64, ResizeMode::Letterbox { fill: 0, anchor });
    for component in 0..3 {
        let wanted: Vec<_> = wanted.iter().skip(component).step_by(3).copied().collect();
        assert_close(
            &target.codes(component, [0, 0, 64, 64]),
            &wanted,
            0.502,
            "letterbox",
        );
    }
}

proptest! {
    #[test]
    fn any_size_of_any_format_fits_into_any_other(
        from in proptest::sample::select(FORMATS.as_slice()),
        to in proptest::sample::select(FORMATS.as_slice()),
        (width, height) in (1usize..40, 1usize..40),
        (across, down) in (1usize..40, 1usize..40),
        resize in proptest::sample::select([CropResize::Letterbox, CropResize::Stretch].as_slice()),
    ) {
        let frame = noise(from, width, height, 2);
        let mut target = Picture::new(to, FULL, across, down, 0);
        Renderer::default().render(&frame.frame(), &mut target.frame_mut(), resize);
    }
}
