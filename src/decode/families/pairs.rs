//! Two outputs, one with boxes and one with scores, for the same candidates.

use super::evidence::{Evidence, same};
use super::{Family, Match, PIXELS, Shapes, Sureness};
use crate::decode::plan::{
    Activation, BoxFormat, Boxes, ClassOf, Plan, Scores, Source, Suppression, View,
};

/// Candidates of UltraFace at 320x240 and 640x480.
const ULTRAFACE_CANDIDATES: [i64; 2] = [4420, 17640];
/// Nine anchors for each cell of these grids.
pub const RETINANET_STRIDES: [usize; 5] = [8, 16, 32, 64, 128];
pub const RETINANET_ANCHORS: usize = 9;

/// Two outputs `[N,A,C]` and `[N,A,4]`.
struct Pair {
    scores: usize,
    boxes: usize,
    candidates: i64,
    classes: i64,
}

fn pair(evidence: &Evidence<'_>) -> Option<Pair> {
    let named = evidence.called("scores").zip(evidence.called("boxes"));
    let (scores, boxes) = match named {
        Some(both) => both,
        None if evidence.outputs.len() != 2 => return None,
        None => {
            let fours = |i: usize| evidence.floats(i).is_some_and(|[_, _, last]| last == 4);
            let boxes = match (fours(0), fours(1)) {
                (true, true) => evidence.named(&["box", "bbox", "loc", "reg"])?,
                (first, second) => usize::from(!first && second),
            };
            (1 - boxes, boxes)
        }
    };
    let [_, candidates, four] = evidence.floats(boxes)?;
    let [_, scored, classes] = evidence.floats(scores)?;
    (four == 4 && same(candidates, scored) && classes > 0).then_some(Pair {
        scores,
        boxes,
        candidates: candidates.max(scored),
        classes,
    })
}

fn is_ultraface(pair: &Pair) -> bool {
    pair.classes == 2 && ULTRAFACE_CANDIDATES.contains(&pair.candidates)
}

pub fn ssd(evidence: &Evidence<'_>) -> Option<Match> {
    let pair = pair(evidence)?;
    let named = evidence.called("scores").is_some() && evidence.called("boxes").is_some();
    let forced = evidence.is_decoder(Family::Ssd);
    if pair.classes < 2 || !(named || forced) || (is_ultraface(&pair) && !forced) {
        return None;
    }
    // The names are those of other networks too, which have as many candidates as cells.
    let sureness = match evidence.one_a_cell(pair.candidates) {
        true => Sureness::Likely,
        false => Sureness::Certain,
    };
    let outputs = [pair.scores, pair.boxes];
    Some(Match::new(sureness, pair.classes as usize, &outputs).with_background())
}

pub fn ultraface(evidence: &Evidence<'_>) -> Option<Match> {
    let pair = pair(evidence)?;
    (is_ultraface(&pair) || evidence.is_decoder(Family::UltraFace)).then(|| {
        let outputs = [pair.scores, pair.boxes];
        Match::new(Sureness::Certain, pair.classes as usize, &outputs).with_background()
    })
}

/// Boxes and probabilities for each cell, in this order.
fn of_cells(evidence: &Evidence<'_>, family: Family, boxes_first: bool) -> Option<Match> {
    let pair = pair(evidence)?;
    let in_order =
        (pair.boxes < pair.scores) == boxes_first && evidence.one_a_cell(pair.candidates);
    let outputs = [pair.scores, pair.boxes];
    (in_order || evidence.is_decoder(family))
        .then(|| Match::new(Sureness::Likely, pair.classes as usize, &outputs))
}

pub fn yolo_nas(evidence: &Evidence<'_>) -> Option<Match> {
    of_cells(evidence, Family::YoloNas, true)
}

pub fn damo_yolo(evidence: &Evidence<'_>) -> Option<Match> {
    of_cells(evidence, Family::DamoYolo, false)
}

