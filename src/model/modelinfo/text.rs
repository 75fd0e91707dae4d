//! A description as a file: what [`ModelInfo::read`] understands.

use std::fmt::Write;
use std::io::ErrorKind;
use std::path::Path;

use super::{ModelInfo, ModelInfoError, SECTION};
use crate::preprocess::{Anchor, ChannelOrder, ResizeMode};

/// Numbers between commas, each with as many digits as it takes to be read as the same number.
fn list(numbers: impl IntoIterator<Item = f32>) -> String {
    let numbers: Vec<_> = numbers.into_iter().map(|n| format!("{n:?}")).collect();
    numbers.join(", ")
}

impl ModelInfo {
    /// The section that is not of one tensor.
    pub fn to_text(&self) -> String {
        let mut text = format!("[{SECTION}]\nversion=1.0\n");
        let mut line = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                // Writing into a text does not fail.
                let _ = writeln!(text, "{key}={value}");
            }
        };
        line("decoder", self.decoder.clone());
        line("labels", self.labels.clone());
        let anchors = self.anchors.as_ref();
        line(
            "anchors",
            anchors.map(|a| list(a.iter().flatten().copied())),
        );
        line("activation", self.activation.clone());
        line("resize", self.resize.map(|resize| name_of(resize).into()));
        if let Some(ResizeMode::Letterbox { fill, .. }) = self.resize {
            line("fill", Some(fill.to_string()));
        }
        let order = self.order.map(|order| match order {
            ChannelOrder::Rgb => "rgb",
            ChannelOrder::Bgr => "bgr",
        });
        line("color-order", order.map(Into::into));
        line("mean", self.mean.map(list));
        line("scale", self.scale.map(list));
        text
    }
}

/// As `resize` names it.
fn name_of(resize: ResizeMode) -> &'static str {
    match resize {
        ResizeMode::Stretch => "stretch",
        ResizeMode::Crop => "crop",
        ResizeMode::Letterbox { anchor, .. } => match anchor {
            Anchor::Center => "letterbox",
            Anchor::TopLeft => "letterbox-top-left",
        },
    }
}

/// The key `ranges` of an input that takes these means and scales.
pub fn ranges(mean: [f32; 3], scale: [f32; 3]) -> String {
    let range = |c: usize| {
        let [least, greatest] = [0.0, 255.0].map(|value| (value - mean[c]) * scale[c]);
        // No minus before a zero.
        format!("{:?},{greatest:?}", least + 0.0)
    };
    let ranges = [0, 1, 2].map(range);
    match ranges.iter().all(|range| *range == ranges[0]) {
        true => ranges[0].clone(),
        false => ranges.join(";"),
    }
}

/// Writes a file that is not there yet. One that holds the same stays as it is, another one is an error.
pub fn write_new(path: &Path, text: &str) -> Result<(), ModelInfoError> {
    let unwritable = |reason: String| ModelInfoError::Unwritable {
        path: path.into(),
        reason,
    };
    match std::fs::File::create_new(path) {
        Ok(mut file) => std::io::Write::write_all(&mut file, text.as_bytes())
            .map_err(|e| unwritable(e.to_string())),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            match std::fs::read(path).is_ok_and(|there| there == text.as_bytes()) {
                true => Ok(()),
                false => Err(unwritable(
                    "it is there already and says something else; delete or rename it to have it written anew".into(),
                )),
            }
        }
        Err(error) => Err(unwritable(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_as_the_same() {
        let anchor = Anchor::TopLeft;
        let info = ModelInfo {
            decoder: Some("yolov3".into()),
            labels: Some("x.labels.txt".into()),
            anchors: Some(vec![[10.0, 13.5], [1.0 / 3.0, 2e-7]]),
            activation: Some("sigmoid".into()),
            resize: Some(ResizeMode::Letterbox { fill: 7, anchor }),
            order: Some(ChannelOrder::Bgr),
            mean: Some([103.53, 116.28, 123.675]),
            scale: Some([1.0 / 57.375, 1.0 / 57.12, 1e-9]),
            input_size: None,
        };
        assert_eq!(ModelInfo::parse(&info.to_text()).as_ref(), Ok(&info));
        let info = ModelInfo {
            resize: Some(ResizeMode::Stretch),
            order: Some(ChannelOrder::Rgb),
            ..ModelInfo::default()
        };
        assert_eq!(ModelInfo::parse(&info.to_text()), Ok(info));
    }

    #[test]
    fn ranges_are_those_of_means_and_scales() {
        assert_eq!(ranges([0.0; 3], [1.0; 3]), "0.0,255.0");
        assert_eq!(ranges([127.5; 3], [1.0 / 127.5; 3]), "-1.0,1.0");
        let each = ranges([0.0, 255.0, 0.0], [1.0, 1.0, 2.0]);
        assert_eq!(each, "0.0,255.0;-255.0,0.0;0.0,510.0");
    }

    #[test]
    fn nothing_that_says_something_else_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.modelinfo");
        write_new(&path, "a\n").unwrap();
        write_new(&path, "a\n").unwrap();
        let error = write_new(&path, "b\n").unwrap_err().to_string();
        assert!(
            error.contains("x.modelinfo") && error.contains("delete or rename"),
            "{error}"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a\n");
    }
}
