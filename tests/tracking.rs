//! Objects followed by the element: identities in all that it says of them, and where they are when nobody looks.

mod common;

use common::*;
use gst::prelude::*;
use gst_check::Harness;
use gstrsdetectnet::{LabeledDetection, crop_details, frame_details};
use serde_json::Value;

const FRAME: gst::ClockTime = gst::ClockTime::from_mseconds(40);
const SIZE: u32 = 16;

/// An element that finds one block of each colour, wherever it is.
fn element(tracker: &'static str) -> Builder {
    colors_element("blocks-ssd.onnx").property_from_str("tracker", tracker)
}

/// A red block on its way to the right, and a blue one on its way to the left.
fn picture(frame: u32) -> Picture {
    Picture::grey(64, 64)
        .with_block(2 + frame, 8, SIZE, SIZE, RED)
        .with_block(46 - frame, 36, SIZE, SIZE, BLUE)
}

fn timed(picture: &Picture, number: u32) -> gst::Buffer {
    let mut buffer = picture.buffer();
    let edit = buffer.get_mut().unwrap();
    edit.set_pts(FRAME * u64::from(number));
    edit.set_duration(FRAME);
    buffer
}

fn frame(number: u32) -> gst::Buffer {
    timed(&picture(number), number)
}

fn found(harness: &mut Harness, buffer: gst::Buffer) -> Vec<LabeledDetection> {
    gstrsdetectnet::detections(&harness.push_and_pull(buffer).unwrap())
}

fn id(found: &[LabeledDetection], label: &str) -> Option<u64> {
    let one = found.iter().find(|one| one.label == label);
    one.unwrap_or_else(|| panic!("no {label} in {found:?}"))
        .detection
        .object_id
}

fn ids(found: &[LabeledDetection]) -> [Option<u64>; 2] {
    ["red", "blue"].map(|label| id(found, label))
}

fn line_of(lines: &mut Harness) -> Value {
    serde_json::from_slice(&lines.pull().unwrap().map_readable().unwrap()).unwrap()
}

#[test]
fn identities_are_stable_and_the_same_in_all_that_is_said_of_a_frame() {
    for (tracker, nameless, in_flight) in
        [("bytetrack", 0, 1u32), ("iou", 2, 1), ("bytetrack", 0, 4)]
    {
        let element = element(tracker)
            .property("post-messages", true)
            .property("max-in-flight", in_flight)
            .build()
            .unwrap();
        let ([mut harness, mut lines, mut crops], bus) = all_outputs(&element, &picture(0));
        let mut known = [None; 2];
        for number in 0..30 {
            let found = found(&mut harness, frame(number));
            assert_eq!(found.len(), 2);
            let given = ids(&found);
            if number < nameless {
                assert_eq!(given, [None; 2]);
            } else if number == nameless {
                let mut sorted = given.map(Option::unwrap);
                sorted.sort();
                assert_eq!(sorted, [1, 2]);
                known = given;
            } else {
                assert_eq!(given, known, "frame {number}");
            }
            let expected = |object_id: Option<u64>| object_id.map(|id| id as i64);
            let line = line_of(&mut lines);
            let message = elements_of_bus(&bus).remove(0);
            let posted = message.get::<gst::Array>("objects").unwrap();
            assert!(line.get("predicted").is_none() && !message.has_field("predicted"));
            for (index, found) in found.iter().enumerate() {
                let object_id = expected(found.detection.object_id);
                assert!(!found.predicted);
                assert_eq!(line["objects"][index]["object_id"].as_i64(), object_id);
                let posted = posted[index].get::<gst::Structure>().unwrap();
                assert_eq!(posted.get::<i64>("object_id").ok(), object_id);
                let crop = crop_details(&crops.pull().unwrap()).unwrap();
                assert_eq!(crop.label, found.label);
                assert_eq!(crop.object_id, found.detection.object_id);
            }
        }
    }
}

