//! From a model to an engine with all its buffers.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use cust::memory::DeviceBuffer;

use super::lane::{EngineLane, Machine, Run, Work};
use crate::cuda::context::{Context, driver_version};
use crate::cuda::stream::{Event, Stream};
use crate::cuda::texture::FrameTextures;
use crate::cuda::{CudaError, SharedKernels};
use crate::decode::cuda::{Decoder, MAX_DETECTIONS, OutputElement, Outputs};
use crate::decode::{Family, Layout};
use crate::detector::labels::{find_labels, names_of_metadata};
use crate::detector::{CAT, DetectorOptions, LoadError, LoadProgress};
use crate::engine::tensorrt::{
    self, Batches, BuildOptions, DataType, DeviceIdentity, Engine, EngineCache, KeptEngine,
    Library, LoadOptions, OnnxModel, Precision, TensorSpec,
};
use crate::engine::{self, ElementType};
use crate::model::onnx::{Float16Options, Float16Outcome, Model};
use crate::model::{Labels, ModelSource};
use crate::preprocess::InputGeometry;
use crate::preprocess::cuda::{Element, InputTensor, Preprocessor};

/// A model as this GPU runs it, and what only the model knows.
pub(super) struct LoadedEngine {
    engine: Engine,
    kept: Option<(EngineCache, KeptEngine)>,
    /// Labels in the model's own metadata.
    names: Option<Labels>,
    precision: &'static str,
}

/// What is the same for all batches of a model.
pub(super) struct Loaded {
    pub description: String,
    pub layout: Layout,
    pub labels: Labels,
}

