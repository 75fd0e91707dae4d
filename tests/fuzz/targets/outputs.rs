//! Any values in the outputs of any family's network: detections within the frame, or a refusal.
#![no_main]

use gstrsdetectnet::decode::families::ENTRIES;
use gstrsdetectnet::decode::{Evidence, HostDecoder, Layout, Selection};
use gstrsdetectnet::engine::{ElementType, Tensor, TensorSpec};
use gstrsdetectnet::preprocess::{InputGeometry, Placement, ResizeMode, TensorLayout};
use libfuzzer_sys::fuzz_target;

const INPUT: InputGeometry = InputGeometry {
    width: 64,
    height: 48,
    layout: TensorLayout::Nchw,
};
const NAMES: [&str; 16] = [
    "boxes", "scores", "labels", "num_detections", "logits", "dets", "output_cov", "bboxes", "coverage", "hm", "wh",
    "reg", "classification", "regression", "flat", "output0",
];
const SIZES: [i64; 32] = [
    -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 35, 48, 64, 65, 84, 85, 100, 144, 189, 192, 195, 255, 300, 585,
    1 << 20, 1 << 40, i64::MAX, i64::MIN,
];

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
}

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = Bytes(bytes.iter());
    let family = bytes.below(ENTRIES.len() + 1);
    let labels = Some(bytes.below(90)).filter(|labels| *labels > 0);
    let outputs: Vec<_> = (0..bytes.below(5)).map(|_| bytes.spec()).collect();
    let evidence = Evidence {
        decoder: ENTRIES.get(family).map(|entry| entry.family),
        labels,
        ..Evidence::new(&outputs, INPUT)
    };
    let Ok(layout) = Layout::recognize(&evidence) else {
        return;
    };
    // A run fills what the model leaves open.
    let filled = |shape: &[i64]| shape.iter().map(|&size| if size < 0 { 3 } else { size }).collect();
    let shapes: Vec<Vec<i64>> = outputs.iter().map(|output| filled(&output.shape)).collect();
    let elements = |shape: &[i64]| shape.iter().try_fold(1i64, |all, &size| all.checked_mul(size));
    let sizes: Option<Vec<_>> = shapes.iter().map(|shape| elements(shape)).collect();
    let Some(sizes) = sizes.filter(|sizes| sizes.iter().all(|&size| size <= 1 << 14)) else {
        return;
    };
    let values: Vec<f32> = (0..1 + bytes.below(200)).map(|_| bytes.value()).collect();
    let data: Vec<Vec<f32>> = sizes
        .iter()
        .map(|&size| values.iter().copied().cycle().take(size as usize).collect())
        .collect();
    let tensors: Vec<_> = shapes.iter().zip(&data).map(|(shape, data)| Tensor { shape, data }).collect();
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
            assert!(b.x >= 0.0 && b.y >= 0.0 && b.right() <= 200.01 && b.bottom() <= 90.01, "{found:?}");
            assert!(found.confidence > 0.5 && found.confidence.is_finite(), "{found:?}");
        }
    }
    decoder.diagnosis();
});
