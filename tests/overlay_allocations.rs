//! Drawing into one frame after the other allocates nothing, once tails have their length.

#[path = "common/counting.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod counting;

use counting::calls_here;
use gstrsdetectnet::detection::{BoundingBox, Detection};
use gstrsdetectnet::frame::system::PlaneMut;
use gstrsdetectnet::frame::{
    Colorimetry, DeviceFrame, DevicePlane, DeviceStorage, PixelFormat, SystemFrameMut,
};
use gstrsdetectnet::overlay::{Overlay, Parts, cuda};

#[test]
fn once_tails_have_their_length_nothing_is_allocated() {
    let (width, height) = (640, 480);
    let (mut luma, mut chroma) = (vec![0; width * height], vec![0; width * height / 2]);
    let planes = [
        PlaneMut {
            data: &mut luma,
            stride: width,
        },
        PlaneMut {
            data: &mut chroma,
            stride: width,
        },
        PlaneMut::default(),
    ];
    let mut frame = SystemFrameMut::new(
        PixelFormat::Nv12,
        Colorimetry::default(),
        width,
        height,
        planes,
    )
    .unwrap();
    let labels = ["Person".to_string(), "Dog".to_string()];
    let detections = |moved: f32| {
        [0, 1, 2].map(|class_id| Detection {
            class_id,
            confidence: 0.5 + moved / 100.0,
            bounding_box: BoundingBox {
                x: 20.0 + moved,
                y: 100.0 * class_id as f32,
                width: 300.0,
                height: 90.0 + moved,
            },
            object_id: Some(12),
            oriented: None,
        })
    };
    let mut overlay = Overlay::new(Parts {
        outline: true,
        fill: true,
        label: true,
        confidence: true,
        track: true,
        tail: true,
    });
    let on_gpu = DeviceFrame {
        format: PixelFormat::Nv12,
        colorimetry: Colorimetry::default(),
        width,
        height,
        storage: DeviceStorage::Pitch,
        planes: [DevicePlane::default(); 3],
    };
    let mut primitives = Vec::new();
    let mut draw = |moved: f32| {
        overlay.draw(&mut frame, &detections(moved), &labels);
        let picture = overlay.picture(&detections(moved), &labels, width, height);
        cuda::primitives(picture, &on_gpu, &mut primitives);
        assert!(!primitives.is_empty());
    };
    for moved in 0..40u8 {
        draw(moved.into());
    }
    let before = calls_here();
    for moved in 40..60u8 {
        draw(moved.into());
    }
    assert_eq!(calls_here() - before, 0);
}
