//! DeepStream's metadata, read with its own functions and the offsets of its headers.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::ffi::{CStr, c_char, c_void};

use gst::glib::ffi::GList;
use libloading::Library;

/// DeepStream's library; says so where there is none.
pub fn deepstream() -> Option<&'static Library> {
    gst::init().unwrap();
    let library = unsafe { Library::new("libnvdsgst_meta.so") };
    if library.is_err() {
        eprintln!("skipped: DeepStream's libnvdsgst_meta.so is not on LD_LIBRARY_PATH");
    }
    library.ok().map(|library| &*Box::leak(Box::new(library)))
}

pub fn function<T: Copy>(library: &Library, name: &str) -> T {
    unsafe { *library.get::<T>(name).unwrap() }
}

/// Reads a field of a struct of DeepStream; offsets are those of the headers of 6.3 and 9.1.
unsafe fn at<T>(start: *const c_void, offset: usize) -> T {
    unsafe { start.byte_add(offset).cast::<T>().read_unaligned() }
}

unsafe fn list(mut node: *const GList) -> Vec<*const c_void> {
    let mut data = Vec::new();
    while !node.is_null() {
        unsafe {
            data.push((*node).data.cast_const());
            node = (*node).next;
        }
    }
    data
}

#[derive(Debug, PartialEq)]
pub struct Object {
    pub component: i32,
    pub class_id: i32,
    pub object_id: u64,
    pub detector_box: [f32; 4],
    pub tracker_box: [f32; 4],
    pub confidence: f32,
    pub tracker_confidence: f32,
    pub rectangle: [f32; 4],
    pub border_width: u32,
    pub border_color: [f64; 4],
    pub has_background: u32,
    pub text: String,
    pub text_position: [u32; 2],
    pub font: String,
    pub font_size: u32,
    pub label: String,
    pub lists: [usize; 2],
}

#[derive(Debug, PartialEq)]
pub struct Frame {
    pub batch_id: u32,
    pub number: i32,
    pub pts: u64,
    pub size: [u32; 2],
    pub inferred: bool,
    pub objects: Vec<Object>,
}

/// The batch that DeepStream finds on a buffer.
pub fn read(library: &Library, buffer: &gst::BufferRef) -> Option<Vec<Frame>> {
    type Get = unsafe extern "C" fn(*const gst::ffi::GstBuffer) -> *const c_void;
    let get: Get = function(library, "gst_buffer_get_nvds_batch_meta");
    unsafe {
        let batch = get(buffer.as_ptr());
        if batch.is_null() {
            return None;
        }
        let object_size = at::<u32>(at(batch, 56), 8);
        let frames = list(at(batch, 96));
        assert_eq!(at::<u32>(batch, 44) as usize, frames.len());
        Some(
            frames
                .into_iter()
                .map(|frame| read_frame(frame, object_size))
                .collect(),
        )
    }
}

unsafe fn read_frame(frame: *const c_void, object_size: u32) -> Frame {
    unsafe {
        let objects = list(at(frame, 104));
        assert_eq!(at::<u32>(frame, 96) as usize, objects.len());
        Frame {
            batch_id: at(frame, 44),
            number: at(frame, 48),
            pts: at(frame, 56),
            size: at(frame, 80),
            inferred: at::<i32>(frame, 100) == 1,
            objects: objects
                .into_iter()
                .map(|object| read_object(object, object_size))
                .collect(),
        }
    }
}

unsafe fn read_object(object: *const c_void, size: u32) -> Object {
    let tail = match size {
        544 => 208,
        552 => 216,
        other => panic!("objects of {other} bytes"),
    };
    let text =
        |pointer: *const c_char| unsafe { CStr::from_ptr(pointer).to_str().unwrap().to_owned() };
    unsafe {
        if size == 552 {
            assert_eq!(at::<f32>(object, 208), 0.0);
        }
        Object {
            component: at(object, 48),
            class_id: at(object, 52),
            object_id: at(object, 56),
            detector_box: at(object, 64),
            tracker_box: at(object, 80),
            confidence: at(object, 96),
            tracker_confidence: at(object, 100),
            rectangle: at(object, 104),
            border_width: at(object, 120),
            border_color: at(object, 128),
            has_background: at(object, 160),
            text: text(at(object, tail + 24)),
            text_position: at(object, tail + 32),
            font: text(at(object, tail + 40)),
            font_size: at(object, tail + 48),
            label: text(object.byte_add(tail + 128).cast()),
            lists: at(object, tail + 256),
        }
    }
}
