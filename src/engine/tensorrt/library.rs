//! The TensorRT library of this machine, opened once, and the shim made for its version.

use std::error::Error as _;
use std::ffi::{CStr, c_void};
use std::fmt;
use std::ptr::NonNull;
use std::sync::OnceLock;

use super::error::TensorRtError;
use super::log;
use super::shim::{SHIMS, Shim, ShimEntryPoints};
use super::version::{ShimVersion, Version, choose};

/// The releases this binary was built for; empty if it was built without TensorRT.
pub fn built_for() -> Vec<Version> {
    SHIMS
        .iter()
        .map(|shim| ShimVersion::of(shim).headers)
        .collect()
}

/// The files of one TensorRT installation, by soname.
struct Candidate {
    is_rtx: bool,
    runtime: &'static str,
    parser: &'static str,
    plugins: Option<&'static str>,
}

impl Candidate {
    const fn tensorrt(runtime: &'static str, parser: &'static str, plugins: &'static str) -> Self {
        Self {
            is_rtx: false,
            runtime,
            parser,
            plugins: Some(plugins),
        }
    }
}

/// In the order they are tried: TensorRT proper chooses its kernels by measuring, so it goes before TensorRT-RTX.
const CANDIDATES: [Candidate; 4] = [
    Candidate::tensorrt(
        "libnvinfer.so.11",
        "libnvonnxparser.so.11",
        "libnvinfer_plugin.so.11",
    ),
    Candidate::tensorrt(
        "libnvinfer.so.10",
        "libnvonnxparser.so.10",
        "libnvinfer_plugin.so.10",
    ),
    Candidate::tensorrt(
        "libnvinfer.so.8",
        "libnvonnxparser.so.8",
        "libnvinfer_plugin.so.8",
    ),
    Candidate {
        is_rtx: true,
        runtime: "libtensorrt_rtx.so.1",
        parser: "libtensorrt_onnxparser_rtx.so.1",
        plugins: None,
    },
];

/// TensorRT, opened. Lives as long as the process: its threads and CUDA's make unloading it unsafe.
#[derive(Debug)]
pub struct Library {
    file: &'static str,
    version: Version,
    shim: &'static Shim,
    handle: NonNull<c_void>,
    /// The file of the ONNX parser, if it is not there.
    missing_parser: Option<&'static str>,
}

// SAFETY: the handle is a table of functions and a logger that only calls `log::write`; TensorRT documents builders
// and runtimes made from them as independent of each other.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl fmt::Debug for Shim {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "shim for {}", ShimVersion::of(self).headers)
    }
}

impl Library {
    /// The file that was opened: `libnvinfer.so.10`.
    pub fn name(&self) -> &str {
        self.file
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether element types are those of the model alone. Then float16 has to be in the ONNX graph; else TensorRT
    /// chooses float16 itself where [`super::BuildOptions::precision`] lets it.
    pub fn is_strongly_typed(&self) -> bool {
        self.shim.is_strongly_typed != 0
    }

    /// Whether a quantised model computes in int8. TensorRT-RTX up to 1.6 refuses convolutions in it, so that for other
    /// types it has to be taken out of the graph.
    pub fn has_int8_convolutions(&self) -> bool {
        !self.version.is_rtx || (self.version.major, self.version.minor) >= (1, 7)
    }

    /// Whether a build reports its steps and can be cancelled in the middle; TensorRT 8 can do neither.
    pub fn reports_progress(&self) -> bool {
        self.shim.reports_progress != 0
    }

    /// Whether engines can be built, and not only run.
    ///
    /// # Errors
    /// [`TensorRtError::NoParser`].
    pub fn can_build(&self) -> Result<(), TensorRtError> {
        match self.missing_parser {
            Some(file) => Err(TensorRtError::NoParser(file)),
            None => Ok(()),
        }
    }

    pub(super) fn shim(&self) -> &'static Shim {
        self.shim
    }

    pub(super) fn handle(&self) -> *mut c_void {
        self.handle.as_ptr()
    }

