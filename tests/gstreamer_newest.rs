//! The plugin on GStreamer's newest release, in the Debian forky that `tests/forky/make` makes: the elements and
//! bindings there read what was found. The ignored tests are those that run inside.

mod common;
#[path = "common/fed.rs"]
mod fed;

use std::ffi::{OsStr, c_int, c_uint, c_void};
use std::path::Path;
use std::process::Command;
use std::ptr;

use common::*;
use fed::Fed;
use gst::glib;
use gst::glib::translate::{FromGlib, IntoGlib};
use gstrsdetectnet::meta::message::FrameFacts;
use gstrsdetectnet::meta::{Choice, Kinds, Metadata};
use gstrsdetectnet::model::Labels;
use gstrsdetectnet::{BoundingBox, Detection};

/// Runs a command in the Debian forky; false where there is none.
fn in_forky<S: AsRef<OsStr>>(command: &[S]) -> bool {
    let folder = Command::new(tests_file("forky/folder")).output().unwrap();
    let folder = String::from_utf8(folder.stdout).unwrap();
    if !Path::new(folder.trim()).join(".made").exists() {
        eprintln!("skipped: there is no Debian forky; as root, run tests/forky/make");
        return false;
    }
    let output = Command::new(tests_file("forky/run"))
        .arg(library())
        .args(command)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&text)
    );
    true
}

#[test]
fn elements_of_the_newest_gstreamer_take_what_was_found() {
    let this = std::env::current_exe().unwrap();
    let arguments = ["--ignored", "--test-threads=2"].map(OsStr::new);
    in_forky(&[[this.as_os_str()].as_slice(), &arguments].concat());
}

#[test]
fn overrides_of_gst_python_read_what_was_found() {
    in_forky(&["python3", "tests/forky/read_with_overrides.py"]);
}

#[test]
fn python_reads_detections_and_sees_frames_without_a_copy() {
    in_forky(&["python3", "tests/python/test_rsdetectnet.py"]);
}

/// Feeds pictures to the pipeline's appsrc, 25 a second, and returns what reaches its appsink.
fn play(elements: &str, picture: &Picture, frames: u64) -> Vec<gst::Sample> {
    let fed = Fed::playing(elements, picture);
    for number in 0..frames {
        fed.push(picture, gst::ClockTime::from_mseconds(40) * number);
    }
    fed.source.end_of_stream().unwrap();
    let samples: Vec<_> = std::iter::from_fn(|| fed.sink.pull_sample().ok()).collect();
    fed.stop();
    assert_eq!(samples.len() as u64, frames);
    samples
}

fn detector(options: &str) -> String {
    format!(
        "rsdetectnet model={} labels={} {options}",
        model("colors-ssd.onnx"),
        tests_file("models/colors.labels.txt").display()
    )
}

#[test]
#[ignore = "runs in the Debian forky"]
fn objectdetectionoverlay_draws_the_boxes() {
    let picture = Picture::grey(640, 480)
        .with_cell(1, 1, RED)
        .with_cell(5, 6, BLUE);
    // Fed by appsrc alone, objectdetectionoverlay of 1.28 does not negotiate, whatever is between them.
    let elements = format!(
        "videoconvert ! video/x-raw,format=BGRx ! {} ! objectdetectionoverlay draw-labels=false \
         object-detection-outline-color=0xff00ff00 ! videoconvert ! video/x-raw,format=RGB",
        detector("")
    );
    let samples = play(&elements, &picture, 1);
    let map = samples[0].buffer().unwrap().map_readable().unwrap();
    let pixel = |x: f32, y: f32| {
        let at = (y as usize * 640 + x as usize) * 3;
        <[u8; 3]>::try_from(&map[at..at + 3]).unwrap()
    };
    for bounding_box in [picture.cell_box(1, 1), picture.cell_box(5, 6)] {
        let BoundingBox { x, y, .. } = bounding_box;
        let (right, bottom) = (bounding_box.right(), bounding_box.bottom());
        let (middle_x, middle_y) = ((x + right) / 2.0, (y + bottom) / 2.0);
        let edges = [
            (x, middle_y),
            (right, middle_y),
            (middle_x, y),
            (middle_x, bottom),
        ];
        for (edge_x, edge_y) in edges {
            let near = (-2i32..=2).flat_map(|dx| (-2i32..=2).map(move |dy| (dx, dy)));
            let green = near
                .map(|(dx, dy)| pixel(edge_x + dx as f32, edge_y + dy as f32))
                .any(|[r, g, b]| g > 200 && r < 60 && b < 60);
            assert!(green, "no line at {edge_x}, {edge_y}");
        }
        assert_ne!(pixel(middle_x, middle_y), GREEN);
    }
    assert_eq!(pixel(300.0, 20.0), [114; 3]);
}

