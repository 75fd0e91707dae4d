//! NvDsObjectMeta on frames of DeepStream's own elements, which pass it on.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/fed.rs"]
mod fed;
#[path = "../common/deepstream.rs"]
mod reading;

use common::*;
use fed::Fed;
use gstrsdetectnet::BoundingBox;
use reading::*;

#[test]
#[ignore = "needs an NVIDIA GPU and DeepStream"]
fn what_is_found_in_nvmm_memory_passes_through_nvvideoconvert() {
    let library = deepstream().unwrap();
    init();
    let picture = Picture::grey(640, 480)
        .with_cell(1, 1, RED)
        .with_cell(5, 6, BLUE);
    let elements = format!(
        "videoconvert ! video/x-raw,format=RGBA \
         ! nvvideoconvert nvbuf-memory-type=nvbuf-mem-cuda-device ! video/x-raw(memory:NVMM),format=RGBA \
         ! rsdetectnet metadata=nvds model={} labels={} \
         ! nvvideoconvert ! video/x-raw(memory:NVMM),format=NV12",
        model("colors-ssd.onnx"),
        tests_file("models/colors.labels.txt").display()
    );
    let fed = Fed::playing(&elements, &picture);
    fed.push(&picture, gst::ClockTime::ZERO);
    let sample = fed.sink.try_pull_sample(gst::ClockTime::from_seconds(120));
    fed.stop();
    let mut frames = read(library, sample.unwrap().buffer().unwrap()).unwrap();
    assert_eq!(frames.len(), 1);
    assert_eq!((frames[0].size, frames[0].inferred), ([640, 480], true));
    let objects = &mut frames[0].objects;
    objects.sort_by_key(|object| object.class_id);
    let labels: Vec<_> = objects.iter().map(|object| object.label.as_str()).collect();
    assert_eq!(labels, ["red", "blue"]);
    for (object, wanted) in objects
        .iter()
        .zip([picture.cell_box(1, 1), picture.cell_box(5, 6)])
    {
        let [x, y, width, height] = object.rectangle;
        let bounding_box = BoundingBox {
            x,
            y,
            width,
            height,
        };
        assert!(bounding_box.iou(&wanted) > 0.99, "{object:?}");
        assert_eq!(object.detector_box, object.rectangle);
        assert!(object.confidence > 0.97);
    }
}
