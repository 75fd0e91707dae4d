//! Preprocessing allocates for the first frame of a format and size, and never for the next ones.

use gstrsdetectnet::frame::Colorimetry;
use gstrsdetectnet::preprocess::cpu::Preprocessor;
use gstrsdetectnet::preprocess::{
    Anchor, ChannelOrder, InputGeometry, Preparation, ResizeMode, Shrinking, TensorLayout,
};

use super::counting::calls_here;
use super::pictures::{FORMATS, Picture};

#[test]
fn later_frames_of_a_format_and_size_allocate_nothing() {
    let preparation = Preparation {
        resize: ResizeMode::Letterbox {
            fill: 114,
            anchor: Anchor::Center,
        },
        order: ChannelOrder::Rgb,
        mean: [0.0; 3],
        scale: [1.0 / 255.0; 3],
    };
    for (layout, shrinking) in [
        (TensorLayout::Nchw, Shrinking::Bilinear),
        (TensorLayout::Nhwc, Shrinking::Bilinear),
        (TensorLayout::Nchw, Shrinking::Average),
    ] {
        let input = InputGeometry {
            width: 64,
            height: 64,
            layout,
        };
        let mut preprocessor = Preprocessor::new(input, preparation, shrinking);
        let mut tensor = vec![0f32; 3 * 64 * 64];
        for format in FORMATS {
            let mut picture = Picture::new(format, Colorimetry::default(), 200, 140, 0);
            picture.randomise(1);
            let before = calls_here();
            preprocessor.run(&picture.frame(), &mut tensor);
            let after_first = calls_here();
            picture.randomise(2);
            preprocessor.run(&picture.frame(), &mut tensor);
            assert!(after_first > before);
            assert_eq!(calls_here(), after_first);
        }
    }
}