#[test]
#[ignore = "runs in the Debian forky"]
fn ioutracker_tracks_what_was_found_and_keeps_its_identity() {
    let picture = Picture::grey(640, 480)
        .with_cell(1, 1, RED)
        .with_cell(5, 6, BLUE);
    let samples = play(&format!("{} ! ioutracker", detector("")), &picture, 5);
    let tracked: Vec<_> = samples
        .iter()
        .map(|sample| read(sample.buffer().unwrap()))
        .collect();
    assert_eq!(tracked[0].len(), 2);
    let mut first = tracked[0].clone();
    first.sort_by_key(|entry| entry.rectangle);
    assert_eq!(first[0].rectangle, (80, 60, 80, 60));
    assert_eq!(first[1].rectangle, (400, 360, 80, 60));
    let ids: Vec<_> = first.iter().map(|entry| entry.track.unwrap().id).collect();
    assert_ne!(ids[0], ids[1]);
    for later in &tracked[1..] {
        let mut later = later.clone();
        later.sort_by_key(|entry| entry.rectangle);
        let later_ids: Vec<_> = later.iter().map(|entry| entry.track.unwrap().id).collect();
        assert_eq!(later_ids, ids);
    }
}

#[test]
#[ignore = "runs in the Debian forky"]
fn a_tracked_detection_relates_to_its_track_and_when_it_was_seen() {
    gst::init().unwrap();
    let labels = Labels::from_lines("cat\ndog");
    let found = |class_id, left: f32, object_id| Detection {
        class_id,
        confidence: 0.75,
        bounding_box: BoundingBox::from_corners(left, 20.0, left + 30.0, 60.0),
        object_id,
        oriented: None,
    };
    let mut metadata = Metadata::default();
    let choice = Choice {
        analytics: true,
        ..Choice::default()
    };
    metadata.choose(Kinds::Only(choice)).unwrap();
    let mut attach = |seconds, detections: &[Detection]| {
        let facts = FrameFacts {
            running_time: Some(gst::ClockTime::from_seconds(seconds)),
            width: 640,
            height: 480,
            ..FrameFacts::default()
        };
        let mut buffer = gst::Buffer::new();
        let detections = [detections.to_vec()];
        metadata.attach(buffer.get_mut().unwrap(), &facts, &detections, &labels);
        assert_eq!(gstrsdetectnet::detections(&buffer), []);
        read(&buffer)
    };
    attach(1, &[found(0, 10.0, Some(7))]);
    let entries = attach(
        3,
        &[
            found(0, 12.0, Some(7)),
            found(1, 90.0, None),
            found(1, 200.0, Some(9)),
        ],
    );
    let seconds = |seconds| gst::ClockTime::from_seconds(seconds).nseconds();
    let track = |id, first_seen| Track {
        id,
        first_seen: seconds(first_seen),
        last_seen: seconds(3),
    };
    let entry = |label: &str, left, track| Entry {
        label: label.into(),
        rectangle: (left, 20, 30, 40),
        confidence: 0.75,
        track,
    };
    assert_eq!(
        entries,
        [
            entry("cat", 12, Some(track(7, 1))),
            entry("dog", 90, None),
            entry("dog", 200, Some(track(9, 3))),
        ]
    );
    // One that is expected in a frame which nobody inspected was seen in an earlier one.
    let mut buffer = gst::Buffer::new();
    let facts = FrameFacts {
        running_time: Some(gst::ClockTime::from_seconds(5)),
        width: 640,
        height: 480,
        predicted: true,
        ..FrameFacts::default()
    };
    let expected = [vec![found(0, 14.0, Some(7))]];
    metadata.attach(buffer.get_mut().unwrap(), &facts, &expected, &labels);
    assert_eq!(read(&buffer), [entry("cat", 14, Some(track(7, 1)))]);
    let mut attach = |detections: &[Detection]| {
        let mut buffer = gst::Buffer::new();
        let detections = [detections.to_vec()];
        metadata.attach(buffer.get_mut().unwrap(), &facts, &detections, &labels);
        read(&buffer)
    };
    // A hundred tracked objects fit, and metas that were there stay.
    let many: Vec<_> = (0..100).map(|n| found(0, n as f32, Some(n))).collect();
    assert_eq!(attach(&many).len(), 100);
}

