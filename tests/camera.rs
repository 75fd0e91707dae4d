//! `pipelines/detectnet-camera` with files, and the scripts beside it; what needs another machine is negotiated with
//! stand-ins for its elements.

mod common;

#[path = "camera/scripts.rs"]
mod scripts;
#[path = "camera/stand_ins.rs"]
mod stand_ins;

use std::process::Output;

use common::programs::{command, found_in, program, python_runs, red_film, said, with_colors};

/// What `--print` says.
fn printed(arguments: &[&str]) -> String {
    let output = run(&[&["--print"], arguments].concat());
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(said(&output), "");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn run(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = program("detectnet-camera", folder.path());
    command.args(arguments).output().unwrap()
}

#[test]
fn a_file_becomes_a_film_pictures_and_lines_and_the_printed_command_does_the_same() {
    if !python_runs() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let film = red_film(folder.path(), 12);
    let mut camera = program("detectnet-camera", folder.path());
    camera
        .arg("--camera")
        .arg(&film)
        .args(["my found.mp4", "image-%d.jpg", "json", "--overlay=none"])
        .args(with_colors("colors-ssd.onnx"));
    let output = camera.output().unwrap();
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let check = |lines: &str| {
        assert_eq!(lines.lines().count(), 12, "{lines}");
        assert_eq!(lines.matches(r#""label":"red""#).count(), 12, "{lines}");
        let written = folder.path().join("my found.mp4");
        let moved = folder.path().join("found.mp4");
        std::fs::rename(written, &moved).unwrap();
        assert_eq!(found_in(&moved), (12, 12));
        for number in 0..12 {
            let picture = folder.path().join(format!("image-{number}.jpg"));
            assert!(std::fs::read(&picture).unwrap().starts_with(&[0xff, 0xd8]));
            std::fs::remove_file(picture).unwrap();
        }
    };
    check(&lines);
    let summary = said.lines().last().unwrap();
    let wanted = "colors-ssd.onnx: 12 frames, 12 inspected, 12 detections";
    assert!(summary.contains(wanted), "{summary}");

    let typed = said.lines().next().unwrap();
    assert!(
        typed.starts_with("gst-launch-1.0 -e -q filesrc "),
        "{typed}"
    );
    let mut shell = command("bash", folder.path());
    let output = shell.args(["-c", typed]).output().unwrap();
    assert!(output.status.success(), "{typed}: {output:?}");
    check(&String::from_utf8(output.stdout).unwrap());
}

#[test]
fn the_options_of_jetson_inference_become_properties_and_caps() {
    if !python_runs() {
        return;
    }
    let line = printed(&[
        "--platform=software",
        "--camera=0",
        "--network=yolov5s.onnx",
        "--labels=coco.txt",
        "--threshold=0.3",
        "--overlay=lines,labels|conf",
        "--width=640",
        "--height=480",
        "classes=person",
    ]);
    for part in [
        "v4l2src device=/dev/video0 ! 'video/x-raw,width=640,height=480;image/jpeg,width=640,height=480' ! decodebin",
        " model=yolov5s.onnx threshold=0.3 labels=coco.txt overlay=box,label,confidence ",
        " classes=person ! ",
        "! autovideosink sync=false",
    ] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    let line = printed(&[
        "rtsp://camera/stream",
        "udp://viewer:5000",
        "--platform=software",
    ]);
    assert!(line.contains(
        "rtspsrc location=rtsp://camera/stream latency=100 drop-on-latency=true protocols=tcp"
    ));
    assert!(
        line.ends_with("udpsink host=viewer port=5000 sync=false"),
        "{line}"
    );
    let line = printed(&["v4l2:///dev/video2", "--headless", "--platform=software"]);
    assert!(
        line.contains("v4l2src device=/dev/video2 ! decodebin"),
        "{line}"
    );
    assert!(line.ends_with("! queue ! fakesink sync=false"), "{line}");
    let line = printed(&["rtsp://camera/stream", "found.mp4", "--platform=cuda"]);
    assert!(
        line.contains("! cudaupload ! 'video/x-raw(memory:CUDAMemory)' !"),
        "{line}"
    );
    assert!(
        line.contains("! nvh264enc gop-size=30 ! h264parse ! mp4mux ! filesink location=found.mp4")
    );
}

#[test]
fn detectnet_camera_says_in_one_sentence_what_is_wrong() {
    if !python_runs() {
        return;
    }
    for (arguments, sentence) in [
        (
            &["nothing.mp4"][..],
            "nothing.mp4 is no camera, no address and no file",
        ),
        (
            &["csi://0", "--platform=software"],
            "csi://0 needs nvarguscamerasrc, which only a Jetson has",
        ),
        (&["0", "found.xyz"], "found.xyz is no output"),
        (&["0", "--width=640"], "--width and --height go together"),
        (&["/dev/video99", "--headless"], "/dev/video99"),
        (&["0", "--headless", "colour=red"], "no property \"colour\""),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = said(&output);
        // The command comes before what GStreamer finds wrong in it.
        let said: Vec<_> = said
            .lines()
            .filter(|line| !line.starts_with("gst-launch"))
            .collect();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains(sentence), "{said:?}");
    }
}
