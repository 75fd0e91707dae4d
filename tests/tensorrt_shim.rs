//! The TensorRT shim: which headers it is compiled against, what it links to, and what is said where TensorRT is
//! missing or of another release. Needs no GPU and no TensorRT.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use gstrsdetectnet::engine::tensorrt::{TensorRtError, Version, built_for, library};

use headers::HeaderSet;

#[path = "../src/engine/tensorrt/headers.rs"]
mod headers;

fn headers_here() -> Vec<HeaderSet> {
    headers::find(env::consts::ARCH, |name| env::var(name).ok())
}

fn shim_archives() -> Vec<PathBuf> {
    let folder = Path::new(env!("TENSORRT_SHIM_FOLDER"));
    headers_here()
        .iter()
        .map(|set| folder.join(format!("librsdetectnet_tensorrt_{}.a", set.suffix())))
        .collect()
}

fn undefined_symbols(archive: &Path) -> Vec<String> {
    let nm = Command::new("nm")
        .args(["--undefined-only", "--format=just-symbols"])
        .arg(archive)
        .output()
        .expect("nm is there, as the compiler's assembler is");
    assert!(
        nm.status.success(),
        "{}",
        String::from_utf8_lossy(&nm.stderr)
    );
    String::from_utf8(nm.stdout)
        .unwrap()
        .lines()
        .filter(|line| !line.is_empty() && !line.ends_with(':'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_shim_compiles_against_every_set_of_headers_on_this_machine() {
    let found: Vec<Version> = headers_here()
        .iter()
        .map(|set| Version {
            is_rtx: set.is_rtx,
            major: set.major,
            minor: set.minor,
            patch: set.patch,
        })
        .collect();
    assert_eq!(built_for(), found);
}

#[test]
fn the_shim_leaves_no_symbol_of_tensorrt_or_cuda_to_the_linker() {
    const LIBSTDCXX_AND_LIBC: [&str; 12] = [
        "_GLOBAL_OFFSET_TABLE_",
        "_ZSt7nothrow",
        "_ZdlPvm",
        "_ZnwmRKSt9nothrow_t",
        "__cxa_begin_catch",
        "__cxa_end_catch",
        "__gxx_personality_v0",
        "__stack_chk_fail",
        "memcpy",
        "memset",
        "strcmp",
        "vsnprintf",
    ];
    for archive in shim_archives() {
        for symbol in undefined_symbols(&archive) {
            let is_known = LIBSTDCXX_AND_LIBC.contains(&symbol.as_str());
            assert!(is_known, "{} needs {symbol}", archive.display());
        }
    }
}

#[test]
fn a_missing_tensorrt_is_an_error_that_names_what_was_looked_for() {
    match library() {
        Ok(library) => assert!(built_for().iter().any(|version| {
            (version.is_rtx, version.major) == (library.version().is_rtx, library.version().major)
        })),
        Err(TensorRtError::NotFound { looked_for, .. }) => assert_eq!(
            looked_for,
            [
                "libnvinfer.so.11",
                "libnvinfer.so.10",
                "libnvinfer.so.8",
                "libtensorrt_rtx.so.1"
            ]
        ),
        Err(TensorRtError::NotBuilt) => assert!(built_for().is_empty()),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_error_for_a_missing_tensorrt_is_one_sentence_that_says_what_to_do() {
    let error = TensorRtError::NotFound {
        looked_for: vec!["libnvinfer.so.10".into(), "libtensorrt_rtx.so.1".into()],
        details: " (libcudart.so.12: cannot open shared object file)".into(),
    };
    assert_eq!(
        error.to_string(),
        "TensorRT was not found; looked for libnvinfer.so.10, libtensorrt_rtx.so.1 (libcudart.so.12: cannot open \
         shared object file); install it, add its folder to LD_LIBRARY_PATH, or use backend=onnxruntime"
    );
}

/// Compiles a library that calls itself TensorRT 9.3 and has it opened by this test binary in a process of its own,
/// since the search path of libraries is read when a process starts.
#[test]
fn a_tensorrt_of_another_release_is_refused_by_an_error_that_names_both() {
    if built_for().is_empty() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("tensorrt.c");
    fs::write(&source, "int getInferLibVersion(void) { return 90300; }").unwrap();
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(folder.path().join("libnvinfer.so.11"))
        .arg(&source)
        .status()
        .unwrap();
    assert!(compiled.success());
    let child = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "child_opens_the_library",
            "--ignored",
            "--nocapture",
        ])
        .env("LD_LIBRARY_PATH", folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    if said.contains("opened: ") {
        return;
    }
    assert!(
        said.contains("libnvinfer.so.11 is TensorRT 9.3.0"),
        "{said}"
    );
    for version in built_for() {
        assert!(said.contains(&version.to_string()), "{said}");
    }
}

#[test]
#[ignore = "a child process of the test above"]
fn child_opens_the_library() {
    match library() {
        Ok(library) => println!("opened: {}", library.version()),
        Err(error) => println!("refused: {error}"),
    }
}

fn write_headers(folder: &Path, version: &str) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("NvInfer.h"), "").unwrap();
    fs::write(folder.join("NvOnnxParser.h"), "").unwrap();
    fs::write(folder.join("NvInferVersion.h"), version).unwrap();
}

fn numbers(major: u32, minor: u32, patch: u32) -> String {
    format!(
        "#define NV_TENSORRT_MAJOR {major} //!< TensorRT major version.\n\
         #define NV_TENSORRT_MINOR {minor} //!< TensorRT minor version.\n\
         #define NV_TENSORRT_PATCH {patch}\n"
    )
}

#[test]
fn a_header_says_its_version_in_numbers_or_by_the_names_of_other_macros() {
    assert_eq!(
        headers::parse_version(&numbers(8, 6, 1)),
        Some((false, 8, 6, 1))
    );
    let rtx = "#define TRT_MAJOR_RTX 1\n#define TRT_MINOR_RTX 4\n#define TRT_PATCH_RTX 0\n\
               #define NV_TENSORRT_MAJOR TRT_MAJOR_RTX //!< TensorRT major version.\n\
               #define NV_TENSORRT_MINOR TRT_MINOR_RTX\n#define NV_TENSORRT_PATCH TRT_PATCH_RTX\n";
    assert_eq!(headers::parse_version(rtx), Some((true, 1, 4, 0)));
    assert_eq!(headers::parse_version("#define NV_INFER_VERSION_H\n"), None);
}

#[test]
fn headers_are_found_in_every_folder_of_tensorrt_root_each_release_once() {
    let folder = tempfile::tempdir().unwrap();
    let root = |name: &str| folder.path().join(name);
    write_headers(
        &root("jetpack/include/aarch64-linux-gnu"),
        &numbers(10, 3, 0),
    );
    write_headers(&root("archive/include"), &numbers(8, 6, 1));
    write_headers(&root("include-only"), &numbers(10, 3, 0));
    write_headers(&root("too-old/include"), &numbers(8, 4, 3));
    let roots = ["jetpack", "archive", "include-only", "too-old"].map(root);
    let roots = env::join_paths(roots).unwrap().into_string().unwrap();
    let found = headers::find("aarch64", |name| {
        (name == "TENSORRT_ROOT").then(|| roots.clone())
    });
    let found: Vec<(PathBuf, String)> = found
        .into_iter()
        .filter(|set| set.folder.starts_with(folder.path()))
        .map(|set| (set.folder.clone(), set.suffix()))
        .collect();
    assert_eq!(
        found,
        [
            (root("jetpack/include/aarch64-linux-gnu"), "10_3".to_owned()),
            (root("archive/include"), "8_6".to_owned()),
        ]
    );
}

#[test]
fn fetched_headers_are_found_in_cargos_own_folder() {
    let home = tempfile::tempdir().unwrap();
    let package = home
        .path()
        .join("registry/src/index-1/trtx-sys-0.9.1+rtx1.7/TensorRT-Headers");
    write_headers(&package.join("TRT-Enterprise-99.1"), &numbers(99, 1, 0));
    fs::write(package.join("cuda_runtime_api.h"), "").unwrap();
    let cargo_home = home.path().to_str().unwrap().to_owned();
    let found = headers::find("x86_64", |name| {
        (name == "CARGO_HOME").then(|| cargo_home.clone())
    });
    let fetched = found.iter().find(|set| set.folder.starts_with(home.path()));
    assert_eq!(fetched.unwrap().suffix(), "99_1");
}
