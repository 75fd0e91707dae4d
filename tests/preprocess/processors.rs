//! The tensor does not depend on the processor: x86-64 with and without AVX2, and arm64 with NEON, which
//! `tests/arm64/run` emulates, have the same numbers to the bit.

use gstrsdetectnet::frame::Colorimetry;
use gstrsdetectnet::preprocess::cpu::{Preprocessor, TensorElement};
use gstrsdetectnet::preprocess::{
    Anchor, ChannelOrder, InputGeometry, Preparation, ResizeMode, Shrinking, TensorLayout,
};
use sha2::{Digest, Sha256};

use super::pictures::{FORMATS, Picture};

/// Of tensors of noise in every format, grown, shrunk and averaged, in both layouts.
fn digest<T: TensorElement>(mean: [f32; 3], scale: [f32; 3], bytes: fn(T) -> Vec<u8>) -> String {
    let preparation = Preparation {
        resize: ResizeMode::Letterbox {
            fill: 114,
            anchor: Anchor::Center,
        },
        order: ChannelOrder::Bgr,
        mean,
        scale,
    };
    let mut digest = Sha256::new();
    for format in FORMATS {
        let mut picture = Picture::new(format, Colorimetry::default(), 131, 77, 5);
        picture.randomise(3);
        for (width, height) in [(37, 29), (18, 50), (203, 101), (5, 1)] {
            for (layout, shrinking) in [
                (TensorLayout::Nchw, Shrinking::Bilinear),
                (TensorLayout::Nhwc, Shrinking::Average),
            ] {
                let input = InputGeometry {
                    width,
                    height,
                    layout,
                };
                let mut tensor = vec![T::default(); 3 * width * height];
                Preprocessor::new(input, preparation, shrinking).run(&picture.frame(), &mut tensor);
                tensor
                    .into_iter()
                    .for_each(|value| digest.update(bytes(value)));
            }
        }
    }
    digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[test]
fn every_processor_makes_the_same_tensor_to_the_bit() {
    let found = [
        digest(
            [123.7, 116.3, 103.5],
            [0.017, 0.018, 0.019],
            |value: f32| value.to_le_bytes().to_vec(),
        ),
        digest([0.0; 3], [1.0; 3], |value: u8| vec![value]),
    ];
    // As x86-64 made them with AVX2 and without; another rule of preprocessing is other numbers.
    assert_eq!(
        found,
        [
            "54aee52562695b3842f75413d09b050fd21f9253d3aa04dd7ef3cd51a8755434",
            "58fef1dbf4c7b66b03e7d957c739aa3d6998239a87748badb16956062bd814a7",
        ]
    );
}
