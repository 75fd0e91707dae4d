//! From stored samples to RGB: one affine map for every pixel format, the same on every processor.

use super::ChannelOrder;
use crate::frame::{Colorimetry, PixelFormat};

/// `rgb[i] = matrix[i] · samples + offset[i]`, summed up from left to right, to be clamped to 0..255.
///
/// `samples` are the numbers as they are stored: Y, U, V; or R, G, B; or grey and two numbers that do not
/// count. Those of [`PixelFormat::P010`] are the 16-bit words with their low six bits cleared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ColorTransform {
    pub matrix: [[f32; 3]; 3],
    pub offset: [f32; 3],
}

impl ColorTransform {
    const IDENTITY: Self = Self {
        matrix: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        offset: [0.0; 3],
    };

    /// The map of a format and its colorimetry. Colorimetry does not count for RGB formats.
    ///
    /// Quantisation by ITU-T H.273, equations 22 to 30, for `n` bits: luma is 16 + 219 Y (times 2^(n-8)) or
    /// full range (2^n - 1) Y; chroma is 128 + 224 C (times 2^(n-8)) or 2^(n-1) + (2^n - 1) C.
    pub fn new(format: PixelFormat, colorimetry: Colorimetry) -> Self {
        if !format.is_yuv() && format != PixelFormat::Gray8 {
            return Self::IDENTITY;
        }
        let (bits, code) = match format {
            PixelFormat::P010 => (10, 64.0),
            _ => (8, 1.0),
        };
        let eighth_bit = f64::from(1 << (bits - 8));
        let peak = f64::from((1 << bits) - 1);
        let neutral = 128.0 * eighth_bit * code;
        let (black, luma_span, chroma_span) = match colorimetry.full_range {
            true => (0.0, peak * code, peak * code),
            false => (
                16.0 * eighth_bit * code,
                219.0 * eighth_bit * code,
                224.0 * eighth_bit * code,
            ),
        };
        let luma = 255.0 / luma_span;
        let chroma = match format {
            PixelFormat::Gray8 => 0.0,
            _ => 255.0 / chroma_span,
        };

        let (kr, kb) = colorimetry.matrix.luma_weights();
        let (kr, kb) = (f64::from(kr), f64::from(kb));
        let kg = 1.0 - kr - kb;
        let (red_of_v, blue_of_u) = (2.0 * (1.0 - kr), 2.0 * (1.0 - kb));
        let rows = [
            [luma, 0.0, red_of_v * chroma],
            [
                luma,
                -blue_of_u * kb / kg * chroma,
                -red_of_v * kr / kg * chroma,
            ],
            [luma, blue_of_u * chroma, 0.0],
        ];
        Self {
            matrix: rows.map(|row| row.map(|entry| entry as f32)),
            offset: rows.map(|[y, u, v]| -(y * black + (u + v) * neutral) as f32),
        }
    }

    /// The same map with its results in the order of a tensor's channels.
    pub fn in_order(mut self, order: ChannelOrder) -> Self {
        if order == ChannelOrder::Bgr {
            self.matrix.swap(0, 2);
            self.offset.swap(0, 2);
        }
        self
    }
}
