//! The committed kernels.ptx is what kernels.cu says.

use std::path::Path;
use std::process::Command;

use gstrsdetectnet::{crop, decode, overlay, preprocess, thumbnail};

fn committed() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cuda/kernels.ptx");
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn kernels_ptx_is_made_from_kernels_cu() {
    let compiler = std::env::var("CLANG").unwrap_or_else(|_| "clang-14".into());
    if Command::new(&compiler).arg("--version").output().is_err() {
        eprintln!("not tested: {compiler} is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("kernels.ptx");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cuda/build-kernels");
    let status = Command::new(script).arg(&made).status().unwrap();
    assert!(status.success());
    assert!(
        std::fs::read_to_string(made).unwrap() == committed(),
        "run src/cuda/build-kernels and commit kernels.ptx"
    );
}

#[test]
fn every_gpu_since_the_jetson_nano_can_load_the_kernels() {
    let ptx = committed();
    let line = |start: &str| ptx.lines().find(|line| line.starts_with(start));
    assert_eq!(line(".version"), Some(".version 6.3"));
    assert_eq!(line(".target"), Some(".target sm_53"));
    assert!(
        !ptx.contains(".extern"),
        "a kernel calls what no driver has"
    );
    assert!(
        !ptx.contains(".local"),
        "a kernel needs memory that is slow"
    );
}

/// An assembler may make one operation, rounded once, of a product and a sum that do not say how they are rounded: then
/// numbers would not be those of the CPU.
#[test]
fn every_operation_of_the_kernels_is_rounded_on_its_own() {
    let ptx = committed();
    for operation in ["mul.f32", "add.f32", "sub.f32", "fma.f32", "mad.f32"] {
        assert!(!ptx.contains(operation), "{operation}");
    }
    assert!(ptx.contains("mul.rn.f32"));
}

#[test]
fn parameters_have_the_size_that_the_kernels_expect() {
    let ptx = committed();
    for (kernel, size) in [
        ("preprocess", size_of::<preprocess::cuda::Batch>()),
        ("decode", size_of::<decode::cuda::Launch>()),
        ("suppress", size_of::<decode::cuda::Launch>()),
        ("overlay", size_of::<overlay::draw::Canvas>()),
        ("crop", size_of::<crop::cuda::Launch>()),
        ("thumbnail", size_of::<thumbnail::cuda::Batch>()),
    ] {
        let declaration = format!("{kernel}_param_0[{size}]");
        assert!(ptx.contains(&declaration), "{declaration}");
    }
}
