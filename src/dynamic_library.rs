//! Shared libraries that are opened at run time where they exist.

use std::error::Error;
use std::ffi::OsString;
use std::path::Path;

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

    /// The library of the first name that can be opened. One that this process has loaded already, from a file
    /// whose name starts with the first of the names, goes before: it is the one that its makers use.
    pub fn open_any(names: &[&str]) -> Result<Self, String> {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let loaded = names.first().and_then(|name| loaded_file(&maps, name));
        let mut refused = String::new();
        for name in loaded.iter().chain(names) {
            match Self::open(name) {
                Ok(library) => return Ok(library),
                Err(error) if refused.is_empty() => refused = error,
                Err(_) => {}
            }
        }
        Err(refused)
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

/// What a variable says of code to load. In a process that runs with another user's rights that is nothing: its
/// variables come from whoever started it.
pub fn named_by(variable: &str) -> Option<OsString> {
    // SAFETY: getauxval has no preconditions.
    let elevated = unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
    std::env::var_os(variable).filter(|value| !elevated && !value.is_empty())
}

/// The path of a library in the text of /proc/self/maps.
fn loaded_file<'a>(maps: &'a str, name: &str) -> Option<&'a str> {
    maps.lines()
        .filter_map(|line| line.find('/').map(|start| &line[start..]))
        .find(|path| {
            Path::new(path)
                .file_name()
                .and_then(|file| file.to_str())
                .is_some_and(|file| file.starts_with(name))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loaded_library_is_found_among_the_maps_of_the_process() {
        let maps = "\
7f00-7f01 r-xp 00000000 08:01 12 /usr/lib/x86_64-linux-gnu/libc.so.6
7f02-7f03 r-xp 00000000 00:00 0
7f04-7f05 r-xp 00000000 08:01 13 /opt/libnvbufsurface.so/libnvbufsurftransform.so
7f06-7f07 r-xp 00000000 08:01 14 /usr/lib/aarch64-linux-gnu/nvidia/libnvbufsurface.so.1.0.0
";
        assert_eq!(
            loaded_file(maps, "libnvbufsurface.so"),
            Some("/usr/lib/aarch64-linux-gnu/nvidia/libnvbufsurface.so.1.0.0")
        );
        assert_eq!(
            loaded_file("7f00-7f01 r-xp 00000000 00:00 0 [stack]", "[stack]"),
            None
        );
    }

    #[test]
    fn where_no_name_can_be_opened_the_first_refusal_is_told() {
        let error = DynamicLibrary::open_any(&["libnone.so", "/nowhere/libnone.so"]).err();
        assert!(
            error.as_ref().is_some_and(|e| e.starts_with("libnone.so:")),
            "{error:?}"
        );
        assert!(DynamicLibrary::open_any(&["libnone.so", "libc.so.6"]).is_ok());
    }
}
