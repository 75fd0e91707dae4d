//! A GPU to run tests on.

use std::cell::RefCell;
use std::ffi::c_void;

use cust::context::Context;
use cust::device::Device;
use cust::event::{Event, EventFlags};
use cust::memory::DeviceBuffer;
use cust::stream::{Stream, StreamFlags};
use cust::sys;
use gstrsdetectnet::crop::cuda::Launch as CropLaunch;
use gstrsdetectnet::cuda::{Kernels, driver};
use gstrsdetectnet::decode::cuda::Batch as DecodeBatch;
use gstrsdetectnet::frame::texture::PointTexture;
use gstrsdetectnet::overlay::draw::Canvas;
use gstrsdetectnet::preprocess::cuda::Batch as PreprocessBatch;
use gstrsdetectnet::thumbnail::cuda::Batch as ThumbnailBatch;

use crate::machine::Machine;

pub fn succeed(result: sys::CUresult) {
    driver::check("the call", result).unwrap();
}

struct Array(sys::CUarray);

impl Drop for Array {
    fn drop(&mut self) {
        // SAFETY: the array is this one's own.
        unsafe { sys::cuArrayDestroy(self.0) };
    }
}

/// Memory, textures (each with the array behind it), kernels and stream go before their context.
pub struct Gpu {
    memory: RefCell<Vec<DeviceBuffer<u8>>>,
    textures: RefCell<Vec<(PointTexture, Array)>>,
    arrays: RefCell<Vec<Array>>,
    kernels: Kernels,
    stream: Stream,
    _context: Context,
}

impl Gpu {
    pub fn new() -> Self {
        driver::load().unwrap();
        let context = Context::new(Device::get_device(0).unwrap()).unwrap();
        Self {
            memory: RefCell::default(),
            textures: RefCell::default(),
            arrays: RefCell::default(),
            kernels: Kernels::load().unwrap(),
            stream: Stream::new(StreamFlags::NON_BLOCKING, None).unwrap(),
            _context: context,
        }
    }

    pub fn kernels(&self) -> &Kernels {
        &self.kernels
    }

    pub fn stream(&self) -> sys::CUstream {
        self.stream.as_inner()
    }

    /// A `CUarray` of bytes; rows have no gaps.
    pub fn array(&self, data: &[u8], width: usize, height: usize, channels: usize) -> u64 {
        let array = array_of(data, width, height, channels, 1);
        let handle = array.0 as u64;
        self.arrays.borrow_mut().push(array);
        handle
    }

    pub fn finish(&self) {
        self.stream.synchronize().unwrap();
    }

    /// Prints how long a piece of work takes alone, and when it follows itself.
    pub fn time(&self, name: &str, work: impl Fn()) {
        const ROUNDS: usize = 200;
        let (start, end) = (
            Event::new(EventFlags::DEFAULT).unwrap(),
            Event::new(EventFlags::DEFAULT).unwrap(),
        );
        let measure = |rounds: usize| {
            start.record(&self.stream).unwrap();
            (0..rounds).for_each(|_| work());
            end.record(&self.stream).unwrap();
            end.synchronize().unwrap();
            1000.0 * end.elapsed_time_f32(&start).unwrap() / rounds as f32
        };
        measure(ROUNDS);
        let mut alone: Vec<f32> = (0..ROUNDS).map(|_| measure(1)).collect();
        alone.sort_by(f32::total_cmp);
        let in_row = measure(ROUNDS);
        println!(
            "  {name}: {:.1} us alone (median), {in_row:.1} us in a row",
            alone[ROUNDS / 2]
        );
    }
}

impl Machine for Gpu {
    fn upload(&self, bytes: &[u8]) -> u64 {
        let padded = if bytes.is_empty() { &[0] } else { bytes };
        let buffer = DeviceBuffer::from_slice(padded).unwrap();
        // SAFETY: the wait is for a stream that does not wait for the default one.
        succeed(unsafe { sys::cuCtxSynchronize() });
        let address = buffer.as_device_ptr().as_raw();
        self.memory.borrow_mut().push(buffer);
        address
    }

    fn download(&self, address: u64, bytes: usize) -> Vec<u8> {
        let mut data = vec![0u8; bytes];
        // SAFETY: the tests download what they have uploaded.
        succeed(unsafe { sys::cuMemcpyDtoH_v2(data.as_mut_ptr().cast(), address, bytes) });
        data
    }

