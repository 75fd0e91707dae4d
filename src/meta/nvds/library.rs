//! DeepStream's metadata libraries, opened at run time: libnvdsgst_meta, and libnvds_meta behind it.

use std::ffi::c_void;
use std::sync::OnceLock;

use gst::glib::ffi::gboolean;

use super::layout::{Batch, CopyFunction, Frame, Meta, Object, ObjectLayout, ReleaseFunction};
use crate::dynamic_library::DynamicLibrary;

/// Where DeepStream installs it, if the linker does not know.
const NAMES: [&str; 2] = [
    "libnvdsgst_meta.so",
    "/opt/nvidia/deepstream/deepstream/lib/libnvdsgst_meta.so",
];

/// This system's DeepStream cannot be used, or there is none.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum DeepStreamError {
    #[error("DeepStream's libnvdsgst_meta.so is missing ({0})")]
    Missing(String),
    #[error(
        "the objects of this DeepStream take {size} bytes, those of the known releases 544 (6.0 to 6.3) or 552 \
         (9.0 and 9.1)"
    )]
    UnknownLayout { size: u32 },
}

type CreateFunction = unsafe extern "C" fn(u32) -> *mut Batch;
type DestroyFunction = unsafe extern "C" fn(*mut Batch) -> gboolean;
type BufferPointer = *mut gst::ffi::GstBuffer;

/// The functions that writing metadata needs.
pub struct Library {
    pub batch_of: unsafe extern "C" fn(BufferPointer) -> *mut Batch,
    pub add_meta: unsafe extern "C" fn(
        BufferPointer,
        *mut Batch,
        *mut c_void,
        CopyFunction,
        ReleaseFunction,
    ) -> *mut Meta,
    pub create_batch: CreateFunction,
    pub copy_batch: CopyFunction,
    pub release_batch: ReleaseFunction,
    pub acquire_frame: unsafe extern "C" fn(*mut Batch) -> *mut Frame,
    pub add_frame: unsafe extern "C" fn(*mut Batch, *mut Frame),
    pub acquire_object: unsafe extern "C" fn(*mut Batch) -> *mut Object,
    pub add_object: unsafe extern "C" fn(*mut Frame, *mut Object, *mut Object),
    pub lock: unsafe extern "C" fn(*mut Batch),
    pub unlock: unsafe extern "C" fn(*mut Batch),
    pub layout: ObjectLayout,
    _library: DynamicLibrary,
}

impl Library {
    /// The library of this process, loaded on first use and never unloaded, as it registers types.
    pub fn get() -> Result<&'static Self, DeepStreamError> {
        static LIBRARY: OnceLock<Result<Library, DeepStreamError>> = OnceLock::new();
        LIBRARY
            .get_or_init(|| Self::open(&NAMES))
            .as_ref()
            .map_err(Clone::clone)
    }

    fn open(names: &[&str]) -> Result<Self, DeepStreamError> {
        let library = DynamicLibrary::open_any(names).map_err(DeepStreamError::Missing)?;
        // SAFETY: names and signatures are those of gstnvdsmeta.h and nvdsmeta.h, the same since 6.0.
        unsafe {
            let create_batch = function(&library, "nvds_create_batch_meta")?;
            let destroy_batch = function(&library, "nvds_destroy_batch_meta")?;
            Ok(Self {
                layout: layout(create_batch, destroy_batch)?,
                batch_of: function(&library, "gst_buffer_get_nvds_batch_meta")?,
                add_meta: function(&library, "gst_buffer_add_nvds_meta")?,
                create_batch,
                copy_batch: function(&library, "nvds_batch_meta_copy_func")?,
                release_batch: function(&library, "nvds_batch_meta_release_func")?,
                acquire_frame: function(&library, "nvds_acquire_frame_meta_from_pool")?,
                add_frame: function(&library, "nvds_add_frame_meta_to_batch")?,
                acquire_object: function(&library, "nvds_acquire_obj_meta_from_pool")?,
                add_object: function(&library, "nvds_add_obj_meta_to_frame")?,
                lock: function(&library, "nvds_acquire_meta_lock")?,
                unlock: function(&library, "nvds_release_meta_lock")?,
                _library: library,
            })
        }
    }
}

/// How the library lays objects out, told by the size of those that a batch has.
///
/// # Safety
/// The functions are those of the library.
unsafe fn layout(
    create_batch: CreateFunction,
    destroy_batch: DestroyFunction,
) -> Result<ObjectLayout, DeepStreamError> {
    // SAFETY: the batch is this function's own, with pools of its own.
    let size = unsafe {
        let batch = create_batch(1);
        let size = (*(*batch).object_pool).element_size;
        destroy_batch(batch);
        size
    };
    ObjectLayout::of_size(size).ok_or(DeepStreamError::UnknownLayout { size })
}

/// # Safety
/// `T` must be the type of the function of that name.
unsafe fn function<T: Copy>(library: &DynamicLibrary, name: &str) -> Result<T, DeepStreamError> {
    // SAFETY: the caller vouches for the type.
    unsafe { library.function(name) }
        .ok_or_else(|| DeepStreamError::Missing(format!("it has no {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_wrong_library_is_one_clear_sentence() {
        let error = |names: &[&str]| Library::open(names).err().unwrap().to_string();
        let missing = error(&["libnvdsgst_meta-that-is-not-there.so"]);
        assert!(
            missing.starts_with("DeepStream's libnvdsgst_meta.so is missing (libnvdsgst_meta-that"),
            "{missing}"
        );
        assert_eq!(
            error(&["libc.so.6"]),
            "DeepStream's libnvdsgst_meta.so is missing (it has no nvds_create_batch_meta)"
        );
    }
}
