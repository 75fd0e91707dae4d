//! Where GST_TRACERS=leaks and G_DEBUG=fatal-warnings are set, a process that leaves an object of GStreamer behind
//! names it, and fails.

use std::sync::atomic::{AtomicBool, Ordering};

static LOOKS: AtomicBool = AtomicBool::new(true);

/// Has this process not look: it runs a server, which keeps what it serves in threads of its own.
pub fn do_not_look() {
    LOOKS.store(false, Ordering::Relaxed);
}

/// Has this process look when it ends.
pub fn look_at_the_end() {
    let tracers = std::env::var("GST_TRACERS").unwrap_or_default();
    if tracers.contains("leaks") {
        // SAFETY: the function is one that `exit` may call, and does not unwind.
        assert_eq!(unsafe { libc::atexit(look) }, 0);
    }
}

/// The tracer lists what is alive, and warns, when GStreamer itself has put its things away.
extern "C" fn look() {
    if !LOOKS.load(Ordering::Relaxed) {
        return;
    }
    gst::log::set_threshold_from_string("GST_TRACER:7", false);
    // SAFETY: the tests are over, and nothing of GStreamer is used any more.
    unsafe { gst::deinit() };
}
