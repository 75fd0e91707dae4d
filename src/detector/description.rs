//! What is known of a model besides its tensors, by the strongest word: the user's properties, the `.modelinfo` beside
//! it, its own metadata, a list of labels beside it.

use std::path::{Component, Path, PathBuf};

use super::{CAT, DetectorOptions, LoadError};
use crate::decode::families::ENTRIES;
use crate::decode::plan::Activation;
use crate::decode::{Evidence, Family, Layout};
use crate::engine::{ElementType, TensorSpec};
use crate::model::onnx::Model;
use crate::model::{Labels, LabelsError, ModelInfo, ModelSource};
use crate::preprocess::{ChannelOrder, InputGeometry, Preparation};

/// What a model's own metadata says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Metadata {
    pub names: Option<Labels>,
    /// Ultralytics' word for what the network does.
    pub task: Option<String>,
    /// Ultralytics' name for the network's last layer.
    pub head: Option<String>,
    /// Width and height of the pictures that it was exported for, as Ultralytics names them.
    pub image_size: Option<(usize, usize)>,
}

impl Metadata {
    pub fn from_onnx(model: &Model) -> Self {
        Self::from_entries(|wanted| {
            let mut entries = model.metadata();
            let found = entries.find(|(key, _)| *key == wanted);
            found.map(|(_, value)| value.to_owned())
        })
    }

    /// From the entries of an ONNX file.
    fn from_entries(find: impl Fn(&str) -> Option<String>) -> Self {
        let names = ["names", "labels", "classes", "class_names"]
            .into_iter()
            .find_map(|key| Labels::from_metadata(&find(key)?));
        Self {
            names,
            task: find("task"),
            head: find("head"),
            image_size: find("imgsz").and_then(|size| image_size(&size)),
        }
    }

    /// From the JSON that Ultralytics puts before an engine: `{"names": {"0": "person", …}, "task": "detect", …}`.
    pub fn from_json(json: &str) -> Self {
        let Ok(value) = serde_json::from_str::<serde_json::Value>(json) else {
            return Self::default();
        };
        let names = value.get("names").map(serde_json::Value::to_string);
        let word = |key| Some(value.get(key)?.as_str()?.to_owned());
        Self {
            names: names.and_then(|names| Labels::from_json(&names)),
            task: word("task"),
            head: word("head"),
            // The engine has a size.
            image_size: None,
        }
    }
}

/// Width and height of `[height, width]`.
fn image_size(text: &str) -> Option<(usize, usize)> {
    let sides = text.trim().strip_prefix('[')?.strip_suffix(']')?;
    let (height, width) = sides.split_once(',')?;
    Some((width.trim().parse().ok()?, height.trim().parse().ok()?))
}

/// What is known of a model.
#[derive(Debug)]
pub(super) struct Description {
    file_name: String,
    info: ModelInfo,
    decoder: Option<Family>,
    activation: Option<Activation>,
    task: Option<String>,
    head: Option<String>,
    /// And where they are from.
    labels: Option<(Labels, String)>,
    image_size: Option<(usize, usize)>,
    /// The model takes grey pictures; what it is fed are red, green and blue.
    pub is_grey: bool,
}

impl Description {
    pub fn new(
        options: &DetectorOptions,
        source: &ModelSource,
        metadata: Metadata,
    ) -> Result<Self, LoadError> {
        let path = source.path().and_then(ModelInfo::path_beside);
        let info = path
            .as_deref()
            .map(ModelInfo::read)
            .transpose()?
            .unwrap_or_default();
        if let Some(path) = &path {
            gst::info!(CAT, "{} describes the model", path.display());
        }
        let decoder = options.decoder.as_ref().or(info.decoder.as_ref());
        let file_name = source.path().and_then(Path::file_name).unwrap_or_default();
        Ok(Self {
            decoder: decoder.map(|name| family(name)).transpose()?.flatten(),
            activation: info.activation.as_deref().map(activation).transpose()?,
            labels: find_labels(options, source, &info, path.as_deref(), metadata.names)?,
            file_name: file_name.to_string_lossy().into_owned(),
            info,
            task: metadata.task,
            head: metadata.head,
            image_size: metadata.image_size,
            is_grey: false,
        })
    }

    /// Width and height of the input, for models that leave them open.
    pub fn input_size(&self) -> Option<(usize, usize)> {
        self.info.input_size.or(self.image_size)
    }

