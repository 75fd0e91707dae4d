//! NvDsObjectMeta as DeepStream's own functions read it: runs where libnvdsgst_meta.so can be opened, for which
//! no GPU is needed.

mod common;
#[path = "common/deepstream.rs"]
mod reading;

use std::ffi::c_void;

use common::*;
use gstrsdetectnet::meta::message::FrameFacts;
use gstrsdetectnet::meta::{Choice, Kinds, Metadata};
use gstrsdetectnet::model::Labels;
use gstrsdetectnet::{BoundingBox, Detection};
use libloading::Library;
use reading::*;

fn object(label: &str, class_id: i32, rectangle: [f32; 4], confidence: f32) -> Object {
    Object {
        component: 1,
        class_id,
        object_id: u64::MAX,
        detector_box: rectangle,
        tracker_box: [0.0; 4],
        confidence,
        tracker_confidence: 0.0,
        rectangle,
        border_width: 3,
        border_color: [1.0, 0.0, 0.0, 1.0],
        has_background: 0,
        text: label.into(),
        text_position: [rectangle[0] as u32, (rectangle[1] - 10.0).max(0.0) as u32],
        font: "Serif".into(),
        font_size: 11,
        label: label.into(),
        lists: [0, 0],
    }
}

fn detection(class_id: u32, left: f32, object_id: Option<u64>) -> Detection {
    Detection {
        class_id,
        confidence: 0.75,
        bounding_box: BoundingBox::from_corners(left, 20.0, left + 30.0, 60.0),
        object_id,
        oriented: None,
    }
}

fn facts() -> FrameFacts<'static> {
    FrameFacts {
        number: 5,
        pts: Some(gst::ClockTime::from_seconds(2)),
        width: 640,
        height: 480,
        ..FrameFacts::default()
    }
}

fn nvds_only() -> Metadata {
    let mut metadata = Metadata::default();
    let choice = Choice {
        nvds: true,
        ..Choice::default()
    };
    metadata.choose(Kinds::Only(choice)).unwrap();
    metadata
}

#[test]
fn without_nvstreammux_a_batch_of_one_frame_carries_what_was_found() {
    let Some(library) = deepstream() else { return };
    let picture = Picture::grey(640, 480)
        .with_cell(1, 1, RED)
        .with_cell(5, 6, BLUE);
    let element = colors_element("colors-ssd.onnx")
        .property("metadata", "nvds")
        .build()
        .unwrap();
    let mut harness = harness(&element, &picture.info());
    for number in 0..3 {
        let mut buffer = picture.buffer();
        let pts = gst::ClockTime::from_mseconds(40) * number;
        buffer.get_mut().unwrap().set_pts(pts);
        let buffer = harness.push_and_pull(buffer).unwrap();
        assert_eq!(gstrsdetectnet::detections(&buffer), []);
        let mut frames = read(library, &buffer).unwrap();
        assert_eq!(frames.len(), 1);
        let frame = &mut frames[0];
        assert_eq!(
            (frame.batch_id, frame.number, frame.pts),
            (0, number as i32, pts.nseconds())
        );
        assert_eq!((frame.size, frame.inferred), ([640, 480], true));
        frame.objects.sort_by_key(|object| object.class_id);
        let [red, blue] = &frame.objects[..] else {
            panic!("{frame:?}")
        };
        for (found, label, class_id, (x, y)) in [
            (red, "red", 1, (80.0, 60.0)),
            (blue, "blue", 3, (400.0, 360.0)),
        ] {
            let [left, top, width, height] = found.rectangle;
            let wanted = BoundingBox {
                x,
                y,
                width: 80.0,
                height: 60.0,
            };
            let bounding_box = BoundingBox {
                x: left,
                y: top,
                width,
                height,
            };
            assert!(bounding_box.iou(&wanted) > 0.999, "{found:?}");
            assert_eq!(
                *found,
                object(label, class_id, found.rectangle, found.confidence)
            );
            assert!(found.confidence > 0.99);
        }
        // What tee does to a buffer: DeepStream copies its batch.
        assert_eq!(read(library, &buffer.copy()).as_ref(), Some(&frames));
    }
}

