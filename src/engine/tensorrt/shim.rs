//! The C interface of `shim.h`, field by field; what each part means is said there.

use std::ffi::{c_char, c_void};

use super::error::TensorRtError;

pub const MAX_RANK: usize = 8;
const MESSAGE_SIZE: usize = 1024;

pub const OK: i32 = 0;
pub const CANCELLED: i32 = 2;

pub const PHASE_STARTED: i32 = 0;
pub const STEP_DONE: i32 = 1;

#[repr(C)]
pub struct ShimMessage {
    text: [u8; MESSAGE_SIZE],
}

impl ShimMessage {
    pub fn empty() -> Self {
        Self {
            text: [0; MESSAGE_SIZE],
        }
    }

    /// The sentence; none if the shim left it empty.
    pub fn text(&self) -> Option<String> {
        let end = self.text.iter().position(|&byte| byte == 0)?;
        (end > 0).then(|| String::from_utf8_lossy(&self.text[..end]).into_owned())
    }
}

#[repr(C)]
pub struct ShimEntryPoints {
    pub create_builder: *mut c_void,
    pub create_runtime: *mut c_void,
    pub create_parser: *mut c_void,
    pub register_plugins: *mut c_void,
    pub version: i32,
}

pub type ShimLog = extern "C" fn(severity: i32, message: *const c_char);

pub type ShimProgress =
    extern "C" fn(user: *mut c_void, kind: i32, phase: *const c_char, count: i32) -> i32;

#[repr(C)]
pub struct ShimBlob {
    owner: *mut c_void,
    data: *const c_void,
    size: usize,
}

impl ShimBlob {
    fn empty() -> Self {
        Self {
            owner: std::ptr::null_mut(),
            data: std::ptr::null(),
            size: 0,
        }
    }
}

#[repr(C)]
pub struct ShimShape {
    pub name: *const c_char,
    pub rank: i32,
    pub dimensions: [i64; MAX_RANK],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShimBatches {
    pub minimum: i32,
    pub maximum: i32,
}

#[repr(C)]
pub struct ShimBuildRequest {
    pub model: *const c_void,
    pub model_size: usize,
    pub model_path: *const c_char,
    pub shapes: *const ShimShape,
    pub shape_count: usize,
    pub batches: *const ShimBatches,
    pub batches_count: usize,
    pub float32_only: i32,
    pub float16: i32,
    pub int8_expected: i32,
    pub dla_core: i32,
    pub workspace: u64,
    pub progress: ShimProgress,
    pub user: *mut c_void,
}

#[repr(C)]
pub struct ShimTensor {
    pub name: *const c_char,
    pub is_input: i32,
    pub data_type: i32,
    pub rank: i32,
    pub dimensions: [i64; MAX_RANK],
    pub minimum: [i64; MAX_RANK],
    pub optimum: [i64; MAX_RANK],
    pub maximum: [i64; MAX_RANK],
    pub is_plain: i32,
}

impl ShimTensor {
    pub fn empty() -> Self {
        Self {
            name: std::ptr::null(),
            is_input: 0,
            data_type: 0,
            rank: 0,
            dimensions: [0; MAX_RANK],
            minimum: [0; MAX_RANK],
            optimum: [0; MAX_RANK],
            maximum: [0; MAX_RANK],
            is_plain: 0,
        }
    }
}

#[repr(C)]
pub struct Shim {
    pub is_rtx: i32,
    pub major: i32,
    pub minor: i32,
    pub patch: i32,
    pub oldest_minor: i32,
    pub is_strongly_typed: i32,
    pub reports_progress: i32,

    pub open: unsafe extern "C" fn(*const ShimEntryPoints, ShimLog) -> *mut c_void,
    pub build: unsafe extern "C" fn(
        library: *mut c_void,
        *const ShimBuildRequest,
        plan: *mut ShimBlob,
        *mut ShimMessage,
    ) -> i32,
    release: unsafe extern "C" fn(*mut ShimBlob),
    pub load: unsafe extern "C" fn(
        library: *mut c_void,
        plan: *const c_void,
        size: usize,
        dla_core: i32,
        jit: *const c_void,
        jit_size: usize,
        *mut ShimMessage,
    ) -> *mut c_void,
    pub unload: unsafe extern "C" fn(engine: *mut c_void),
    pub tensor_count: unsafe extern "C" fn(engine: *mut c_void) -> i32,
    pub profile_count: unsafe extern "C" fn(engine: *mut c_void) -> i32,
    pub tensor:
        unsafe extern "C" fn(engine: *mut c_void, index: i32, profile: i32, *mut ShimTensor) -> i32,
    pub runtime_cache: unsafe extern "C" fn(engine: *mut c_void, *mut ShimBlob) -> i32,

    pub memory_size: unsafe extern "C" fn(engine: *mut c_void, profile: i32) -> i64,

    pub create_context: unsafe extern "C" fn(
        engine: *mut c_void,
        profile: i32,
        own_memory: i32,
        *mut ShimMessage,
    ) -> *mut c_void,
    pub destroy_context: unsafe extern "C" fn(context: *mut c_void),
    pub set_memory: unsafe extern "C" fn(context: *mut c_void, memory: *mut c_void, size: i64),
    pub set_profile: unsafe extern "C" fn(context: *mut c_void, profile: i32) -> i32,
    pub set_shape: unsafe extern "C" fn(
        context: *mut c_void,
        name: *const c_char,
        dimensions: *const i64,
        rank: i32,
    ) -> i32,
    pub shape: unsafe extern "C" fn(
        context: *mut c_void,
        name: *const c_char,
        dimensions: *mut i64,
    ) -> i32,
    pub set_address: unsafe extern "C" fn(
        context: *mut c_void,
        name: *const c_char,
        address: *mut c_void,
    ) -> i32,
    pub enqueue: unsafe extern "C" fn(context: *mut c_void, stream: *mut c_void) -> i32,
}

impl Shim {
    /// Bytes that `fill` makes TensorRT hand out, copied so that TensorRT's own memory is given back at once;
    /// the status where that is not [`OK`].
    pub fn bytes(&self, fill: impl FnOnce(*mut ShimBlob) -> i32) -> Result<Vec<u8>, i32> {
        let mut blob = ShimBlob::empty();
        let status = fill(&mut blob);
        if status != OK {
            return Err(status);
        }
        let bytes = if blob.size == 0 {
            Vec::new()
        } else {
            // SAFETY: after SHIM_OK the blob holds `size` bytes at `data` until it is released.
            unsafe { std::slice::from_raw_parts(blob.data.cast::<u8>(), blob.size) }.to_vec()
        };
        // SAFETY: the blob comes from this shim and is released once.
        unsafe { (self.release)(&mut blob) };
        Ok(bytes)
    }
}

/// The shim's own sentence, else the first error in TensorRT's log, else the fact that there was one.
pub fn reason(message: &ShimMessage, logged: Option<String>) -> String {
    message
        .text()
        .or(logged)
        .unwrap_or_else(|| "TensorRT does not say why".to_owned())
}

/// A handle the shim returned, or the reason why it is null.
pub fn handle(
    pointer: *mut c_void,
    message: &ShimMessage,
    error: fn(String) -> TensorRtError,
) -> Result<std::ptr::NonNull<c_void>, TensorRtError> {
    std::ptr::NonNull::new(pointer).ok_or_else(|| {
        let why = reason(message, super::log::take_first_error());
        error(why + &super::memory::remark())
    })
}

include!(concat!(env!("OUT_DIR"), "/tensorrt_shims.rs"));