#[test]
fn frames_that_interval_skips_have_their_objects_where_they_should_be_marked_as_predicted() {
    for in_flight in [1u32, 3] {
        let element = element("bytetrack")
            .property("interval", 2u32)
            .property("post-messages", true)
            .property("max-in-flight", in_flight)
            .build()
            .unwrap();
        let ([mut harness, mut lines, mut crops], bus) = all_outputs(&element, &picture(0));
        let mut known = None;
        for number in 0..30 {
            let predicted = number % 3 != 0;
            let buffer = harness.push_and_pull(frame(number)).unwrap();
            let found = gstrsdetectnet::detections(&buffer);
            let known = *known.get_or_insert(ids(&found));
            assert_eq!(ids(&found), known, "frame {number}");
            assert!(found.iter().all(|one| one.predicted == predicted));
            let details = frame_details(&buffer);
            assert_eq!(details.is_some_and(|details| details.predicted), predicted);
            let line = line_of(&mut lines);
            assert_eq!(line["predicted"].as_bool().unwrap_or(false), predicted);
            assert_eq!(line["objects"].as_array().unwrap().len(), 2);
            let message = elements_of_bus(&bus).remove(0);
            assert_eq!(message.get::<bool>("predicted").unwrap_or(false), predicted);
            assert_eq!(message.get::<u64>("frame"), Ok(number.into()));
            for (found, x, y) in [(&found[0], 2 + number, 8), (&found[1], 46 - number, 36)] {
                let (x, y, size) = (x as f32, y as f32, SIZE as f32);
                let place = gstrsdetectnet::BoundingBox {
                    x,
                    y,
                    width: size,
                    height: size,
                };
                let iou = found.detection.bounding_box.iou(&place);
                let least = if number < 9 { 0.6 } else { 0.85 };
                assert!(iou > least, "frame {number}: {iou}, {found:?}");
            }
            // What is expected was not seen, and is not cut out.
            if !predicted {
                let crop = [crops.pull().unwrap(), crops.pull().unwrap()];
                assert!(crop.iter().all(|crop| crop.pts() == buffer.pts()));
            }
        }
        let stats = element.property::<gst::Structure>("stats");
        assert_eq!(stats.get::<u64>("inspected"), Ok(10));
        assert_eq!(stats.get::<u64>("skipped"), Ok(20));
        assert_eq!(stats.get::<u64>("crops"), Ok(20));
    }
}

#[test]
fn late_frames_are_predicted_and_gaps_are_empty() {
    let element = element("bytetrack").build().unwrap();
    let mut harness = harness(&element, &picture(0).info());
    let known = ids(&found(&mut harness, frame(0)));
    let late = gst::event::Qos::builder(gst::QOSType::Underflow, 1.5, 100_000_000);
    harness.push_upstream_event(late.timestamp(FRAME).build());
    let shown = found(&mut harness, frame(1));
    assert!(shown.iter().all(|one| one.predicted));
    assert_eq!(ids(&shown), known);
    let mut gap = frame(2);
    gap.get_mut().unwrap().set_flags(gst::BufferFlags::GAP);
    assert_eq!(found(&mut harness, gap), []);
    let shown = found(&mut harness, frame(6));
    assert!(shown.iter().all(|one| !one.predicted));
    assert_eq!(ids(&shown), known);
}

#[test]
fn an_object_that_fades_is_followed_by_bytetrack_and_lost_by_the_others() {
    let faded = |number: u32| {
        let color = if number < 5 { 255 } else { 70 };
        let block = |picture: Picture, x, color| picture.with_block(x, 8, SIZE, SIZE, color);
        // One that was never sure is nobody.
        let picture = block(Picture::grey(64, 64), 4 + number, [color, 0, 0]);
        timed(&block(picture, 40, [0, 70, 0]), number)
    };
    for (tracker, later) in [("none", 0), ("iou", 0), ("bytetrack", 1)] {
        let element = element(tracker).build().unwrap();
        let mut harness = harness(&element, &picture(0).info());
        for number in 0..15 {
            let found = found(&mut harness, faded(number));
            let expected = if number < 5 { 1 } else { later };
            assert_eq!(found.len(), expected, "{tracker} {number}: {found:?}");
            if tracker == "bytetrack" {
                assert_eq!(id(&found, "red"), Some(1));
                let confidence = found[0].detection.confidence;
                assert_eq!(confidence > 0.5, number < 5, "{confidence}");
            }
        }
    }
}

