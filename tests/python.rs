//! pipelines/rsdetectnet.py does what it promises with this system's Python and GStreamer.

mod common;

use std::process::Command;

use common::*;

/// Runs a file of tests/python, in which so many tests pass; skipped where Python lacks what it needs.
fn run(file: &str, tests: usize) {
    // The system's own Python, as PyGObject belongs to it.
    let python = "/usr/bin/python3";
    let present = Command::new(python)
        .args([
            "-c",
            "import gi, numpy; gi.require_version('GstApp', '1.0')",
        ])
        .output();
    if !present.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: install python3-gi, python3-numpy and gir1.2-gst-plugins-base-1.0");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(library(), folder.path().join("libgstrsdetectnet.so")).unwrap();
    let pipelines = tests_file("../pipelines");
    let output = Command::new(python)
        .arg(tests_file("python").join(file))
        .env("PYTHONPATH", pipelines)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("GST_PLUGIN_PATH", folder.path())
        .env("GST_REGISTRY", folder.path().join("registry.bin"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let ran = format!("Ran {tests} tests");
    assert!(text.contains(&ran) && !text.contains("skipped"), "{text}");
}

#[test]
fn python_reads_detections_and_sees_frames_without_a_copy() {
    run("test_rsdetectnet.py", 24);
}

#[test]
fn what_the_readme_says_to_those_who_write_python_is_true() {
    run("test_readme.py", 4);
}

#[test]
fn the_embedding_example_in_python_saves_each_person_once() {
    run("test_embed.py", 3);
}

#[test]
fn what_kubernetes_and_docker_are_given_fits_together() {
    let yaml = Command::new("/usr/bin/python3")
        .args(["-c", "import yaml"])
        .output();
    if yaml.is_ok_and(|output| output.status.success()) {
        run("test_deploy.py", 4);
    } else {
        eprintln!("skipped: install python3-yaml");
    }
}
