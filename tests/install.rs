//! `pipelines/install`: a user has the plugin without setting anything, and is rid of it again.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::*;

/// Runs a program as a user whose home this folder is.
fn at_home(home: &Path, program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).env("HOME", home);
    command.env("GST_REGISTRY", home.join("registry.bin"));
    for variable in ["XDG_DATA_HOME", "GST_PLUGIN_PATH"] {
        command.env_remove(variable);
    }
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    let [out, error] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    format!("{out}{error}")
}

#[test]
fn an_installed_plugin_is_found_and_runs_with_its_own_onnx_runtime() {
    if std::env::var_os("ORT_DYLIB_PATH").is_none() {
        eprintln!("skipped: set ORT_DYLIB_PATH, as tests/run does");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let script = tests_file("../pipelines/install");
    let script = script.to_str().unwrap();
    let plugin = library();
    let arguments = ["--plugin", plugin.to_str().unwrap()];
    // The second time takes the place of the first.
    for _ in 0..2 {
        let installed = at_home(home, script, &arguments);
        assert!(installed.status.success(), "{}", text(&installed));
        assert!(text(&installed).contains("The plugin is in "));
    }
    let folder = home.join(".local/share/gstreamer-1.0/plugins");
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files.len(), 2, "{files:?}");
    assert_eq!(files[0], "libgstrsdetectnet.so");
    assert!(files[1].starts_with("libonnxruntime.so."), "{files:?}");

    let ran = Command::new("gst-launch-1.0")
        .args(
            "-m videotestsrc num-buffers=1 ! rsdetectnet post-messages=true ! fakesink".split(' '),
        )
        .env("HOME", home)
        .env("GST_REGISTRY", home.join("registry.bin"))
        .env_remove("XDG_DATA_HOME")
        .env_remove("GST_PLUGIN_PATH")
        .env_remove("ORT_DYLIB_PATH")
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", text(&ran));
    assert!(text(&ran).contains("rsdetectnet, frame="), "{}", text(&ran));

    let gone = at_home(home, script, &["--uninstall"]);
    assert!(gone.status.success(), "{}", text(&gone));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    let looked = at_home(home, "gst-inspect-1.0", &["rsdetectnet"]);
    assert!(!looked.status.success());
}

#[test]
fn what_is_wrong_is_said() {
    let home = tempfile::tempdir().unwrap();
    let script = tests_file("../pipelines/install");
    for (arguments, sentence) in [
        (&["--plugin"][..], "--plugin needs a file"),
        (&["--plugin", "/no.so"], "there is no /no.so"),
        (&["--everything"], "usage: pipelines/install"),
    ] {
        let output = at_home(home.path(), script.to_str().unwrap(), arguments);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output).contains(sentence), "{}", text(&output));
    }
}
