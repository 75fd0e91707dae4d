//! The names by which jetson-inference's users know models: what to get for them, and what to set.

/// A kind of model that jetson-inference downloads by name.
struct Kind {
    /// Names and aliases, in small letters with `-` for `_`.
    names: &'static [&'static str],
    advice: &'static str,
}

const TENSORFLOW_SSD: &str = "it is a TensorFlow graph in UFF, which no current engine reads. Use model=ssd-mobilenet-v2, \
    which the plugin carries, or convert TensorFlow's own frozen graph with 'python3 -m tf2onnx.convert --graphdef \
    frozen_inference_graph.pb --inputs image_tensor:0 --outputs \
    detection_boxes:0,detection_classes:0,detection_scores:0,num_detections:0 --output model.onnx' and set \
    model=model.onnx labels=coco-91";
const TAO: &str = "get the .onnx file of its 'deployable' version from NVIDIA's NGC catalogue (nvidia/tao/NAME), and set \
    model=FILE.onnx decoder=detectnet-v2 labels=labels.txt; an .engine that tao-converter made works the same way";
const CAFFE: &str = "it is a Caffe model, which no current engine reads. Convert it with 'python3 -m caffe2onnx.convert \
    --prototxt deploy.prototxt --caffemodel FILE --onnx model.onnx' and set model=model.onnx decoder=detectnet \
    labels=class_labels.txt";

const KINDS: &[Kind] = &[
    Kind {
        names: &[
            "ssd-mobilenet-v1",
            "ssd-mobilenet-v1-coco",
            "ssd-mobilenet-v2",
            "ssd-mobilenet-v2-coco",
            "ssd-mobilenet",
            "ssd-inception-v2",
            "ssd-inception-v2-coco",
            "coco-ssd-mobilenet",
        ],
        advice: TENSORFLOW_SSD,
    },
    Kind {
        names: &[
            "peoplenet",
            "peoplenet-pruned",
            "peoplenet-deployable-quantized-v2.6.1",
            "peoplenet-pruned-quantized-v2.3.2",
            "dashcamnet",
            "trafficcamnet",
            "facedetect",
        ],
        advice: TAO,
    },
    Kind {
        names: &[
            "pednet",
            "ped-100",
            "multiped",
            "multiped-500",
            "facenet",
            "facenet-120",
            "face-120",
            "coco-airplane",
            "coco-bottle",
            "coco-chair",
            "coco-dog",
        ],
        advice: CAFFE,
    },
];

/// What someone who knows this name can do; none for names that are not jetson-inference's.
pub fn advice(name: &str) -> Option<String> {
    let name = name.to_ascii_lowercase().replace('_', "-");
    let kind = KINDS
        .iter()
        .find(|kind| kind.names.contains(&name.as_str()))?;
    Some(kind.advice.replace("NAME", &name))
}

#[cfg(test)]
mod tests {
    use crate::model::ModelSource;

    #[test]
    fn names_of_jetson_inference_are_answered_with_what_to_get_and_what_to_set() {
        let message = |name: &str| ModelSource::resolve(name).unwrap_err().to_string();
        let peoplenet = message("peoplenet");
        assert!(peoplenet.contains("nvidia/tao/peoplenet"), "{peoplenet}");
        assert!(peoplenet.contains("decoder=detectnet-v2"), "{peoplenet}");
        assert!(message("SSD_Inception_V2").contains("tf2onnx"));
        assert!(message("coco-dog").contains("decoder=detectnet labels="));
        assert!(!message("no-such-model").contains("jetson-inference"));
        #[cfg(feature = "bundled-model")]
        assert!(ModelSource::resolve("ssd-mobilenet-v2").is_ok());
    }
}
