//! The search in the table.

use super::*;
use crate::preprocess::TensorLayout;

const INPUT: InputGeometry = InputGeometry {
    width: 640,
    height: 640,
    layout: TensorLayout::Nchw,
};

fn spec(name: &str, shape: &[i64]) -> TensorSpec {
    TensorSpec {
        name: name.into(),
        element: ElementType::Float32,
        shape: shape.to_vec(),
    }
}

fn integers(name: &str, shape: &[i64]) -> TensorSpec {
    TensorSpec {
        element: ElementType::Int64,
        ..spec(name, shape)
    }
}

/// What is recognised, or the error.
fn recognized<'a>(
    outputs: &'a [TensorSpec],
    set: impl FnOnce(&mut Evidence<'a>),
) -> Result<Layout, String> {
    let mut evidence = Evidence::new(outputs, INPUT);
    set(&mut evidence);
    Layout::recognize(&evidence).map_err(|error| error.to_string())
}

fn family(outputs: &[TensorSpec]) -> (Family, usize) {
    let layout = recognized(outputs, |_| {}).unwrap();
    (layout.family, layout.classes)
}

#[test]
fn the_table_holds_every_family_in_the_order_of_the_enumeration() {
    for (i, entry) in ENTRIES.iter().enumerate() {
        assert_eq!(entry.family as usize, i, "{}", entry.name);
        assert_eq!(Family::from_name(entry.name), Some(entry.family));
    }
    assert_eq!(Family::CenterFace as usize + 1, ENTRIES.len());
}

#[test]
fn one_output_is_told_by_its_rows_and_columns() {
    let output = |shape: &[i64]| family(&[spec("output0", shape)]);
    assert_eq!(output(&[1, 25200, 85]), (Family::Yolov5, 80));
    assert_eq!(output(&[1, -1, 85]), (Family::Yolov5, 80));
    assert_eq!(output(&[1, 84, 8400]), (Family::Yolov8, 80));
    assert_eq!(output(&[-1, 5, 8400]), (Family::Yolov8, 1));
    assert_eq!(output(&[1, 8400, 84]), (Family::Yolov8, 80));
    assert_eq!(output(&[1, 300, 6]), (Family::Yolov10, OPEN_CLASSES));
    assert_eq!(output(&[1, 300, 84]), (Family::UltralyticsRtDetr, 80));
    assert_eq!(output(&[1, 8500, 112]), (Family::NanoDetPlus, 80));
    assert_eq!(
        output(&[1, 1, 100, 7]),
        (Family::DetectionOutput, OPEN_CLASSES)
    );
    assert_eq!(output(&[-1, 7]), (Family::Yolov7EndToEnd, OPEN_CLASSES));
}

#[test]
fn outputs_that_several_families_have_are_settled_by_the_user_the_labels_or_the_file_s_name() {
    let outputs = [spec("output", &[1, 8400, 85])];
    let error = recognized(&outputs, |_| {}).unwrap_err();
    assert!(error.contains("yolov6, yolox, yolox-decoded"), "{error}");
    assert!(
        error.contains("output float32 [1,8400,85]") && error.contains("decoder="),
        "{error}"
    );
    let layout = recognized(&outputs, |e| e.decoder = Some(Family::YoloxDecoded)).unwrap();
    assert_eq!(layout.family, Family::YoloxDecoded);
    let layout = recognized(&outputs, |e| e.file_name = "yolox_s.onnx").unwrap();
    assert_eq!(layout.family, Family::Yolox);
    let layout = recognized(&outputs, |e| e.labels = Some(81)).unwrap();
    assert_eq!((layout.family, layout.classes), (Family::Yolov8, 81));
}

#[test]
fn labels_and_tasks_tell_what_stands_behind_the_classes() {
    let turned = [spec("output0", &[1, 20, 8400])];
    let layout = recognized(&turned, |e| e.labels = Some(15)).unwrap();
    assert_eq!((layout.family, layout.classes), (Family::YoloObb, 15));
    let layout = recognized(&turned, |e| e.task = Some("obb")).unwrap();
    assert_eq!((layout.family, layout.classes), (Family::YoloObb, 15));
    assert_eq!(family(&turned), (Family::Yolov8, 16));
    let pose = [spec("output0", &[1, 56, 8400])];
    let layout = recognized(&pose, |e| (e.task, e.labels) = (Some("pose"), Some(1))).unwrap();
    assert_eq!((layout.family, layout.classes), (Family::Yolov8, 1));
    let masks = [
        spec("output0", &[1, 116, 8400]),
        spec("output1", &[1, 32, 160, 160]),
    ];
    assert_eq!(family(&masks), (Family::Yolov8, 80));
}

