//! One output with a row (or column) for each candidate: the YOLO families, and RT-DETR as Ultralytics exports it.

use super::evidence::{Evidence, MORE_STRIDES, STRIDES};
use super::{Family, Match, PIXELS, Shapes, Sureness};
use crate::decode::plan::{
    Activation, BoxFormat, Boxes, ClassOf, Extent, Plan, Scores, Source, Suppression, View, cells,
    grid_priors,
};

/// Centre x, centre y, width, height; then, in the older networks, objectness.
const BOX: i64 = 4;
const BOX_AND_OBJECTNESS: i64 = 5;
/// Coefficients of a mask in the rows of segmentation models, which have the masks as a second output.
const MASK: i64 = 32;
/// Networks that return so few rows are no YOLO with a row for each cell.
const FEW_ROWS: i64 = 1000;
/// RT-DETR has so many queries.
const QUERIES: i64 = 300;
/// What Ultralytics calls RT-DETR's last layer.
pub const RT_DETR_HEAD: &str = "RTDETRDecoder";

/// The sizes of the one output with rows; the second of segmentation models does not count. With the columns that
/// belong to masks.
pub fn rows(evidence: &Evidence<'_>) -> Option<(i64, i64, i64)> {
    let [_, second, third] = evidence.floats(0)?;
    let mask = match evidence.outputs.len() {
        1 => 0,
        2 => {
            let [_, coefficients, _, _] = evidence.floats(1)?;
            (coefficients == MASK).then_some(MASK)?
        }
        _ => return None,
    };
    Some((second, third, mask))
}

/// Whether `second` counts candidates, and so `third` their values.
fn in_rows(evidence: &Evidence<'_>, second: i64, third: i64) -> bool {
    let counts = |size: i64| evidence.one_a_cell(size) || evidence.three_a_cell(size);
    match (counts(second), counts(third)) {
        (true, false) => true,
        (false, true) => false,
        _ => third > 0 && (second < 0 || second > third),
    }
}

pub fn yolov5(evidence: &Evidence<'_>) -> Option<Match> {
    let (candidates, row, mask) = rows(evidence)?;
    let classes = row - BOX_AND_OBJECTNESS - mask;
    if classes < 1 || !in_rows(evidence, candidates, row) {
        return None;
    }
    let sureness = match evidence.three_a_cell(candidates) {
        true => Sureness::Likely,
        false => Sureness::Possible,
    };
    let other =
        evidence.one_a_cell(candidates) || (row == 6 && (0..=FEW_ROWS).contains(&candidates));
    let fits = evidence.fill_grids(candidates, 3) && !other;
    (fits || evidence.is_decoder(Family::Yolov5)).then_some(Match::new(
        sureness,
        classes as usize,
        &[0],
    ))
}

/// Rows as those of YOLOv5, one for each cell.
fn one_a_cell(evidence: &Evidence<'_>, family: Family) -> Option<Match> {
    let [_, candidates, row] = evidence.single()?;
    let classes = row - BOX_AND_OBJECTNESS;
    let fits = evidence.one_a_cell(candidates) || evidence.is_decoder(family);
    (classes >= 1 && fits).then(|| Match::new(Sureness::Likely, classes as usize, &[0]))
}

pub fn yolov6(evidence: &Evidence<'_>) -> Option<Match> {
    one_a_cell(evidence, Family::Yolov6)
}

pub fn yolox(evidence: &Evidence<'_>) -> Option<Match> {
    one_a_cell(evidence, Family::Yolox)
}

pub fn yolox_decoded(evidence: &Evidence<'_>) -> Option<Match> {
    one_a_cell(evidence, Family::YoloxDecoded)
}

pub fn yolov8(evidence: &Evidence<'_>) -> Option<Match> {
    let (second, third, mask) = rows(evidence)?;
    let planar = !in_rows(evidence, second, third);
    let (candidates, values) = if planar {
        (third, second)
    } else {
        (second, third)
    };
    // Keypoints stand behind the classes, of which the labels say how many there are.
    let classes = match (evidence.task, evidence.labels) {
        (Some("pose"), Some(labels)) if (labels as i64) < values - BOX => labels as i64,
        (Some("obb"), _) => return None,
        _ => values - BOX - mask,
    };
    let sureness = match (planar, evidence.one_a_cell(candidates)) {
        (_, true) => Sureness::Likely,
        _ if evidence.is_decoder(Family::Yolov8) => Sureness::Possible,
        // Rows of other networks are likelier.
        (true, false) if evidence.fill_grids(candidates, 1) => Sureness::Possible,
        _ => return None,
    };
    (classes >= 1).then(|| Match {
        planar,
        ..Match::new(sureness, classes as usize, &[0])
    })
}

