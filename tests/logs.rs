//! What the element writes into GStreamer's log, and in which words.

mod common;
#[path = "common/onnx.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod onnx;

use std::sync::{Mutex, MutexGuard, PoisonError};

use common::*;

static LINES: Mutex<Vec<(gst::DebugLevel, String)>> = Mutex::new(Vec::new());

fn lines() -> MutexGuard<'static, Vec<(gst::DebugLevel, String)>> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What `work` has written into the log by this level, line by line. Only one test at a time may listen.
fn logged(level: gst::DebugLevel, work: impl FnOnce()) -> Vec<(gst::DebugLevel, String)> {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    init();
    gst::log::remove_default_log_function();
    gst::log::set_threshold_for_name("rsdetectnet*", level);
    lines().clear();
    let listener = gst::log::add_log_function(|category, level, _, _, _, _, message| {
        if category.name().starts_with("rsdetectnet") {
            lines().push((level, message.get().unwrap().to_string()));
        }
    });
    work();
    gst::log::remove_log_function(listener);
    std::mem::take(&mut *lines())
}

fn text(log: &[(gst::DebugLevel, String)]) -> String {
    let lines = log
        .iter()
        .map(|(level, line)| format!("{level:?} {line}\n"));
    lines.collect()
}

#[test]
fn a_start_that_fails_says_why_in_the_log_too() {
    let mut error = String::new();
    let log = logged(gst::DebugLevel::Info, || {
        let element = gst::ElementFactory::make("rsdetectnet")
            .property("model", "/nowhere/net.onnx")
            .build()
            .unwrap();
        error = start_error(&element);
    });
    let text = text(&log);
    println!("{text}");
    assert!(
        error.contains("there is no model '/nowhere/net.onnx'"),
        "{error}"
    );
    let errors: Vec<_> = log
        .iter()
        .filter(|(level, _)| *level == gst::DebugLevel::Error)
        .collect();
    assert!(errors.len() == 1 && errors[0].1 == error, "{text}");
    assert!(log.len() <= 5, "{text}");
}

#[test]
fn names_in_a_model_reach_logs_and_messages_bounded_and_escaped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.onnx");
    let long = "x".repeat(100_000);
    let evil = ["a\nb", "\u{1b}[2Jb", "b\0c", "\u{9b}31m\u{202e}", &long];
    let mut errors = Vec::new();
    let log = logged(gst::DebugLevel::Log, || {
        for name in evil {
            let picture = |name: &str| onnx::value(name, onnx::FLOAT, &[1, 3, 64, 64]);
            let scores = |name: &str| onnx::value(name, onnx::FLOAT, &[1, 64, 2]);
            let of = |node: Vec<u8>, input: &str, output: &str| {
                let (inputs, outputs) = ([picture(input)], [scores(output)]);
                onnx::model(&[node], &[], &inputs, &outputs)
            };
            let weights = onnx::external("weights", &[1, 64, 2], name);
            let models = [
                of(
                    onnx::node(name, &["picture"], "scores", &[]),
                    "picture",
                    "scores",
                ),
                of(onnx::node("Relu", &["picture"], name, &[]), "picture", name),
                of(onnx::node("Relu", &[name], "scores", &[]), name, "scores"),
                of(
                    onnx::node("Relu", &[name], "scores", &[]),
                    "picture",
                    "scores",
                ),
                onnx::model(
                    &[onnx::node("Identity", &["weights"], "scores", &[])],
                    &[weights],
                    &[picture("picture")],
                    &[scores("scores")],
                ),
            ];
            for model in models {
                std::fs::write(&path, model).unwrap();
                let element = gst::ElementFactory::make("rsdetectnet")
                    .property("model", path.to_str().unwrap())
                    .property_from_str("backend", "onnxruntime")
                    .build()
                    .unwrap();
                errors.push(start_error(&element));
            }
        }
    });
    let said = log.iter().map(|(_, line)| line).chain(&errors);
    let (mut count, mut escaped) = (0, 0);
    for line in said {
        let strange = |c: char| c.is_control() || c == '\u{202e}';
        assert!(!line.contains(strange), "{line:?}");
        // Of errors 2,000 characters; events and properties of GStreamer's own make come with more words.
        assert!(line.chars().count() <= 2500, "{line:?}");
        count += 1;
        escaped += usize::from(line.contains("\\n") || line.contains("\\u{"));
    }
    assert!(
        count >= 50 && escaped >= 8,
        "{escaped} of {count}: {errors:#?}"
    );
}
