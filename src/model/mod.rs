//! What a model is before any engine runs it: where it comes from and what its classes are called.

mod coco;
pub mod labels;
pub mod modelinfo;
mod names;
pub mod onnx;

use std::path::{Path, PathBuf};

use self::onnx::OnnxError;

pub use labels::{Labels, LabelsError};
pub use modelinfo::{ModelInfo, ModelInfoError};

/// A model that the library itself carries.
#[derive(Debug, PartialEq, Eq)]
pub struct BundledModel {
    pub name: &'static str,
    pub onnx: &'static [u8],
    /// One label a line.
    pub labels: &'static str,
}

#[cfg(feature = "bundled-model")]
static BUNDLED: &[BundledModel] = &[BundledModel {
    name: "ssd-mobilenet-v2",
    onnx: include_bytes!("../../pipelines/models/ssd-mobilenet-v2.onnx"),
    labels: include_str!("../../pipelines/models/ssd-mobilenet-v2.labels.txt"),
}];
#[cfg(not(feature = "bundled-model"))]
static BUNDLED: &[BundledModel] = &[];

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelSource {
    Bundled(&'static BundledModel),
    /// An ONNX file.
    File(PathBuf),
    /// A TensorRT engine file.
    Engine(PathBuf),
}

/// What the file names of TensorRT engines end with.
const ENGINE_EXTENSIONS: [&str; 2] = ["engine", "plan"];

#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error(
        "there is no model '{name}': it is neither a file nor one that the plugin carries ({bundled})"
    )]
    NotFound { name: String, bundled: String },
    #[error("'{name}' is a model of jetson-inference that the plugin does not carry: {advice}")]
    OfJetsonInference { name: String, advice: String },
    #[error("the model {path} could not be read: {reason}")]
    Unreadable { path: PathBuf, reason: String },
    #[error("the model {0} is empty")]
    Empty(PathBuf),
    #[error("the model {name} cannot be used: {reason}")]
    Broken { name: String, reason: OnnxError },
    #[error("the model {path} is not of a kind that is understood: {advice}")]
    UnknownKind { path: PathBuf, advice: &'static str },
}

impl ModelSource {
    /// What the `model` property means: the name of a bundled model, or a file.
    pub fn resolve(name: &str) -> Result<Self, ModelError> {
        if let Some(bundled) = BUNDLED.iter().find(|bundled| bundled.name == name) {
            return Ok(Self::Bundled(bundled));
        }
        let path = PathBuf::from(name);
        let file = match std::fs::metadata(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                if let Some(advice) = names::advice(name) {
                    return Err(ModelError::OfJetsonInference {
                        name: name.into(),
                        advice,
                    });
                }
                let names: Vec<_> = BUNDLED.iter().map(|bundled| bundled.name).collect();
                return Err(ModelError::NotFound {
                    name: name.into(),
                    bundled: match names.is_empty() {
                        true => "none".into(),
                        false => names.join(", "),
                    },
                });
            }
            Err(error) => return Err(Self::File(path).unreadable(&error)),
        };
        if !file.is_file() {
            let reason = "it is not a regular file".into();
            return Err(ModelError::Unreadable { path, reason });
        }
        if file.len() == 0 {
            return Err(ModelError::Empty(path));
        }
        // Only now, as opening a pipe would wait for somebody to write into it.
        if let Err(error) = std::fs::File::open(&path) {
            return Err(Self::File(path).unreadable(&error));
        }
        if Self::is_engine(name) {
            return Ok(Self::Engine(path));
        }
        check_kind(&path)?;
        Ok(Self::File(path))
    }

    /// Whether the name is that of a TensorRT engine file.
    pub fn is_engine(name: &str) -> bool {
        ENGINE_EXTENSIONS.contains(&extension_of(Path::new(name)).as_str())
    }

    /// The model's file, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Bundled(_) => None,
            Self::File(path) | Self::Engine(path) => Some(path),
        }
    }

    /// Bytes of the model's file; 0 where it cannot be read.
    pub fn size(&self) -> usize {
        match self {
            Self::Bundled(bundled) => bundled.onnx.len(),
            Self::File(path) | Self::Engine(path) => {
                let metadata = std::fs::metadata(path).ok();
                metadata.map_or(0, |metadata| metadata.len() as usize)
            }
        }
    }

    /// The graph of a model that is no engine.
    pub fn graph(&self) -> Result<onnx::Model, ModelError> {
        let broken = |reason| ModelError::Broken {
            name: self.name(),
            reason,
        };
        // Not even read: it may be more than there is memory.
        onnx::check_size(self.size()).map_err(broken)?;
        match self {
            Self::Bundled(bundled) => onnx::Model::parse(bundled.onnx),
            Self::File(_) | Self::Engine(_) => onnx::Model::parse(self.read()?),
        }
        .map_err(broken)
    }

    fn name(&self) -> String {
        match self {
            Self::Bundled(bundled) => bundled.name.into(),
            Self::File(path) | Self::Engine(path) => path.display().to_string(),
        }
    }

    /// The bytes of the model.
    pub fn read(&self) -> Result<Vec<u8>, ModelError> {
        match self {
            Self::Bundled(bundled) => Ok(bundled.onnx.to_vec()),
            Self::File(path) | Self::Engine(path) => {
                std::fs::read(path).map_err(|error| self.unreadable(&error))
            }
        }
    }

    /// That the file cannot be read.
    pub fn unreadable(&self, error: &std::io::Error) -> ModelError {
        ModelError::Unreadable {
            path: self.path().map(Path::to_owned).unwrap_or_default(),
            reason: error.to_string(),
        }
    }
}

