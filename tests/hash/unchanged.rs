//! Frames that look like the one before, which pass uninspected.

use super::*;

/// An element that compares frames with the last inspected one.
fn comparing(limit: f32) -> Builder {
    colors_element("colors-ssd.onnx").property("skip-unchanged", limit)
}

/// Inspected and unchanged frames so far.
fn fates(element: &gst::Element) -> [u64; 2] {
    ["inspected", "unchanged"].map(|name| count(element, name))
}

/// Runs `videotestsrc OPTIONS ! rsdetectnet PROPERTIES` and tells how many frames were inspected and unchanged.
fn run(options: &str, properties: &str) -> [u64; 2] {
    init();
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc num-buffers=40 {options} ! video/x-raw,format=NV12,width=320,height=240,framerate=25/1 \
         ! rsdetectnet name=d model={} labels={} {properties} ! fakesink",
        model("colors-ssd.onnx"),
        tests_file("models/colors.labels.txt").display()
    ))
    .unwrap()
    .downcast::<gst::Pipeline>()
    .unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let end = [gst::MessageType::Eos, gst::MessageType::Error];
    let bus = pipeline.bus().unwrap();
    let message = bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &end);
    let element = pipeline.by_name("d").unwrap();
    let counted = fates(&element);
    assert_eq!(count(&element, "frames"), 40);
    pipeline.set_state(gst::State::Null).unwrap();
    let message = message.unwrap();
    assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
    counted
}

#[test]
fn a_still_picture_is_inspected_once_and_a_moving_one_always() {
    assert_eq!(run("pattern=smpte100", ""), [40, 0]);
    assert_eq!(run("pattern=smpte100", "skip-unchanged=0.1"), [1, 39]);
    let moving = "pattern=smpte100 horizontal-speed=16";
    assert_eq!(run(moving, "skip-unchanged=0.1"), [40, 0]);
    assert_eq!(run(moving, "skip-unchanged=255"), [1, 39]);
    assert_eq!(run("pattern=snow", "skip-unchanged=1"), [40, 0]);
}

#[test]
fn interval_counts_unchanged_frames_as_inspected_ones() {
    // Every fourth frame is looked at.
    assert_eq!(
        run("pattern=smpte100", "skip-unchanged=1 interval=3"),
        [1, 9]
    );
}

/// What the 48 x 48 pixels of a block that is 141 levels brighter than the rest change in a frame of 640 x 480 pixels:
/// on average 141 * 48 * 48 / (640 * 480) = 1.0575 levels when it comes, twice as much when it moves to where it was
/// not.
#[test]
fn the_limit_is_the_part_of_the_frame_that_changes_times_its_contrast() {
    let empty = Picture::grey(640, 480);
    let block = |x, y| empty.clone().with_block(x, y, 48, 48, [255; 3]);
    let comes: f64 = 141.0 * (48.0 * 48.0) / (640.0 * 480.0);
    // Each cell that the block touches, 9 of 256 at most, is rounded by half a level at most.
    let rounding = 0.5 * 9.0 / 256.0;
    for (first, second, change, rounding) in [
        (empty.clone(), block(100, 200), comes, rounding),
        (
            block(100, 200),
            block(400, 310),
            2.0 * comes,
            2.0 * rounding,
        ),
    ] {
        for (limit, unchanged) in [(change - rounding, 0), (change + rounding, 1)] {
            let element = comparing(limit as f32).build().unwrap();
            let mut harness = harness(&element, &empty.info());
            harness.push_and_pull(timed(&first, 0)).unwrap();
            harness.push_and_pull(timed(&second, 1)).unwrap();
            assert_eq!(fates(&element), [2 - unchanged, unchanged], "{limit}");
        }
    }
}

#[test]
fn a_larger_hash_sees_smaller_objects_move() {
    // Within a cell of 40 x 30 pixels; of 64 x 64 cells it leaves one for another.
    let empty = Picture::grey(640, 480);
    let at = |x| empty.clone().with_block(x, 305, 8, 6, [255; 3]);
    for (side, unchanged) in [(16u32, 1), (64, 0)] {
        let element = comparing(0.02).property("hash-size", side).build().unwrap();
        let mut harness = harness(&element, &empty.info());
        harness.push_and_pull(timed(&at(162), 0)).unwrap();
        harness.push_and_pull(timed(&at(182), 1)).unwrap();
        assert_eq!(fates(&element), [2 - unchanged, unchanged], "{side}");
    }
}