#[test]
fn another_picture_has_other_objects_and_lost_packets_leave_the_same() {
    let element = element("bytetrack").build().unwrap();
    let mut harness = harness(&element, &picture(0).info());
    let largest = |found: &[LabeledDetection]| ids(found).into_iter().flatten().max();
    let mut number = 0;
    let mut next = |harness: &mut Harness, discontinuous: bool| {
        let mut buffer = frame(number);
        if discontinuous {
            buffer
                .get_mut()
                .unwrap()
                .set_flags(gst::BufferFlags::DISCONT);
        }
        number += 1;
        largest(&found(harness, buffer))
    };
    assert_eq!(next(&mut harness, false), Some(2));
    assert_eq!(next(&mut harness, true), Some(2));
    // The same caps again, and the same segment, say nothing new.
    harness.push_event(gst::event::Caps::new(&picture(0).info().to_caps().unwrap()));
    harness.push_event(
        harness
            .sinkpad()
            .unwrap()
            .sticky_event::<gst::event::Segment>(0)
            .unwrap()
            .into(),
    );
    assert_eq!(next(&mut harness, false), Some(2));

    let start = gst::FormattedSegment::<gst::ClockTime>::new();
    harness.push_event(gst::event::FlushStart::new());
    harness.push_event(gst::event::FlushStop::new(true));
    harness.push_event(gst::event::Segment::new(&start));
    assert_eq!(next(&mut harness, false), Some(4));
    let mut later = start;
    later.set_start(gst::ClockTime::from_mseconds(1));
    harness.push_event(gst::event::Segment::new(&later));
    assert_eq!(next(&mut harness, false), Some(6));
    harness.push_event(gst::event::StreamStart::new("another"));
    assert_eq!(next(&mut harness, false), Some(8));
    let large = Picture::grey(128, 128).with_block(8, 8, 32, 32, RED);
    harness.set_src_caps(large.info().to_caps().unwrap());
    let shown = found(&mut harness, timed(&large, 9));
    assert_eq!(id(&shown, "red"), Some(9));
}

