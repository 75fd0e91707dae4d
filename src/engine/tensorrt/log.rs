//! TensorRT's log, written to GStreamer's as category `rsdetectnet-tensorrt`.

use std::ffi::{CStr, c_char};
use std::sync::{LazyLock, Mutex, PoisonError};

use gst::DebugLogger as _;

use crate::printable::printable;

static CATEGORY: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "rsdetectnet-tensorrt",
        gst::DebugColorFlags::empty(),
        Some("TensorRT's own messages"),
    )
});

/// The first error since it was last taken: TensorRT says the cause first, and then what failed because of it.
/// One for all threads, since TensorRT reports from threads of its own.
static FIRST_ERROR: Mutex<Option<String>> = Mutex::new(None);

pub fn category() -> gst::DebugCategory {
    *CATEGORY
}

pub fn take_first_error() -> Option<String> {
    FIRST_ERROR
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
}

/// GStreamer's level for a `nvinfer1::ILogger::Severity`.
fn level(severity: i32) -> gst::DebugLevel {
    match severity {
        0 | 1 => gst::DebugLevel::Error,
        2 => gst::DebugLevel::Warning,
        3 => gst::DebugLevel::Info,
        _ => gst::DebugLevel::Debug,
    }
}

pub extern "C" fn write(severity: i32, message: *const c_char) {
    let level = level(severity);
    let is_error = level == gst::DebugLevel::Error;
    if message.is_null() || !(is_error || CATEGORY.above_threshold(level)) {
        return;
    }
    // SAFETY: TensorRT passes a null-terminated string that lives for this call.
    let message = unsafe { CStr::from_ptr(message) }.to_string_lossy();
    if is_error {
        FIRST_ERROR
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert_with(|| message.clone().into_owned());
    }
    // It names what is in the model.
    gst::log_with_level!(CATEGORY, level, "{}", printable(message));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_several_errors_is_the_reason_given() {
        take_first_error();
        for (severity, message) in [(2, c"a warning"), (1, c"the cause"), (0, c"what followed")] {
            write(severity, message.as_ptr());
        }
        assert_eq!(take_first_error().as_deref(), Some("the cause"));
        assert_eq!(take_first_error(), None);
    }

    #[test]
    fn severities_keep_their_meaning() {
        use gst::DebugLevel::{Debug, Error, Info, Warning};
        assert_eq!(
            [0, 1, 2, 3, 4].map(level),
            [Error, Error, Warning, Info, Debug]
        );
    }
}