/// Frames are compared with the last inspected one, not with the one before: what changes slowly is seen as well.
#[test]
fn slow_changes_add_up() {
    let element = comparing(2.5).build().unwrap();
    let flat = |level: u8| {
        let mut picture = Picture::grey(64, 64);
        picture.rgb.fill(level);
        picture
    };
    let mut harness = harness(&element, &flat(0).info());
    let mut inspected = Vec::new();
    for number in 0..10 {
        let before = fates(&element)[0];
        let picture = flat(100 + number);
        harness
            .push_and_pull(timed(&picture, number.into()))
            .unwrap();
        if fates(&element)[0] > before {
            inspected.push(number);
        }
    }
    assert_eq!(inspected, [0, 3, 6, 9]);
}

fn without_marks(found: Vec<LabeledDetection>) -> Vec<(String, gstrsdetectnet::Detection)> {
    found.into_iter().map(|f| (f.label, f.detection)).collect()
}

#[test]
fn an_unchanged_frame_gets_the_last_result_marked_as_repeated() {
    let picture = scene();
    // A dot that no cell shows, so that the frames are not the same to the byte.
    let dotted = picture.clone().with_block(160, 120, 1, 1, [255; 3]);
    let element = comparing(0.5)
        .property("hash-size", 8u32)
        .property("post-messages", true)
        .property("overlay", "box")
        .build()
        .unwrap();
    let ([mut harness, mut lines, mut crops], bus) = all_outputs(&element, &picture);
    let first = harness.push_and_pull(timed(&picture, 0)).unwrap();
    let second = harness.push_and_pull(timed(&dotted, 1)).unwrap();
    assert_eq!(fates(&element), [1, 1]);

    let (then, now) = [&first, &second]
        .map(|b| gstrsdetectnet::detections(b))
        .into();
    assert!(then.iter().all(|found| !found.repeated));
    assert!(now.iter().all(|found| found.repeated));
    let hashes = |found: &[LabeledDetection]| -> Vec<_> {
        found
            .iter()
            .map(|found| found.hash.clone().unwrap())
            .collect()
    };
    // Objects are those of then, the frame is its own.
    assert_eq!(hashes(&now), hashes(&then));
    assert_eq!(without_marks(now).len(), 2);
    assert_eq!(
        without_marks(gstrsdetectnet::detections(&second)),
        without_marks(then)
    );
    let details = [&first, &second].map(|buffer| frame_details(buffer).unwrap());
    assert_eq!(details.each_ref().map(|d| d.repeated), [false, true]);
    let wanted = averages(&dotted, WEIGHTS, [0, 0, 322, 242], 8);
    assert_hash(details[1].hash.as_ref().unwrap(), &wanted, 1e-9);

    let messages = elements_of_bus(&bus);
    let repeated = |message: &gst::Structure| message.get::<bool>("repeated").ok();
    assert_eq!(
        messages.iter().map(repeated).collect::<Vec<_>>(),
        [None, Some(true)]
    );
    assert_eq!(messages[1].get::<u64>("frame"), Ok(1));
    assert_eq!(messages[1].get::<u64>("timestamp"), Ok(40_000_000));
    assert_eq!(messages[1].get::<gst::Array>("objects").unwrap().len(), 2);

    let [then, now] = [0, 1].map(|_| {
        let line = lines.pull().unwrap();
        serde_json::from_slice::<Value>(&line.map_readable().unwrap()).unwrap()
    });
    assert_eq!(
        (then.get("repeated"), &now["repeated"]),
        (None, &Value::Bool(true))
    );
    assert_eq!(
        (&now["frame"], &now["pts"]),
        (&1.into(), &40_000_000.into())
    );
    assert_eq!(now["objects"], then["objects"]);
    assert_eq!(now["timing"]["total_us"], 0);

    // The overlay is in both, crops are of the first alone.
    for (buffer, plain) in [(&first, &picture), (&second, &dotted)] {
        assert_ne!(
            buffer.map_readable().unwrap()[..],
            plain.buffer().map_readable().unwrap()[..]
        );
    }
    for _ in 0..2 {
        assert_eq!(crop_details(&crops.pull().unwrap()).unwrap().frame, 0);
    }
    assert_eq!(crops.buffers_in_queue(), 0);
    assert_eq!(count(&element, "crops"), 2);
}

