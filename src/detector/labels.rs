//! The labels of a model, by the strongest word: the user's file, the model's own metadata, a file beside it.

use std::path::{Path, PathBuf};

use super::DetectorOptions;
use crate::decode::{Family, Layout};
use crate::model::{Labels, LabelsError, ModelSource};

/// As many labels as the model has classes. `names` are those in the model's own metadata.
pub(super) fn find_labels(
    options: &DetectorOptions,
    source: &ModelSource,
    names: Option<Labels>,
    layout: &Layout,
) -> Result<Labels, LabelsError> {
    let fit = |labels: Labels, origin: &str| {
        labels.fitted_to(layout.classes, layout.family == Family::Ssd, origin)
    };
    if let Some(path) = &options.labels {
        return fit(Labels::read(path)?, &path.display().to_string());
    }
    if let ModelSource::Bundled(bundled) = source {
        return fit(Labels::from_lines(bundled.labels), bundled.name);
    }
    if let Some(names) = names {
        return fit(names, "the model's metadata");
    }
    match source.path().and_then(sidecar) {
        Some(sidecar) => fit(Labels::read(&sidecar)?, &sidecar.display().to_string()),
        None => Ok(Labels::numbered(layout.classes)),
    }
}

/// `yolo.labels.txt`, `yolo.txt` or `labels.txt` beside `yolo.onnx`.
fn sidecar(model: &Path) -> Option<PathBuf> {
    ["labels.txt", "txt"]
        .into_iter()
        .map(|extension| model.with_extension(extension))
        .chain([model.with_file_name("labels.txt")])
        .find(|path| path.is_file())
}

/// The labels in the JSON that Ultralytics puts before an engine: `{"names": {"0": "person", …}, …}`.
pub(super) fn names_of_metadata(json: &str) -> Option<Labels> {
    let metadata: serde_json::Value = serde_json::from_str(json).ok()?;
    let names = metadata.get("names")?.as_object()?;
    let lines = (0..names.len())
        .map(|class| names.get(&class.to_string())?.as_str())
        .collect::<Option<Vec<_>>>()?;
    Some(Labels::from_lines(&lines.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_before_an_engine_are_in_the_order_of_their_numbers() {
        let json = r#"{"task": "detect", "names": {"1": "car", "0": "person"}}"#;
        let labels = names_of_metadata(json).unwrap();
        assert_eq!(labels.as_slice(), ["person", "car"]);
        assert_eq!(names_of_metadata(r#"{"names": {"1": "car"}}"#), None);
        assert_eq!(names_of_metadata("[]"), None);
    }
}
