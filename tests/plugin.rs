//! The plugin as a file: it loads, inspects and fails clearly anywhere, and leaks nothing.

mod common;

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Output};

use common::library;

/// A tool of GStreamer that sees the plugin alone beside the system's own.
fn tool(name: &str, plugins: &Path) -> Command {
    let mut command = Command::new(name);
    command
        .env("GST_PLUGIN_PATH", plugins)
        .env("GST_REGISTRY", plugins.join("registry.bin"))
        .env_remove("G_DEBUG");
    command
}

/// A folder with nothing but the plugin.
fn plugin_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(library(), folder.path().join("libgstrsdetectnet.so")).unwrap();
    folder
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr]
        .map(|o| String::from_utf8_lossy(o).into_owned())
        .join("\n")
}

#[test]
fn nothing_of_an_engine_or_a_driver_is_linked() {
    let output = Command::new("readelf")
        .arg("-d")
        .arg(library())
        .output()
        .unwrap();
    let needed: Vec<_> = text(&output)
        .lines()
        .filter(|l| l.contains("(NEEDED)"))
        .map(str::to_lowercase)
        .collect();
    assert!(
        needed.iter().any(|l| l.contains("libgstreamer-1.0")),
        "{needed:?}"
    );
    for library in [
        "cuda",
        "nvinfer",
        "tensorrt",
        "onnx",
        "nvbuf",
        "nvds",
        "gstcuda",
        "gstanalytics",
    ] {
        assert!(
            !needed.iter().any(|l| l.contains(library)),
            "{library} in {needed:?}"
        );
    }
}

/// The functions of these packages of Debian with the release in which each came, as dpkg-shlibdeps reads them.
fn releases(packages: &str) -> HashMap<String, String> {
    let mut releases = HashMap::new();
    let Ok(files) = std::fs::read_dir("/var/lib/dpkg/info") else {
        return releases;
    };
    for file in files.map(|file| file.unwrap().path()) {
        let name = file.file_name().unwrap().to_string_lossy();
        if !name.starts_with(packages) || !name.ends_with(".symbols") {
            continue;
        }
        for line in std::fs::read_to_string(&file).unwrap().lines() {
            let symbol = line.strip_prefix(' ').and_then(|line| line.split_once('@'));
            if let Some((symbol, rest)) = symbol {
                let release = rest.split_whitespace().nth(1).unwrap();
                releases.insert(symbol.to_owned(), release.to_owned());
            }
        }
    }
    releases
}

fn numbers(release: &str) -> Vec<u32> {
    let parts = release.split(['.', '~', '-', '+']);
    parts.map_while(|part| part.parse().ok()).collect()
}

/// GStreamer 1.20 is the oldest that is promised, and GLib 2.64 that of JetPack 5, on which it can be built.
#[test]
fn no_function_is_needed_that_came_after_the_oldest_gstreamer() {
    let output = Command::new("nm")
        .args(["--dynamic", "--undefined-only", "--format=just-symbols"])
        .arg(library())
        .output()
        .unwrap();
    let needed = text(&output);
    for (packages, oldest, at_least) in [
        ("libgstreamer", vec![1, 20, 0], 100),
        ("libglib2.0-0", vec![2, 64, 0], 30),
    ] {
        let releases = releases(packages);
        if releases.is_empty() {
            eprintln!("skipped: this is no Debian with {packages}");
            return;
        }
        let known: Vec<_> = needed
            .lines()
            .filter_map(|symbol| Some((symbol, releases.get(symbol)?)))
            .collect();
        assert!(known.len() > at_least, "{packages}: only {known:?}");
        for (symbol, release) in known {
            assert!(numbers(release) <= oldest, "{symbol} came in {release}");
        }
    }
}

#[test]
fn gst_inspect_shows_what_a_user_looks_for() {
    let folder = plugin_folder();
    let output = tool("gst-inspect-1.0", folder.path())
        .arg("rsdetectnet")
        .output()
        .unwrap();
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    for line in [
        "Object detector",
        "Filter/Analyzer/Video",
        "MIT/X11",
        "'sink'",
        "'src'",
        "'crops'",
        "'detections'",
        "application/x-json",
        "ssd-mobilenet-v2",
    ] {
        assert!(text.contains(line), "no {line} in {text}");
    }
    for spec in gstrsdetectnet::element::properties() {
        assert!(
            text.contains(&format!("  {}", spec.name())),
            "no {}",
            spec.name()
        );
        assert!(
            spec.blurb().is_some_and(|blurb| blurb.len() > 20),
            "{} has no blurb",
            spec.name()
        );
    }
}

#[test]
fn without_onnx_runtime_the_error_says_how_to_get_it() {
    let folder = plugin_folder();
    let run = |variables: &[(&str, &str)]| {
        let output = tool("gst-launch-1.0", folder.path())
            .args("videotestsrc num-buffers=1 ! rsdetectnet ! fakesink".split(' '))
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        assert!(!output.status.success());
        text(&output)
    };
    let named = run(&[("ORT_DYLIB_PATH", "/no/libonnxruntime.so")]);
    assert!(
        named.contains("ORT_DYLIB_PATH names /no/libonnxruntime.so, which is no file"),
        "{named}"
    );
    let broken = folder.path().join("libonnxruntime.so.1.99.0");
    std::fs::write(&broken, "not a library").unwrap();
    let unusable = run(&[("ORT_DYLIB_PATH", broken.to_str().unwrap())]);
    assert!(unusable.contains("could not be used"), "{unusable}");
}

