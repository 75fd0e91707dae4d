//! A pipeline whose appsrc `source` gets pictures, and whose appsink `sink` gives what becomes of them.

use gst::prelude::*;
use gst_app::{AppSink, AppSrc};

use crate::common::{Picture, init};

pub struct Fed {
    pipeline: gst::Pipeline,
    pub source: AppSrc,
    pub sink: AppSink,
}

impl Fed {
    /// Plays `elements` between source and sink, for pictures like this one.
    pub fn playing(elements: &str, picture: &Picture) -> Self {
        init();
        let pipeline = gst::parse::launch(&format!(
            "appsrc name=source format=time ! {elements} ! appsink name=sink sync=false"
        ))
        .unwrap()
        .downcast::<gst::Pipeline>()
        .unwrap();
        let source = pipeline.by_name("source").and_downcast::<AppSrc>().unwrap();
        let sink = pipeline.by_name("sink").and_downcast::<AppSink>().unwrap();
        source.set_caps(Some(&picture.info().to_caps().unwrap()));
        pipeline.set_state(gst::State::Playing).unwrap();
        Self {
            pipeline,
            source,
            sink,
        }
    }

    pub fn push(&self, picture: &Picture, pts: gst::ClockTime) {
        let mut buffer = picture.buffer();
        buffer.get_mut().unwrap().set_pts(pts);
        self.source.push_buffer(buffer).unwrap();
    }

    /// Asserts that no element had an error.
    pub fn stop(self) {
        let error = self.pipeline.bus().unwrap();
        let error = error.pop_filtered(&[gst::MessageType::Error]);
        self.pipeline.set_state(gst::State::Null).unwrap();
        assert!(error.is_none(), "{error:?}");
    }
}
