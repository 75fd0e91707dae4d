use gst_video::{VideoFormat, VideoInfo};

use super::*;
use crate::detection::BoundingBox;
use crate::meta::crop::crop_details;

fn random(state: &mut u32, below: f32) -> f32 {
    *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    (*state >> 8) as f32 / (1 << 24) as f32 * below
}

fn detections(number: u32, width: f32, height: f32) -> Vec<Detection> {
    let mut state = 1;
    let detection = |class_id| {
        let (x, y) = (random(&mut state, width), random(&mut state, height));
        let (right, bottom) = (
            x + random(&mut state, width / 3.0),
            y + random(&mut state, height / 3.0),
        );
        Detection {
            class_id,
            confidence: 0.9,
            bounding_box: BoundingBox::from_corners(x, y, right, bottom).clipped_to(width, height),
            object_id: None,
            oriented: None,
        }
    };
    (0..number).map(detection).collect()
}

fn format(memory: Memory, format: VideoFormat, width: u32, height: u32) -> Format {
    gst::init().unwrap();
    let info = VideoInfo::builder(format, width, height).build().unwrap();
    let shape = FrameShape::new(info).unwrap();
    Format { shape, memory }
}

/// What one frame gives where everything is wanted.
fn produce(
    producer: &mut Producer,
    format: &Format,
    buffer: &gst::Buffer,
    detections: &[Vec<Detection>],
) -> Produced {
    let (width, height) = format.shape.size();
    let inspected = InspectedFrame {
        format,
        buffer,
        context: None,
        facts: FrameFacts {
            number: 3,
            width,
            height,
            ..FrameFacts::default()
        },
        timings: Timings::default(),
        detections,
        labels: &Labels::numbered(500),
    };
    producer.frame_inspected(&inspected).unwrap();
    producer.take()
}

fn with_room(room_for_crops: bool) -> Producer {
    Producer {
        wanted: Wanted {
            line: true,
            crops: true,
            room_for_crops,
            allowed: None,
        },
        ..Producer::default()
    }
}

fn objects(line: &gst::Buffer) -> Vec<serde_json::Value> {
    let line: serde_json::Value = serde_json::from_slice(&line.map_readable().unwrap()).unwrap();
    line["objects"].as_array().unwrap().clone()
}

#[test]
fn five_hundred_objects_of_an_odd_frame_are_cut_out_bit_by_bit_and_told() {
    for video in [VideoFormat::Nv12, VideoFormat::Yuy2, VideoFormat::Bgr] {
        let format = format(Memory::System, video, 641, 361);
        let size = format.shape.info.size() as u32;
        let noise = (0..size).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8);
        let buffer = gst::Buffer::from_mut_slice(noise.collect::<Vec<_>>());
        let found = [detections(500, 641.0, 361.0)];
        let produced = produce(&mut with_room(true), &format, &buffer, &found);
        assert_eq!(objects(&produced.line.unwrap()).len(), 500);
        let crops = produced.crops.unwrap().crops;
        assert_eq!(crops.len(), 500);
        let frame = format.shape.read(&buffer).unwrap();
        let frame = frame.view().unwrap();
        for (crop, class) in crops.iter().zip(0..) {
            let details = crop_details(&crop.buffer).unwrap();
            assert_eq!((details.label_id, details.frame), (class, 3));
            let Pixels::Here { shape, memory } = &crop.pixels else {
                unreachable!()
            };
            assert_eq!((*memory, &shape.info), (Memory::System, &crop.native));
            let mapped = shape.read(&crop.buffer).unwrap();
            assert_same_pixels(&mapped.view().unwrap(), &frame, &details);
        }
    }
}

fn assert_same_pixels(crop: &SystemFrame<'_>, frame: &SystemFrame<'_>, details: &CropDetails) {
    let (width, height) = (details.width as usize, details.height as usize);
    assert_eq!((crop.width, crop.height), (width, height));
    for plane in 0..frame.format.planes() {
        let (x, y) = (details.x as usize, details.y as usize);
        let (left, top) = frame.format.plane_size(plane, x, y);
        let (bytes, rows) = frame.format.plane_size(plane, width, height);
        let (crop, frame) = (crop.planes[plane], frame.planes[plane]);
        for row in 0..rows {
            let given = &crop.data[row * crop.stride..][..bytes];
            let wanted = &frame.data[(top + row) * frame.stride + left..][..bytes];
            assert_eq!(given, wanted, "{details:?}");
        }
    }
}

#[test]
fn without_room_crops_are_counted_but_not_made() {
    let format = format(Memory::System, VideoFormat::Rgb, 64, 64);
    let buffer = gst::Buffer::with_size(format.shape.info.size()).unwrap();
    let found = [detections(5, 64.0, 64.0)];
    let produced = produce(&mut with_room(false), &format, &buffer, &found);
    assert!(produced.crops.is_none());
    assert_eq!(produced.crops_without_room, 5);
}

#[test]
fn frames_of_a_batch_give_one_line_that_tells_them_apart() {
    let batch = [
        detections(2, 64.0, 64.0),
        Vec::new(),
        detections(1, 64.0, 64.0),
    ];
    for memory in [Memory::Cuda, Memory::Nvmm] {
        let format = format(memory, VideoFormat::Nv12, 64, 64);
        let produced = produce(&mut with_room(true), &format, &gst::Buffer::new(), &batch);
        let objects = objects(&produced.line.unwrap());
        let frames: Vec<_> = objects.iter().map(|o| o["batch_id"].as_u64()).collect();
        assert_eq!(frames, [Some(0), Some(0), Some(2)]);
    }
}
