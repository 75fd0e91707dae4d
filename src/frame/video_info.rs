//! What caps say of a frame, in the words of this crate.

use gst_video::{VideoColorMatrix, VideoColorRange, VideoColorimetry, VideoFormat, VideoInfo};

use super::{ColorMatrix, Colorimetry, PixelFormat};

/// The pixel format behind a format of caps, and for each of its planes the index of the plane in the
/// buffer; `None` where the format is not supported.
pub fn pixel_format(format: VideoFormat) -> Option<(PixelFormat, [usize; 3])> {
    const IN_ORDER: [usize; 3] = [0, 1, 2];
    Some(match format {
        VideoFormat::Nv12 => (PixelFormat::Nv12, IN_ORDER),
        VideoFormat::Nv21 => (PixelFormat::Nv21, IN_ORDER),
        VideoFormat::I420 => (PixelFormat::I420, IN_ORDER),
        VideoFormat::Yv12 => (PixelFormat::I420, [0, 2, 1]),
        VideoFormat::P01010le => (PixelFormat::P010, IN_ORDER),
        VideoFormat::Yuy2 => (PixelFormat::Yuy2, IN_ORDER),
        VideoFormat::Uyvy => (PixelFormat::Uyvy, IN_ORDER),
        VideoFormat::Rgb => (PixelFormat::Rgb, IN_ORDER),
        VideoFormat::Bgr => (PixelFormat::Bgr, IN_ORDER),
        VideoFormat::Rgba => (PixelFormat::Rgba, IN_ORDER),
        VideoFormat::Bgra => (PixelFormat::Bgra, IN_ORDER),
        VideoFormat::Rgbx => (PixelFormat::Rgbx, IN_ORDER),
        VideoFormat::Bgrx => (PixelFormat::Bgrx, IN_ORDER),
        VideoFormat::Argb => (PixelFormat::Argb, IN_ORDER),
        VideoFormat::Xrgb => (PixelFormat::Xrgb, IN_ORDER),
        VideoFormat::Gray8 => (PixelFormat::Gray8, IN_ORDER),
        _ => return None,
    })
}

/// How the samples stand for colours. Where caps name no matrix, the one of GStreamer's defaults is taken:
/// BT.709 from 720 lines on, BT.601 below.
pub fn colorimetry(info: &VideoInfo) -> Colorimetry {
    let colorimetry = info.colorimetry();
    let matrix = match colorimetry.matrix() {
        VideoColorMatrix::Bt601 => ColorMatrix::Bt601,
        VideoColorMatrix::Bt709 => ColorMatrix::Bt709,
        VideoColorMatrix::Bt2020 => ColorMatrix::Bt2020,
        VideoColorMatrix::Smpte240m => ColorMatrix::Smpte240m,
        VideoColorMatrix::Fcc => ColorMatrix::Fcc,
        _ if info.height() >= 720 => ColorMatrix::Bt709,
        _ => ColorMatrix::Bt601,
    };
    Colorimetry {
        matrix,
        full_range: colorimetry.range() == VideoColorRange::Range0_255,
    }
}

/// Whether caps name a matrix; where they do not, [`colorimetry`] is a guess.
pub fn names_matrix(caps: &gst::CapsRef) -> bool {
    let named = caps
        .structure(0)
        .and_then(|s| s.get::<&str>("colorimetry").ok());
    let parsed = named.and_then(|name| name.parse::<VideoColorimetry>().ok());
    parsed.is_some_and(|colorimetry| colorimetry.matrix() != VideoColorMatrix::Unknown)
}

/// What caps call this colorimetry, with all else as in `like`.
pub fn name(colorimetry: Colorimetry, like: &VideoColorimetry) -> VideoColorimetry {
    let matrix = match colorimetry.matrix {
        ColorMatrix::Bt601 => VideoColorMatrix::Bt601,
        ColorMatrix::Bt709 => VideoColorMatrix::Bt709,
        ColorMatrix::Bt2020 => VideoColorMatrix::Bt2020,
        ColorMatrix::Smpte240m => VideoColorMatrix::Smpte240m,
        ColorMatrix::Fcc => VideoColorMatrix::Fcc,
    };
    let range = match colorimetry.full_range {
        true => VideoColorRange::Range0_255,
        false => VideoColorRange::Range16_235,
    };
    VideoColorimetry::new(range, matrix, like.transfer(), like.primaries())
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    fn colorimetry_of(caps: &str) -> Colorimetry {
        gst::init().unwrap();
        let caps = gst::Caps::from_str(caps).unwrap();
        colorimetry(&VideoInfo::from_caps(&caps).unwrap())
    }

    #[test]
    fn colorimetry_is_what_caps_say_and_else_follows_the_height() {
        let yuv = |matrix, full_range| Colorimetry { matrix, full_range };
        assert_eq!(
            colorimetry_of("video/x-raw,format=NV12,width=64,height=480"),
            yuv(ColorMatrix::Bt601, false)
        );
        assert_eq!(
            colorimetry_of("video/x-raw(memory:NVMM),format=NV12,width=64,height=720"),
            yuv(ColorMatrix::Bt709, false)
        );
        assert_eq!(
            colorimetry_of("video/x-raw,format=NV12,width=64,height=64,colorimetry=bt2020"),
            yuv(ColorMatrix::Bt2020, false)
        );
        assert_eq!(
            colorimetry_of("video/x-raw,format=I420,width=64,height=1080,colorimetry=1:4:0:0"),
            yuv(ColorMatrix::Bt601, true)
        );
    }

    #[test]
    fn a_matrix_is_named_only_by_caps_that_know_it() {
        gst::init().unwrap();
        let named = |rest: &str| {
            let caps = format!("video/x-raw,format=NV12,width=64,height=64{rest}");
            names_matrix(&gst::Caps::from_str(&caps).unwrap())
        };
        assert!(named(",colorimetry=bt601") && named(",colorimetry=2:4:7:1"));
        assert!(!named("") && !named(",colorimetry=2:0:5:1"));
    }

    #[test]
    fn yv12_is_i420_with_its_chroma_planes_named_the_other_way_round() {
        assert_eq!(
            pixel_format(VideoFormat::Yv12),
            Some((PixelFormat::I420, [0, 2, 1]))
        );
        assert_eq!(pixel_format(VideoFormat::Y444), None);
    }

    #[test]
    fn the_padding_of_xrgb_is_no_alpha() {
        let format = |format| pixel_format(format).unwrap().0;
        assert_eq!(format(VideoFormat::Argb), PixelFormat::Argb);
        assert_eq!(format(VideoFormat::Xrgb), PixelFormat::Xrgb);
    }
}
