//! ONNX Runtime's log, written to GStreamer's as category `rsdetectnet-onnxruntime` instead of to the terminal.

use std::sync::{Arc, LazyLock};

use ort::logging::{LogLevel, LoggerFunction};

use crate::printable::printable;

static CATEGORY: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "rsdetectnet-onnxruntime",
        gst::DebugColorFlags::empty(),
        Some("ONNX Runtime's own messages"),
    )
});

pub fn category() -> gst::DebugCategory {
    *CATEGORY
}

/// Its words hold names out of models.
pub fn logger() -> LoggerFunction {
    Arc::new(|level, _, _, _, message| {
        let level = match level {
            LogLevel::Fatal | LogLevel::Error => gst::DebugLevel::Error,
            LogLevel::Warning => gst::DebugLevel::Warning,
            LogLevel::Info => gst::DebugLevel::Debug,
            LogLevel::Verbose => gst::DebugLevel::Log,
        };
        gst::log_with_level!(CATEGORY, level, "{}", printable(message));
    })
}
