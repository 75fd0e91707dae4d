//! `pipelines/detectnet-camera` with cameras that ask for a password, are not there, or change their mind.

use std::process::Output;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gst::prelude::*;
use gst_rtsp_server::RTSPMediaFactory;
use gst_rtsp_server::gst_rtsp::RTSPAuthMethod;
use gst_rtsp_server::prelude::*;

use crate::common::init;
use crate::common::programs::{Running, program, python_runs, said, with_colors};
use crate::server::{PASSWORD, Server, USER};

const LONG: Duration = Duration::from_secs(30);
const CAMERA: &str = "( videotestsrc is-live=true pattern=solid-color foreground-color=0xff0000ff \
     ! video/x-raw,format=I420,width=320,height=240,framerate=25/1 ! jpegenc ! rtpjpegpay name=pay0 )";

fn looking_at(url: &str, folder: &std::path::Path) -> Running {
    let mut command = program("detectnet-camera", folder);
    command
        .args([url, "json", "--headless"])
        .args(with_colors("colors-ssd.onnx"));
    Running::start(&mut command)
}

fn failing(url: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = program("detectnet-camera", folder.path());
    command.args([url, "--headless"]);
    command.output().unwrap()
}

/// The sentence with which it ends, after the command that it printed.
fn assert_fails(url: &str, sentence: &str) {
    let output = failing(url);
    let said = said(&output);
    let (_, words) = said.split_once('\n').unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(words.trim().lines().count(), 1, "{said}");
    assert!(words.contains(sentence), "{words}");
    assert!(!words.contains(PASSWORD), "{words}");
}

#[test]
fn cameras_that_ask_for_a_password_get_the_one_in_the_address() {
    if !python_runs() {
        return;
    }
    for method in [RTSPAuthMethod::Basic, RTSPAuthMethod::Digest] {
        let server = Server::guarded(CAMERA, method);
        let folder = tempfile::tempdir().unwrap();
        let of = |password| format!("{USER}:{password}@127.0.0.1:{}/camera", server.port);
        let running = looking_at(&format!("rtsp://{}", of(PASSWORD)), folder.path());
        running.line_with(r#""label":"blue""#, LONG);
        drop(running);
        assert_fails(&format!("rtsp://{}", of("wrong")), "Unauthorized");
        assert_fails(&server.url(), "Unauthorized");
    }
}

#[test]
fn a_wrong_address_is_one_sentence() {
    if !python_runs() {
        return;
    }
    let server = Server::of(CAMERA);
    assert_fails(&server.url().replace("camera", "door"), "Not found");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    let refused = format!("rtsp://{USER}:{PASSWORD}@127.0.0.1:{port}/camera");
    assert_fails(&refused, "Connection refused");
    assert_fails("rtsp://no.such.host.invalid/camera", "no.such.host.invalid");
}

#[test]
fn a_camera_may_change_its_resolution_in_mid_stream() {
    if !python_runs() {
        return;
    }
    for encoder in [
        "jpegenc ! rtpjpegpay",
        "x264enc tune=zerolatency key-int-max=5 ! rtph264pay config-interval=-1",
    ] {
        init();
        let factory = RTSPMediaFactory::new();
        factory.set_launch(&format!(
            "( videotestsrc is-live=true pattern=solid-color foreground-color=0xffff0000 \
             ! capsfilter name=size caps=video/x-raw,format=I420,width=320,height=240,framerate=25/1 \
             ! {encoder} name=pay0 )"
        ));
        let size = Arc::new(Mutex::new(None));
        let kept = size.clone();
        factory.connect_media_configure(move |_, media| {
            let bin = media.element().downcast::<gst::Bin>().unwrap();
            *kept.lock().unwrap() = bin.by_name("size");
        });
        let server = Server::with(&factory, None);
        let folder = tempfile::tempdir().unwrap();
        let running = looking_at(&server.url(), folder.path());
        let (_, line) = running.line_with(r#""label":"red""#, LONG);
        assert!(
            line.contains(r#""resolution":{"width":320,"height":240}"#),
            "{line}"
        );
        let caps = "video/x-raw,format=I420,width=640,height=360,framerate=25/1";
        let caps: gst::Caps = caps.parse().unwrap();
        size.lock()
            .unwrap()
            .take()
            .unwrap()
            .set_property("caps", caps);
        let (_, line) = running.line_with(r#""resolution":{"width":640,"height":360}"#, LONG);
        assert!(line.contains(r#""label":"red""#), "{line}");
        let said = running.said();
        assert!(!said.contains("is gone"), "{said}");
    }
}
