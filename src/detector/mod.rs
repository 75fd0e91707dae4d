//! Preprocessing, engine and decoding put together: a frame goes in, its detections come out.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::decode::{Family, Layout, Selection, UnexpectedShape, UnknownLayout};
use crate::detection::Detection;
use crate::engine::onnxruntime::{self, InputMut, Model, Session};
use crate::frame::system::Plane;
use crate::frame::{Colorimetry, PixelFormat, SystemFrame};
use crate::model::{Labels, LabelsError, ModelError, ModelSource};
use crate::preprocess::cpu::Preprocessor;

/// What a detector is made from; all of it is fixed once it is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetectorOptions {
    /// The name of a bundled model, or a file.
    pub model: String,
    /// A file with one label a line; else what the model itself or its folder says.
    pub labels: Option<PathBuf>,
    /// Threads of the CPU engine; 0 chooses by the machine.
    pub threads: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Labels(#[from] LabelsError),
    #[error("{0}")]
    Engine(#[from] onnxruntime::Error),
    #[error(transparent)]
    Layout(#[from] UnknownLayout),
}

#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    #[error(transparent)]
    Engine(#[from] onnxruntime::Error),
    #[error(transparent)]
    Shape(#[from] UnexpectedShape),
}

/// How long the stages of one inspection took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    pub preprocess: Duration,
    pub infer: Duration,
    pub decode: Duration,
}

impl Timings {
    pub fn total(&self) -> Duration {
        self.preprocess + self.infer + self.decode
    }
}

/// A loaded model with all that it needs to inspect frames in system memory, one at a time.
pub struct Detector {
    session: Session,
    preprocessor: Preprocessor,
    layout: Layout,
    labels: Labels,
}

impl Detector {
    pub fn load(options: &DetectorOptions) -> Result<Self, LoadError> {
        let source = ModelSource::resolve(&options.model)?;
        let model = match &source {
            ModelSource::Bundled(bundled) => Model::Bytes(bundled.onnx),
            ModelSource::File(path) => Model::File(path),
        };
        let session = Session::load(model, options.threads)?;
        let layout = Layout::recognize(session.outputs())?;
        let labels = find_labels(options, &source, &session, &layout)?;
        let preparation = layout.default_preparation(session.input_element());
        let preprocessor = Preprocessor::new(session.geometry(), preparation);
        Ok(Self {
            session,
            preprocessor,
            layout,
            labels,
        })
    }

    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The engine and the layout, for logs and `stats`.
    pub fn describe(&self) -> String {
        let geometry = self.session.geometry();
        format!(
            "{:?} with {} classes, input {}x{}",
            self.layout.family, self.layout.classes, geometry.width, geometry.height
        )
    }

    /// Runs the network on an empty picture until it is warm; returns what one inspection then takes.
    pub fn measure(&mut self) -> Result<Duration, DetectError> {
        const SIDE: usize = 64;
        const RUNS: usize = 3;
        let pixels = [128; SIDE * SIDE];
        let frame = SystemFrame {
            format: PixelFormat::Gray8,
            colorimetry: Colorimetry::default(),
            width: SIDE,
            height: SIDE,
            planes: [
                Plane {
                    data: &pixels,
                    stride: SIDE,
                },
                Plane::default(),
                Plane::default(),
            ],
        };
        let selection = Selection {
            thresholds: vec![f32::INFINITY; self.layout.classes],
            iou_threshold: 1.0,
            max_detections: 1,
        };
        let mut timings = Timings::default();
        for _ in 0..RUNS {
            timings = self.detect(&frame, &selection, &mut Vec::new())?;
        }
        Ok(timings.total())
    }

    /// Replaces `detections` by what the network finds in the frame, best first.
    pub fn detect(
        &mut self,
        frame: &SystemFrame<'_>,
        selection: &Selection,
        detections: &mut Vec<Detection>,
    ) -> Result<Timings, DetectError> {
        let start = Instant::now();
        let placement = match self.session.input() {
            InputMut::Float32(tensor) => self.preprocessor.run(frame, tensor),
            InputMut::Uint8(tensor) => self.preprocessor.run(frame, tensor),
        };
        let preprocessed = Instant::now();
        let geometry = self.session.geometry();
        let (inferred, decoded) = self.session.run(|outputs| {
            let inferred = Instant::now();
            let decoded = self
                .layout
                .decode(outputs, geometry, &placement, selection, detections);
            (inferred, decoded)
        })?;
        decoded?;
        Ok(Timings {
            preprocess: preprocessed - start,
            infer: inferred - preprocessed,
            decode: inferred.elapsed(),
        })
    }
}

/// Labels by the strongest word: the user's file, the model's own metadata, a file beside the model.
fn find_labels(
    options: &DetectorOptions,
    source: &ModelSource,
    session: &Session,
    layout: &Layout,
) -> Result<Labels, LabelsError> {
    let fit = |labels: Labels, origin: &str| {
        labels.fitted_to(layout.classes, layout.family == Family::Ssd, origin)
    };
    if let Some(path) = &options.labels {
        return fit(Labels::read(path)?, &path.display().to_string());
    }
    let path = match source {
        ModelSource::Bundled(bundled) => {
            return fit(Labels::from_lines(bundled.labels), bundled.name);
        }
        ModelSource::File(path) => path,
    };
    let names = session.metadata("names");
    if let Some(labels) = names.as_deref().and_then(Labels::from_ultralytics_names) {
        return fit(labels, "the model's metadata");
    }
    match sidecar(path) {
        Some(sidecar) => fit(Labels::read(&sidecar)?, &sidecar.display().to_string()),
        None => Ok(Labels::numbered(layout.classes)),
    }
}

/// `yolo.labels.txt`, `yolo.txt` or `labels.txt` beside `yolo.onnx`.
fn sidecar(model: &Path) -> Option<PathBuf> {
    ["labels.txt", "txt"]
        .into_iter()
        .map(|extension| model.with_extension(extension))
        .chain([model.with_file_name("labels.txt")])
        .find(|path| path.is_file())
}
