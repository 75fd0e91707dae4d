//! The scripts for files; those for RTSP are in tests/rtsp.

use std::process::Output;

use crate::common::programs::{found_in, program, red_film, said};
use crate::common::{model, tests_file};

/// The properties of the model that finds coloured cells.
fn colors() -> [String; 2] {
    let labels = tests_file("models/colors.labels.txt");
    [
        format!("model={}", model("colors-ssd.onnx")),
        format!("labels={}", labels.display()),
    ]
}

fn lines(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn file_plays_a_film_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let film = red_film(folder.path(), 5);
    let mut script = program("file", folder.path());
    script.arg(&film).args(colors()).env("SINK", "fakesink");
    let output = script.output().unwrap();
    assert!(lines(&output).contains("Got EOS"), "{output:?}");
}

#[test]
fn json_writes_a_line_for_each_frame_in_which_something_is() {
    let folder = tempfile::tempdir().unwrap();
    let film = red_film(folder.path(), 5);
    let mut script = program("json", folder.path());
    let output = script.arg(&film).output().unwrap();
    assert_eq!(lines(&output), "");
    let mut script = program("json", folder.path());
    script.arg(&film).arg("lines.jsonl").args(colors());
    lines(&script.output().unwrap());
    let written = std::fs::read_to_string(folder.path().join("lines.jsonl")).unwrap();
    assert_eq!(written.lines().count(), 5);
    assert_eq!(written.matches(r#""label":"red""#).count(), 5);
}

#[test]
fn overlay_to_file_writes_a_film_with_boxes() {
    let folder = tempfile::tempdir().unwrap();
    let film = red_film(folder.path(), 5);
    let mut script = program("overlay-to-file", folder.path());
    script.arg(&film).arg("found.mp4").args(colors());
    lines(&script.output().unwrap());
    let (frames, _) = found_in(&folder.path().join("found.mp4"));
    assert_eq!(frames, 5);
}

#[test]
fn many_cameras_writes_the_lines_of_all() {
    let folder = tempfile::tempdir().unwrap();
    let film = red_film(folder.path(), 5);
    let uri = format!("file://{}", film.display());
    let mut script = program("many-cameras", folder.path());
    script
        .args([&uri, &uri])
        .env("PROPERTIES", colors().join(" "));
    let found = lines(&script.output().unwrap());
    assert_eq!(found.lines().count(), 10, "{found}");
    assert_eq!(found.matches(r#""label":"red""#).count(), 10);
    assert_eq!(found.matches(&uri).count(), 10);
}

#[test]
fn scripts_are_short_and_in_the_readme() {
    let readme = std::fs::read_to_string(tests_file("../README.md")).unwrap();
    for script in [
        "csi",
        "v4l2",
        "rtsp",
        "file",
        "many-cameras",
        "json",
        "overlay-to-file",
        "rtsp-server",
        "tee-to-recording",
    ] {
        let text = std::fs::read_to_string(tests_file("../pipelines").join(script)).unwrap();
        assert!(text.lines().count() <= 15, "{script}");
        assert!(
            readme.contains(&format!("(pipelines/{script})")),
            "{script}"
        );
    }
}