fn extension_of(path: &Path) -> String {
    path.extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default()
        .to_ascii_lowercase()
}

/// Refuses the files of other tools by their names, with what can be done.
fn check_kind(path: &Path) -> Result<(), ModelError> {
    let advice = match extension_of(path).as_str() {
        "onnx" => return Ok(()),
        "pt" | "pth" => {
            "export it to ONNX first, for YOLO with 'yolo export model=FILE format=onnx dynamic=True'"
        }
        "tflite" | "pb" | "h5" | "keras" => "convert it to ONNX first, with tf2onnx",
        "caffemodel" | "prototxt" => {
            "no current engine reads Caffe's files; convert it to ONNX, with 'python3 -m caffe2onnx.convert --prototxt \
             deploy.prototxt --caffemodel FILE --onnx model.onnx', and set decoder=detectnet for DIGITS' DetectNet or \
             decoder=detection-output for SSD"
        }
        "uff" => {
            "no current engine reads UFF; take the frozen TensorFlow graph that it was made of and convert that to ONNX: \
             'python3 -m tf2onnx.convert --graphdef frozen_inference_graph.pb --inputs image_tensor:0 --outputs \
             detection_boxes:0,detection_classes:0,detection_scores:0,num_detections:0 --output model.onnx'"
        }
        "etlt" => {
            "it is encrypted; take the .onnx file that NGC has for the same model, or make an engine of it with TAO's \
             tao-converter and give that"
        }
        _ => "an .onnx file is needed, or an .engine or .plan file of TensorRT",
    };
    Err(ModelError::UnknownKind {
        path: path.into(),
        advice,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_model_is_an_error_that_names_the_bundled_one() {
        let error = ModelSource::resolve("/no/such.onnx")
            .unwrap_err()
            .to_string();
        assert!(error.contains("/no/such.onnx"), "{error}");
        assert_eq!(
            error.contains("ssd-mobilenet-v2"),
            cfg!(feature = "bundled-model")
        );
    }

    #[test]
    fn empty_files_folders_and_foreign_formats_are_refused_with_advice() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let message = |name: &str| ModelSource::resolve(name).unwrap_err().to_string();
        assert!(message(&file("empty.onnx", b"")).ends_with("is empty"));
        assert!(message(&file("yolo.pt", b"x")).contains("yolo export"));
        assert!(message(folder.path().to_str().unwrap()).contains("not a regular file"));
        assert!(ModelSource::resolve(&file("model.ONNX", b"x")).is_ok());
    }
}