#[test]
fn a_start_is_told_in_fifteen_lines_at_most_and_nothing_twice() {
    let folder = plugin_folder();
    let output = tool("gst-launch-1.0", folder.path())
        .args("-q videotestsrc num-buffers=3 ! rsdetectnet threshold=0.6 ! fakesink".split(' '))
        .env("GST_DEBUG", "rsdetectnet*:4")
        .env("GST_DEBUG_NO_COLOR", "1")
        .output()
        .unwrap();
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    // Time, process and thread come before the level.
    let story: Vec<_> = text
        .lines()
        .filter_map(|line| line.split_once(" INFO "))
        .map(|(_, told)| told)
        .collect();
    assert!(story.len() <= 15, "{story:#?}");
    for told in [
        "starting with model=ssd-mobilenet-v2 threshold=0.6",
        "Not on a GPU: ",
        "ONNX Runtime is ",
        "outputs are those of ssd, 24 classes",
        "ssd-mobilenet-v2: ONNX Runtime on the CPU, ssd 300x300, one inspection takes ",
        "frames are video/x-raw, format=(string)",
    ] {
        let times = story.iter().filter(|line| line.contains(told)).count();
        let gpu_is_there = times == 0 && text.contains(" TensorRT");
        assert!(times == 1 || gpu_is_there, "{told}: {story:#?}");
    }
}

/// The milliseconds that GStreamer's tracer of latencies gives: of the element, and of the whole pipeline, in which the
/// sink takes [`SINK`] for a frame.
fn traced(max_in_flight: u32) -> (Vec<f64>, Vec<f64>) {
    let folder = plugin_folder();
    let detector = common::programs::detector();
    let pipeline = format!(
        "-q videotestsrc num-buffers={FRAMES} ! {detector} max-in-flight={max_in_flight} \
         ! identity sleep-time={} ! fakesink sync=false",
        SINK * 1000.0
    );
    let output = tool("gst-launch-1.0", folder.path())
        .args(pipeline.split_whitespace())
        .env("GST_TRACERS", "latency(flags=element+pipeline)")
        .env("GST_DEBUG", "GST_TRACER:7")
        .env("GST_DEBUG_NO_COLOR", "1")
        .output()
        .unwrap();
    let text = text(&output);
    let times = |kind: &str| -> Vec<f64> {
        let lines = text.lines().filter(|line| line.contains(kind));
        let times = lines.filter_map(|line| {
            let nanoseconds = line.split_once("time=(guint64)")?.1.split_once(',')?.0;
            Some(nanoseconds.parse::<f64>().ok()? / 1e6)
        });
        times.collect()
    };
    (
        times("element=(string)detector, src=(string)src"),
        times(" latency, src-element-id="),
    )
}

const FRAMES: usize = 12;

/// Milliseconds; longer than an inspection on a machine that does much else.
const SINK: f64 = 100.0;

#[test]
fn the_tracer_of_latencies_sees_how_long_frames_were_in_the_element() {
    let median = |mut times: Vec<f64>| {
        assert_eq!(times.len(), FRAMES, "{times:?}");
        times.sort_by(f64::total_cmp);
        times[FRAMES / 2]
    };
    for (limit, waiting) in [(1, 0.0), (4, 3.0 * SINK)] {
        let (element, pipeline) = traced(limit);
        let (element, pipeline) = (median(element), median(pipeline));
        println!("max-in-flight={limit}: {element:.1} of {pipeline:.1} ms");
        // The three frames before this one are with the sink for so long.
        assert!(element >= waiting, "{element} ms");
        // Nobody but the sink takes the rest.
        assert!(
            (SINK..2.0 * SINK).contains(&(pipeline - element)),
            "{element} of {pipeline} ms"
        );
    }
}

/// Runs a pipeline under GStreamer's tracer of leaks, which must find none; gives back all that was said.
fn without_leaks(pipeline: &str) -> (Output, String) {
    let folder = plugin_folder();
    let output = tool("gst-launch-1.0", folder.path())
        .env("GST_TRACERS", "leaks(check-refs=true)")
        .env("GST_DEBUG", "GST_TRACER:7")
        .env("GST_DEBUG_NO_COLOR", "1")
        .arg("-q")
        .args(pipeline.split_whitespace())
        .output()
        .unwrap();
    let text = text(&output);
    let alive: Vec<_> = text
        .lines()
        .filter(|line| line.contains("object-alive, type-name") && !line.contains("%s"))
        .collect();
    assert!(alive.is_empty(), "{alive:#?}");
    assert!(text.contains("object-alive"), "the tracer did not run");
    (output, text)
}

#[test]
fn starts_and_stops_leak_nothing() {
    let (output, text) = without_leaks(
        "videotestsrc num-buffers=3 ! rsdetectnet overlay=box,label ! fakesink \
         videotestsrc num-buffers=3 ! rsdetectnet post-messages=true ! fakesink \
         videotestsrc num-buffers=3 ! rsdetectnet threshold=0 ! videoconvert ! fakesink \
         videotestsrc num-buffers=9 ! rsdetectnet max-in-flight=4 ! fakesink \
         videotestsrc num-buffers=9 ! rsdetectnet name=d threshold=0 d.crops ! jpegenc ! fakesink \
         d.detections ! fakesink",
    );
    assert!(output.status.success(), "{text}");
}

#[test]
fn a_stop_with_frames_under_way_leaks_nothing() {
    // The first branch fails, and stops the others in mid-stream.
    let (output, text) = without_leaks(
        "videotestsrc ! rsdetectnet max-in-flight=4 ! identity error-after=9 ! fakesink \
         videotestsrc ! rsdetectnet max-in-flight=4 ! fakesink sync=true \
         videotestsrc ! rsdetectnet max-in-flight=4 name=d threshold=0 ! fakesink d.crops ! fakesink sync=true",
    );
    assert!(!output.status.success(), "{text}");
    assert!(
        text.contains("Failed after iterations as requested"),
        "{text}"
    );
}
