//! The colour formats of NvBufSurface (`NvBufSurfaceColorFormat`), in the words of this crate.

use super::super::buffer::FrameShape;
use super::super::{ColorMatrix, Colorimetry, PixelFormat};

/// The names of nvbufsurface.h after `NVBUF_COLOR_FORMAT_`, by value. Later versions only append.
#[rustfmt::skip]
const NAMES: [&str; 113] = [
    "INVALID", "GRAY8", "YUV420", "YVU420", "YUV420_ER",
    "YVU420_ER", "NV12", "NV12_ER", "NV21", "NV21_ER",
    "UYVY", "UYVY_ER", "VYUY", "VYUY_ER", "YUYV",
    "YUYV_ER", "YVYU", "YVYU_ER", "YUV444", "RGBA",
    "BGRA", "ARGB", "ABGR", "RGBx", "BGRx",
    "xRGB", "xBGR", "RGB", "BGR", "NV12_10LE",
    "NV12_12LE", "YUV420_709", "YUV420_709_ER", "NV12_709", "NV12_709_ER",
    "YUV420_2020", "NV12_2020", "NV12_10LE_ER", "NV12_10LE_709", "NV12_10LE_709_ER",
    "NV12_10LE_2020", "SIGNED_R16G16", "R8_G8_B8", "B8_G8_R8", "R32F_G32F_B32F",
    "B32F_G32F_R32F", "YUV422", "NV21_10LE", "NV21_12LE", "NV12_12LE_2020",
    "NV16", "NV16_10LE", "NV24", "NV24_10LE", "NV16_ER",
    "NV24_ER", "NV16_709", "NV24_709", "NV16_709_ER", "NV24_709_ER",
    "NV24_10LE_709", "NV24_10LE_709_ER", "NV24_10LE_2020", "NV24_12LE_2020", "RGBA_10_10_10_2_709",
    "RGBA_10_10_10_2_2020", "BGRA_10_10_10_2_709", "BGRA_10_10_10_2_2020", "A32", "UYVP",
    "UYVP_ER", "YUV444_ER", "YUV444_709", "YUV444_709_ER", "YUV444_2020",
    "YUV444_10LE", "YUV444_10LE_ER", "YUV444_10LE_709", "YUV444_10LE_709_ER", "YUV444_10LE_2020",
    "YUV444_12LE", "YUV444_12LE_ER", "YUV444_12LE_709", "YUV444_12LE_709_ER", "YUV444_12LE_2020",
    "NV12_12LE_ER", "NV12_12LE_709", "NV12_12LE_709_ER", "GRAY8_ER", "UYVY_709",
    "UYVY_709_ER", "UYVY_2020", "GRAY16_LE", "BGRA64_LE", "NV16_2020",
    "NV16_10LE_ER", "NV16_10LE_709", "NV16_10LE_709_ER", "NV16_10LE_2020", "NV16_12LE",
    "NV16_12LE_ER", "NV16_12LE_709", "NV16_12LE_709_ER", "NV16_12LE_2020", "NV24_2020",
    "NV24_10LE_ER", "NV24_12LE", "NV24_12LE_ER", "NV24_12LE_709", "NV24_12LE_709_ER",
    "UYVP_709", "UYVP_709_ER", "UYVP_2020",
];

/// The name of a colour format in nvbufsurface.h.
pub fn name(color_format: u32) -> String {
    match NAMES.get(color_format as usize) {
        Some(name) => format!("NVBUF_COLOR_FORMAT_{name}"),
        None => format!("NvBufSurfaceColorFormat {color_format}"),
    }
}

