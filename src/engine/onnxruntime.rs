//! ONNX Runtime on the CPU, opened at run time.

mod library;
mod log;

use std::path::{Path, PathBuf};

use once_cell::sync::OnceCell;
use ort::environment::Environment;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::IoBinding;
use ort::session::Session as OrtSession;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::{
    DynValue, PrimitiveTensorElementType, Tensor as OrtTensor, TensorElementType, ValueType,
};

use super::{ElementType, Tensor, TensorSpec, constant_input, image_among};
use crate::preprocess::{InputGeometry, TensorLayout};

pub use library::LibraryNotFound;

/// Networks with more outputs than this are not detectors.
const MAX_OUTPUTS: usize = 16;
/// Nor are those with larger ones; nothing is allocated for what a file only says.
const MOST_ELEMENTS: i64 = 1 << 25;
/// Beyond this a detector's operators gain little from further threads.
const MAX_AUTOMATIC_THREADS: usize = 8;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    NotFound(#[from] LibraryNotFound),
    #[error("ONNX Runtime at {path} could not be used: {reason}")]
    Unusable { path: PathBuf, reason: String },
    #[error("ONNX Runtime cannot read the model: {0}")]
    Model(String),
    #[error(
        "the model's inputs are {seen}; one image input [N,3,H,W] or [N,H,W,3] of float32, uint8 or int8 is needed, besides \
         which only orig_target_sizes, im_shape and scale_factor are known"
    )]
    Input { seen: String },
    #[error(
        "the model takes {0} images at a time and no fewer: export it for one, or for any number of them"
    )]
    Batch(i64),
    #[error("ONNX Runtime failed to run the model: {0}")]
    Run(String),
}

impl Error {
    /// Whether the machine has no ONNX Runtime that can be used.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::NotFound(_) | Self::Unusable { .. })
    }
}

struct Runtime {
    environment: Environment,
    path: PathBuf,
}

static RUNTIME: OnceCell<Runtime> = OnceCell::new();

/// Finds and opens the library the first time; a failure is tried again at the next call.
fn runtime() -> Result<&'static Runtime, Error> {
    RUNTIME.get_or_try_init(|| {
        let path = library::find()?;
        let unusable = |reason: String| Error::Unusable {
            path: path.clone(),
            reason,
        };
        let environment = ort::init_from(&path)
            .map_err(|e| unusable(e.to_string()))?
            .with_name("rsdetectnet")
            .with_telemetry(false)
            .with_logger(log::logger())
            .build()
            .map_err(|e| unusable(e.to_string()))?;
        gst::info!(log::category(), "ONNX Runtime is {}", path.display());
        Ok(Runtime { environment, path })
    })
}

/// The library in use, for logs: where it lies.
pub fn library_path() -> Result<&'static Path, Error> {
    Ok(&runtime()?.path)
}

