//! Frames pass through the element: the same memory, untouched, whatever their format, size and strides.

mod common;

use common::*;
use gst_video::VideoFormat;
use gstrsdetectnet::frame::video_info;

const CONFIDENT: f32 = 0.9;

#[test]
fn the_memory_that_leaves_is_the_memory_that_came_in() {
    let element = colors_element("colors-ssd.onnx").build().unwrap();
    let picture = Picture::grey(640, 480).with_cell(3, 4, RED);
    let mut harness = harness(&element, &picture.info());
    let buffer = picture.buffer();
    let memory = buffer.peek_memory(0).as_ptr();
    // The second reference makes the buffer itself read-only: metadata goes onto a copy that shares the pixels.
    let shared = buffer.clone();
    let passed = harness.push_and_pull(buffer).unwrap();
    assert_eq!(passed.peek_memory(0).as_ptr(), memory);
    assert_eq!(gstrsdetectnet::detections(&passed).len(), 1);
    assert_eq!(gstrsdetectnet::detections(&shared), []);
    assert_eq!(
        shared.map_readable().unwrap().as_slice(),
        picture.buffer().map_readable().unwrap().as_slice()
    );
}

#[test]
fn the_same_block_is_found_in_every_format_and_colorimetry() {
    for format in gstrsdetectnet::frame::buffer::SYSTEM_FORMATS {
        let picture = Picture::grey(320, 240)
            .with_cell(2, 5, RED)
            .with_cell(6, 1, BLUE);
        let is_yuv = video_info::pixel_format(format).unwrap().0.is_yuv();
        let colorimetries: &[Option<&str>] = match is_yuv {
            true => &[
                Some("bt601"),
                Some("bt709"),
                Some("bt2020"),
                Some("1:4:0:0"),
                Some("1:3:0:0"),
            ],
            false => &[None],
        };
        for colorimetry in colorimetries {
            let sample = picture.converted(format, *colorimetry);
            let element = colors_element("colors-ssd.onnx").build().unwrap();
            let found = detect_one(&element, &sample);
            match format {
                VideoFormat::Gray8 => assert_eq!(found, [], "grey has no colours"),
                _ => assert_found(
                    &found,
                    &[
                        ("red", picture.cell_box(2, 5)),
                        ("blue", picture.cell_box(6, 1)),
                    ],
                    0.99,
                    CONFIDENT,
                ),
            }
        }
    }
}

#[test]
fn odd_and_extreme_sizes_are_inspected() {
    for (width, height) in [(16, 16), (17, 33), (255, 129), (1921, 1081), (7680, 4320)] {
        for format in [
            VideoFormat::Nv12,
            VideoFormat::I420,
            VideoFormat::Yuy2,
            VideoFormat::Bgr,
        ] {
            let picture = Picture::grey(width, height);
            // Blocks are cut at whole pixels, which small frames stretch beyond the cell.
            let picture = picture.with_block(0, 0, width / 2, height / 2, GREEN);
            let element = colors_element("colors-ssd.onnx").build().unwrap();
            let found = detect_one(&element, &picture.converted(format, None));
            let corner = picture.cell_box(1, 1);
            assert!(
                found
                    .iter()
                    .any(|f| f.label == "green" && f.detection.bounding_box.iou(&corner) > 0.98),
                "{width}x{height} {format}: {found:?}"
            );
            assert!(
                found
                    .iter()
                    .all(|f| f.detection.bounding_box.right() <= width as f32)
            );
        }
    }
}

#[test]
fn strides_of_the_buffer_s_own_meta_are_respected() {
    let picture = Picture::grey(200, 120).with_cell(7, 7, BLUE);
    let element = colors_element("colors-ssd.onnx").build().unwrap();
    let mut harness = harness(&element, &picture.info());
    let (row, stride, offset) = (600, 1024, 4096);
    let mut data = vec![255; offset + stride * 120];
    for (y, pixels) in picture.rgb.chunks(row).enumerate() {
        data[offset + y * stride..][..row].copy_from_slice(pixels);
    }
    let mut buffer = gst::Buffer::from_mut_slice(data);
    gst_video::VideoMeta::add_full(
        buffer.get_mut().unwrap(),
        gst_video::VideoFrameFlags::empty(),
        VideoFormat::Rgb,
        200,
        120,
        &[offset],
        &[stride as i32],
    )
    .unwrap();
    let found = gstrsdetectnet::detections(&harness.push_and_pull(buffer).unwrap());
    assert_found(&found, &[("blue", picture.cell_box(7, 7))], 0.99, CONFIDENT);
}

#[test]
fn letterboxed_yolo_finds_the_block_where_it_is_in_wide_and_tall_frames() {
    // The frame's longer side spans the 64 pixels of the input; a cell of it is an eighth of that side.
    for (width, height, x, y) in [(640, 320, 80, 80), (320, 640, 240, 560), (640, 640, 560, 0)] {
        let cell = width.max(height) / 8;
        let picture = Picture::grey(width, height).with_block(x, y, cell, cell, GREEN);
        let element = colors_element("colors-yolov5.onnx").build().unwrap();
        let found = detect_one(&element, &picture.converted(VideoFormat::Nv12, None));
        let side = cell as f32;
        let wanted = gstrsdetectnet::BoundingBox {
            x: x as f32,
            y: y as f32,
            width: side,
            height: side,
        };
        assert_found(&found, &[("green", wanted)], 0.99, CONFIDENT);
    }
}

#[test]
fn models_with_byte_inputs_and_channels_last_see_the_same() {
    let element = colors_element("colors-ssd-nhwc-uint8.onnx")
        .build()
        .unwrap();
    let picture = Picture::grey(320, 240)
        .with_cell(0, 0, RED)
        .with_cell(7, 7, GREEN);
    let found = detect_one(&element, &picture.converted(VideoFormat::I420, None));
    assert_found(
        &found,
        &[
            ("red", picture.cell_box(0, 0)),
            ("green", picture.cell_box(7, 7)),
        ],
        0.99,
        CONFIDENT,
    );
}
