//! The colours of the overlay: one for each class, readable text on it, and both as samples of a frame.

use std::f32::consts::TAU;

use crate::frame::Colorimetry;

/// A colour in sRGB, 0 to 255, with straight alpha: 255 hides what was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Color {
    pub red: u8,
    pub green: u8,
    pub blue: u8,
    pub alpha: u8,
}

/// What a sample of a frame measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    Red,
    Green,
    Blue,
    Alpha,
    Luma,
    /// U, the difference of blue.
    Cb,
    /// V, the difference of red.
    Cr,
}

impl Color {
    pub const BLACK: Self = Self::opaque(0, 0, 0);
    pub const WHITE: Self = Self::opaque(255, 255, 255);

    pub const fn opaque(red: u8, green: u8, blue: u8) -> Self {
        Self {
            red,
            green,
            blue,
            alpha: 255,
        }
    }

    /// The colour of a class, always the same. Hues of consecutive classes lie a golden angle apart, which
    /// keeps any first n of them spread over the whole circle; lightness and chroma, as the eye sees them
    /// (OKLCH), differ only so far that no class looks more important than another.
    pub fn of_class(class_id: u32) -> Self {
        const GOLDEN_RATIO_OF_2_POW_32: u32 = 0x9E37_79B9;
        const FIRST_HUE: f32 = 0.4;
        const SHADES: [(f32, f32); 3] = [(0.74, 0.18), (0.64, 0.20), (0.84, 0.16)];

        let turn = class_id.wrapping_mul(GOLDEN_RATIO_OF_2_POW_32) as f32 / 2f32.powi(32);
        let (lightness, chroma) = SHADES[class_id as usize % SHADES.len()];
        from_oklch(lightness, chroma, FIRST_HUE + turn * TAU)
    }

    /// Black or white, whichever is read more easily on this colour. The contrast ratio is never below
    /// sqrt(21) = 4.58: that of black times that of white is 21 for every colour.
    pub fn for_text_on_it(self) -> Self {
        if self.contrast(Self::BLACK) > self.contrast(Self::WHITE) {
            Self::BLACK
        } else {
            Self::WHITE
        }
    }

