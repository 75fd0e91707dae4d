//! Bad input gets one clear sentence and an element error: never a panic, a hang or silence.

mod common;

use common::*;

/// The error of an element that is built like this.
fn error_of(build: impl FnOnce(Builder) -> Builder) -> String {
    init();
    let element = build(gst::ElementFactory::make("rsdetectnet"));
    start_error(&element.build().unwrap())
}

fn model_error(name: &str) -> String {
    error_of(|element| element.property("model", model(name)))
}

#[test]
fn a_missing_model_is_named() {
    assert!(model_error("none.onnx").contains("none.onnx"));
}

#[test]
fn broken_empty_and_random_files_are_refused() {
    assert!(model_error("broken.onnx").contains("ONNX model"));
    let folder = tempfile::tempdir().unwrap();
    let random = folder
        .path()
        .join("random.onnx")
        .to_str()
        .unwrap()
        .to_owned();
    let bytes: Vec<u8> = (0..65536u32)
        .map(|i| (i.wrapping_mul(2654435761) >> 13) as u8)
        .collect();
    for (content, sentence) in [(&b""[..], "is empty"), (&bytes, "not an ONNX model")] {
        std::fs::write(&random, content).unwrap();
        let error = {
            let random = random.clone();
            error_of(move |e| e.property("model", random))
        };
        assert!(error.contains(sentence), "{error}");
    }
}

#[test]
fn metadata_that_is_unknown_or_that_this_system_lacks_is_refused() {
    let error_with = |metadata: &str| {
        let metadata = metadata.to_owned();
        error_of(move |element| element.property("metadata", metadata))
    };
    let error = error_with("rois");
    assert!(error.contains("metadata: 'rois' is none of roi"), "{error}");
    if gstrsdetectnet::meta::analytics::Library::get().is_err() {
        let error = error_with("roi,analytics");
        assert!(
            error.contains("metadata=analytics: GStreamer's analytics library is missing"),
            "{error}"
        );
    }
}

#[test]
fn models_that_detect_nothing_are_refused_with_what_was_seen() {
    let error = model_error("classifier.onnx");
    assert!(error.contains("probabilities float32 [1,"), "{error}");
    let error = model_error("two-inputs.onnx");
    assert!(error.contains("one image input"), "{error}");
}

#[test]
fn labels_that_do_not_fit_are_refused_with_both_counts() {
    let folder = tempfile::tempdir().unwrap();
    let labels = folder
        .path()
        .join("labels.txt")
        .to_str()
        .unwrap()
        .to_owned();
    std::fs::write(&labels, "only one\n").unwrap();
    let error = error_of(move |e| e.property("labels", labels));
    assert!(
        error.contains("holds 1 labels, but the model has 24 classes"),
        "{error}"
    );
    let error = error_of(|e| e.property("labels", "/no/labels.txt"));
    assert!(
        error.contains("/no/labels.txt could not be read"),
        "{error}"
    );
}

#[test]
fn unknown_classes_and_overlays_are_refused_at_the_start() {
    let error = error_of(|e| e.property("classes", "unicorn"));
    assert!(error.contains("no class 'unicorn'"), "{error}");
    let error = error_of(|e| e.property("overlay", "frames"));
    assert!(error.contains("'frames' is none of box"), "{error}");
}

#[test]
fn a_model_that_returns_not_a_number_finds_nothing_and_goes_on() {
    let element = colors_element("nan-ssd.onnx").build().unwrap();
    let picture = Picture::grey(64, 64).with_cell(1, 1, RED);
    let mut harness = harness(&element, &picture.info());
    for _ in 0..3 {
        let buffer = harness.push_and_pull(picture.buffer()).unwrap();
        assert_eq!(gstrsdetectnet::detections(&buffer), []);
    }
}

/// Pushes a buffer that is not what the caps say; returns the element's error.
fn frame_error(buffer: gst::Buffer) -> String {
    let element = colors_element("colors-ssd.onnx").build().unwrap();
    let mut harness = harness(&element, &Picture::grey(64, 64).info());
    let bus = listen(&element);
    assert_eq!(harness.push(buffer), Err(gst::FlowError::Error));
    let message = bus.pop_filtered(&[gst::MessageType::Error]).unwrap();
    let gst::MessageView::Error(error) = message.view() else {
        unreachable!()
    };
    error.error().to_string()
}

#[test]
fn empty_and_truncated_buffers_are_refused_with_the_sizes() {
    init();
    let error = frame_error(gst::Buffer::new());
    assert!(
        error.contains("holds 0 bytes, at least 12288 are needed"),
        "{error}"
    );
    let error = frame_error(gst::Buffer::with_size(12287).unwrap());
    assert!(error.contains("holds 12287 bytes"), "{error}");
}

#[test]
fn metadata_that_reaches_beyond_the_memory_is_refused() {
    init();
    let with_meta = |offset: usize, stride: i32, (width, height)| {
        let mut buffer = gst::Buffer::with_size(64 * 64 * 3).unwrap();
        gst_video::VideoMeta::add_full(
            buffer.get_mut().unwrap(),
            gst_video::VideoFrameFlags::empty(),
            gst_video::VideoFormat::Rgb,
            width,
            height,
            &[offset],
            &[stride],
        )
        .map(|_| ())
        .map(|()| buffer)
    };
    for (offset, stride) in [(1, 192), (0, 193), (0, 100), (1 << 40, 192)] {
        // GStreamer refuses some of these itself; what it lets through must not be read.
        if let Ok(buffer) = with_meta(offset, stride, (64, 64)) {
            let error = frame_error(buffer);
            assert!(error.contains("are needed"), "{offset} {stride}: {error}");
        }
    }
    let error = frame_error(with_meta(0, 96, (32, 32)).unwrap());
    assert!(
        error.contains("32x32") && error.contains("64x64"),
        "{error}"
    );
}

#[test]
fn a_frame_before_its_caps_is_refused() {
    let element = colors_element("colors-ssd.onnx").build().unwrap();
    let mut harness = gst_check::Harness::with_element(&element, Some("sink"), Some("src"));
    harness.play();
    harness.push_event(gst::event::StreamStart::new("test"));
    harness.push_event(gst::event::Segment::new(&gst::FormattedSegment::<
        gst::ClockTime,
    >::new()));
    assert_eq!(
        harness.push(gst::Buffer::new()),
        Err(gst::FlowError::NotNegotiated)
    );
}
