//! What families want done to pixels, and how that is said.

use crate::preprocess::{Anchor, ChannelOrder, Preparation, ResizeMode};

const UNSCALED: ([f32; 3], [f32; 3]) = ([0.0; 3], [1.0; 3]);
const UNIT: ([f32; 3], [f32; 3]) = ([0.0; 3], [1.0 / 255.0; 3]);
const SIGNED: ([f32; 3], [f32; 3]) = ([127.5; 3], [1.0 / 127.5; 3]);
const ULTRAFACE_RANGE: ([f32; 3], [f32; 3]) = ([127.0; 3], [1.0 / 128.0; 3]);
/// Means and standard deviations of ImageNet's red, green and blue.
const IMAGENET_RGB: ([f32; 3], [f32; 3]) = (
    [123.675, 116.28, 103.53],
    [1.0 / 58.395, 1.0 / 57.12, 1.0 / 57.375],
);
const IMAGENET_BGR: ([f32; 3], [f32; 3]) = (
    [103.53, 116.28, 123.675],
    [1.0 / 57.375, 1.0 / 57.12, 1.0 / 58.395],
);
/// Those of CenterNet's own code, for blue, green and red.
const CENTERNET_BGR: ([f32; 3], [f32; 3]) = (
    [104.04, 113.985, 119.85],
    [1.0 / 73.695, 1.0 / 69.87, 1.0 / 70.89],
);

const fn letterbox(fill: u8, anchor: Anchor) -> ResizeMode {
    ResizeMode::Letterbox { fill, anchor }
}

const fn of(resize: ResizeMode, order: ChannelOrder, range: ([f32; 3], [f32; 3])) -> Preparation {
    Preparation {
        resize,
        order,
        mean: range.0,
        scale: range.1,
    }
}

pub const YOLO: Preparation = of(letterbox(114, Anchor::Center), ChannelOrder::Rgb, UNIT);
pub const YOLO_BGR: Preparation = of(letterbox(114, Anchor::Center), ChannelOrder::Bgr, UNIT);
pub const YOLOX: Preparation = of(letterbox(114, Anchor::TopLeft), ChannelOrder::Bgr, UNSCALED);
pub const DAMO: Preparation = of(letterbox(0, Anchor::TopLeft), ChannelOrder::Rgb, UNSCALED);
pub const STRETCHED: Preparation = of(ResizeMode::Stretch, ChannelOrder::Rgb, UNIT);
pub const STRETCHED_BYTES: Preparation = of(ResizeMode::Stretch, ChannelOrder::Rgb, UNSCALED);
pub const STRETCHED_BYTES_BGR: Preparation = of(ResizeMode::Stretch, ChannelOrder::Bgr, UNSCALED);
pub const STRETCHED_SIGNED: Preparation = of(ResizeMode::Stretch, ChannelOrder::Rgb, SIGNED);
pub const STRETCHED_SIGNED_BGR: Preparation = of(ResizeMode::Stretch, ChannelOrder::Bgr, SIGNED);
pub const ULTRAFACE: Preparation = of(ResizeMode::Stretch, ChannelOrder::Rgb, ULTRAFACE_RANGE);
pub const IMAGENET: Preparation = of(ResizeMode::Stretch, ChannelOrder::Rgb, IMAGENET_RGB);
pub const NANODET: Preparation = of(ResizeMode::Stretch, ChannelOrder::Bgr, IMAGENET_BGR);
pub const MMDETECTION: Preparation = of(
    letterbox(114, Anchor::TopLeft),
    ChannelOrder::Rgb,
    IMAGENET_RGB,
);
pub const CENTERNET: Preparation = of(
    letterbox(0, Anchor::Center),
    ChannelOrder::Bgr,
    CENTERNET_BGR,
);

/// A preparation in words: `letterboxed on grey 114, RGB, 0 to 1`.
pub fn describe(preparation: &Preparation) -> String {
    let resize = match preparation.resize {
        ResizeMode::Stretch => "stretched".into(),
        ResizeMode::Crop => "cropped".into(),
        ResizeMode::Letterbox { fill, anchor } => {
            let place = match anchor {
                Anchor::Center => "letterboxed",
                Anchor::TopLeft => "letterboxed at the top left",
            };
            format!("{place} on grey {fill}")
        }
    };
    let order = match preparation.order {
        ChannelOrder::Rgb => "RGB",
        ChannelOrder::Bgr => "BGR",
    };
    let range = (preparation.mean, preparation.scale);
    let range = match range {
        _ if range == UNSCALED => "0 to 255".into(),
        _ if range == UNIT => "0 to 1".into(),
        _ if range == SIGNED => "-1 to 1".into(),
        _ if range == IMAGENET_RGB || range == IMAGENET_BGR => {
            "ImageNet's mean and deviation".into()
        }
        _ if range == CENTERNET_BGR => "COCO's mean and deviation".into(),
        (mean, scale) => {
            let list = |values: [f32; 3]| match values {
                [a, b, c] if a == b && b == c => format!("{a}"),
                [a, b, c] => format!("[{a}, {b}, {c}]"),
            };
            format!(
                "(value - {}) / {}",
                list(mean),
                list(scale.map(|s| (1000.0 / s).round() / 1000.0))
            )
        }
    };
    format!("{resize}, {order}, {range}")
}
