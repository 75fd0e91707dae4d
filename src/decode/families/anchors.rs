//! Networks whose boxes are relative to anchors: the heads of YOLOv3, v4 and v5 as they leave the network, RetinaNet.

use std::sync::Arc;

use super::evidence::{Evidence, STRIDES};
use super::pairs::{RETINANET_ANCHORS, RETINANET_STRIDES};
use super::{Family, Match, PIXELS, Shapes, Sureness, is_reasonable};
use crate::decode::plan::{
    Activation, BoxFormat, Boxes, ClassOf, Extent, Plan, Point, Prior, Scores, Source, Suppression,
    View, grid,
};
use crate::preprocess::InputGeometry;

/// Centre x, centre y, width, height, objectness.
const BEFORE_CLASSES: usize = 5;
const ANCHORS_OF_A_HEAD: usize = 3;

/// Widths and heights in pixels, by stride, that these networks have when they are trained on COCO.
const YOLOV3: [[f32; 2]; 9] = [
    [10.0, 13.0],
    [16.0, 30.0],
    [33.0, 23.0],
    [30.0, 61.0],
    [62.0, 45.0],
    [59.0, 119.0],
    [116.0, 90.0],
    [156.0, 198.0],
    [373.0, 326.0],
];
const YOLOV3_TINY: [[f32; 2]; 6] = [
    [10.0, 14.0],
    [23.0, 27.0],
    [37.0, 58.0],
    [81.0, 82.0],
    [135.0, 169.0],
    [344.0, 319.0],
];
/// Also YOLOv7's.
const YOLOV4: [[f32; 2]; 9] = [
    [12.0, 16.0],
    [19.0, 36.0],
    [40.0, 28.0],
    [36.0, 75.0],
    [76.0, 55.0],
    [72.0, 146.0],
    [142.0, 110.0],
    [192.0, 243.0],
    [459.0, 401.0],
];
const YOLOV4_TINY: [[f32; 2]; 6] = [
    [23.0, 27.0],
    [37.0, 58.0],
    [81.0, 82.0],
    [81.0, 82.0],
    [135.0, 169.0],
    [344.0, 319.0],
];
/// YOLOv4's `scale_x_y`, by stride; of -tiny the last.
const YOLOV4_GAINS: [f32; 3] = [1.2, 1.1, 1.05];

/// How the values of an output are ordered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Axes {
    /// [N,channels,h,w]
    Planes,
    /// [N,h,w,channels] or [N,h,w,anchors,values]
    Cells,
    /// [N,anchors,h,w,values]
    AnchorsFirst,
}

/// One of a network's heads.
struct Head {
    axes: Axes,
    stride: usize,
    columns: usize,
    rows: usize,
    /// Values of a cell.
    channels: usize,
}

/// The head that returns this shape.
fn head(input: InputGeometry, shape: &[i64]) -> Option<Head> {
    if !is_reasonable(shape) {
        return None;
    }
    let sizes: Vec<usize> = shape
        .iter()
        .map(|&size| usize::try_from(size).unwrap_or(0))
        .collect();
    STRIDES.into_iter().find_map(|stride| {
        let (columns, rows) = grid(input, stride);
        let (axes, channels) = match *sizes.as_slice() {
            [_, channels, r, c] if (r, c) == (rows, columns) => (Axes::Planes, channels),
            [_, r, c, channels] if (r, c) == (rows, columns) => (Axes::Cells, channels),
            [_, anchors, r, c, values] if (r, c) == (rows, columns) => {
                (Axes::AnchorsFirst, anchors * values)
            }
            [_, r, c, anchors, values] if (r, c) == (rows, columns) => {
                (Axes::Cells, anchors * values)
            }
            _ => return None,
        };
        let head = Head {
            axes,
            stride,
            columns,
            rows,
            channels,
        };
        (channels > 0).then_some(head)
    })
}

