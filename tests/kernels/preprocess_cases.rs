//! Preprocessing on a machine against plain loops, and against the CPU bit by bit.

use gstrsdetectnet::frame::system::{Plane, PlaneMut};
use gstrsdetectnet::frame::{
    ColorMatrix, Colorimetry, PixelFormat, Rectangle, SystemFrame, SystemFrameMut,
};
use gstrsdetectnet::preprocess::cpu;
use gstrsdetectnet::preprocess::cuda::{Element, InputTensor, Preprocessor, Slot};
use gstrsdetectnet::preprocess::{
    Anchor, ChannelOrder, InputGeometry, Placement, Preparation, ResizeMode, Shrinking,
    TensorLayout,
};
use half::f16;

use crate::machine::Machine;
use crate::picture::{FORMATS, Picture};

const WIDTH: usize = 45;
const HEIGHT: usize = 21;
const SLOTS: usize = 3;
const LETTERBOX: ResizeMode = ResizeMode::Letterbox {
    fill: 114,
    anchor: Anchor::Center,
};

/// One way of preparing a tensor.
#[derive(Clone, Copy)]
struct Way {
    resize: ResizeMode,
    order: ChannelOrder,
    layout: TensorLayout,
    element: Element,
    shrinking: Shrinking,
}

const PLAIN: Way = Way {
    resize: ResizeMode::Stretch,
    order: ChannelOrder::Rgb,
    layout: TensorLayout::Nchw,
    element: Element::F32,
    shrinking: Shrinking::Bilinear,
};

impl Way {
    /// Bytes stay bytes; other elements become small numbers of either sign.
    fn preparation(&self) -> Preparation {
        let (mean, scale) = match self.element {
            Element::U8 => ([0.0; 3], [1.0; 3]),
            Element::I8 => ([128.0; 3], [1.0; 3]),
            _ => ([123.7, 116.3, 103.5], [1.0 / 58.4, 1.0 / 57.1, -1.0 / 57.4]),
        };
        Preparation {
            resize: self.resize,
            order: self.order,
            mean,
            scale,
        }
    }

    fn geometry(&self) -> InputGeometry {
        InputGeometry {
            width: WIDTH,
            height: HEIGHT,
            layout: self.layout,
        }
    }

    fn element_bytes(&self) -> usize {
        match self.element {
            Element::F32 => 4,
            Element::F16 => 2,
            Element::U8 | Element::I8 => 1,
        }
    }

    fn value(&self, tensor: &[u8], index: usize) -> f64 {
        let at = index * self.element_bytes();
        match self.element {
            Element::F32 => f64::from(f32::from_ne_bytes(tensor[at..at + 4].try_into().unwrap())),
            Element::F16 => f16::from_ne_bytes(tensor[at..at + 2].try_into().unwrap()).to_f64(),
            Element::U8 => f64::from(tensor[at]),
            Element::I8 => f64::from(tensor[at] as i8),
        }
    }

    /// How far arithmetic in single precision may move a value, of 255: colours alone, or coordinates too.
    fn tolerance(&self, value: f64) -> f64 {
        let arithmetic = match self.shrinking {
            Shrinking::Bilinear => 2e-4,
            Shrinking::Average => 0.04,
        };
        match self.element {
            Element::F32 => arithmetic / 57.0,
            Element::F16 => arithmetic / 57.0 + value.abs() / 2048.0,
            Element::U8 | Element::I8 => 0.5 + arithmetic,
        }
    }
}

/// Preprocesses pictures into a batch, the last one into the first slot, and compares every element.
fn check(machine: &impl Machine, way: Way, pictures: &[Picture], textures: bool) {
    assert!(pictures.len() <= SLOTS);
    let elements = SLOTS * 3 * WIDTH * HEIGHT;
    let untouched = vec![0x5a; elements * way.element_bytes()];
    let tensor = InputTensor {
        address: machine.upload(&untouched),
        geometry: way.geometry(),
        element: way.element,
        slots: SLOTS,
    };
    let preprocessor = Preprocessor::new(tensor, way.preparation(), way.shrinking);
    let slots: Vec<Slot> = pictures
        .iter()
        .enumerate()
        .map(|(i, picture)| {
            let frame = match textures {
                true => picture.textures(machine),
                false => picture.linear(machine),
            };
            Slot::whole(frame, pictures.len() - 1 - i)
        })
        .collect();
    machine.preprocess(&preprocessor.batch(&slots).unwrap());

    let result = machine.download(tensor.address, untouched.len());
    for (slot, picture) in slots.iter().zip(pictures) {
        check_image(&way, &result, slot.index, picture);
    }
    let used = pictures.len() * 3 * WIDTH * HEIGHT * way.element_bytes();
    assert!(
        result[used..] == untouched[used..],
        "other slots stay as they are"
    );
}

