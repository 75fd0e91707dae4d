//! DLPack (dlpack.h of version 0.8): a mapped plane as a tensor that its consumer frees.
//!
//! PyTorch frees tensors on threads that Python does not know and after Python has ended, so nothing here may need
//! an interpreter, as a deleter written with ctypes would.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::offset_of;
use std::sync::Arc;

use libloading::os::unix::Library;

use super::Complaint;
use super::mapping::{MappedPlanes, Mapping};
use crate::frame::PixelFormat;

const CPU: i32 = 1;
const CUDA: i32 = 2;
const UNSIGNED: u8 = 1;
/// What a capsule is called until its tensor is taken over.
const CAPSULE: &CStr = c"dltensor";

/// `DLTensor`.
#[repr(C)]
pub struct DLTensor {
    pub data: *mut c_void,
    pub device_type: i32,
    pub device_id: i32,
    pub ndim: i32,
    pub type_code: u8,
    pub type_bits: u8,
    pub type_lanes: u16,
    pub shape: *mut i64,
    /// In samples.
    pub strides: *mut i64,
    pub byte_offset: u64,
}

/// `DLManagedTensor`.
#[repr(C)]
pub struct DLManagedTensor {
    pub tensor: DLTensor,
    pub manager_context: *mut c_void,
    pub deleter: unsafe extern "C" fn(*mut DLManagedTensor),
}

const _: () = {
    assert!(size_of::<DLTensor>() == 48 && offset_of!(DLTensor, shape) == 24);
    assert!(size_of::<DLManagedTensor>() == 64 && offset_of!(DLManagedTensor, deleter) == 56);
};

/// A tensor with what it points to.
#[repr(C)]
struct Exported {
    // First, as the consumer's pointer to it is that of the whole.
    managed: DLManagedTensor,
    shape: [i64; 3],
    strides: [i64; 3],
    _mapping: Arc<Mapping>,
}

/// A plane as a `DLManagedTensor`, which holds the buffer until its deleter is called; null with a sentence where
/// that cannot be.
///
/// # Safety
/// `mapping` came from `rsdetectnet_map` and was not given back yet; `error` has room for `error_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsdetectnet_dlpack(
    mapping: *const Mapping,
    plane: u32,
    error: *mut c_char,
    error_size: usize,
) -> *mut DLManagedTensor {
    // SAFETY: the caller vouches for the text.
    let complaint = unsafe { Complaint::new(error, error_size) };
    let exported = complaint.keep(|| {
        if mapping.is_null() {
            return Err("there is no mapping to make a tensor of".into());
        }
        // SAFETY: the caller's mapping is an Arc that lives; this is a reference of the tensor's own.
        let mapping = unsafe {
            Arc::increment_strong_count(mapping);
            Arc::from_raw(mapping)
        };
        export(mapping, plane as usize)
    });
    exported.map_or(std::ptr::null_mut(), |exported| {
        Box::into_raw(exported).cast()
    })
}

fn export(mapping: Arc<Mapping>, plane: usize) -> Result<Box<Exported>, String> {
    let frame = &mapping.frame;
    if plane >= frame.format.planes() {
        return Err(format!("a {:?} frame has no plane {plane}", frame.format));
    }
    let (channels, bytes) = samples(frame.format, plane);
    let (shape, strides) = rows_of(frame, plane, (channels, bytes))?;
    let tensor = DLTensor {
        data: frame.planes[plane].address as *mut c_void,
        device_type: if frame.gpu_id < 0 { CPU } else { CUDA },
        device_id: frame.gpu_id.max(0),
        ndim: if channels > 1 { 3 } else { 2 },
        type_code: UNSIGNED,
        type_bits: 8 * bytes as u8,
        type_lanes: 1,
        shape: std::ptr::null_mut(),
        strides: std::ptr::null_mut(),
        byte_offset: 0,
    };
    let mut exported = Box::new(Exported {
        managed: DLManagedTensor {
            tensor,
            manager_context: std::ptr::null_mut(),
            deleter: delete,
        },
        shape,
        strides,
        _mapping: mapping,
    });
    exported.managed.tensor.shape = exported.shape.as_mut_ptr();
    exported.managed.tensor.strides = exported.strides.as_mut_ptr();
    Ok(exported)
}

/// Shape and strides, in samples: rows, columns and channels, the last for those with more than one.
fn rows_of(
    frame: &MappedPlanes,
    plane: usize,
    (channels, bytes): (usize, usize),
) -> Result<([i64; 3], [i64; 3]), String> {
    let (width, height) = (frame.width as usize, frame.height as usize);
    let (row, rows) = frame.format.plane_size(plane, width, height);
    let stride = frame.planes[plane].stride as usize;
    if !stride.is_multiple_of(bytes) {
        return Err("DLPack has no rows that start within a sample".into());
    }
    let shape = [rows, row / (channels * bytes), channels];
    let strides = [stride / bytes, channels, 1];
    Ok((shape.map(|n| n as i64), strides.map(|n| n as i64)))
}

