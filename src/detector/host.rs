//! Detection on the CPU, for frames in system memory.

use std::time::Instant;

use super::labels::find_labels;
use super::{DetectError, DetectorOptions, LoadError, Timings};
use crate::decode::{Layout, Selection};
use crate::detection::Detection;
use crate::engine::onnxruntime::{InputMut, Model, Session};
use crate::frame::SystemFrame;
use crate::model::{Labels, ModelSource};
use crate::preprocess::InputGeometry;
use crate::preprocess::cpu::Preprocessor;

/// A loaded model with all that it needs to inspect frames in system memory, one at a time.
pub struct HostDetector {
    session: Session,
    preprocessor: Preprocessor,
    layout: Layout,
    labels: Labels,
    description: String,
    model_bytes: usize,
}

impl HostDetector {
    pub fn load(options: &DetectorOptions) -> Result<Self, LoadError> {
        let source = ModelSource::resolve(&options.model)?;
        let model = match &source {
            ModelSource::Bundled(bundled) => Model::Bytes(bundled.onnx),
            ModelSource::File(path) => Model::File(path),
            ModelSource::Engine(path) => return Err(LoadError::EngineWithoutGpu(path.clone())),
        };
        let session = Session::load(model, options.threads)?;
        let layout = Layout::recognize(session.outputs())?;
        let names = session.metadata("names");
        let names = names.as_deref().and_then(Labels::from_ultralytics_names);
        let labels = find_labels(options, &source, names, &layout)?;
        let preparation = layout.default_preparation(session.input_element());
        let preprocessor = Preprocessor::new(session.geometry(), preparation, options.shrinking);
        let InputGeometry { width, height, .. } = session.geometry();
        let description = format!(
            "ONNX Runtime on the CPU, {:?} {width}x{height}",
            layout.family
        );
        Ok(Self {
            session,
            preprocessor,
            layout,
            labels,
            description,
            model_bytes: source.size(),
        })
    }

    /// Size of the model's file.
    pub fn model_bytes(&self) -> usize {
        self.model_bytes
    }

    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Engine and layout, for logs and `stats`.
    pub fn description(&self) -> &str {
        &self.description
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
