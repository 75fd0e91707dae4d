//! What a frame holds, whatever memory it lies in.

use cust::sys;
use gst_video::VideoInfo;
use gstrsdetectnet::LabeledDetection;
use gstrsdetectnet::cuda::context::Context;
use gstrsdetectnet::cuda::driver::{check, load};
use gstrsdetectnet::frame::buffer::FrameShape;
use gstrsdetectnet::frame::cuda::CudaFrame;
use gstrsdetectnet::frame::nvmm::NvmmBuffer;
use gstrsdetectnet::frame::system::{Plane, PlaneMut};
use gstrsdetectnet::frame::{
    Colorimetry, DeviceFrame, DeviceStorage, PixelFormat, SystemFrame, SystemFrameMut,
};
use gstrsdetectnet::overlay::{Overlay, Parts};

/// A frame without gaps between its rows.
#[derive(Clone, PartialEq)]
pub struct Pixels {
    pub format: PixelFormat,
    pub colorimetry: Colorimetry,
    pub width: usize,
    pub height: usize,
    pub planes: Vec<Vec<u8>>,
}

impl Pixels {
    pub fn of_sample(sample: &gst::Sample) -> Self {
        Self::of(&sample.buffer_owned().unwrap(), sample.caps().unwrap())
    }

    /// The frame of a buffer with these caps.
    pub fn of(buffer: &gst::Buffer, caps: &gst::CapsRef) -> Self {
        let info = VideoInfo::from_caps(caps).unwrap();
        let features = caps.features(0).unwrap();
        if features.contains("memory:CUDAMemory") {
            let mapped = CudaFrame::map(buffer, &info).unwrap();
            mapped.synchronize();
            let _current = mapped.context().push().unwrap();
            Self::download(&mapped.frame())
        } else if features.contains("memory:NVMM") {
            Self::of_batch(buffer, caps).remove(0)
        } else {
            Self::of_system(buffer, &info)
        }
    }

    /// The frames of an NVMM buffer.
    pub fn of_batch(buffer: &gst::Buffer, caps: &gst::CapsRef) -> Vec<Self> {
        let context = Context::primary(0).unwrap();
        let _current = context.enter().unwrap();
        let shape = FrameShape::from_caps(caps).unwrap();
        let mapped = NvmmBuffer::map(buffer, &shape).unwrap();
        let frames = (0..mapped.len()).map(|index| mapped.frame(index).unwrap());
        frames.map(|frame| Self::download(&frame)).collect()
    }

    /// The frame as a reader in system memory gets it.
    pub fn of_system(buffer: &gst::Buffer, info: &VideoInfo) -> Self {
        let shape = FrameShape::new(info.clone()).unwrap();
        let mapped = shape.read(buffer).unwrap();
        let SystemFrame {
            format,
            colorimetry,
            width,
            height,
            planes,
        } = mapped.view().unwrap();
        let tight = planes
            .iter()
            .enumerate()
            .take(format.planes())
            .map(|(index, plane)| {
                let (row, rows) = format.plane_size(index, width, height);
                let rows = plane.data.chunks(plane.stride).take(rows);
                rows.flat_map(|bytes| &bytes[..row]).copied().collect()
            })
            .collect();
        Self {
            format,
            colorimetry,
            width,
            height,
            planes: tight,
        }
    }

    /// Copies a frame of the current context.
    fn download(frame: &DeviceFrame) -> Self {
        load().unwrap();
        assert_eq!(frame.storage, DeviceStorage::Pitch);
        let plane = |index: usize| {
            let (width, height) = frame.format.plane_size(index, frame.width, frame.height);
            let mut bytes = vec![0u8; width * height];
            let copy = sys::CUDA_MEMCPY2D {
                srcMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
                srcDevice: frame.planes[index].pointer,
                srcPitch: frame.planes[index].pitch,
                dstMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_HOST,
                dstHost: bytes.as_mut_ptr().cast(),
                dstPitch: width,
                WidthInBytes: width,
                Height: height,
                srcXInBytes: 0,
                srcY: 0,
                srcHost: std::ptr::null(),
                srcArray: std::ptr::null_mut(),
                dstXInBytes: 0,
                dstY: 0,
                dstDevice: 0,
                dstArray: std::ptr::null_mut(),
            };
            // SAFETY: the frame is mapped in the current context, and the bytes are as many.
            check("cuMemcpy2D", unsafe { sys::cuMemcpy2D_v2(&copy) }).unwrap();
            bytes
        };
        Self {
            format: frame.format,
            colorimetry: frame.colorimetry,
            width: frame.width,
            height: frame.height,
            planes: (0..frame.format.planes()).map(plane).collect(),
        }
    }

    /// The frame in system memory.
    pub fn frame(&self) -> SystemFrame<'_> {
        let mut planes = [Plane::default(); 3];
        for (index, (plane, data)) in planes.iter_mut().zip(&self.planes).enumerate() {
            let (stride, _) = self.format.plane_size(index, self.width, self.height);
            *plane = Plane { data, stride };
        }
        SystemFrame::new(
            self.format,
            self.colorimetry,
            self.width,
            self.height,
            planes,
        )
        .unwrap()
    }

    /// The same to be written to.
    pub fn frame_mut(&mut self) -> SystemFrameMut<'_> {
        let (format, width, height) = (self.format, self.width, self.height);
        let mut planes = [(); 3].map(|()| PlaneMut::default());
        for (index, (plane, data)) in planes.iter_mut().zip(&mut self.planes).enumerate() {
            let (stride, _) = format.plane_size(index, width, height);
            *plane = PlaneMut { data, stride };
        }
        SystemFrameMut::new(format, self.colorimetry, width, height, planes).unwrap()
    }

    /// This frame with detections drawn by the CPU.
    pub fn drawn(mut self, found: &[LabeledDetection], labels: &[&str]) -> Self {
        let detections: Vec<_> = found.iter().map(|found| found.detection).collect();
        let parts = Parts {
            outline: true,
            label: true,
            confidence: true,
            fill: true,
            track: true,
            tail: false,
        };
        Overlay::new(parts).draw(&mut self.frame_mut(), &detections, labels);
        self
    }

    /// Asserts equal bytes, and says where the first difference is.
    pub fn assert_same(&self, other: &Self, what: &str) {
        assert_eq!(
            (self.format, self.width, self.height),
            (other.format, other.width, other.height),
            "{what}"
        );
        for (index, (own, other)) in self.planes.iter().zip(&other.planes).enumerate() {
            let different = own.iter().zip(other).position(|(a, b)| a != b);
            let (row, _) = self.format.plane_size(index, self.width, self.height);
            let place = different.map(|at| (at % row, at / row));
            assert_eq!(place, None, "{what}: {:?} plane {index}", self.format);
        }
    }
}
