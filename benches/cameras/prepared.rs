//! Whether the batches that so many cameras call for are prepared: the detector tells its log.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use gst::glib;

const CATEGORY: &str = "rsdetectnet-detector";
/// The name of the thread that prepares larger batches, as far as the kernel keeps it.
const THREAD: &str = "rsdetectnet-gro";
const LARGEST_BATCH: usize = 32;

static LARGEST: AtomicU32 = AtomicU32::new(0);

/// Listens to the log from now on; warnings of all elements go to standard error as ever.
pub fn listen() {
    gst::log::set_threshold_from_string(&format!("{CATEGORY}:4"), false);
    gst::log::remove_default_log_function();
    gst::log::add_log_function(|category, level, file, function, line, object, message| {
        if let Some(text) = message.get()
            && category.name() == CATEGORY
        {
            note(&text);
        }
        if level <= category.threshold()
            && (category.name() != CATEGORY || level <= gst::DebugLevel::Warning)
        {
            let object = object.map(|object| glib::GString::from(object.to_string()));
            eprintln!(
                "{level:?} {} {file}:{line} {function}: {} {}",
                category.name(),
                object.unwrap_or_default(),
                message.get().unwrap_or_default()
            );
        }
    });
}

/// Takes up `batches of up to 8 took 0.9s to prepare`.
fn note(text: &str) {
    let number = text.strip_prefix("batches of up to ");
    let number = number.and_then(|rest| rest.split(' ').next()?.parse().ok());
    if let Some(number) = number {
        LARGEST.fetch_max(number, Ordering::Relaxed);
    }
}

/// What was prepared before is gone.
pub fn forget() {
    LARGEST.store(0, Ordering::Relaxed);
}

/// Waits until batches for so many frames under way are prepared, or nobody prepares any; says how long it took.
pub fn wait(under_way: usize, patience: f64) -> Duration {
    let wanted = under_way.div_ceil(2).min(LARGEST_BATCH) as u32;
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < patience
        && LARGEST.load(Ordering::Relaxed) < wanted
        && somebody_prepares()
    {
        std::thread::sleep(Duration::from_millis(50));
    }
    start.elapsed()
}

fn somebody_prepares() -> bool {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else {
        return false;
    };
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .any(|name| name.trim_end() == THREAD)
}
