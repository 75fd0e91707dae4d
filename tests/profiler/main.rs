//! What a profiler is told of the element's work. A process lets in one profiler at most, so each case is a process of
//! its own.

#[path = "../common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::programs::{detector, play, said};
use common::*;
use gst::prelude::*;

const VARIABLE: &str = "NVTX_INJECTION64_PATH";
const FRAMES: u64 = 5;

/// What happens to a frame, by the ranges around it.
const TAKEN_IN: [&str; 6] = [
    "inspect",
    "inspect/submit",
    "inspect/submit/wait",
    "inspect/submit/preprocess",
    "inspect/submit/network",
    "inspect/submit/decode",
];
const SENT_ON: [&str; 8] = [
    "finish",
    "finish/track",
    "finish/hash",
    "finish/line",
    "finish/crop",
    "finish/attach",
    "finish/draw",
    "push",
];

/// A range that a profiler was told of.
#[derive(Debug)]
struct Range {
    thread: u64,
    /// Its name behind those of the ranges around it.
    path: String,
    number: Option<u64>,
}

/// Compiles the library that stands in for a profiler's.
fn recorder(folder: &Path) -> PathBuf {
    let library = folder.join("recorder.so");
    let compiled = Command::new("cc")
        .args(["-Wall", "-Werror", "-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(tests_file("profiler/recorder.c"))
        .status()
        .unwrap();
    assert!(compiled.success());
    library
}

/// Runs one of the child processes below.
fn child(program: &Path, test: &str) -> Command {
    let mut command = Command::new(program);
    command
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env_remove(VARIABLE);
    command
}

fn this_program() -> PathBuf {
    std::env::current_exe().unwrap()
}

#[test]
#[ignore = "a child process of the tests here"]
fn child_plays() {
    let Ok(properties) = std::env::var("RSDETECTNET_TEST_PROPERTIES") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("picture.png");
    let Picture { width, height, rgb } = four_cells();
    let file = fs::File::create(&picture).unwrap();
    let mut encoder = png::Encoder::new(file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&rgb).unwrap();
    writer.finish().unwrap();
    // On a GPU the pieces are others.
    let (picture, detector) = (picture.display(), detector() + " backend=onnxruntime");
    let played = play(&format!(
        "filesrc location={picture} ! pngdec ! imagefreeze num-buffers={FRAMES} ! videoconvert \
         ! {detector} {properties} ! fakesink \
         detector.crops ! fakesink async=false detector.detections ! fakesink async=false"
    ));
    // What is found in frames that look alike is counted once.
    assert!(
        played == (FRAMES, 4 * FRAMES) || played == (FRAMES, 4),
        "{played:?}"
    );
    print_what_is_loaded();
}

#[test]
#[ignore = "a child process of the tests here"]
fn child_starts() {
    let element = colors_element("colors-ssd.onnx").build().unwrap();
    let bus = listen(&element);
    let _ = element.set_state(gst::State::Paused);
    while let Some(message) = bus.pop() {
        if let gst::MessageView::Error(error) = message.view() {
            println!("error: {}", error.error());
        }
    }
    element.set_state(gst::State::Null).unwrap();
    // SAFETY: getauxval has no preconditions.
    println!("elevated: {}", unsafe { libc::getauxval(libc::AT_SECURE) });
    print_what_is_loaded();
}

fn print_what_is_loaded() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    println!("a profiler is loaded: {}", maps.contains("recorder.so"));
}

/// Plays frames in a process that is profiled, and returns the ranges of its threads, in the order of their beginnings.
fn record(properties: &str) -> Vec<Range> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ranges");
    let output = child(&this_program(), "child_plays")
        .env(VARIABLE, recorder(folder.path()))
        .env("RECORDER_FILE", &file)
        .env("RSDETECTNET_TEST_PROPERTIES", properties)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(text(&output).contains("a profiler is loaded: true"));
    read(&fs::read_to_string(file).unwrap())
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Asserts that ranges end in the order in which they should, all of them.
fn read(record: &str) -> Vec<Range> {
    let mut ranges = Vec::new();
    let mut open: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for line in record.lines() {
        let fields: Vec<_> = line.split(' ').collect();
        let thread = fields[0].parse().unwrap();
        assert_eq!(fields[2], "rsdetectnet", "another domain: {line}");
        let around = open.entry(thread).or_default();
        match fields[1] {
            "push" => {
                let path = match around.last() {
                    Some(around) => format!("{around}/{}", fields[3]),
                    None => fields[3].to_owned(),
                };
                around.push(path.clone());
                ranges.push(Range {
                    thread,
                    path,
                    number: fields[4].parse().ok(),
                });
            }
            _ => assert!(around.pop().is_some(), "more ends than beginnings: {line}"),
        }
    }
    let left: Vec<_> = open.into_values().flatten().collect();
    assert!(left.is_empty(), "without an end: {left:?}");
    ranges
}

/// The paths of ranges on a thread, and the numbers that some of them have.
fn on_thread(ranges: &[Range], thread: u64) -> Vec<(&str, Option<u64>)> {
    let ranges = ranges.iter().filter(|range| range.thread == thread);
    ranges
        .map(|range| (range.path.as_str(), range.number))
        .collect()
}

/// The thread on which frames go through this range.
fn thread_of(ranges: &[Range], path: &str) -> u64 {
    ranges
        .iter()
        .find(|range| range.path == path)
        .unwrap()
        .thread
}

/// What ranges should be for all frames, of which the outermost have the frame's number.
fn for_each_frame(paths: &[&'static str]) -> Vec<(&'static str, Option<u64>)> {
    let with_number = |number, path: &'static str| (path, (!path.contains('/')).then_some(number));
    (0..FRAMES)
        .flat_map(|number| paths.iter().map(move |path| with_number(number, path)))
        .collect()
}

/// Properties with which a frame goes through everything.
const EVERYTHING: &str =
    "hash-size=8 tracker=iou overlay=box crop-overflow=block json-overflow=block";

#[test]
fn every_piece_of_a_frame_s_way_is_a_range_with_the_frame_s_number() {
    let ranges = record(&format!("{EVERYTHING} max-in-flight=1"));
    let thread = thread_of(&ranges, "inspect");
    let way: Vec<_> = TAKEN_IN.into_iter().chain(SENT_ON).collect();
    assert_eq!(on_thread(&ranges, thread), for_each_frame(&way));
    let loading = on_thread(&ranges, thread_of(&ranges, "load"));
    assert_eq!(loading[0], ("load", None));
    assert!(
        loading[1..]
            .iter()
            .all(|(path, _)| path.starts_with("load/"))
    );
}

#[test]
fn frames_that_are_sent_on_by_another_thread_have_their_ranges_there() {
    let ranges = record(&format!("{EVERYTHING} max-in-flight=4"));
    let (brings, sends) = (thread_of(&ranges, "inspect"), thread_of(&ranges, "finish"));
    assert_ne!(brings, sends);
    assert_eq!(on_thread(&ranges, brings), for_each_frame(&TAKEN_IN));
    assert_eq!(on_thread(&ranges, sends), for_each_frame(&SENT_ON));
}

#[test]
fn a_frame_that_looks_like_the_last_one_is_compared_and_nothing_more() {
    let ranges = record("skip-unchanged=1");
    let way = on_thread(&ranges, thread_of(&ranges, "inspect"));
    let begun: Vec<_> = way
        .iter()
        .filter(|(path, _)| path.starts_with("inspect/"))
        .map(|(path, _)| *path)
        .collect();
    let first = TAKEN_IN[1..].iter().copied();
    let others = std::iter::repeat_n("inspect/compare", FRAMES as usize);
    let expected: Vec<_> = others
        .clone()
        .take(1)
        .chain(first)
        .chain(others.skip(1))
        .collect();
    assert_eq!(begun, expected);
}

#[test]
fn without_a_profiler_no_library_is_loaded() {
    let output = child(&this_program(), "child_plays")
        .env("RSDETECTNET_TEST_PROPERTIES", EVERYTHING)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(text(&output).contains("a profiler is loaded: false"));
}

#[test]
fn a_profiler_that_cannot_be_loaded_or_refuses_is_a_warning_and_frames_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = folder.path().join("nothing.so");
    // It refuses without a file to write to.
    let recorder = recorder(folder.path());
    for (library, why) in [(nothing, "cannot be loaded"), (recorder, "would not start")] {
        let output = child(&this_program(), "child_plays")
            .env(VARIABLE, &library)
            .env("RSDETECTNET_TEST_PROPERTIES", EVERYTHING)
            .env("GST_DEBUG", "rsdetectnet*:2")
            .env("GST_DEBUG_NO_COLOR", "1")
            .output()
            .unwrap();
        let log = said(&output);
        assert!(output.status.success(), "{log}");
        let warnings = log.lines().filter(|line| line.contains("no profiler: "));
        let warnings: Vec<_> = warnings.collect();
        assert!(warnings.len() == 1 && warnings[0].contains(why), "{log}");
        assert!(warnings[0].contains(library.to_str().unwrap()), "{log}");
    }
}

#[test]
fn a_process_with_another_user_s_rights_loads_nothing_that_a_variable_names() {
    const NOBODY: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        println!("NOT TESTED: only root gives a program to another user");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    fs::copy(this_program(), &program).unwrap();
    let start = || {
        // Another user's list of plugins would be made anew each time.
        let output = child(&program, "child_starts")
            .env("GST_PLUGIN_SYSTEM_PATH_1_0", "")
            .env(VARIABLE, recorder(folder.path()))
            .env("RECORDER_FILE", folder.path().join("ranges"))
            .env("ORT_DYLIB_PATH", folder.path().join("no-such.so"))
            .output()
            .unwrap();
        text(&output)
    };
    let own = start();
    assert!(own.contains("elevated: 0"), "{own}");
    assert!(own.contains("a profiler is loaded: true"), "{own}");
    assert!(own.contains("ORT_DYLIB_PATH names"), "{own}");

    chown(&program, Some(NOBODY), None).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    let anothers = start();
    if anothers.contains("elevated: 0") {
        println!(
            "NOT TESTED: programs in {} get no rights",
            program.display()
        );
        return;
    }
    assert!(anothers.contains("elevated: 1"), "{anothers}");
    assert!(
        anothers.contains("a profiler is loaded: false"),
        "{anothers}"
    );
    assert!(!anothers.contains("ORT_DYLIB_PATH names"), "{anothers}");
}
