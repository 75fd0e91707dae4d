//! Any text where a person or a model file gives one: labels, names in metadata, classes, descriptions.
#![no_main]

use gstrsdetectnet::decode::classes::ClassFilter;
use gstrsdetectnet::model::Labels;
use gstrsdetectnet::model::modelinfo::ModelInfo;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let labels = Labels::from_lines(text);
    let _ = Labels::from_ultralytics_names(text);
    let _ = Labels::from_json(text);
    let _ = Labels::from_metadata(text);
    let _ = ModelInfo::parse(text);
    if let Ok(filter) = ClassFilter::parse(text) {
        let _ = filter.thresholds(&labels, 0.5);
    }
});
