//! PyTorch, CuPy and Numba take frames in GPU memory through pipelines/rsdetectnet.py, and the other way.

#[path = "../common/mod.rs"]
mod common;

use std::process::Command;

use common::*;

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn torch_cupy_and_numba_take_frames_where_they_lie() {
    let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    // A folder with the plugin alone, as GStreamer opens all libraries in one; and DeepStream's, where it is.
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(library(), folder.path().join("libgstrsdetectnet.so")).unwrap();
    let others = std::env::var_os("GST_PLUGIN_PATH").unwrap_or_default();
    let folders = [folder.path().to_owned()]
        .into_iter()
        .chain(std::env::split_paths(&others));
    let output = Command::new(python)
        .arg(tests_file("gpu/python.py"))
        .env("PYTHONPATH", tests_file("../pipelines"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONFAULTHANDLER", "1")
        .env("GST_PLUGIN_PATH", std::env::join_paths(folders).unwrap())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    println!("{text}");
    assert!(output.status.success(), "{}", output.status);
}
