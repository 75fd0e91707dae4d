//! Buffers of `memory:NVMM` from DeepStream's own pool, libnvdsbufferpool, opened at run time.

use std::sync::OnceLock;

use gst::glib::translate::*;
use gst::prelude::*;
use gst_video::VideoFormat;

use super::nvbufsurface::{Layout, Library, memory_type};
use crate::dynamic_library::DynamicLibrary;

/// The formats that the pool makes surfaces of, as nvvideoconvert lists them; not every Jetson has them all.
pub const NVMM_FORMATS: [VideoFormat; 9] = [
    VideoFormat::Nv12,
    VideoFormat::I420,
    VideoFormat::Uyvy,
    VideoFormat::P01010le,
    VideoFormat::Rgba,
    VideoFormat::Bgrx,
    VideoFormat::Rgb,
    VideoFormat::Bgr,
    VideoFormat::Gray8,
];

/// Why there are no buffers in NVMM memory.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum NvmmPoolError {
    #[error("DeepStream's buffer pool is missing; it makes the buffers of memory:NVMM ({0})")]
    LibraryMissing(String),
    #[error("libnvdsbufferpool.so has no gst_nvds_buffer_pool_new")]
    NoPool,
    #[error("DeepStream's buffer pool makes no buffers for {0}")]
    Refused(gst::Caps),
}

/// The loaded library.
pub struct NvmmPools {
    new: unsafe extern "C" fn() -> *mut gst::ffi::GstBufferPool,
    _library: DynamicLibrary,
}

impl NvmmPools {
    /// The library of this process, loaded on first use and never unloaded, as it registers types.
    pub fn get() -> Result<&'static Self, NvmmPoolError> {
        static LIBRARY: OnceLock<Result<NvmmPools, NvmmPoolError>> = OnceLock::new();
        LIBRARY
            .get_or_init(|| Self::open("libnvdsbufferpool.so"))
            .as_ref()
            .map_err(Clone::clone)
    }

    fn open(name: &str) -> Result<Self, NvmmPoolError> {
        let library = DynamicLibrary::open_any(&[name]).map_err(NvmmPoolError::LibraryMissing)?;
        // SAFETY: name and signature are those of gstnvdsbufferpool.h.
        let new = unsafe { library.function("gst_nvds_buffer_pool_new") };
        Ok(Self {
            new: new.ok_or(NvmmPoolError::NoPool)?,
            _library: library,
        })
    }

    /// An active pool of single frames of these caps: CUDA device memory, on Jetson surface arrays.
    pub fn buffer_pool(
        &self,
        caps: &gst::Caps,
        gpu_id: u32,
    ) -> Result<gst::BufferPool, NvmmPoolError> {
        let refused = || NvmmPoolError::Refused(caps.clone());
        // SAFETY: the call returns a new pool and the reference to it.
        let pool: Option<gst::BufferPool> = unsafe { from_glib_full((self.new)()) };
        let pool = pool.ok_or_else(refused)?;
        let layout = Library::get().map_or(Layout::New, |library| library.layout);
        let mut config = pool.config();
        config.set_params(Some(caps), layout.surface_size() as u32, 0, 0);
        // gstnvdsbufferpool.h names neither; DeepStream's elements set both, and so does GStreamer's nvcodec.
        config.set("memtype", memory_type::DEFAULT);
        config.set("gpu-id", gpu_id);
        config.set("batch-size", 1u32);
        pool.set_config(config).map_err(|_| refused())?;
        pool.set_active(true).map_err(|_| refused())?;
        Ok(pool)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_or_one_without_the_pool_is_one_clear_sentence() {
        let error = |name| NvmmPools::open(name).err().unwrap().to_string();
        let missing = error("libnvdsbufferpool-that-is-not-there.so");
        assert!(
            missing.starts_with("DeepStream's buffer pool is missing; it makes the buffers"),
            "{missing}"
        );
        assert_eq!(
            error("libc.so.6"),
            "libnvdsbufferpool.so has no gst_nvds_buffer_pool_new"
        );
    }
}