/// Nothing leaves until all have come: frames are compared with one whose objects are not attached yet.
#[test]
fn with_several_frames_in_flight_each_gets_the_result_of_the_one_that_it_looks_like() {
    let element = comparing(0.5)
        .property("hash-size", 8u32)
        .property("max-in-flight", 8u32)
        .build()
        .unwrap();
    let at = |column| Picture::grey(64, 64).with_cell(column, 3, RED);
    let columns = [1, 1, 6, 6, 6, 1, 4];
    let mut harness = harness(&element, &at(0).info());
    let blocking = gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER;
    let pad = element.static_pad("src").unwrap();
    let probe = pad
        .add_probe(blocking, |_, _| gst::PadProbeReturn::Ok)
        .unwrap();
    for (column, number) in columns.into_iter().zip(0..) {
        harness.push(timed(&at(column), number)).unwrap();
    }
    pad.remove_probe(probe);
    let mut repeated = Vec::new();
    for (column, number) in columns.into_iter().zip(0..) {
        let buffer = harness.pull().unwrap();
        assert_eq!(buffer.pts(), Some(FRAME * number));
        let found = gstrsdetectnet::detections(&buffer);
        assert_found(
            &found,
            &[("red", at(column).cell_box(column, 3))],
            0.99,
            0.9,
        );
        let details = frame_details(&buffer).unwrap();
        let wanted = averages(&at(column), WEIGHTS, [0, 0, 64, 64], 8);
        assert_hash(&details.hash.unwrap(), &wanted, 1e-9);
        assert_eq!(found[0].repeated, details.repeated);
        let rectangle = rectangle_of(&buffer)[0];
        let wanted = averages(&at(column), WEIGHTS, rectangle, 8);
        assert_hash(found[0].hash.as_ref().unwrap(), &wanted, 1e-9);
        repeated.push(details.repeated);
    }
    assert_eq!(repeated, [false, true, false, true, true, false, false]);
    assert_eq!(fates(&element), [4, 3]);
}

#[test]
fn a_repeated_frame_is_marked_also_where_nothing_was_found_and_no_hash_is_wanted() {
    let picture = Picture::grey(64, 64);
    let element = comparing(1.0).build().unwrap();
    let mut harness = harness(&element, &picture.info());
    let first = harness.push_and_pull(timed(&picture, 0)).unwrap();
    assert_eq!(frame_details(&first), None);
    let second = harness.push_and_pull(timed(&picture, 1)).unwrap();
    let details = frame_details(&second).unwrap();
    assert_eq!((details.repeated, details.hash), (true, None));
    element.set_property("metadata", "none");
    harness.push_and_pull(timed(&picture, 2)).unwrap();
    let bare = harness.push_and_pull(timed(&picture, 3)).unwrap();
    assert_eq!(fates(&element), [2, 2]);
    assert_eq!(frame_details(&bare), None);
}

#[test]
fn after_a_flush_new_caps_a_new_segment_and_other_settings_a_frame_is_inspected() {
    let picture = scene();
    let element = comparing(255.0).build().unwrap();
    let mut harness = harness(&element, &picture.info());
    let mut expected = [0, 0];
    let mut push = |harness: &mut Harness, picture: &Picture| {
        harness.push_and_pull(timed(picture, 0)).unwrap();
        harness.push_and_pull(timed(picture, 1)).unwrap();
        expected = expected.map(|count| count + 1);
        assert_eq!(fates(&element), expected);
    };
    push(&mut harness, &picture);

    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    harness.push_event(gst::event::FlushStart::new());
    harness.push_event(gst::event::FlushStop::new(true));
    harness.push_event(gst::event::Segment::new(&segment));
    push(&mut harness, &picture);

    let mut later = segment;
    later.set_base(gst::ClockTime::from_seconds(1));
    harness.push_event(gst::event::Segment::new(&later));
    push(&mut harness, &picture);

    let other = Picture::grey(64, 48);
    harness.set_src_caps(other.info().to_caps().unwrap());
    push(&mut harness, &other);

    element.set_property("threshold", 0.3f32);
    push(&mut harness, &other);

    element.set_property("hash-size", 9u32);
    push(&mut harness, &other);
}

#[test]
fn gaps_and_late_frames_are_not_compared() {
    let picture = scene();
    let element = comparing(255.0).build().unwrap();
    let mut harness = harness(&element, &picture.info());
    let mut gap = timed(&picture, 0);
    gap.get_mut().unwrap().set_flags(gst::BufferFlags::GAP);
    harness.push_and_pull(gap).unwrap();
    assert_eq!(fates(&element), [0, 0]);
    harness.push_and_pull(timed(&picture, 1)).unwrap();
    harness.push_upstream_event(gst::event::Qos::new(
        gst::QOSType::Underflow,
        2.0,
        3 * FRAME.nseconds() as i64,
        FRAME,
    ));
    let late = harness.push_and_pull(timed(&picture, 2)).unwrap();
    assert_eq!(gstrsdetectnet::detections(&late), []);
    assert_eq!((fates(&element), count(&element, "late")), ([1, 0], 1));
    harness.push_and_pull(timed(&picture, 9)).unwrap();
    assert_eq!(fates(&element), [1, 1]);
}
