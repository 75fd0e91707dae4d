//! The programs of `pipelines/`, run as their users run them.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::*;
use gst::prelude::*;

/// A program that cargo built beside the tests.
fn program(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests
        .ancestors()
        .nth(2)
        .unwrap()
        .join("examples")
        .join(name);
    assert!(
        program.is_file(),
        "{} is missing: run cargo build --examples first",
        program.display()
    );
    program
}

/// A film of 20 frames with a blue cell, and a red one from the tenth frame on.
fn film(folder: &Path) -> PathBuf {
    init();
    let path = folder.join("film.avi");
    let pipeline = gst::parse::launch(&format!(
        "appsrc name=in format=time ! videoconvert ! video/x-raw,format=I420 ! jpegenc quality=100 ! \
         avimux ! filesink location={}",
        path.display()
    ))
    .unwrap()
    .downcast::<gst::Pipeline>()
    .unwrap();
    let source = pipeline.by_name("in").unwrap();
    let source = source.downcast::<gst_app::AppSrc>().unwrap();
    let picture = Picture::grey(320, 240).with_cell(3, 4, BLUE);
    source.set_caps(Some(&picture.info().to_caps().unwrap()));
    pipeline.set_state(gst::State::Playing).unwrap();
    for number in 0..20 {
        let picture = match number < 10 {
            true => picture.clone(),
            false => picture.clone().with_cell(6, 1, RED),
        };
        let mut buffer = picture.buffer();
        let edit = buffer.get_mut().unwrap();
        let frame = gst::ClockTime::SECOND / 30;
        edit.set_pts(frame * number);
        edit.set_duration(frame);
        source.push_buffer(buffer).unwrap();
    }
    source.end_of_stream().unwrap();
    let end = [gst::MessageType::Eos, gst::MessageType::Error];
    let bus = pipeline.bus().unwrap();
    let message = bus
        .timed_pop_filtered(gst::ClockTime::from_seconds(60), &end)
        .unwrap();
    assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
    pipeline.set_state(gst::State::Null).unwrap();
    path
}

fn crops(arguments: &[&str]) -> Output {
    Command::new(program("crops"))
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn crops_writes_a_jpeg_for_every_object_named_by_label_and_time() {
    let folder = tempfile::tempdir().unwrap();
    let film = film(folder.path());
    let objects = folder.path().join("objects");
    let output = crops(&[
        film.to_str().unwrap(),
        objects.to_str().unwrap(),
        &format!("model={}", model("colors-ssd.onnx")),
        &format!(
            "labels={}",
            tests_file("models/colors.labels.txt").display()
        ),
    ]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "30 objects");
    let mut names: Vec<_> = std::fs::read_dir(&objects)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names.len(), 30);
    assert_eq!(names[0], "blue-00-00-00.000-0001.jpg");
    assert_eq!(
        names
            .iter()
            .filter(|name| name.starts_with("red-00-00-00."))
            .count(),
        10
    );
    for name in names {
        let jpeg = std::fs::read(objects.join(&name)).unwrap();
        assert!(
            jpeg.starts_with(&[0xff, 0xd8]) && jpeg.ends_with(&[0xff, 0xd9]),
            "{name}"
        );
    }
}

#[test]
fn crops_says_what_is_wrong_with_its_arguments() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().to_str().unwrap();
    for (arguments, sentence) in [
        (&[][..], "usage: crops SOURCE FOLDER"),
        (&["csi:front", to], "csi:front is no camera"),
        (
            &["file:///no/film.mp4", to, "colour=red"],
            "no property colour",
        ),
        (&["no-film.mp4", to], "no-film.mp4 is no file"),
        (&["file:///no/film.mp4", to], "No such file"),
    ] {
        let output = crops(arguments);
        assert!(!output.status.success());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(sentence), "{said}");
    }
}
