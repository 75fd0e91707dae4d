//! What NVIDIA's profilers are told: the pieces of a frame's way, as ranges of NVTX in a domain of their own.
//!
//! The ABI is that of NVTX 3, of which an application gets headers and no library (`nvToolsExt.h`, and in `nvtxDetail`
//! `nvtxTypes.h`, `nvtxInit.h` and `nvtxImpl.h`, of NVIDIA/NVTX). A profiler names its library in
//! `NVTX_INJECTION64_PATH`. The application hands that library's `InitializeInjectionNvtx2` a function that gives
//! tables, and the profiler writes its own functions to where the tables point.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::mem::{ManuallyDrop, transmute};
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, Ordering, fence};

use libloading::os::unix::{Library, RTLD_LAZY, RTLD_LOCAL};

use crate::dynamic_library::named_by;

const VARIABLE: &str = "NVTX_INJECTION64_PATH";
const DOMAIN_NAME: &CStr = c"rsdetectnet";

/// `NVTX_VERSION`
const VERSION: u16 = 3;

/// Members of `NvtxExportTableID`.
const CALLBACKS: u32 = 1;
const VERSION_INFO: u32 = 3;

/// Functions of each `NvtxCallbackModule`, the first of which is none: CORE, CUDA, OPENCL, CUDART, CORE2, SYNC.
const FUNCTIONS: [usize; 7] = [0, 16, 9, 15, 7, 16, 7];
const MOST_FUNCTIONS: usize = 16;

/// `NVTX_CB_MODULE_CORE2`, and members of its `NvtxCallbackIdCore2`.
const CORE2: usize = 5;
const RANGE_PUSH: usize = 4;
const RANGE_POP: usize = 5;
const DOMAIN_CREATE: usize = 12;

