//! Surface arrays behind a library and a driver that note what they are asked.
//!
//! Only a Jetson has the real ones; what is tested here is when they are called and with what.

use std::cell::RefCell;
use std::ptr;
use std::sync::Mutex;

use cust::sys::{CUcontext, CUgraphicsResource, CUresult};

use super::super::nvbufsurface::{CudaBuffer, MapFunction, MapFunctions, SurfaceParamsNewTail};
use super::super::surface_array::DriverCalls;
use super::super::*;
use super::{DEVICE_MEMORY, caps, head, nv12_entry, surface};
use crate::cuda::driver::{EGL_FRAME_PITCH, EglFrame, EglInterop};
use crate::lock;

thread_local! {
    /// What was asked of the library and the driver that stand behind the bridge in the tests below.
    static CALLS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

const DONE: CUresult = CUresult::CUDA_SUCCESS;

fn calls() -> Vec<String> {
    CALLS.take()
}

fn note(call: String) -> i32 {
    CALLS.with_borrow_mut(|calls| calls.push(call));
    0
}

/// An entry of a surface in the older layout; the first one is at the same place in both.
unsafe fn entry_of(surface: *mut c_void, index: i32) -> *mut SurfaceParams {
    let head = unsafe { surface.cast::<NvBufSurface>().read_unaligned() };
    head.surface_list
        .wrapping_byte_add(index as usize * Layout::Old.entry_stride())
        .cast()
}

/// The place for the CUDA buffer of a surface's first entry, in the newer layout.
unsafe fn cuda_pointer(surface: *mut c_void) -> *mut *mut CudaBuffer {
    unsafe {
        let tail = entry_of(surface, 0).add(1).cast::<SurfaceParamsNewTail>();
        &raw mut (*tail).cuda_pointer
    }
}

unsafe extern "C" fn map_cuda_buffer(surface: *mut c_void, index: i32) -> i32 {
    let buffer = CudaBuffer {
        base_pointer: ptr::null_mut(),
        data_pointer: DEVICE_MEMORY as *mut c_void,
        external_memory: ptr::null_mut(),
        mipmap: ptr::null_mut(),
        reserved: [0; 64],
    };
    unsafe { *cuda_pointer(surface) = Box::into_raw(Box::new(buffer)) };
    note(format!("map cuda {index}"))
}

unsafe extern "C" fn unmap_cuda_buffer(surface: *mut c_void, index: i32) -> i32 {
    unsafe {
        let place = cuda_pointer(surface);
        drop(Box::from_raw(*place));
        *place = ptr::null_mut();
    }
    note(format!("unmap cuda {index}"))
}

/// As on Orin with JetPack 7: "API is not supported on this platform".
unsafe extern "C" fn refuse_cuda_buffer(_: *mut c_void, index: i32) -> i32 {
    note(format!("refuse cuda {index}"));
    -1
}

unsafe extern "C" fn map_egl_image(surface: *mut c_void, index: i32) -> i32 {
    let entry = unsafe { &mut *entry_of(surface, index) };
    entry.egl_image = (0xe000 + entry.buffer_desc) as *mut c_void;
    note(format!("map {index}"))
}

unsafe extern "C" fn unmap_egl_image(surface: *mut c_void, index: i32) -> i32 {
    unsafe { (*entry_of(surface, index)).egl_image = ptr::null_mut() };
    note(format!("unmap {index}"))
}

unsafe extern "C" fn register(
    resource: *mut CUgraphicsResource,
    image: *mut c_void,
    _: u32,
) -> CUresult {
    unsafe { *resource = image.wrapping_byte_add(0x1_0000).cast() };
    note(format!("register {image:?}"));
    DONE
}

unsafe extern "C" fn mapped_frame(
    frame: *mut EglFrame,
    resource: CUgraphicsResource,
    _: u32,
    _: u32,
) -> CUresult {
    let base = resource as usize * 0x10_0000;
    unsafe {
        (*frame).planes = [
            base as *mut c_void,
            (base + 0x2000) as *mut c_void,
            ptr::null_mut(),
        ];
        (*frame).plane_count = 2;
        (*frame).pitch = 512;
        (*frame).frame_type = EGL_FRAME_PITCH;
    }
    DONE
}

unsafe extern "C" fn unregister(resource: CUgraphicsResource) -> CUresult {
    note(format!("unregister {resource:?}"));
    DONE
}

unsafe extern "C" fn current(context: *mut CUcontext) -> CUresult {
    unsafe { *context = 0xc0 as CUcontext };
    DONE
}

unsafe extern "C" fn push(context: CUcontext) -> CUresult {
    note(format!("push {context:?}"));
    DONE
}

unsafe extern "C" fn pop(_: *mut CUcontext) -> CUresult {
    note("pop".into());
    DONE
}

fn bridge(cuda_buffer: Option<(MapFunction, MapFunction)>) -> &'static Bridge {
    /// What stays for ever is no leak as long as something points to it.
    static BRIDGES: Mutex<Vec<&Bridge>> = Mutex::new(Vec::new());
    let bridge: &'static Bridge = Box::leak(Box::new(Bridge::new(
        MapFunctions {
            map_egl_image,
            unmap_egl_image,
            cuda_buffer,
        },
        DriverCalls {
            current,
            push,
            pop,
            unregister,
            egl: EglInterop {
                register_image: register,
                mapped_frame,
            },
        },
    )));
    lock(&BRIDGES).push(bridge);
    bridge
}

