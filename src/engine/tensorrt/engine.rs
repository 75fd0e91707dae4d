//! A loaded engine and the contexts that run it.

use std::ffi::{CStr, CString, c_void};
use std::ops::RangeInclusive;
use std::ptr::NonNull;
use std::sync::Arc;

use cust::sys;

use super::builder::{Specialization, dla_core};
use super::error::TensorRtError;
use super::library::Library;
use super::log;
use super::shim::{MAX_RANK, OK, Shim, ShimMessage, ShimTensor, handle};
use super::tensor::TensorSpec;
use crate::cuda::driver::check;

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

/// An optimisation profile that takes images of the engine's size.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Profile {
    index: i32,
    batches: RangeInclusive<u32>,
}

/// How an engine file is loaded.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadOptions<'a> {
    pub dla_core: Option<u32>,
    pub specialization: Specialization,
    /// The kernels that [`Engine::runtime_cache`] gave in an earlier process.
    pub runtime_cache: Option<&'a [u8]>,
}

/// The scratch memory of a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scratch {
    /// TensorRT allocates it.
    Own,
    /// [`Context::set_scratch`] says where it is.
    Shared,
}

// SAFETY: `nvinfer1::ICudaEngine` is documented as safe to use from several threads at once.
unsafe impl Send for Loaded {}
// SAFETY: as above; contexts, which are not, are made one for each `Context`.
unsafe impl Sync for Loaded {}

impl Drop for Loaded {
    fn drop(&mut self) {
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
                options.specialization.number(),
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
        self.loaded.profile(batch).is_some()
    }

    pub fn max_batch(&self) -> u32 {
        self.batches()
            .map(|batches| *batches.end())
            .max()
            .unwrap_or(1)
    }

    /// Bytes of scratch memory on the GPU for each context at most, on top of the weights.
    pub fn device_memory_size(&self) -> u64 {
        // SAFETY: the engine is loaded.
        unsafe { (self.loaded.shim.device_memory)(self.loaded.engine.as_ptr()) }
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
        let smallest = self.batches().map(|batches| *batches.start()).min();
        self.context(smallest.unwrap_or(1), Scratch::Own)
    }

    /// A context for one batch size, that needs a [`Context::set_scratch`] before it runs.
    ///
    /// # Errors
    /// [`TensorRtError::Load`]; [`TensorRtError::Run`] where the engine does not take this batch.
    pub fn new_context_for(&self, batch: u32) -> Result<Context, TensorRtError> {
        self.context(batch, Scratch::Shared)
    }

    fn context(&self, batch: u32, scratch: Scratch) -> Result<Context, TensorRtError> {
        let Loaded { shim, engine, .. } = &*self.loaded;
        let profile = self.loaded.profile_of(batch)?.index;
        let mut message = ShimMessage::empty();
        log::take_first_error();
        // SAFETY: the engine is loaded and has this profile.
        let context = unsafe {
            let own = (scratch == Scratch::Own).into();
            (shim.create_context)(engine.as_ptr(), profile, own, &mut message)
        };
        let mut context = Context {
            context: handle(context, &message, TensorRtError::Load)?,
            profile,
            loaded: Arc::clone(&self.loaded),
        };
        wait_for_the_default_stream()?;
        context.set_batch(batch)?;
        Ok(context)
    }
}

/// Where TensorRT copies what changes with a profile.
fn wait_for_the_default_stream() -> Result<(), TensorRtError> {
    // SAFETY: the driver is loaded and a context is current where TensorRT runs.
    let result = unsafe { sys::cuStreamSynchronize(std::ptr::null_mut()) };
    check("cuStreamSynchronize", result).map_err(|error| TensorRtError::Run(error.to_string()))
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

    /// The profile with the fewest other batches that takes this one.
    fn profile(&self, batch: u32) -> Option<&Profile> {
        let profiles = self.profiles.iter();
        profiles
            .filter(|profile| profile.batches.contains(&batch))
            .min_by_key(|profile| profile.batches.end() - profile.batches.start())
    }

    fn profile_of(&self, batch: u32) -> Result<&Profile, TensorRtError> {
        self.profile(batch).ok_or_else(|| {
            let profiles = self.profiles.iter();
            let taken: Vec<String> = profiles.map(|profile| range(&profile.batches)).collect();
            TensorRtError::Run(format!(
                "it takes batches of {}, not {batch}",
                taken.join(", ")
            ))
        })
    }
}

