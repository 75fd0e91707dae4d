//! The pipelines in README and in the element's documentation are pipelines.

mod common;

use common::*;

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

#[test]
fn every_property_is_in_the_readme() {
    init();
    let readme = std::fs::read_to_string(tests_file("../README.md")).unwrap();
    for spec in gstrsdetectnet::element::properties() {
        let row = format!("`{}`", spec.name());
        assert!(readme.contains(&row), "README says nothing of {row}");
    }
}
