//! What caps the pad `crops` has: what downstream allows, as near to the crop itself as that is.

use gst::prelude::*;
use gst_video::{VideoFormat, VideoInfo};

use super::branch::Stop;
use crate::frame::buffer::{FrameShape, SYSTEM_FORMATS};
use crate::frame::video_info::pixel_format;

/// What downstream allows, with the format chosen.
#[derive(Debug)]
pub(super) struct Allowed {
    structure: gst::Structure,
    format: VideoFormat,
}

/// Caps of crops, with what they say.
#[derive(Clone, Debug)]
pub(super) struct CropFormat {
    pub caps: gst::Caps,
    pub shape: FrameShape,
}

impl Allowed {
    /// Asks downstream; takes the video's own format if it may.
    pub fn ask(pad: &gst::Pad, video: &VideoInfo) -> Result<Self, Stop> {
        let template = pad.pad_template_caps();
        let peer = pad.peer_query_caps(None);
        let allowed = template.intersect_with_mode(&peer, gst::CapsIntersectMode::First);
        preferences(video.format())
            .into_iter()
            .find_map(|format| {
                let wanted = gst_video::VideoCapsBuilder::new().format(format).build();
                let caps = allowed.intersect_with_mode(&wanted, gst::CapsIntersectMode::First);
                let structure = caps.structure(0)?.to_owned();
                Some(Self { structure, format })
            })
            .ok_or_else(|| {
                Stop::Problem(format!(
                    "what is linked to it takes no video in system memory, only {peer}"
                ))
            })
    }

    /// Whether every crop gets the same size.
    pub fn has_fixed_size(&self) -> bool {
        self.fixed("width").is_some() && self.fixed("height").is_some()
    }

    fn fixed(&self, name: &str) -> Option<i32> {
        self.structure.get(name).ok()
    }

    /// The caps for a crop that has these in the frame's own format and size.
    pub fn caps_for(&self, native: &VideoInfo) -> Result<CropFormat, Stop> {
        let mut structure = self.structure.clone();
        let (width, height) = self.size_for(native);
        structure.fixate_field_nearest_int("width", width);
        structure.fixate_field_nearest_int("height", height);
        // Crops come when objects do.
        structure.fixate_field_nearest_fraction("framerate", gst::Fraction::new(0, 1));
        let aspect = native.par();
        match structure.has_field("pixel-aspect-ratio") {
            true => {
                structure.fixate_field_nearest_fraction("pixel-aspect-ratio", aspect);
            }
            false => structure.set("pixel-aspect-ratio", aspect),
        }
        if is_yuv(native.format()) == is_yuv(self.format) {
            let colorimetry = native.colorimetry().to_string();
            match structure.has_field("colorimetry") {
                true => {
                    structure.fixate_field_str("colorimetry", colorimetry);
                }
                false => structure.set("colorimetry", colorimetry),
            }
        }
        structure.fixate();
        let caps = gst::Caps::from_iter([structure]);
        let shape = VideoInfo::from_caps(&caps).ok().and_then(FrameShape::new);
        match shape {
            Some(shape) => Ok(CropFormat { caps, shape }),
            None => Err(Stop::Problem(format!("crops cannot be {caps}"))),
        }
    }

    /// The size to come near to: the crop's own, or what goes with the one side that is fixed. Chroma samples of
    /// another format than the frame's must not be cut apart.
    fn size_for(&self, native: &VideoInfo) -> (i32, i32) {
        let (columns, rows) = match pixel_format(self.format) {
            Some((format, _)) if self.format != native.format() => format.subsampling(),
            _ => (1, 1),
        };
        let whole = |pixels: i64, step: usize| {
            let pixels = u32::try_from(pixels).unwrap_or(1).max(1);
            pixels.next_multiple_of(step as u32) as i32
        };
        let (width, height) = (i64::from(native.width()), i64::from(native.height()));
        let in_proportion =
            |fixed: i32, other: i64, of: i64| (i64::from(fixed) * other + of / 2) / of.max(1);
        match (self.fixed("width"), self.fixed("height")) {
            (Some(width), Some(height)) => (width, height),
            (Some(fixed), None) => (fixed, whole(in_proportion(fixed, height, width), rows)),
            (None, Some(fixed)) => (whole(in_proportion(fixed, width, height), columns), fixed),
            (None, None) => (whole(width, columns), whole(height, rows)),
        }
    }
}

