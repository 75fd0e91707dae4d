//! Lists of detections that the network has made itself, as rows of one output.

use super::evidence::Evidence;
use super::{Family, Match, PIXELS, Shapes, Sureness, yolo};
use crate::decode::plan::{
    Activation, BoxFormat, Boxes, ClassOf, Plan, Scores, Source, Suppression, View,
};

/// Networks that make their own lists make none longer.
const LONGEST: i64 = 1000;

/// Four values of a box, score and class.
const ROW: i64 = 6;

pub fn yolov10(evidence: &Evidence<'_>) -> Option<Match> {
    let forced = evidence.is_decoder(Family::Yolov10);
    let Some((detections, row, mask)) = yolo::rows(evidence) else {
        return among_others(evidence).filter(|_| forced);
    };
    let fits = match (evidence.task, evidence.head) {
        _ if forced => row >= ROW,
        (Some("obb"), _) | (_, Some(yolo::RT_DETR_HEAD)) => false,
        (Some("pose"), _) => row > ROW && !evidence.one_a_cell(row),
        _ => row == ROW + mask,
    };
    let sureness = match detections {
        0..=LONGEST => Sureness::Likely,
        -1 => Sureness::Possible,
        _ if forced => Sureness::Possible,
        _ => return None,
    };
    fits.then(|| Match::open(sureness, &[0]))
}

/// The one list among other outputs.
fn among_others(evidence: &Evidence<'_>) -> Option<Match> {
    let is_list = |&i: &usize| {
        let row = evidence.floats(i).map(|[_, _, row]| row);
        row == Some(ROW)
    };
    let mut lists = (0..evidence.outputs.len()).filter(is_list);
    let list = lists.next().filter(|_| lists.next().is_none())?;
    Some(Match::open(Sureness::Certain, &[list]))
}

/// Turned boxes as a list, with the angle behind score and class.
pub fn turned(evidence: &Evidence<'_>) -> Option<Match> {
    let [_, detections, row] = evidence.single()?;
    let said = evidence.task == Some("obb") || evidence.is_decoder(Family::YoloObb);
    let fits = row == ROW + 1 && detections <= LONGEST && said;
    fits.then(|| Match::open(Sureness::Certain, &[0]))
}

pub fn yolov7_end_to_end(evidence: &Evidence<'_>) -> Option<Match> {
    let [_, row] = evidence.floats(0)?;
    let flat = evidence.named(&["flat"]).is_some();
    let fits = !flat || evidence.is_decoder(Family::Yolov7EndToEnd);
    (row == 7 && fits && evidence.outputs.len() == 1).then(|| Match::open(Sureness::Likely, &[0]))
}

pub fn yolo_nas_flat(evidence: &Evidence<'_>) -> Option<Match> {
    let [_, row] = evidence.floats(0)?;
    let flat = evidence.named(&["flat"]).is_some() || evidence.file_hints_at(&["nas"]);
    let fits = flat || evidence.is_decoder(Family::YoloNasFlat);
    (row == 7 && fits && evidence.outputs.len() == 1).then(|| Match::open(Sureness::Certain, &[0]))
}

/// The second output, where there is one, is the number of detections.
pub fn detection_output(evidence: &Evidence<'_>) -> Option<Match> {
    let rows = (0..evidence.outputs.len()).find(|&i| {
        evidence
            .floats(i)
            .is_some_and(|[_, one, _, seven]| (one, seven) == (1, 7))
    })?;
    let outputs = match evidence.outputs.len() {
        1 => vec![rows],
        2 => vec![rows, 1 - rows],
        _ => return None,
    };
    Some(Match::open(Sureness::Certain, &outputs).with_background())
}

pub fn paddle(evidence: &Evidence<'_>) -> Option<Match> {
    let rows = (0..evidence.outputs.len())
        .find(|&i| evidence.floats(i).is_some_and(|[_, row]| row == 6))?;
    let number = (0..evidence.outputs.len()).find(|&i| i != rows && evidence.is_integer(i));
    let fits = evidence.has_input("scale_factor") || number.is_some();
    (fits || evidence.is_decoder(Family::Paddle)).then(|| {
        let outputs: Vec<_> = [rows].into_iter().chain(number).collect();
        Match::open(Sureness::Certain, &outputs)
    })
}

pub fn mmdetection(evidence: &Evidence<'_>) -> Option<Match> {
    let dets = (0..evidence.outputs.len())
        .find(|&i| evidence.floats(i).is_some_and(|[_, _, row]| row == 5))?;
    let labels = (0..evidence.outputs.len())
        .find(|&i| evidence.is_integer(i) && evidence.outputs[i].shape.len() == 2)?;
    Some(Match::open(Sureness::Certain, &[dets, labels]))
}

