//! What the user wants drawn into frames, and in which colours.

use gst::glib;
use gst::glib::prelude::*;
use gst::prelude::*;

use super::settings::{SettingsError, take, words};
use crate::model::Labels;
use crate::overlay::color::Color;
use crate::overlay::{Look, Parts};

#[derive(Clone, Debug, PartialEq)]
pub(super) struct OverlaySettings {
    parts: Option<String>,
    alpha: u32,
    colors: Option<String>,
}

impl Default for OverlaySettings {
    fn default() -> Self {
        Self {
            parts: None,
            alpha: Look::default().fill_alpha.into(),
            colors: None,
        }
    }
}

/// What the overlay is where nobody asks for any.
const NONE: &str = "none";

impl OverlaySettings {
    /// What is drawn for each detection of a model with these labels.
    pub fn look(&self, labels: &Labels) -> Result<Look, SettingsError> {
        Ok(Look {
            parts: self.parts()?,
            fill_alpha: self.alpha.min(255) as u8,
            colors: self.colors(labels)?,
        })
    }

    /// What `overlay=box,label,confidence` asks for; `+` and `|` separate as well.
    fn parts(&self) -> Result<Parts, SettingsError> {
        let mut parts = Parts::default();
        for word in words(self.parts.as_deref().unwrap_or(NONE)) {
            match word {
                NONE => {}
                "box" | "line" => parts.outline = true,
                "fill" => parts.fill = true,
                "label" => parts.label = true,
                "confidence" => parts.confidence = true,
                "track" => parts.track = true,
                "tail" => parts.tail = true,
                other => return Err(SettingsError::Overlay(other.into())),
            }
        }
        Ok(parts)
    }

    /// The colours of `person:#ff0000,car:00ff00,#808080` by class: one without a label is that of all others.
    fn colors(&self, labels: &Labels) -> Result<Vec<Option<Color>>, SettingsError> {
        let text = self.colors.as_deref().unwrap_or_default();
        let mut colors = vec![None; labels.as_slice().len()];
        let mut others = None;
        for entry in text.split(',').map(str::trim).filter(|e| !e.is_empty()) {
            let (label, color) = match entry.rsplit_once(':') {
                Some((label, color)) => (Some(label.trim()), color.trim()),
                None => (None, entry),
            };
            let color = parse(color).ok_or_else(|| SettingsError::Color(entry.into()))?;
            match label {
                Some(label) => {
                    let classes = 0..colors.len();
                    let number = || label.parse().ok().filter(|class| classes.contains(class));
                    let class = labels.find(label).or_else(number);
                    let class = class.ok_or_else(|| SettingsError::ColorOfNoClass(label.into()))?;
                    colors[class] = Some(color);
                }
                None => others = Some(color),
            }
        }
        if others.is_some() {
            colors
                .iter_mut()
                .for_each(|color| *color = color.or(others));
        }
        Ok(colors)
    }

    pub fn specs(&self) -> Vec<glib::ParamSpec> {
        vec![
            glib::ParamSpecString::builder("overlay")
                .nick("Overlay")
                .blurb(
                    "What is drawn into the frame: none, or any of box (or line: its edges), fill (its inside), label, \
                     confidence, track (the object_id) and tail (the object's way), separated by commas",
                )
                .default_value(Some(NONE))
                .mutable_playing()
                .build(),
            glib::ParamSpecUInt::builder("overlay-alpha")
                .nick("Overlay alpha")
                .blurb("Opacity of overlay=fill (255 = the object is hidden)")
                .maximum(255)
                .default_value(self.alpha)
                .mutable_playing()
                .build(),
            glib::ParamSpecString::builder("overlay-colors")
                .nick("Overlay colours")
                .blurb(
                    "Colours of classes by label (or number), and without one of all others: \
                     person:#ff0000,car:#00ff00,#808080; else each class has one of its own",
                )
                .mutable_playing()
                .build(),
        ]
    }

    pub fn value(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "overlay" => self.parts.as_deref().unwrap_or(NONE).to_value(),
            "overlay-alpha" => self.alpha.to_value(),
            "overlay-colors" => self.colors.to_value(),
            _ => return None,
        })
    }

    /// Takes over a property's new value; says whether it is one of these.
    pub fn set(&mut self, name: &str, value: &glib::Value) -> bool {
        match name {
            "overlay" => take(&mut self.parts, value),
            "overlay-alpha" => take(&mut self.alpha, value),
            "overlay-colors" => take(&mut self.colors, value),
            _ => return false,
        }
        true
    }
}

/// `#rrggbb`, the `#` left out if wanted.
fn parse(text: &str) -> Option<Color> {
    let digits = text.strip_prefix('#').unwrap_or(text);
    let is_color = digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let [_, red, green, blue] = u32::from_str_radix(digits, 16)
        .ok()
        .filter(|_| is_color)?
        .to_be_bytes();
    Some(Color::opaque(red, green, blue))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlay_words_may_be_separated_in_any_usual_way() {
        let parts = |text: &str| {
            let parts = Some(text.into());
            OverlaySettings {
                parts,
                ..OverlaySettings::default()
            }
            .parts()
        };
        let all = Parts {
            outline: true,
            label: true,
            confidence: true,
            ..Parts::default()
        };
        assert_eq!(parts("box,label,confidence"), Ok(all));
        assert_eq!(parts("line+label|confidence"), Ok(all));
        assert_eq!(parts("none"), Ok(Parts::default()));
        let tracks = Parts {
            fill: true,
            track: true,
            tail: true,
            ..Parts::default()
        };
        assert_eq!(parts("tail,track,fill"), Ok(tracks));
        assert!(parts("boxes").unwrap_err().to_string().contains("'boxes'"));
    }

    #[test]
    fn classes_have_the_colours_that_they_are_given() {
        let labels = Labels::from_lines("person\nCar\nstop: sign");
        let colors = |text: &str| {
            let colors = Some(text.into());
            OverlaySettings {
                colors,
                ..OverlaySettings::default()
            }
            .colors(&labels)
        };
        let (red, grey) = (Color::opaque(255, 0, 16), Color::opaque(128, 128, 128));
        assert_eq!(colors(""), Ok(vec![None; 3]));
        assert_eq!(colors("car:#ff0010"), Ok(vec![None, Some(red), None]));
        let all = [Some(grey), Some(grey), Some(red)];
        assert_eq!(colors("808080, stop: sign:FF0010"), Ok(all.to_vec()));
        assert_eq!(colors("0:#ff0010"), Ok(vec![Some(red), None, None]));
        for (text, sentence) in [
            ("person:red", "'person:red' is no colour"),
            ("#12345", "'#12345' is no colour"),
            ("+12345", "'+12345' is no colour"),
            ("dog:#000000", "no class 'dog'"),
        ] {
            let error = colors(text).unwrap_err().to_string();
            assert!(error.contains(sentence), "{error}");
        }
    }
}