pub fn obb(evidence: &Evidence<'_>) -> Option<Match> {
    if let Some(list) = super::rows::turned(evidence) {
        return Some(list);
    }
    let [_, second, third] = evidence.single()?;
    let planar = !in_rows(evidence, second, third);
    let values = if planar { second } else { third };
    let classes = values - BOX - 1;
    let said = evidence.task == Some("obb") || evidence.is_decoder(Family::YoloObb);
    let counted = planar
        && evidence
            .labels
            .is_some_and(|labels| classes == labels as i64);
    let sureness = match () {
        () if said => Sureness::Certain,
        () if counted || (planar && evidence.file_hints_at(&["obb"])) => Sureness::Likely,
        () => return None,
    };
    (classes >= 1).then(|| Match {
        planar,
        ..Match::new(sureness, classes as usize, &[0])
    })
}

pub fn rt_detr(evidence: &Evidence<'_>) -> Option<Match> {
    let [_, candidates, row] = evidence.single()?;
    let classes = row - BOX;
    let forced = evidence.is_decoder(Family::UltralyticsRtDetr);
    // Score and class of a list, or the scores of two classes: the older exports do not name their head.
    if evidence.head == Some(RT_DETR_HEAD) && classes == 2 {
        return Some(Match::open(Sureness::Certain, &[0]));
    }
    let detects = evidence.task.is_none_or(|task| task == "detect");
    let fits = candidates == QUERIES && classes != 2 && detects;
    (classes >= 1 && (fits || forced)).then(|| Match::new(Sureness::Likely, classes as usize, &[0]))
}

/// Probabilities, with objectness where there is one.
fn scores(view: View, classes: usize, objectness: Option<View>) -> Scores {
    Scores {
        view,
        classes,
        activation: Activation::None,
        background: None,
        objectness: objectness.map(|view| (view, false)),
        class: ClassOf::Score { first: 0 },
    }
}

/// Rows with objectness, in which boxes are `format` says.
fn rows_with_objectness(shapes: &Shapes<'_>) -> Option<(usize, View)> {
    let [_, candidates, row] = shapes.sizes(0)?;
    let view = View::rows(shapes.output(0)?, candidates, row, 0);
    (row >= shapes.layout.classes + BOX_AND_OBJECTNESS as usize).then_some((candidates, view))
}

pub fn plan_yolov5(shapes: &Shapes<'_>) -> Option<Plan> {
    let (candidates, view) = rows_with_objectness(shapes)?;
    let scores = scores(view.skip(5), shapes.layout.classes, Some(view.skip(4)));
    let boxes = Boxes::plain(view, BoxFormat::Centers, PIXELS);
    let source = Source::new(candidates, 1, scores, boxes);
    Some(Plan::new(source, Suppression::PerClass))
}

pub fn plan_yolox(shapes: &Shapes<'_>) -> Option<Plan> {
    let (candidates, view) = rows_with_objectness(shapes)?;
    let strides: &[usize] = match candidates == cells(shapes.input, &MORE_STRIDES) {
        true => &MORE_STRIDES,
        false => &STRIDES,
    };
    let priors = grid_priors(shapes.input, strides, 0.0);
    if priors.len() != candidates {
        return None;
    }
    let scores = scores(view.skip(5), shapes.layout.classes, Some(view.skip(4)));
    let boxes = Boxes {
        extent: Extent::Exponential,
        priors: Some(priors),
        ..Boxes::plain(view, BoxFormat::Centers, PIXELS)
    };
    let source = Source::new(candidates, 1, scores, boxes);
    Some(Plan::new(source, Suppression::PerClass))
}

/// Candidates without objectness, in rows or planes.
fn without_objectness(shapes: &Shapes<'_>, scale: [f32; 2], angle: bool) -> Option<Source> {
    let [_, second, third] = shapes.sizes(0)?;
    let output = shapes.output(0)?;
    let (candidates, values, view) = match shapes.layout.planar {
        true => (third, second, View::planes(output, second, third, 0)),
        false => (second, third, View::rows(output, second, third, 0)),
    };
    let classes = shapes.layout.classes;
    if values < BOX as usize + classes + usize::from(angle) {
        return None;
    }
    let scores = scores(view.skip(4), classes, None);
    let boxes = Boxes {
        angle: angle.then(|| view.skip(4 + classes)),
        ..Boxes::plain(view, BoxFormat::Centers, scale)
    };
    Some(Source::new(candidates, 1, scores, boxes))
}

pub fn plan_yolov8(shapes: &Shapes<'_>) -> Option<Plan> {
    let source = without_objectness(shapes, PIXELS, false)?;
    Some(Plan::new(source, Suppression::PerClass))
}

pub fn plan_obb(shapes: &Shapes<'_>) -> Option<Plan> {
    if shapes.layout.open_classes {
        return super::rows::plan_turned(shapes);
    }
    let source = without_objectness(shapes, PIXELS, true)?;
    Some(Plan::new(source, Suppression::PerClass))
}

pub fn plan_rt_detr(shapes: &Shapes<'_>) -> Option<Plan> {
    if shapes.layout.open_classes {
        return super::rows::plan_centers(shapes);
    }
    let source = without_objectness(shapes, shapes.input_size(), false)?;
    Some(Plan::new(source, Suppression::None))
}
