//! DetectNet: a coverage and a box for each cell of one grid.

use std::sync::Arc;

use super::evidence::{Evidence, same};
use super::{Family, Match, PIXELS, Shapes, Sureness};
use crate::decode::plan::{
    Activation, BoxFormat, Boxes, ClassOf, Plan, Prior, Scores, Source, Suppression, View,
};

/// Pixels of the network's input for one unit of DetectNet_v2's boxes, and where in a cell they start, in pixels: the
/// `bbox_norm` and `offset` of TAO.
const NORM: f32 = 35.0;
const OFFSET: f32 = 0.5;

/// Coverage and boxes, with the channels of each.
fn outputs(evidence: &Evidence<'_>, family: Family) -> Option<([usize; 2], i64, i64)> {
    if evidence.outputs.len() != 2 {
        return None;
    }
    let named = evidence.named(&["cov"]).zip(evidence.named(&["bbox"]));
    let (coverage, boxes) = match named {
        Some(both) => both,
        None => {
            let [_, first, _, _] = evidence.floats(0)?;
            let [_, second, _, _] = evidence.floats(1)?;
            let fits = second == 4 * first || evidence.is_decoder(family);
            fits.then_some((0, 1))?
        }
    };
    let [_, classes, height, width] = evidence.floats(coverage)?;
    let [_, channels, box_height, box_width] = evidence.floats(boxes)?;
    let fits = classes > 0 && same(height, box_height) && same(width, box_width);
    fits.then_some(([coverage, boxes], classes, channels))
}

pub fn recognize_v2(evidence: &Evidence<'_>) -> Option<Match> {
    let (outputs, classes, channels) = outputs(evidence, Family::DetectNetV2)?;
    let legacy = evidence.called("coverage").is_some() && !evidence.is_decoder(Family::DetectNetV2);
    let named = evidence.named(&["output_cov"]).is_some();
    let sureness = if named {
        Sureness::Certain
    } else {
        Sureness::Likely
    };
    (channels == 4 * classes && !legacy).then(|| Match::new(sureness, classes as usize, &outputs))
}

pub fn recognize(evidence: &Evidence<'_>) -> Option<Match> {
    let (outputs, classes, channels) = outputs(evidence, Family::DetectNet)?;
    let named = evidence.called("coverage").is_some() && evidence.named(&["bboxes"]).is_some();
    (channels == 4 && (named || evidence.is_decoder(Family::DetectNet)))
        .then(|| Match::new(Sureness::Certain, classes as usize, &outputs))
}

/// Candidates for each cell and class. Boxes stand in `planes` planes, those of the next class so many planes further.
fn plan_grid(
    shapes: &Shapes<'_>,
    planes: usize,
    next_class: usize,
    prior: impl Fn(f32, f32) -> Prior,
    format: BoxFormat,
) -> Option<Plan> {
    let [_, classes, rows, columns] = shapes.sizes(0)?;
    let [_, channels, box_rows, box_columns] = shapes.sizes(1)?;
    let fits = classes == shapes.layout.classes
        && channels == planes
        && (box_rows, box_columns) == (rows, columns)
        && rows * columns > 0;
    if !fits {
        return None;
    }
    let cells = rows * columns;
    let scores = Scores {
        view: View {
            anchor_stride: cells,
            ..View::planes(shapes.output(0)?, classes, cells, 0)
        },
        classes: 1,
        activation: Activation::None,
        background: None,
        objectness: None,
        class: ClassOf::Anchor,
    };
    // The whole pixels of a cell, as jetson-inference and DeepStream count them.
    let (width, height) = (shapes.input.width / columns, shapes.input.height / rows);
    let priors: Arc<[Prior]> = (0..cells * classes)
        .map(|index| {
            let cell = index / classes;
            let (x, y) = (cell % columns * width, cell / columns * height);
            prior(x as f32, y as f32)
        })
        .collect();
    let view = View {
        anchor_stride: next_class * cells,
        ..View::planes(shapes.output(1)?, planes, cells, 0)
    };
    let boxes = Boxes {
        priors: Some(priors),
        ..Boxes::plain(view, format, PIXELS)
    };
    let source = Source::new(cells, classes, scores, boxes);
    Some(Plan::new(source, Suppression::Clusters))
}

/// A prior at this place with steps of so many pixels.
fn stepping(x: f32, y: f32, step: f32) -> Prior {
    Prior {
        x,
        y,
        step_x: step,
        step_y: step,
        ..Prior::default()
    }
}

pub fn plan_v2(shapes: &Shapes<'_>) -> Option<Plan> {
    let planes = 4 * shapes.layout.classes;
    let prior = |x, y| stepping(x + OFFSET, y + OFFSET, NORM);
    plan_grid(shapes, planes, 4, prior, BoxFormat::Distances)
}

pub fn plan(shapes: &Shapes<'_>) -> Option<Plan> {
    let prior = |x, y| stepping(x, y, 1.0);
    plan_grid(shapes, 4, 0, prior, BoxFormat::Corners)
}
