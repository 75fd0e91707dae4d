//! Time to turn one 1080p frame of each pixel format into an input tensor, on one core. Frames and tensors are in the
//! caches, except where a name says that they are not, as after a network has run.

use divan::Bencher;
use gstrsdetectnet::frame::system::Plane;
use gstrsdetectnet::frame::{Colorimetry, PixelFormat, SystemFrame};
use gstrsdetectnet::preprocess::cpu::{Preprocessor, TensorElement};
use gstrsdetectnet::preprocess::{
    Anchor, ChannelOrder, InputGeometry, Preparation, ResizeMode, Shrinking, TensorLayout,
};

const WIDTH: usize = 1920;
const HEIGHT: usize = 1080;

const FORMATS: [PixelFormat; 9] = [
    PixelFormat::Nv12,
    PixelFormat::I420,
    PixelFormat::P010,
    PixelFormat::Yuy2,
    PixelFormat::Uyvy,
    PixelFormat::Rgb,
    PixelFormat::Rgba,
    PixelFormat::Argb,
    PixelFormat::Gray8,
];

fn main() {
    divan::main();
}

fn measure<T: TensorElement>(
    bencher: Bencher<'_, '_>,
    format: PixelFormat,
    size: usize,
    layout: TensorLayout,
    resize: ResizeMode,
    shrinking: Shrinking,
) {
    measure_after::<T>(bencher, format, size, layout, resize, shrinking, || {});
}

/// As [`measure`], with something done before each time.
fn measure_after<T: TensorElement>(
    bencher: Bencher<'_, '_>,
    format: PixelFormat,
    size: usize,
    layout: TensorLayout,
    resize: ResizeMode,
    shrinking: Shrinking,
    before: impl FnMut(),
) {
    let buffers = [0, 1, 2].map(|plane| {
        if plane >= format.planes() {
            return (Vec::new(), 0);
        }
        let (stride, rows) = format.plane_size(plane, WIDTH, HEIGHT);
        let data = (0..stride * rows).map(|i| ((i * 31) >> 4) as u8).collect();
        (data, stride)
    });
    let planes = buffers.each_ref().map(|(data, stride)| Plane {
        data,
        stride: *stride,
    });
    let frame = SystemFrame::new(format, Colorimetry::default(), WIDTH, HEIGHT, planes)
        .expect("planes have the size of the format");
    let input = InputGeometry {
        width: size,
        height: size,
        layout,
    };
    let preparation = Preparation {
        resize,
        order: ChannelOrder::Rgb,
        mean: [127.5; 3],
        scale: [1.0 / 127.5; 3],
    };
    let mut preprocessor = Preprocessor::new(input, preparation, shrinking);
    let mut tensor = vec![T::default(); 3 * size * size];
    bencher.with_inputs(before).bench_local_values(|()| {
        preprocessor.run(divan::black_box(&frame), &mut tensor);
        divan::black_box(&mut tensor);
    });
}

const LETTERBOX: ResizeMode = ResizeMode::Letterbox {
    fill: 114,
    anchor: Anchor::Center,
};

#[divan::bench(args = FORMATS)]
fn stretch_to_300_nchw_f32(bencher: Bencher<'_, '_>, format: PixelFormat) {
    measure::<f32>(
        bencher,
        format,
        300,
        TensorLayout::Nchw,
        ResizeMode::Stretch,
        Shrinking::Bilinear,
    );
}

#[divan::bench(args = FORMATS, sample_size = 1)]
fn stretch_to_300_nchw_f32_from_memory(bencher: Bencher<'_, '_>, format: PixelFormat) {
    let mut other = vec![0u64; 16 << 20];
    measure_after::<f32>(
        bencher,
        format,
        300,
        TensorLayout::Nchw,
        ResizeMode::Stretch,
        Shrinking::Bilinear,
        || {
            divan::black_box(&mut other)
                .iter_mut()
                .for_each(|word| *word += 1)
        },
    );
}

#[divan::bench(args = FORMATS)]
fn letterbox_to_640_nchw_f32(bencher: Bencher<'_, '_>, format: PixelFormat) {
    measure::<f32>(
        bencher,
        format,
        640,
        TensorLayout::Nchw,
        LETTERBOX,
        Shrinking::Bilinear,
    );
}

#[divan::bench(args = [PixelFormat::Nv12])]
fn stretch_to_300_nhwc_f32(bencher: Bencher<'_, '_>, format: PixelFormat) {
    measure::<f32>(
        bencher,
        format,
        300,
        TensorLayout::Nhwc,
        ResizeMode::Stretch,
        Shrinking::Bilinear,
    );
}

#[divan::bench(args = [PixelFormat::Nv12])]
fn stretch_to_300_nhwc_u8(bencher: Bencher<'_, '_>, format: PixelFormat) {
    measure::<u8>(
        bencher,
        format,
        300,
        TensorLayout::Nhwc,
        ResizeMode::Stretch,
        Shrinking::Bilinear,
    );
}

#[divan::bench(args = FORMATS)]
fn average_to_300_nchw_f32(bencher: Bencher<'_, '_>, format: PixelFormat) {
    measure::<f32>(
        bencher,
        format,
        300,
        TensorLayout::Nchw,
        ResizeMode::Stretch,
        Shrinking::Average,
    );
}

#[divan::bench(args = FORMATS)]
fn average_letterboxed_to_640_nchw_f32(bencher: Bencher<'_, '_>, format: PixelFormat) {
    measure::<f32>(
        bencher,
        format,
        640,
        TensorLayout::Nchw,
        LETTERBOX,
        Shrinking::Average,
    );
}
