//! Thumbnails of a machine and of the CPU: the same bytes, which are those of the rules in src/thumbnail/mod.rs,
//! worked out pixel by pixel in fractions.

use gstrsdetectnet::crop::Rectangle;
use gstrsdetectnet::frame::{ColorMatrix, Colorimetry, DeviceFrame, PixelFormat};
use gstrsdetectnet::thumbnail::cpu::Thumbnailer;
use gstrsdetectnet::thumbnail::cuda::{Batch, ThumbnailError};
use gstrsdetectnet::thumbnail::{Area, MAX_SIDE};

use crate::machine::Machine;
use crate::picture::{FORMATS, Picture};
use crate::random::Random;

/// Whole 256ths of red, green and blue, as ITU-R BT.601-7, BT.709-6, BT.2020-2, SMPTE 240M and FCC 73.682 round.
fn weights(matrix: ColorMatrix) -> [u128; 3] {
    match matrix {
        ColorMatrix::Bt601 => [77, 150, 29],
        ColorMatrix::Bt709 => [54, 184, 18],
        ColorMatrix::Bt2020 => [67, 174, 15],
        ColorMatrix::Smpte240m => [54, 180, 22],
        ColorMatrix::Fcc => [77, 151, 28],
    }
}

/// The level of a pixel and that of white.
fn level(picture: &Picture, x: usize, y: usize) -> (u128, u128) {
    let (data, pitch) = &picture.planes()[0];
    let byte = |at: usize| u128::from(data[y * pitch + at]);
    let luma = |sample: u128, unit: u128, full: u128| match picture.colorimetry.full_range {
        true => (sample, full),
        false => (sample.clamp(16 * unit, 235 * unit) - 16 * unit, 219 * unit),
    };
    let grey = |size: usize, places: [usize; 3]| {
        let parts = weights(picture.colorimetry.matrix).into_iter().zip(places);
        let sum: u128 = parts.map(|(weight, at)| weight * byte(size * x + at)).sum();
        (sum, 255 * 256)
    };
    let over_black =
        |(level, white): (u128, u128), at: usize| (level * byte(4 * x + at), white * 255);
    match picture.format {
        PixelFormat::Nv12 | PixelFormat::Nv21 | PixelFormat::I420 | PixelFormat::Gray8 => {
            luma(byte(x), 1, 255)
        }
        PixelFormat::P010 => luma((byte(2 * x + 1) * 256 + byte(2 * x)) / 64, 4, 1023),
        PixelFormat::Yuy2 => luma(byte(2 * x), 1, 255),
        PixelFormat::Uyvy => luma(byte(2 * x + 1), 1, 255),
        PixelFormat::Rgb => grey(3, [0, 1, 2]),
        PixelFormat::Bgr => grey(3, [2, 1, 0]),
        PixelFormat::Rgbx => grey(4, [0, 1, 2]),
        PixelFormat::Bgrx => grey(4, [2, 1, 0]),
        PixelFormat::Xrgb => grey(4, [1, 2, 3]),
        PixelFormat::Rgba => over_black(grey(4, [0, 1, 2]), 3),
        PixelFormat::Bgra => over_black(grey(4, [2, 1, 0]), 3),
        PixelFormat::Argb => over_black(grey(4, [1, 2, 3]), 0),
    }
}

/// What two intervals share, in parts of a pixel of which there are `side`.
fn shared(pixel: usize, cell: usize, side: usize, length: usize) -> u128 {
    let from = (pixel * side).max(cell * length);
    let to = ((pixel + 1) * side).min((cell + 1) * length);
    to.saturating_sub(from) as u128
}

fn expected(picture: &Picture, pixels: Rectangle, side: usize) -> Vec<u8> {
    let mut sums = vec![0; side * side];
    let mut white = 0;
    for y in 0..pixels.height {
        let rows = y * side / pixels.height..=((y + 1) * side - 1) / pixels.height;
        for x in 0..pixels.width {
            let (level, highest) = level(picture, pixels.x + x, pixels.y + y);
            white = highest;
            let columns = x * side / pixels.width..=((x + 1) * side - 1) / pixels.width;
            for row in rows.clone() {
                for column in columns.clone() {
                    let area =
                        shared(x, column, side, pixels.width) * shared(y, row, side, pixels.height);
                    sums[row * side + column] += level * area;
                }
            }
        }
    }
    let whole = white * (pixels.width * pixels.height) as u128;
    // Rounded to nearest, halves up.
    let byte = |sum: u128| ((2 * 255 * sum + whole) / (2 * whole)) as u8;
    sums.into_iter().map(byte).collect()
}

