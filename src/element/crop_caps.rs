//! What caps the pad `crops` has: what downstream allows, as near to the crop itself as that is.

use gst::prelude::*;
use gst_video::{VideoCapsBuilder, VideoColorimetry, VideoFormat, VideoInfo};

use super::branch::Stop;
use super::memory::{Format, caps_of_crops, formats_of_crops, memories_of_crops};
use crate::frame::Colorimetry;
use crate::frame::buffer::FrameShape;
use crate::frame::memory::Memory;
use crate::frame::video_info::{self, pixel_format};

/// What downstream allows for crops of a video, with memory and format chosen.
#[derive(Debug)]
pub(super) struct Allowed {
    structure: gst::Structure,
    features: gst::CapsFeatures,
    memory: Memory,
    format: VideoFormat,
    /// The video.
    video: Format,
}

/// Caps of crops, with what they say.
#[derive(Clone, Debug)]
pub(super) struct CropFormat {
    pub caps: gst::Caps,
    pub shape: FrameShape,
    pub memory: Memory,
    /// All crops have this size.
    pub fixed_size: bool,
}

impl CropFormat {
    /// The frame's own format and size, in system memory.
    pub fn native(info: &VideoInfo) -> Option<Self> {
        Some(Self {
            caps: info.to_caps().ok()?,
            shape: FrameShape::new(info.clone())?,
            memory: Memory::System,
            fixed_size: false,
        })
    }
}

impl Allowed {
    /// Asks downstream.
    pub fn ask(pad: &gst::Pad, video: &Format) -> Result<Self, Stop> {
        let peer = pad.peer_query_caps(None);
        let memories = memories_of_crops(video.memory);
        Self::among(&peer, video, &memories).ok_or_else(|| {
            let names: Vec<_> = memories.iter().map(|memory| memory.name()).collect();
            Stop::Problem(format!(
                "what is linked to it takes no video in {}, only {peer}",
                names.join(" or ")
            ))
        })
    }

    /// The memory that downstream names first, and in it the video's own format if it may be that.
    fn among(peer: &gst::Caps, video: &Format, memories: &[Memory]) -> Option<Self> {
        let first = gst::CapsIntersectMode::First;
        in_downstream_s_order(peer, memories).find_map(|memory| {
            let allowed = caps_of_crops(&[memory]).intersect_with_mode(peer, first);
            let formats = preferences(video.shape.info.format(), formats_of_crops(memory));
            formats.into_iter().find_map(|format| {
                let wanted = VideoCapsBuilder::new().any_features().format(format);
                let caps = allowed.intersect_with_mode(&wanted.build(), first);
                Some(Self {
                    structure: caps.structure(0)?.to_owned(),
                    features: caps.features(0)?.to_owned(),
                    memory,
                    format,
                    video: video.clone(),
                })
            })
        })
    }