    fn texture(
        &self,
        data: &[u8],
        width: usize,
        height: usize,
        channels: usize,
        bytes: usize,
    ) -> u64 {
        let array = array_of(data, width, height, channels, bytes);
        // SAFETY: the array lives as long as the view.
        let view = unsafe { PointTexture::new(array.0) }.unwrap();
        let object = view.object();
        self.textures.borrow_mut().push((view, array));
        object
    }

    fn preprocess(&self, batch: &PreprocessBatch) {
        // SAFETY: the machine keeps what was uploaded.
        unsafe { batch.launch(&self.kernels, self.stream()) }.unwrap();
        self.finish();
    }

    fn decode(&self, batch: &DecodeBatch, images: usize) {
        // SAFETY: as above.
        unsafe { batch.launch(&self.kernels, self.stream(), images) }.unwrap();
        self.finish();
    }

    fn draw(&self, canvas: &Canvas) {
        // SAFETY: as above.
        unsafe { canvas.launch(&self.kernels, self.stream()) }.unwrap();
        self.finish();
    }

    fn thumbnail(&self, batch: &ThumbnailBatch) {
        // SAFETY: as above.
        unsafe { batch.launch(&self.kernels, self.stream()) }.unwrap();
    }

    fn crop(&self, launch: &CropLaunch) {
        // SAFETY: as above.
        unsafe { launch.launch(&self.kernels, self.stream()) }.unwrap();
        self.finish();
    }
}

/// An array of `bytes * 8` bits a channel with this in it.
fn array_of(data: &[u8], width: usize, height: usize, channels: usize, bytes: usize) -> Array {
    let description = sys::CUDA_ARRAY_DESCRIPTOR {
        Width: width,
        Height: height,
        Format: match bytes {
            1 => sys::CUarray_format::CU_AD_FORMAT_UNSIGNED_INT8,
            _ => sys::CUarray_format::CU_AD_FORMAT_UNSIGNED_INT16,
        },
        NumChannels: channels as u32,
    };
    let mut array = std::ptr::null_mut();
    // SAFETY: the description outlives the call.
    succeed(unsafe { sys::cuArrayCreate_v2(&mut array, &description) });
    let row = width * channels * bytes;
    let copy = sys::CUDA_MEMCPY2D {
        srcMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_HOST,
        srcHost: data.as_ptr().cast::<c_void>(),
        srcPitch: row,
        dstMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_ARRAY,
        dstArray: array,
        WidthInBytes: row,
        Height: height,
        srcXInBytes: 0,
        srcY: 0,
        srcDevice: 0,
        srcArray: std::ptr::null_mut(),
        dstXInBytes: 0,
        dstY: 0,
        dstHost: std::ptr::null_mut(),
        dstDevice: 0,
        dstPitch: 0,
    };
    assert_eq!(data.len(), row * height);
    // SAFETY: the array has the size of the data. The wait is for streams that do not wait for this one.
    unsafe {
        succeed(sys::cuMemcpy2D_v2(&copy));
        succeed(sys::cuCtxSynchronize());
    }
    Array(array)
}

/// Work that was recorded instead of run.
pub struct Graph(sys::CUgraphExec);

impl Graph {
    pub fn capture(gpu: &Gpu, mut work: impl FnMut()) -> Self {
        let mut graph = std::ptr::null_mut();
        let mut executable = std::ptr::null_mut();
        // SAFETY: stream and results outlive the calls.
        unsafe {
            let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
            succeed(sys::cuStreamBeginCapture_v2(gpu.stream(), mode));
            work();
            succeed(sys::cuStreamEndCapture(gpu.stream(), &mut graph));
            succeed(sys::cuGraphInstantiateWithFlags(&mut executable, graph, 0));
            succeed(sys::cuGraphDestroy(graph));
        }
        Self(executable)
    }

    pub fn launch(&self, gpu: &Gpu) {
        // SAFETY: what the graph uses lives longer than it.
        succeed(unsafe { sys::cuGraphLaunch(self.0, gpu.stream()) });
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: the graph is this one's own.
        unsafe { sys::cuGraphExecDestroy(self.0) };
    }
}