#[test]
fn lists_of_other_tasks_and_heads_are_not_taken_for_those_of_upright_boxes() {
    let list = [spec("output0", &[1, 300, 6])];
    let layout = recognized(&list, |e| e.head = Some("RTDETRDecoder")).unwrap();
    assert_eq!(layout.family, Family::UltralyticsRtDetr);
    let layout = recognized(&list, |e| e.head = Some("Detect")).unwrap();
    assert_eq!(layout.family, Family::Yolov10);
    let poses = [spec("output0", &[1, 300, 57])];
    let layout = recognized(&poses, |e| e.task = Some("pose")).unwrap();
    assert_eq!(layout.family, Family::Yolov10);
    let turned = [spec("output0", &[1, 300, 7])];
    let layout = recognized(&turned, |e| e.task = Some("obb")).unwrap();
    assert_eq!(layout.family, Family::YoloObb);
    let masks = [
        spec("output0", &[1, 300, 38]),
        spec("output1", &[1, 32, 160, 160]),
    ];
    assert_eq!(family(&masks), (Family::Yolov10, OPEN_CLASSES));
}

#[test]
fn candidates_that_fill_no_grids_are_those_of_no_yolo() {
    // MediaPipe's palm detector: anchors of its own, logits, landmarks.
    let palms = [spec("Identity:0", &[1, 2944, 19])];
    let error = recognized(&palms, |_| {}).unwrap_err();
    assert!(error.contains("Identity:0 float32 [1,2944,19]"), "{error}");
    let layout = recognized(&palms, |e| e.decoder = Some(Family::Yolov5)).unwrap();
    assert_eq!((layout.family, layout.classes), (Family::Yolov5, 14));
    // Strides 4 to 32, and 16 to 32.
    let small = [spec("output0", &[1, 84, 34000])];
    assert_eq!(family(&small), (Family::Yolov8, 80));
    let tiny = [spec("output0", &[1, 6000, 85])];
    assert_eq!(family(&tiny), (Family::Yolov5, 80));
}

#[test]
fn decoder_contradicting_the_outputs_is_refused_with_what_it_needs() {
    let outputs = [spec("output", &[1, 8400, 85])];
    let error = recognized(&outputs, |e| e.decoder = Some(Family::RfDetr)).unwrap_err();
    assert!(error.contains("decoder=rf-detr: `dets` [N,K,4]"), "{error}");
}

#[test]
fn ssd_is_recognized_by_its_names_in_any_order() {
    let outputs = [
        spec("boxes", &[-1, 1917, 4]),
        spec("scores", &[-1, 1917, 24]),
    ];
    let layout = recognized(&outputs, |_| {}).unwrap();
    assert_eq!((layout.family, layout.classes), (Family::Ssd, 24));
    assert_eq!((layout.background, layout.outputs), (true, vec![1, 0]));
    let faces = [spec("scores", &[1, 4420, 2]), spec("boxes", &[1, 4420, 4])];
    assert_eq!(family(&faces), (Family::UltraFace, 2));
}

#[test]
fn outputs_of_two_tensors_are_told_apart() {
    let pair = |a: &str, first: &[i64], b: &str, second: &[i64]| {
        family(&[spec(a, first), spec(b, second)])
    };
    assert_eq!(
        pair("904", &[1, 8400, 4], "913", &[1, 8400, 80]),
        (Family::YoloNas, 80)
    );
    assert_eq!(
        pair("output", &[1, 8400, 80], "954", &[1, 8400, 4]),
        (Family::DamoYolo, 80)
    );
    assert_eq!(
        pair("tmp_17", &[1, 8400, 4], "concat_14", &[1, 80, 8400]),
        (Family::PpYoloe, 80)
    );
    assert_eq!(
        pair("boxes", &[1, 10647, 1, 4], "confs", &[1, 10647, 80]),
        (Family::Yolov4Decoded, 80)
    );
    assert_eq!(
        pair("dets", &[1, 300, 4], "labels", &[1, 300, 91]),
        (Family::RfDetr, 91)
    );
    assert_eq!(
        pair("logits", &[1, 300, 80], "pred_boxes", &[1, 300, 4]),
        (Family::RtDetrRaw, 80)
    );
    assert_eq!(
        pair("logits", &[1, 100, 92], "pred_boxes", &[1, 100, 4]),
        (Family::Detr, 91)
    );
    let anchors = 9 * (6400 + 1600 + 400 + 100 + 25);
    assert_eq!(
        pair(
            "classification",
            &[1, anchors, 80],
            "regression",
            &[1, anchors, 4]
        ),
        (Family::RetinaNet, 80)
    );
    let [coverage, boxes] = ["output_cov/Sigmoid", "output_bbox/BiasAdd"];
    assert_eq!(
        pair(boxes, &[-1, 12, 34, 60], coverage, &[-1, 3, 34, 60]),
        (Family::DetectNetV2, 3)
    );
    assert_eq!(
        pair("coverage", &[1, 1, 32, 64], "bboxes", &[1, 4, 32, 64]),
        (Family::DetectNet, 1)
    );
    let dets = [spec("dets", &[-1, -1, 5]), integers("labels", &[-1, -1])];
    assert_eq!(family(&dets), (Family::MmDetection, OPEN_CLASSES));
    let raw = [
        spec("logits", &[1, 300, 17]),
        spec("pred_boxes", &[1, 300, 4]),
    ];
    let error = recognized(&raw, |_| {}).unwrap_err();
    assert!(error.contains("rt-detr-raw, detr"), "{error}");
}