/// All outputs as heads, those of the finest grid first, and the number of classes.
fn heads(evidence: &Evidence<'_>) -> Option<(Vec<usize>, Vec<Head>, usize)> {
    let mut found = Vec::new();
    for (i, output) in evidence.outputs.iter().enumerate() {
        found.push((i, head(evidence.input, &output.shape)?));
    }
    found.sort_by_key(|(_, head)| head.stride);
    let one_each = found
        .windows(2)
        .all(|two| two[0].1.stride < two[1].1.stride);
    let channels = found.first()?.1.channels;
    let values = channels / ANCHORS_OF_A_HEAD;
    let fits = (2..=3).contains(&found.len())
        && one_each
        && channels % ANCHORS_OF_A_HEAD == 0
        && values > BEFORE_CLASSES
        && found.iter().all(|(_, head)| head.channels == channels);
    let (outputs, heads) = found.into_iter().unzip();
    fits.then(|| (outputs, heads, values - BEFORE_CLASSES))
}

fn recognize(
    evidence: &Evidence<'_>,
    family: Family,
    fits: impl Fn(&Head, usize) -> bool,
) -> Option<Match> {
    let (outputs, heads, classes) = heads(evidence)?;
    let axes = |i: usize| evidence.outputs[outputs[i]].shape.len();
    let fits = heads
        .iter()
        .enumerate()
        .all(|(i, head)| fits(head, axes(i)));
    (fits || evidence.is_decoder(family)).then(|| Match::new(Sureness::Likely, classes, &outputs))
}

pub fn yolov3(evidence: &Evidence<'_>) -> Option<Match> {
    recognize(evidence, Family::Yolov3, |_, axes| axes == 4)
}

pub fn yolov4(evidence: &Evidence<'_>) -> Option<Match> {
    recognize(evidence, Family::Yolov4, |head, axes| {
        axes == 4 || head.axes == Axes::Cells
    })
}

pub fn yolov5(evidence: &Evidence<'_>) -> Option<Match> {
    let mut found = recognize(evidence, Family::Yolov5Heads, |head, _| {
        head.axes == Axes::AnchorsFirst
    })?;
    // The two are told apart by their file names alone.
    if evidence.file_hints_at(&["yolov7"]) {
        found.anchors = Some(YOLOV4.to_vec());
    }
    Some(found)
}

/// What differs between the families with such heads.
struct Rules {
    anchors: &'static [[f32; 2]],
    tiny_anchors: &'static [[f32; 2]],
    /// For the head with this number, the finest first.
    point: fn(usize) -> Point,
    extent: Extent,
}

pub fn plan_yolov3(shapes: &Shapes<'_>) -> Option<Plan> {
    let rules = Rules {
        anchors: &YOLOV3,
        tiny_anchors: &YOLOV3_TINY,
        point: |_| Point {
            sigmoid: true,
            ..Point::LINEAR
        },
        extent: Extent::Exponential,
    };
    plan(shapes, &rules)
}

pub fn plan_yolov4(shapes: &Shapes<'_>) -> Option<Plan> {
    let rules = Rules {
        anchors: &YOLOV4,
        tiny_anchors: &YOLOV4_TINY,
        point: |head| {
            let gain = YOLOV4_GAINS[head.min(YOLOV4_GAINS.len() - 1)];
            Point {
                sigmoid: true,
                gain,
                bias: -(gain - 1.0) / 2.0,
            }
        },
        extent: Extent::Exponential,
    };
    plan(shapes, &rules)
}

pub fn plan_yolov5(shapes: &Shapes<'_>) -> Option<Plan> {
    let rules = Rules {
        anchors: &YOLOV3,
        tiny_anchors: &YOLOV3_TINY,
        point: |_| Point {
            sigmoid: true,
            gain: 2.0,
            bias: -0.5,
        },
        extent: Extent::SquaredSigmoid,
    };
    plan(shapes, &rules)
}

fn plan(shapes: &Shapes<'_>, rules: &Rules) -> Option<Plan> {
    let heads = shapes.layout.outputs.len();
    let own = shapes.layout.anchors.as_deref();
    let anchors = own.unwrap_or(match heads {
        2 => rules.tiny_anchors,
        _ => rules.anchors,
    });
    if anchors.len() != heads * ANCHORS_OF_A_HEAD {
        return None;
    }
    let sources = anchors
        .chunks(ANCHORS_OF_A_HEAD)
        .enumerate()
        .map(|(number, anchors)| {
            let output = shapes.output(number)?;
            let head = head(shapes.input, shapes.shapes.get(output)?)?;
            // Networks with two heads lack the finest.
            let point = (rules.point)(number + YOLOV4_GAINS.len() - heads);
            source(
                &head,
                output,
                shapes.layout.classes,
                anchors,
                point,
                rules.extent,
            )
        });
    Some(Plan {
        sources: sources.collect::<Option<_>>()?,
        suppression: Suppression::PerClass,
    })
}

