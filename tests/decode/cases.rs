//! Outputs as networks of every family return them, and the boxes that numpy found in them: see make-cases.py.

use std::path::Path;

use gstrsdetectnet::Detection;
use gstrsdetectnet::decode::{Evidence, Family, Filter, Layout, Selection};
use gstrsdetectnet::engine::{ElementType, TensorSpec};
use gstrsdetectnet::preprocess::{Anchor, InputGeometry, Placement, ResizeMode, TensorLayout};
use half::f16;

/// What the boxes of a case are compared to: pixels of the frame, and probabilities.
const PIXELS: f32 = 0.02;
const CONFIDENCE: f32 = 1e-4;

pub struct Case {
    pub name: String,
    pub family: Family,
    pub input: InputGeometry,
    pub placement: Placement,
    pub selection: Selection,
    pub specs: Vec<TensorSpec>,
    /// The values of each output.
    pub values: Vec<Vec<f32>>,
    pub layout: Layout,
    pub expected: Vec<[f32; 6]>,
}

/// All cases, in the order of their names.
pub fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/decode/cases");
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| Case::read(path)).collect()
}

impl Case {
    fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let end = bytes.iter().position(|&byte| byte == b'\n').unwrap();
        let (header, values) = (&bytes[..end], &bytes[end + 1..]);
        let header: serde_json::Value = serde_json::from_slice(header).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let number = |key: &str| header[key].as_f64().unwrap() as f32;
        let size = |key: &str| {
            let side = |i: usize| header[key][i].as_u64().unwrap() as usize;
            (side(0), side(1))
        };
        let (width, height) = size("input");
        let input = InputGeometry {
            width,
            height,
            layout: match header["channels_last"].as_bool() {
                Some(true) => TensorLayout::Nhwc,
                _ => TensorLayout::Nchw,
            },
        };
        let resize = match header["resize"].as_str().unwrap() {
            "stretch" => ResizeMode::Stretch,
            name => ResizeMode::Letterbox {
                fill: 114,
                anchor: match name {
                    "letterbox" => Anchor::Center,
                    _ => Anchor::TopLeft,
                },
            },
        };
        let (frame_width, frame_height) = size("frame");
        let specs: Vec<_> = list(&header["outputs"]).iter().map(spec).collect();
        let layout =
            recognize(&header, &specs, input).unwrap_or_else(|error| panic!("{name}: {error}"));
        Self {
            family: Family::from_name(header["family"].as_str().unwrap()).unwrap(),
            input,
            placement: Placement::new(resize, input, frame_width, frame_height),
            selection: Selection {
                thresholds: vec![number("threshold"); layout.classes],
                iou_threshold: number("iou_threshold"),
                max_detections: 300,
                filter: Filter::default(),
            },
            values: split(&specs, values),
            specs,
            layout,
            expected: list(&header["expected"])
                .iter()
                .map(|row| std::array::from_fn(|i| row[i].as_f64().unwrap() as f32))
                .collect(),
            name,
        }
    }

    pub fn shapes(&self) -> Vec<Vec<i64>> {
        self.specs.iter().map(|spec| spec.shape.clone()).collect()
    }

    /// Asserts that these are the boxes that numpy found, in its order.
    pub fn assert_found(&self, found: &[Detection]) {
        let name = &self.name;
        assert_eq!(
            found.len(),
            self.expected.len(),
            "{name}: {found:?} instead of {:?}",
            self.expected
        );
        for (found, expected) in found.iter().zip(&self.expected) {
            let [class, confidence, corners @ ..] = *expected;
            let b = found.bounding_box;
            let actual = [b.x, b.y, b.right(), b.bottom()];
            let close = actual
                .iter()
                .zip(corners)
                .all(|(a, e)| (a - e).abs() < PIXELS);
            let same = found.class_id == class as u32
                && (found.confidence - confidence).abs() < CONFIDENCE;
            assert!(close && same, "{name}: {found:?} instead of {expected:?}");
        }
    }
}

fn list(value: &serde_json::Value) -> &[serde_json::Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn spec(output: &serde_json::Value) -> TensorSpec {
    TensorSpec {
        name: output["name"].as_str().unwrap().into(),
        element: match output["element"].as_str().unwrap() {
            "int64" => ElementType::Int64,
            _ => ElementType::Float32,
        },
        shape: list(&output["shape"])
            .iter()
            .map(|d| d.as_i64().unwrap())
            .collect(),
    }
}

/// The layout by what the case knows of its model.
fn recognize(
    header: &serde_json::Value,
    specs: &[TensorSpec],
    input: InputGeometry,
) -> Result<Layout, String> {
    let inputs: Vec<String> = list(&header["other_inputs"])
        .iter()
        .map(|name| name.as_str().unwrap().into())
        .collect();
    let anchors = header["anchors"].as_array().map(|anchors| {
        let side = |anchor: &serde_json::Value, i: usize| anchor[i].as_f64().unwrap() as f32;
        anchors.iter().map(|a| [side(a, 0), side(a, 1)]).collect()
    });
    let evidence = Evidence {
        other_inputs: &inputs,
        labels: header["labels"].as_u64().map(|labels| labels as usize),
        task: header["task"].as_str(),
        head: header["head"].as_str(),
        file_name: header["file_name"].as_str().unwrap_or_default(),
        decoder: header["decoder"].as_str().and_then(Family::from_name),
        anchors,
        ..Evidence::new(specs, input)
    };
    let mut layout = Layout::recognize(&evidence).map_err(|error| error.to_string())?;
    if layout.open_classes && layout.background {
        layout.classes += 1;
    }
    Ok(layout)
}

/// The float16 values of all outputs, one after the other.
fn split(specs: &[TensorSpec], bytes: &[u8]) -> Vec<Vec<f32>> {
    let mut values = bytes
        .chunks_exact(2)
        .map(|two| f16::from_le_bytes([two[0], two[1]]).to_f32());
    let split = specs
        .iter()
        .map(|spec| {
            let elements = spec.shape.iter().product::<i64>() as usize;
            values.by_ref().take(elements).collect()
        })
        .collect();
    assert_eq!(values.next(), None);
    split
}
