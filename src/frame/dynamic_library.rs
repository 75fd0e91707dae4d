//! Shared libraries that are opened at run time where they exist.

use std::error::Error;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

pub struct DynamicLibrary(Library);

impl DynamicLibrary {
    /// Opens a library by soname or path, with all its symbols bound; the error is the linker's sentence.
    pub fn open(name: &str) -> Result<Self, String> {
        // SAFETY: only libraries whose initialisers are made for any process are opened here: the
        // NVIDIA driver, GStreamer's libraries and DeepStream's.
        unsafe { Library::open(Some(name), RTLD_NOW | RTLD_LOCAL) }
            .map(Self)
            .map_err(|error| error.source().unwrap_or(&error).to_string())
    }

    /// The function of that name, if the library has one. It may be called as long as `self` lives.
    ///
    /// # Safety
    /// `T` must be a function pointer with the signature that the library gives that name.
    pub unsafe fn function<T: Copy>(&self, name: &str) -> Option<T> {
        const { assert!(size_of::<T>() == size_of::<fn()>()) };
        // SAFETY: the caller vouches for the signature.
        unsafe { self.0.get::<T>(name) }
            .ok()
            .map(|function| *function)
    }
}
