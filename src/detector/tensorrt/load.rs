//! From a model to an engine with all its buffers.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::Commons;
use super::bay::Berth;
use super::lane::{EngineLane, Machine, Run, Work};
use super::tensors::Tensors;
use crate::cuda::context::{Context, driver_version};
use crate::cuda::driver::is_lost;
use crate::cuda::stream::{Event, Stream};
use crate::decode::Layout;
use crate::decode::cuda::{Decoder, MAX_DETECTIONS, OutputElement, OutputTensor, Outputs};
use crate::detector::adapt::adapt;
use crate::detector::description::{Description, Metadata};
use crate::detector::recognized::Recognized;
use crate::detector::{CAT, DetectError, DetectorOptions, LoadError, LoadProgress};
use crate::engine::tensorrt::{
    self, Batches, BuildOptions, DataType, DeviceIdentity, Engine, EngineCache, KeptEngine,
    Library, LoadOptions, OnnxModel, Precision, TensorSpec,
};
use crate::engine::{self, ElementType};
use crate::frame::texture::FrameTextures;
use crate::model::onnx::{Float16Options, Float16Outcome, Model};
use crate::model::{Labels, ModelSource};
use crate::preprocess::InputGeometry;
use crate::preprocess::cuda::{Element, InputTensor, Preprocessor};
use crate::printable::printable;

/// A model as this GPU runs it, and what only the model knows.
pub(super) struct LoadedEngine {
    engine: Engine,
    kept: Option<(EngineCache, KeptEngine)>,
    known: Description,
    precision: &'static str,
}

/// What is the same for all batches of a model.
pub(super) struct Loaded {
    pub description: String,
    pub recognized: Recognized,
}

impl LoadedEngine {
    /// What the model finds and what its classes are called. The context is current.
    pub fn describe(&self, context: &Context) -> Result<Loaded, LoadError> {
        let (layout, labels) = self.recognize()?;
        let tensors = self.engine.tensors();
        let (input, _, geometry) = image_input(tensors)?;
        let InputGeometry { width, height, .. } = geometry;
        let specs = |inputs: bool| {
            let specs = tensors.iter().filter(|tensor| tensor.is_input == inputs);
            specs.map(spec_of).collect()
        };
        let element = element_type(tensors[input].data_type);
        Ok(Loaded {
            description: format!(
                "{} on {}, {}, {} {width}x{height}",
                tensorrt::library()?.version(),
                context.gpu_name()?,
                self.precision,
                layout.family,
            ),
            recognized: Recognized {
                preparation: self.known.preparation(&layout, element),
                geometry,
                inputs: specs(true),
                outputs: specs(false),
                labels,
                layout,
            },
        })
    }

    fn recognize(&self) -> Result<(Layout, Labels), LoadError> {
        let tensors = self.engine.tensors();
        let (image, _, geometry) = image_input(tensors)?;
        let of = |input: bool| {
            let tensors = tensors.iter().enumerate();
            tensors.filter(move |(i, tensor)| tensor.is_input == input && *i != image)
        };
        let outputs: Vec<_> = of(false).map(|(_, tensor)| spec_of(tensor)).collect();
        let others: Vec<_> = of(true).map(|(_, tensor)| tensor.name.clone()).collect();
        self.known.recognize(&outputs, &others, geometry)
    }

    pub fn max_batch(&self) -> u32 {
        self.engine.max_batch()
    }

    /// The batches that are worth a lane of their own.
    pub fn sizes(&self) -> Vec<u32> {
        let sizes = Batches::UpTo(self.engine.max_batch()).sizes();
        let taken = sizes.into_iter().filter(|size| self.engine.takes(*size));
        let ends = self.engine.batches().map(|batches| *batches.end());
        Batches::Each(taken.chain(ends).collect()).sizes()
    }

    /// Room to run batches of one size in, which has run one: in the memory of a bay, the activations too where
    /// the engine has a profile for that size alone and TensorRT lets them.
    pub fn new_lane(
        &self,
        batch: u32,
        commons: &Commons,
        berth: &Berth,
    ) -> Result<EngineLane, LoadError> {
        let (layout, _) = self.recognize()?;
        let lane = |network: tensorrt::Context| {
            EngineLane::new(berth.bay.context(), layout.clone(), commons, || {
                self.new_machine(network, batch, &layout, commons, berth)
            })
        };
        if !self.engine.is_made_for(batch) {
            // What a context keeps of the size that it last ran with is not said to lie elsewhere.
            return lane(self.engine.new_context()?);
        }
        let sharing = self.engine.new_context_without_memory();
        match sharing.map_err(LoadError::from).and_then(lane) {
            // What CUDA refuses, memory mostly, there is no more of elsewhere.
            Err(error @ (LoadError::TensorRt(_) | LoadError::FirstRun(_))) if !is_lost() => {
                gst::info!(
                    CAT,
                    "batches of {batch} get memory of their own for activations: {}",
                    printable(error)
                );
                lane(self.engine.new_context()?)
            }
            outcome => outcome,
        }
    }

