//! The cache of engines on disks that are full or read-only, and with files that are not what they were.

use std::ffi::CString;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::common::init;
use crate::media::{COLORS_SSD, COLORS_YOLO};
use crate::playing::{Played, assert_colorful, attempt, colorful_frames};
use crate::process::alone;

/// Before the content of a file of the cache: a magic number, the key, and the SHA-256 of the content.
const KEY_END: usize = 40;
const HEADER: usize = 72;

/// A disk in memory, mounted until this value goes.
struct Disk(TempDir);

impl Disk {
    /// None where this is not root, who alone can mount.
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("NOT TESTED: only root can mount a disk");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        match mount(folder.path(), 0) {
            Ok(()) => Some(Self(folder)),
            Err(error) => {
                println!("NOT TESTED: no disk can be mounted: {error}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn make_read_only(&self) {
        mount(self.path(), libc::MS_REMOUNT | libc::MS_RDONLY).unwrap();
    }

    /// Takes all room, and returns the file that has it.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("ballast");
        let mut file = fs::File::create(&path).unwrap();
        let block = vec![1; 1 << 16];
        while file.write_all(&block).is_ok() {}
        while file.write_all(&[1]).is_ok() {}
        path
    }

    fn files(&self) -> usize {
        fs::read_dir(self.path()).unwrap().count()
    }
}

fn mount(path: &Path, flags: libc::c_ulong) -> std::io::Result<()> {
    let target = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: all texts end with a zero and outlive the call.
    let result = unsafe {
        let options = c"size=64m,mode=700".as_ptr().cast();
        libc::mount(
            c"none".as_ptr(),
            target.as_ptr(),
            c"tmpfs".as_ptr(),
            flags,
            options,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let target = CString::new(self.path().as_os_str().as_bytes()).unwrap();
        // SAFETY: as above.
        unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
    }
}

/// What TensorRT and the cache warned of.
static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn listen() {
    init();
    gst::log::set_threshold_from_string("rsdetectnet-tensorrt:2", false);
    gst::log::add_log_function(|category, level, _, _, _, _, message| {
        let text = message
            .get()
            .filter(|_| category.name() == "rsdetectnet-tensorrt");
        if let (Some(text), gst::DebugLevel::Warning) = (text, level) {
            WARNINGS.lock().unwrap().push(text.to_string());
        }
    });
}

/// Asserts that there was a warning with all of these words since the last call.
fn assert_warned(words: &[&str]) {
    let warnings = std::mem::take(&mut *WARNINGS.lock().unwrap());
    let found = |warning: &&String| words.iter().all(|word| warning.contains(word));
    match warnings.iter().find(found) {
        Some(warning) => println!("{warning}"),
        None => panic!("{words:?} are not in {warnings:?}"),
    }
}

fn start(cache: &Path) -> Played {
    let played = attempt(&COLORS_SSD.detector(cache), &colorful_frames(3)).unwrap();
    assert_colorful(&played);
    played
}

/// The engines in a cache.
fn engines(cache: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(cache).unwrap();
    let mut engines: Vec<_> = files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "engine-cache"))
        .collect();
    engines.sort();
    engines
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn a_cache_on_a_full_disk_is_a_warning_and_the_element_detects() {
    let test = "cache::a_cache_on_a_full_disk_is_a_warning_and_the_element_detects";
    alone(test, 120, || {
        listen();
        let Some(disk) = Disk::new() else {
            return;
        };
        let ballast = disk.fill();
        start(disk.path());
        assert_warned(&["the engine is not kept", "No space left on device"]);
        assert_eq!(disk.files(), 1, "something unfinished is left");
        fs::remove_file(ballast).unwrap();
        start(disk.path());
        assert!(!engines(disk.path()).is_empty());
        assert!(!start(disk.path()).was_built());
    });
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn a_cache_on_a_read_only_disk_gives_what_it_holds_and_the_rest_is_built_with_a_warning() {
    let test = "cache::a_cache_on_a_read_only_disk_gives_what_it_holds_and_the_rest_is_built_with_a_warning";
    alone(test, 120, || {
        listen();
        let Some(disk) = Disk::new() else {
            return;
        };
        start(disk.path());
        disk.make_read_only();
        assert!(!start(disk.path()).was_built());

        let Some(empty) = Disk::new() else {
            return;
        };
        empty.make_read_only();
        start(empty.path());
        assert_warned(&["the engine is not kept", "Read-only file system"]);

        let nowhere = COLORS_SSD.detector(&empty.path().join("engines"));
        let error = attempt(&nowhere, &colorful_frames(1)).err().unwrap();
        println!("{error}");
        assert!(error.contains("Read-only file system"), "{error}");
        assert!(error.ends_with("choose another engine-cache"), "{error}");
    });
}

/// What is made of a file that was kept.
type Change<'a> = dyn Fn(&[u8]) -> Vec<u8> + 'a;

/// A file of the cache with this header, this content, and the digest of it.
fn sealed(header: &[u8], content: &[u8]) -> Vec<u8> {
    let digest = Sha256::digest(content);
    [&header[..KEY_END], digest.as_slice(), content].concat()
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn engines_of_another_model_release_or_tensorrt_are_built_anew_with_a_warning() {
    let test = "cache::engines_of_another_model_release_or_tensorrt_are_built_anew_with_a_warning";
    alone(test, 180, || {
        listen();
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("engines");
        start(&cache);
        // One for each size of batch that was made by then.
        let own: Vec<_> = engines(&cache);
        let whole: Vec<_> = own.iter().map(|path| fs::read(path).unwrap()).collect();
        attempt(&COLORS_YOLO.detector(&cache), &colorful_frames(1)).unwrap();
        let other = engines(&cache).into_iter().find(|path| !own.contains(path));
        let other = fs::read(other.unwrap()).unwrap();

        let replace = |make: &Change| {
            for (path, whole) in own.iter().zip(&whole) {
                fs::write(path, make(whole)).unwrap();
            }
        };
        let of_another_release = |whole: &[u8]| {
            let mut bytes = whole.to_vec();
            bytes[7] ^= 0xff;
            bytes
        };
        let of_another_tensorrt = |whole: &[u8]| {
            let mut plan = whole[HEADER..].to_vec();
            plan[..4].reverse();
            sealed(whole, &plan)
        };
        let cases: [(&Change, &str); 4] = [
            (&|_| other.clone(), "it belongs to another model"),
            (&of_another_release, "it is not a file of this version"),
            (&of_another_tensorrt, "the engine cannot be loaded"),
            (
                &|whole| sealed(whole, &[7; 4096]),
                "the engine cannot be loaded",
            ),
        ];
        for (make, words) in cases {
            replace(make);
            let played = start(&cache);
            assert_warned(&["building anew", words]);
            println!("{words}: {:?}", played.progress.last());
            assert!(!start(&cache).was_built(), "{words}");
        }
    });
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn an_engine_that_is_replaced_while_elements_load_it_harms_none() {
    let test = "cache::an_engine_that_is_replaced_while_elements_load_it_harms_none";
    alone(test, 150, || {
        const STARTS: usize = 40;
        const TIME: Duration = Duration::from_secs(25);
        listen();
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("engines");
        start(&cache);
        let path = engines(&cache).remove(0);
        let whole = fs::read(&path).unwrap();
        let mut damaged = whole.clone();
        damaged[whole.len() / 2] ^= 1;
        let contents = [
            &whole[..],
            &damaged,
            &whole,
            &whole[..whole.len() / 3],
            &whole,
            &[],
        ];
        let ended = AtomicBool::new(false);
        let (mut starts, mut built) = (0, 0);
        thread::scope(|scope| {
            scope.spawn(|| {
                for content in contents.iter().cycle() {
                    if ended.load(Ordering::Relaxed) {
                        return;
                    }
                    // One in three is written in place, while others may read it.
                    let unfinished = cache.join("unfinished");
                    fs::write(&unfinished, content).unwrap();
                    fs::rename(&unfinished, &path).unwrap();
                    thread::sleep(Duration::from_millis(7));
                    fs::write(&path, content).unwrap();
                    thread::sleep(Duration::from_millis(7));
                }
            });
            let begin = Instant::now();
            let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                while starts < STARTS && begin.elapsed() < TIME {
                    built += usize::from(start(&cache).was_built());
                    starts += 1;
                }
            }));
            ended.store(true, Ordering::Relaxed);
            played.unwrap();
        });
        println!("{starts} starts, of which {built} built the engine anew");
        assert!(starts >= 3);
        start(&cache);
        assert!(!start(&cache).was_built());
    });
}
