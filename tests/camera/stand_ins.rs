//! What a Jetson and a USB camera give, where neither is. Real are the scripts and the pipelines, which must be
//! understood as they stand, and the caps that `rsdetectnet` takes. Stand-ins are `nvarguscamerasrc`, which offers the
//! caps of the real one but no pictures; `nv3dsink`, which is a `fakesink`; for `v4l2src` a `videotestsrc` behind the
//! caps of USB cameras; and, for NVMM alone, which the element refuses where there is no GPU, a `capsfilter` with the
//! element's own caps.

use std::sync::atomic::{AtomicI32, Ordering};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::base_src::CreateSuccess;
use gst_base::subclass::prelude::*;

use crate::common::programs::{command, detector, python_runs};
use crate::common::{init, tests_file};
use crate::printed;

const NVMM: &str =
    "video/x-raw(memory:NVMM),format=NV12,width=[1,4096],height=[1,4096],framerate=[0/1,120/1]";

#[derive(Default)]
struct Argus {
    sensor_id: AtomicI32,
}

#[glib::object_subclass]
impl ObjectSubclass for Argus {
    const NAME: &'static str = "StandInForArgus";
    type Type = ArgusElement;
    type ParentType = gst_base::PushSrc;
}

glib::wrapper! {
    struct ArgusElement(ObjectSubclass<Argus>) @extends gst_base::PushSrc, gst_base::BaseSrc, gst::Element, gst::Object;
}

impl ObjectImpl for Argus {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: std::sync::OnceLock<Vec<glib::ParamSpec>> = std::sync::OnceLock::new();
        PROPERTIES.get_or_init(|| vec![glib::ParamSpecInt::builder("sensor-id").build()])
    }

    fn set_property(&self, _: usize, value: &glib::Value, _: &glib::ParamSpec) {
        self.sensor_id.store(value.get().unwrap(), Ordering::SeqCst);
    }

    fn property(&self, _: usize, _: &glib::ParamSpec) -> glib::Value {
        self.sensor_id.load(Ordering::SeqCst).to_value()
    }

    fn constructed(&self) {
        self.parent_constructed();
        self.obj().set_live(true);
        self.obj().set_format(gst::Format::Time);
        self.obj().set_do_timestamp(true);
    }
}

impl GstObjectImpl for Argus {}

impl ElementImpl for Argus {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: std::sync::OnceLock<gst::subclass::ElementMetadata> =
            std::sync::OnceLock::new();
        Some(METADATA.get_or_init(|| {
            gst::subclass::ElementMetadata::new("Stand-in", "Source/Video", "Offers NVMM", "Tests")
        }))
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: std::sync::OnceLock<Vec<gst::PadTemplate>> = std::sync::OnceLock::new();
        TEMPLATES.get_or_init(|| {
            let caps: gst::Caps = NVMM.parse().unwrap();
            let (source, always) = (gst::PadDirection::Src, gst::PadPresence::Always);
            vec![gst::PadTemplate::new("src", source, always, &caps).unwrap()]
        })
    }
}

impl BaseSrcImpl for Argus {}

impl PushSrcImpl for Argus {
    fn create(&self, _: Option<&mut gst::BufferRef>) -> Result<CreateSuccess, gst::FlowError> {
        let frame = gst::Buffer::with_size(64).map_err(|_| gst::FlowError::Error)?;
        Ok(CreateSuccess::NewBuffer(frame))
    }
}

fn register_stand_ins() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        init();
        let sink = gst::ElementFactory::find("fakesink").unwrap();
        let sink = sink.load().unwrap().element_type();
        for (name, type_) in [
            ("nvarguscamerasrc", ArgusElement::static_type()),
            ("nv3dsink", sink),
        ] {
            if gst::ElementFactory::find(name).is_none() {
                gst::Element::register(None, name, gst::Rank::NONE, type_).unwrap();
            }
        }
    });
}

