//! Whatever a file says of its outputs and whatever they hold, nothing panics and no memory runs out.

use gstrsdetectnet::decode::families::ENTRIES;
use gstrsdetectnet::engine::{ElementType, TensorSpec};
use proptest::prelude::*;

use crate::any_outputs::{AnyNetwork, NAMES, SIZES, USUAL};

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
    let usual = prop::collection::vec(prop::sample::select(&SIZES[USUAL]), 1..5);
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
        AnyNetwork { outputs, family, labels, anchors, values }.decode(1 << 20);
    }
}
