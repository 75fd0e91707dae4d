//! Batches are prepared while streams already run: the detector tells its log which.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::common::init;

const CATEGORY: &str = "rsdetectnet-detector";
/// Engines may have to be built first.
const PATIENCE: Duration = Duration::from_secs(240);

static LARGEST: AtomicU32 = AtomicU32::new(0);

/// Forgets which batches are prepared, and listens for further ones.
pub fn listen() {
    static ONCE: Once = Once::new();
    init();
    ONCE.call_once(|| {
        gst::log::set_threshold_from_string(&format!("{CATEGORY}:4"), false);
        gst::log::add_log_function(|category, _, _, _, _, _, message| {
            let text = message.get().filter(|_| category.name() == CATEGORY);
            let number = text
                .as_ref()
                .and_then(|text| text.strip_prefix("batches of up to "));
            let number = number.and_then(|rest| rest.split(' ').next()?.parse().ok());
            if let Some(number) = number {
                LARGEST.fetch_max(number, Ordering::SeqCst);
            }
        });
    });
    LARGEST.store(0, Ordering::SeqCst);
}

/// Waits until batches of so many frames are prepared.
pub fn wait_for_batches_of(frames: u32) {
    let start = Instant::now();
    while LARGEST.load(Ordering::SeqCst) < frames {
        assert!(
            start.elapsed() < PATIENCE,
            "batches of {} are prepared, not of {frames}",
            LARGEST.load(Ordering::SeqCst)
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    println!(
        "batches of {frames} were prepared after {:?}",
        start.elapsed()
    );
}