fn check_image(way: &Way, tensor: &[u8], slot: usize, picture: &Picture) {
    let placement = Placement::new(way.resize, way.geometry(), picture.width, picture.height);
    let preparation = way.preparation();
    let average = way.shrinking == Shrinking::Average;
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            let (inside_x, inside_y) = (
                x.wrapping_sub(placement.left),
                y.wrapping_sub(placement.top),
            );
            let mut pixel = if inside_x < placement.width && inside_y < placement.height {
                picture.pixel(&placement, inside_x, inside_y, average)
            } else {
                [114.0; 3]
            };
            if way.order == ChannelOrder::Bgr {
                pixel.reverse();
            }
            for (channel, value) in pixel.into_iter().enumerate() {
                let (mean, scale) = (preparation.mean[channel], preparation.scale[channel]);
                let expected = (value - f64::from(mean)) * f64::from(scale);
                let index = match way.layout {
                    TensorLayout::Nchw => ((slot * 3 + channel) * HEIGHT + y) * WIDTH + x,
                    TensorLayout::Nhwc => ((slot * HEIGHT + y) * WIDTH + x) * 3 + channel,
                };
                let actual = way.value(tensor, index);
                assert!(
                    (actual - expected).abs() <= way.tolerance(expected),
                    "{:?} {}x{} channel {channel} at {x},{y} is {actual}, should be {expected}",
                    picture.format,
                    picture.width,
                    picture.height,
                );
            }
        }
    }
}

fn picture(format: PixelFormat, size: (usize, usize)) -> Picture {
    let colorimetry = Colorimetry {
        matrix: ColorMatrix::Bt709,
        full_range: false,
    };
    Picture::noise(format, colorimetry, size, 12)
}

pub fn every_format_at_odd_and_even_sizes(machine: &impl Machine) {
    for format in FORMATS {
        for size in [(37, 23), (64, 48), (5, 3), (1, 1), (2, 7)] {
            check(machine, PLAIN, &[picture(format, size)], false);
        }
    }
}

pub fn textures_give_what_linear_memory_gives(machine: &impl Machine) {
    for format in FORMATS {
        for size in [(37, 23), (64, 48)] {
            check(machine, PLAIN, &[picture(format, size)], true);
        }
    }
}

pub fn letterbox_centered_and_top_left(machine: &impl Machine) {
    let top_left = ResizeMode::Letterbox {
        fill: 114,
        anchor: Anchor::TopLeft,
    };
    for resize in [LETTERBOX, top_left] {
        for size in [(64, 64), (97, 12), (20, 90)] {
            let way = Way { resize, ..PLAIN };
            check(machine, way, &[picture(PixelFormat::Nv12, size)], false);
        }
    }
}

pub fn every_element_layout_and_channel_order(machine: &impl Machine) {
    for element in [Element::F32, Element::F16, Element::U8, Element::I8] {
        for layout in [TensorLayout::Nchw, TensorLayout::Nhwc] {
            for order in [ChannelOrder::Rgb, ChannelOrder::Bgr] {
                let way = Way {
                    resize: LETTERBOX,
                    order,
                    layout,
                    element,
                    ..PLAIN
                };
                check(machine, way, &[picture(PixelFormat::Nv12, (50, 40))], false);
            }
        }
    }
}

pub fn every_matrix_and_range(machine: &impl Machine) {
    use ColorMatrix::{Bt601, Bt709, Bt2020, Fcc, Smpte240m};
    for matrix in [Bt601, Bt709, Bt2020, Smpte240m, Fcc] {
        for full_range in [false, true] {
            for format in [PixelFormat::Nv12, PixelFormat::P010, PixelFormat::Gray8] {
                let colorimetry = Colorimetry { matrix, full_range };
                let picture = Picture::noise(format, colorimetry, (31, 17), 0);
                check(machine, PLAIN, &[picture], false);
            }
        }
    }
}

pub fn averaging_counts_every_sample(machine: &impl Machine) {
    let way = Way {
        shrinking: Shrinking::Average,
        ..PLAIN
    };
    for format in FORMATS {
        for size in [(230, 131), (150, 30), (40, 111)] {
            for textures in [false, true] {
                check(machine, way, &[picture(format, size)], textures);
            }
        }
    }
}

/// Bit by bit, but where averages are computed in another order.
pub fn the_cpu_gives_the_same_numbers(machine: &impl Machine) {
    for shrinking in [Shrinking::Bilinear, Shrinking::Average] {
        for resize in [ResizeMode::Stretch, LETTERBOX] {
            let way = Way {
                resize,
                shrinking,
                ..PLAIN
            };
            for format in FORMATS {
                for size in [(230, 131), (150, 30), (40, 111), (45, 21), (1, 3)] {
                    compare_with_cpu(machine, way, way.geometry(), &picture(format, size));
                }
            }
        }
    }
}

/// Sizes of frames and networks as they are used, whose coordinates have long fractions.
pub fn frames_of_common_sizes_give_the_bits_of_the_cpu(machine: &impl Machine) {
    for (size, input, resize) in [
        ((1920, 1080), (300, 300), ResizeMode::Stretch),
        ((1920, 1080), (640, 640), LETTERBOX),
        ((1366, 768), (416, 416), ResizeMode::Stretch),
        ((720, 576), (608, 608), LETTERBOX),
        ((4093, 7), (1999, 5), ResizeMode::Stretch),
        ((5, 4001), (3, 1777), ResizeMode::Stretch),
    ] {
        let way = Way { resize, ..PLAIN };
        let geometry = InputGeometry {
            width: input.0,
            height: input.1,
            ..way.geometry()
        };
        compare_with_cpu(machine, way, geometry, &picture(PixelFormat::Nv12, size));
    }
}

