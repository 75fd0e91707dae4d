//! What a model's classes are called.

use std::path::{Path, PathBuf};

/// Labels come from people's files: nothing longer than this is a label.
const MAX_LABEL_BYTES: usize = 256;
const MAX_FILE_BYTES: u64 = 4 << 20;

/// The names of a model's classes, in the order of its output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Vec<String>);

#[derive(Debug, thiserror::Error)]
pub enum LabelsError {
    #[error("the labels {path} could not be read: {reason}")]
    Unreadable { path: PathBuf, reason: String },
    #[error("the labels {path} hold a label of more than {MAX_LABEL_BYTES} bytes in line {line}")]
    TooLong { path: PathBuf, line: usize },
    #[error(
        "{origin} holds {found} labels, but the model has {classes} classes: set labels= to a file that fits"
    )]
    WrongCount {
        origin: String,
        found: usize,
        classes: usize,
    },
}

impl Labels {
    /// The list that this names, if it is built in: `coco-80` are COCO's classes, `coco-91` its categories by number.
    pub fn built_in(name: &str) -> Option<Self> {
        match name {
            "coco-80" => Some(Self(super::coco::classes())),
            "coco-91" => Some(Self(super::coco::categories())),
            _ => None,
        }
    }

    /// The labels of a model of so many classes that names none: COCO's where there are as many.
    pub fn guessed(classes: usize) -> Self {
        match classes {
            80 => Self(super::coco::classes()),
            91 => Self(super::coco::categories()),
            _ => Self::numbered(classes),
        }
    }

    /// Reads one label a line, of which blank ones at the end do not count; or, from a file `.json`, what
    /// [`Self::from_json`] takes.
    pub fn read(path: &Path) -> Result<Self, LabelsError> {
        let unreadable = |reason: String| LabelsError::Unreadable {
            path: path.into(),
            reason,
        };
        let file = std::fs::metadata(path).map_err(|e| unreadable(e.to_string()))?;
        if !file.is_file() {
            return Err(unreadable("it is not a regular file".into()));
        }
        let size = file.len();
        if size > MAX_FILE_BYTES {
            return Err(unreadable(format!(
                "it has {size} bytes, which no list of labels has"
            )));
        }
        let bytes = std::fs::read(path).map_err(|e| unreadable(e.to_string()))?;
        let text = String::from_utf8(bytes)
            .map_err(|e| unreadable(format!("it is not UTF-8 text ({e})")))?;
        let json = path
            .extension()
            .is_some_and(|extension| extension == "json");
        let labels = match json {
            true => Self::from_json(&text)
                .ok_or_else(|| unreadable("it is no list of names in JSON".into()))?,
            false => Self::from_lines(&text),
        };
        match labels.0.iter().position(|l| l.len() > MAX_LABEL_BYTES) {
            Some(line) => Err(LabelsError::TooLong {
                path: path.into(),
                line: line + 1,
            }),
            None => Ok(labels),
        }
    }

    /// Names that others wrote, with spaces for control characters: metadata and messages of GStreamer hold texts that
    /// end with a NUL, and terminals obey others.
    fn of(names: impl IntoIterator<Item = String>) -> Self {
        let plain = |name: String| match name.contains(char::is_control) {
            true => name.replace(char::is_control, " ").trim().to_owned(),
            false => name,
        };
        Self(names.into_iter().map(plain).collect())
    }

    /// One label a line.
    pub fn from_lines(text: &str) -> Self {
        let text = text.trim_start_matches('\u{feff}').trim_end();
        match text.is_empty() {
            true => Self::default(),
            false => Self::of(text.lines().map(|line| line.trim().to_owned())),
        }
    }

    /// The `names` that Ultralytics writes into a model: a Python dictionary such as
    /// `{0: 'person', 1: "driver's door"}`. None where the text is something else.
    pub fn from_ultralytics_names(names: &str) -> Option<Self> {
        let mut rest = names.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
        let mut labels = Vec::new();
        while !rest.is_empty() {
            let (key, value) = rest.split_once(':')?;
            if key.trim().parse() != Ok(labels.len()) {
                return None;
            }
            let (label, after) = python_string(value.trim_start())?;
            if label.len() > MAX_LABEL_BYTES {
                return None;
            }
            labels.push(label);
            let after = after.trim_start();
            rest = after.strip_prefix(',').unwrap_or(after).trim_start();
        }
        Some(Self::of(labels))
    }