    /// `None` where the file is not on this machine.
    fn open(candidate: &'static Candidate) -> Result<Option<Self>, OpenError> {
        let Some(runtime) = open_file(candidate.runtime)? else {
            return Ok(None);
        };
        let version_symbol = find(&runtime, c"getInferLibVersion")
            .ok_or_else(|| candidate.lacks("getInferLibVersion"))?;
        // SAFETY: `extern "C" int32_t getInferLibVersion() noexcept` (NvInferRuntimeBase.h).
        let number = unsafe {
            std::mem::transmute::<*mut c_void, extern "C" fn() -> i32>(version_symbol.as_ptr())
        }();
        let version = Version::from_number(number.unsigned_abs(), candidate.is_rtx);
        let shims: Vec<ShimVersion> = SHIMS.iter().map(|shim| ShimVersion::of(shim)).collect();
        let shim = choose(&shims, version)
            .map(|index| SHIMS[index])
            .ok_or_else(|| TensorRtError::VersionMismatch {
                file: candidate.runtime.to_owned(),
                found: version,
                built_for: shims.iter().map(|shim| shim.headers).collect(),
            })?;
        let required = |symbol: &CStr| {
            find(&runtime, symbol).ok_or_else(|| candidate.lacks(&symbol.to_string_lossy()))
        };
        let entry_points = ShimEntryPoints {
            create_builder: required(c"createInferBuilder_INTERNAL")?.as_ptr(),
            create_runtime: required(c"createInferRuntime_INTERNAL")?.as_ptr(),
            create_parser: optional(candidate.parser, c"createNvOnnxParser_INTERNAL"),
            register_plugins: candidate.plugins.map_or(std::ptr::null_mut(), |file| {
                optional(file, c"initLibNvInferPlugins")
            }),
            version: number,
        };
        let missing_parser = entry_points.create_parser.is_null();
        std::mem::forget(runtime);
        // SAFETY: the functions are what their names say, from a library of the generation of this shim.
        let handle = unsafe { (shim.open)(&entry_points, log::write) };
        let handle = NonNull::new(handle).ok_or_else(|| candidate.lacks("memory"))?;
        gst::info!(
            log::category(),
            "{} is {version}; using the shim for {}",
            candidate.runtime,
            ShimVersion::of(shim).headers
        );
        Ok(Some(Self {
            file: candidate.runtime,
            version,
            shim,
            handle,
            missing_parser: missing_parser.then_some(candidate.parser),
        }))
    }
}

impl Candidate {
    fn lacks(&self, symbol: &str) -> TensorRtError {
        TensorRtError::NotTensorRt {
            file: self.runtime.to_owned(),
            symbol: symbol.to_owned(),
        }
    }
}

/// Why a library that is there cannot be used.
enum OpenError {
    /// The dynamic linker cannot load it; its words.
    Broken(String),
    Unusable(TensorRtError),
}

impl From<String> for OpenError {
    fn from(words: String) -> Self {
        Self::Broken(words)
    }
}

impl From<TensorRtError> for OpenError {
    fn from(error: TensorRtError) -> Self {
        Self::Unusable(error)
    }
}

/// Opens a library by soname; `None` where there is none of that name, else the words of the dynamic linker.
fn open_file(file: &str) -> Result<Option<libloading::Library>, String> {
    // SAFETY: the initialisers of NVIDIA's libraries may run on any thread.
    match unsafe { libloading::Library::new(file) } {
        Ok(library) => Ok(Some(library)),
        Err(error) => {
            let words = error
                .source()
                .map_or_else(|| error.to_string(), ToString::to_string);
            // What begins with another name is about a library that this one needs.
            let is_absent = words.starts_with(&format!("{file}: "));
            if is_absent { Ok(None) } else { Err(words) }
        }
    }
}

fn find(library: &libloading::Library, symbol: &CStr) -> Option<NonNull<c_void>> {
    // SAFETY: the symbol is taken as an address only.
    let address = unsafe { library.get::<*mut c_void>(symbol) }.ok()?;
    NonNull::new(*address)
}

/// A function of a library that not everything needs; null where it is missing.
fn optional(file: &str, symbol: &CStr) -> *mut c_void {
    let library = match open_file(file) {
        Ok(Some(library)) => library,
        Ok(None) => {
            gst::info!(log::category(), "{file} is not there");
            return std::ptr::null_mut();
        }
        Err(words) => {
            gst::warning!(log::category(), "{words}");
            return std::ptr::null_mut();
        }
    };
    let address = find(&library, symbol);
    std::mem::forget(library);
    address.map_or(std::ptr::null_mut(), NonNull::as_ptr)
}

/// TensorRT, opened on the first call. The first library that a shim serves is taken; where none is, the error is
/// that of the first library that is there.
pub fn library() -> Result<&'static Library, TensorRtError> {
    static LIBRARY: OnceLock<Result<Library, TensorRtError>> = OnceLock::new();
    LIBRARY
        .get_or_init(|| open_first(&CANDIDATES))
        .as_ref()
        .map_err(Clone::clone)
}

fn open_first(candidates: &'static [Candidate]) -> Result<Library, TensorRtError> {
    if SHIMS.is_empty() {
        return Err(TensorRtError::NotBuilt);
    }
    let mut unusable = None;
    let mut details = String::new();
    for candidate in candidates {
        match Library::open(candidate) {
            Ok(Some(library)) => return Ok(library),
            Ok(None) => {}
            Err(OpenError::Broken(words)) => details.push_str(&format!(" ({words})")),
            Err(OpenError::Unusable(error)) => {
                gst::info!(log::category(), "{error}");
                unusable.get_or_insert(error);
            }
        }
    }
    Err(unusable.unwrap_or_else(|| TensorRtError::NotFound {
        looked_for: candidates
            .iter()
            .map(|candidate| candidate.runtime.to_owned())
            .collect(),
        details,
    }))
}
