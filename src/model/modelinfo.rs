//! The `.modelinfo` file beside a model: GStreamer's own format for what a model file does not say (1.28,
//! `gst-plugins-bad/gst-libs/gst/analytics/modelinfo.c`), with keys of ours in its section `[modelinfo]`.
//!
//! ```ini
//! [modelinfo]
//! version = 1.0
//! decoder = yolox
//! labels = traffic.names
//! resize = letterbox-top-left
//! fill = 114
//! color-order = bgr
//!
//! [images]
//! dir = input
//! type = float32
//! dims = 1,3,640,640
//! ranges = 0.0,255.0
//! ```

mod text;

use std::path::{Path, PathBuf};

use crate::preprocess::{Anchor, ChannelOrder, Preparation, ResizeMode};

pub use text::{ranges, write_new};

/// No description is longer.
const MAX_BYTES: u64 = 1 << 20;
/// The section that holds what is not of one tensor.
const SECTION: &str = "modelinfo";
const MAJOR_VERSION: &str = "1";
/// The grey of letterboxes where the description names none.
const DEFAULT_FILL: u8 = 114;

/// What a `.modelinfo` file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelInfo {
    pub decoder: Option<String>,
    /// A file beside the description, or the name of a built-in list.
    pub labels: Option<String>,
    /// Widths and heights in pixels of the network's input.
    pub anchors: Option<Vec<[f32; 2]>>,
    /// `none`, `sigmoid` or `softmax`.
    pub activation: Option<String>,
    pub resize: Option<ResizeMode>,
    pub order: Option<ChannelOrder>,
    /// As [`Preparation::mean`].
    pub mean: Option<[f32; 3]>,
    /// As [`Preparation::scale`].
    pub scale: Option<[f32; 3]>,
    /// Width and height of the input that is a picture, where its `dims` fix them.
    pub input_size: Option<(usize, usize)>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ModelInfoError {
    #[error("the description {path} could not be read: {reason}")]
    Unreadable { path: PathBuf, reason: String },
    #[error("{path} was not written: {reason}")]
    Unwritable { path: PathBuf, reason: String },
    #[error("the description {path}, line {line}: {reason}")]
    Line {
        path: PathBuf,
        line: usize,
        reason: String,
    },
}

/// A line `key = value` of a section.
struct Entry<'a> {
    line: usize,
    section: &'a str,
    key: &'a str,
    value: &'a str,
}

impl ModelInfo {
    /// Where a model's description is, if it has one: `MODEL.onnx.modelinfo`, else `MODEL.modelinfo`.
    pub fn path_beside(model: &Path) -> Option<PathBuf> {
        let mut whole = model.as_os_str().to_owned();
        whole.push(".modelinfo");
        [PathBuf::from(whole), model.with_extension("modelinfo")]
            .into_iter()
            .find(|path| path.is_file())
    }

    pub fn read(path: &Path) -> Result<Self, ModelInfoError> {
        let unreadable = |reason: String| ModelInfoError::Unreadable {
            path: path.into(),
            reason,
        };
        let file = std::fs::metadata(path).map_err(|e| unreadable(e.to_string()))?;
        if file.len() > MAX_BYTES {
            return Err(unreadable(format!("it has {} bytes", file.len())));
        }
        let text = std::fs::read_to_string(path).map_err(|e| unreadable(e.to_string()))?;
        Self::parse(&text).map_err(|(line, reason)| ModelInfoError::Line {
            path: path.into(),
            line,
            reason,
        })
    }

