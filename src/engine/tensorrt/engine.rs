//! A loaded engine and the contexts that run it.

use std::ffi::{CStr, CString, c_void};
use std::ops::RangeInclusive;
use std::ptr::NonNull;
use std::sync::Arc;

use super::builder::dla_core;
use super::error::TensorRtError;
use super::library::Library;
use super::log;
use super::memory;
use super::profile::{self, Profile, batches_of, common_batches};
use super::shim::{MAX_RANK, OK, Shim, ShimMessage, ShimTensor, handle};
use super::tensor::TensorSpec;
use crate::cuda::driver::is_lost;
use crate::cuda::stream::finish_default_stream;

/// Less is not worth asking TensorRT for an engine or a context.
const ROOM_TO_RUN: usize = 16 << 20;

/// The weights on the GPU and what an engine takes and gives. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Engine {
    loaded: Arc<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    shim: &'static Shim,
    engine: NonNull<c_void>,
    tensors: Vec<TensorSpec>,
    /// Names as TensorRT takes them, in the order of `tensors`.
    names: Vec<CString>,
    profiles: Vec<Profile>,
}

/// How an engine file is loaded.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadOptions<'a> {
    pub dla_core: Option<u32>,
    /// The kernels that [`Engine::runtime_cache`] gave in an earlier process.
    pub runtime_cache: Option<&'a [u8]>,
}

// SAFETY: `nvinfer1::ICudaEngine` is documented as safe to use from several threads at once.
unsafe impl Send for Loaded {}
// SAFETY: as above; contexts, which are not, are made one for each `Context`.
unsafe impl Sync for Loaded {}

impl Drop for Loaded {
    fn drop(&mut self) {
        // TensorRT is not asked to free what CUDA has lost.
        if is_lost() {
            return;
        }
        // SAFETY: every context holds an `Arc` of this, so none is left.
        unsafe { (self.shim.unload)(self.engine.as_ptr()) };
    }
}

impl Engine {
    /// Loads an engine file (`.engine`, `.plan`) onto the current GPU. An engine is code: `plan` must come from
    /// someone who may run code here.
    ///
    /// # Errors
    /// [`TensorRtError::Load`] where the engine is for another GPU or release, or has tensors that do not lie as
    /// plain arrays on the device.
    pub fn deserialize(
        library: &Library,
        plan: &[u8],
        options: LoadOptions<'_>,
    ) -> Result<Self, TensorRtError> {
        let (_, plan) = split_metadata(plan);
        memory::need(plan.len() + ROOM_TO_RUN).map_err(TensorRtError::Load)?;
        let shim = library.shim();
        let (jit, jit_size) = options
            .runtime_cache
            .map_or((std::ptr::null(), 0), |bytes| {
                (bytes.as_ptr().cast(), bytes.len())
            });
        let mut message = ShimMessage::empty();
        log::take_first_error();
        // SAFETY: the handle belongs to this shim, and the slices live for the call.
        let engine = unsafe {
            (shim.load)(
                library.handle(),
                plan.as_ptr().cast(),
                plan.len(),
                dla_core(options.dla_core),
                jit,
                jit_size,
                &mut message,
            )
        };
        let mut loaded = Loaded {
            shim,
            engine: handle(engine, &message, TensorRtError::Load)?,
            tensors: Vec::new(),
            names: Vec::new(),
            profiles: Vec::new(),
        };
        loaded.read_tensors()?;
        loaded.read_profiles()?;
        Ok(Self {
            loaded: Arc::new(loaded),
        })
    }

    /// Inputs and outputs; [`Context::set_address`] and [`Context::shape`] count in this order.
    pub fn tensors(&self) -> &[TensorSpec] {
        &self.loaded.tensors
    }

    /// The batches it takes, by profile: one alone where the model's first axis is fixed.
    pub fn batches(&self) -> impl Iterator<Item = RangeInclusive<u32>> {
        let profiles = self.loaded.profiles.iter();
        profiles.map(|profile| profile.batches.clone())
    }

    pub fn takes(&self, batch: u32) -> bool {
        profile::find(&self.loaded.profiles, batch).is_some()
    }