    /// A list of names in JSON, or an object with a name for each number from 0, or one of these as `names`, `labels`,
    /// `classes` or `id2label` of an object. None where the text is something else.
    pub fn from_json(text: &str) -> Option<Self> {
        Self::from_value(&serde_json::from_str(text).ok()?)
    }

    fn from_value(value: &serde_json::Value) -> Option<Self> {
        if let Some(list) = value.as_array() {
            let names = list.iter().map(|name| Some(name.as_str()?.to_owned()));
            return names.collect::<Option<Vec<_>>>().map(Self::of);
        }
        let object = value.as_object()?;
        let inner = ["names", "labels", "classes", "id2label"]
            .into_iter()
            .find_map(|key| object.get(key));
        if let Some(inner) = inner {
            return Self::from_value(inner);
        }
        let names = (0..object.len()).map(|class| {
            let name = object.get(&class.to_string())?.as_str()?;
            Some(name.to_owned())
        });
        names.collect::<Option<Vec<_>>>().map(Self::of)
    }

    /// The labels in a value of a model's metadata: Ultralytics' dictionary, JSON, a Python list, or names between
    /// commas. None where the text is something else.
    pub fn from_metadata(text: &str) -> Option<Self> {
        let text = text.trim();
        let labels = Self::from_ultralytics_names(text)
            .or_else(|| Self::from_json(text))
            .or_else(|| Self::from_python_list(text))
            .or_else(|| {
                let list = text.split(',').map(|name| name.trim().to_owned());
                (!text.contains(['{', '['])).then(|| Self::of(list))
            })?;
        let fit = |name: &String| !name.is_empty() && name.len() <= MAX_LABEL_BYTES;
        (!labels.0.is_empty() && labels.0.iter().all(fit)).then_some(labels)
    }

    /// `['person', "driver's door"]`
    fn from_python_list(text: &str) -> Option<Self> {
        let mut rest = text.strip_prefix('[')?.strip_suffix(']')?.trim();
        let mut labels = Vec::new();
        while !rest.is_empty() {
            let (label, after) = python_string(rest)?;
            labels.push(label);
            let after = after.trim_start();
            rest = after.strip_prefix(',').unwrap_or(after).trim_start();
        }
        Some(Self::of(labels))
    }

    /// With the background as class 0, which lists may leave out.
    pub fn with_background(mut self) -> Self {
        const NAMES: [&str; 8] = [
            "background",
            "__background__",
            "unlabeled",
            "void",
            "none",
            "n/a",
            "???",
            "bg",
        ];
        let first = self.0.first().map(|name| name.to_ascii_lowercase());
        if !first.is_some_and(|first| NAMES.contains(&first.as_str())) {
            self.0.insert(0, "background".into());
        }
        self
    }

    /// As many labels as the model has classes, or an error that says how many `origin` holds. Where `background`
    /// is true, class 0 is the background, which lists may leave out.
    pub fn fitted_to(
        mut self,
        classes: usize,
        background: bool,
        origin: &str,
    ) -> Result<Self, LabelsError> {
        if background && self.0.len() + 1 == classes {
            self.0.insert(0, "background".into());
        }
        if self.0.len() != classes {
            return Err(LabelsError::WrongCount {
                origin: origin.into(),
                found: self.0.len(),
                classes,
            });
        }
        Ok(self)
    }

    /// `class 0`, `class 1`, … for a model whose labels nobody knows.
    pub fn numbered(classes: usize) -> Self {
        Self((0..classes).map(|class| format!("class {class}")).collect())
    }

    pub fn as_slice(&self) -> &[String] {
        &self.0
    }

    /// The label of a class; every class that the model can return has one.
    pub fn get(&self, class_id: u32) -> &str {
        self.0.get(class_id as usize).map_or("", String::as_str)
    }

    /// The class of this name, capital or small.
    pub fn find(&self, name: &str) -> Option<usize> {
        let lower = name.to_lowercase();
        self.0
            .iter()
            .position(|label| label.to_lowercase() == lower)
    }
}