type Slot = AtomicPtr<c_void>;
type Table = [Option<&'static Slot>; MOST_FUNCTIONS + 1];

/// The functions that a profiler has written.
static SLOTS: [[Slot; MOST_FUNCTIONS]; FUNCTIONS.len()] =
    [const { [const { Slot::new(null_mut()) }; MOST_FUNCTIONS] }; FUNCTIONS.len()];

/// Where they are written; each table ends with a null.
static TABLES: [Table; FUNCTIONS.len()] = tables();

/// The profiler's handle of our domain. Null: nobody listens.
static DOMAIN: AtomicPtr<c_void> = AtomicPtr::new(null_mut());

type GetExportTable = extern "C" fn(u32) -> *const c_void;
type Initialize = unsafe extern "C" fn(GetExportTable) -> c_int;
type CreateDomain = unsafe extern "C" fn(*const c_char) -> *mut c_void;
type PushRange = unsafe extern "C" fn(*mut c_void, *const EventAttributes) -> c_int;
type PopRange = unsafe extern "C" fn(*mut c_void) -> c_int;

/// `NvtxExportTableCallbacks`
#[repr(C)]
struct ExportedCallbacks {
    size: usize,
    module_functions: unsafe extern "C" fn(c_uint, *mut *const Table, *mut c_uint) -> c_int,
}

/// `NvtxExportTableVersionInfo`
#[repr(C)]
struct ExportedVersion {
    size: usize,
    version: u32,
    reserved: u32,
    set_profiler_version: extern "C" fn(u32),
}

/// `nvtxEventAttributes_v2`
#[repr(C)]
struct EventAttributes {
    version: u16,
    size: u16,
    category: u32,
    color_type: i32,
    color: u32,
    payload_type: i32,
    reserved: i32,
    payload: u64,
    message_type: i32,
    message: *const c_char,
}

const _: () = assert!(size_of::<EventAttributes>() == 48);

/// Members of `nvtxPayloadType_t` and `nvtxMessageType_t`.
const NO_PAYLOAD: i32 = 0;
const UNSIGNED_64: i32 = 1;
const ASCII: i32 = 1;

/// Why a profiler is not told anything.
#[derive(Debug, thiserror::Error)]
pub enum ProfilerError {
    #[error("{VARIABLE} names {0:?}, which cannot be loaded: {1}")]
    Library(PathBuf, libloading::Error),
    #[error("the profiler's library {0:?} would not start")]
    Refused(PathBuf),
}

/// Lets the profiler that runs this process listen, unless that was done before. A process that runs with another
/// user's rights has none.
///
/// # Errors
/// [`ProfilerError`], once in the life of the process.
pub fn attach() -> Result<(), ProfilerError> {
    static ONCE: Once = Once::new();
    let mut done = Ok(());
    ONCE.call_once(|| {
        if let Some(file) = named_by(VARIABLE) {
            done = attach_to(Path::new(&file));
        }
    });
    done
}

fn attach_to(file: &Path) -> Result<(), ProfilerError> {
    let cannot = |error| ProfilerError::Library(file.to_owned(), error);
    // SAFETY: who sets the variable wants this library's code to run in the process.
    let library = unsafe { Library::open(Some(file), RTLD_LAZY | RTLD_LOCAL) }.map_err(cannot)?;
    // SAFETY: the function has this signature in every such library.
    let initialize = unsafe { library.get::<Initialize>("InitializeInjectionNvtx2") };
    let initialize = *initialize.map_err(cannot)?;
    // SAFETY: the tables are those of this version of the ABI, and live for ever.
    if unsafe { initialize(export_table) } == 0 {
        return Err(ProfilerError::Refused(file.to_owned()));
    }
    // What it has written is called to the end of the process.
    let _library = ManuallyDrop::new(library);
    let create = SLOTS[CORE2][DOMAIN_CREATE].load(Ordering::Relaxed);
    // SAFETY: the profiler writes null, or a function of this signature, which takes a C string.
    if let Some(create) = unsafe { transmute::<*mut c_void, Option<CreateDomain>>(create) } {
        // SAFETY: as above.
        let domain = unsafe { create(DOMAIN_NAME.as_ptr()) };
        DOMAIN.store(domain, Ordering::Release);
    }
    Ok(())
}

const fn tables() -> [Table; FUNCTIONS.len()] {
    let mut tables = [[None; MOST_FUNCTIONS + 1]; FUNCTIONS.len()];
    let mut module = 0;
    while module < FUNCTIONS.len() {
        let mut function = 1;
        while function < FUNCTIONS[module] {
            tables[module][function] = Some(&SLOTS[module][function]);
            function += 1;
        }
        module += 1;
    }
    tables
}

/// `NvtxGetExportTableFunc_t`
extern "C" fn export_table(id: u32) -> *const c_void {
    static EXPORTED_CALLBACKS: ExportedCallbacks = ExportedCallbacks {
        size: size_of::<ExportedCallbacks>(),
        module_functions,
    };
    static EXPORTED_VERSION: ExportedVersion = ExportedVersion {
        size: size_of::<ExportedVersion>(),
        version: VERSION as u32,
        reserved: 0,
        set_profiler_version,
    };
    match id {
        CALLBACKS => (&raw const EXPORTED_CALLBACKS).cast(),
        VERSION_INFO => (&raw const EXPORTED_VERSION).cast(),
        _ => null(),
    }
}

/// `GetModuleFunctionTable`: 1, or 0 where there is no such module.
///
/// # Safety
/// `table` and `size` are null, or may be written to.
unsafe extern "C" fn module_functions(
    module: c_uint,
    table: *mut *const Table,
    size: *mut c_uint,
) -> c_int {
    let module = module as usize;
    if module == 0 || module >= FUNCTIONS.len() {
        return 0;
    }
    // SAFETY: the caller vouches for both.
    unsafe {
        if !table.is_null() {
            *table = &raw const TABLES[module];
        }
        if !size.is_null() {
            *size = FUNCTIONS[module] as c_uint;
        }
    }
    1
}

extern "C" fn set_profiler_version(_version: u32) {}

/// A piece of work, on the thread that made this, for as long as this lives.
#[must_use = "a range ends when it is dropped"]
pub struct Range {
    /// Null if nobody was told of the range. A raw pointer also keeps it on its thread.
    domain: *mut c_void,
}

/// Begins a range.
pub fn range(name: &'static CStr) -> Range {
    begin(name, None)
}

/// Begins a range with a number: that of the frame, or how many there are.
pub fn numbered(name: &'static CStr, number: u64) -> Range {
    begin(name, Some(number))
}

fn begin(name: &'static CStr, number: Option<u64>) -> Range {
    let domain = DOMAIN.load(Ordering::Relaxed);
    if !domain.is_null() {
        tell(domain, name, number);
    }
    Range { domain }
}

#[cold]
fn tell(domain: *mut c_void, name: &'static CStr, number: Option<u64>) {
    // With the load before: what the profiler wrote is there.
    fence(Ordering::Acquire);
    let attributes = EventAttributes {
        version: VERSION,
        size: size_of::<EventAttributes>() as u16,
        category: 0,
        color_type: 0,
        color: 0,
        payload_type: if number.is_some() {
            UNSIGNED_64
        } else {
            NO_PAYLOAD
        },
        reserved: 0,
        payload: number.unwrap_or(0),
        message_type: ASCII,
        message: name.as_ptr(),
    };
    let push = SLOTS[CORE2][RANGE_PUSH].load(Ordering::Relaxed);
    // SAFETY: the profiler writes null, or a function of this signature, and made the domain.
    unsafe {
        if let Some(push) = transmute::<*mut c_void, Option<PushRange>>(push) {
            push(domain, &raw const attributes);
        }
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        if self.domain.is_null() {
            return;
        }
        let pop = SLOTS[CORE2][RANGE_POP].load(Ordering::Relaxed);
        // SAFETY: as in `tell`; the range was begun on this thread, and those within it have ended.
        unsafe {
            if let Some(pop) = transmute::<*mut c_void, Option<PopRange>>(pop) {
                pop(self.domain);
            }
        }
    }
}