    /// Whether a profile is made for batches of this size alone.
    pub fn is_made_for(&self, batch: u32) -> bool {
        profile::find(&self.loaded.profiles, batch).is_some_and(Profile::is_for_one)
    }

    pub fn max_batch(&self) -> u32 {
        self.batches()
            .map(|batches| *batches.end())
            .max()
            .unwrap_or(1)
    }

    /// The kernels that TensorRT-RTX compiled since the engine was loaded, and those it was loaded with. None in
    /// TensorRT proper, whose engine files hold all kernels.
    pub fn runtime_cache(&self) -> Option<Vec<u8>> {
        let Loaded { shim, engine, .. } = &*self.loaded;
        // SAFETY: the engine is loaded.
        shim.bytes(|blob| unsafe { (shim.runtime_cache)(engine.as_ptr(), blob) })
            .ok()
    }

    /// A context of its own for another thread or stream; all share the weights. Its batch is the smallest at first.
    ///
    /// # Errors
    /// [`TensorRtError::Load`], mostly because the GPU's memory is full.
    pub fn new_context(&self) -> Result<Context, TensorRtError> {
        self.context(true)
    }

    /// As [`Engine::new_context`], but without memory for activations: it must be given some by
    /// [`Context::set_memory`] before it runs. Contexts that never run at the same time may have the same,
    /// each with a profile that is [made for](Engine::is_made_for) its batch.
    ///
    /// # Errors
    /// [`TensorRtError::Load`], also where TensorRT cannot do this.
    pub fn new_context_without_memory(&self) -> Result<Context, TensorRtError> {
        self.context(false)
    }

    fn context(&self, own_memory: bool) -> Result<Context, TensorRtError> {
        let Loaded { shim, engine, .. } = &*self.loaded;
        let smallest = self.batches().map(|batches| *batches.start()).min();
        let batch = smallest.unwrap_or(1);
        let profile = profile::require(&self.loaded.profiles, batch)?.index;
        memory::need(ROOM_TO_RUN).map_err(TensorRtError::Load)?;
        let mut message = ShimMessage::empty();
        log::take_first_error();
        // SAFETY: the engine is loaded and has this profile.
        let context = unsafe {
            (shim.create_context)(engine.as_ptr(), profile, own_memory.into(), &mut message)
        };
        let mut context = Context {
            context: handle(context, &message, TensorRtError::Load)?,
            profile,
            own_memory,
            loaded: Arc::clone(&self.loaded),
        };
        wait_for_the_default_stream()?;
        context.set_batch(batch)?;
        Ok(context)
    }
}

/// Where TensorRT copies what changes with a profile.
fn wait_for_the_default_stream() -> Result<(), TensorRtError> {
    finish_default_stream().map_err(|error| TensorRtError::Run(error.to_string()))
}

impl Loaded {
    fn read_tensors(&mut self) -> Result<(), TensorRtError> {
        for index in 0..self.tensor_count() {
            let tensor = self.tensor(index, 0)?;
            // SAFETY: the shim gives a null-terminated name that lives as long as the engine.
            let name = unsafe { CStr::from_ptr(tensor.name) }.to_owned();
            let spec = TensorSpec::new(name.to_string_lossy().into_owned(), &tensor)?;
            self.tensors.push(spec);
            self.names.push(name);
        }
        Ok(())
    }

    fn tensor_count(&self) -> i32 {
        // SAFETY: the engine is loaded.
        unsafe { (self.shim.tensor_count)(self.engine.as_ptr()) }
    }

    /// A tensor, an input with the ranges of a profile.
    fn tensor(&self, index: i32, profile: i32) -> Result<ShimTensor, TensorRtError> {
        let mut tensor = ShimTensor::empty();
        // SAFETY: the engine is loaded and has tensor and profile.
        let status =
            unsafe { (self.shim.tensor)(self.engine.as_ptr(), index, profile, &mut tensor) };
        if status == OK && !tensor.name.is_null() {
            Ok(tensor)
        } else {
            Err(TensorRtError::Load(format!("tensor {index} has no name")))
        }
    }

