//! Any values in the outputs of any family's network: detections within the frame, or a refusal.
#![no_main]

#[path = "../../decode/any_outputs.rs"]
mod any_outputs;

use any_outputs::{AnyNetwork, NAMES, SIZES};
use gstrsdetectnet::decode::families::ENTRIES;
use gstrsdetectnet::engine::{ElementType, TensorSpec};
use libfuzzer_sys::fuzz_target;

/// The bytes of one input, one after the other; zeros after the last.
struct Bytes<'a>(std::slice::Iter<'a, u8>);

impl Bytes<'_> {
    fn below(&mut self, limit: usize) -> usize {
        usize::from(self.0.next().copied().unwrap_or(0)) % limit
    }

    fn spec(&mut self) -> TensorSpec {
        let shape = (0..self.below(6)).map(|_| SIZES[self.below(SIZES.len())]);
        TensorSpec {
            shape: shape.collect(),
            name: NAMES[self.below(NAMES.len())].into(),
            element: [ElementType::Float32, ElementType::Int64][self.below(8) / 7],
        }
    }

    fn value(&mut self) -> f32 {
        let mut byte = || self.0.next().copied().unwrap_or(0);
        f32::from_le_bytes([byte(), byte(), byte(), byte()])
    }

    fn anchors(&mut self) -> Vec<[f32; 2]> {
        (0..self.below(13)).map(|_| [self.value(), self.value()]).collect()
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = Bytes(bytes.iter());
    AnyNetwork {
        family: Some(bytes.below(ENTRIES.len() + 1)),
        labels: Some(bytes.below(90)).filter(|labels| *labels > 0),
        outputs: (0..bytes.below(5)).map(|_| bytes.spec()).collect(),
        values: (0..1 + bytes.below(200)).map(|_| bytes.value()).collect(),
        anchors: Some(bytes.anchors()).filter(|anchors| !anchors.is_empty()),
    }
    .decode(1 << 14);
});