#[test]
fn a_frame_with_nothing_in_it_says_that_it_was_inspected() {
    let Some(library) = deepstream() else { return };
    let mut metadata = nvds_only();
    let mut buffer = gst::Buffer::new();
    assert!(metadata.applies_to(&buffer, &facts(), &[vec![]]));
    metadata.attach(
        buffer.get_mut().unwrap(),
        &facts(),
        &[vec![]],
        &Labels::default(),
    );
    let frames = read(library, &buffer).unwrap();
    assert!(frames[0].inferred && frames[0].objects.is_empty());
}

#[test]
fn a_batch_of_nvstreammux_gets_each_frame_its_own_and_other_frames_nothing() {
    let Some(library) = deepstream() else { return };
    let labels = Labels::from_lines("cat\ndog");
    let mut buffer = gst::Buffer::new();
    let mut metadata = Metadata::default();
    metadata.choose(Kinds::Auto).unwrap();
    let found = [
        vec![detection(0, 100.0, Some(7))],
        vec![],
        vec![detection(1, 200.0, None)],
    ];
    add_batch(library, buffer.get_mut().unwrap(), &[2, 0, 1, 3]);
    assert!(metadata.applies_to(&buffer, &facts(), &[vec![]]));
    metadata.attach(buffer.get_mut().unwrap(), &facts(), &found, &labels);
    let frames = read(library, &buffer).unwrap();
    let seen: Vec<_> = frames
        .iter()
        .map(|frame| (frame.batch_id, frame.inferred))
        .collect();
    assert_eq!(seen, [(2, true), (0, true), (1, true), (3, false)]);
    let dog = object("dog", 1, [200.0, 20.0, 30.0, 40.0], 0.75);
    let rectangle = [100.0, 20.0, 30.0, 40.0];
    let cat = Object {
        object_id: 7,
        tracker_box: rectangle,
        tracker_confidence: 0.75,
        ..object("cat", 0, rectangle, 0.75)
    };
    assert_eq!(frames[0].objects, [dog]);
    assert_eq!(frames[1].objects, [cat]);
    assert!(frames[2].objects.is_empty() && frames[3].objects.is_empty());
}

#[test]
fn an_object_that_is_expected_in_a_frame_is_the_tracker_s_alone() {
    let Some(library) = deepstream() else { return };
    let mut buffer = gst::Buffer::new();
    let facts = FrameFacts {
        predicted: true,
        ..facts()
    };
    let found = [vec![detection(0, 100.0, Some(7))]];
    let labels = Labels::from_lines("cat");
    nvds_only().attach(buffer.get_mut().unwrap(), &facts, &found, &labels);
    let frames = read(library, &buffer).unwrap();
    let rectangle = [100.0, 20.0, 30.0, 40.0];
    let expected = Object {
        object_id: 7,
        detector_box: [0.0; 4],
        tracker_box: rectangle,
        tracker_confidence: 0.75,
        ..object("cat", 0, rectangle, -0.1)
    };
    assert!(!frames[0].inferred);
    assert_eq!(frames[0].objects, [expected]);
}

#[test]
fn what_is_followed_has_its_identity_there_and_in_frames_that_nobody_inspects() {
    let Some(library) = deepstream() else { return };
    let element = colors_element("blocks-ssd.onnx")
        .property_from_str("tracker", "bytetrack")
        .property("interval", 1u32)
        .property("metadata", "nvds")
        .build()
        .unwrap();
    let picture = Picture::grey(64, 64).with_block(10, 20, 16, 24, RED);
    let mut harness = harness(&element, &picture.info());
    for number in 0..6 {
        let buffer = harness.push_and_pull(picture.buffer()).unwrap();
        let frames = read(library, &buffer).unwrap();
        let inspected = number % 2 == 0;
        assert_eq!(frames[0].inferred, inspected);
        let [object] = &frames[0].objects[..] else {
            panic!("{:?}", frames[0].objects);
        };
        assert_eq!(
            (object.object_id, object.tracker_box),
            (1, object.rectangle)
        );
        assert_eq!(object.detector_box == object.rectangle, inspected);
        assert_eq!(object.confidence > 0.9, inspected);
        assert!(object.tracker_confidence > 0.9);
    }
}

