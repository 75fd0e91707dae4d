//! ONNX Runtime on the CPU, opened at run time.

mod library;

use std::path::{Path, PathBuf};

use once_cell::sync::OnceCell;
use ort::environment::Environment;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::IoBinding;
use ort::session::Session as OrtSession;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::{Tensor as OrtTensor, TensorElementType, ValueType};

use super::{ElementType, Tensor, TensorSpec};
use crate::preprocess::{InputGeometry, TensorLayout};

pub use library::LibraryNotFound;

/// Networks with more outputs than this are not detectors.
const MAX_OUTPUTS: usize = 16;
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
        "the model's inputs are {seen}; one image input [N,3,H,W] or [N,H,W,3] of float32 or uint8 is needed"
    )]
    Input { seen: String },
    #[error("ONNX Runtime failed to run the model: {0}")]
    Run(String),
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
            .build()
            .map_err(|e| unusable(e.to_string()))?;
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
}

enum InputTensor {
    Float32(OrtTensor<f32>),
    Uint8(OrtTensor<u8>),
}

/// A network loaded for one image at a time. Its input tensor and all outputs whose size the model
/// fixes are allocated once.
pub struct Session {
    session: OrtSession,
    binding: IoBinding,
    input: InputTensor,
    geometry: InputGeometry,
    outputs: Vec<TensorSpec>,
    /// Those that were allocated beforehand, in the order of `outputs`.
    fixed_outputs: Vec<Option<OrtTensor<f32>>>,
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
        let (element, geometry) = image_input(&inputs)?;
        let mut binding = session.create_binding().map_err(model_error)?;
        let input =
            bind_input(&mut binding, &inputs[0].name, element, geometry).map_err(model_error)?;
        let fixed_outputs = bind_outputs(&mut binding, &outputs).map_err(model_error)?;
        Ok(Self {
            session,
            binding,
            input,
            geometry,
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
        }
    }

    pub fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    /// A value of the model's own metadata, such as the `names` that Ultralytics writes.
    pub fn metadata(&self, key: &str) -> Option<String> {
        self.session.metadata().ok()?.custom(key)
    }

    pub fn input(&mut self) -> InputMut<'_> {
        match &mut self.input {
            InputTensor::Float32(tensor) => InputMut::Float32(tensor.extract_tensor_mut().1),
            InputTensor::Uint8(tensor) => InputMut::Uint8(tensor.extract_tensor_mut().1),
        }
    }

    /// Runs the network on what the input tensor holds and hands all outputs, in the model's order, to `read`.
    pub fn run<R>(&mut self, read: impl FnOnce(&[Tensor<'_>]) -> R) -> Result<R, Error> {
        let run_error = |e: ort::Error| Error::Run(first_line(&e.to_string()));
        let results = self.session.run_binding(&self.binding).map_err(run_error)?;
        let mut tensors = [Tensor {
            shape: &[],
            data: &[],
        }; MAX_OUTPUTS];
        for (slot, (spec, fixed)) in tensors
            .iter_mut()
            .zip(self.outputs.iter().zip(&self.fixed_outputs))
        {
            if spec.element != ElementType::Float32 {
                continue;
            }
            let (shape, data) = match fixed {
                Some(tensor) => tensor.extract_tensor(),
                None => results[spec.name.as_str()]
                    .try_extract_tensor::<f32>()
                    .map_err(run_error)?,
            };
            *slot = Tensor { shape, data };
        }
        Ok(read(&tensors[..self.outputs.len()]))
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

/// The one input as an image, if that is what it is.
fn image_input(inputs: &[TensorSpec]) -> Result<(ElementType, InputGeometry), Error> {
    let unsuitable = || Error::Input {
        seen: super::describe(inputs),
    };
    let [input] = inputs else {
        return Err(unsuitable());
    };
    let known_element = matches!(input.element, ElementType::Float32 | ElementType::Uint8);
    let one_image = matches!(input.shape.first(), Some(-1 | 1));
    input
        .image_geometry()
        .filter(|_| known_element && one_image)
        .map(|geometry| (input.element, geometry))
        .ok_or_else(unsuitable)
}

fn bind_input(
    binding: &mut IoBinding,
    name: &str,
    element: ElementType,
    geometry: InputGeometry,
) -> ort::Result<InputTensor> {
    let (width, height) = (geometry.width as i64, geometry.height as i64);
    let shape = match geometry.layout {
        TensorLayout::Nchw => [1, 3, height, width],
        TensorLayout::Nhwc => [1, height, width, 3],
    };
    let allocator = Allocator::default();
    Ok(match element {
        ElementType::Uint8 => {
            let tensor = OrtTensor::<u8>::new(&allocator, shape)?;
            binding.bind_input(name, &tensor)?;
            InputTensor::Uint8(tensor)
        }
        _ => {
            let tensor = OrtTensor::<f32>::new(&allocator, shape)?;
            binding.bind_input(name, &tensor)?;
            InputTensor::Float32(tensor)
        }
    })
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
            if let [batch @ -1, ..] = shape.as_mut_slice() {
                *batch = 1;
            }
            let fixed = output.element == ElementType::Float32 && shape.iter().all(|&d| d > 0);
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
