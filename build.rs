//! Compiles the TensorRT shim (`src/engine/tensorrt/shim.cpp`) once for each set of TensorRT headers on this
//! machine, and writes the list of the results for `src/engine/tensorrt/shim.rs`.
//!
//! `src/engine/tensorrt/headers.rs` says where headers are looked for. Where there are none, or no C++
//! compiler, the crate builds without TensorRT and `backend=tensorrt` says so when it is asked for.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use headers::HeaderSet;

#[path = "src/engine/tensorrt/headers.rs"]
mod headers;

const SHIM: &str = "src/engine/tensorrt";
const SOURCES: [&str; 6] = [
    "headers.rs",
    "shim.h",
    "shim.cpp",
    "build.hpp",
    "common.hpp",
    "cuda_runtime_api.h",
];

fn main() {
    gst_plugin_version_helper::info();
    say_when_to_run_again();

    let architecture = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let sets = headers::find(&architecture, |name| env::var(name).ok());
    let compiled: Vec<&HeaderSet> = sets.iter().filter(|set| compile(set)).collect();
    warn_of_what_is_missing(&sets, compiled.len());
    let folder = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(
        Path::new(&folder).join("tensorrt_shims.rs"),
        list(&compiled),
    )
    .expect("OUT_DIR is writable");
    println!("cargo:rustc-env=TENSORRT_SHIM_FOLDER={folder}");
}

/// The lock file that `cargo fetch` leaves in `tests/tensorrt-headers` is how cargo learns of new headers.
fn say_when_to_run_again() {
    for path in ["build.rs", "Cargo.toml", "tests/tensorrt-headers"] {
        if Path::new(path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    for file in SOURCES {
        println!("cargo:rerun-if-changed={SHIM}/{file}");
    }
    for variable in ["TENSORRT_ROOT", "CARGO_HOME"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
}

fn warn_of_what_is_missing(sets: &[HeaderSet], compiled: usize) {
    let roots = env::var_os("TENSORRT_ROOT").unwrap_or_default();
    for root in env::split_paths(&roots).filter(|root| !root.as_os_str().is_empty()) {
        if !sets.iter().any(|set| set.folder.starts_with(&root)) {
            println!(
                "cargo:warning=TENSORRT_ROOT: {} adds no headers of TensorRT 8.5 or later or TensorRT-RTX 1.3 or later",
                root.display()
            );
        }
    }
    if compiled == 0 {
        println!(
            "cargo:warning=no TensorRT headers were found, so this build has no TensorRT backend; set TENSORRT_ROOT \
             or run: cargo fetch --manifest-path tests/tensorrt-headers/Cargo.toml"
        );
    }
}

/// Compiles the shim against one set of headers; `false`, with a warning, where that fails.
fn compile(set: &HeaderSet) -> bool {
    let suffix = set.suffix();
    println!(
        "cargo:rerun-if-changed={}",
        set.folder.join("NvInferVersion.h").display()
    );
    let result = cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        .file(format!("{SHIM}/shim.cpp"))
        .include(SHIM)
        .include(&set.folder)
        .warnings(false)
        .flag("-fno-rtti")
        .flag("-fvisibility=hidden")
        .flag("-Wno-deprecated-declarations")
        .define("RSDETECTNET_SHIM", symbol(set).as_str())
        .define("nvinfer1", format!("nvinfer1_{suffix}").as_str())
        .define("nvonnxparser", format!("nvonnxparser_{suffix}").as_str())
        .try_compile(&symbol(set));
    if let Err(error) = &result {
        println!(
            "cargo:warning=the TensorRT shim does not compile against {}, so this build leaves that release out: {error}",
            set.folder.display()
        );
    }
    result.is_ok()
}

fn symbol(set: &HeaderSet) -> String {
    format!("rsdetectnet_tensorrt_{}", set.suffix())
}

fn list(sets: &[&HeaderSet]) -> String {
    let mut declarations = String::new();
    let mut entries = String::new();
    for set in sets {
        let symbol = symbol(set);
        let _ = writeln!(declarations, "    safe static {symbol}: Shim;");
        let _ = writeln!(entries, "    &{symbol},");
    }
    format!(
        "unsafe extern \"C\" {{\n{declarations}}}\n\n\
         /// The tables of all shims in this build.\n\
         pub static SHIMS: &[&Shim] = &[\n{entries}];\n"
    )
}
