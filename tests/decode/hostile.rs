//! Whatever a file says of its outputs and whatever they hold, nothing panics and no memory runs out.

use gstrsdetectnet::decode::families::ENTRIES;
use gstrsdetectnet::decode::{Evidence, HostDecoder, Layout, Selection};
use gstrsdetectnet::engine::{ElementType, Tensor, TensorSpec};
use gstrsdetectnet::preprocess::{InputGeometry, Placement, ResizeMode, TensorLayout};
use proptest::prelude::*;

const INPUT: InputGeometry = InputGeometry {
    width: 64,
    height: 48,
    layout: TensorLayout::Nchw,
};
const NAMES: [&str; 16] = [
    "boxes",
    "scores",
    "labels",
    "num_detections",
    "logits",
    "dets",
    "output_cov",
    "bboxes",
    "coverage",
    "hm",
    "wh",
    "reg",
    "classification",
    "regression",
    "flat",
    "output0",
];
/// Sizes that mean something to some family, and some that mean harm.
const SIZES: [i64; 26] = [
    -1,
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    12,
    16,
    24,
    32,
    35,
    48,
    64,
    65,
    192,
    195,
    300,
    585,
    1 << 20,
    1 << 40,
    i64::MAX,
    i64::MIN,
];
const VALUES: [f32; 10] = [
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::MAX,
    -1e9,
    -1.0,
    0.0,
    0.6,
    0.99,
    1e9,
];

fn output() -> impl Strategy<Value = TensorSpec> {
    let element = prop_oneof![
        4 => Just(ElementType::Float32),
        1 => Just(ElementType::Int64),
        1 => Just(ElementType::Other),
    ];
    // Most networks return one image, and no sizes that mean harm.
    let usual = prop::collection::vec(prop::sample::select(&SIZES[2..22]), 1..5);
    let usual = usual.prop_map(|sizes| [vec![1], sizes].concat());
    let any = prop::collection::vec(prop::sample::select(&SIZES[..]), 0..6);
    let shape = prop_oneof![8 => usual, 2 => any];
    (prop::sample::select(&NAMES[..]), element, shape).prop_map(|(name, element, shape)| {
        TensorSpec {
            name: name.into(),
            element,
            shape,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn any_outputs_are_recognized_or_refused_and_decoded_or_refused(
        outputs in prop::collection::vec(output(), 0..5),
        family in prop::option::of(0..ENTRIES.len()),
        labels in prop::option::of(0usize..90),
        values in prop::collection::vec(prop::sample::select(&VALUES[..]), 1..40),
        anchors in prop::option::of(prop::collection::vec(Just([10.0, 12.0]), 0..12)),
    ) {
        let evidence = Evidence {
            decoder: family.map(|family| ENTRIES[family].family),
            labels,
            anchors,
            ..Evidence::new(&outputs, INPUT)
        };
        let Ok(layout) = Layout::recognize(&evidence) else {
            return Ok(());
        };
        // A run fills what the model leaves open.
        let shapes: Vec<Vec<i64>> = outputs
            .iter()
            .map(|o| o.shape.iter().map(|&size| if size < 0 { 3 } else { size }).collect())
            .collect();
        let elements = |shape: &[i64]| shape.iter().try_fold(1i64, |all, &size| all.checked_mul(size));
        let sizes: Option<Vec<i64>> = shapes.iter().map(|shape| elements(shape)).collect();
        let Some(sizes) = sizes.filter(|sizes| sizes.iter().all(|&size| size <= 1 << 20)) else {
            return Ok(());
        };
        let data: Vec<Vec<f32>> = sizes
            .iter()
            .map(|&size| values.iter().copied().cycle().take(size as usize).collect())
            .collect();
        let tensors: Vec<_> = shapes
            .iter()
            .zip(&data)
            .map(|(shape, data)| Tensor { shape, data })
            .collect();
        let selection = Selection {
            thresholds: vec![0.5; layout.classes],
            iou_threshold: 0.5,
            max_detections: 100,
            ..Selection::default()
        };
        let placement = Placement::new(ResizeMode::Stretch, INPUT, 200, 90);
        let mut decoder = HostDecoder::new(layout, INPUT, &outputs);
        let mut detections = Vec::new();
        if decoder.decode(&tensors, &placement, &selection, &mut detections).is_ok() {
            for found in detections {
                let b = found.bounding_box;
                prop_assert!(b.x >= 0.0 && b.y >= 0.0 && b.right() <= 200.01 && b.bottom() <= 90.01, "{found:?}");
                prop_assert!(found.confidence > 0.5 && found.confidence.is_finite(), "{found:?}");
            }
        }
        decoder.diagnosis();
    }
}