/// A quoted Python string at the start of `text`, and what follows it.
fn python_string(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.push(characters.next()?.1),
            c if c == quote => return Some((value, &text[at + 1..])),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_labels_without_windows_line_ends_and_trailing_blank_lines() {
        let labels = Labels::from_lines("\u{feff}background\r\ntraffic light\r\n\r\n\n");
        assert_eq!(labels.as_slice(), ["background", "traffic light"]);
    }

    #[test]
    fn ultralytics_names_are_read_with_either_quote() {
        let names = r#"{0: 'person', 1: "driver's door", 2: 'a, b: {c}'}"#;
        let labels = Labels::from_ultralytics_names(names).unwrap();
        assert_eq!(labels.as_slice(), ["person", "driver's door", "a, b: {c}"]);
        for other in ["", "{", "{1: 'a'}", "{0: a}", "{0: 'a}", "['a']"] {
            assert_eq!(Labels::from_ultralytics_names(other), None, "{other}");
        }
    }

    #[test]
    fn lists_in_json_and_in_metadata_are_read_in_every_form() {
        let wanted = ["cat", "dog"];
        for json in [
            r#"["cat", "dog"]"#,
            r#"{"1": "dog", "0": "cat"}"#,
            r#"{"id2label": {"0": "cat", "1": "dog"}, "x": 1}"#,
            r#"{"names": ["cat", "dog"]}"#,
        ] {
            assert_eq!(
                Labels::from_json(json).unwrap().as_slice(),
                wanted,
                "{json}"
            );
            assert_eq!(
                Labels::from_metadata(json).unwrap().as_slice(),
                wanted,
                "{json}"
            );
        }
        for text in ["{0: 'cat', 1: 'dog'}", "['cat', \"dog\"]", "cat, dog"] {
            assert_eq!(
                Labels::from_metadata(text).unwrap().as_slice(),
                wanted,
                "{text}"
            );
        }
        for text in ["", "{", "[1, 2]", "cat,,dog", "{'a': 1}"] {
            assert_eq!(Labels::from_metadata(text), None, "{text}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.json");
        std::fs::write(&path, r#"["cat", "dog"]"#).unwrap();
        assert_eq!(Labels::read(&path).unwrap().as_slice(), wanted);
        std::fs::write(&path, "cat\ndog").unwrap();
        assert!(
            Labels::read(&path)
                .unwrap_err()
                .to_string()
                .contains("JSON")
        );
    }

    #[test]
    fn labels_hold_no_control_characters_wherever_they_come_from() {
        let cat = Labels::from_lines("a\0c\u{1b}at\u{9b}");
        assert_eq!(cat.as_slice(), ["a c at"]);
        for text in [
            "['a\0cat']",
            "{0: 'a\ncat'}",
            "a\u{1b}cat,dog",
            "[\"a\\u0000cat\"]",
            "{\"0\": \"a\\u0000cat\"}",
        ] {
            let labels = Labels::from_metadata(text);
            assert_eq!(labels.unwrap().get(0), "a cat", "{text:?}");
        }
    }

    #[test]
    fn the_background_is_added_once() {
        let with = |lines: &str| Labels::from_lines(lines).with_background();
        assert_eq!(with("cat").as_slice(), ["background", "cat"]);
        assert_eq!(
            with("__Background__\ncat").as_slice(),
            ["__Background__", "cat"]
        );
    }

    #[test]
    fn the_background_may_be_left_out_and_any_other_difference_is_an_error() {
        let labels = Labels::from_lines("cat\ndog");
        let fitted = labels.clone().fitted_to(3, true, "l.txt").unwrap();
        assert_eq!(fitted.as_slice(), ["background", "cat", "dog"]);
        let error = labels
            .fitted_to(80, false, "l.txt")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("l.txt holds 2 labels, but the model has 80"),
            "{error}"
        );
    }

    #[test]
    fn a_label_file_that_is_not_text_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [0xff, 0xfe, 0x00]).unwrap();
        let error = Labels::read(file.path()).unwrap_err().to_string();
        assert!(error.contains("not UTF-8"), "{error}");
    }
}