    /// The profiles that take images of the size of the first one.
    fn read_profiles(&mut self) -> Result<(), TensorRtError> {
        // SAFETY: the engine is loaded.
        let count = unsafe { (self.shim.profile_count)(self.engine.as_ptr()) }.max(1);
        for index in 0..count {
            let mut inputs = Vec::new();
            for (number, spec) in (0..).zip(&self.tensors).filter(|(_, spec)| spec.is_input) {
                let tensor = self.tensor(number, index)?;
                inputs.push((spec.name.clone(), batches_of(spec, &tensor)));
            }
            match common_batches(&inputs) {
                Ok(batches) => self.profiles.push(Profile { index, batches }),
                Err(error) if index == 0 => return Err(error),
                Err(_) => {}
            }
        }
        Ok(())
    }
}

/// What Ultralytics writes before the engine in its `.engine` files: a JSON text, after its length as four bytes,
/// little endian. Returns it, where there is one, and the engine.
pub fn split_metadata(file: &[u8]) -> (Option<&str>, &[u8]) {
    let metadata = file.split_first_chunk::<4>().and_then(|(length, rest)| {
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (text, plan) = rest.split_at_checked(length)?;
        let text = std::str::from_utf8(text).ok()?;
        (text.starts_with('{') && text.ends_with('}')).then_some((text, plan))
    });
    metadata.map_or((None, file), |(text, plan)| (Some(text), plan))
}

/// One run of an engine at a time: shapes, addresses and scratch memory.
#[derive(Debug)]
pub struct Context {
    context: NonNull<c_void>,
    profile: i32,
    own_memory: bool,
    loaded: Arc<Loaded>,
}

// SAFETY: a context may be used by any thread, one at a time, which `&mut` makes sure of.
unsafe impl Send for Context {}

impl Drop for Context {
    fn drop(&mut self) {
        // As for its engine.
        if is_lost() {
            return;
        }
        // SAFETY: the context is this one's alone, and its engine is still loaded.
        unsafe { (self.loaded.shim.destroy_context)(self.context.as_ptr()) };
    }
}

impl Context {
    /// Sets the batch of all inputs, and the profile that takes it. Changing it makes the next [`Context::enqueue`] do
    /// work on the host that a CUDA graph cannot capture: run once, then capture. A graph is good as long as the
    /// context that it was captured from stays as it was, so each batch that has one needs a context of its own.
    ///
    /// # Errors
    /// [`TensorRtError::Run`] where the engine does not take this batch.
    pub fn set_batch(&mut self, batch: u32) -> Result<(), TensorRtError> {
        let Loaded {
            shim,
            tensors,
            names,
            ..
        } = &*self.loaded;
        let profile = profile::require(&self.loaded.profiles, batch)?.index;
        log::take_first_error();
        if profile != self.profile {
            // SAFETY: the context is alive and its engine has this profile.
            let status = unsafe { (shim.set_profile)(self.context.as_ptr(), profile) };
            check_run(status, || {
                format!("it refuses the profile of batch {batch}")
            })?;
            wait_for_the_default_stream()?;
            self.profile = profile;
        }
        for (tensor, name) in tensors
            .iter()
            .zip(names)
            .filter(|(tensor, _)| tensor.is_input)
        {
            let mut shape = [0; MAX_RANK];
            let rank = tensor.shape.len();
            shape[..rank].copy_from_slice(&tensor.shape);
            shape[0] = i64::from(batch);
            // SAFETY: the context is alive; the shape has `rank` sizes.
            let status = unsafe {
                (shim.set_shape)(
                    self.context.as_ptr(),
                    name.as_ptr(),
                    shape.as_ptr(),
                    rank as i32,
                )
            };
            check_run(status, || {
                format!("input {} refuses the batch {batch}", tensor.name)
            })?;
        }
        Ok(())
    }

    /// The shape of a tensor at the batch set last; -1 where it depends on the values in the input.
    pub fn shape(&self, index: usize) -> Vec<i64> {
        let mut sizes = [0; MAX_RANK];
        // SAFETY: the context is alive; the array has room for every rank.
        let rank = unsafe {
            (self.loaded.shim.shape)(
                self.context.as_ptr(),
                self.loaded.names[index].as_ptr(),
                sizes.as_mut_ptr(),
            )
        };
        sizes[..usize::try_from(rank).unwrap_or(0)].to_vec()
    }