    /// The contrast ratio of two opaque colours, 1 to 21 (WCAG 2.2, "contrast ratio").
    pub fn contrast(self, other: Self) -> f32 {
        let (a, b) = (self.relative_luminance(), other.relative_luminance());
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    /// 0 to 1 (WCAG 2.2, "relative luminance").
    fn relative_luminance(self) -> f32 {
        let linear = |channel: u8| match f32::from(channel) / 255.0 {
            dark if dark <= 0.04045 => dark / 12.92,
            light => ((light + 0.055) / 1.055).powf(2.4),
        };
        0.2126 * linear(self.red) + 0.7152 * linear(self.green) + 0.0722 * linear(self.blue)
    }

    /// This colour as a sample of 8 or 10 bits. Luma and chroma after ITU-R BT.601-7 and BT.709-6 (limited
    /// range) and JFIF (full range), with the weights of the frame's matrix; rounded to the nearest.
    pub fn sample(self, channel: Channel, colorimetry: Colorimetry, bits: u32) -> u32 {
        let [red, green, blue] =
            [self.red, self.green, self.blue].map(|value| f32::from(value) / 255.0);
        let (red_weight, blue_weight) = colorimetry.matrix.luma_weights();
        let luma = red_weight * red + (1.0 - red_weight - blue_weight) * green + blue_weight * blue;

        let largest = ((1u32 << bits) - 1) as f32;
        let step = (1u32 << (bits - 8)) as f32;
        let (luma_black, luma_span, chroma_span) = if colorimetry.full_range {
            (0.0, largest, largest)
        } else {
            (16.0 * step, 219.0 * step, 224.0 * step)
        };
        let value = match channel {
            Channel::Red => red * largest,
            Channel::Green => green * largest,
            Channel::Blue => blue * largest,
            Channel::Alpha => largest,
            Channel::Luma => luma_black + luma_span * luma,
            Channel::Cb => 128.0 * step + chroma_span * (blue - luma) / (2.0 - 2.0 * blue_weight),
            Channel::Cr => 128.0 * step + chroma_span * (red - luma) / (2.0 - 2.0 * red_weight),
        };
        value.round().clamp(0.0, largest) as u32
    }
}

/// The nearest sRGB colour, each channel clipped on its own. `hue` in radians.
/// Matrices: Björn Ottosson, "A perceptual color space for image processing", 2020.
fn from_oklch(lightness: f32, chroma: f32, hue: f32) -> Color {
    let (a, b) = (chroma * hue.cos(), chroma * hue.sin());
    let long = (lightness + 0.396_337_78 * a + 0.215_803_76 * b).powi(3);
    let medium = (lightness - 0.105_561_346 * a - 0.063_854_17 * b).powi(3);
    let short = (lightness - 0.089_484_18 * a - 1.291_485_5 * b).powi(3);

    let encoded = |linear: f32| {
        let value = if linear <= 0.003_130_8 {
            12.92 * linear
        } else {
            1.055 * linear.powf(1.0 / 2.4) - 0.055
        };
        (value * 255.0).round().clamp(0.0, 255.0) as u8
    };
    Color::opaque(
        encoded(4.076_741_7 * long - 3.307_711_6 * medium + 0.230_969_94 * short),
        encoded(-1.268_438 * long + 2.609_757_4 * medium - 0.341_319_4 * short),
        encoded(-0.004_196_086_3 * long - 0.703_418_6 * medium + 1.707_614_7 * short),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::ColorMatrix;

    #[test]
    fn text_reaches_a_contrast_of_4_5_on_the_colour_of_every_class() {
        for class_id in (0..=200).chain([u32::MAX]) {
            let plate = Color::of_class(class_id);
            let contrast = plate.contrast(plate.for_text_on_it());
            assert!(contrast >= 4.5, "class {class_id}: {contrast}");
        }
    }

    #[test]
    fn contrast_of_black_on_white_is_21_and_of_a_colour_on_itself_1() {
        assert!((Color::BLACK.contrast(Color::WHITE) - 21.0).abs() < 1e-4);
        assert_eq!(Color::of_class(3).contrast(Color::of_class(3)), 1.0);
    }

    #[test]
    fn no_two_of_the_first_20_classes_look_alike() {
        let colors: Vec<Color> = (0..20).map(Color::of_class).collect();
        for (i, a) in colors.iter().enumerate() {
            for (j, b) in colors.iter().enumerate().skip(i + 1) {
                let apart = [(a.red, b.red), (a.green, b.green), (a.blue, b.blue)]
                    .map(|(a, b)| u32::from(a.abs_diff(b)).pow(2))
                    .iter()
                    .sum::<u32>();
                assert!(apart > 30 * 30, "classes {i} and {j}: {a:?}, {b:?}");
            }
        }
    }

    #[test]
    fn samples_of_primaries_are_those_of_the_standards() {
        let limited = |matrix| Colorimetry {
            matrix,
            full_range: false,
        };
        let full = Colorimetry {
            matrix: ColorMatrix::Bt601,
            full_range: true,
        };
        let yuv = |color: Color, colorimetry, bits| {
            [Channel::Luma, Channel::Cb, Channel::Cr]
                .map(|channel| color.sample(channel, colorimetry, bits))
        };
        let red = Color::opaque(255, 0, 0);
        let blue = Color::opaque(0, 0, 255);
        assert_eq!(yuv(red, limited(ColorMatrix::Bt601), 8), [81, 90, 240]);
        assert_eq!(yuv(red, limited(ColorMatrix::Bt709), 8), [63, 102, 240]);
        assert_eq!(yuv(blue, limited(ColorMatrix::Bt2020), 10), [116, 960, 476]);
        assert_eq!(yuv(red, full, 8), [76, 85, 255]);
        assert_eq!(
            yuv(Color::WHITE, limited(ColorMatrix::Bt709), 10),
            [940, 512, 512]
        );
        assert_eq!(
            yuv(Color::BLACK, limited(ColorMatrix::Bt601), 8),
            [16, 128, 128]
        );
    }
}
