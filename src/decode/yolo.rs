//! YOLOv5 as exported by Ultralytics: one output `[N,A,5+C]`, sigmoid and grid already applied.

use super::{Family, Layout, Selection, UnexpectedShape, arg_max, is_float_rank_3};
use crate::detection::BoundingBox;
use crate::engine::{Tensor, TensorSpec};

/// Centre x, centre y, width, height and objectness stand before the classes.
const BEFORE_CLASSES: usize = 5;
/// End-to-end networks return at most this many rows; a YOLOv5 of one class has thousands.
const END_TO_END_ROWS: i64 = 1000;

pub(super) fn recognize(outputs: &[TensorSpec]) -> Option<Layout> {
    let [output] = outputs else { return None };
    if !is_float_rank_3(output) {
        return None;
    }
    let (anchors, row) = (output.shape[1], output.shape[2]);
    // More columns than rows are the transposed layout of YOLOv8 and later; few rows of six are the
    // x1, y1, x2, y2, score, class of end-to-end networks.
    let transposed = anchors >= 0 && row > anchors;
    let end_to_end = row == 6 && (0..=END_TO_END_ROWS).contains(&anchors);
    let fits = row > BEFORE_CLASSES as i64 && !transposed && !end_to_end;
    fits.then_some(Layout {
        family: Family::Yolov5,
        classes: row as usize - BEFORE_CLASSES,
        outputs: (0, 0),
    })
}

pub(super) fn decode(
    layout: &Layout,
    outputs: &[Tensor<'_>],
    selection: &Selection,
    keep: &mut impl FnMut(usize, f32, BoundingBox),
) -> Result<(), UnexpectedShape> {
    let row_length = BEFORE_CLASSES + layout.classes;
    let rows = layout.rows(outputs, layout.outputs.0, "output", row_length)?;
    let least = selection.least_threshold();
    for row in rows.chunks_exact(row_length) {
        // Classes are at most 1, so the objectness alone rules most candidates out.
        let objectness = row[4];
        if objectness <= least {
            continue;
        }
        let (class, score) = arg_max(&row[BEFORE_CLASSES..]);
        let confidence = score * objectness;
        if selection.wants(class, confidence) {
            keep(
                class,
                confidence,
                BoundingBox::from_center(row[0], row[1], row[2], row[3]),
            );
        }
    }
    Ok(())
}