/// Where in a row its parts are.
struct Columns {
    row: usize,
    corners: usize,
    score: usize,
    class: usize,
}

/// The list in output `role` of `detections` rows.
fn plan(
    shapes: &Shapes<'_>,
    detections: usize,
    columns: Columns,
    scale: [f32; 2],
) -> Option<Source> {
    let view = View::rows(shapes.output(0)?, detections, columns.row, 0);
    let scores = Scores {
        view: view.skip(columns.score),
        classes: 1,
        activation: Activation::None,
        background: None,
        objectness: None,
        class: ClassOf::Output(view.skip(columns.class)),
    };
    let boxes = Boxes::plain(view.skip(columns.corners), BoxFormat::Corners, scale);
    Some(Source::new(detections, 1, scores, boxes))
}

/// The output with this role as the number of detections of an image.
fn number(shapes: &Shapes<'_>, role: usize) -> Option<View> {
    shapes.output(role).map(|output| View {
        output,
        image_stride: 1,
        ..View::default()
    })
}

/// Rows of a box, score, class, and what other tasks need behind them.
fn boxes_first(shapes: &Shapes<'_>, scale: [f32; 2]) -> Option<(Source, usize)> {
    let [_, detections, row] = shapes.sizes(0)?;
    let columns = Columns {
        row,
        corners: 0,
        score: 4,
        class: 5,
    };
    let source = plan(shapes, detections, columns, scale)?;
    (row >= ROW as usize).then_some((source, row))
}

pub fn plan_yolov10(shapes: &Shapes<'_>) -> Option<Plan> {
    let (source, _) = boxes_first(shapes, PIXELS)?;
    Some(Plan::new(source, Suppression::None))
}

/// As [`plan_yolov10`], with centre and size in parts of the input instead of corners.
pub fn plan_centers(shapes: &Shapes<'_>) -> Option<Plan> {
    let (mut source, _) = boxes_first(shapes, shapes.input_size())?;
    source.boxes.format = BoxFormat::Centers;
    Some(Plan::new(source, Suppression::None))
}

/// As [`plan_yolov10`], with centre and size instead of corners, and the angle in the last column.
pub fn plan_turned(shapes: &Shapes<'_>) -> Option<Plan> {
    let (mut source, row) = boxes_first(shapes, PIXELS)?;
    source.boxes.format = BoxFormat::Centers;
    source.boxes.angle = Some(source.boxes.points.skip(row - 1));
    (row == ROW as usize + 1).then(|| Plan::new(source, Suppression::None))
}

pub fn plan_yolov7_end_to_end(shapes: &Shapes<'_>) -> Option<Plan> {
    let [detections, row] = shapes.sizes(0)?;
    let columns = Columns {
        row,
        corners: 1,
        score: 6,
        class: 5,
    };
    let source = plan(shapes, detections, columns, PIXELS)?;
    (row == 7).then(|| Plan::new(source, Suppression::None))
}

pub fn plan_yolo_nas_flat(shapes: &Shapes<'_>) -> Option<Plan> {
    let [detections, row] = shapes.sizes(0)?;
    let columns = Columns {
        row,
        corners: 1,
        score: 5,
        class: 6,
    };
    let source = plan(shapes, detections, columns, PIXELS)?;
    (row == 7).then(|| Plan::new(source, Suppression::None))
}

pub fn plan_detection_output(shapes: &Shapes<'_>) -> Option<Plan> {
    let [_, one, detections, row] = shapes.sizes(0)?;
    let columns = Columns {
        row,
        corners: 3,
        score: 2,
        class: 1,
    };
    let source = Source {
        count: number(shapes, 1),
        end: Some(View::rows(shapes.output(0)?, detections, row, 0)),
        ..plan(shapes, detections, columns, shapes.input_size())?
    };
    ((one, row) == (1, 7)).then(|| Plan::new(source, Suppression::None))
}

pub fn plan_paddle(shapes: &Shapes<'_>) -> Option<Plan> {
    let [detections, row] = shapes.sizes(0)?;
    let columns = Columns {
        row,
        corners: 2,
        score: 1,
        class: 0,
    };
    let source = Source {
        count: number(shapes, 1),
        ..plan(shapes, detections, columns, PIXELS)?
    };
    (row == 6).then(|| Plan::new(source, Suppression::None))
}

pub fn plan_mmdetection(shapes: &Shapes<'_>) -> Option<Plan> {
    let [_, detections, row] = shapes.sizes(0)?;
    let columns = Columns {
        row,
        corners: 0,
        score: 4,
        class: 4,
    };
    let mut source = plan(shapes, detections, columns, PIXELS)?;
    source.scores.class = ClassOf::Output(View::rows(shapes.output(1)?, detections, 1, 0));
    (row == 5).then(|| Plan::new(source, Suppression::None))
}
