//! Where ONNX Runtime's shared library lies on this machine.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::dynamic_library::named_by;

/// Names the file outright, as it does for every user of the `ort` crate.
const PATH_VARIABLE: &str = "ORT_DYLIB_PATH";

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LibraryNotFound {
    #[error("{PATH_VARIABLE} names {0}, which is no file")]
    NamedFileMissing(PathBuf),
    #[error(
        "ONNX Runtime (libonnxruntime.so, 1.17 or newer) was not found: install it with 'pip install onnxruntime', \
         or set {PATH_VARIABLE} to the library's file. Looked beside the plugin, on the loader's path and in {0} \
         Python package folders"
    )]
    Nowhere(usize),
}

/// The library to open: `ORT_DYLIB_PATH`, else the one beside the plugin, else the one the loader finds
/// (returned as a bare name), else the newest where pip puts it.
pub fn find() -> Result<PathBuf, LibraryNotFound> {
    if let Some(named) = named_by(PATH_VARIABLE) {
        let named = PathBuf::from(named);
        return match named.is_file() {
            true => Ok(named),
            false => Err(LibraryNotFound::NamedFileMissing(named)),
        };
    }
    if let Some(beside) = plugin_folder().as_deref().and_then(newest_in) {
        return Ok(beside);
    }
    for name in ["libonnxruntime.so", "libonnxruntime.so.1"] {
        // SAFETY: ONNX Runtime is about to be opened for good by the same name; its initialisers run once.
        if unsafe { libloading::Library::new(name) }.is_ok() {
            return Ok(name.into());
        }
    }
    let folders = package_folders(&Environment::of_process());
    folders
        .iter()
        .find_map(|folder| newest_in(&folder.join("onnxruntime/capi")))
        .ok_or(LibraryNotFound::Nowhere(folders.len()))
}

/// The folder of the shared object that holds this very function.
fn plugin_folder() -> Option<PathBuf> {
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    let here = plugin_folder as fn() -> Option<PathBuf> as *const libc::c_void;
    // SAFETY: `here` is an address in this object, and `info` is as large as dladdr writes.
    let found = unsafe { libc::dladdr(here, info.as_mut_ptr()) } != 0;
    // SAFETY: zeroed Dl_info is valid, and dladdr has filled it where it returned success.
    let info = unsafe { info.assume_init() };
    if !found || info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: dladdr's name is a C string that lives as long as the object is loaded.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    let file = Path::new(OsStr::from_bytes(name.to_bytes()));
    Some(std::fs::canonicalize(file).ok()?.parent()?.to_owned())
}

/// The library of the highest version in a folder.
fn newest_in(folder: &Path) -> Option<PathBuf> {
    std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| version_of(path).is_some() && path.is_file())
        .max_by_key(|path| version_of(path))
}

/// `libonnxruntime.so.1.32.0` is `[1, 32, 0]`, `libonnxruntime.so` is `[]`, other files are none.
fn version_of(path: &Path) -> Option<Vec<u32>> {
    let rest = path
        .file_name()?
        .to_str()?
        .strip_prefix("libonnxruntime.so")?;
    rest.split('.')
        .skip(1)
        .map(|part| part.parse().ok())
        .collect::<Option<Vec<u32>>>()
        .filter(|_| rest.is_empty() || rest.starts_with('.'))
}

/// The parts of the process's environment that say where Python's packages are.
struct Environment {
    home: Option<PathBuf>,
    path: Vec<PathBuf>,
    prefixes: Vec<PathBuf>,
}

impl Environment {
    fn of_process() -> Self {
        Self {
            home: named_by("HOME").map(PathBuf::from),
            path: named_by("PATH")
                .map(|path| std::env::split_paths(&path).collect())
                .unwrap_or_default(),
            prefixes: ["VIRTUAL_ENV", "CONDA_PREFIX"]
                .into_iter()
                .filter_map(|name| named_by(name).map(PathBuf::from))
                .collect(),
        }
    }
}

/// Every existing `site-packages` and `dist-packages`: of active environments first, then the user's own, then
/// those of each Python on the path, the system's, and pyenv's.
fn package_folders(environment: &Environment) -> Vec<PathBuf> {
    let mut prefixes = environment.prefixes.clone();
    prefixes.extend(environment.home.iter().map(|home| home.join(".local")));
    let from_path = environment.path.iter().filter_map(|bin| bin.parent());
    prefixes.extend(from_path.map(Path::to_owned));
    prefixes.extend(["/usr/local".into(), "/usr".into()]);
    if let Some(home) = &environment.home {
        prefixes.extend(children(&home.join(".pyenv/versions"), ""));
    }
    let mut folders = Vec::new();
    for prefix in prefixes {
        for python in children(&prefix.join("lib"), "python3") {
            for packages in ["site-packages", "dist-packages"] {
                let folder = python.join(packages);
                if folder.is_dir() && !folders.contains(&folder) {
                    folders.push(folder);
                }
            }
        }
    }
    folders
}

/// The entries of a folder whose names start with `prefix`, the last in the alphabet first.
fn children(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with(prefix))
        })
        .collect();
    paths.sort_unstable_by(|a, b| b.cmp(a));
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let version = |name| version_of(Path::new(name));
        assert_eq!(version("/x/libonnxruntime.so.1.9.0"), Some(vec![1, 9, 0]));
        assert!(version("libonnxruntime.so.1.9.0") < version("libonnxruntime.so.1.32.0"));
        assert_eq!(version("libonnxruntime.so"), Some(vec![]));
        assert_eq!(version("libonnxruntime_providers_shared.so"), None);
        assert_eq!(version("libonnxruntime.so.old"), None);
    }

    #[test]
    fn the_newest_library_where_pip_puts_it_is_found() {
        let home = tempfile::tempdir().unwrap();
        let capi = home
            .path()
            .join(".local/lib/python3.11/site-packages/onnxruntime/capi");
        std::fs::create_dir_all(&capi).unwrap();
        for version in ["1.9.2", "1.17.3"] {
            std::fs::write(capi.join(format!("libonnxruntime.so.{version}")), "").unwrap();
        }
        let folders = package_folders(&Environment {
            home: Some(home.path().into()),
            path: vec![],
            prefixes: vec![],
        });
        let found = folders
            .iter()
            .find_map(|folder| newest_in(&folder.join("onnxruntime/capi")));
        assert_eq!(found, Some(capi.join("libonnxruntime.so.1.17.3")));
    }

    #[test]
    fn an_active_virtual_environment_comes_before_the_user_s_own_packages() {
        let root = tempfile::tempdir().unwrap();
        let venv = root.path().join("venv");
        let packages = |prefix: &Path| prefix.join("lib/python3.12/site-packages");
        for prefix in [venv.clone(), root.path().join(".local")] {
            std::fs::create_dir_all(packages(&prefix)).unwrap();
        }
        let folders = package_folders(&Environment {
            home: Some(root.path().into()),
            path: vec![],
            prefixes: vec![venv.clone()],
        });
        assert_eq!(folders[0], packages(&venv));
    }
}
