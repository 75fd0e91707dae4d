//! Models and pictures that the binary carries, and the element that runs them.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use gstrsdetectnet::BoundingBox;
use serde_json::Value;

use crate::common::Picture;

/// A generated model and the labels of its classes.
pub struct ColorsModel {
    pub name: &'static str,
    pub onnx: &'static [u8],
    pub labels: &'static str,
}

const SSD_LABELS: &str = include_str!("../../models/colors.labels.txt");
const YOLO_LABELS: &str = include_str!("../../models/colors-yolov5.labels.txt");

pub const COLORS_SSD: ColorsModel = ColorsModel {
    name: "colors-ssd",
    onnx: include_bytes!("../../models/colors-ssd.onnx"),
    labels: SSD_LABELS,
};
pub const COLORS_SSD_UINT8: ColorsModel = ColorsModel {
    name: "colors-ssd-nhwc-uint8",
    onnx: include_bytes!("../../models/colors-ssd-nhwc-uint8.onnx"),
    labels: SSD_LABELS,
};
pub const COLORS_SSD_INT8: ColorsModel = ColorsModel {
    name: "colors-ssd-int8",
    onnx: include_bytes!("../../models/colors-ssd-int8.onnx"),
    labels: SSD_LABELS,
};
pub const COLORS_YOLO: ColorsModel = ColorsModel {
    name: "colors-yolov5",
    onnx: include_bytes!("../../models/colors-yolov5.onnx"),
    labels: YOLO_LABELS,
};

impl ColorsModel {
    /// By class.
    pub fn labels(&self) -> Vec<&'static str> {
        self.labels.lines().collect()
    }

    /// The element with this model, for a pipeline's description.
    pub fn detector(&self, cache: &Path) -> String {
        self.detector_in("fp32", cache)
    }

    /// As [`ColorsModel::detector`], in another precision.
    pub fn detector_in(&self, precision: &str, cache: &Path) -> String {
        let write = |extension: &str, bytes: &[u8]| {
            let path = FOLDER.join(format!("{}.{extension}", self.name));
            // Other tests may be reading it, and a file that is written anew is another model.
            if fs::read(&path).ok().as_deref() != Some(bytes) {
                let new = path.with_extension(format!("{}.new", std::process::id()));
                fs::write(&new, bytes).unwrap();
                fs::rename(new, &path).unwrap();
            }
            path
        };
        let model = write("onnx", self.onnx);
        let labels = write("labels.txt", self.labels.as_bytes());
        format!(
            "rsdetectnet name=detector backend=tensorrt precision={precision} model={} labels={} engine-cache={}",
            model.display(),
            labels.display(),
            cache.display()
        )
    }
}

/// The element with the bundled model, for a pipeline's description.
pub fn bundled_detector(precision: &str, cache: &Path) -> String {
    format!(
        "rsdetectnet name=detector backend=tensorrt precision={precision} engine-cache={}",
        cache.display()
    )
}

/// Files of this program, used again by its next run.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let user = rustix::process::geteuid().as_raw();
    let folder = std::env::temp_dir().join(format!("rsdetectnet-gpu-tests-{user}"));
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(&folder).unwrap();
    folder
});

/// Where tests keep engines that are none of their concern.
pub fn shared_cache() -> PathBuf {
    FOLDER.join("engines")
}

pub const PICTURES: [&str; 3] = ["astronaut.png", "chelsea.png", "coffee.png"];

pub fn picture(name: &str) -> Picture {
    let bytes: &[u8] = match name {
        "astronaut.png" => include_bytes!("../../media/astronaut.png"),
        "chelsea.png" => include_bytes!("../../media/chelsea.png"),
        _ => include_bytes!("../../media/coffee.png"),
    };
    Picture::decode_png(name, bytes)
}

#[derive(Debug)]
pub struct Expected {
    pub label: String,
    pub class_id: u32,
    pub confidence: f32,
    pub bounding_box: BoundingBox,
}

/// The least confidence of what [`expected`] knows.
pub const THRESHOLD: f32 = 0.25;

/// What an independent implementation finds in a picture with the bundled model.
pub fn expected(picture: &str) -> Vec<Expected> {
    let text = include_str!("../../media/ssd-mobilenet-v2.expected.json");
    expected_in(text, picture)
}

/// What such a file says of a picture.
pub fn expected_in(text: &str, picture: &str) -> Vec<Expected> {
    let all: Value = serde_json::from_str(text).unwrap();
    let number = |value: &Value| value.as_f64().unwrap() as f32;
    let detections = all[picture]["detections"].as_array().unwrap().iter();
    detections
        .map(|detection| Expected {
            label: detection["label"].as_str().unwrap().into(),
            class_id: detection["class_id"].as_u64().unwrap() as u32,
            confidence: number(&detection["confidence"]),
            bounding_box: BoundingBox {
                x: number(&detection["box"][0]),
                y: number(&detection["box"][1]),
                width: number(&detection["box"][2]),
                height: number(&detection["box"][3]),
            },
        })
        .collect()
}
