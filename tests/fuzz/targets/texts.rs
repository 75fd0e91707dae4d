//! Any text where a person or a model file gives one: labels, names in metadata, classes, descriptions, parts of the
//! frame.
#![no_main]

use gstrsdetectnet::decode::classes::ClassFilter;
use gstrsdetectnet::model::Labels;
use gstrsdetectnet::model::modelinfo::ModelInfo;
use gstrsdetectnet::region::{Region, Tiles, View};
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
    // Tiles stand on the first line, regions on the others.
    let (tiles, regions) = text.split_once('\n').unwrap_or(("", text));
    let Ok((tiles, regions)) = Tiles::parse(tiles, 0.2).and_then(|t| Ok((t, Region::parse_all(regions)?))) else {
        return;
    };
    const FRAME: (usize, usize) = (640, 360);
    for part in View::new(regions, tiles).parts(FRAME, None).iter().flat_map(|parts| parts.iter()) {
        let r = part.rectangle;
        assert!(r.width > 0 && r.x + r.width <= FRAME.0, "{r:?}");
        assert!(r.height > 0 && r.y + r.height <= FRAME.1, "{r:?}");
    }
});
