//! Detection on the CPU, for frames in system memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::adapt::adapt;
use super::description::{Description, Metadata};
use super::recognized::Recognized;
use super::{DetectError, DetectorOptions, Doubt, LoadError, Timings};
use crate::decode::{HostDecoder, Selection};
use crate::detection::Detection;
use crate::engine::onnxruntime::{InputMut, Model, Session};
use crate::frame::SystemFrame;
use crate::model::ModelSource;
use crate::preprocess::InputGeometry;
use crate::preprocess::cpu::Preprocessor;
use crate::profiler;

/// A loaded model with all that it needs to inspect frames in system memory, one at a time.
pub struct HostDetector {
    session: Session,
    preprocessor: Preprocessor,
    decoder: HostDecoder,
    doubt: Doubt,
    recognized: Arc<Recognized>,
    description: String,
    model_bytes: usize,
}

impl HostDetector {
    /// Loads a model; what its outputs show to be wrong with it becomes a `doubt`.
    pub fn load(options: &DetectorOptions, doubt: &Doubt) -> Result<Self, LoadError> {
        let source = ModelSource::resolve(&options.model)?;
        let mut graph = match &source {
            ModelSource::Engine(path) => return Err(LoadError::EngineWithoutGpu(path.clone())),
            _ => source.graph()?,
        };
        let metadata = Metadata::from_onnx(&graph);
        let mut known = Description::new(options, &source, metadata)?;
        let folder = source.path().and_then(Path::parent);
        if let Some(folder) = folder {
            // ONNX Runtime reads weights wherever a model says that they are.
            graph.external_data_paths(folder)?;
        }
        let adapted = adapt(&mut graph, &mut known, options)?;
        if let Some(folder) = folder.filter(|_| adapted) {
            graph.embed_external_data(folder)?;
        }
        let bytes = adapted.then(|| graph.to_bytes());
        drop(graph);
        let model = match (&bytes, &source) {
            (Some(bytes), _) => Model::Bytes(bytes),
            (None, ModelSource::Bundled(bundled)) => Model::Bytes(bundled.onnx),
            (None, ModelSource::File(path) | ModelSource::Engine(path)) => Model::File(path),
        };
        let mut session = Session::load(model, options.threads)?;
        if adapted {
            session.state_shapes()?;
        }
        let (outputs, geometry) = (session.outputs(), session.geometry());
        let (layout, labels) = known.recognize(outputs, session.other_inputs(), geometry)?;
        let preparation = known.preparation(&layout, session.input_element());
        let preprocessor = Preprocessor::new(session.geometry(), preparation, options.shrinking);
        let InputGeometry { width, height, .. } = session.geometry();
        let description = format!(
            "ONNX Runtime on the CPU, {} {width}x{height}",
            layout.family
        );
        let decoder = HostDecoder::new(layout.clone(), geometry, session.outputs());
        let recognized = Arc::new(Recognized {
            layout,
            labels,
            preparation,
            geometry,
            inputs: session.inputs().to_vec(),
            outputs: session.outputs().to_vec(),
        });
        Ok(Self {
            session,
            preprocessor,
            decoder,
            doubt: doubt.clone(),
            recognized,
            description,
            model_bytes: source.size(),
        })
    }

    /// Size of the model's file.
    pub fn model_bytes(&self) -> usize {
        self.model_bytes
    }

    pub(super) fn recognized(&self) -> &Arc<Recognized> {
        &self.recognized
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
        let preprocessing = profiler::range(c"preprocess");
        let placement = match self.session.input() {
            InputMut::Float32(tensor) => self.preprocessor.run(frame, tensor),
            InputMut::Uint8(tensor) => self.preprocessor.run(frame, tensor),
            InputMut::Int8(tensor) => self.preprocessor.run(frame, tensor),
        };
        drop(preprocessing);
        let preprocessed = Instant::now();
        let network = profiler::range(c"network");
        let (inferred, decoded) = self.session.run(|outputs| {
            drop(network);
            let inferred = Instant::now();
            let _range = profiler::range(c"decode");
            let decoder = &mut self.decoder;
            let decoded = decoder.decode(outputs, &placement, selection, detections);
            (inferred, decoded)
        })?;
        decoded?;
        if let Some(diagnosis) = self.decoder.diagnosis() {
            self.doubt.raise(diagnosis);
        }
        Ok(Timings {
            preprocess: preprocessed - start,
            infer: inferred - preprocessed,
            decode: inferred.elapsed(),
        })
    }
}