fn compare_with_cpu(machine: &impl Machine, way: Way, geometry: InputGeometry, picture: &Picture) {
    let mut expected = vec![0f32; 3 * geometry.width * geometry.height];
    let tensor = InputTensor {
        address: machine.upload(&vec![0; size_of_val(&*expected)]),
        geometry,
        element: way.element,
        slots: 1,
    };
    let slot = Slot::whole(picture.linear(machine), 0);
    let on_machine = Preprocessor::new(tensor, way.preparation(), way.shrinking);
    machine.preprocess(&on_machine.batch(&[slot]).unwrap());
    let actual = machine.download(tensor.address, size_of_val(&*expected));

    let placement = cpu::Preprocessor::new(geometry, way.preparation(), way.shrinking)
        .run(&picture.system(), &mut expected);
    let averages = way.shrinking.averages(picture.width, placement.width)
        || way.shrinking.averages(picture.height, placement.height);
    for (index, expected) in expected.into_iter().map(f64::from).enumerate() {
        let actual = way.value(&actual, index);
        let tolerance = if averages {
            way.tolerance(expected)
        } else {
            0.0
        };
        assert!(
            (actual - expected).abs() <= tolerance,
            "{:?} {}x{} element {index} is {actual} on the machine, {expected} on the CPU",
            picture.format,
            picture.width,
            picture.height,
        );
    }
}

/// A part of a frame is as a frame: copied out by hand, and as the CPU takes it.
pub fn parts_give_what_they_would_give_as_frames(machine: &impl Machine) {
    let part = Rectangle {
        x: 10,
        y: 6,
        width: 31,
        height: 23,
    };
    for format in FORMATS {
        let picture = picture(format, (64, 50));
        let frame = picture.system();
        let target = || {
            let size = |plane| format.plane_size(plane, part.width, part.height);
            [0, 1, 2].map(|plane| match plane < format.planes() {
                true => (vec![0u8; size(plane).0 * size(plane).1], size(plane).0),
                false => (Vec::new(), 0),
            })
        };
        let mut copy = target();
        let mut planes = copy.iter_mut();
        let mut plane = || {
            let (data, stride) = planes.next().unwrap();
            PlaneMut {
                data,
                stride: *stride,
            }
        };
        let mut whole = SystemFrameMut {
            format,
            colorimetry: frame.colorimetry,
            width: part.width,
            height: part.height,
            planes: [plane(), plane(), plane()],
        };
        gstrsdetectnet::crop::copy(&frame, part, &mut whole);
        let planes = [0, 1, 2].map(|i| Plane {
            data: &copy[i].0,
            stride: copy[i].1,
        });
        let by_hand = SystemFrame {
            width: part.width,
            height: part.height,
            planes,
            ..frame
        };
        for shrinking in [Shrinking::Bilinear, Shrinking::Average] {
            let way = Way {
                resize: LETTERBOX,
                shrinking,
                ..PLAIN
            };
            let geometry = InputGeometry {
                width: 14,
                height: 9,
                ..way.geometry()
            };
            let mut cpu = cpu::Preprocessor::new(geometry, way.preparation(), way.shrinking);
            let mut on_cpu = |frame: &SystemFrame<'_>| {
                let mut tensor = vec![0f32; 3 * geometry.width * geometry.height];
                cpu.run(frame, &mut tensor);
                tensor
            };
            let expected = on_cpu(&by_hand);
            assert_eq!(on_cpu(&frame.part(part).unwrap()), expected, "{format:?}");
            for textures in [false, true] {
                let tensor = InputTensor {
                    address: machine.upload(&vec![0; size_of_val(&*expected)]),
                    geometry,
                    element: way.element,
                    slots: 1,
                };
                let slot = Slot {
                    frame: match textures {
                        true => picture.textures(machine),
                        false => picture.linear(machine),
                    },
                    part,
                    index: 0,
                };
                let on_machine = Preprocessor::new(tensor, way.preparation(), way.shrinking);
                machine.preprocess(&on_machine.batch(&[slot]).unwrap());
                let actual = machine.download(tensor.address, size_of_val(&*expected));
                for (index, expected) in expected.iter().copied().map(f64::from).enumerate() {
                    let actual = way.value(&actual, index);
                    assert!(
                        (actual - expected).abs() <= way.tolerance(expected),
                        "{format:?} element {index} is {actual}, should be {expected}"
                    );
                }
            }
        }
    }
}

pub fn a_batch_of_different_frames_in_one_launch(machine: &impl Machine) {
    let pictures = [
        picture(PixelFormat::Nv12, (64, 36)),
        picture(PixelFormat::Bgrx, (33, 77)),
        picture(PixelFormat::Uyvy, (19, 10)),
    ];
    let way = Way {
        resize: LETTERBOX,
        ..PLAIN
    };
    check(machine, way, &pictures, false);
    check(machine, way, &pictures[1..], true);
}