/// The caps that reach what is called `detector`, and the error with which a pipeline ends that ends.
fn negotiated(words: &[String], ends: bool) -> (gst::Caps, Option<String>) {
    let pipeline = understood(words);
    let detector = pipeline.by_name("detector").unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let pad = detector.static_pad("sink").unwrap();
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(gst::EventView::Caps(caps)) = info.event().map(|event| event.view()) {
            let _ = sender.send(caps.caps_owned());
        }
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    let caps = receiver
        .recv_timeout(std::time::Duration::from_secs(20))
        .unwrap_or_else(|_| {
            panic!(
                "no caps: {:?}",
                pipeline
                    .bus()
                    .unwrap()
                    .pop_filtered(&[gst::MessageType::Error])
            )
        });
    let wanted = [gst::MessageType::Eos, gst::MessageType::Error];
    let bus = pipeline.bus().unwrap();
    let limit = gst::ClockTime::from_seconds(if ends { 30 } else { 0 });
    let end = bus.timed_pop_filtered(limit, &wanted);
    let error = end.and_then(|end| match end.view() {
        gst::MessageView::Error(error) => Some(error.error().to_string()),
        _ => None,
    });
    pipeline.set_state(gst::State::Null).unwrap();
    (caps, error)
}

fn understood(words: &[String]) -> gst::Pipeline {
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let pipeline = gst::parse::launchv(&words).unwrap_or_else(|e| panic!("{words:?}: {e}"));
    pipeline.downcast().unwrap()
}

/// The words with which a script runs gst-launch-1.0, without its options.
pub fn words_of(script: &str, arguments: &[&str]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let stand_in = folder.path().join("gst-launch-1.0");
    std::fs::write(&stand_in, "#!/bin/sh\nprintf '%s\\n' \"$@\"\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&stand_in, mode).unwrap();
    let path = format!(
        "{}:{}",
        folder.path().display(),
        std::env::var("PATH").unwrap()
    );
    let mut command = command(tests_file("../pipelines").join(script), folder.path());
    let output = command.args(arguments).env("PATH", path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let words = String::from_utf8(output.stdout).unwrap();
    let words = words.lines().skip_while(|word| word.starts_with('-'));
    words.map(str::to_owned).collect()
}

/// As a shell splits a printed command.
fn split(line: &str) -> Vec<String> {
    let words = line.split(' ').skip(1).map(|word| word.replace('\'', ""));
    words.collect()
}

fn assert_reached(words: &[String], width: i32, height: i32) {
    register_stand_ins();
    understood(words);
    let element = gst::ElementFactory::make("rsdetectnet").build().unwrap();
    let takes = element.pad_template("sink").unwrap().caps().to_string();
    let at = words.iter().position(|word| word == "rsdetectnet").unwrap();
    let end = at + words[at..].iter().position(|word| word == "!").unwrap();
    let stand_in = ["capsfilter", "name=detector", &format!("caps={takes}")].map(str::to_owned);
    let (caps, error) = negotiated(&[&words[..at], &stand_in, &words[end..]].concat(), false);
    assert_eq!(error, None);
    assert!(caps.features(0).unwrap().contains("memory:NVMM"), "{caps}");
    let structure = caps.structure(0).unwrap();
    assert_eq!(structure.get::<&str>("format").unwrap(), "NV12");
    assert_eq!(structure.get::<i32>("width").unwrap(), width);
    assert_eq!(structure.get::<i32>("height").unwrap(), height);
}

#[test]
fn the_csi_camera_of_a_jetson_gives_its_frames_in_nvmm_to_the_element() {
    let words = words_of("csi", &["1"]);
    assert_eq!(words[..2], ["nvarguscamerasrc", "sensor-id=1"]);
    assert_reached(&words, 1280, 720);
    if python_runs() {
        let line = printed(&[
            "csi://0",
            "--platform=jetson",
            "--width=1920",
            "--height=1080",
        ]);
        assert!(line.ends_with("nv3dsink sync=false"), "{line}");
        assert_reached(&split(&line), 1920, 1080);
    }
}

#[test]
fn usb_cameras_that_give_raw_frames_or_jpeg_are_detected_in() {
    init();
    let size = "width=320,height=240,framerate=30/1";
    for gives in [
        format!("video/x-raw,format=YUY2,{size}"),
        format!("video/x-raw,format=I420,{size} ! jpegenc"),
    ] {
        let words = words_of("v4l2", &["/dev/video3"]);
        assert_eq!(words[..2], ["v4l2src", "device=/dev/video3"]);
        let source = format!("videotestsrc is-live=true num-buffers=5 ! {gives}");
        let detector = detector();
        let shown = words[2..].iter().map(|word| match word.as_str() {
            "autovideosink" => "fakesink",
            "rsdetectnet" => &detector,
            word => word,
        });
        let rest: Vec<_> = shown.collect();
        let (caps, error) = negotiated(&split(&format!("- {source} {}", rest.join(" "))), true);
        assert_eq!(error, None);
        assert_eq!(caps.structure(0).unwrap().get::<i32>("width").unwrap(), 320);
    }
}