#[test]
fn a_picture_that_stays_as_it_is_counts_as_seen_again() {
    let element = element("iou")
        .property("skip-unchanged", 0.5f32)
        .property("hash-size", 8u32)
        .build()
        .unwrap();
    let mut harness = harness(&element, &picture(0).info());
    let mut seen = Vec::new();
    let mut hashes = Vec::new();
    for number in 0..5 {
        let shown = found(&mut harness, timed(&picture(0), number));
        assert_eq!(shown[0].repeated, number > 0);
        assert!(!shown[0].predicted);
        seen.push(id(&shown, "red").is_some());
        hashes.push(
            shown
                .iter()
                .map(|one| one.hash.clone().unwrap())
                .collect::<Vec<_>>(),
        );
    }
    assert_eq!(seen, [false, false, true, true, true]);
    assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn a_tracked_object_is_cut_out_once_in_an_interval() {
    for (tracker, expected) in [("bytetrack", vec![0, 3, 6]), ("none", (0..9).collect())] {
        let element = element(tracker)
            .property("crop-interval-ms", 100u32)
            .build()
            .unwrap();
        let ([mut harness, _lines, mut crops], _bus) = all_outputs(&element, &picture(0));
        for number in 0..9 {
            harness.push_and_pull(frame(number)).unwrap();
        }
        for number in expected {
            let labels = [(); 2].map(|()| {
                let crop = crops.pull().unwrap();
                assert_eq!(crop.pts(), Some(FRAME * number), "{tracker}");
                crop_details(&crop).unwrap().label
            });
            assert!(labels.contains(&"red".into()) && labels.contains(&"blue".into()));
        }
        let stats = element.property::<gst::Structure>("stats");
        let cut = if tracker == "none" { 18 } else { 6 };
        assert_eq!(stats.get::<u64>("crops"), Ok(cut));
    }
}

#[test]
fn the_tracker_may_change_while_playing() {
    let element = element("none").build().unwrap();
    let mut harness = harness(&element, &picture(0).info());
    assert_eq!(ids(&found(&mut harness, frame(0))), [None, None]);
    element.set_property_from_str("tracker", "bytetrack");
    let first = ids(&found(&mut harness, frame(1)));
    assert_eq!(first.into_iter().flatten().sum::<u64>(), 3);
    element.set_property("threshold", 0.4f32);
    assert_eq!(ids(&found(&mut harness, frame(2))), first);
    element.set_property_from_str("tracker", "iou");
    element.set_property("tracker-min-frames", 1u32);
    let second = ids(&found(&mut harness, frame(3)));
    assert_eq!(second.into_iter().flatten().sum::<u64>(), 7);
    element.set_property_from_str("tracker", "none");
    assert_eq!(ids(&found(&mut harness, frame(4))), [None, None]);
}

#[test]
fn tails_are_drawn_behind_objects_also_in_frames_that_nobody_inspects() {
    let element = element("bytetrack")
        .property("overlay", "tail")
        .property("overlay-colors", "red:#ffffff")
        .property("classes", "red")
        .property("interval", 1u32)
        .build()
        .unwrap();
    let mut harness = harness(&element, &picture(0).info());
    for number in 0..12 {
        let buffer = harness.push_and_pull(frame(number)).unwrap();
        let (before, after) = (picture(number), buffer.map_readable().unwrap());
        let changed: Vec<_> = (0..64 * 64)
            .filter(|i| before.rgb[i * 3..][..3] != after[i * 3..][..3])
            .map(|i| (i as u32 % 64, i as u32 / 64))
            .collect();
        let lightened = changed.iter().all(|(x, y)| {
            let at = ((y * 64 + x) * 3) as usize;
            (0..3).all(|i| after[at + i] >= before.rgb[at + i])
        });
        assert!(lightened);
        // The middle of the object was first at 10, 16 and is now at 10 + number.
        assert!(
            changed.len() as u32 >= number.saturating_sub(1),
            "{number}: {changed:?}"
        );
        let near = |(x, y): &(u32, u32)| (9..=11 + number).contains(x) && (15..=17).contains(y);
        assert!(changed.iter().all(near), "{number}: {changed:?}");
    }
}

/// The clip that `pipelines/demo` fetches, with what a person sees in it: from frame 104 to the cut at 136 a cyclist
/// stands beside a van, and from frame 111 on all of his bicycle is seen.
#[test]
fn a_cyclist_in_a_real_clip_stays_who_he_is() {
    let clip = tests_file("../target/clips/bikes.mp4");
    if !clip.is_file() {
        eprintln!(
            "skipped: run pipelines/demo, which fetches {}",
            clip.display()
        );
        return;
    }
    init();
    let pipeline = gst::parse::launch(&format!(
        "filesrc location={} ! decodebin ! videoconvert ! identity eos-after=137 \
         ! rsdetectnet threshold=0.4 tracker=bytetrack ! appsink name=sink sync=false",
        clip.display()
    ));
    let pipeline = pipeline.unwrap().downcast::<gst::Pipeline>().unwrap();
    let sink = pipeline.by_name("sink").unwrap();
    let sink = sink.downcast::<gst_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let mut seen: [Vec<Option<u64>>; 2] = Default::default();
    while let Ok(sample) = sink.pull_sample() {
        let buffer = sample.buffer().unwrap();
        // The clip begins at 80 ms.
        let number = buffer.pts().unwrap().mseconds() / 40 - 2;
        let found = gstrsdetectnet::detections(buffer);
        for (ids, (label, first)) in seen.iter_mut().zip([("Person", 105), ("Bicycle", 112)]) {
            if (first..136).contains(&number) {
                let known = |one: &&LabeledDetection| {
                    one.label == label && one.detection.object_id.is_some()
                };
                let known: Vec<_> = found.iter().filter(known).collect();
                assert_eq!(known.len(), 1, "frame {number}: {known:?}");
                ids.push(known[0].detection.object_id);
            }
        }
    }
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!([seen[0].len(), seen[1].len()], [31, 24]);
    for ids in &seen {
        assert!(ids.iter().all(|id| *id == ids[0]), "{seen:?}");
    }
    assert_ne!(seen[0][0], seen[1][0]);
}
