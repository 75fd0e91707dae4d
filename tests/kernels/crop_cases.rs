//! Crops on a machine, and those that the CPU makes.

use gstrsdetectnet::crop::cuda::{CropError, Cut, Jobs};
use gstrsdetectnet::crop::render::{CropResize, Renderer};
use gstrsdetectnet::crop::{Rectangle, copy};
use gstrsdetectnet::frame::{
    ColorMatrix, Colorimetry, DeviceFrame, DevicePlane, DeviceStorage, PixelFormat, SystemFrame,
    SystemFrameMut,
};

use crate::machine::Machine;
use crate::picture::frames::{system_frame, system_frame_mut};
use crate::picture::{FORMATS, Picture};
use crate::random::Random;

/// What memory holds where nothing has been written.
const UNTOUCHED: u8 = 0xa5;

/// What a crop is to become.
#[derive(Clone, Copy, Debug)]
struct Wish {
    rectangle: Rectangle,
    format: PixelFormat,
    colorimetry: Colorimetry,
    size: (usize, usize),
    resize: CropResize,
}

impl Wish {
    /// The frame's own pixels.
    fn native(picture: &Picture, rectangle: Rectangle) -> Self {
        Self {
            rectangle,
            format: picture.format,
            colorimetry: picture.colorimetry,
            size: (rectangle.width, rectangle.height),
            resize: CropResize::Letterbox,
        }
    }
}

/// A frame in this process: for each plane the bytes, and from one row to the next.
struct Pixels {
    wish: Wish,
    planes: Vec<(Vec<u8>, usize)>,
}

impl Pixels {
    fn untouched(wish: Wish) -> Self {
        let planes = (0..wish.format.planes())
            .map(|plane| {
                let (row, rows) = wish.format.plane_size(plane, wish.size.0, wish.size.1);
                let pitch = row.next_multiple_of(4) + 8;
                (vec![UNTOUCHED; pitch * rows], pitch)
            })
            .collect();
        Self { wish, planes }
    }

    fn frame_mut(&mut self) -> SystemFrameMut<'_> {
        let Wish {
            format,
            colorimetry,
            size,
            ..
        } = self.wish;
        system_frame_mut(format, colorimetry, size, &mut self.planes)
    }

    /// What the CPU makes of a wish.
    fn of_the_cpu(source: &SystemFrame<'_>, wish: Wish, renderer: &mut Renderer) -> Self {
        let mut staged = Self::untouched(Wish {
            format: source.format,
            colorimetry: source.colorimetry,
            size: (wish.rectangle.width, wish.rectangle.height),
            ..wish
        });
        copy(source, wish.rectangle, &mut staged.frame_mut());
        let mut target = Self::untouched(wish);
        let size = staged.wish.size;
        let cut = system_frame(source.format, source.colorimetry, size, &staged.planes);
        renderer.render(&cut, &mut target.frame_mut(), wish.resize);
        target
    }

    /// Its bytes in the memory of a machine.
    fn upload(&self, machine: &impl Machine) -> DeviceFrame {
        let mut planes = [DevicePlane::default(); 3];
        for (plane, (data, pitch)) in planes.iter_mut().zip(&self.planes) {
            *plane = DevicePlane {
                pointer: machine.upload(data),
                pitch: *pitch,
            };
        }
        DeviceFrame {
            format: self.wish.format,
            colorimetry: self.wish.colorimetry,
            width: self.wish.size.0,
            height: self.wish.size.1,
            storage: DeviceStorage::Pitch,
            planes,
        }
    }
}

/// How far apart stored values of a format are.
fn step(format: PixelFormat) -> i32 {
    if format == PixelFormat::P010 { 64 } else { 1 }
}

/// Stored values of a plane, of one byte or two.
fn values(format: PixelFormat, bytes: &[u8]) -> Vec<i32> {
    match format {
        PixelFormat::P010 => {
            let words = bytes.as_chunks().0.iter();
            words.map(|word| u16::from_le_bytes(*word).into()).collect()
        }
        _ => bytes.iter().map(|byte| (*byte).into()).collect(),
    }
}

