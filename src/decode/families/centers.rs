//! Objects as the peaks of a heat map, with sizes and offsets beside it.

use super::evidence::Evidence;
use super::{Family, Match, PIXELS, Shapes, Sureness};
use crate::decode::plan::{
    Activation, BoxFormat, Boxes, ClassOf, Extent, Plan, Point, Prior, Scores, Source, Suppression,
    View,
};

/// Roles of the outputs.
const HEAT: usize = 0;
const SIZES: usize = 1;
const OFFSETS: usize = 2;

pub fn centernet(evidence: &Evidence<'_>) -> Option<Match> {
    let forced = evidence.is_decoder(Family::CenterNet) && evidence.outputs.len() == 3;
    let named = evidence
        .named(&["hm", "heat"])
        .zip(evidence.named(&["wh", "size"]))
        .zip(evidence.named(&["reg", "off"]));
    let outputs = match named {
        Some(((heat, sizes), offsets)) => [heat, sizes, offsets],
        None if forced => [HEAT, SIZES, OFFSETS],
        None => return None,
    };
    let [_, classes, _, _] = evidence.floats(outputs[HEAT])?;
    let two = |role: usize| {
        evidence
            .floats(outputs[role])
            .is_some_and(|[_, two, _, _]| two == 2)
    };
    (classes > 0 && two(SIZES) && two(OFFSETS))
        .then(|| Match::new(Sureness::Certain, classes as usize, &outputs))
}

pub fn centerface(evidence: &Evidence<'_>) -> Option<Match> {
    let channels = |i: usize| evidence.floats(i).map(|[_, channels, _, _]| channels);
    let seen: Vec<_> = (0..evidence.outputs.len()).filter_map(channels).collect();
    (seen == [1, 2, 2, 10]).then(|| Match::new(Sureness::Certain, 1, &[HEAT, SIZES, OFFSETS]))
}

/// Candidates at the peaks of the heat map, and the priors' step: how many pixels a cell has.
fn plan(
    shapes: &Shapes<'_>,
    activation: Activation,
    boxes: impl Fn(View, View) -> Boxes,
    suppression: Suppression,
) -> Option<Plan> {
    let [_, classes, rows, columns] = shapes.sizes(HEAT)?;
    let grids_fit = [SIZES, OFFSETS].into_iter().all(|role| {
        let fits = |[_, two, r, c]: [usize; 4]| (two, r, c) == (2, rows, columns);
        shapes.sizes(role).is_some_and(fits)
    });
    let cells = rows * columns;
    if !grids_fit || classes != shapes.layout.classes || cells == 0 {
        return None;
    }
    let (width, height) = (
        shapes.input.width as f32 / columns as f32,
        shapes.input.height as f32 / rows as f32,
    );
    let priors = (0..cells).map(|cell| Prior {
        x: (cell % columns) as f32 * width,
        y: (cell / columns) as f32 * height,
        step_x: width,
        step_y: height,
        width,
        height,
    });
    let two_planes = |role: usize| Some(View::planes(shapes.output(role)?, 2, cells, 0));
    let scores = Scores {
        view: View::planes(shapes.output(HEAT)?, classes, cells, 0),
        classes,
        activation,
        background: None,
        objectness: None,
        class: ClassOf::Score { first: 0 },
    };
    let boxes = Boxes {
        priors: Some(priors.collect()),
        ..boxes(two_planes(OFFSETS)?, two_planes(SIZES)?)
    };
    let source = Source {
        peaks: Some(columns),
        ..Source::new(cells, 1, scores, boxes)
    };
    Some(Plan::new(source, suppression))
}

pub fn plan_centernet(shapes: &Shapes<'_>) -> Option<Plan> {
    let boxes = |offsets, sizes| Boxes {
        extents: sizes,
        ..Boxes::plain(offsets, BoxFormat::Centers, PIXELS)
    };
    plan(shapes, Activation::Sigmoid, boxes, Suppression::None)
}

pub fn plan_centerface(shapes: &Shapes<'_>) -> Option<Plan> {
    let boxes = |offsets, sizes| Boxes {
        extents: sizes,
        vertical_first: true,
        point: Point {
            bias: 0.5,
            ..Point::LINEAR
        },
        extent: Extent::Exponential,
        ..Boxes::plain(offsets, BoxFormat::Centers, PIXELS)
    };
    plan(shapes, Activation::None, boxes, Suppression::PerClass)
}
