//! SSD as exported with box decoding in the graph: `scores [N,A,C]`, `boxes [N,A,4]`.

use super::{Family, Layout, Selection, UnexpectedShape, arg_max, is_float_rank_3};
use crate::detection::BoundingBox;
use crate::engine::{Tensor, TensorSpec};
use crate::preprocess::InputGeometry;

/// Class 0 is the background.
const FIRST_CLASS: usize = 1;

pub(super) fn recognize(outputs: &[TensorSpec]) -> Option<Layout> {
    let find = |name| {
        outputs
            .iter()
            .position(|o| o.name == name && is_float_rank_3(o))
    };
    let (scores, boxes) = (find("scores")?, find("boxes")?);
    let (classes, anchors) = (outputs[scores].shape[2], outputs[scores].shape[1]);
    let fits = classes > FIRST_CLASS as i64
        && outputs[boxes].shape[2] == 4
        && outputs[boxes].shape[1] == anchors;
    fits.then_some(Layout {
        family: Family::Ssd,
        classes: classes as usize,
        outputs: (scores, boxes),
    })
}

pub(super) fn decode(
    layout: &Layout,
    outputs: &[Tensor<'_>],
    input: InputGeometry,
    selection: &Selection,
    keep: &mut impl FnMut(usize, f32, BoundingBox),
) -> Result<(), UnexpectedShape> {
    let scores = layout.rows(outputs, layout.outputs.0, "scores", layout.classes)?;
    let boxes = layout.rows(outputs, layout.outputs.1, "boxes", 4)?;
    let (width, height) = (input.width as f32, input.height as f32);
    let least = selection.least_threshold();
    for (scores, corners) in scores
        .chunks_exact(layout.classes)
        .zip(boxes.chunks_exact(4))
    {
        let scores = &scores[FIRST_CLASS..];
        if !scores.iter().any(|&score| score > least) {
            continue;
        }
        let (class, confidence) = arg_max(scores);
        let class = class + FIRST_CLASS;
        if selection.wants(class, confidence) {
            keep(
                class,
                confidence,
                BoundingBox::from_corners(
                    corners[0] * width,
                    corners[1] * height,
                    corners[2] * width,
                    corners[3] * height,
                ),
            );
        }
    }
    Ok(())
}