    fn new_machine(
        &self,
        mut network: tensorrt::Context,
        batch: u32,
        layout: &Layout,
        commons: &Commons,
        berth: &Berth,
    ) -> Result<Machine, LoadError> {
        let tensors = self.engine.tensors();
        let (input, element, geometry) = image_input(tensors)?;
        network.set_batch(batch)?;
        let batch = batch as usize;
        let memory = Tensors::new(tensors, input, geometry, &network)?;
        if berth.starts_apart {
            memory.run_apart(&mut network, berth.bay.context())?;
        }
        let addresses = memory.settle(&mut network, &berth.bay)?;
        let device_outputs = device_outputs(layout, geometry, tensors, &network, &addresses)?;
        let tensor = InputTensor {
            address: addresses[input],
            geometry,
            element,
            slots: batch,
        };
        let preparation = self
            .known
            .preparation(layout, element_type(tensors[input].data_type));
        Ok(Machine {
            preprocessor: Preprocessor::new(tensor, preparation, commons.options.shrinking),
            slots: Vec::with_capacity(batch),
            textures: FrameTextures::default(),
            run: Run::Plain,
            work: Work {
                batch,
                network,
                decoder: Decoder::new(device_outputs, batch, MAX_DETECTIONS)?,
                kernels: Arc::clone(&commons.kernels),
                beside: Stream::new()?,
                forked: Event::new()?,
                joined: Event::new()?,
            },
            finished: Arc::new(Event::new()?),
            produced: Event::new()?,
            stream: Stream::new()?,
            _constants: memory.into_constants(),
            bay: Arc::clone(&berth.bay),
        })
    }

    /// Keeps what TensorRT-RTX compiled, for the next start.
    pub fn keep_kernels(&self) {
        if let Some((cache, kept)) = &self.kept
            && let Err(error) = cache.keep_kernels(kept)
        {
            gst::warning!(CAT, "compiled kernels are not kept: {error}");
        }
    }
}

/// The engine of a model for batches of this size, which an engine file decides on itself. The context is current.
pub(super) fn load_engine(
    options: &DetectorOptions,
    batch: u32,
    context: &Context,
    progress: &mut LoadProgress<'_>,
) -> Result<LoadedEngine, LoadError> {
    let start = Instant::now();
    let library = tensorrt::library()?;
    let source = &ModelSource::resolve(&options.model)?;
    if let ModelSource::Engine(path) = source {
        let file = std::fs::read(path).map_err(|error| source.unreadable(&error))?;
        let (metadata, _) = tensorrt::split_metadata(&file);
        let metadata = metadata.map(Metadata::from_json).unwrap_or_default();
        return Ok(LoadedEngine {
            engine: Engine::deserialize(
                library,
                &file,
                LoadOptions {
                    dla_core: options.dla_core,
                    ..LoadOptions::default()
                },
            )?,
            kept: None,
            known: Description::new(options, source, metadata)?,
            precision: "as built",
        });
    }
    let mut model = source.graph()?;
    // What is wrong with the description is said before an engine is built.
    let mut known = Description::new(options, source, Metadata::from_onnx(&model))?;
    adapt(&mut model, &mut known, options)?;
    if let Some(folder) = source.path().and_then(Path::parent) {
        model.embed_external_data(folder)?;
    }
    let mut batch = batch;
    if let Err(reason) = model.make_batch_dynamic() {
        let reason = printable(reason);
        gst::info!(CAT, "the model stays at its own batch size: {reason}");
        // So that there is one engine of it alone.
        batch = 1;
    }
    if let Err(reason) = model.cast_byte_inputs() {
        let reason = printable(reason);
        gst::warning!(CAT, "TensorRT may refuse the model: {reason}");
    }
    let precision = choose_precision(options.precision, library, &mut model)?;
    let bytes = model.to_bytes();
    let onnx = OnnxModel {
        bytes: &bytes,
        path: None,
        external_files: &[],
    };
    let (major, minor) = context.compute_capability()?;
    let build = BuildOptions {
        precision: options.precision,
        // Engines for one size alone are the fastest, and the quickest to start: TensorRT-RTX compiles the kernels of a
        // range anew at each start.
        batches: Batches::Each(vec![batch]),
        dla_core: options.dla_core,
        workspace_bytes: options.workspace_bytes,
        input_shapes: Vec::new(),
        device: DeviceIdentity {
            name: context.gpu_name()?,
            compute_capability: (major, minor),
            driver_version: driver_version(),
        },
    };
    let cache = open_cache(options)?;
    let kept = cache.load_or_build(library, &onnx, &build, &mut |step| {
        let percent = (step.of > 0).then(|| 100 * step.done.min(step.of) / step.of);
        progress(step.phase, percent)
    })?;
    gst::info!(
        CAT,
        "the engine for batches of {batch} took {:?}",
        start.elapsed()
    );
    Ok(LoadedEngine {
        engine: kept.engine.clone(),
        kept: Some((cache, kept)),
        known,
        precision,
    })
}

