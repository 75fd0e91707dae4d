//! A frame in GPU memory of somebody else's, copied into a buffer of `memory:CUDAMemory`.

use std::ffi::{c_char, c_uint, c_void};
use std::sync::Mutex;

use cust::sys;
use gst::glib;
use gst::glib::ffi::{GFALSE, GTRUE, gboolean};
use gst::glib::translate::{FromGlib, from_glib_none};
use gst::prelude::*;
use gst_video::VideoInfo;

use super::Complaint;
use super::mapping::CPlane;
use crate::cuda::driver::{self, check};
use crate::frame::cuda::CudaFrame;
use crate::frame::gstcuda::CudaContext;
use crate::lock;

/// Pools of the sizes and GPUs that were used last.
const MOST_POOLS: usize = 4;

struct Pool {
    gpu_id: u32,
    caps: gst::Caps,
    buffers: gst::BufferPool,
    context: CudaContext,
}

/// Copies planes into a new buffer and sets it as that of a sample, whose caps say what they hold. Returns when
/// the copy is done.
///
/// # Safety
/// `sample` is a GstSample that nothing else refers to; `planes` are `plane_count` planes of a GPU's memory that
/// is written by `stream` or was written before; `error` has room for `error_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsdetectnet_copy_to_cuda(
    sample: *mut gst::ffi::GstSample,
    planes: *const CPlane,
    plane_count: u32,
    stream: *mut c_void,
    pts: u64,
    duration: u64,
    error: *mut c_char,
    error_size: usize,
) -> gboolean {
    // SAFETY: the caller vouches for the text.
    let complaint = unsafe { Complaint::new(error, error_size) };
    let copied = complaint.keep(|| {
        if sample.is_null() || planes.is_null() {
            return Err("there is no sample to fill, or no planes to fill it with".into());
        }
        // SAFETY: the caller's sample and planes live as long as the call.
        let (caps, planes): (Option<gst::Caps>, _) = unsafe {
            (
                from_glib_none(gst::ffi::gst_sample_get_caps(sample)),
                std::slice::from_raw_parts(planes, plane_count as usize),
            )
        };
        let caps = caps.ok_or("the sample has no caps")?;
        let mut buffer = copy(&caps, planes, stream)?;
        let edit = buffer.make_mut();
        // SAFETY: every number is a time, or the one for none.
        unsafe {
            edit.set_pts(Option::<gst::ClockTime>::from_glib(pts));
            edit.set_duration(Option::<gst::ClockTime>::from_glib(duration));
        }
        // SAFETY: nothing else refers to the sample, which takes a reference of the buffer.
        unsafe { gst::ffi::gst_sample_set_buffer(sample, buffer.as_mut_ptr()) };
        Ok(())
    });
    copied.map_or(GFALSE, |()| GTRUE)
}

fn copy(caps: &gst::Caps, planes: &[CPlane], stream: *mut c_void) -> Result<gst::Buffer, String> {
    let info = VideoInfo::from_caps(caps).map_err(|_| format!("{caps} are no caps of frames"))?;
    let first = planes.first().map_or(0, |plane| plane.address);
    let (context, mut buffer) = acquire(gpu_of(first)?, caps)?;
    let mapped =
        CudaFrame::map_for_drawing(buffer.make_mut(), &info).map_err(|error| error.to_string())?;
    let frame = mapped.frame();
    if frame.format.planes() != planes.len() {
        let (wanted, given) = (frame.format.planes(), planes.len());
        return Err(format!(
            "{} has {wanted} planes, not {given}",
            info.format()
        ));
    }
    let _current = context.push().map_err(|error| error.to_string())?;
    for (index, source) in planes.iter().enumerate() {
        let (row, rows) = frame.format.plane_size(index, frame.width, frame.height);
        if source.stride < row as u64 {
            let stride = source.stride;
            return Err(format!(
                "rows of {row} bytes cannot lie {stride} bytes apart"
            ));
        }
        let target = frame.planes[index];
        copy_rows(source, (target.pointer, target.pitch), (row, rows), stream)?;
    }
    // SAFETY: the caller's stream, or the default one, of the context that is current.
    check("cuStreamSynchronize", unsafe {
        sys::cuStreamSynchronize(stream.cast())
    })
    .map_err(|error| error.to_string())?;
    drop(mapped);
    Ok(buffer)
}

fn copy_rows(
    source: &CPlane,
    (target, pitch): (u64, usize),
    (row, rows): (usize, usize),
    stream: *mut c_void,
) -> Result<(), String> {
    let copy = sys::CUDA_MEMCPY2D {
        srcXInBytes: 0,
        srcY: 0,
        srcMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
        srcHost: std::ptr::null(),
        srcDevice: source.address,
        srcArray: std::ptr::null_mut(),
        srcPitch: source.stride as usize,
        dstXInBytes: 0,
        dstY: 0,
        dstMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
        dstHost: std::ptr::null_mut(),
        dstDevice: target,
        dstArray: std::ptr::null_mut(),
        dstPitch: pitch,
        WidthInBytes: row,
        Height: rows,
    };
    // SAFETY: the target is a mapped plane of that size; for the source the C caller vouches.
    check("cuMemcpy2DAsync", unsafe {
        sys::cuMemcpy2DAsync_v2(&copy, stream.cast())
    })
    .map_err(|error| error.to_string())
}

/// The GPU whose memory lies at an address.
fn gpu_of(address: u64) -> Result<u32, String> {
    driver::load().map_err(|error| error.to_string())?;
    let mut gpu_id: c_uint = 0;
    // SAFETY: the driver is initialised; the call writes one number of 32 bits.
    let result = unsafe {
        sys::cuPointerGetAttribute(
            std::ptr::from_mut(&mut gpu_id).cast(),
            sys::CUpointer_attribute::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
            address,
        )
    };
    check("cuPointerGetAttribute", result)
        .map_err(|_| format!("there is no memory of a GPU at {address:#x}"))?;
    Ok(gpu_id)
}

/// A buffer for frames of these caps, of a pool that is kept for the next one.
fn acquire(gpu_id: u32, caps: &gst::Caps) -> Result<(CudaContext, gst::Buffer), String> {
    static POOLS: Mutex<Vec<Pool>> = Mutex::new(Vec::new());

    let mut pools = lock(&POOLS);
    let known = pools
        .iter()
        .position(|pool| pool.gpu_id == gpu_id && pool.caps == *caps);
    let pool = match known {
        Some(index) => pools.remove(index),
        None => {
            let context = CudaContext::shared(gpu_id).map_err(|error| error.to_string())?;
            let buffers = context
                .buffer_pool(caps)
                .map_err(|error| error.to_string())?;
            Pool {
                gpu_id,
                caps: caps.clone(),
                buffers,
                context,
            }
        }
    };
    let acquired = (pool.context.clone(), pool.buffers.clone());
    pools.insert(0, pool);
    let kept = pools.len().min(MOST_POOLS);
    let unused = pools.split_off(kept);
    drop(pools);
    for pool in unused {
        // A pool that stays active would keep itself alive.
        let _: Result<(), glib::BoolError> = pool.buffers.set_active(false);
    }
    let (context, buffers) = acquired;
    let buffer = buffers
        .acquire_buffer(None)
        .map_err(|_| "there is no GPU memory left for a frame")?;
    Ok((context, buffer))
}
