//! The table of all families. README has it too; a test compares the two.

use super::preparations::{self as prepared, describe};
use super::{
    Evidence, Family, Match, Shapes, anchors, centers, detectnet, detr, distributions, lists,
    pairs, rows, yolo,
};
use crate::decode::plan::Plan;
use crate::preprocess::Preparation;

/// What there is to know of a family.
///
/// In `outputs`, N is the batch, A the number of candidates, C of classes, K of detections; pixels are those of the
/// network's input.
pub struct Entry {
    pub family: Family,
    /// What `decoder=` calls it.
    pub name: &'static str,
    /// Whose networks return this.
    pub models: &'static str,
    pub outputs: &'static str,
    pub preparation: Preparation,
    /// Parts of file names that hint at the family.
    pub(super) hints: &'static [&'static str],
    pub(super) recognize: fn(&Evidence<'_>) -> Option<Match>,
    pub(super) plan: fn(&Shapes<'_>) -> Option<Plan>,
}

impl Entry {
    /// The family as a line of a Markdown table.
    pub fn markdown(&self) -> String {
        format!(
            "| `{}` | {} | {} | {} |",
            self.name,
            self.models,
            self.outputs,
            describe(&self.preparation)
        )
    }
}

macro_rules! entries {
    ($($family:ident $name:literal $models:literal $outputs:literal
       $preparation:ident $recognize:path, $plan:path, $hints:expr;)*) => {
        /// All families, in the order of [`Family`].
        pub static ENTRIES: &[Entry] = &[$(Entry {
            family: Family::$family,
            name: $name,
            models: $models,
            outputs: $outputs,
            preparation: prepared::$preparation,
            hints: &$hints,
            recognize: $recognize,
            plan: $plan,
        },)*];
    };
}

entries! {
    Ssd "ssd" "SSD with its boxes decoded, also jetson-inference's train_ssd.py"
        "`scores` [N,A,C] with class 0 the background, `boxes` [N,A,4] x1,y1,x2,y2 from 0 to 1"
        STRETCHED_SIGNED pairs::ssd, pairs::plan_ssd, ["ssd"];
    UltraFace "ultraface" "Ultra-Light-Fast face detectors (version-RFB-320, slim-320, …)"
        "as `ssd`, with 2 classes and 4420 or 17640 candidates"
        ULTRAFACE pairs::ultraface, pairs::plan_ssd, ["ultra", "rfb"];
    TfDetection "tf-detection" "TensorFlow's Object Detection API, by tf2onnx"
        "`detection_boxes` [N,K,4] y1,x1,y2,x2 from 0 to 1, `detection_scores`, `detection_classes` [N,K] from 1, `num_detections`"
        STRETCHED_BYTES lists::tf_detection, lists::plan_tf_detection, ["ssd", "coco"];
    TfLiteDetection "tflite-detection" "TFLite_Detection_PostProcess, by tf2onnx"
        "boxes [N,K,4] y1,x1,y2,x2 from 0 to 1, classes [N,K] from 0, scores [N,K], number"
        STRETCHED_SIGNED lists::tflite_detection, lists::plan_tf_detection, ["tflite"];
    EfficientNms "efficient-nms" "any network with TensorRT's EfficientNMS, YOLO-NAS with NMS"
        "number [N,1], boxes [N,K,4] x1,y1,x2,y2 in pixels, scores [N,K], classes [N,K] as integers from 0"
        YOLO lists::efficient_nms, lists::plan_efficient_nms, ["yolo"];
    EfficientDet "efficientdet" "EfficientDet and SSD of TensorFlow with EfficientNMS; input [N,H,W,3]"
        "as `efficient-nms`, boxes y1,x1,y2,x2 from 0 to 1"
        STRETCHED_BYTES lists::efficientdet, lists::plan_efficientdet, ["efficientdet"];
    RtDetr "rt-detr" "RT-DETR, D-FINE, DEIM with their own postprocessor; second input `orig_target_sizes`"
        "`labels` [N,K], `boxes` [N,K,4] x1,y1,x2,y2 in pixels, `scores` [N,K]"
        STRETCHED lists::rt_detr, lists::plan_rt_detr, ["detr", "dfine", "d-fine", "deim"];
    Torchvision "torchvision" "SSD, RetinaNet, FCOS and Faster R-CNN of torchvision"
        "`boxes` [K,4] x1,y1,x2,y2 in pixels, `labels` [K] with 0 the background, `scores` [K]"
        STRETCHED lists::torchvision, lists::plan_torchvision, ["torchvision", "rcnn"];
    DetectionOutput "detection-output" "SSD of Caffe, OpenVINO and UFF"
        "[N,1,K,7] or [1,1,K,7]: image, class, score, x1,y1,x2,y2 from 0 to 1; a number of an image below 0 ends it"
        STRETCHED_SIGNED_BGR rows::detection_output, rows::plan_detection_output, ["ssd"];
    Yolov3 "yolov3" "YOLOv3 and -tiny as in Darknet; `anchors` of the `.modelinfo`, else COCO's"
        "2 or 3 of [N,3(5+C),h,w] without activation, or [N,h,w,3(5+C)]"
        YOLO anchors::yolov3, anchors::plan_yolov3, ["yolov3", "yolo3"];
    Yolov4 "yolov4" "YOLOv4 and -tiny as in Darknet; `anchors` of the `.modelinfo`, else COCO's"
        "as `yolov3`, or [N,h,w,3,5+C]"
        STRETCHED anchors::yolov4, anchors::plan_yolov4, ["yolov4", "yolo4"];
    Yolov4Decoded "yolov4-decoded" "pytorch-YOLOv4"
        "`boxes` [N,A,1,4] x1,y1,x2,y2 from 0 to 1, `confs` [N,A,C]"
        STRETCHED pairs::yolov4_decoded, pairs::plan_yolov4_decoded, ["yolov4"];
    Yolov5 "yolov5" "YOLOv5, YOLOv7, also their segmentation models"
        "[N,A,5+C]: centre x, centre y, width, height in pixels, objectness, classes; three candidates a cell"
        YOLO yolo::yolov5, yolo::plan_yolov5, ["yolov5", "yolov7"];
    Yolov5Heads "yolov5-heads" "YOLOv5 and YOLOv7 exported as for training; `anchors` of the `.modelinfo`, else COCO's"
        "3 of [N,3,h,w,5+C] without activation"
        YOLO anchors::yolov5, anchors::plan_yolov5, ["yolov5", "yolov7"];
    Yolov6 "yolov6" "YOLOv6"
        "as `yolov5`, one candidate a cell"
        YOLO yolo::yolov6, yolo::plan_yolov5, ["yolov6"];
    Yolov7EndToEnd "yolov7-end2end" "YOLOv7 exported with --end2end for ONNX Runtime"
        "[K,7]: image, x1,y1,x2,y2 in pixels, class, score"
        YOLO rows::yolov7_end_to_end, rows::plan_yolov7_end_to_end, ["yolov7"];
    Yolov8 "yolov8" "YOLOv8, v9, 11, 12, YOLO-World, also their segmentation and pose models"
        "[N,4+C,A] or [N,A,4+C]: centre x, centre y, width, height in pixels, classes"
        YOLO yolo::yolov8, yolo::plan_yolov8, ["yolov8", "yolov9", "yolo11", "yolo12", "world"];
    YoloObb "yolo-obb" "YOLOv8-obb, YOLO11-obb"
        "[N,4+C+1,A]: as `yolov8`, then how far the box is turned, in radians; or [N,K,7]: box, score, class, angle"
        YOLO yolo::obb, yolo::plan_obb, ["obb"];
    Yolov10 "yolov10" "YOLOv10, YOLO26, and any YOLO exported with nms=True, also for segmentation and poses"
        "[N,K,6]: x1,y1,x2,y2 in pixels, score, class; with `decoder` also as one of several outputs"
        YOLO rows::yolov10, rows::plan_yolov10, ["yolov10", "yolo26"];
    Yolox "yolox" "YOLOX as its makers export it"
        "as `yolov6`, before grid and strides are applied"
        YOLOX yolo::yolox, yolo::plan_yolox, ["yolox"];
    YoloxDecoded "yolox-decoded" "YOLOX exported with --decode_in_inference"
        "as `yolov6`"
        YOLOX yolo::yolox_decoded, yolo::plan_yolov5, ["yolox_decoded", "yolox-decoded"];
    YoloNas "yolo-nas" "YOLO-NAS without NMS"
        "boxes [N,A,4] x1,y1,x2,y2 in pixels, scores [N,A,C]"
        YOLO_BGR pairs::yolo_nas, pairs::plan_pixels, ["nas"];
    YoloNasFlat "yolo-nas-flat" "YOLO-NAS with NMS, flat"
        "[K,7]: image, x1,y1,x2,y2 in pixels, score, class"
        YOLO_BGR rows::yolo_nas_flat, rows::plan_yolo_nas_flat, ["nas"];
    DamoYolo "damo-yolo" "DAMO-YOLO"
        "scores [N,A,C], boxes [N,A,4] x1,y1,x2,y2 in pixels"
        DAMO pairs::damo_yolo, pairs::plan_pixels, ["damo"];
    PpYoloe "pp-yoloe" "PP-YOLOE+ and PP-YOLO exported without NMS"
        "boxes [N,A,4] x1,y1,x2,y2 in pixels, scores [N,C,A]"
        STRETCHED pairs::pp_yoloe, pairs::plan_pp_yoloe, ["ppyolo", "pp_yolo", "pp-yolo"];
    Paddle "paddle" "PaddleDetection with NMS; further inputs `scale_factor`, `im_shape`"
        "[K,6]: class, score, x1,y1,x2,y2 in pixels; number [N]"
        STRETCHED rows::paddle, rows::plan_paddle, ["ppyolo", "picodet", "paddle"];
    PicoDet "picodet" "PicoDet without postprocessing"
        "for each of 4 strides scores [N,h·w,C] and distributions [N,h·w,4·bins] of left, top, right, bottom"
        IMAGENET distributions::picodet, distributions::plan_separate, ["picodet"];
    NanoDet "nanodet" "NanoDet"
        "as `picodet`, of 3 strides"
        NANODET distributions::nanodet, distributions::plan_separate, ["nanodet"];
    NanoDetPlus "nanodet-plus" "NanoDet-Plus"
        "[N,A,C+32]: scores, then distributions of 8 bins; strides 8, 16, 32, 64"
        NANODET distributions::nanodet_plus, distributions::plan_nanodet_plus, ["nanodet"];
    UltralyticsRtDetr "rt-detr-ultralytics" "RT-DETR of Ultralytics"
        "[N,300,4+C]: centre x, centre y, width, height from 0 to 1, classes; or [N,K,6]: box, score, class"
        STRETCHED yolo::rt_detr, yolo::plan_rt_detr, ["detr"];
    RtDetrRaw "rt-detr-raw" "RT-DETR, D-FINE, Deformable DETR without postprocessor"
        "`logits` [N,K,C] for a sigmoid, `pred_boxes` [N,K,4] centre x, centre y, width, height from 0 to 1"
        STRETCHED detr::rt_detr, detr::plan_sigmoid, ["rtdetr", "rt-detr", "rt_detr", "dfine", "deformable"];
    RfDetr "rf-detr" "RF-DETR"
        "`dets` [N,K,4] centre x, centre y, width, height from 0 to 1, `labels` [N,K,C] for a sigmoid"
        IMAGENET detr::rf_detr, detr::plan_sigmoid, ["rfdetr", "rf-detr", "rf_detr"];
    Detr "detr" "DETR, YOLOS, Conditional DETR"
        "as `rt-detr-raw`, `logits` [N,K,C+1] for a softmax with no object as the last"
        IMAGENET detr::detr, detr::plan_softmax, ["detr", "yolos"];
    RetinaNet "retinanet" "RetinaNet before its anchors are applied; nine a cell, strides 8 to 128"
        "`classification` [N,A,C], `regression` [N,A,4] dx,dy,dw,dh in deviations 0.1, 0.1, 0.2, 0.2"
        IMAGENET pairs::retinanet, anchors::plan_retinanet, ["retina"];
    MmDetection "mmdetection" "MMDetection by MMDeploy"
        "`dets` [N,K,5] x1,y1,x2,y2 in pixels and score, `labels` [N,K]"
        MMDETECTION rows::mmdetection, rows::plan_mmdetection, ["mmdet", "rtmdet"];
    DetectNetV2 "detectnet-v2" "TAO: PeopleNet, TrafficCamNet, DashCamNet, FaceDetect"
        "`output_cov` [N,C,h,w], `output_bbox` [N,4C,h,w]: distances from the cell in units of 35 pixels"
        STRETCHED detectnet::recognize_v2, detectnet::plan_v2, ["peoplenet", "camnet", "facedetect", "detectnet"];
    DetectNet "detectnet" "DIGITS: pednet, multiped, facenet, coco-dog, … converted from Caffe"
        "`coverage` [N,C,h,w], `bboxes` [N,4,h,w]: corners from the cell in pixels"
        STRETCHED_BYTES_BGR detectnet::recognize, detectnet::plan, ["pednet", "facenet", "multiped", "detectnet"];
    CenterNet "centernet" "CenterNet (objects as points)"
        "`hm` [N,C,h,w] for a sigmoid, `wh` [N,2,h,w], `reg` [N,2,h,w]"
        CENTERNET centers::centernet, centers::plan_centernet, ["centernet", "ctdet"];
    CenterFace "centerface" "CenterFace"
        "[N,1,h,w] scores, [N,2,h,w] log height and width, [N,2,h,w] offset y, x, [N,10,h,w] landmarks"
        STRETCHED_BYTES centers::centerface, centers::plan_centerface, ["centerface"];
}