fn open_cache(options: &DetectorOptions) -> Result<EngineCache, LoadError> {
    let folder = options
        .engine_cache
        .clone()
        .or_else(EngineCache::default_folder)
        .ok_or(LoadError::NoCacheFolder)?;
    Ok(EngineCache::open(&folder)?)
}

/// Where the graph itself decides on types, makes it float16 unless float32 is asked for. Says what came of it.
fn choose_precision(
    wanted: Precision,
    library: &Library,
    model: &mut Model,
) -> Result<&'static str, LoadError> {
    if !library.has_int8_convolutions() {
        if wanted == Precision::Int8 {
            let version = library.version();
            return Err(LoadError::NoInt8(version.to_string()));
        }
        if model.dequantize()? {
            gst::info!(CAT, "int8 was taken out of the model");
        }
    }
    if !library.is_strongly_typed() || matches!(wanted, Precision::Fp32 | Precision::Int8) {
        return Ok(match wanted {
            Precision::Auto => "float16 where it is faster",
            Precision::Fp32 => "float32",
            Precision::Fp16 => "float16",
            Precision::Int8 => "int8",
        });
    }
    Ok(match model.to_float16(&Float16Options::default())? {
        Float16Outcome::Quantized => "as quantised",
        Float16Outcome::Rewritten { .. } | Float16Outcome::Unchanged => "float16",
    })
}

pub(super) fn spec_of(tensor: &TensorSpec) -> engine::TensorSpec {
    engine::TensorSpec {
        name: tensor.name.clone(),
        element: element_type(tensor.data_type),
        shape: tensor.shape.clone(),
    }
}

fn element_type(data_type: DataType) -> ElementType {
    match data_type {
        DataType::F32 => ElementType::Float32,
        DataType::F16 => ElementType::Float16,
        DataType::U8 => ElementType::Uint8,
        DataType::I8 => ElementType::Int8,
        DataType::I32 => ElementType::Int32,
        DataType::I64 => ElementType::Int64,
        DataType::Bool => ElementType::Other,
    }
}

/// The position and form of the input that is the image, if nothing is unknown of the others.
fn image_input(tensors: &[TensorSpec]) -> Result<(usize, Element, InputGeometry), LoadError> {
    let positions: Vec<_> = (0..tensors.len())
        .filter(|&i| tensors[i].is_input)
        .collect();
    let inputs: Vec<_> = positions.iter().map(|&i| spec_of(&tensors[i])).collect();
    let unsuitable = || LoadError::Input {
        seen: engine::describe(&inputs),
    };
    let (image, geometry) = engine::image_among(&inputs).ok_or_else(unsuitable)?;
    let element = match inputs[image].element {
        ElementType::Float32 => Element::F32,
        ElementType::Float16 => Element::F16,
        ElementType::Uint8 => Element::U8,
        ElementType::Int8 => Element::I8,
        _ => return Err(unsuitable()),
    };
    Ok((positions[image], element, geometry))
}

/// What the decoding kernels read.
fn device_outputs(
    layout: &Layout,
    input: InputGeometry,
    tensors: &[TensorSpec],
    network: &tensorrt::Context,
    addresses: &[u64],
) -> Result<Outputs, LoadError> {
    let (mut specs, mut shapes, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
    for (i, tensor) in tensors.iter().enumerate().filter(|(_, t)| !t.is_input) {
        specs.push(spec_of(tensor));
        shapes.push(network.shape(i).to_vec());
        outputs.push(OutputTensor {
            address: addresses[i],
            element: match tensor.data_type {
                DataType::F16 => OutputElement::F16,
                DataType::I32 => OutputElement::I32,
                DataType::I64 => OutputElement::I64,
                _ => OutputElement::F32,
            },
        });
    }
    let plan = layout
        .plan(&shapes, input, &specs)
        .map_err(DetectError::from)?;
    Ok(Outputs::new(plan, outputs, layout.classes))
}