/// Cuts everything out in one launch, and compares it with what the CPU makes of the same wishes: copies to the bit,
/// others to the last place of a value, which the order of additions may decide.
fn check(machine: &impl Machine, picture: &Picture, source: &DeviceFrame, wishes: &[Wish]) {
    let mut jobs = Jobs::default();
    let targets: Vec<DeviceFrame> = wishes
        .iter()
        .map(|wish| {
            let target = Pixels::untouched(*wish).upload(machine);
            jobs.push(&Cut {
                source: *source,
                rectangle: wish.rectangle,
                target,
                resize: wish.resize,
            })
            .unwrap();
            target
        })
        .collect();
    let mut table = vec![0; jobs.size()];
    jobs.write(&mut table);
    machine.crop(&jobs.launch(machine.upload(&table)));

    let mut renderer = Renderer::default();
    let (mut different, mut all) = (0, 0);
    for (wish, target) in wishes.iter().zip(targets) {
        let expected = Pixels::of_the_cpu(&picture.system(), *wish, &mut renderer);
        let native = Wish::native(picture, wish.rectangle);
        let is_copy = (wish.format, wish.colorimetry, wish.size)
            == (native.format, native.colorimetry, native.size);
        let what = format!(
            "{:?} {:?} {wish:?}",
            picture.format,
            (picture.width, picture.height)
        );
        for (plane, (bytes, pitch)) in expected.planes.iter().enumerate() {
            let given = machine.download(target.planes[plane].pointer, bytes.len());
            let (row, rows) = wish.format.plane_size(plane, wish.size.0, wish.size.1);
            for y in 0..rows {
                let (given, wanted) =
                    (&given[y * pitch..][..*pitch], &bytes[y * pitch..][..*pitch]);
                assert_eq!(given[row..], wanted[row..], "written beyond a row: {what}");
                let (given, wanted) = (&given[..row], &wanted[..row]);
                if is_copy {
                    assert_eq!(given, wanted, "plane {plane} row {y} of {what}");
                    continue;
                }
                // The second luma of a pair that the picture has not is nobody's.
                let nobodys = |at: usize| match wish.format {
                    PixelFormat::Yuy2 => wish.size.0 % 2 == 1 && at == row - 2,
                    PixelFormat::Uyvy => wish.size.0 % 2 == 1 && at == row - 1,
                    _ => false,
                };
                let both = values(wish.format, given)
                    .into_iter()
                    .zip(values(wish.format, wanted));
                for (at, (given, wanted)) in both.enumerate().filter(|(at, _)| !nobodys(*at)) {
                    let apart = (given - wanted).abs();
                    assert!(
                        apart <= step(wish.format),
                        "{given} is not {wanted} at {at}, {y} of plane {plane} of {what}"
                    );
                    different += usize::from(apart != 0);
                    all += 1;
                }
            }
        }
    }
    assert!(different * 10_000 <= all, "{different} of {all}");
}

/// Rectangles of a frame that cut no chroma sample apart: the whole, the corners, single pixels, and random ones.
fn rectangles(picture: &Picture, random: &mut Random, count: usize) -> Vec<Rectangle> {
    let (columns, rows) = picture.format.subsampling();
    let span = |first: usize, length: usize, step: usize, limit: usize| {
        let first = first.min(limit - 1) / step * step;
        (first, length.next_multiple_of(step).min(limit - first))
    };
    let rectangle = |x: usize, y: usize, width: usize, height: usize| {
        let (x, width) = span(x, width, columns, picture.width);
        let (y, height) = span(y, height, rows, picture.height);
        Rectangle {
            x,
            y,
            width,
            height,
        }
    };
    let (right, bottom) = (picture.width, picture.height);
    let mut all = vec![
        rectangle(0, 0, right, bottom),
        rectangle(0, 0, 1, 1),
        rectangle(right - 1, bottom - 1, 1, 1),
        rectangle(right - 1, 0, 1, bottom),
        rectangle(0, bottom - 1, right, 1),
    ];
    all.resize_with(count, || {
        let (x, y) = (random.below(right), random.below(bottom));
        rectangle(x, y, 1 + random.below(right), 1 + random.below(bottom))
    });
    all
}

fn noise(format: PixelFormat, size: (usize, usize)) -> Picture {
    Picture::noise(format, colorimetry(ColorMatrix::Bt709, false), size, 4)
}

fn colorimetry(matrix: ColorMatrix, full_range: bool) -> Colorimetry {
    Colorimetry { matrix, full_range }
}

pub fn copies_are_the_frame_s_own_samples(machine: &impl Machine) {
    let mut random = Random::new(41);
    for format in FORMATS {
        for size in [(133, 41), (64, 32), (1, 1)] {
            let picture = noise(format, size);
            let wishes: Vec<_> = rectangles(&picture, &mut random, 12)
                .into_iter()
                .map(|rectangle| Wish::native(&picture, rectangle))
                .collect();
            check(machine, &picture, &picture.linear(machine), &wishes);
            check(machine, &picture, &picture.textures(machine), &wishes);
        }
    }
}

