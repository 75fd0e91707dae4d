//! Any bytes as an ONNX file: read or refused, and what was read is rewritten or refused.
#![no_main]

use std::path::Path;

use gstrsdetectnet::model::onnx::Model;
use gstrsdetectnet::model::onnx::Float16Options;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(model) = Model::parse(bytes.to_vec()) else {
        return;
    };
    let _ = (model.inputs(), model.outputs(), model.metadata().count());
    let again = Model::parse(model.to_bytes()).expect("what was written is read");
    assert_eq!(again.inputs().len(), model.inputs().len());
    let _ = model.clone().make_batch_dynamic();
    let _ = model.clone().to_float16(&Float16Options::default());
    let _ = model.clone().dequantize();
    let _ = model.clone().cast_byte_inputs();
    let _ = model.clone().open_image_size();
    let _ = model.external_data_paths(Path::new("/nowhere"));
});
