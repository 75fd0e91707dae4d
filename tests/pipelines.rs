//! The programs of `pipelines/`, run as their users run them.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::*;
use gst::prelude::*;

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

/// Runs `pipelines/crops` with the plugin that cargo built beside the tests; None where Python cannot.
fn crops(folder: &Path, arguments: &[&str]) -> Option<Output> {
    let plugins = folder.join("plugins");
    if !plugins.is_dir() {
        std::fs::create_dir(&plugins).unwrap();
        std::os::unix::fs::symlink(library(), plugins.join("libgstrsdetectnet.so")).unwrap();
    }
    crops_with(&plugins, folder, arguments)
}

fn crops_with(plugins: &Path, folder: &Path, arguments: &[&str]) -> Option<Output> {
    let output = Command::new(tests_file("../pipelines/crops"))
        .args(arguments)
        .current_dir(folder)
        .env("GST_PLUGIN_PATH", plugins)
        .env("GST_REGISTRY", folder.join("registry.bin"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let missing = String::from_utf8_lossy(&output.stderr).contains("install python3-gi");
    if missing {
        eprintln!("skipped: install python3-gi and gir1.2-gst-plugins-base-1.0");
    }
    (!missing).then_some(output)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn crops_writes_a_jpeg_for_every_object_named_by_label_and_time() {
    let folder = tempfile::tempdir().unwrap();
    let film = film(folder.path());
    let model = format!("model={}", model("colors-ssd.onnx"));
    let labels = tests_file("models/colors.labels.txt");
    let labels = format!("labels={}", labels.display());
    let film = film.to_str().unwrap();
    let arguments = [film, "100% found", &model, &labels];
    let Some(output) = crops(folder.path(), &arguments) else {
        return;
    };
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8_lossy(&output.stdout);
    let (pipeline, end) = printed.trim().split_once('\n').unwrap();
    assert_eq!(end, "30 objects in 100% found");
    let found = folder.path().join("100% found");
    let mut names: Vec<_> = std::fs::read_dir(&found)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names.len(), 30);
    assert_eq!(names[0], "blue-00-00-00.000-0.jpg");
    assert_eq!(names[1], "blue-00-00-00.033-0.jpg");
    assert_eq!(names[20], "red-00-00-00.333-0.jpg");
    for name in names {
        let jpeg = std::fs::read(found.join(&name)).unwrap();
        assert!(
            jpeg.starts_with(&[0xff, 0xd8]) && jpeg.ends_with(&[0xff, 0xd9]),
            "{name}"
        );
    }
    // What was printed is what one may type.
    let typed = Command::new("sh")
        .args(["-c", &pipeline.replace("100%% found/", "typed-")])
        .current_dir(folder.path())
        .env("GST_PLUGIN_PATH", folder.path().join("plugins"))
        .env("GST_REGISTRY", folder.path().join("registry.bin"))
        .output()
        .unwrap();
    assert!(typed.status.success(), "{typed:?}");
    assert!(folder.path().join("typed-object-00029.jpg").is_file());
    assert!(!folder.path().join("typed-object-00030.jpg").exists());
}

#[test]
fn objects_of_one_label_in_one_frame_are_numbered() {
    let folder = tempfile::tempdir().unwrap();
    let picture = Picture::grey(320, 240)
        .with_cell(1, 1, RED)
        .with_cell(6, 6, RED);
    let path = folder.path().join("two.png");
    write_png(&picture, &path);
    let model = format!("model={}", model("colors-ssd.onnx"));
    let labels = tests_file("models/colors.labels.txt");
    let labels = format!("labels={}", labels.display());
    // No folder: objects/ is made here.
    let arguments = [path.to_str().unwrap(), &model, &labels];
    let Some(output) = crops(folder.path(), &arguments) else {
        return;
    };
    assert!(output.status.success(), "{output:?}");
    for name in ["red-00-00-00.000-0.jpg", "red-00-00-00.000-1.jpg"] {
        assert!(
            folder.path().join("objects").join(name).is_file(),
            "no {name}"
        );
    }
}

fn write_png(picture: &Picture, path: &Path) {
    let file = std::fs::File::create(path).unwrap();
    let mut encoder = png::Encoder::new(file, picture.width, picture.height);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&picture.rgb).unwrap();
}

#[test]
fn crops_says_in_one_sentence_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let film = film(folder.path());
    let film = film.to_str().unwrap();
    let unwritable = "/proc/objects";
    for (arguments, sentence) in [
        (&["csi://front"][..], "csi://front is no camera"),
        (&["no-film.mp4"], "no-film.mp4 is no file, no address"),
        (&["file:///no/film.mp4"], "No such file"),
        (&["/dev/video99"], "/dev/video99"),
        (&[film, "objects", "colour=red"], "no property \"colour\""),
        (&[film, "objects", "threshold=high"], "\"threshold\""),
        (&[film, "objects", "model=no.onnx"], "no model 'no.onnx'"),
        (&[film, "objects", "more"], "more is not PROPERTY=VALUE"),
        (&[film, unwritable], unwritable),
    ] {
        let Some(output) = crops(folder.path(), arguments) else {
            return;
        };
        assert_eq!(output.status.code(), Some(1));
        let said = said(&output);
        assert!(said.contains(sentence), "{said}");
        assert_eq!(said.trim().lines().count(), 1, "{said}");
    }
    let usage = crops(folder.path(), &[]).unwrap();
    assert!(said(&usage).starts_with("usage: crops SOURCE [FOLDER]"));
    let nowhere = crops_with(Path::new("/nowhere"), folder.path(), &[film]).unwrap();
    assert!(said(&nowhere).contains("in /nowhere: run pipelines/demo first"));
}
