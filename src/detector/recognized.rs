//! What a model that is loaded turned out to be, and how that is written down for people to read and edit.

use std::fmt::Write;
use std::path::Path;

use crate::decode::Layout;
use crate::decode::plan::Activation;
use crate::engine::{ElementType, TensorSpec};
use crate::model::Labels;
use crate::model::modelinfo::{ModelInfo, ModelInfoError, ranges, write_new};
use crate::preprocess::{InputGeometry, Preparation};

/// What a model is taken for: from its file, what lies beside it, and what was guessed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Recognized {
    pub layout: Layout,
    pub labels: Labels,
    pub preparation: Preparation,
    pub geometry: InputGeometry,
    pub inputs: Vec<TensorSpec>,
    pub outputs: Vec<TensorSpec>,
}

impl Recognized {
    /// Writes all of it as a `.modelinfo`, and labels that are not built in beside it.
    pub fn write(&self, path: &Path) -> Result<(), ModelInfoError> {
        let labels = self.listed_labels();
        let built_in = |name: &&str| Labels::built_in(name).as_ref() == Some(&self.labels);
        let name = ["coco-80", "coco-91"].into_iter().find(built_in);
        let labels_path = path.with_extension("labels.txt");
        let labels = match name {
            Some(name) => Some(name.to_owned()),
            None if labels.is_empty() => None,
            None => {
                write_new(&labels_path, &(labels.join("\n") + "\n"))?;
                let name = labels_path.file_name().unwrap_or_default();
                Some(name.to_string_lossy().into_owned())
            }
        };
        write_new(path, &self.text(labels))
    }

    /// The labels as a list for this model has them: not those that stand for unknown ones.
    fn listed_labels(&self) -> &[String] {
        let labels = self.labels.as_slice();
        let unknown = self.layout.open_classes && self.labels == Labels::numbered(labels.len());
        if unknown { &[] } else { labels }
    }

    fn text(&self, labels: Option<String>) -> String {
        let Preparation {
            resize,
            order,
            mean,
            scale,
        } = self.preparation;
        let info = ModelInfo {
            decoder: Some(self.layout.family.to_string()),
            labels,
            anchors: self.layout.anchors().map(<[_]>::to_vec),
            activation: self.layout.activation().map(|activation| match activation {
                Activation::None => "none".into(),
                Activation::Sigmoid => "sigmoid".into(),
                Activation::Softmax => "softmax".into(),
            }),
            resize: Some(resize),
            order: Some(order),
            mean: Some(mean),
            scale: Some(scale),
            // That is in the section of the input.
            input_size: None,
        };
        let mut text = info.to_text();
        for input in self.inputs.iter().filter(|input| has_plain_name(input)) {
            text += &section(input, "input");
            if input.image_geometry().is_some() {
                // Writing into a text does not fail.
                let _ = writeln!(text, "ranges={}", ranges(mean, scale));
            }
        }
        for output in self.outputs.iter().filter(|output| has_plain_name(output)) {
            text += &section(output, "output");
            let _ = writeln!(text, "id={}", output.name);
        }
        text
    }
}

/// Whether a tensor's name can be that of a section, and is no more.
fn has_plain_name(tensor: &TensorSpec) -> bool {
    let strange = |c: char| c.is_control() || matches!(c, '[' | ']');
    !tensor.name.is_empty() && !tensor.name.contains(strange)
}

/// A tensor as GStreamer's descriptions have it.
fn section(tensor: &TensorSpec, direction: &str) -> String {
    let kind = match tensor.element {
        ElementType::Float32 | ElementType::Other => "float32",
        ElementType::Float16 => "float16",
        ElementType::Uint8 => "uint8",
        ElementType::Int8 => "int8",
        ElementType::Int32 => "int32",
        ElementType::Int64 => "int64",
    };
    let dimensions: Vec<_> = tensor.shape.iter().map(i64::to_string).collect();
    format!(
        "\n[{}]\ndir={direction}\ntype={kind}\ndims={}\ndims-order=row-major\n",
        tensor.name,
        dimensions.join(",")
    )
}