    /// The description in a text, or the number of a line and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, (usize, String)> {
        let entries = entries(text)?;
        let mut info = Self::default();
        let mut fill = None;
        let find = |section: &str, key: &str| {
            let mut of_section = entries.iter().filter(|entry| entry.section == section);
            of_section.find(|entry| entry.key == key)
        };
        match find(SECTION, "version") {
            Some(version) if version.value.split('.').next() != Some(MAJOR_VERSION) => {
                let reason = format!("version {} is not understood, only 1.x", version.value);
                return Err((version.line, reason));
            }
            Some(_) => {}
            None => return Err((1, "there is no section [modelinfo] with version=1.0".into())),
        }
        for entry in entries.iter().filter(|entry| entry.section == SECTION) {
            let wrong = |reason: &str| {
                (
                    entry.line,
                    format!("{}={} {reason}", entry.key, entry.value),
                )
            };
            match entry.key {
                "decoder" => info.decoder = Some(entry.value.into()),
                "labels" => info.labels = Some(entry.value.into()),
                "activation" => info.activation = Some(entry.value.into()),
                "resize" => {
                    info.resize = Some(resize(entry.value).ok_or_else(|| {
                        wrong("is none of stretch, crop, letterbox, letterbox-top-left")
                    })?);
                }
                "fill" => {
                    let grey = entry.value.parse::<u8>();
                    fill = Some(grey.map_err(|_| wrong("is no grey from 0 to 255"))?);
                }
                "color-order" => {
                    info.order = Some(match entry.value.to_ascii_lowercase().as_str() {
                        "rgb" => ChannelOrder::Rgb,
                        "bgr" => ChannelOrder::Bgr,
                        _ => return Err(wrong("is neither rgb nor bgr")),
                    });
                }
                "mean" => info.mean = Some(channels(entry.value).ok_or_else(|| wrong(CHANNELS))?),
                "std" => {
                    let deviation = channels(entry.value).filter(|d| d.iter().all(|d| *d != 0.0));
                    let deviation = deviation.ok_or_else(|| wrong(CHANNELS))?;
                    info.scale = Some(deviation.map(|deviation| 1.0 / deviation));
                }
                "scale" => info.scale = Some(channels(entry.value).ok_or_else(|| wrong(CHANNELS))?),
                "anchors" => {
                    let anchors = pairs(entry.value).ok_or_else(|| {
                        wrong("is no list of widths and heights, such as 10,13, 16,30, 33,23")
                    })?;
                    info.anchors = Some(anchors);
                }
                _ => {}
            }
        }
        if let (Some(ResizeMode::Letterbox { fill: grey, .. }), Some(fill)) =
            (&mut info.resize, fill)
        {
            *grey = fill;
        }
        for entry in entries.iter().filter(|entry| entry.key == "dims") {
            if find(entry.section, "dir").is_some_and(|entry| entry.value == "input") {
                info.input_size = info.input_size.or(image_size(entry.value));
            }
        }
        for entry in entries.iter().filter(|entry| entry.key == "ranges") {
            let direction = find(entry.section, "dir").map_or("input", |entry| entry.value);
            if direction == "input" && info.mean.is_none() && info.scale.is_none() {
                let (mean, scale) = from_ranges(entry.value).ok_or_else(|| {
                    let reason = format!(
                        "ranges={} is no list of ranges, such as 0.0,1.0",
                        entry.value
                    );
                    (entry.line, reason)
                })?;
                (info.mean, info.scale) = (Some(mean), Some(scale));
            }
        }
        Ok(info)
    }

    /// Replaces what the description says.
    pub fn apply(&self, preparation: &mut Preparation) {
        if let Some(resize) = self.resize {
            preparation.resize = resize;
        }
        if let Some(order) = self.order {
            preparation.order = order;
        }
        if let Some(mean) = self.mean {
            preparation.mean = mean;
        }
        if let Some(scale) = self.scale {
            preparation.scale = scale;
        }
    }
}

const CHANNELS: &str = "is neither one number nor three";

/// All lines of a key file, with the sections they are in.
fn entries(text: &str) -> Result<Vec<Entry<'_>>, (usize, String)> {
    let mut section = "";
    let mut entries = Vec::new();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let (number, line) = (number + 1, line.trim());
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(title) = line.strip_prefix('[') {
            let title = title.strip_suffix(']');
            section = title.ok_or_else(|| (number, "the section lacks its ]".to_owned()))?;
            continue;
        }
        let (key, value) = line
            .split_once('=')
            .ok_or_else(|| (number, "it is neither [section] nor key=value".to_owned()))?;
        entries.push(Entry {
            line: number,
            section,
            key: key.trim(),
            value: value.trim(),
        });
    }
    Ok(entries)
}

