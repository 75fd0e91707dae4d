//! NVIDIA's libraries are missing, or of another release, or there is no GPU: one sentence with backend=tensorrt, and
//! the CPU with backend=auto.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use gstrsdetectnet::engine::tensorrt::library;

use crate::media::{COLORS_SSD, shared_cache};
use crate::playing::{assert_colorful, attempt, colorful_frames};
use crate::process::{alone, is_child, printed};
use crate::stand_in::write_tensorrt;

const BACKEND: &str = "RSDETECTNET_TEST_BACKEND";

#[test]
#[ignore = "a child process of the tests below"]
fn child_starts() {
    let Ok(backend) = env::var(BACKEND) else {
        return;
    };
    if !is_child() {
        return;
    }
    let detector = COLORS_SSD.detector(&shared_cache());
    let detector = detector.replace("backend=tensorrt", &format!("backend={backend}"));
    println!();
    match attempt(&detector, &colorful_frames(3)) {
        Ok(played) => {
            assert_colorful(&played);
            for text in played.progress {
                println!("{text}");
            }
            println!("it detects");
        }
        Err(error) => println!("error: {error}"),
    }
}

fn said(backend: &str, environment: &[(&str, &str)]) -> String {
    let environment = [environment, &[(BACKEND, backend)]].concat();
    printed("libraries::child_starts", &environment, 90).unwrap()
}

/// Asserts that the GPU is refused by this sentence, and that backend=auto says it and detects on the CPU, or says what
/// that lacks as well.
fn assert_refused(environment: &[(&str, &str)], words: &str) {
    let refused = said("tensorrt", environment);
    let error = refused.lines().find(|line| line.starts_with("error: "));
    let error = error.unwrap_or_else(|| panic!("{refused}"));
    println!("{error}");
    assert!(error.contains(words), "{words}: {error}");

    let played = said("auto", environment);
    if let Some(error) = played.lines().find(|line| line.starts_with("error: ")) {
        println!("{error}");
        assert!(
            error.contains("ONNX Runtime") && error.contains(words),
            "{error}"
        );
        return;
    }
    let reason = played
        .lines()
        .find(|line| line.starts_with("Not on a GPU: "));
    let reason = reason.unwrap_or_else(|| panic!("{played}"));
    println!("{reason}");
    assert!(reason.contains(words), "{words}: {reason}");
    assert!(played.contains(" runs on ONNX Runtime"), "{played}");
    assert!(played.contains("it detects"), "{played}");
}

/// The file of the TensorRT that this machine has.
fn tensorrt_file() -> PathBuf {
    let name = library().unwrap().name();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let stem = name.split(".so").next().unwrap();
    let paths = maps
        .lines()
        .filter_map(|line| line.find('/').map(|at| &line[at..]));
    let mut paths = paths.filter(|path| {
        let file = path.rsplit('/').next().unwrap_or_default();
        file.starts_with(stem) && file[stem.len()..].starts_with(".so")
    });
    PathBuf::from(paths.next().expect("TensorRT is loaded"))
}

/// A search path for libraries that begins with `first` and has all of this process's folders but TensorRT's.
fn path_without_tensorrt(first: Option<&Path>) -> String {
    let hidden = tensorrt_file().parent().unwrap().canonicalize().unwrap();
    let own = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let folders = env::split_paths(&own).filter(|folder| {
        let folder = folder.canonicalize();
        folder.is_ok_and(|folder| folder != hidden)
    });
    let first = first.map(Path::to_owned).into_iter();
    let path = env::join_paths(first.chain(folders)).unwrap();
    path.into_string().unwrap()
}

/// Whether TensorRT is out of sight; it is not where the system itself knows it.
fn is_hidden(path: &str) -> bool {
    let hidden = !said("tensorrt", &[("LD_LIBRARY_PATH", path)]).contains("it detects");
    if !hidden {
        println!("NOT TESTED: the system's own search path has TensorRT");
    }
    hidden
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn a_machine_whose_gpu_is_hidden_says_so_or_detects_on_the_cpu() {
    let test = "libraries::a_machine_whose_gpu_is_hidden_says_so_or_detects_on_the_cpu";
    alone(test, 120, || {
        let words =
            "the NVIDIA driver cannot be used: cuInit failed with CUDA_ERROR_NO_DEVICE (100)";
        assert_refused(&[("CUDA_VISIBLE_DEVICES", "")], words);
    });
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn a_gpu_without_tensorrt_says_so_or_detects_on_the_cpu() {
    let test = "libraries::a_gpu_without_tensorrt_says_so_or_detects_on_the_cpu";
    alone(test, 120, || {
        let path = path_without_tensorrt(None);
        if is_hidden(&path) {
            assert_refused(
                &[("LD_LIBRARY_PATH", &path)],
                "TensorRT was not found; looked for libnvinfer.so.11",
            );
        }
    });
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn a_gpu_with_a_tensorrt_too_old_or_too_new_says_so_or_detects_on_the_cpu() {
    let test = "libraries::a_gpu_with_a_tensorrt_too_old_or_too_new_says_so_or_detects_on_the_cpu";
    alone(test, 240, || {
        if !is_hidden(&path_without_tensorrt(None)) {
            return;
        }
        for (file, version, name) in [
            ("libnvinfer.so.8", 7203, "TensorRT 7.2.3"),
            ("libnvinfer.so.11", 990_100, "TensorRT 99.1.0"),
            ("libtensorrt_rtx.so.1", 10_200, "TensorRT-RTX 1.2.0"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            write_tensorrt(folder.path(), file, version);
            let path = path_without_tensorrt(Some(folder.path()));
            let words = format!("{file} is {name}, but this build of rsdetectnet is for ");
            assert_refused(&[("LD_LIBRARY_PATH", &path)], &words);
        }
    });
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn a_tensorrt_without_its_parser_says_so_or_detects_on_the_cpu() {
    let test = "libraries::a_tensorrt_without_its_parser_says_so_or_detects_on_the_cpu";
    alone(test, 150, || {
        if !is_hidden(&path_without_tensorrt(None)) {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        // What it finds beside itself it must not find here either; a copy is gigabytes.
        let file = tensorrt_file().canonicalize().unwrap();
        symlink(&file, folder.path().join(library().unwrap().name())).unwrap();
        let path = path_without_tensorrt(Some(folder.path()));
        let cache = tempfile::tempdir().unwrap();
        let environment = [
            ("LD_LIBRARY_PATH", path.as_str()),
            // Engines that are kept need no parser.
            ("TMPDIR", cache.path().to_str().unwrap()),
        ];
        assert_refused(&environment, "TensorRT's ONNX parser lib");
    });
}
