//! Where GST_TRACERS=leaks and G_DEBUG=fatal-warnings are set, a process that leaves an object of GStreamer behind names
//! it, and fails.

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
    gst::log::set_threshold_from_string("GST_TRACER:7", false);
    // SAFETY: the tests are over, and nothing of GStreamer is used any more.
    unsafe { gst::deinit() };
}