    /// Whether it is about crops of this video: frames may be larger or smaller.
    pub fn is_for(&self, video: &Format) -> bool {
        let (own, other) = (&self.video.shape.info, &video.shape.info);
        (self.video.memory, own.format(), own.par()) == (video.memory, other.format(), other.par())
            && own.colorimetry() == other.colorimetry()
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
        let features = Some(self.features.clone());
        let caps = gst::Caps::from_iter([(structure, features)]);
        match FrameShape::from_caps(&caps) {
            Some(shape) => Ok(CropFormat {
                caps,
                shape,
                memory: self.memory,
                fixed_size: self.has_fixed_size(),
            }),
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
fn preferences(video: VideoFormat, formats: &[VideoFormat]) -> Vec<VideoFormat> {
    let mut formats = formats.to_vec();
    formats.sort_by_key(|format| match *format {
        same if same == video => 0,
        VideoFormat::Gray8 => 3,
        other if is_yuv(other) == is_yuv(video) => 1,
        _ => 2,
    });
    formats
}

/// Those of the memories that downstream names, in its order; where it leaves the choice, in ours.
fn in_downstream_s_order<'a>(
    peer: &'a gst::Caps,
    memories: &'a [Memory],
) -> impl Iterator<Item = Memory> + 'a {
    let named = peer.iter_with_features().flat_map(|(_, features)| {
        let memory = Memory::from_features(features);
        let any = features.is_any();
        memories.iter().filter(move |own| any || **own == memory)
    });
    let all = if peer.is_any() { memories } else { &[] };
    all.iter().chain(named).copied()
}

/// What caps say of a crop of this size, in pixels, of this video, whose samples stand for colours like this.
pub(super) fn native_info(
    video: &VideoInfo,
    samples: Colorimetry,
    (width, height): (u32, u32),
) -> Option<VideoInfo> {
    let with = |colorimetry: VideoColorimetry| {
        VideoInfo::builder(video.format(), width, height)
            .par(video.par())
            .fps(gst::Fraction::new(0, 1))
            .colorimetry(&colorimetry)
            .build()
            .ok()
    };
    // A frame may know better than its caps, and what was guessed from its height is not what is guessed from a crop's.
    let said = with(video.colorimetry())?;
    match said.is_rgb() || video_info::colorimetry(&said) == samples {
        true => Some(said),
        false => with(video_info::name(samples, &said.colorimetry())),
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;
    use crate::frame::ColorMatrix;

    fn video(caps: &str) -> Format {
        gst::init().unwrap();
        Format::from_caps(&gst::Caps::from_str(caps).unwrap()).unwrap()
    }

    fn caps_for(caps: &str, downstream: &str, size: (u32, u32)) -> String {
        let video = video(caps);
        let template = gst::PadTemplate::new(
            "crops",
            gst::PadDirection::Src,
            gst::PadPresence::Request,
            &caps_of_crops(&ALL),
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
        let samples = video.shape.colorimetry();
        let native = native_info(&video.shape.info, samples, size).unwrap();
        match Allowed::ask(&pad, &video).and_then(|allowed| allowed.caps_for(&native)) {
            Ok(format) => {
                let info = &format.shape.info;
                let (width, height) = (info.width(), info.height());
                format!("{} {width}x{height} {}", info.format(), info.colorimetry())
            }
            Err(stop) => stop.to_string(),
        }
    }

    const ALL: [Memory; 3] = [Memory::Nvmm, Memory::Cuda, Memory::System];
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
    fn a_crop_s_caps_say_what_its_samples_are_even_where_the_frame_s_do_not() {
        let said = |caps: &str, matrix, full_range| {
            let samples = Colorimetry { matrix, full_range };
            let info = video(caps).shape.info.clone();
            native_info(&info, samples, (300, 80))
                .unwrap()
                .colorimetry()
                .to_string()
        };
        let nvmm = "video/x-raw(memory:NVMM),format=NV12,width=1920,height=1080";
        assert_eq!(said(nvmm, ColorMatrix::Bt709, false), "bt709");
        assert_eq!(said(nvmm, ColorMatrix::Bt709, true), "1:3:5:1");
        assert_eq!(said(nvmm, ColorMatrix::Bt601, false), "2:4:5:1");
        let unknown = format!("{NV12},colorimetry=2:0:5:1");
        assert_eq!(said(&unknown, ColorMatrix::Bt709, false), "bt709");
        assert_eq!(said(RGB, ColorMatrix::Bt709, false), "sRGB");
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

    fn chosen(caps: &str, downstream: &str, memories: &[Memory]) -> Option<String> {
        let video = video(caps);
        let peer = gst::Caps::from_str(downstream).unwrap();
        let allowed = Allowed::among(&peer, &video, memories)?;
        let samples = video.shape.colorimetry();
        let native = native_info(&video.shape.info, samples, (300, 80)).unwrap();
        let crop = allowed.caps_for(&native).ok().unwrap();
        assert_eq!(Memory::from_caps(&crop.caps), crop.memory);
        assert!(crop.caps.can_intersect(&peer), "{}", crop.caps);
        let format = crop.shape.info.format();
        Some(format!("{:?} {format} {}", crop.memory, crop.fixed_size))
    }

    #[test]
    fn downstream_s_first_memory_is_taken_and_the_frame_s_own_where_it_leaves_the_choice() {
        const CUDA: &str = "video/x-raw(memory:CUDAMemory),format=NV12,width=1920,height=1080";
        const NVMM: &str = "video/x-raw(memory:NVMM),format=NV12,width=1920,height=1080";
        let own = |first: &str| chosen(CUDA, first, &[Memory::Cuda, Memory::System]).unwrap();
        assert_eq!(own("ANY"), "Cuda NV12 false");
        assert_eq!(own("video/x-raw(ANY)"), "Cuda NV12 false");
        let cuda = "video/x-raw(memory:CUDAMemory)";
        assert_eq!(own(&format!("video/x-raw;{cuda}")), "System NV12 false");
        assert_eq!(own(&format!("{cuda};video/x-raw")), "Cuda NV12 false");
        assert_eq!(own("video/x-raw,width=9,height=9"), "System NV12 true");
        assert_eq!(
            own(&format!("{cuda},format=RGBA,width=9,height=9")),
            "Cuda RGBA true"
        );
        // GStreamer has no grey CUDA memory: the next memory is taken.
        assert_eq!(
            own(&format!("{cuda},format=GRAY8;video/x-raw,format=GRAY8")),
            "System GRAY8 false"
        );
        assert_eq!(chosen(NVMM, "ANY", &ALL).unwrap(), "Nvmm NV12 false");
        assert_eq!(
            chosen(NVMM, "video/x-raw(ANY),format={BGRA,RGBA}", &ALL).unwrap(),
            "Nvmm RGBA false"
        );
        assert_eq!(chosen(NVMM, cuda, &ALL).unwrap(), "Cuda NV12 false");
        // Without DeepStream's pool there is no NVMM to be had.
        let without = [Memory::Cuda, Memory::System];
        assert_eq!(chosen(NVMM, "video/x-raw(memory:NVMM)", &without), None);
        assert_eq!(chosen(NVMM, "ANY", &without).unwrap(), "Cuda NV12 false");
    }

    #[test]
    fn what_downstream_allowed_holds_for_frames_of_the_same_format_and_memory() {
        gst::init().unwrap();
        let anything = |caps| {
            let video = video(caps);
            Allowed::among(&gst::Caps::new_any(), &video, &ALL).unwrap()
        };
        let cuda = "video/x-raw(memory:CUDAMemory),format=NV12,width=1920,height=1080";
        let allowed = anything(cuda);
        assert!(allowed.is_for(&video(cuda)));
        assert!(allowed.is_for(&video(&cuda.replace("1920", "1280"))));
        assert!(!allowed.is_for(&video(&cuda.replace("NV12", "I420"))));
        assert!(!allowed.is_for(&video(NV12)));
        assert!(!allowed.is_for(&video(&format!("{cuda},colorimetry=bt601"))));
        assert!(!anything(NV12).is_for(&video(cuda)));
    }
}
