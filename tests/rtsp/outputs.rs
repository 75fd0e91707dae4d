//! What `pipelines/detectnet-camera` and the scripts make of an RTSP camera.

use std::time::Duration;

use rustix::process::Signal;

use crate::common::programs::{
    Running, detector, found_in, play, program, python_runs, red_film, with_colors,
};
use crate::common::{model, tests_file};
use crate::server::Server;

const LONG: Duration = Duration::from_secs(30);
const FOUND: &str = r#""label":"red""#;
/// A red cell on grey, in H.264, without end.
fn camera(folder: &std::path::Path) -> Server {
    let film = red_film(folder, 250);
    Server::of(&format!(
        "( filesrc location={} ! avidemux ! jpegdec ! videoconvert ! video/x-raw,format=I420 \
         ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 ! h264parse ! rtph264pay name=pay0 )",
        film.display()
    ))
}

fn free_port(kind: &str) -> u16 {
    match kind {
        "udp" => std::net::UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr(),
        _ => std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr(),
    }
    .unwrap()
    .port()
}

/// Plays until so many frames came, in all of which there is one red cell.
fn assert_shows_red(source: &str) {
    let detector = detector();
    let found = play(&format!(
        "{source} ! decodebin ! videoconvert ! {detector} ! identity eos-after=6 ! fakesink"
    ));
    assert!(found.0 >= 5 && found.0 == found.1, "{found:?}");
}

#[test]
fn an_interrupt_finishes_the_film_of_a_camera() {
    if !python_runs() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let server = camera(folder.path());
    let mut command = program("detectnet-camera", folder.path());
    command
        .args([&server.url(), "found.mp4", "json", "--overlay=none"])
        .args(with_colors("colors-ssd.onnx"));
    let running = Running::start(&mut command);
    running.line_with(FOUND, LONG);
    std::thread::sleep(Duration::from_millis(600));
    running.signal(Signal::INT);
    let said = running.finish();
    let (frames, found) = found_in(&folder.path().join("found.mp4"));
    // Packets that were late at the start cost frames until the next key frame.
    assert!(frames > 5 && found * 2 > frames, "{frames} {found}: {said}");
}

#[test]
fn what_a_camera_sees_is_served_over_rtsp_and_sent_over_udp() {
    if !python_runs() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let server = camera(folder.path());
    let (served, sent) = (free_port("tcp"), free_port("udp"));
    let mut command = program("detectnet-camera", folder.path());
    command
        .arg(server.url())
        .arg(format!("rtsp://@127.0.0.1:{served}/found"))
        .arg(format!("udp://127.0.0.1:{sent}"))
        .args(["json", "--overlay=none"])
        .args(with_colors("colors-ssd.onnx"));
    let running = Running::start(&mut command);
    running.line_with(FOUND, LONG);
    let caps = "application/x-rtp,media=video,clock-rate=90000,encoding-name=H264,payload=96";
    assert_shows_red(&format!("udpsrc port={sent} caps={caps}"));
    assert_shows_red(&format!(
        "rtspsrc location=rtsp://127.0.0.1:{served}/found protocols=tcp"
    ));
    running.signal(Signal::INT);
    running.finish();
}

fn colors() -> [String; 2] {
    let labels = tests_file("models/colors.labels.txt");
    [
        format!("model={}", model("colors-ssd.onnx")),
        format!("labels={}", labels.display()),
    ]
}

#[test]
fn the_scripts_rtsp_and_tee_to_recording_print_what_they_see_and_keep_the_recording() {
    let folder = tempfile::tempdir().unwrap();
    let server = camera(folder.path());
    let mut rtsp = program("rtsp", folder.path());
    let rtsp = Running::start(rtsp.arg(server.url()).args(colors()));
    rtsp.line_with(FOUND, LONG);
    drop(rtsp);
    let mut tee = program("tee-to-recording", folder.path());
    tee.arg(server.url()).arg("kept").args(colors());
    let tee = Running::start(&mut tee);
    tee.line_with(FOUND, LONG);
    std::thread::sleep(Duration::from_millis(600));
    tee.signal(Signal::INT);
    tee.finish();
    let (frames, found) = found_in(&folder.path().join("kept/00000.mp4"));
    assert!(frames > 5 && frames == found, "{frames} {found}");
}

#[test]
fn the_script_rtsp_server_serves_what_is_found() {
    if !python_runs() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let film = red_film(folder.path(), 100);
    let port = free_port("tcp");
    let mut command = program("rtsp-server", folder.path());
    command.arg(film).arg(port.to_string()).args(colors());
    // Boxes would hide what is red.
    let running = Running::start(command.arg("overlay=none"));
    let start = std::time::Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(start.elapsed() < LONG, "{}", running.said());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_shows_red(&format!(
        "rtspsrc location=rtsp://127.0.0.1:{port}/found protocols=tcp"
    ));
}