/// The thumbnails that a machine makes, and how many launches that took.
fn on_machine(
    machine: &impl Machine,
    frames: &[DeviceFrame],
    areas: &[Area],
    side: usize,
) -> (Vec<u8>, usize) {
    let count = areas.len() * side * side;
    let sums = machine.upload(&vec![0; 8 * count]);
    let cells = machine.upload(&vec![77; count]);
    let (mut done, mut launches) = (0, 0);
    while done < areas.len() {
        let offset = (done * side * side) as u64;
        let (batch, taken) = Batch::new(
            frames,
            &areas[done..],
            side,
            sums + 8 * offset,
            cells + offset,
        )
        .unwrap();
        machine.thumbnail(&batch);
        done += taken;
        launches += 1;
    }
    let left = machine.download(sums, 8 * count);
    assert!(left.iter().all(|byte| *byte == 0), "sums are left");
    (machine.download(cells, count), launches)
}

fn on_cpu(picture: &Picture, areas: &[Area], side: usize) -> Vec<u8> {
    let mut thumbnails = Vec::new();
    Thumbnailer::default().append(&picture.system(), areas, side, &mut thumbnails);
    thumbnails
}

fn check(machine: &impl Machine, picture: &Picture, pixels: Rectangle, side: usize) {
    let area = Area { frame: 0, pixels };
    let wanted = expected(picture, pixels, side);
    let what = |where_: &str| {
        let (format, width, height) = (picture.format, picture.width, picture.height);
        format!("{side}x{side} of {pixels:?} of {format:?} {width}x{height} {where_}")
    };
    assert_eq!(
        on_cpu(picture, &[area], side),
        wanted,
        "{}",
        what("on the CPU")
    );
    let linear = picture.linear(machine);
    let made = on_machine(machine, &[linear], &[area], side);
    assert_eq!(made, (wanted.clone(), 1), "{}", what("in linear memory"));
    let textures = picture.textures(machine);
    let made = on_machine(machine, &[textures], &[area], side);
    assert_eq!(made, (wanted, 1), "{}", what("in textures"));
}

fn picture(format: PixelFormat, size: (usize, usize)) -> Picture {
    Picture::noise(format, Colorimetry::default(), size, 8)
}

fn whole(picture: &Picture) -> Rectangle {
    Area::whole(0, picture.width, picture.height).pixels
}

pub fn every_format_at_every_kind_of_side(machine: &impl Machine) {
    for format in FORMATS {
        for size in [(97, 61), (40, 32), (1, 1)] {
            let picture = picture(format, size);
            for side in [1, 2, 3, 8, 16, 33] {
                check(machine, &picture, whole(&picture), side);
            }
        }
    }
}

pub fn every_side_of_frames_that_are_smaller_and_larger(machine: &impl Machine) {
    let pictures = [
        picture(PixelFormat::Nv12, (333, 187)),
        picture(PixelFormat::Rgba, (31, 9)),
    ];
    for picture in &pictures {
        for side in 1..=MAX_SIDE {
            check(machine, picture, whole(picture), side);
        }
    }
    // Cells that more rows belong to than are counted at once, on the CPU as by a warp of the machine.
    for format in [PixelFormat::Gray8, PixelFormat::Argb] {
        let tall = picture(format, (20, 2100));
        for side in [1, 2, 7] {
            check(machine, &tall, whole(&tall), side);
        }
    }
}

pub fn every_matrix_and_range_of_thumbnails(machine: &impl Machine) {
    use ColorMatrix::{Bt601, Bt709, Bt2020, Fcc, Smpte240m};
    for matrix in [Bt601, Bt709, Bt2020, Smpte240m, Fcc] {
        for full_range in [false, true] {
            for format in [
                PixelFormat::Nv12,
                PixelFormat::P010,
                PixelFormat::Gray8,
                PixelFormat::Bgr,
                PixelFormat::Argb,
            ] {
                let colorimetry = Colorimetry { matrix, full_range };
                let picture = Picture::noise(format, colorimetry, (31, 17), 0);
                check(machine, &picture, whole(&picture), 5);
            }
        }
    }
}

