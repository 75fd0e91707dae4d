//! Cameras that go and come back while `pipelines/detectnet-camera` looks at them.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::programs::{Running, program, python_runs, with_colors};
use crate::server::{Camera, url};

/// What is all red, as the model of the tests sees it.
const RED_CAMERA: &str = "( videotestsrc is-live=true pattern=solid-color foreground-color=0xffff0000 \
     ! video/x-raw,width=320,height=240,framerate=25/1 ! x264enc tune=zerolatency key-int-max=10 \
     ! rtph264pay name=pay0 )";
const FOUND: &str = r#""label":"red""#;
const LONG: Duration = Duration::from_secs(30);
/// Within this time after a camera is back, detections are.
const BACK: Duration = Duration::from_secs(3);

fn looking_at(camera: &Camera, protocol: &str, folder: &std::path::Path) -> Running {
    let mut command = program("detectnet-camera", folder);
    command
        .args([&url(camera.port), "json", "--headless", "json-empty=false"])
        .arg(format!("--protocols={protocol}"))
        .args(with_colors("colors-ssd.onnx"));
    let running = Running::start(&mut command);
    running.line_with(FOUND, LONG);
    running
}

/// Open files and threads once those of the last connection are gone: no more than so many, or what is left after
/// 20 s. Threads of GLib's pools wait 15 s for more work.
fn settled(running: &Running, most: (usize, usize)) -> (usize, usize) {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        std::thread::sleep(Duration::from_millis(1000));
        let holds = running.holds();
        if (holds.0 <= most.0 && holds.1 <= most.1) || Instant::now() > end {
            return holds;
        }
    }
}

/// Open files and threads once they stay the same for 3 s: what is opened late in the first connection, such as the
/// engine's own files, is there then.
fn steady(running: &Running) -> (usize, usize) {
    let end = Instant::now() + Duration::from_secs(20);
    let (mut holds, mut since) = (running.holds(), Instant::now());
    while since.elapsed() < Duration::from_secs(3) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(200));
        let now = running.holds();
        if now != holds {
            (holds, since) = (now, Instant::now());
        }
    }
    holds
}

fn comes_back_each_time(protocol: &str) {
    if !python_runs() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut camera = Camera::start(RED_CAMERA);
    let running = looking_at(&camera, protocol, folder.path());
    let before = steady(&running);
    for cycle in 0..3 {
        camera.kill();
        // Not so soon that it would be back before anybody sees that it was gone.
        std::thread::sleep(Duration::from_millis(700));
        while running.lines.try_recv().is_ok() {}
        let back = camera.restart();
        let (found, _) = running.line_with(FOUND, LONG);
        let took = found - back;
        let holds = settled(&running, before);
        println!(
            "{protocol}, cycle {cycle}: detections are back {} ms after the camera; {} files, {} threads are open",
            took.as_millis(),
            holds.0,
            holds.1
        );
        assert!(took < BACK, "{took:?}: {}", running.said());
        assert!(
            holds.0 <= before.0 && holds.1 <= before.1,
            "{holds:?} instead of {before:?}"
        );
    }
    let said = running.said();
    assert_eq!(said.matches(" is gone, ").count(), 3, "{said}");
    assert_eq!(said.matches(" is back after ").count(), 3, "{said}");
    running.signal(Signal::INT);
    running.finish();
}

#[test]
fn a_camera_over_tcp_that_is_killed_and_restarted_is_detected_in_again_and_nothing_leaks() {
    comes_back_each_time("tcp");
}

#[test]
fn a_camera_over_udp_that_is_killed_and_restarted_is_detected_in_again_and_nothing_leaks() {
    comes_back_each_time("udp");
}

#[test]
fn a_camera_that_falls_silent_is_detected_in_again_when_it_speaks() {
    if !python_runs() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let camera = Camera::start(RED_CAMERA);
    let running = looking_at(&camera, "tcp", folder.path());
    camera.signal(Signal::STOP);
    std::thread::sleep(Duration::from_millis(3500));
    while running.lines.try_recv().is_ok() {}
    camera.signal(Signal::CONT);
    let back = Instant::now();
    let (found, _) = running.line_with(FOUND, LONG);
    let took = found - back;
    println!(
        "detections are back {} ms after the camera",
        took.as_millis()
    );
    assert!(took < BACK, "{took:?}: {}", running.said());
    let said = running.said();
    assert!(said.contains("is gone, it sends no picture"), "{said}");
}
