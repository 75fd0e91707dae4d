//! What the element says where NVIDIA's libraries are missing or others, and what it does then. Each case is a process
//! of its own, since a process finds its libraries once.

mod common;
#[path = "common/stand_in.rs"]
mod stand_in;

use std::path::Path;
use std::process::Command;

use common::*;
use gst::prelude::*;
use gstrsdetectnet::engine::tensorrt::{Version, built_for};
use stand_in::{write_driver, write_tensorrt};

/// What an element said that found its libraries in this folder first, and whether it detects; and its log.
fn said_and_logged(folder: &Path, backend: &str) -> (String, String) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_starts", "--ignored", "--nocapture"])
        .env("LD_LIBRARY_PATH", folder)
        .env("GST_REGISTRY_UPDATE", "no")
        .env("GST_DEBUG", "rsdetectnet*:4")
        .env("RSDETECTNET_TEST_BACKEND", backend)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    (text, String::from_utf8(output.stderr).unwrap())
}

fn said(folder: &Path, backend: &str) -> String {
    said_and_logged(folder, backend).0
}

#[test]
#[ignore = "a child process of the tests here"]
fn child_starts() {
    let Ok(backend) = std::env::var("RSDETECTNET_TEST_BACKEND") else {
        return;
    };
    let element = colors_element("colors-ssd.onnx").build().unwrap();
    element.set_property_from_str("backend", &backend);
    let bus = listen(&element);
    let started = element.set_state(gst::State::Paused).is_ok();
    while let Some(message) = bus.pop() {
        match message.view() {
            gst::MessageView::Progress(progress) => println!("{}", progress.get().2),
            gst::MessageView::Error(error) => println!("error: {}", error.error()),
            _ => {}
        }
    }
    element.set_state(gst::State::Null).unwrap();
    if started {
        let picture = four_cells();
        let sample = gst::Sample::builder()
            .buffer(&picture.buffer())
            .caps(&picture.info().to_caps().unwrap())
            .build();
        println!("{} detections", detect_one(&element, &sample).len());
    }
}

/// Asserts that the GPU is refused with this sentence, and that backend=auto says it and detects on the CPU.
fn assert_refused(folder: &Path, sentence: &str) {
    let refused = said(folder, "tensorrt");
    let error = refused.lines().find(|line| line.starts_with("error: "));
    assert!(error.unwrap_or_default().contains(sentence), "{refused}");
    assert_not_on_a_gpu(folder, sentence);
}

fn assert_not_on_a_gpu(folder: &Path, sentence: &str) {
    let (played, log) = said_and_logged(folder, "auto");
    let reason = played.lines().find(|line| line.starts_with("Not on a GPU"));
    assert!(reason.unwrap_or_default().contains(sentence), "{played}");
    assert!(played.contains(" runs on ONNX Runtime"), "{played}");
    assert!(played.contains("4 detections"), "{played}");
    let told = log.to_lowercase().matches("not on a gpu").count();
    assert_eq!(told, 2, "not once in each of two starts: {log}");
    assert!(log.lines().count() <= 2 * 15, "{log}");
}

#[test]
fn a_driver_without_a_gpu_is_one_sentence_and_the_cpu_with_backend_auto() {
    let folder = tempfile::tempdir().unwrap();
    write_driver(folder.path(), 100);
    assert_refused(
        folder.path(),
        "the NVIDIA driver cannot be used: cuInit failed with CUDA_ERROR_NO_DEVICE (100)",
    );
}

#[test]
fn a_tensorrt_that_is_missing_too_old_or_too_new_is_the_cpu_with_backend_auto_which_says_so() {
    if built_for().is_empty() {
        return;
    }
    let missing = tempfile::tempdir().unwrap();
    write_driver(missing.path(), 0);
    if !said(missing.path(), "auto").contains("TensorRT was not found") {
        println!("NOT TESTED: this machine has a TensorRT");
        return;
    }
    assert_not_on_a_gpu(
        missing.path(),
        "TensorRT was not found; looked for libnvinfer",
    );
    for (file, version, name) in [
        ("libnvinfer.so.8", 7203, "TensorRT 7.2.3"),
        ("libnvinfer.so.11", 990_100, "TensorRT 99.1.0"),
        ("libtensorrt_rtx.so.1", 10_200, "TensorRT-RTX 1.2.0"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        write_driver(folder.path(), 0);
        write_tensorrt(folder.path(), file, version);
        assert_not_on_a_gpu(folder.path(), &format!("{file} is {name}, but this build"));
    }
}

#[test]
fn a_tensorrt_without_its_parser_is_the_cpu_with_backend_auto_which_says_so() {
    // A release for which there is a shim, by the name that it goes by.
    let served = built_for().into_iter().find_map(|version| {
        let Version { major, minor, .. } = version;
        let file = match version.is_rtx {
            true => "libtensorrt_rtx.so.1".to_owned(),
            false if major >= 10 => format!("libnvinfer.so.{major}"),
            false => return None,
        };
        Some((file, (10_000 * major + 100 * minor) as i32))
    });
    let Some((file, version)) = served else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    write_driver(folder.path(), 0);
    write_tensorrt(folder.path(), &file, version);
    if said(folder.path(), "auto").contains("there is no GPU 0") {
        println!("NOT TESTED: the system's own search path has a parser");
        return;
    }
    assert_not_on_a_gpu(folder.path(), "ONNX parser lib");
}

#[test]
fn without_either_engine_one_error_says_what_both_lack() {
    let folder = tempfile::tempdir().unwrap();
    write_driver(folder.path(), 100);
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_starts", "--ignored", "--nocapture"])
        .env("LD_LIBRARY_PATH", folder.path())
        .env("GST_REGISTRY_UPDATE", "no")
        .env("RSDETECTNET_TEST_BACKEND", "auto")
        .env("ORT_DYLIB_PATH", folder.path().join("nothing.so"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let error = text.lines().find(|line| line.starts_with("error: "));
    let error = error.unwrap_or_else(|| panic!("{text}"));
    for part in [
        "nothing.so, which is no file",
        "Nor can its GPU be used",
        "CUDA_ERROR_NO_DEVICE",
    ] {
        assert!(error.contains(part), "{error}");
    }
}
