//! PyTorch, CuPy and Numba take frames in GPU memory through pipelines/rsdetectnet.py, and the other way.

#[path = "../common/mod.rs"]
mod common;

use std::process::Command;

use common::*;

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn torch_cupy_and_numba_take_frames_where_they_lie() {
    let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let output = Command::new(python)
        .arg(tests_file("gpu/python.py"))
        .env("PYTHONPATH", tests_file("../pipelines"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("GST_PLUGIN_PATH", library().parent().unwrap())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    println!("{text}");
    assert!(output.status.success());
}