pub fn pp_yoloe(evidence: &Evidence<'_>) -> Option<Match> {
    let [first, second] = [evidence.floats(0)?, evidence.floats(1)?];
    let fits = |boxes: [i64; 3], scores: [i64; 3]| {
        boxes[2] == 4
            && scores[2] == boxes[1]
            && scores[1] != boxes[1]
            && (evidence.one_a_cell(boxes[1]) || evidence.is_decoder(Family::PpYoloe))
    };
    let (boxes, scores, classes) = match (fits(first, second), fits(second, first)) {
        (true, _) => (0, 1, second[1]),
        (false, true) => (1, 0, first[1]),
        _ => return None,
    };
    (evidence.outputs.len() == 2 && classes > 0)
        .then(|| Match::new(Sureness::Likely, classes as usize, &[scores, boxes]))
}

pub fn yolov4_decoded(evidence: &Evidence<'_>) -> Option<Match> {
    let boxes = (0..2).find(|&i| {
        evidence
            .floats(i)
            .is_some_and(|[_, _, one, four]| (one, four) == (1, 4))
    })?;
    let [_, _, classes] = evidence.floats(1 - boxes)?;
    (evidence.outputs.len() == 2 && classes > 0)
        .then(|| Match::new(Sureness::Certain, classes as usize, &[1 - boxes, boxes]))
}

pub fn retinanet(evidence: &Evidence<'_>) -> Option<Match> {
    let pair = pair(evidence)?;
    let anchors = evidence.cells(&RETINANET_STRIDES) * RETINANET_ANCHORS as i64;
    let named =
        evidence.named(&["classification"]).is_some() && evidence.named(&["regression"]).is_some();
    let fits = pair.candidates == anchors;
    let forced = evidence.is_decoder(Family::RetinaNet);
    let sureness = if named {
        Sureness::Certain
    } else {
        Sureness::Likely
    };
    (fits || forced)
        .then(|| Match::new(sureness, pair.classes as usize, &[pair.scores, pair.boxes]))
}

/// Candidates whose probabilities start at class `first`, with boxes as corners.
fn corners(
    shapes: &Shapes<'_>,
    scores: View,
    candidates: usize,
    first: usize,
    scale: [f32; 2],
) -> Option<Plan> {
    let scores = Scores {
        view: scores.skip(first),
        classes: shapes.layout.classes - first,
        activation: Activation::None,
        background: None,
        objectness: None,
        class: ClassOf::Score { first },
    };
    let boxes = View::rows(shapes.output(1)?, candidates, 4, 0);
    let boxes = Boxes::plain(boxes, BoxFormat::Corners, scale);
    let source = Source::new(candidates, 1, scores, boxes);
    Some(Plan::new(source, Suppression::PerClass))
}

/// The number of candidates, and their scores in rows.
fn scored_rows(shapes: &Shapes<'_>) -> Option<(usize, View)> {
    let [_, scored, classes] = shapes.sizes(0)?;
    let [_, candidates, four] = shapes.sizes(1)?;
    let fits = four == 4 && scored == candidates && classes == shapes.layout.classes;
    let view = View::rows(shapes.output(0)?, candidates, classes, 0);
    fits.then_some((candidates, view))
}

pub fn plan_ssd(shapes: &Shapes<'_>) -> Option<Plan> {
    let (candidates, scores) = scored_rows(shapes)?;
    corners(shapes, scores, candidates, 1, shapes.input_size())
}

pub fn plan_pixels(shapes: &Shapes<'_>) -> Option<Plan> {
    let (candidates, scores) = scored_rows(shapes)?;
    corners(shapes, scores, candidates, 0, PIXELS)
}

pub fn plan_pp_yoloe(shapes: &Shapes<'_>) -> Option<Plan> {
    let [_, classes, scored] = shapes.sizes(0)?;
    let [_, candidates, four] = shapes.sizes(1)?;
    let fits = four == 4 && scored == candidates && classes == shapes.layout.classes;
    let scores = View::planes(shapes.output(0)?, classes, candidates, 0);
    corners(shapes, scores, candidates, 0, PIXELS).filter(|_| fits)
}

pub fn plan_yolov4_decoded(shapes: &Shapes<'_>) -> Option<Plan> {
    let [_, scored, classes] = shapes.sizes(0)?;
    let [_, candidates, one, four] = shapes.sizes(1)?;
    let fits = (one, four) == (1, 4) && scored == candidates && classes == shapes.layout.classes;
    let scores = View::rows(shapes.output(0)?, candidates, classes, 0);
    corners(shapes, scores, candidates, 0, shapes.input_size()).filter(|_| fits)
}
