//! Where TensorRT's headers are, for build.rs, which compiles the shim against each set found.
//!
//! Looked for, in this order; of two sets of one release the first counts:
//! 1. `TENSORRT_ROOT`: one or more folders of unpacked TensorRT archives, or their include folders;
//! 2. where JetPack, Debian and Ubuntu packages and NVIDIA's containers install them;
//! 3. in cargo's own folder, inside the package `trtx-sys` (TensorRT 11.4 and TensorRT-RTX 1.3 to 1.7), which
//!    `cargo fetch --manifest-path tests/tensorrt-headers/Cargo.toml` brings there. Nothing is downloaded
//!    by the build itself.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// One folder with `NvInfer.h` and `NvOnnxParser.h`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderSet {
    pub folder: PathBuf,
    pub is_rtx: bool,
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

impl HeaderSet {
    /// What tells the symbols of one set from those of another: `10_3`, `rtx_1_4`.
    pub fn suffix(&self) -> String {
        let family = if self.is_rtx { "rtx_" } else { "" };
        format!("{family}{}_{}", self.major, self.minor)
    }

    /// Whether the shim is made for this release: TensorRT 8.5 and TensorRT-RTX 1.3 have the first
    /// interface by tensor names that it needs.
    pub fn is_supported(&self) -> bool {
        let oldest = if self.is_rtx { (1, 3) } else { (8, 5) };
        (self.major, self.minor) >= oldest
    }

    /// The set in a folder; none where a header is missing or does not say its version.
    pub fn in_folder(folder: &Path) -> Option<Self> {
        if !folder.join("NvInfer.h").is_file() || !folder.join("NvOnnxParser.h").is_file() {
            return None;
        }
        let version = fs::read_to_string(folder.join("NvInferVersion.h")).ok()?;
        let (is_rtx, major, minor, patch) = parse_version(&version)?;
        Some(Self {
            folder: folder.to_owned(),
            is_rtx,
            major,
            minor,
            patch,
        })
    }
}

/// Whether it is TensorRT-RTX, and major, minor and patch version, as `NvInferVersion.h` defines them:
/// `NV_TENSORRT_MAJOR` is a number up to TensorRT 10.8 and the name of another macro since.
pub fn parse_version(header: &str) -> Option<(bool, u32, u32, u32)> {
    let macros: HashMap<&str, &str> = header
        .lines()
        .filter_map(|line| {
            let mut words = line.strip_prefix("#define ")?.split_whitespace();
            Some((words.next()?, words.next()?))
        })
        .collect();
    let number = |name: &str| {
        let value = *macros.get(name)?;
        macros.get(value).unwrap_or(&value).parse().ok()
    };
    Some((
        macros.contains_key("TRT_MAJOR_RTX"),
        number("NV_TENSORRT_MAJOR")?,
        number("NV_TENSORRT_MINOR")?,
        number("NV_TENSORRT_PATCH")?,
    ))
}

/// Every supported set, each release once. `architecture` is the target's, as Rust names it
/// (`x86_64`, `aarch64`); `environment` looks up an environment variable.
pub fn find(architecture: &str, environment: impl Fn(&str) -> Option<String>) -> Vec<HeaderSet> {
    let mut sets: Vec<HeaderSet> = Vec::new();
    let folders = configured_folders(architecture, &environment)
        .into_iter()
        .chain(system_folders(architecture))
        .chain(fetched_folders(&environment));
    for set in folders.filter_map(|folder| HeaderSet::in_folder(&folder)) {
        let is_known = sets.iter().any(|known| known.suffix() == set.suffix());
        if set.is_supported() && !is_known {
            sets.push(set);
        }
    }
    sets
}

fn configured_folders(
    architecture: &str,
    environment: &impl Fn(&str) -> Option<String>,
) -> Vec<PathBuf> {
    let roots = environment("TENSORRT_ROOT").unwrap_or_default();
    std::env::split_paths(&roots)
        .filter(|root| !root.as_os_str().is_empty())
        .flat_map(|root| {
            let include = root.join("include");
            [
                include.join(format!("{architecture}-linux-gnu")),
                include,
                root,
            ]
        })
        .collect()
}

fn system_folders(architecture: &str) -> Vec<PathBuf> {
    vec![
        PathBuf::from(format!("/usr/include/{architecture}-linux-gnu")),
        PathBuf::from("/usr/include"),
        PathBuf::from("/usr/local/include"),
        PathBuf::from("/usr/local/tensorrt/include"),
        PathBuf::from("/opt/tensorrt/include"),
    ]
}

fn fetched_folders(environment: &impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    let cargo_home = environment("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&environment("HOME")?).join(".cargo")));
    let sources = cargo_home.map(|home| home.join("registry/src"));
    sources
        .into_iter()
        .flat_map(|sources| sorted_entries(&sources))
        .flat_map(|registry| sorted_entries(&registry))
        .filter(|package| {
            let name = package.file_name().unwrap_or_default();
            name.to_string_lossy().starts_with("trtx-sys-")
        })
        .flat_map(|package| sorted_entries(&package.join("TensorRT-Headers")))
        .collect()
}

fn sorted_entries(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    entries.sort();
    entries
}