    /// Bytes for activations that the context needs at the batch set last; none where it has memory of its own.
    pub fn memory_size(&self) -> Option<usize> {
        if self.own_memory {
            return None;
        }
        let Loaded { shim, engine, .. } = &*self.loaded;
        // SAFETY: the engine is loaded and has this profile.
        let bytes = unsafe { (shim.memory_size)(engine.as_ptr(), self.profile) };
        Some(usize::try_from(bytes).unwrap_or(0))
    }

    /// Where activations lie from the next [`Context::enqueue`] on, in a context without memory of its own.
    ///
    /// # Safety
    /// `address` is device memory of the current GPU, aligned to 512 bytes, of `bytes` bytes, no less than
    /// [`Context::memory_size`]. It lives as long as work enqueued with it runs, and nothing else uses it then.
    ///
    /// # Errors
    /// [`TensorRtError::Run`] with TensorRT's reason.
    pub unsafe fn set_memory(&mut self, address: u64, bytes: usize) -> Result<(), TensorRtError> {
        log::take_first_error();
        // SAFETY: the context is alive; the memory is the caller's promise.
        unsafe {
            (self.loaded.shim.set_memory)(
                self.context.as_ptr(),
                address as *mut c_void,
                i64::try_from(bytes).unwrap_or(i64::MAX),
            );
        }
        // The log is all that says whether it was taken.
        log::take_first_error().map_or(Ok(()), |error| {
            Err(TensorRtError::Run(format!(
                "it refuses its memory: {error}"
            )))
        })
    }

    /// Where a tensor lies from the next [`Context::enqueue`] on.
    ///
    /// # Safety
    /// `address` is device memory of the current GPU, aligned to 256 bytes, that holds the tensor at the largest batch
    /// it runs with, for as long as work enqueued with it runs.
    ///
    /// # Errors
    /// [`TensorRtError::Run`] with TensorRT's reason.
    pub unsafe fn set_address(&mut self, index: usize, address: u64) -> Result<(), TensorRtError> {
        log::take_first_error();
        // SAFETY: the context is alive; the address is the caller's promise.
        let status = unsafe {
            (self.loaded.shim.set_address)(
                self.context.as_ptr(),
                self.loaded.names[index].as_ptr(),
                address as *mut c_void,
            )
        };
        check_run(status, || {
            format!(
                "tensor {} refuses its address",
                self.loaded.tensors[index].name
            )
        })
    }

    /// Puts one run on a stream and returns at once. The stream may be capturing a CUDA graph, once this batch has run
    /// without.
    ///
    /// # Safety
    /// `stream` is a `CUstream` of the current GPU, and the memory of every tensor lives until its work is done.
    ///
    /// # Errors
    /// [`TensorRtError::Run`] with TensorRT's reason.
    pub unsafe fn enqueue(&mut self, stream: *mut c_void) -> Result<(), TensorRtError> {
        // SAFETY: the context is alive; the stream is the caller's promise.
        let status = unsafe { (self.loaded.shim.enqueue)(self.context.as_ptr(), stream) };
        check_run(status, || "its work was not accepted".to_owned())
    }
}

fn check_run(status: i32, what: impl FnOnce() -> String) -> Result<(), TensorRtError> {
    if status == OK {
        return Ok(());
    }
    let logged = log::take_first_error().map_or_else(String::new, |error| format!(": {error}"));
    Err(TensorRtError::Run(what() + &logged + &memory::remark()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ultralytics_file(metadata: &str, plan: &[u8]) -> Vec<u8> {
        let length = u32::try_from(metadata.len()).unwrap();
        [&length.to_le_bytes(), metadata.as_bytes(), plan].concat()
    }

    #[test]
    fn the_metadata_before_an_ultralytics_engine_is_taken_off() {
        let file = ultralytics_file(r#"{"task": "detect"}"#, b"ftrt engine");
        let (metadata, plan) = split_metadata(&file);
        assert_eq!(metadata, Some(r#"{"task": "detect"}"#));
        assert_eq!(plan, b"ftrt engine");
    }

    #[test]
    fn an_engine_without_metadata_stays_whole() {
        for file in [&b"ftrt engine"[..], b"", b"abc", b"\x02\0\0\0[]engine"] {
            assert_eq!(split_metadata(file), (None, file));
        }
    }
}