/// An ONNX model, in memory or as a file, beside which its external data may lie.
#[derive(Clone, Copy, Debug)]
pub enum Model<'a> {
    Bytes(&'a [u8]),
    File(&'a Path),
}

/// The network's input, filled in place before each run.
pub enum InputMut<'a> {
    Float32(&'a mut [f32]),
    Uint8(&'a mut [u8]),
    Int8(&'a mut [i8]),
}

enum InputTensor {
    Float32(OrtTensor<f32>),
    Uint8(OrtTensor<u8>),
    Int8(OrtTensor<i8>),
}

/// A network loaded for one image at a time. Its input tensor and all outputs whose size the model
/// fixes are allocated once.
pub struct Session {
    session: OrtSession,
    binding: IoBinding,
    input: InputTensor,
    geometry: InputGeometry,
    /// Names of the inputs besides the image, whose values never change.
    other_inputs: Vec<String>,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    /// Those that were allocated beforehand, in the order of `outputs`.
    fixed_outputs: Vec<Option<OrtTensor<f32>>>,
    /// Those of other types than float32, converted to it.
    converted: Vec<Vec<f32>>,
}

/// The threads that a network is run on where so many are asked for; 0 chooses by the machine.
pub fn threads(wanted: usize) -> usize {
    match wanted {
        0 => std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(MAX_AUTOMATIC_THREADS),
        n => n,
    }
}

impl Session {
    /// Loads an ONNX model; `threads` is for the operators' own parallelism, 0 chooses by the machine.
    pub fn load(model: Model<'_>, threads: usize) -> Result<Self, Error> {
        let runtime = runtime()?;
        let model_error = |e: ort::Error| Error::Model(first_line(&e.to_string()));
        let threads = self::threads(threads);
        let session = OrtSession::builder(&runtime.environment)
            .and_then(|b| Ok(b.with_optimization_level(GraphOptimizationLevel::All)?))
            .and_then(|b| Ok(b.with_intra_threads(threads)?))
            .and_then(|mut b| match model {
                Model::Bytes(bytes) => b.commit_from_memory(bytes),
                Model::File(path) => b.commit_from_file(path),
            })
            .map_err(model_error)?;
        let inputs: Vec<_> = session.inputs().iter().map(spec_of).collect();
        let outputs: Vec<_> = session.outputs().iter().map(spec_of).collect();
        if outputs.len() > MAX_OUTPUTS {
            return Err(Error::Model(format!(
                "it has {} outputs, no detector has more than {MAX_OUTPUTS}",
                outputs.len()
            )));
        }
        let (image, geometry) = image_input(&inputs)?;
        let mut binding = session.create_binding().map_err(model_error)?;
        let input = bind_input(&mut binding, &inputs[image], geometry).map_err(model_error)?;
        let mut other_inputs = Vec::new();
        for (i, other) in inputs.iter().enumerate() {
            if i != image {
                bind_constant(&mut binding, other, geometry).map_err(model_error)?;
                other_inputs.push(other.name.clone());
            }
        }
        let fixed_outputs = bind_outputs(&mut binding, &outputs).map_err(model_error)?;
        Ok(Self {
            session,
            binding,
            input,
            geometry,
            other_inputs,
            converted: vec![Vec::new(); outputs.len()],
            inputs,
            outputs,
            fixed_outputs,
        })
    }

    pub fn geometry(&self) -> InputGeometry {
        self.geometry
    }

    pub fn input_element(&self) -> ElementType {
        match self.input {
            InputTensor::Float32(_) => ElementType::Float32,
            InputTensor::Uint8(_) => ElementType::Uint8,
            InputTensor::Int8(_) => ElementType::Int8,
        }
    }

    pub fn other_inputs(&self) -> &[String] {
        &self.other_inputs
    }

    pub fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    pub fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    pub fn input(&mut self) -> InputMut<'_> {
        match &mut self.input {
            InputTensor::Float32(tensor) => InputMut::Float32(tensor.extract_tensor_mut().1),
            InputTensor::Uint8(tensor) => InputMut::Uint8(tensor.extract_tensor_mut().1),
            InputTensor::Int8(tensor) => InputMut::Int8(tensor.extract_tensor_mut().1),
        }
    }

    /// Runs the network once to see what shapes its outputs have, where it did not say so.
    pub fn state_shapes(&mut self) -> Result<(), Error> {
        let shapes = self.run(|outputs| {
            let shapes = outputs.iter().map(|output| output.shape.to_vec());
            shapes.collect::<Vec<_>>()
        })?;
        for (output, shape) in self.outputs.iter_mut().zip(shapes) {
            let known = output.shape.iter().skip(1).all(|&size| size > 0);
            if !known && !shape.is_empty() {
                output.shape = shape;
            }
        }
        Ok(())
    }

    /// Runs the network on what the input tensor holds and hands all outputs, in the model's order, to
    /// `use_outputs`.
    pub fn run<R>(&mut self, use_outputs: impl FnOnce(&[Tensor<'_>]) -> R) -> Result<R, Error> {
        let run_error = |e: ort::Error| Error::Run(first_line(&e.to_string()));
        let results = self.session.run_binding(&self.binding).map_err(run_error)?;
        let mut tensors = [Tensor {
            shape: &[],
            data: &[],
        }; MAX_OUTPUTS];
        let outputs = self.outputs.iter().zip(&self.fixed_outputs);
        for ((slot, (spec, fixed)), converted) in
            tensors.iter_mut().zip(outputs).zip(&mut self.converted)
        {
            let (shape, data) = match fixed {
                Some(tensor) => {
                    let (shape, data) = tensor.extract_tensor();
                    (&shape[..], data)
                }
                None => {
                    let value = &results[spec.name.as_str()];
                    read(value, spec.element, converted).map_err(run_error)?
                }
            };
            *slot = Tensor { shape, data };
        }
        Ok(use_outputs(&tensors[..self.outputs.len()]))
    }
}

fn spec_of(outlet: &ort::value::Outlet) -> TensorSpec {
    let (element, shape) = match outlet.dtype() {
        ValueType::Tensor { ty, shape, .. } => (element_of(*ty), shape.to_vec()),
        _ => (ElementType::Other, Vec::new()),
    };
    TensorSpec {
        name: outlet.name().into(),
        element,
        shape,
    }
}

fn element_of(element: TensorElementType) -> ElementType {
    match element {
        TensorElementType::Float32 => ElementType::Float32,
        TensorElementType::Float16 => ElementType::Float16,
        TensorElementType::Uint8 => ElementType::Uint8,
        TensorElementType::Int8 => ElementType::Int8,
        TensorElementType::Int32 => ElementType::Int32,
        TensorElementType::Int64 => ElementType::Int64,
        _ => ElementType::Other,
    }
}

/// A tensor as float32: as it is, or converted into `converted`. Types that no detector returns are empty.
fn read<'a>(
    value: &'a DynValue,
    element: ElementType,
    converted: &'a mut Vec<f32>,
) -> ort::Result<(&'a [i64], &'a [f32])> {
    fn convert<'a, T: PrimitiveTensorElementType + Copy + 'a>(
        value: &'a DynValue,
        converted: &'a mut Vec<f32>,
        number: impl Fn(T) -> f32,
    ) -> ort::Result<(&'a [i64], &'a [f32])> {
        let (shape, data) = value.try_extract_tensor::<T>()?;
        converted.clear();
        converted.extend(data.iter().map(|&value| number(value)));
        Ok((shape, converted))
    }
    match element {
        ElementType::Float32 => {
            let (shape, data) = value.try_extract_tensor::<f32>()?;
            Ok((shape, data))
        }
        ElementType::Float16 => convert(value, converted, half::f16::to_f32),
        ElementType::Int64 => convert(value, converted, |value: i64| value as f32),
        ElementType::Int32 => convert(value, converted, |value: i32| value as f32),
        ElementType::Int8 => convert(value, converted, |value: i8| value.into()),
        ElementType::Uint8 => convert(value, converted, |value: u8| value.into()),
        ElementType::Other => Ok((&[], &[])),
    }
}

/// The input that is the image, and its geometry, if the model has one and no inputs that nothing is known of.
fn image_input(inputs: &[TensorSpec]) -> Result<(usize, InputGeometry), Error> {
    let unsuitable = || Error::Input {
        seen: super::describe(inputs),
    };
    let (image, geometry) = image_among(inputs).ok_or_else(unsuitable)?;
    let TensorSpec { element, shape, .. } = &inputs[image];
    let known_element = matches!(
        element,
        ElementType::Float32 | ElementType::Uint8 | ElementType::Int8
    );
    match shape[..] {
        _ if !known_element => Err(unsuitable()),
        [0, _, _, _] => Err(unsuitable()),
        [images, _, _, _] if images > 1 => Err(Error::Batch(images)),
        _ => Ok((image, geometry)),
    }
}

fn bind_input(
    binding: &mut IoBinding,
    spec: &TensorSpec,
    geometry: InputGeometry,
) -> ort::Result<InputTensor> {
    let (width, height) = (geometry.width as i64, geometry.height as i64);
    let shape = match geometry.layout {
        TensorLayout::Nchw => vec![1, 3, height, width],
        TensorLayout::Nhwc => vec![1, height, width, 3],
    };
    let without_batch = usize::from(spec.shape.len() == 3);
    let shape = shape[without_batch..].to_vec();
    let allocator = Allocator::default();
    Ok(match spec.element {
        ElementType::Uint8 => {
            let tensor = OrtTensor::<u8>::new(&allocator, shape)?;
            binding.bind_input(&spec.name, &tensor)?;
            InputTensor::Uint8(tensor)
        }
        ElementType::Int8 => {
            let tensor = OrtTensor::<i8>::new(&allocator, shape)?;
            binding.bind_input(&spec.name, &tensor)?;
            InputTensor::Int8(tensor)
        }
        _ => {
            let tensor = OrtTensor::<f32>::new(&allocator, shape)?;
            binding.bind_input(&spec.name, &tensor)?;
            InputTensor::Float32(tensor)
        }
    })
}

/// Binds an input whose values are the same for every frame.
fn bind_constant(
    binding: &mut IoBinding,
    spec: &TensorSpec,
    geometry: InputGeometry,
) -> ort::Result<()> {
    let values = constant_input(spec, geometry).unwrap_or_default();
    match spec.element {
        ElementType::Int64 => {
            let values = values.map(|value| value as i64).to_vec();
            binding.bind_input(&spec.name, &OrtTensor::from_array(([1, 2], values))?)
        }
        _ => binding.bind_input(
            &spec.name,
            &OrtTensor::from_array(([1, 2], values.to_vec()))?,
        ),
    }
}

/// Binds each float32 output whose size is known, for one image, to memory of its own; ONNX Runtime
/// allocates the others at each run.
fn bind_outputs(
    binding: &mut IoBinding,
    outputs: &[TensorSpec],
) -> ort::Result<Vec<Option<OrtTensor<f32>>>> {
    let allocator = Allocator::default();
    let host = MemoryInfo::new(
        AllocationDevice::CPU,
        0,
        AllocatorType::Device,
        MemoryType::Default,
    )?;
    outputs
        .iter()
        .map(|output| {
            let mut shape = output.shape.clone();
            // With fewer axes, the first can as well count detections, of which a run has as many as it finds.
            if let [batch @ -1, _, _, ..] = shape.as_mut_slice() {
                *batch = 1;
            }
            let elements = shape.iter().try_fold(1i64, |all, &size| {
                (size > 0).then(|| all.checked_mul(size)).flatten()
            });
            let reasonable = elements.is_some_and(|elements| elements <= MOST_ELEMENTS);
            let fixed = output.element == ElementType::Float32 && reasonable;
            if !fixed {
                binding.bind_output_to_device(&output.name, &host)?;
                return Ok(None);
            }
            let mut tensor = OrtTensor::<f32>::new(&allocator, shape)?;
            binding.bind_output(&output.name, &mut tensor)?;
            Ok(Some(tensor))
        })
        .collect()
}

/// ONNX Runtime's errors can go on with stack traces; their first line says it all.
fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().trim().to_owned()
}