fn resize(name: &str) -> Option<ResizeMode> {
    let letterbox = |anchor| ResizeMode::Letterbox {
        fill: DEFAULT_FILL,
        anchor,
    };
    Some(match name {
        "stretch" => ResizeMode::Stretch,
        "crop" => ResizeMode::Crop,
        "letterbox" => letterbox(Anchor::Center),
        "letterbox-top-left" => letterbox(Anchor::TopLeft),
        _ => return None,
    })
}

/// Numbers between commas.
fn numbers(list: &str) -> Option<Vec<f32>> {
    let number = |text: &str| text.trim().parse().ok().filter(|n: &f32| n.is_finite());
    list.split(',').map(number).collect()
}

/// One number for all channels, or one for each.
fn channels(list: &str) -> Option<[f32; 3]> {
    match *numbers(list)?.as_slice() {
        [one] => Some([one; 3]),
        [a, b, c] => Some([a, b, c]),
        _ => None,
    }
}

/// Width and height in the dimensions of a picture: `1,3,480,640`, `-1,480,640,3`.
fn image_size(dims: &str) -> Option<(usize, usize)> {
    let sizes = dims.split(',').map(|size| size.trim().parse::<i64>().ok());
    let sizes: Vec<_> = sizes.collect::<Option<_>>()?;
    let (height, width) = match *sizes.as_slice() {
        [_, 1 | 3, height, width] | [_, height, width, 1 | 3] => (height, width),
        _ => return None,
    };
    let side = |size: i64| usize::try_from(size).ok().filter(|&size| size > 0);
    Some((side(width)?, side(height)?))
}

fn pairs(list: &str) -> Option<Vec<[f32; 2]>> {
    let numbers = numbers(list)?;
    let pairs = numbers.chunks(2).map(|pair| pair.try_into().ok());
    pairs.collect()
}

