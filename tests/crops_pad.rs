//! The pad `crops`: what is cut out, how it looks, what it carries, into real elements.

mod common;

use common::*;
use gst::prelude::*;
use gst_check::Harness;
use gst_video::prelude::*;
use gst_video::{VideoFormat, VideoFrame, VideoInfo};
use gstrsdetectnet::crop_details;
use gstrsdetectnet::frame::buffer::SYSTEM_FORMATS;
use gstrsdetectnet::frame::video_info::pixel_format;

const FRAME: gst::ClockTime = gst::ClockTime::from_mseconds(40);

/// Two red cells and a blue one of 40x30 pixels.
fn picture() -> Picture {
    Picture::grey(320, 240)
        .with_cell(0, 0, RED)
        .with_cell(7, 7, RED)
        .with_cell(3, 4, BLUE)
}

fn timed(buffer: gst::Buffer, number: u64) -> gst::Buffer {
    let mut buffer = buffer;
    let edit = buffer.make_mut();
    edit.set_pts(FRAME * number);
    edit.set_dts(FRAME * number);
    edit.set_duration(FRAME);
    buffer
}

/// The element between a source of `caps` and a sink of the crops that takes `wanted`.
fn crops_harness(element: &gst::Element, caps: &gst::CapsRef, wanted: Option<&str>) -> Harness {
    let mut harness = Harness::with_element(element, Some("sink"), Some("crops"));
    if let Some(wanted) = wanted {
        harness.set_sink_caps_str(wanted);
    }
    harness.set_src_caps(caps.to_owned());
    harness.play();
    harness
}

fn caps_of(harness: &Harness) -> VideoInfo {
    let caps = harness.sinkpad().unwrap().current_caps().unwrap();
    VideoInfo::from_caps(&caps).unwrap()
}

/// The bytes of a rectangle of a plane; rectangles of planes with less samples are smaller alike.
fn bytes(
    frame: &VideoFrame<gst_video::video_frame::Readable>,
    plane: usize,
    rectangle: [u32; 4],
) -> Vec<u8> {
    let (format, order) = pixel_format(frame.format()).unwrap();
    let [x, y, width, height] = rectangle.map(|v| v as usize);
    let (left, top) = format.plane_size(plane, x, y);
    let (row, rows) = format.plane_size(plane, width, height);
    let stride = frame.plane_stride()[order[plane]] as usize;
    let data = frame.plane_data(order[plane] as u32).unwrap();
    (top..top + rows)
        .flat_map(|line| data[line * stride + left..][..row].to_vec())
        .collect()
}

#[test]
fn crops_of_every_format_are_the_frame_s_own_pixels_bit_by_bit() {
    for format in SYSTEM_FORMATS {
        if format == VideoFormat::Gray8 {
            continue;
        }
        let element = colors_element("colors-ssd.onnx").build().unwrap();
        let sample = picture().converted(format, None);
        let mut harness = crops_harness(&element, sample.caps().unwrap(), None);
        let frame = timed(sample.buffer_owned().unwrap(), 7);
        let info = VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
        harness.push(frame.clone()).unwrap();
        let whole = VideoFrame::from_buffer_readable(frame, &info).unwrap();
        let mut labels = Vec::new();
        for _ in 0..3 {
            let crop = harness.pull().unwrap();
            assert_eq!((crop.pts(), crop.dts()), (Some(FRAME * 7), Some(FRAME * 7)));
            assert_eq!(crop.duration(), Some(FRAME));
            let details = crop_details(&crop).unwrap();
            assert_eq!((details.frame_width, details.frame_height), (320, 240));
            assert_eq!((details.frame, details.object_id), (0, None));
            assert!(details.confidence > 0.9);
            let (width, height) = (details.width, details.height);
            assert!((40..=44).contains(&width) && (30..=34).contains(&height));
            let native = VideoInfo::builder(format, width, height).build().unwrap();
            let shown = VideoFrame::from_buffer_readable(crop, &native).unwrap();
            for plane in 0..pixel_format(format).unwrap().0.planes() {
                let cut = [details.x, details.y, width, height];
                let same = bytes(&shown, plane, [0, 0, width, height]) == bytes(&whole, plane, cut);
                assert!(same, "{format} plane {plane} of {details:?}");
            }
            labels.push(details.label);
        }
        labels.sort();
        assert_eq!(labels, ["blue", "red", "red"]);
        let last = caps_of(&harness);
        assert_eq!(
            (last.format(), last.fps()),
            (format, gst::Fraction::new(0, 1))
        );
        assert_eq!(last.colorimetry(), info.colorimetry());
    }
}