fn range(batches: &RangeInclusive<u32>) -> String {
    match (batches.start(), batches.end()) {
        (least, most) if least == most => least.to_string(),
        (least, most) => format!("{least} to {most}"),
    }
}

/// Smallest and largest batch of an input in a profile; nothing where its images are of another size there.
fn batches_of(spec: &TensorSpec, tensor: &ShimTensor) -> (i64, i64) {
    let mut sizes = (1..).zip(spec.shape.iter().skip(1));
    let fits = sizes.all(|(axis, size): (usize, &i64)| {
        (tensor.minimum[axis]..=tensor.maximum[axis]).contains(size)
    });
    if fits {
        (tensor.minimum[0], tensor.maximum[0])
    } else {
        (1, 0)
    }
}

/// The batches that every input takes.
fn common_batches(inputs: &[(String, (i64, i64))]) -> Result<RangeInclusive<u32>, TensorRtError> {
    let smallest = inputs.iter().map(|(_, (least, _))| *least).max();
    let largest = inputs.iter().map(|(_, (_, most))| *most).min();
    let range = smallest.zip(largest).and_then(|(smallest, largest)| {
        let range = u32::try_from(smallest).ok()?..=u32::try_from(largest).ok()?;
        (*range.start() >= 1 && !range.is_empty()).then_some(range)
    });
    range.ok_or_else(|| {
        let seen: Vec<String> = inputs
            .iter()
            .map(|(name, (least, most))| format!("{name} takes {least} to {most}"))
            .collect();
        TensorRtError::Load(format!(
            "its inputs have no batch in common ({})",
            seen.join(", ")
        ))
    })
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
    loaded: Arc<Loaded>,
}

// SAFETY: a context may be used by any thread, one at a time, which `&mut` makes sure of.
unsafe impl Send for Context {}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the context is this one's alone, and its engine is still loaded.
        unsafe { (self.loaded.shim.destroy_context)(self.context.as_ptr()) };
    }
}

impl Context {
    /// Sets the batch of all inputs, and the profile that takes it. Changing it makes the next [`Context::enqueue`] do
    /// work on the host that a CUDA graph cannot capture: run once, then capture. Graphs captured of another batch of
    /// this context must not run any more: [`super::Network`] has a context for each.
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
        let profile = self.loaded.profile_of(batch)?.index;
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

    /// Where its scratch memory lies from the next [`Context::enqueue`] on.
    ///
    /// # Safety
    /// The context is one of [`Engine::new_context_for`]. `address` is [`Engine::device_memory_size`] bytes of the
    /// current GPU, aligned to 256, or null where that is 0. They live as long as work enqueued with them runs,
    /// in which time nothing else uses them.
    pub unsafe fn set_scratch(&mut self, address: u64) {
        // SAFETY: the context is alive; the rest is the caller's promise.
        unsafe {
            (self.loaded.shim.set_memory)(self.context.as_ptr(), address as *mut c_void);
        }
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
    Err(TensorRtError::Run(what() + &logged))
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

    #[test]
    fn the_batches_of_an_engine_are_those_all_inputs_take() {
        let input = |name: &str, least, most| (name.to_owned(), (least, most));
        let dynamic = [input("images", 1, 8), input("sizes", 2, 16)];
        assert_eq!(common_batches(&dynamic).unwrap(), 2..=8);
        assert_eq!(common_batches(&[input("images", 1, 1)]).unwrap(), 1..=1);
        let disjoint = [input("images", 1, 2), input("sizes", 4, 4)];
        let sentence = common_batches(&disjoint).unwrap_err().to_string();
        assert!(sentence.contains("sizes takes 4 to 4"), "{sentence}");
    }
}