pub fn boxes_at_edges_of_single_pixels_and_whole_frames(machine: &impl Machine) {
    let (width, height) = (83, 47);
    let mut random = Random::new(5);
    for format in FORMATS {
        let picture = picture(format, (width, height));
        let mut boxes = vec![
            (0, 0, 1, 1),
            (width - 1, height - 1, 1, 1),
            (0, height - 1, width, 1),
            (width - 1, 0, 1, height),
            (1, 1, width - 2, height - 2),
        ];
        boxes.extend((0..3).map(|_| {
            let (x, y) = (random.below(width), random.below(height));
            let (w, h) = (random.below(width - x) + 1, random.below(height - y) + 1);
            (x, y, w, h)
        }));
        for (x, y, width, height) in boxes {
            let pixels = Rectangle {
                x,
                y,
                width,
                height,
            };
            check(machine, &picture, pixels, 1 + random.below(12));
        }
    }
}

pub fn many_areas_of_many_frames_in_as_few_launches_as_they_fit(machine: &impl Machine) {
    let formats = FORMATS.into_iter().cycle();
    let pictures: Vec<Picture> = formats
        .zip(0..40)
        .map(|(format, i)| picture(format, (20 + 3 * i, 50 - i)))
        .collect();
    let storages = [Picture::linear, Picture::textures];
    let frames: Vec<DeviceFrame> = pictures
        .iter()
        .zip(storages.into_iter().cycle())
        .map(|(picture, store)| store(picture, machine))
        .collect();
    let mut random = Random::new(6);
    let areas: Vec<Area> = (0..pictures.len())
        .flat_map(|frame| [frame; 5])
        .map(|frame| {
            let (width, height) = (pictures[frame].width, pictures[frame].height);
            let (x, y) = (random.below(width), random.below(height));
            let pixels = Rectangle {
                x,
                y,
                width: random.below(width - x) + 1,
                height: random.below(height - y) + 1,
            };
            Area { frame, pixels }
        })
        .collect();
    let side = 9;
    let wanted: Vec<u8> = areas
        .iter()
        .flat_map(|area| expected(&pictures[area.frame], area.pixels, side))
        .collect();
    // 128 areas, of frames 0 to 25; then the rest, of frames 25 to 39.
    assert_eq!(
        on_machine(machine, &frames, &areas, side),
        (wanted.clone(), 2)
    );
    // One area of each frame: 32 frames, then 8.
    let firsts: Vec<Area> = areas.iter().step_by(5).copied().collect();
    let (made, launches) = on_machine(machine, &frames, &firsts, side);
    assert_eq!(launches, 2);
    let wanted: Vec<&[u8]> = wanted.chunks(side * side).step_by(5).collect();
    assert_eq!(made, wanted.concat());

    let outside = Area::whole(0, 21, 50);
    let refused = Batch::new(&frames, &[outside], side, 0, 0);
    assert_eq!(refused.unwrap_err(), ThumbnailError::Outside(outside));
    let nowhere = Area::whole(40, 1, 1);
    let refused = Batch::new(&frames, &[nowhere], side, 0, 0);
    assert_eq!(refused.unwrap_err(), ThumbnailError::Outside(nowhere));
    let refused = Batch::new(&frames, &areas, 65, 0, 0);
    assert_eq!(refused.unwrap_err(), ThumbnailError::Side { side: 65 });
}

pub fn black_white_and_what_lies_beyond_them(machine: &impl Machine) {
    for (full_range, levels) in [
        (
            false,
            [
                (0, 0),
                (16, 0),
                (17, 1),
                (125, 127),
                (126, 128),
                (235, 255),
                (255, 255),
            ],
        ),
        (
            true,
            [
                (0, 0),
                (1, 1),
                (16, 16),
                (126, 126),
                (128, 128),
                (235, 235),
                (255, 255),
            ],
        ),
    ] {
        for (luma, wanted) in levels {
            let colorimetry = Colorimetry {
                matrix: ColorMatrix::Bt709,
                full_range,
            };
            let picture = Picture::plain(PixelFormat::Nv12, colorimetry, (50, 40), luma);
            assert_eq!(on_cpu(&picture, &[Area::whole(0, 50, 40)], 7), [wanted; 49]);
            check(machine, &picture, whole(&picture), 7);
        }
    }
}
