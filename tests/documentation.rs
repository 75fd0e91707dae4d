//! The pipelines in README and in the element's documentation are pipelines.

mod common;

use common::*;
use gst::prelude::*;

/// The gst-launch-1.0 commands in a text, without options and what their output is piped into, lines joined.
fn pipelines(text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ").replace("///", "");
    joined
        .lines()
        .filter_map(|line| line.trim().strip_prefix("gst-launch-1.0 "))
        .map(|line| {
            let command = line.split(" | ").next().unwrap_or_default();
            let words = command
                .split_whitespace()
                .skip_while(|word| word.starts_with('-'));
            words.collect::<Vec<_>>().join(" ").replace('\'', "")
        })
        .collect()
}

/// The elements that a pipeline names and this machine lacks, such as those of a Jetson.
fn missing(pipeline: &str) -> Vec<&str> {
    pipeline
        .split(" ! ")
        .map(|element| element.split_whitespace().next().unwrap_or_default())
        .filter(|name| !name.contains(['/', '.', '=']) && !name.is_empty())
        .filter(|name| gst::ElementFactory::find(name).is_none())
        .collect()
}

#[test]
fn every_pipeline_of_the_documentation_is_understood() {
    init();
    let mut understood = 0;
    for file in ["../README.md", "../src/element/mod.rs"] {
        let text = std::fs::read_to_string(tests_file(file)).unwrap();
        let found = pipelines(&text);
        assert!(!found.is_empty(), "{file} shows no pipeline");
        for pipeline in found {
            match missing(&pipeline).as_slice() {
                [] => {
                    gst::parse::launch(&pipeline).unwrap_or_else(|e| panic!("{pipeline}: {e}"));
                    understood += 1;
                }
                names => eprintln!("not checked, for want of {}: {pipeline}", names.join(", ")),
            }
        }
    }
    assert!(understood >= 5, "only {understood}");
}

/// All Rust sources below a folder, as one text.
fn sources(folder: &std::path::Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &std::fs::read_to_string(&path).unwrap();
        }
    }
    text
}

#[test]
fn every_test_in_the_table_of_faults_is_there() {
    let readme = std::fs::read_to_string(tests_file("../README.md")).unwrap();
    let table = readme.split("## What breaks, and what happens").nth(1);
    let table = table.unwrap().split("\n## ").next().unwrap();
    let tests = sources(&tests_file("."));
    let rows = table.lines().filter(|line| line.starts_with("| "));
    let names = rows.skip(1).flat_map(|row| {
        let cell = row.trim_end_matches('|').rsplit('|').next().unwrap();
        cell.split('`').skip(1).step_by(2)
    });
    let mut count = 0;
    for name in names {
        assert!(
            tests.contains(&format!("fn {name}()")),
            "there is no test {name}"
        );
        count += 1;
    }
    assert!(count > 40, "only {count}");
}

#[test]
fn every_property_is_in_the_readme() {
    init();
    let readme = std::fs::read_to_string(tests_file("../README.md")).unwrap();
    for spec in gstrsdetectnet::element::properties() {
        let row = format!("`{}`", spec.name());
        assert!(readme.contains(&row), "README says nothing of {row}");
    }
}

// What waits until every sink has something would never move: the crops' encoder passes nothing on before there is one.
#[test]
fn the_pipeline_with_crops_and_lines_ends_though_the_first_object_comes_late() {
    init();
    let text = std::fs::read_to_string(tests_file("../README.md")).unwrap();
    let found = pipelines(&text);
    let with_crops = found
        .iter()
        .find(|pipeline| pipeline.contains("d.crops"))
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let detector = format!(
        "name=d model={} labels={}",
        model("colors-ssd.onnx"),
        tests_file("models/colors.labels.txt").display()
    );
    let mut description = with_crops
        .replace("filesrc location=clip.mp4 ! decodebin", "concat name=c")
        .replace("name=d", &detector)
        .replace(
            "location=",
            &format!("location={}/", folder.path().display()),
        );
    // Three seconds of nothing.
    for (frames, pattern) in [(90, "black"), (1, "red")] {
        description += &format!(
            " videotestsrc num-buffers={frames} pattern={pattern} \
             ! video/x-raw,width=320,height=240,framerate=30/1 ! c."
        );
    }
    let pipeline = gst::parse::launch(&description).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &kinds);
    pipeline.set_state(gst::State::Null).unwrap();
    let kind = message.map(|message| message.type_());
    assert_eq!(kind, Some(gst::MessageType::Eos), "{description}");
    let lines = std::fs::read_to_string(folder.path().join("detections.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 91);
    assert!(folder.path().join("crop-00000.jpg").is_file());
}