#[test]
fn downstream_decides_size_and_format() {
    for (wanted, size) in [
        ("video/x-raw,format=RGBA,width=224,height=224", (224, 224)),
        ("video/x-raw,format=BGR,width=80", (80, 60)),
        ("video/x-raw,format=I420,height=[100,200]", (40, 100)),
        ("video/x-raw,format=GRAY8", (40, 30)),
    ] {
        let element = colors_element("colors-ssd.onnx")
            .property("classes", "blue")
            .property_from_str("crop-resize", "stretch")
            .build()
            .unwrap();
        let sample = picture().converted(VideoFormat::Nv12, None);
        let mut harness = crops_harness(&element, sample.caps().unwrap(), Some(wanted));
        let crop = harness
            .push_and_pull(sample.buffer_owned().unwrap())
            .unwrap();
        let info = caps_of(&harness);
        assert_eq!((info.width(), info.height()), size, "{wanted}");
        let details = crop_details(&crop).unwrap();
        assert_eq!((details.width, details.height), (40, 30));
        let shown = VideoFrame::from_buffer_readable(crop, &info).unwrap();
        let middle = (info.height() / 2 * info.stride()[0] as u32) as usize;
        let pixel = &shown.plane_data(0).unwrap()
            [middle + info.width() as usize / 2 * info.comp_pstride(0) as usize..];
        match info.format() {
            VideoFormat::Rgba => {
                assert!(pixel[0] < 9 && pixel[1] < 9 && pixel[2] > 246 && pixel[3] == 255)
            }
            VideoFormat::Bgr => assert!(pixel[0] > 246 && pixel[1] < 9 && pixel[2] < 9),
            _ => assert!((26..46).contains(&pixel[0]), "{wanted}: {}", pixel[0]),
        }
    }
}