fn source(
    head: &Head,
    output: usize,
    classes: usize,
    anchors: &[[f32; 2]],
    point: Point,
    extent: Extent,
) -> Option<Source> {
    let cells = head.columns * head.rows;
    let values = BEFORE_CLASSES + classes;
    if head.channels != values * anchors.len() {
        return None;
    }
    let (cell_stride, anchor_stride, value_stride) = match head.axes {
        Axes::Planes => (1, values * cells, cells),
        Axes::Cells => (head.channels, values, 1),
        Axes::AnchorsFirst => (values, values * cells, 1),
    };
    let view = View {
        output,
        offset: 0,
        image_stride: head.channels * cells,
        cell_stride,
        anchor_stride,
        value_stride,
    };
    let scores = Scores {
        view: view.skip(BEFORE_CLASSES),
        classes,
        activation: Activation::Sigmoid,
        background: None,
        objectness: Some((view.skip(4), true)),
        class: ClassOf::Score { first: 0 },
    };
    let stride = head.stride as f32;
    let priors: Arc<[Prior]> = (0..cells)
        .flat_map(|cell| {
            anchors.iter().map(move |&[width, height]| Prior {
                x: (cell % head.columns) as f32 * stride,
                y: (cell / head.columns) as f32 * stride,
                step_x: stride,
                step_y: stride,
                width,
                height,
            })
        })
        .collect();
    let boxes = Boxes {
        point,
        extent,
        priors: Some(priors),
        ..Boxes::plain(view, BoxFormat::Centers, PIXELS)
    };
    Some(Source::new(cells, anchors.len(), scores, boxes))
}

/// RetinaNet's nine anchors of each cell: three shapes, each in three sizes.
fn retinanet_priors(input: InputGeometry) -> Arc<[Prior]> {
    const SIZE_IN_STRIDES: f32 = 4.0;
    let mut priors = Vec::new();
    for stride in RETINANET_STRIDES {
        let (columns, rows) = grid(input, stride);
        let stride = stride as f32;
        for cell in 0..columns * rows {
            for ratio in [0.5f32, 1.0, 2.0] {
                for octave in 0..3 {
                    let size = SIZE_IN_STRIDES * stride * 2f32.powf(octave as f32 / 3.0);
                    let width = size / ratio.sqrt();
                    let height = width * ratio;
                    priors.push(Prior {
                        x: ((cell % columns) as f32 + 0.5) * stride,
                        y: ((cell / columns) as f32 + 0.5) * stride,
                        step_x: width,
                        step_y: height,
                        width,
                        height,
                    });
                }
            }
        }
    }
    debug_assert_eq!(priors.len() % RETINANET_ANCHORS, 0);
    priors.into()
}

pub fn plan_retinanet(shapes: &Shapes<'_>) -> Option<Plan> {
    /// The deviations of the four values that the network was trained with.
    const POINT_GAIN: f32 = 0.1;
    const EXTENT_GAIN: f32 = 0.2;
    let [_, scored, classes] = shapes.sizes(0)?;
    let [_, candidates, four] = shapes.sizes(1)?;
    let priors = retinanet_priors(shapes.input);
    let fits = four == 4
        && scored == candidates
        && classes == shapes.layout.classes
        && priors.len() == candidates;
    let scores = Scores {
        view: View::rows(shapes.output(0)?, candidates, classes, 0),
        classes,
        activation: Activation::None,
        background: None,
        objectness: None,
        class: ClassOf::Score { first: 0 },
    };
    let boxes = Boxes {
        point: Point {
            gain: POINT_GAIN,
            ..Point::LINEAR
        },
        extent: Extent::Exponential,
        extent_gain: EXTENT_GAIN,
        priors: Some(priors),
        ..Boxes::plain(
            View::rows(shapes.output(1)?, candidates, 4, 0),
            BoxFormat::Centers,
            PIXELS,
        )
    };
    let source = Source::new(candidates, 1, scores, boxes);
    fits.then(|| Plan::new(source, Suppression::PerClass))
}
