//! From the samples of one format to those of another: one affine map.

use crate::frame::{Colorimetry, PixelFormat};
use crate::preprocess::color::ColorTransform;
use crate::preprocess::cpu::kernel::Finish;

/// Stored samples of [`PixelFormat::P010`] for one step of 8 bits, by range: its peak is 1023, six bits up.
const P010_PEAK: f64 = 65_472.0;
/// An entry of the map below this is a rounding error.
const NOTHING: f64 = 1e-5;

type Affine = ([[f64; 3]; 3], [f64; 3]);

/// For each component of the target, how it comes from the components of the source. Results are in 0..255 before
/// [`Finish::scale`] makes ten bits of them where the target has those.
pub fn finishes(
    (source, source_colorimetry): (PixelFormat, Colorimetry),
    (target, target_colorimetry): (PixelFormat, Colorimetry),
) -> [Finish; 3] {
    let (to_rgb, rgb) = in_doubles(ColorTransform::new(source, source_colorimetry));
    let ten_bits = target == PixelFormat::P010;
    // Grey is luma: the chroma that comes with it is not stored.
    let invertible = match target {
        PixelFormat::Gray8 => PixelFormat::Nv12,
        other => other,
    };
    let (target_to_rgb, target_rgb) =
        in_doubles(ColorTransform::new(invertible, target_colorimetry));
    let from_rgb = inverse(target_to_rgb);
    let (unit, scale) = match ten_bits {
        true => (255.0 / P010_PEAK, 1023.0 / 255.0),
        false => (1.0, 1.0),
    };
    [0, 1, 2].map(|component| {
        let row = from_rgb[component];
        let entry = |column: usize| {
            let entry: f64 = (0..3).map(|i| row[i] * to_rgb[i][column]).sum();
            if entry.abs() < NOTHING {
                0.0
            } else {
                entry * unit
            }
        };
        let offset: f64 = (0..3).map(|i| row[i] * (rgb[i] - target_rgb[i])).sum();
        Finish {
            matrix: [entry(0) as f32, entry(1) as f32, entry(2) as f32],
            offset: (offset * unit) as f32,
            mean: 0.0,
            scale,
        }
    })
}

/// What the components of the target are for black, before [`Finish::scale`].
pub fn black((target, colorimetry): (PixelFormat, Colorimetry)) -> [f32; 3] {
    let rgb = (PixelFormat::Rgb, Colorimetry::default());
    finishes(rgb, (target, colorimetry)).map(|finish| finish.offset.clamp(0.0, 255.0))
}

fn in_doubles(transform: ColorTransform) -> Affine {
    (
        transform.matrix.map(|row| row.map(f64::from)),
        transform.offset.map(f64::from),
    )
}

/// The inverse by cofactors; every colour transform but that of grey has one.
fn inverse(m: [[f64; 3]; 3]) -> [[f64; 3]; 3] {
    let cofactor = |row: usize, column: usize| {
        let (r, s) = ((row + 1) % 3, (row + 2) % 3);
        let (c, d) = ((column + 1) % 3, (column + 2) % 3);
        m[r][c] * m[s][d] - m[r][d] * m[s][c]
    };
    let determinant: f64 = (0..3)
        .map(|column| m[0][column] * cofactor(0, column))
        .sum();
    [0, 1, 2].map(|row| [0, 1, 2].map(|column| cofactor(column, row) / determinant))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::ColorMatrix;

    fn convert(finishes: &[Finish; 3], samples: [f32; 3]) -> [u32; 3] {
        [0, 1, 2].map(|i| {
            let Finish {
                matrix: [x, y, z],
                offset,
                scale,
                ..
            } = finishes[i];
            let value = x * samples[0] + y * samples[1] + z * samples[2] + offset;
            (value.clamp(0.0, 255.0) * scale).round() as u32
        })
    }

    fn colorimetry(matrix: ColorMatrix, full_range: bool) -> Colorimetry {
        Colorimetry { matrix, full_range }
    }

    #[test]
    fn primaries_become_the_samples_of_the_standards_and_come_back() {
        let rgb = (PixelFormat::Rgb, Colorimetry::default());
        for (color, target, wanted) in [
            (
                [255.0, 0.0, 0.0],
                colorimetry(ColorMatrix::Bt601, false),
                [81, 90, 240],
            ),
            (
                [255.0, 0.0, 0.0],
                colorimetry(ColorMatrix::Bt709, false),
                [63, 102, 240],
            ),
            (
                [255.0, 0.0, 0.0],
                colorimetry(ColorMatrix::Bt601, true),
                [76, 85, 255],
            ),
            (
                [255.0; 3],
                colorimetry(ColorMatrix::Bt2020, false),
                [235, 128, 128],
            ),
            (
                [0.0; 3],
                colorimetry(ColorMatrix::Bt709, true),
                [0, 128, 128],
            ),
        ] {
            let yuv = (PixelFormat::I420, target);
            assert_eq!(convert(&finishes(rgb, yuv), color), wanted);
            let back = convert(&finishes(yuv, rgb), wanted.map(|v| v as f32));
            for (back, color) in back.into_iter().zip(color) {
                assert!((back as f32 - color).abs() <= 2.0, "{back} is not {color}");
            }
        }
        let ten_bits = (PixelFormat::P010, colorimetry(ColorMatrix::Bt2020, false));
        assert_eq!(
            convert(&finishes(rgb, ten_bits), [0.0, 0.0, 255.0]),
            [116, 960, 476]
        );
    }

    #[test]
    fn formats_of_one_colorimetry_keep_every_sample() {
        for full_range in [false, true] {
            let yuv = |format| (format, colorimetry(ColorMatrix::Bt709, full_range));
            let same = finishes(yuv(PixelFormat::Nv12), yuv(PixelFormat::Yuy2));
            let grey = finishes(yuv(PixelFormat::Nv12), yuv(PixelFormat::Gray8));
            for sample in 0..=255 {
                let samples = [sample, 255 - sample, sample / 2];
                assert_eq!(convert(&same, samples.map(|v| v as f32)), samples);
                assert_eq!(convert(&grey, samples.map(|v| v as f32))[0], sample);
            }
            let deep = finishes(yuv(PixelFormat::P010), yuv(PixelFormat::P010));
            for sample in 0..1024 {
                let samples = [sample, 1023 - sample, sample / 2];
                assert_eq!(convert(&deep, samples.map(|v| (v << 6) as f32)), samples);
            }
        }
    }

    #[test]
    fn grey_has_neutral_chroma_and_black_is_black() {
        let limited = colorimetry(ColorMatrix::Bt709, false);
        let finishes = finishes((PixelFormat::Gray8, limited), (PixelFormat::Nv12, limited));
        assert_eq!(convert(&finishes, [77.0, 3.0, 200.0]), [77, 128, 128]);
        assert_eq!(finishes[1].matrix, [0.0; 3]);
        assert_eq!(
            black((PixelFormat::Nv12, limited)).map(f32::round),
            [16.0, 128.0, 128.0]
        );
        assert_eq!(black((PixelFormat::Bgra, limited)), [0.0; 3]);
    }
}