fn is_yuv(format: VideoFormat) -> bool {
    pixel_format(format).is_some_and(|(format, _)| format.is_yuv())
}

/// Formats by what a crop of the video loses in them: nothing, little, its full colours, all colours.
fn preferences(video: VideoFormat) -> Vec<VideoFormat> {
    let mut formats = SYSTEM_FORMATS.to_vec();
    formats.sort_by_key(|format| match *format {
        same if same == video => 0,
        VideoFormat::Gray8 => 3,
        other if is_yuv(other) == is_yuv(video) => 1,
        _ => 2,
    });
    formats
}

/// What caps say of a crop of this size, in pixels, of this video.
pub(super) fn native_info(video: &VideoInfo, width: u32, height: u32) -> Option<VideoInfo> {
    VideoInfo::builder(video.format(), width, height)
        .par(video.par())
        .fps(gst::Fraction::new(0, 1))
        .colorimetry(&video.colorimetry())
        .build()
        .ok()
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    fn caps_for(video: &str, downstream: &str, size: (u32, u32)) -> String {
        gst::init().unwrap();
        let video = VideoInfo::from_caps(&gst::Caps::from_str(video).unwrap()).unwrap();
        let template = gst::PadTemplate::new(
            "crops",
            gst::PadDirection::Src,
            gst::PadPresence::Request,
            &crate::element::crops_pad::caps(),
        );
        let pad = gst::Pad::from_template(&template.unwrap());
        let sink_caps = gst::Caps::from_str(downstream).unwrap();
        let sink_template = gst::PadTemplate::new(
            "sink",
            gst::PadDirection::Sink,
            gst::PadPresence::Always,
            &sink_caps,
        );
        let sink = gst::Pad::from_template(&sink_template.unwrap());
        pad.link_full(&sink, gst::PadLinkCheck::empty()).unwrap();
        let native = native_info(&video, size.0, size.1).unwrap();
        match Allowed::ask(&pad, &video).and_then(|allowed| allowed.caps_for(&native)) {
            Ok(format) => {
                let info = &format.shape.info;
                let (width, height) = (info.width(), info.height());
                format!("{} {width}x{height} {}", info.format(), info.colorimetry())
            }
            Err(stop) => stop.to_string(),
        }
    }

    const NV12: &str = "video/x-raw,format=NV12,width=1920,height=1080";
    const RGB: &str = "video/x-raw,format=RGB,width=1920,height=1080";

    #[test]
    fn a_crop_keeps_its_format_size_and_colorimetry_where_it_may() {
        assert_eq!(caps_for(NV12, "ANY", (301, 77)), "NV12 301x77 bt709");
        let list = "video/x-raw,format={RGB,I420}";
        assert_eq!(caps_for(NV12, list, (302, 77)), "I420 302x78 bt709");
        assert_eq!(caps_for(RGB, list, (301, 77)), "RGB 301x77 sRGB");
        assert_eq!(
            caps_for(NV12, "video/x-raw,format=I420,colorimetry=bt601", (300, 80)),
            "I420 300x80 bt601"
        );
    }

    #[test]
    fn sizes_come_as_near_as_downstream_allows() {
        let size = |downstream| {
            caps_for(
                RGB,
                &format!("video/x-raw,format=RGB,{downstream}"),
                (300, 600),
            )
        };
        assert_eq!(size("width=224,height=224"), "RGB 224x224 sRGB");
        assert_eq!(size("width=150"), "RGB 150x300 sRGB");
        assert_eq!(size("height=100"), "RGB 50x100 sRGB");
        assert_eq!(size("width=[16,256],height=[700,900]"), "RGB 256x700 sRGB");
    }

    #[test]
    fn what_cannot_be_taken_is_said() {
        let problem = caps_for(NV12, "audio/x-raw", (300, 600));
        assert_eq!(
            problem,
            "what is linked to it takes no video in system memory, only audio/x-raw"
        );
    }
}
