//! A batch of NV12 frames in one NVMM buffer, laid out as nvstreammux does it.

use std::ffi::c_void;
use std::ptr;

use cust::memory::DeviceBuffer;
use cust::sys;
use gst_video::VideoFormat;
use gstrsdetectnet::cuda::driver::check;
use gstrsdetectnet::frame::nvmm::nvbufsurface::{
    LAYOUT_PITCH, Layout, MAX_PLANES, NvBufSurface, PlaneParams, SurfaceParams, memory_type,
};

use crate::pixels::Pixels;

/// `NVBUF_COLOR_FORMAT_NV12` (nvbufsurface.h): BT.601, limited range.
const NV12: u32 = 6;
/// Width and height of the frames.
pub const SIDE: u32 = 256;

/// The bytes of an NvBufSurface, and the entries that it names.
struct Surface {
    bytes: Vec<u8>,
    // Words of 8 bytes, as the library aligns its entries.
    _entries: Vec<u64>,
}

impl AsRef<[u8]> for Surface {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// An NV12 frame of which luma and chroma lie one after the other.
fn entry(address: u64) -> SurfaceParams {
    let luma = SIDE * SIDE;
    SurfaceParams {
        width: SIDE,
        height: SIDE,
        pitch: SIDE,
        color_format: NV12,
        layout: LAYOUT_PITCH,
        buffer_desc: 0,
        data_size: luma * 3 / 2,
        data_pointer: address as *mut c_void,
        planes: PlaneParams {
            num_planes: 2,
            width: [SIDE, SIDE / 2, 0, 0],
            height: [SIDE, SIDE / 2, 0, 0],
            pitch: [SIDE, SIDE, 0, 0],
            offset: [0, luma, 0, 0],
            size: [luma, luma / 2, 0, 0],
            bytes_per_pixel: [1, 2, 0, 0],
            reserved: [ptr::null_mut(); 4 * MAX_PLANES],
        },
        mapped_addresses: [ptr::null_mut(); MAX_PLANES],
        egl_image: ptr::null_mut(),
    }
}

/// The caps of such buffers, 30 a second.
pub fn caps() -> gst::Caps {
    gst_video::VideoCapsBuilder::new()
        .features(["memory:NVMM"])
        .format(VideoFormat::Nv12)
        .width(SIDE as i32)
        .height(SIDE as i32)
        .framerate(gst::Fraction::new(30, 1))
        .build()
}

/// Copies frames into memory of the current context, for any stream to read.
pub fn upload(frames: &[Pixels]) -> Vec<DeviceBuffer<u8>> {
    let uploaded = frames
        .iter()
        .map(|pixels| DeviceBuffer::from_slice(&pixels.planes.concat()).unwrap())
        .collect();
    // SAFETY: a context is current. The wait is for streams that do not wait for the one of the copies.
    check("cuCtxSynchronize", unsafe { sys::cuCtxSynchronize() }).unwrap();
    uploaded
}

/// Makes an uploaded frame another one.
pub fn overwrite(frame: &DeviceBuffer<u8>, pixels: &Pixels) {
    let bytes = pixels.planes.concat();
    assert_eq!(frame.len(), bytes.len());
    // SAFETY: the frame has as many bytes.
    check("cuMemcpyHtoD", unsafe {
        sys::cuMemcpyHtoD_v2(
            frame.as_device_ptr().as_raw(),
            bytes.as_ptr().cast(),
            bytes.len(),
        )
    })
    .unwrap();
}

/// A buffer of NV12 frames at these addresses.
pub fn batch(frames: &[DeviceBuffer<u8>]) -> gst::Buffer {
    // The library at hand decides on the layout.
    let layout = Layout::of_buffer(Layout::New.surface_size()).unwrap();
    let mut entries = vec![0u64; frames.len() * layout.entry_stride() / 8];
    for (index, frame) in frames.iter().enumerate() {
        let place = entries
            .as_mut_ptr()
            .wrapping_byte_add(index * layout.entry_stride());
        // SAFETY: the entries have room for as many frames.
        unsafe {
            place
                .cast::<SurfaceParams>()
                .write(entry(frame.as_device_ptr().as_raw()));
        }
    }
    let head = NvBufSurface {
        gpu_id: 0,
        batch_size: frames.len() as u32,
        num_filled: frames.len() as u32,
        is_contiguous: 0,
        memory_type: memory_type::CUDA_DEVICE,
        surface_list: entries.as_mut_ptr().cast(),
    };
    let mut bytes = vec![0; layout.surface_size()];
    // SAFETY: a surface is larger than its head.
    unsafe {
        bytes
            .as_mut_ptr()
            .cast::<NvBufSurface>()
            .write_unaligned(head)
    };
    gst::Buffer::from_slice(Surface {
        bytes,
        _entries: entries,
    })
}
