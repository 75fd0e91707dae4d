//! What the numbers in an output mean.

use super::super::plan::{BoxFormat, Boxes, Extent, Prior};
use crate::detection::BoundingBox;

/// The number of a class as an output holds it, if it is one.
pub fn class_number(value: f32) -> Option<usize> {
    (0.0..1e6)
        .contains(&value)
        .then_some(value.round() as usize)
}

/// The box that a candidate's values mean.
pub fn box_of(boxes: &Boxes, values: [f32; 4], prior: &Prior) -> BoundingBox {
    let [a, b, c, d] = values;
    match boxes.format {
        BoxFormat::Corners => BoundingBox::from_corners(
            prior.x + a * prior.step_x,
            prior.y + b * prior.step_y,
            prior.x + c * prior.step_x,
            prior.y + d * prior.step_y,
        ),
        BoxFormat::Distances => BoundingBox::from_corners(
            prior.x - a * prior.step_x,
            prior.y - b * prior.step_y,
            prior.x + c * prior.step_x,
            prior.y + d * prior.step_y,
        ),
        BoxFormat::Centers => {
            let point = |value| {
                let value = if boxes.point.sigmoid {
                    sigmoid(value)
                } else {
                    value
                };
                boxes.point.gain * value + boxes.point.bias
            };
            let extent = |value: f32| {
                let value = value * boxes.extent_gain;
                match boxes.extent {
                    Extent::Linear => value,
                    Extent::Exponential => value.exp(),
                    Extent::SquaredSigmoid => (2.0 * sigmoid(value)).powi(2),
                }
            };
            BoundingBox::from_center(
                prior.x + point(a) * prior.step_x,
                prior.y + point(b) * prior.step_y,
                extent(c) * prior.width,
                extent(d) * prior.height,
            )
        }
    }
}

pub fn sigmoid(value: f32) -> f32 {
    1.0 / (1.0 + (-value).exp())
}

/// A value that is certainly not above the one of which the sigmoid is `probability`.
pub fn before_sigmoid(probability: f32) -> f32 {
    if probability >= 1.0 {
        // The sigmoid of great values is 1, which is not above 1; infinity leaves all out.
        return f32::INFINITY;
    }
    if probability <= 0.0 {
        return f32::NEG_INFINITY;
    }
    (probability / (1.0 - probability)).ln() - 1e-3
}

/// The greatest value; NaN is never the greatest. Eight at a time, as processors compare them.
pub fn greatest(values: &[f32]) -> f32 {
    const LANES: usize = 8;
    let mut best = [f32::NEG_INFINITY; LANES];
    let mut chunks = values.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (best, &value) in best.iter_mut().zip(chunk) {
            *best = if value > *best { value } else { *best };
        }
    }
    let rest = chunks.remainder().iter().chain(&best);
    rest.fold(
        f32::NEG_INFINITY,
        |best, &value| {
            if value > best { value } else { best }
        },
    )
}

/// Index and value of the greatest entry; the first of equal ones. NaN is never the greatest.
pub fn arg_max(values: &[f32]) -> (usize, f32) {
    let mut best = (0, f32::NEG_INFINITY);
    for (i, &value) in values.iter().enumerate() {
        if value > best.1 {
            best = (i, value);
        }
    }
    best
}