#[test]
fn the_meta_survives_a_jpeg_encoder_a_queue_and_a_tee() {
    init();
    let labels = tests_file("models/colors.labels.txt");
    let pipeline = gst::parse::launch(&format!(
        "appsrc name=in format=time ! rsdetectnet name=d model={} labels={} ! fakesink \
         d.crops ! jpegenc ! queue ! tee name=t ! queue ! appsink name=out sync=false \
         t. ! queue ! fakesink",
        model("colors-ssd.onnx"),
        labels.display()
    ))
    .unwrap()
    .downcast::<gst::Pipeline>()
    .unwrap();
    let source = pipeline
        .by_name("in")
        .unwrap()
        .downcast::<gst_app::AppSrc>()
        .unwrap();
    let sink = pipeline
        .by_name("out")
        .unwrap()
        .downcast::<gst_app::AppSink>()
        .unwrap();
    let sample = picture().converted(VideoFormat::Nv12, None);
    source.set_caps(sample.caps_owned().as_ref());
    pipeline.set_state(gst::State::Playing).unwrap();
    source
        .push_buffer(timed(sample.buffer_owned().unwrap(), 3))
        .unwrap();
    source.end_of_stream().unwrap();
    for _ in 0..3 {
        let jpeg = sink.pull_sample().unwrap();
        let buffer = jpeg.buffer().unwrap();
        assert_eq!(&buffer.map_readable().unwrap()[..2], [0xff, 0xd8]);
        let details = crop_details(buffer).unwrap();
        let size = jpeg.caps().unwrap().structure(0).unwrap();
        assert_eq!(size.get::<i32>("width"), Ok(details.width as i32));
        assert_eq!(size.get::<i32>("height"), Ok(details.height as i32));
        assert_eq!(buffer.pts(), Some(FRAME * 3));
    }
    assert!(sink.pull_sample().is_err());
    assert!(sink.is_eos());
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn the_stream_of_crops_is_its_own_with_gaps_for_frames_without_any() {
    let element = colors_element("colors-ssd.onnx").build().unwrap();
    let grey = Picture::grey(320, 240);
    let mut harness = crops_harness(&element, &grey.info().to_caps().unwrap(), None);
    harness.push(timed(grey.buffer(), 0)).unwrap();
    harness.push(timed(picture().buffer(), 1)).unwrap();
    for _ in 0..3 {
        harness.pull().unwrap();
    }
    harness.push_event(gst::event::Eos::new());
    let mut events = Vec::new();
    while events.last() != Some(&gst::EventType::Eos) {
        let event = harness.pull_event().unwrap();
        match event.view() {
            gst::EventView::StreamStart(start) => assert!(start.stream_id().ends_with("/crops")),
            gst::EventView::Gap(gap) => assert_eq!(gap.get(), (gst::ClockTime::ZERO, Some(FRAME))),
            _ => {}
        }
        events.push(event.type_());
    }
    use gst::EventType::{Caps, Eos, Gap, Segment, StreamStart};
    // The gap needs caps before there is a crop: those of the whole frame.
    assert_eq!(events, [StreamStart, Caps, Segment, Gap, Caps, Eos]);
}

#[test]
fn rules_take_effect_while_playing() {
    let element = colors_element("colors-ssd.onnx").build().unwrap();
    let picture = picture().with_block(200, 40, 16, 12, GREEN);
    let mut harness = crops_harness(&element, &picture.info().to_caps().unwrap(), None);
    let mut crops = |element: &gst::Element| {
        let stats = || {
            element
                .property::<gst::Structure>("stats")
                .get::<u64>("crops")
                .unwrap()
        };
        let before = stats();
        harness.push(timed(picture.buffer(), 0)).unwrap();
        let made = stats() - before;
        (0..made)
            .map(|_| crop_details(&harness.pull().unwrap()).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(crops(&element).len(), 3);
    element.set_property("crop-classes", "blue:0.2");
    let blue = crops(&element);
    assert_eq!(blue.len(), 1);
    assert_eq!(
        (blue[0].x, blue[0].y, blue[0].width, blue[0].height),
        (120, 120, 40, 30)
    );
    element.set_property("crop-margin", 0.5f32);
    let grown = crops(&element);
    assert_eq!(
        (grown[0].x, grown[0].y, grown[0].width, grown[0].height),
        (100, 105, 80, 60)
    );
    element.set_property("crop-classes", None::<&str>);
    element.set_property("crop-max-per-frame", 2u32);
    assert_eq!(crops(&element).len(), 2);
    element.set_property("crop-min-size", 31u32);
    assert_eq!(crops(&element).len(), 0);
    element.set_property("crop-min-size", 0u32);
    assert_eq!(crops(&element).len(), 2);
    let bus = listen(&element);
    element.set_property("crop-classes", "violet");
    assert_eq!(crops(&element).len(), 2, "the earlier settings stay");
    let message = bus.pop_filtered(&[gst::MessageType::Warning]).unwrap();
    let gst::MessageView::Warning(warning) = message.view() else {
        unreachable!()
    };
    let text = warning.error().to_string();
    assert!(
        text.contains("crop-classes: the model has no class 'violet'"),
        "{text}"
    );
}

#[test]
fn what_the_overlay_draws_is_not_in_the_crops() {
    let element = colors_element("colors-ssd.onnx")
        .property("overlay", "box,label")
        .property("classes", "blue")
        .build()
        .unwrap();
    let mut harness = crops_harness(&element, &picture().info().to_caps().unwrap(), None);
    let crop = harness.push_and_pull(timed(picture().buffer(), 0)).unwrap();
    let info = caps_of(&harness);
    let shown = VideoFrame::from_buffer_readable(crop, &info).unwrap();
    let pixels = bytes(&shown, 0, [0, 0, 40, 30]);
    assert!(pixels.chunks(3).all(|pixel| pixel == BLUE));
}

#[test]
fn crops_follow_changes_of_the_video_s_caps() {
    let element = colors_element("colors-ssd.onnx")
        .property("classes", "blue")
        .build()
        .unwrap();
    let mut harness = Harness::with_element(&element, Some("sink"), Some("crops"));
    harness.play();
    for (width, height) in [(64, 64), (640, 480), (320, 240), (1920, 1080)] {
        for format in [VideoFormat::Nv12, VideoFormat::Rgb, VideoFormat::Yuy2] {
            let picture = Picture::grey(width, height).with_cell(2, 3, BLUE);
            let sample = picture.converted(format, None);
            harness.set_src_caps(sample.caps_owned().unwrap());
            let crop = harness
                .push_and_pull(sample.buffer_owned().unwrap())
                .unwrap();
            let info = caps_of(&harness);
            let details = crop_details(&crop).unwrap();
            assert_eq!(info.format(), format);
            assert_eq!(
                (info.width(), info.height()),
                (details.width, details.height)
            );
            assert_eq!((details.frame_width, details.frame_height), (width, height));
            assert!(
                info.width().abs_diff(width / 8) <= 2,
                "{width}: {}",
                info.width()
            );
        }
    }
}

#[test]
fn a_change_of_downstream_s_wishes_changes_the_crops() {
    init();
    let labels = tests_file("models/colors.labels.txt");
    let bin = gst::parse::bin_from_description(
        &format!(
            "rsdetectnet name=d classes=blue model={} labels={} d.crops ! \
             capsfilter name=wish caps=video/x-raw,width=64,height=64 ! identity name=end",
            model("colors-ssd.onnx"),
            labels.display()
        ),
        false,
    )
    .unwrap();
    for (name, element, pad) in [("sink", "d", "sink"), ("src", "end", "src")] {
        let target = bin.by_name(element).unwrap().static_pad(pad).unwrap();
        bin.add_pad(
            &gst::GhostPad::builder_with_target(&target)
                .unwrap()
                .name(name)
                .build(),
        )
        .unwrap();
    }
    let mut harness = Harness::with_element(&bin, Some("sink"), Some("src"));
    harness.set_src_caps(picture().info().to_caps().unwrap());
    harness.play();
    let mut size = || {
        harness.push_and_pull(timed(picture().buffer(), 0)).unwrap();
        (caps_of(&harness).width(), caps_of(&harness).height())
    };
    assert_eq!(size(), (64, 64));
    let wish = bin.by_name("wish").unwrap();
    wish.set_property(
        "caps",
        gst::Caps::builder("video/x-raw")
            .field("width", 20i32)
            .build(),
    );
    assert_eq!(size(), (20, 15));
    wish.set_property("caps", gst::Caps::new_any());
    assert_eq!(size(), (40, 30));
}

#[test]
fn the_pad_says_what_crops_of_the_video_can_be_here() {
    let element = colors_element("colors-ssd.onnx")
        .property_from_str("backend", "onnxruntime")
        .build()
        .unwrap();
    let pad = element.request_pad_simple("crops").unwrap();
    let features = |caps: &gst::Caps| {
        let features = caps.iter_with_features().map(|(_, features)| features);
        features.map(|f| f.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        features(&pad.query_caps(None)),
        ["memory:CUDAMemory", "memory:NVMM", "memory:SystemMemory"]
    );
    let _harness = harness(&element, &picture().info());
    let here = pad.query_caps(None);
    assert_eq!(features(&here), ["memory:SystemMemory"]);
    let formats = here.structure(0).unwrap();
    let formats = formats.get::<gst::List>("format").unwrap();
    assert_eq!(formats.len(), SYSTEM_FORMATS.len());
    let filter = gst_video::VideoCapsBuilder::new()
        .format(VideoFormat::Gray8)
        .width(20)
        .build();
    assert_eq!(pad.query_caps(Some(&filter)), filter);
}

#[test]
fn a_branch_that_takes_gpu_memory_alone_is_a_warning_for_video_in_system_memory() {
    let element = colors_element("colors-ssd.onnx").build().unwrap();
    let bus = listen(&element);
    let caps = "video/x-raw(memory:CUDAMemory)"
        .parse::<gst::Caps>()
        .unwrap();
    let sink = gst::ElementFactory::make("capsfilter")
        .property("caps", &caps)
        .build()
        .unwrap();
    sink.set_state(gst::State::Playing).unwrap();
    let pad = element.request_pad_simple("crops").unwrap();
    pad.link(&sink.static_pad("sink").unwrap()).unwrap();
    let mut harness = harness(&element, &picture().info());
    harness.push_and_pull(timed(picture().buffer(), 0)).unwrap();
    let twenty = gst::ClockTime::from_seconds(20);
    let message = bus.timed_pop_filtered(twenty, &[gst::MessageType::Warning]);
    let message = message.unwrap();
    let gst::MessageView::Warning(warning) = message.view() else {
        unreachable!()
    };
    let text = warning.error().to_string();
    assert!(text.contains("takes no video in system memory"), "{text}");
    harness.push_and_pull(timed(picture().buffer(), 1)).unwrap();
    pad.unlink(&sink.static_pad("sink").unwrap()).unwrap();
    sink.set_state(gst::State::Null).unwrap();
}