/// The channels of a plane, and the bytes of a sample.
fn samples(format: PixelFormat, plane: usize) -> (usize, usize) {
    use PixelFormat::*;
    match (format, plane) {
        (I420 | Gray8, _) | (Nv12 | Nv21, 0) => (1, 1),
        (Nv12 | Nv21, _) | (Yuy2 | Uyvy, _) => (2, 1),
        (P010, 0) => (1, 2),
        (P010, _) => (2, 2),
        (Rgb | Bgr, _) => (3, 1),
        _ => (4, 1),
    }
}

/// # Safety
/// `managed` is a tensor of [`rsdetectnet_dlpack`] that was not deleted yet.
unsafe extern "C" fn delete(managed: *mut DLManagedTensor) {
    // SAFETY: the tensor is the head of a boxed value, which the caller gives up.
    drop(unsafe { Box::from_raw(managed.cast::<Exported>()) });
}

/// Puts a tensor of [`rsdetectnet_dlpack`] into a Python capsule, from which a consumer takes it over; null where
/// Python makes none, with Python's exception set.
///
/// # Safety
/// Called from Python, with its lock held; `tensor` is nobody else's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsdetectnet_dlpack_capsule(tensor: *mut DLManagedTensor) -> *mut c_void {
    type Destructor = unsafe extern "C" fn(*mut c_void);
    type New = unsafe extern "C" fn(*mut DLManagedTensor, *const c_char, Destructor) -> *mut c_void;

    // SAFETY: the signature is that of pycapsule.h, and the name lives for ever.
    let capsule = unsafe {
        python::<New>(c"PyCapsule_New").map_or(std::ptr::null_mut(), |new_capsule| {
            new_capsule(tensor, CAPSULE.as_ptr(), free_capsule)
        })
    };
    if capsule.is_null() && !tensor.is_null() {
        // SAFETY: the tensor is this function's own.
        unsafe { delete(tensor) };
    }
    capsule
}

/// Deletes a tensor that nobody took over; the capsule of one that somebody did has another name. The functions of
/// Python that are called here heed no exception that is set, as one is where a consumer refuses a tensor.
///
/// # Safety
/// Called by Python alone, on a capsule.
unsafe extern "C" fn free_capsule(capsule: *mut c_void) {
    type IsValid = unsafe extern "C" fn(*mut c_void, *const c_char) -> c_int;
    type GetPointer = unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut DLManagedTensor;

    // SAFETY: the signatures are those of pycapsule.h, and the capsule holds a tensor that is deleted here alone.
    unsafe {
        let is_valid = python::<IsValid>(c"PyCapsule_IsValid");
        let get_pointer = python::<GetPointer>(c"PyCapsule_GetPointer");
        if let (Some(is_valid), Some(get_pointer)) = (is_valid, get_pointer)
            && is_valid(capsule, CAPSULE.as_ptr()) != 0
        {
            delete(get_pointer(capsule, CAPSULE.as_ptr()));
        }
    }
}

/// A function of the Python that this process runs.
///
/// # Safety
/// `T` must be the type of the function of that name.
unsafe fn python<T: Copy>(name: &CStr) -> Option<T> {
    // SAFETY: the caller vouches for the type.
    unsafe { Library::this().get::<T>(name) }
        .ok()
        .map(|function| *function)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::c_api::mapping::CPlane;

    fn frame(format: PixelFormat, strides: [u64; 3]) -> MappedPlanes {
        MappedPlanes {
            format,
            width: 5,
            height: 3,
            gpu_id: -1,
            planes: strides.map(|stride| CPlane { address: 0, stride }),
        }
    }

    #[test]
    fn planes_have_the_shape_of_their_format() {
        for (format, plane, stride, shape, strides) in [
            (PixelFormat::Rgb, 0, 16, [3, 5, 3], [16, 3, 1]),
            (PixelFormat::Argb, 0, 20, [3, 5, 4], [20, 4, 1]),
            (PixelFormat::Gray8, 0, 8, [3, 5, 1], [8, 1, 1]),
            (PixelFormat::Yuy2, 0, 12, [3, 6, 2], [12, 2, 1]),
            (PixelFormat::Nv12, 1, 8, [2, 3, 2], [8, 2, 1]),
            (PixelFormat::I420, 2, 4, [2, 3, 1], [4, 1, 1]),
            (PixelFormat::P010, 0, 10, [3, 5, 1], [5, 1, 1]),
            (PixelFormat::P010, 1, 12, [2, 3, 2], [6, 2, 1]),
        ] {
            let frame = frame(format, [stride; 3]);
            let rows = rows_of(&frame, plane, samples(format, plane));
            assert_eq!(rows, Ok((shape, strides)), "{format:?} {plane}");
        }
    }

    #[test]
    fn rows_that_start_within_a_sample_are_refused() {
        let refused = rows_of(&frame(PixelFormat::P010, [11; 3]), 0, (1, 2));
        assert!(refused.is_err_and(|sentence| sentence.contains("within a sample")));
    }
}