#[test]
fn lists_are_told_apart_by_names_types_and_inputs() {
    let tf = [
        spec("num_detections", &[-1]),
        spec("detection_scores:0", &[-1, 100]),
        spec("detection_classes", &[-1, 100]),
        spec("detection_boxes", &[-1, 100, 4]),
    ];
    let layout = recognized(&tf, |e| e.labels = Some(90)).unwrap();
    assert_eq!(
        (layout.family, layout.background),
        (Family::TfDetection, true)
    );
    assert_eq!(layout.outputs, [3, 1, 2, 0]);
    let nms = [
        integers("num_dets", &[-1, 1]),
        spec("det_boxes", &[-1, 100, 4]),
        spec("det_scores", &[-1, 100]),
        integers("det_classes", &[-1, 100]),
    ];
    assert_eq!(family(&nms).0, Family::EfficientNms);
    let layout = recognized(&nms, |e| e.input.layout = TensorLayout::Nhwc).unwrap();
    assert_eq!(layout.family, Family::EfficientDet);
    let lite = ["", ":1", ":2", ":3"].map(|s| format!("TFLite_Detection_PostProcess{s}"));
    let lite = [
        spec(&lite[0], &[1, 10, 4]),
        spec(&lite[1], &[1, 10]),
        spec(&lite[2], &[1, 10]),
        spec(&lite[3], &[1]),
    ];
    let layout = recognized(&lite, |_| {}).unwrap();
    assert_eq!(
        (layout.family, layout.outputs),
        (Family::TfLiteDetection, vec![0, 2, 1, 3])
    );
    let inputs = ["orig_target_sizes".to_owned()];
    let detr = [
        integers("labels", &[-1, 300]),
        spec("boxes", &[-1, 300, 4]),
        spec("scores", &[-1, 300]),
    ];
    let layout = recognized(&detr, |e| e.other_inputs = &inputs).unwrap();
    assert_eq!(layout.family, Family::RtDetr);
    let flat = [
        spec("boxes", &[-1, 4]),
        integers("labels", &[-1]),
        spec("scores", &[-1]),
    ];
    assert_eq!(family(&flat).0, Family::Torchvision);
}

#[test]
fn heads_of_grids_are_recognized_whatever_their_order() {
    let heads = [
        spec("a", &[1, 255, 20, 20]),
        spec("b", &[1, 255, 80, 80]),
        spec("c", &[1, 255, 40, 40]),
    ];
    let error = recognized(&heads, |_| {}).unwrap_err();
    assert!(error.contains("yolov3, yolov4"), "{error}");
    let layout = recognized(&heads, |e| e.file_name = "YOLOv4-416.onnx").unwrap();
    assert_eq!((layout.family, layout.classes), (Family::Yolov4, 80));
    assert_eq!(layout.outputs, [1, 2, 0]);
    let heads = [80, 40, 20].map(|side| spec("head", &[1, 3, side, side, 85]));
    assert_eq!(family(&heads), (Family::Yolov5Heads, 80));
    let heads = [80, 40, 20].map(|side| spec("head", &[1, side, side, 3, 85]));
    assert_eq!(family(&heads), (Family::Yolov4, 80));
    let both = |side: i64| {
        let cells = side * side;
        [
            spec("cls_pred", &[1, cells, 80]),
            spec("dis_pred", &[1, cells, 32]),
        ]
    };
    let nanodet: Vec<_> = [80, 40, 20].into_iter().flat_map(both).collect();
    assert_eq!(family(&nanodet), (Family::NanoDet, 80));
    let picodet: Vec<_> = [80, 40, 20, 10].into_iter().flat_map(both).collect();
    assert_eq!(family(&picodet), (Family::PicoDet, 80));
    let faces = [1, 2, 2, 10].map(|channels| spec("x", &[1, channels, 160, 160]));
    assert_eq!(family(&faces), (Family::CenterFace, 1));
    let centers = [("hm", 80), ("wh", 2), ("reg", 2)];
    let centers = centers.map(|(name, channels)| spec(name, &[1, channels, 160, 160]));
    assert_eq!(family(&centers), (Family::CenterNet, 80));
}

#[test]
fn outputs_of_no_known_detector_are_refused_with_what_was_seen() {
    for outputs in [
        vec![],
        vec![spec("probabilities", &[1, 1000])],
        vec![spec("scores", &[1, 10, 4]), spec("boxes", &[1, 11, 4])],
        vec![spec("mask", &[1, 21, 512, 512])],
    ] {
        let error = recognized(&outputs, |_| {}).unwrap_err();
        assert!(error.contains(&describe(&outputs)), "{error}");
        assert!(error.contains("decoder="), "{error}");
    }
}