pub fn every_format_becomes_every_other_as_on_the_cpu(machine: &impl Machine) {
    let mut random = Random::new(42);
    for format in FORMATS {
        let picture = noise(format, (75, 51));
        let source = picture.linear(machine);
        let mut wishes = Vec::new();
        for target in FORMATS {
            let sizes = [(75, 51), (70, 34), (33, 19), (1, 1), (90, 17)];
            for (rectangle, size) in rectangles(&picture, &mut random, 8)
                .into_iter()
                .zip(sizes.into_iter().cycle())
            {
                for resize in [CropResize::Letterbox, CropResize::Stretch] {
                    wishes.push(Wish {
                        format: target,
                        size,
                        resize,
                        ..Wish::native(&picture, rectangle)
                    });
                }
            }
        }
        check(machine, &picture, &source, &wishes);
    }
}

pub fn colours_follow_matrices_and_ranges(machine: &impl Machine) {
    let all = [
        colorimetry(ColorMatrix::Bt601, false),
        colorimetry(ColorMatrix::Bt601, true),
        colorimetry(ColorMatrix::Bt709, true),
        colorimetry(ColorMatrix::Bt2020, false),
        colorimetry(ColorMatrix::Smpte240m, false),
        colorimetry(ColorMatrix::Fcc, false),
    ];
    for from in [
        PixelFormat::Nv12,
        PixelFormat::P010,
        PixelFormat::Gray8,
        PixelFormat::Bgr,
    ] {
        for source_colorimetry in all {
            let picture = Picture::noise(from, source_colorimetry, (24, 14), 0);
            let whole = rectangles(&picture, &mut Random::new(0), 1)[0];
            let formats = [
                PixelFormat::I420,
                PixelFormat::P010,
                PixelFormat::Gray8,
                PixelFormat::Rgba,
            ];
            let wishes: Vec<_> = all
                .into_iter()
                .flat_map(|colorimetry| {
                    formats.map(|format| Wish {
                        format,
                        colorimetry,
                        ..Wish::native(&picture, whole)
                    })
                })
                .collect();
            check(machine, &picture, &picture.linear(machine), &wishes);
        }
    }
}

pub fn five_hundred_crops_in_one_launch(machine: &impl Machine) {
    let picture = noise(PixelFormat::Nv12, (321, 181));
    let mut random = Random::new(43);
    let wishes: Vec<_> = rectangles(&picture, &mut random, 500)
        .into_iter()
        .zip(0..)
        .map(|(rectangle, index)| {
            let native = Wish::native(&picture, rectangle);
            match index % 3 {
                0 if rectangle.width * rectangle.height < 4000 => native,
                1 => Wish {
                    format: PixelFormat::Rgba,
                    size: (56, 56),
                    ..native
                },
                _ => Wish {
                    size: (40, 30),
                    resize: CropResize::Stretch,
                    ..native
                },
            }
        })
        .collect();
    check(machine, &picture, &picture.linear(machine), &wishes);
}

pub fn textures_give_the_same_crops(machine: &impl Machine) {
    let mut random = Random::new(44);
    for format in FORMATS {
        let picture = noise(format, (75, 51));
        let wishes: Vec<_> = rectangles(&picture, &mut random, 9)
            .into_iter()
            .zip(
                [PixelFormat::Rgba, PixelFormat::Nv12, PixelFormat::Gray8]
                    .into_iter()
                    .cycle(),
            )
            .map(|(rectangle, format)| Wish {
                format,
                size: (66, 34),
                ..Wish::native(&picture, rectangle)
            })
            .collect();
        check(machine, &picture, &picture.textures(machine), &wishes);
    }
}

pub fn what_is_no_part_of_a_frame_is_refused(machine: &impl Machine) {
    let picture = noise(PixelFormat::Nv12, (64, 32));
    let source = picture.linear(machine);
    let inside = Rectangle {
        x: 2,
        y: 4,
        width: 10,
        height: 8,
    };
    let target = Pixels::untouched(Wish::native(&picture, inside)).upload(machine);
    let push = |rectangle, source, target| {
        let resize = CropResize::Stretch;
        Jobs::default().push(&Cut {
            source,
            rectangle,
            target,
            resize,
        })
    };
    assert_eq!(push(inside, source, target), Ok(()));
    for outside in [
        Rectangle { x: 3, ..inside },
        Rectangle { y: 1, ..inside },
        Rectangle { x: 56, ..inside },
        Rectangle {
            height: 29,
            ..inside
        },
        Rectangle { width: 0, ..inside },
        Rectangle {
            width: usize::MAX,
            ..inside
        },
    ] {
        let refused = push(outside, source, target);
        assert_eq!(refused, Err(CropError::Rectangle(outside)));
    }
    let block_linear = DeviceFrame {
        storage: DeviceStorage::BlockLinear,
        ..source
    };
    assert_eq!(
        push(inside, block_linear, target),
        Err(CropError::NoTexture)
    );
    let block_linear = DeviceFrame {
        storage: DeviceStorage::BlockLinear,
        ..target
    };
    assert_eq!(
        push(inside, source, block_linear),
        Err(CropError::BlockLinear)
    );
}