    /// The layout of a network with these outputs, and its labels: as many as it has classes.
    pub fn recognize(
        &self,
        outputs: &[TensorSpec],
        other_inputs: &[String],
        input: InputGeometry,
    ) -> Result<(Layout, Labels), LoadError> {
        let mut layout = Layout::recognize(&Evidence {
            labels: self
                .labels
                .as_ref()
                .map(|(labels, _)| labels.as_slice().len()),
            task: self.task.as_deref(),
            head: self.head.as_deref(),
            file_name: &self.file_name,
            decoder: self.decoder,
            anchors: self.info.anchors.clone(),
            activation: self.activation,
            other_inputs,
            ..Evidence::new(outputs, input)
        })?;
        let labels = match self.labels.clone() {
            None => Labels::guessed(layout.classes),
            Some((labels, _)) if layout.open_classes && layout.background => {
                labels.with_background()
            }
            Some((labels, _)) if layout.open_classes => labels,
            Some((labels, origin)) => {
                labels.fitted_to(layout.classes, layout.background, &origin)?
            }
        };
        layout.classes = labels.as_slice().len();
        gst::info!(
            CAT,
            "outputs are those of {}, {} classes",
            layout.family,
            layout.classes
        );
        Ok((layout, labels))
    }

    /// What the model wants done to pixels.
    pub fn preparation(&self, layout: &Layout, input: ElementType) -> Preparation {
        let mut preparation = layout.default_preparation(input);
        self.info.apply(&mut preparation);
        if self.is_grey {
            preparation.order = ChannelOrder::Rgb;
        }
        preparation
    }
}

/// The family that is named; none for `auto`.
fn family(name: &str) -> Result<Option<Family>, LoadError> {
    match Family::from_name(name) {
        _ if name == "auto" => Ok(None),
        Some(family) => Ok(Some(family)),
        None => {
            let known: Vec<_> = ENTRIES.iter().map(|entry| entry.name).collect();
            Err(LoadError::UnknownDecoder {
                name: name.into(),
                known: known.join(", "),
            })
        }
    }
}

fn activation(name: &str) -> Result<Activation, LoadError> {
    match name {
        "none" => Ok(Activation::None),
        "sigmoid" => Ok(Activation::Sigmoid),
        "softmax" => Ok(Activation::Softmax),
        _ => Err(LoadError::UnknownActivation(name.into())),
    }
}

fn find_labels(
    options: &DetectorOptions,
    source: &ModelSource,
    info: &ModelInfo,
    info_path: Option<&Path>,
    names: Option<Labels>,
) -> Result<Option<(Labels, String)>, LabelsError> {
    let read = |path: &Path| {
        let labels = match path.to_str().and_then(Labels::built_in) {
            Some(labels) => labels,
            None => Labels::read(path)?,
        };
        Ok(Some((labels, path.display().to_string())))
    };
    if let Some(path) = &options.labels {
        return read(path);
    }
    if let ModelSource::Bundled(bundled) = source {
        let labels = Labels::from_lines(bundled.labels);
        return Ok(Some((labels, bundled.name.into())));
    }
    if let Some(name) = &info.labels {
        let mut parts = Path::new(name).components();
        if !parts.all(|part| matches!(part, Component::Normal(_))) {
            return Err(LabelsError::Unreadable {
                path: name.into(),
                reason: "a .modelinfo names files beside or below it alone".into(),
            });
        }
        let beside = info_path.map(|path| path.with_file_name(name));
        let path = match Labels::built_in(name) {
            Some(_) => None,
            None => beside,
        };
        return read(path.as_deref().unwrap_or(Path::new(name)));
    }
    if let Some(names) = names {
        return Ok(Some((names, "the model's metadata".into())));
    }
    match source.path().and_then(sidecar) {
        Some(sidecar) => read(&sidecar),
        None => Ok(None),
    }
}

/// `yolo.labels.txt`, `yolo.txt`, `yolo.names`, `yolo.json` or `labels.txt` beside `yolo.onnx`.
fn sidecar(model: &Path) -> Option<PathBuf> {
    ["labels.txt", "txt", "names", "json"]
        .into_iter()
        .map(|extension| model.with_extension(extension))
        .chain([model.with_file_name("labels.txt")])
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_before_an_engine_are_in_the_order_of_their_numbers() {
        let json = r#"{"task": "detect", "names": {"1": "car", "0": "person"}}"#;
        let metadata = Metadata::from_json(json);
        assert_eq!(metadata.names.unwrap().as_slice(), ["person", "car"]);
        assert_eq!(metadata.task.as_deref(), Some("detect"));
        let gap = Metadata::from_json(r#"{"names": {"1": "car"}}"#);
        assert_eq!(gap, Metadata::default());
        assert_eq!(Metadata::from_json("[]"), Metadata::default());
    }

    #[test]
    fn unknown_decoders_are_refused_with_those_that_are_known() {
        let error = family("yolo5").unwrap_err().to_string();
        assert!(
            error.contains("decoder=yolo5") && error.contains("yolov5, "),
            "{error}"
        );
        assert_eq!(family("auto").unwrap(), None);
    }
}