#[test]
#[ignore = "runs in the Debian forky"]
fn metadata_says_which_kinds_are_attached() {
    let picture = Picture::grey(64, 64).with_cell(1, 1, RED);
    for (metadata, rois, entries) in [
        ("auto", 1, 1),
        ("roi", 1, 0),
        ("analytics", 0, 1),
        ("roi+analytics", 1, 1),
        ("none", 0, 0),
    ] {
        let samples = play(&detector(&format!("metadata={metadata}")), &picture, 1);
        let buffer = samples[0].buffer().unwrap();
        assert_eq!(gstrsdetectnet::detections(buffer).len(), rois, "{metadata}");
        assert_eq!(read(buffer).len(), entries, "{metadata}");
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Track {
    id: u64,
    first_seen: u64,
    last_seen: u64,
}

/// An object-detection entry, with the tracking entry that it relates to.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    label: String,
    rectangle: (i32, i32, i32, i32),
    confidence: f32,
    track: Option<Track>,
}

#[repr(C)]
struct Handle {
    id: c_uint,
    meta: *mut c_void,
}

/// Reads a buffer's relation meta with the functions of libgstanalytics.
fn read(buffer: &gst::BufferRef) -> Vec<Entry> {
    type Iterate = unsafe extern "C" fn(*mut c_void, *mut *mut c_void, usize, *mut Handle) -> c_int;
    type Location = unsafe extern "C" fn(
        *const Handle,
        *mut c_int,
        *mut c_int,
        *mut c_int,
        *mut c_int,
        *mut f32,
    ) -> c_int;
    type Related = unsafe extern "C" fn(
        *mut c_void,
        c_uint,
        c_uint,
        usize,
        *mut *mut c_void,
        *mut Handle,
    ) -> c_int;
    type Info =
        unsafe extern "C" fn(*const Handle, *mut u64, *mut u64, *mut u64, *mut c_int) -> c_int;
    unsafe {
        let library = libloading::Library::new("libgstanalytics-1.0.so.0").unwrap();
        let get: libloading::Symbol<
            unsafe extern "C" fn(*const gst::ffi::GstBuffer) -> *mut c_void,
        > = library
            .get("gst_buffer_get_analytics_relation_meta")
            .unwrap();
        let kind = |name: &str| -> usize {
            library
                .get::<unsafe extern "C" fn() -> usize>(name)
                .unwrap()()
        };
        let iterate: libloading::Symbol<Iterate> =
            library.get("gst_analytics_relation_meta_iterate").unwrap();
        let location: libloading::Symbol<Location> =
            library.get("gst_analytics_od_mtd_get_location").unwrap();
        let object_type: libloading::Symbol<
            unsafe extern "C" fn(*const Handle) -> glib::ffi::GQuark,
        > = library.get("gst_analytics_od_mtd_get_obj_type").unwrap();
        let related: libloading::Symbol<Related> = library
            .get("gst_analytics_relation_meta_get_direct_related")
            .unwrap();
        let info: libloading::Symbol<Info> =
            library.get("gst_analytics_tracking_mtd_get_info").unwrap();
        let detections = kind("gst_analytics_od_mtd_get_mtd_type");
        let tracks = kind("gst_analytics_tracking_mtd_get_mtd_type");

        let meta = get(buffer.as_ptr());
        let mut entries = Vec::new();
        let (mut state, mut handle) = (
            ptr::null_mut(),
            Handle {
                id: 0,
                meta: ptr::null_mut(),
            },
        );
        while !meta.is_null() && iterate(meta, &mut state, detections, &mut handle) != 0 {
            let (mut x, mut y, mut width, mut height, mut confidence) = (0, 0, 0, 0, 0.0);
            location(
                &handle,
                &mut x,
                &mut y,
                &mut width,
                &mut height,
                &mut confidence,
            );
            let label = glib::Quark::from_glib(object_type(&handle))
                .as_str()
                .to_string();
            let (mut state, mut tracking) = (
                ptr::null_mut(),
                Handle {
                    id: 0,
                    meta: ptr::null_mut(),
                },
            );
            let relate_to = 1 << 3;
            let has_track = related(
                meta,
                handle.id,
                relate_to,
                tracks,
                &mut state,
                &mut tracking,
            ) != 0;
            let track = has_track.then(|| {
                let (mut id, mut first_seen, mut last_seen, mut lost) = (0, 0, 0, 0);
                info(
                    &tracking,
                    &mut id,
                    &mut first_seen,
                    &mut last_seen,
                    &mut lost,
                );
                assert_eq!(lost, false.into_glib());
                Track {
                    id,
                    first_seen,
                    last_seen,
                }
            });
            entries.push(Entry {
                label,
                rectangle: (x, y, width, height),
                confidence,
                track,
            });
        }
        entries
    }
}
