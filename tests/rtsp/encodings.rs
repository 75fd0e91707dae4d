//! What comes over the network is what is in the file: the same frames, the same objects.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::Duration;

use gst::prelude::*;
use gst_video::prelude::*;
use gstrsdetectnet::LabeledDetection;

use crate::common::programs::play;
use crate::common::{init, tests_file};
use crate::server::Server;

/// Frames of the clip that are encoded for the tests, and those that are read over the network.
const FRAMES: usize = 60;
const READ: usize = 50;
/// Of these, every fifth is inspected.
const EVERY: usize = 5;

/// The clip that `pipelines/demo` shows, fetched or made where it is not there yet.
fn clip() -> PathBuf {
    let script = "source pipelines/setup && default_clip";
    let output = Command::new("bash")
        .args(["-c", script])
        .current_dir(tests_file(".."))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// The beginning of the clip as a camera would encode it; encoded once, and kept beside the clip.
fn encoded(name: &str, encoder: &str) -> PathBuf {
    init();
    let clip = clip();
    let folder = clip.parent().unwrap();
    let path = folder.join(format!("camera-{FRAMES}-{name}.mkv"));
    if !path.is_file() {
        let unfinished = tempfile::NamedTempFile::new_in(folder).unwrap();
        play(&format!(
            "filesrc location={} ! decodebin ! videoconvert ! video/x-raw,format=I420 ! identity eos-after={FRAMES} \
             ! {encoder} ! matroskamux ! filesink location={}",
            clip.display(),
            unfinished.path().display()
        ));
        unfinished.persist(&path).unwrap();
    }
    path
}

/// A frame: a number that stands for its pixels, and what was found in it.
type Seen = (u64, Vec<LabeledDetection>);

fn pixels(frame: &gst_video::VideoFrameRef<&gst::BufferRef>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for plane in 0..frame.n_planes() {
        let (width, stride) = (frame.comp_width(plane), frame.comp_stride(plane));
        let rows = frame.plane_data(plane).unwrap().chunks(stride as usize);
        for row in rows.take(frame.comp_height(plane) as usize) {
            row[..width as usize].hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// The first frames that an element or several give.
fn seen(source: &str, number: usize) -> Vec<Seen> {
    init();
    let pipeline = gst::parse::launch(&format!(
        "{source} ! decodebin ! videoconvert ! video/x-raw,format=I420 ! rsdetectnet threshold=0.3 interval={} ! \
         fakesink name=sink sync=false",
        EVERY - 1
    ));
    let pipeline = pipeline.unwrap().downcast::<gst::Pipeline>().unwrap();
    let (sender, receiver) = channel();
    let pad = pipeline.by_name("sink").unwrap();
    let pad = pad.static_pad("sink").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let caps = pad.current_caps().unwrap();
        let video = gst_video::VideoInfo::from_caps(&caps).unwrap();
        let buffer = info.buffer().unwrap();
        let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &video).unwrap();
        let _ = sender.send((pixels(&frame), gstrsdetectnet::detections(buffer)));
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    let next = || receiver.recv_timeout(Duration::from_secs(30));
    let frames = (0..number).map(|_| next().expect("no more frames"));
    let frames = frames.collect();
    pipeline.set_state(gst::State::Null).unwrap();
    frames
}

fn is_the_same_as_from_the_file(name: &str, encoder: &str, payloader: &str, parser: &str) {
    let file = encoded(name, encoder);
    let from_file = seen(&format!("filesrc location={}", file.display()), FRAMES);
    let objects = from_file
        .iter()
        .map(|(_, found)| found.len())
        .sum::<usize>();
    assert!(objects > 3, "{objects} objects in the whole clip");
    let server = Server::of(&launch(&file, parser, payloader));
    for protocol in ["tcp", "udp"] {
        let source = format!(
            "rtspsrc location={} protocols={protocol} latency=200 ! application/x-rtp,media=video",
            server.url()
        );
        let from_network = seen(&source, READ);
        let first = from_file
            .iter()
            .position(|(pixels, _)| *pixels == from_network[0].0)
            .expect("no frame of the file");
        // Then the same frames were inspected.
        assert_eq!(first % EVERY, 0, "begins with frame {first}");
        assert!(first + READ <= FRAMES, "begins with frame {first}");
        let mut objects = 0;
        for (number, (network, file)) in from_network.iter().zip(&from_file[first..]).enumerate() {
            assert_eq!(network.0, file.0, "{protocol}: pixels of frame {number}");
            assert_eq!(network.1, file.1, "{protocol}: objects of frame {number}");
            objects += network.1.len();
        }
        println!(
            "{name} over {protocol}: {READ} frames the same from frame {first} on, {objects} objects"
        );
        assert!(objects > 0);
    }
}

fn launch(file: &Path, parser: &str, payloader: &str) -> String {
    format!(
        "( filesrc location={} ! matroskademux ! {parser} ! {payloader} name=pay0 )",
        file.display()
    )
}

#[test]
fn h264_over_rtsp_is_detected_in_as_from_the_file() {
    let encoder = "x264enc bframes=0 key-int-max=15 ! h264parse";
    is_the_same_as_from_the_file("h264", encoder, "rtph264pay", "h264parse");
}

#[test]
fn h265_over_rtsp_is_detected_in_as_from_the_file() {
    let encoder = "x265enc option-string=bframes=0 key-int-max=15 ! h265parse";
    is_the_same_as_from_the_file("h265", encoder, "rtph265pay", "h265parse");
}

#[test]
fn mjpeg_over_rtsp_is_detected_in_as_from_the_file() {
    is_the_same_as_from_the_file("mjpeg", "jpegenc", "rtpjpegpay", "jpegparse");
}
