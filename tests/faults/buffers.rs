//! Buffers that are not what the caps or the stream promise.

use gst::prelude::*;

use crate::common::pads::*;
use crate::common::*;

fn stream() -> Stream {
    Stream::playing(
        &colors_element("colors-ssd.onnx").build().unwrap(),
        &four_cells().info(),
    )
}

fn found(passed: &[Passed]) -> Vec<Vec<String>> {
    let labels = |passed: &Passed| match passed {
        Passed::Frame { detections, .. } => {
            Some(detections.iter().map(|d| d.label.to_string()).collect())
        }
        _ => None,
    };
    passed.iter().filter_map(labels).collect()
}

#[test]
fn a_buffer_that_others_hold_is_inspected_and_theirs_stays_as_it_was() {
    let stream = stream();
    let buffer = four_cells().buffer();
    stream.source.push(buffer.clone()).unwrap();
    stream.sink.wait_for_frames(1);
    assert_eq!(found(&stream.sink.passed())[0].len(), 4);
    assert_eq!(gstrsdetectnet::detections(&buffer), []);
}

#[test]
fn memory_that_may_only_be_read_is_inspected_and_left_as_it_was_by_an_overlay() {
    let element = colors_element("colors-ssd.onnx").property("overlay", "box,label");
    let stream = Stream::playing(&element.build().unwrap(), &four_cells().info());
    let mut picture = four_cells().buffer();
    let before = picture.map_readable().unwrap().to_vec();
    let memory = picture.peek_memory(0).to_owned();
    let locked = memory.copy();
    let mut buffer = gst::Buffer::new();
    buffer.get_mut().unwrap().append_memory(locked);
    // A second holder of the buffer and of its memory.
    let other = buffer.clone();
    stream.source.push(buffer).unwrap();
    stream.sink.wait_for_frames(1);
    assert_eq!(found(&stream.sink.passed())[0].len(), 4);
    assert_eq!(*other.map_readable().unwrap(), *before);
    picture.make_mut();
}

#[test]
fn frames_without_times_out_of_order_and_after_gaps_are_all_inspected() {
    let stream = stream();
    let seconds = |seconds: u64| Some(gst::ClockTime::from_seconds(seconds));
    let times = [
        None,
        seconds(3),
        seconds(1),
        None,
        seconds(1 << 33),
        seconds(0),
        seconds(0),
    ];
    for (number, pts) in times.into_iter().enumerate() {
        let mut buffer = four_cells().buffer();
        let frame = buffer.get_mut().unwrap();
        frame.set_pts(pts);
        if number % 2 == 1 {
            frame.set_flags(gst::BufferFlags::DISCONT | gst::BufferFlags::CORRUPTED);
        }
        stream.source.push(buffer).unwrap();
    }
    stream.sink.wait_for_frames(times.len());
    let passed = stream.sink.passed();
    assert!(
        found(&passed).iter().all(|labels| labels.len() == 4),
        "{passed:?}"
    );
    let came: Vec<_> = passed
        .iter()
        .filter_map(|passed| match passed {
            Passed::Frame { pts, .. } => Some(*pts),
            _ => None,
        })
        .collect();
    assert_eq!(came, times);
}

#[test]
fn a_frame_in_many_memories_is_inspected_as_one() {
    let stream = stream();
    let whole = four_cells().buffer();
    let bytes = whole.map_readable().unwrap();
    let mut buffer = gst::Buffer::new();
    for part in bytes.chunks(bytes.len() / 7 + 1) {
        let memory = gst::Memory::from_slice(part.to_vec());
        buffer.get_mut().unwrap().append_memory(memory);
    }
    stream.source.push(buffer).unwrap();
    stream.sink.wait_for_frames(1);
    assert_eq!(found(&stream.sink.passed())[0].len(), 4);
}

#[test]
fn larger_buffers_than_the_caps_need_are_inspected() {
    let stream = stream();
    let mut buffer = four_cells().buffer();
    let memory = gst::Memory::with_size(4096);
    buffer.get_mut().unwrap().append_memory(memory);
    stream.source.push(buffer).unwrap();
    stream.sink.wait_for_frames(1);
    assert_eq!(found(&stream.sink.passed())[0].len(), 4);
}