impl LoadedEngine {
    /// What the model finds and what its classes are called. The context is current.
    pub fn describe(
        &self,
        options: &DetectorOptions,
        context: &Context,
    ) -> Result<Loaded, LoadError> {
        let source = ModelSource::resolve(&options.model)?;
        let tensors = self.engine.tensors();
        let layout = recognize(tensors)?;
        let (_, _, InputGeometry { width, height, .. }) = image_input(tensors)?;
        Ok(Loaded {
            description: format!(
                "{} on {}, {}, {:?} {width}x{height}",
                tensorrt::library()?.version(),
                context.gpu_name()?,
                self.precision,
                layout.family,
            ),
            labels: find_labels(options, &source, self.names.clone(), &layout)?,
            layout,
        })
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

    /// Room to run batches of one size in, which has run one.
    pub fn new_lane(
        &self,
        batch: u32,
        options: &DetectorOptions,
        kernels: &Arc<SharedKernels>,
        context: &Context,
    ) -> Result<EngineLane, LoadError> {
        EngineLane::new(context, || self.new_machine(batch, options, kernels))
    }

    fn new_machine(
        &self,
        batch: u32,
        options: &DetectorOptions,
        kernels: &Arc<SharedKernels>,
    ) -> Result<Machine, LoadError> {
        let tensors = self.engine.tensors();
        let layout = recognize(tensors)?;
        let (input, element, geometry) = image_input(tensors)?;
        let mut network = self.engine.new_context()?;
        network.set_batch(batch)?;
        let batch = batch as usize;
        let (memory, addresses) = allocate(tensors, &mut network)?;
        let device_outputs = device_outputs(&layout, geometry, tensors, &network, &addresses)?;
        let tensor = InputTensor {
            address: addresses[input],
            geometry,
            element,
            slots: batch,
        };
        let preparation = layout.default_preparation(element_type(tensors[input].data_type));
        Ok(Machine {
            preprocessor: Preprocessor::new(tensor, preparation, options.shrinking),
            slots: Vec::with_capacity(batch),
            textures: FrameTextures::default(),
            run: Run::Plain,
            work: Work {
                batch,
                network,
                decoder: Decoder::new(device_outputs, batch, MAX_DETECTIONS)?,
                kernels: Arc::clone(kernels),
            },
            finished: Event::new()?,
            produced: Event::new()?,
            stream: Stream::new()?,
            _tensors: memory,
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

fn recognize(tensors: &[TensorSpec]) -> Result<Layout, LoadError> {
    let outputs = tensors.iter().filter(|tensor| !tensor.is_input);
    let outputs: Vec<_> = outputs.map(spec_of).collect();
    Ok(Layout::recognize(&outputs)?)
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
            names: metadata.and_then(names_of_metadata),
            precision: "as built",
        });
    }
    let mut model = match source {
        ModelSource::Bundled(bundled) => Model::parse(bundled.onnx)?,
        _ => Model::parse(source.read()?)?,
    };
    let names = model.metadata().find(|(key, _)| *key == "names");
    let names = names.and_then(|(_, names)| Labels::from_ultralytics_names(names));
    if let Some(folder) = source.path().and_then(Path::parent) {
        model.embed_external_data(folder)?;
    }
    let mut batch = batch;
    if let Err(reason) = model.make_batch_dynamic() {
        gst::info!(CAT, "the model stays at its own batch size: {reason}");
        // So that there is one engine of it alone.
        batch = 1;
    }
    if let Err(reason) = model.cast_byte_inputs() {
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
        names,
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

fn spec_of(tensor: &TensorSpec) -> engine::TensorSpec {
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

/// The position and form of the one input, if it is an image.
fn image_input(tensors: &[TensorSpec]) -> Result<(usize, Element, InputGeometry), LoadError> {
    let inputs: Vec<_> = tensors.iter().filter(|t| t.is_input).map(spec_of).collect();
    let unsuitable = || LoadError::Input {
        seen: engine::describe(&inputs),
    };
    let [input] = inputs.as_slice() else {
        return Err(unsuitable());
    };
    let position = tensors
        .iter()
        .position(|t| t.is_input)
        .ok_or_else(unsuitable)?;
    let element = match input.element {
        ElementType::Float32 => Element::F32,
        ElementType::Float16 => Element::F16,
        ElementType::Uint8 => Element::U8,
        _ => return Err(unsuitable()),
    };
    let geometry = input.image_geometry().ok_or_else(unsuitable)?;
    Ok((position, element, geometry))
}

/// Memory for every tensor at the batch that is set, and its address.
fn allocate(
    tensors: &[TensorSpec],
    network: &mut tensorrt::Context,
) -> Result<(Vec<DeviceBuffer<u8>>, Vec<u64>), LoadError> {
    let mut memory = Vec::with_capacity(tensors.len());
    let mut addresses = Vec::with_capacity(tensors.len());
    for (index, tensor) in tensors.iter().enumerate() {
        let shape = network.shape(index);
        let elements = shape
            .iter()
            .try_fold(1usize, |all, &size| {
                all.checked_mul(usize::try_from(size).ok()?)
            })
            .ok_or_else(|| LoadError::OpenShape {
                tensor: spec_of(tensor).to_string(),
            })?;
        let bytes = (elements * tensor.data_type.size()).max(1);
        let buffer = DeviceBuffer::zeroed(bytes).map_err(CudaError::during("cuMemAlloc"))?;
        let address = buffer.as_device_ptr().as_raw();
        // SAFETY: the buffer has the tensor's size at the largest batch, is aligned as all allocations are, and is
        // kept beside the context.
        unsafe { network.set_address(index, address) }?;
        memory.push(buffer);
        addresses.push(address);
    }
    Ok((memory, addresses))
}

/// Where the decoding kernels find what they read.
fn device_outputs(
    layout: &Layout,
    input: InputGeometry,
    tensors: &[TensorSpec],
    network: &tensorrt::Context,
    addresses: &[u64],
) -> Result<Outputs, LoadError> {
    let positions: Vec<_> = (0..tensors.len())
        .filter(|&i| !tensors[i].is_input)
        .collect();
    let (first, second) = layout.outputs();
    let element = |position: usize| match tensors[position].data_type {
        DataType::F16 => OutputElement::F16,
        _ => OutputElement::F32,
    };
    let anchors = |position: usize| {
        let anchors = network.shape(position).get(1).copied().unwrap_or(-1);
        usize::try_from(anchors).map_err(|_| LoadError::OpenShape {
            tensor: spec_of(&tensors[position]).to_string(),
        })
    };
    let first = positions[first];
    Ok(match layout.family {
        Family::Ssd => {
            let boxes = positions[second];
            Outputs::ssd(
                element(first),
                addresses[first],
                addresses[boxes],
                anchors(first)?,
                layout.classes,
                input,
            )
        }
        Family::Yolov5 => Outputs::yolov5(
            element(first),
            addresses[first],
            anchors(first)?,
            layout.classes,
        ),
    })
}
