//! The colour formats of NvBufSurface (`NvBufSurfaceColorFormat`), in the words of this crate.

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
/// The names without a standard are what producers use who do not look at colorimetry, so there `caps`
/// counts; `_ER` is full range, of BT.601 where no other standard is named (nvbufsurface.h).
pub fn describe(
    color_format: u32,
    caps: Colorimetry,
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
    let colorimetry = match (matrix, full_range) {
        (None, false) => caps,
        (matrix, full_range) => Colorimetry {
            matrix: matrix.unwrap_or(ColorMatrix::Bt601),
            full_range,
        },
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
    use super::*;

    const CAPS: Colorimetry = Colorimetry {
        matrix: ColorMatrix::Smpte240m,
        full_range: false,
    };

    #[test]
    fn formats_with_a_standard_or_full_range_overrule_caps() {
        let described = |color_format| describe(color_format, CAPS).unwrap();
        let colors = |matrix, full_range| Colorimetry { matrix, full_range };
        let in_order = [0, 1, 2];
        assert_eq!(described(6), (PixelFormat::Nv12, in_order, CAPS));
        assert_eq!(
            described(7),
            (
                PixelFormat::Nv12,
                in_order,
                colors(ColorMatrix::Bt601, true)
            )
        );
        assert_eq!(
            described(33),
            (
                PixelFormat::Nv12,
                in_order,
                colors(ColorMatrix::Bt709, false)
            )
        );
        assert_eq!(
            described(34),
            (
                PixelFormat::Nv12,
                in_order,
                colors(ColorMatrix::Bt709, true)
            )
        );
        assert_eq!(
            described(36),
            (
                PixelFormat::Nv12,
                in_order,
                colors(ColorMatrix::Bt2020, false)
            )
        );
        assert_eq!(
            described(39),
            (
                PixelFormat::P010,
                in_order,
                colors(ColorMatrix::Bt709, true)
            )
        );
        assert_eq!(described(3), (PixelFormat::I420, [0, 2, 1], CAPS));
        assert_eq!(described(19), (PixelFormat::Rgba, in_order, CAPS));
        assert_eq!(
            described(88),
            (
                PixelFormat::Gray8,
                in_order,
                colors(ColorMatrix::Bt601, true)
            )
        );
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
            assert_eq!(describe(color_format, CAPS), None);
            assert_eq!(name(color_format), expected);
        }
    }
}