/// The pixel format, the index in the surface of each of its planes, and the colorimetry; `None` where the
/// format is not supported.
///
/// The matrix is the one that the caps name: nvv4l2decoder passes on what the stream says of its matrix, while the
/// names of its surfaces come from the primaries, which streams combine with any matrix. Where caps name none, the
/// name of the surface counts, and where that names none either, as of producers who do not look at colorimetry, what
/// is guessed from the caps. `_ER` is full range, of BT.601 where nothing else is named (nvbufsurface.h).
pub fn describe(
    color_format: u32,
    caps: &FrameShape,
) -> Option<(PixelFormat, [usize; 3], Colorimetry)> {
    let name = *NAMES.get(color_format as usize)?;
    let (name, full_range) = match name.strip_suffix("_ER") {
        Some(name) => (name, true),
        None => (name, false),
    };
    let (name, matrix) = match name.rsplit_once('_') {
        Some((name, "709")) => (name, Some(ColorMatrix::Bt709)),
        Some((name, "2020")) => (name, Some(ColorMatrix::Bt2020)),
        _ => (name, None),
    };
    let said = caps.colorimetry();
    let colorimetry = Colorimetry {
        matrix: match matrix {
            _ if caps.matrix_is_named() => said.matrix,
            Some(matrix) => matrix,
            None if full_range => ColorMatrix::Bt601,
            None => said.matrix,
        },
        full_range: full_range || said.full_range,
    };
    let format = match name {
        "GRAY8" => PixelFormat::Gray8,
        "YUV420" | "YVU420" => PixelFormat::I420,
        "NV12" => PixelFormat::Nv12,
        "NV21" => PixelFormat::Nv21,
        "NV12_10LE" => PixelFormat::P010,
        "UYVY" => PixelFormat::Uyvy,
        "YUYV" => PixelFormat::Yuy2,
        "RGBA" => PixelFormat::Rgba,
        "BGRA" => PixelFormat::Bgra,
        "ARGB" => PixelFormat::Argb,
        "RGBx" => PixelFormat::Rgbx,
        "BGRx" => PixelFormat::Bgrx,
        "RGB" => PixelFormat::Rgb,
        "BGR" => PixelFormat::Bgr,
        _ => return None,
    };
    let order = if name == "YVU420" {
        [0, 2, 1]
    } else {
        [0, 1, 2]
    };
    Some((format, order, colorimetry))
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    fn caps(rest: &str) -> FrameShape {
        gst::init().unwrap();
        let caps = format!("video/x-raw(memory:NVMM),format=NV12,width=64,{rest}");
        FrameShape::from_caps(&gst::Caps::from_str(&caps).unwrap()).unwrap()
    }

    fn colors(matrix: ColorMatrix, full_range: bool) -> Colorimetry {
        Colorimetry { matrix, full_range }
    }

    #[test]
    fn where_caps_name_no_matrix_the_surface_s_name_counts() {
        use ColorMatrix::{Bt601, Bt709, Bt2020};
        for rest in ["height=480", "height=480,colorimetry=2:0:5:1"] {
            let described = |color_format| describe(color_format, &caps(rest)).unwrap().2;
            assert_eq!(described(6), colors(Bt601, false));
            assert_eq!(described(33), colors(Bt709, false));
            assert_eq!(described(34), colors(Bt709, true));
            assert_eq!(described(36), colors(Bt2020, false));
            assert_eq!(described(39), colors(Bt709, true));
        }
        let high = |color_format| describe(color_format, &caps("height=1080")).unwrap().2;
        assert_eq!(high(6), colors(Bt709, false));
        assert_eq!(high(7), colors(Bt601, true));
        assert_eq!(high(88), colors(Bt601, true));
    }

    // A stream of x264enc out of RGB has the matrix of BT.601 with the primaries of BT.709: nvv4l2decoder makes caps of
    // the one, and a surface named after the others.
    #[test]
    fn a_matrix_that_caps_name_overrules_the_surface_s_name_which_comes_from_the_primaries() {
        let described = |color_format, colorimetry: &str| {
            let caps = caps(&format!("height=512,colorimetry={colorimetry}"));
            describe(color_format, &caps).unwrap().2
        };
        assert_eq!(described(33, "2:4:7:1"), colors(ColorMatrix::Bt601, false));
        assert_eq!(described(36, "2:3:5:7"), colors(ColorMatrix::Bt709, false));
        assert_eq!(described(6, "bt709"), colors(ColorMatrix::Bt709, false));
        assert_eq!(described(7, "bt709"), colors(ColorMatrix::Bt709, true));
        assert_eq!(described(6, "1:4:0:0"), colors(ColorMatrix::Bt601, true));
    }

    #[test]
    fn formats_and_the_order_of_planes_are_the_surface_s() {
        let described = |color_format| {
            let (format, order, _) = describe(color_format, &caps("height=480")).unwrap();
            (format, order)
        };
        let in_order = [0, 1, 2];
        assert_eq!(described(6), (PixelFormat::Nv12, in_order));
        assert_eq!(described(34), (PixelFormat::Nv12, in_order));
        assert_eq!(described(39), (PixelFormat::P010, in_order));
        assert_eq!(described(3), (PixelFormat::I420, [0, 2, 1]));
        assert_eq!(described(19), (PixelFormat::Rgba, in_order));
        assert_eq!(described(88), (PixelFormat::Gray8, in_order));
    }

    #[test]
    fn formats_that_are_not_supported_have_the_name_of_the_header() {
        for (color_format, expected) in [
            (0, "NVBUF_COLOR_FORMAT_INVALID"),
            (18, "NVBUF_COLOR_FORMAT_YUV444"),
            (44, "NVBUF_COLOR_FORMAT_R32F_G32F_B32F"),
            (64, "NVBUF_COLOR_FORMAT_RGBA_10_10_10_2_709"),
            (112, "NVBUF_COLOR_FORMAT_UYVP_2020"),
            (113, "NvBufSurfaceColorFormat 113"),
        ] {
            assert_eq!(describe(color_format, &caps("height=480")), None);
            assert_eq!(name(color_format), expected);
        }
    }
}