/// Maps the buffer and asks for the view of one entry, as `NvmmBuffer::frame` does.
fn view(bridge: &'static Bridge, buffer: &gst::Buffer, index: usize) -> (View, *mut SurfaceParams) {
    let mapped = NvmmBuffer::map(buffer, &caps()).unwrap();
    let params = mapped.entry(index).unwrap();
    let entry = Entry {
        surface: mapped.mapped.as_ptr() as *mut c_void,
        index: index as u32,
        layout: mapped.layout,
        params,
    };
    let memory = mapped.mapped.buffer().peek_memory(0);
    let view = unsafe { surface_array::view(bridge, memory, entry, (*params).buffer_desc) };
    (view.unwrap(), params)
}

/// The view of the image that [`register`] and [`mapped_frame`] make.
fn image(resource: u64) -> View {
    View::Image {
        storage: DeviceStorage::Pitch,
        planes: [resource * 0x10_0000, resource * 0x10_0000 + 0x2000, 0],
        pitch: 512,
    }
}

fn surface_array(layout: Layout, entries: &[SurfaceParams]) -> gst::Buffer {
    gst::init().unwrap();
    let count = entries.len() as u32;
    let head = head(memory_type::SURFACE_ARRAY, count, count);
    gst::Buffer::from_slice(surface(layout, head, entries))
}

#[test]
fn a_surface_array_is_registered_once_per_frame_and_released_with_its_memory() {
    let bridge = bridge(None);
    let buffer = surface_array(Layout::Old, &[0, 1].map(nv12_entry));

    assert_eq!(view(bridge, &buffer, 0).0, image(0x1_e028));
    assert_eq!(view(bridge, &buffer, 1).0, image(0x1_e029));
    assert_eq!(
        calls(),
        ["map 0", "register 0xe028", "map 1", "register 0xe029"]
    );

    assert_eq!(view(bridge, &buffer, 0).0, image(0x1_e028));
    assert_eq!(view(bridge, &buffer, 1).0, image(0x1_e029));
    assert!(calls().is_empty());

    // Another buffer of the pool took the place of the first frame.
    let (_, params) = view(bridge, &buffer, 0);
    unsafe {
        (*params).buffer_desc = 50;
        (*params).egl_image = ptr::null_mut();
    }
    assert_eq!(view(bridge, &buffer, 0).0, image(0x1_e032));
    assert_eq!(
        calls(),
        [
            "push 0xc0",
            "unregister 0x1e028",
            "pop",
            "map 0",
            "register 0xe032"
        ]
    );

    drop(buffer);
    let mut released = calls();
    released.sort();
    assert_eq!(
        released,
        [
            "pop",
            "pop",
            "push 0xc0",
            "push 0xc0",
            "unmap 0",
            "unmap 1",
            "unregister 0x1e029",
            "unregister 0x1e032"
        ]
    );
}

#[test]
fn an_image_that_another_element_mapped_is_used_and_left_mapped() {
    let bridge = bridge(None);
    let mut entry = nv12_entry(0);
    entry.egl_image = 0xf00 as *mut c_void;
    let buffer = surface_array(Layout::Old, &[entry]);
    assert_eq!(view(bridge, &buffer, 0).0, image(0x1_0f00));
    drop(buffer);
    assert_eq!(
        calls(),
        ["register 0xf00", "push 0xc0", "unregister 0x10f00", "pop"]
    );
}

#[test]
fn where_the_library_maps_cuda_buffers_no_image_is_made() {
    let bridge = bridge(Some((map_cuda_buffer, unmap_cuda_buffer)));
    let buffer = surface_array(Layout::New, &[nv12_entry(0)]);
    let linear = View::Linear {
        pointer: DEVICE_MEMORY,
    };
    assert_eq!(view(bridge, &buffer, 0).0, linear);
    assert_eq!(view(bridge, &buffer, 0).0, linear);
    drop(buffer);
    assert_eq!(calls(), ["map cuda 0", "unmap cuda 0"]);
}

#[test]
fn a_platform_that_refuses_cuda_buffers_is_asked_once_and_images_are_taken() {
    let bridge = bridge(Some((refuse_cuda_buffer, unmap_cuda_buffer)));
    for expected in [
        &["refuse cuda 0", "map 0", "register 0xe028"][..],
        &["map 0", "register 0xe028"],
    ] {
        let buffer = surface_array(Layout::New, &[nv12_entry(0)]);
        assert_eq!(view(bridge, &buffer, 0).0, image(0x1_e028));
        assert_eq!(calls(), expected);
        drop(buffer);
        assert_eq!(
            calls(),
            ["push 0xc0", "unregister 0x1e028", "pop", "unmap 0"]
        );
    }
}