/// Mean and scale that take 0 to 255 into these ranges: pairs of least and greatest, one for all channels or one for
/// each, between semicolons.
fn from_ranges(list: &str) -> Option<([f32; 3], [f32; 3])> {
    let range = |text: &str| match *numbers(text)?.as_slice() {
        [least, greatest] if least != greatest => Some((least, greatest)),
        _ => None,
    };
    let ranges: Vec<_> = list
        .trim_end_matches(';')
        .split(';')
        .map(range)
        .collect::<Option<_>>()?;
    let ranges = match *ranges.as_slice() {
        [one] => [one; 3],
        [a, b, c] => [a, b, c],
        _ => return None,
    };
    let scale = ranges.map(|(least, greatest)| (greatest - least) / 255.0);
    let mean = [0, 1, 2].map(|c| -ranges[c].0 / scale[c]);
    Some((mean, scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gstreamer_s_own_generator_writes_is_understood() {
        let text = "[modelinfo]\nversion=1.0\ngroup-id=ssd-mobilenet-v1-variant-1-out\n\n\
                    [image_tensor:0]\ntype=uint8\ndir=input\ndims=-1,-1,-1,3\nranges=-1.0,1.0\n\n\
                    [detection_boxes:0]\nid=boxes\ntype=float32\ndims=-1,-1,4\ndims-order=row-major\ndir=output\n";
        let info = ModelInfo::parse(text).unwrap();
        let near = |a: f32, b: f32| (a - b).abs() < 1e-4;
        assert!(info.mean.unwrap().iter().all(|&mean| near(mean, 127.5)));
        assert!(
            info.scale
                .unwrap()
                .iter()
                .all(|&scale| near(scale, 1.0 / 127.5))
        );
        assert_eq!((info.decoder, info.labels, info.resize), (None, None, None));
    }

    #[test]
    fn our_keys_set_decoder_anchors_and_preparation() {
        let text = "# by hand\n[modelinfo]\nversion = 1.0\ndecoder = yolov4\nlabels = cars.names\nfill = 0\n\
                    resize = letterbox-top-left\ncolor-order = BGR\nmean = 103.5, 116.3, 123.7\nstd = 57.4,57.1,58.4\n\
                    anchors = 10,13, 16,30, 33,23\nactivation = sigmoid\n[images]\nranges = 0,255\n";
        let info = ModelInfo::parse(text).unwrap();
        assert_eq!(info.decoder.as_deref(), Some("yolov4"));
        assert_eq!(info.labels.as_deref(), Some("cars.names"));
        assert_eq!(info.activation.as_deref(), Some("sigmoid"));
        let anchor = Anchor::TopLeft;
        assert_eq!(info.resize, Some(ResizeMode::Letterbox { fill: 0, anchor }));
        assert_eq!(info.order, Some(ChannelOrder::Bgr));
        assert_eq!(info.mean, Some([103.5, 116.3, 123.7]));
        assert_eq!(info.scale, Some([1.0 / 57.4, 1.0 / 57.1, 1.0 / 58.4]));
        assert_eq!(
            info.anchors.unwrap(),
            [[10.0, 13.0], [16.0, 30.0], [33.0, 23.0]]
        );
    }

    #[test]
    fn the_description_in_the_readme_is_one() {
        let readme = include_str!("../../README.md");
        let (_, rest) = readme.split_once("```ini\n").unwrap();
        let info = ModelInfo::parse(rest.split_once("```").unwrap().0).unwrap();
        assert_eq!(info.decoder.as_deref(), Some("yolov3"));
        assert_eq!(info.anchors.map(|anchors| anchors.len()), Some(6));
        assert_eq!(info.mean, Some([103.53, 116.28, 123.675]));
    }

    #[test]
    fn ranges_of_each_channel_are_kept_apart() {
        let text = "[modelinfo]\nversion=1.0\n[x]\nranges=0.0,255.0;-1.0,1.0;0.0,1.0\n";
        let info = ModelInfo::parse(text).unwrap();
        let value = |byte: f32, c: usize| (byte - info.mean.unwrap()[c]) * info.scale.unwrap()[c];
        assert!((value(255.0, 0) - 255.0).abs() < 1e-3);
        assert!((value(0.0, 1) + 1.0).abs() < 1e-5 && (value(255.0, 1) - 1.0).abs() < 1e-5);
        assert!((value(51.0, 2) - 0.2).abs() < 1e-6);
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let error = |text: &str| ModelInfo::parse(text).unwrap_err();
        let with = |line: &str| error(&format!("[modelinfo]\nversion=1.0\n{line}\n"));
        assert_eq!(error("[x]\nid=1\n").0, 1);
        assert!(error("[modelinfo]\nversion=2.0\n").1.contains("only 1.x"));
        for line in [
            "resize=pad",
            "fill=256",
            "color-order=gray",
            "mean=1,2",
            "std=0",
            "anchors=1,2,3",
        ] {
            let (number, reason) = with(line);
            assert!(number == 3 && reason.starts_with(line), "{reason}");
        }
        assert!(with("scale=nan").1.contains("scale=nan"));
        assert!(with("[images\n").1.contains("lacks its ]"));
        assert!(with("nonsense").1.contains("key=value"));
        assert_eq!(with("[x]\nranges=1,1").0, 4);
    }

    #[test]
    fn the_description_lies_beside_the_model_under_either_name() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("net.onnx");
        assert_eq!(ModelInfo::path_beside(&model), None);
        for name in ["net.modelinfo", "net.onnx.modelinfo"] {
            let path = folder.path().join(name);
            std::fs::write(&path, "").unwrap();
            assert_eq!(ModelInfo::path_beside(&model), Some(path));
        }
    }
}
