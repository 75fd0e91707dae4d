//! Networks that return anything, whatever their files say: detections within the frame, or a refusal. What makes them
//! up differs: tests/decode/hostile.rs with proptest, tests/fuzz/targets/outputs.rs with libFuzzer.

use gstrsdetectnet::decode::families::ENTRIES;
use gstrsdetectnet::decode::{Evidence, HostDecoder, Layout, Selection};
use gstrsdetectnet::engine::{Tensor, TensorSpec};
use gstrsdetectnet::preprocess::{InputGeometry, Placement, ResizeMode, TensorLayout};

pub const INPUT: InputGeometry = InputGeometry {
    width: 64,
    height: 48,
    layout: TensorLayout::Nchw,
};
/// Names that mean something to some family.
pub const NAMES: [&str; 16] = [
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
/// Open and empty axes, sizes that mean something to some family ([`USUAL`]), and some that mean harm. Seeds of the
/// fuzz target hold indices into them.
pub const SIZES: [i64; 32] = [
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
    84,
    85,
    100,
    144,
    189,
    192,
    195,
    255,
    300,
    585,
    1 << 20,
    1 << 40,
    i64::MAX,
    i64::MIN,
];
pub const USUAL: std::ops::Range<usize> = 2..28;

/// A network that returns anything.
#[derive(Debug)]
pub struct AnyNetwork {
    pub outputs: Vec<TensorSpec>,
    /// Which of [`ENTRIES`] the user says that it is; what lies beyond them is none.
    pub family: Option<usize>,
    pub labels: Option<usize>,
    pub anchors: Option<Vec<[f32; 2]>>,
    /// What the outputs hold, over and over. Not empty.
    pub values: Vec<f32>,
}

impl AnyNetwork {
    /// Recognises and decodes it, unless its outputs hold more than `most` values.
    pub fn decode(&self, most: i64) {
        let entry = self.family.and_then(|family| ENTRIES.get(family));
        let evidence = Evidence {
            decoder: entry.map(|entry| entry.family),
            labels: self.labels,
            anchors: self.anchors.clone(),
            ..Evidence::new(&self.outputs, INPUT)
        };
        let Ok(layout) = Layout::recognize(&evidence) else {
            return;
        };
        let shapes: Vec<_> = self.outputs.iter().map(filled).collect();
        let sizes: Option<Vec<_>> = shapes.iter().map(|shape| size(shape, most)).collect();
        let Some(sizes) = sizes else {
            return;
        };
        let of_size = |&size: &usize| self.values.iter().copied().cycle().take(size).collect();
        let data: Vec<Vec<f32>> = sizes.iter().map(of_size).collect();
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
        let mut decoder = HostDecoder::new(layout, INPUT, &self.outputs);
        let mut detections = Vec::new();
        let decoded = decoder.decode(&tensors, &placement, &selection, &mut detections);
        for found in detections.iter().filter(|_| decoded.is_ok()) {
            let b = found.bounding_box;
            let inside = b.x >= 0.0 && b.y >= 0.0 && b.right() <= 200.01 && b.bottom() <= 90.01;
            assert!(inside, "{found:?}");
            let confident = found.confidence > 0.5 && found.confidence.is_finite();
            assert!(confident, "{found:?}");
        }
        decoder.diagnosis();
    }
}

/// The shape that a run returns: it fills what the model leaves open.
fn filled(output: &TensorSpec) -> Vec<i64> {
    let fill = |&size: &i64| if size < 0 { 3 } else { size };
    output.shape.iter().map(fill).collect()
}

/// How many values a tensor of this shape holds, if they are no more than `most`.
fn size(shape: &[i64], most: i64) -> Option<usize> {
    let values = shape
        .iter()
        .try_fold(1i64, |all, &size| all.checked_mul(size));
    usize::try_from(values.filter(|&values| values <= most)?).ok()
}