#[test]
fn frames_of_a_batch_are_known_by_the_pad_that_they_came_through() {
    let Some(library) = deepstream() else { return };
    let mut sources = vec![7];
    let mut buffer = gst::Buffer::new();
    gstrsdetectnet::meta::nvds::sources(&buffer, &mut sources);
    assert!(sources.is_empty());
    add_batch(library, buffer.get_mut().unwrap(), &[2, 0]);
    gstrsdetectnet::meta::nvds::sources(&buffer, &mut sources);
    assert_eq!(sources, [10, 1, 12]);
}

#[test]
fn by_default_buffers_without_a_batch_get_none() {
    let Some(library) = deepstream() else { return };
    let mut metadata = Metadata::default();
    metadata.choose(Kinds::Auto).unwrap();
    let mut buffer = gst::Buffer::new();
    assert!(!metadata.applies_to(&buffer, &facts(), &[vec![]]));
    let found = [vec![detection(0, 100.0, None)]];
    metadata.attach(
        buffer.get_mut().unwrap(),
        &facts(),
        &found,
        &Labels::from_lines("cat"),
    );
    assert_eq!(read(library, &buffer), None);
    assert_eq!(gstrsdetectnet::detections(&buffer).len(), 1);
}

#[test]
fn long_labels_are_cut_and_many_objects_fit() {
    let Some(library) = deepstream() else { return };
    let label = "ä".repeat(100);
    let mut buffer = gst::Buffer::new();
    let found: Vec<_> = (0..300).map(|n| detection(0, n as f32, None)).collect();
    let labels = Labels::from_lines(&label);
    nvds_only().attach(buffer.get_mut().unwrap(), &facts(), &[found], &labels);
    let frames = read(library, &buffer).unwrap();
    assert_eq!(frames[0].objects.len(), 300);
    for object in &frames[0].objects {
        assert_eq!(
            (object.label.as_str(), &object.text),
            (&label[..126], &label)
        );
    }
}

/// Attaches a batch of frames with these batch ids, as nvstreammux does.
fn add_batch(library: &Library, buffer: &mut gst::BufferRef, batch_ids: &[u32]) {
    type Create = unsafe extern "C" fn(u32) -> *mut c_void;
    type Acquire = unsafe extern "C" fn(*mut c_void) -> *mut c_void;
    type Add = unsafe extern "C" fn(*mut c_void, *mut c_void);
    type AddMeta = unsafe extern "C" fn(
        *mut gst::ffi::GstBuffer,
        *mut c_void,
        *mut c_void,
        *const c_void,
        *const c_void,
    ) -> *mut c_void;
    let create: Create = function(library, "nvds_create_batch_meta");
    let acquire: Acquire = function(library, "nvds_acquire_frame_meta_from_pool");
    let add_frame: Add = function(library, "nvds_add_frame_meta_to_batch");
    let add_meta: AddMeta = function(library, "gst_buffer_add_nvds_meta");
    unsafe {
        let batch = create(batch_ids.len() as u32);
        batch
            .byte_add(40)
            .cast::<u32>()
            .write(batch_ids.len() as u32);
        for batch_id in batch_ids {
            let frame = acquire(batch);
            frame.byte_add(40).cast::<u32>().write(*batch_id + 10);
            frame.byte_add(44).cast::<u32>().write(*batch_id);
            add_frame(batch, frame);
        }
        let copy = function(library, "nvds_batch_meta_copy_func");
        let release = function(library, "nvds_batch_meta_release_func");
        let meta = add_meta(
            buffer.as_mut_ptr(),
            batch,
            std::ptr::null_mut(),
            copy,
            release,
        );
        // NVDS_BATCH_GST_META
        meta.byte_add(32).cast::<i32>().write(4097);
    }
}
