//! Shared libraries that stand in for NVIDIA's: functions of C without arguments, each of which returns a number. They
//! are put together here, as machines with a GPU often have no compiler.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::path::Path;

/// What the header, three program headers and the dynamic section take.
const HEADERS: usize = 64 + 3 * 56;
const DYNAMIC: usize = 7 * 16;
const SYMBOL: usize = 24;

/// The numbers of elf.h: `EM_X86_64`, `EM_AARCH64`.
#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;

/// `return number;`
#[cfg(target_arch = "x86_64")]
fn code(number: i32) -> Vec<u8> {
    let mut code = vec![0xb8];
    code.extend(number.to_le_bytes());
    code.extend([0xc3, 0x90, 0x90]);
    code
}

/// `return number;`
#[cfg(target_arch = "aarch64")]
fn code(number: i32) -> Vec<u8> {
    let half = |shift: u32| (number as u32 >> shift) & 0xffff;
    let instructions = [
        0x5280_0000 | half(0) << 5,
        0x72a0_0000 | half(16) << 5,
        0xd65f_03c0_u32,
    ];
    instructions.iter().flat_map(|i| i.to_le_bytes()).collect()
}

fn put(bytes: &mut Vec<u8>, numbers: &[u64]) {
    numbers.iter().for_each(|n| bytes.extend(n.to_le_bytes()));
}

/// Writes a library with these functions, as the System V ABI describes it.
pub fn write_library(path: &Path, functions: &[(&str, i32)]) {
    let hash_words = 2 + 1 + functions.len() + 1;
    let hash_at = HEADERS + DYNAMIC;
    let symbols_at = (hash_at + 4 * hash_words).next_multiple_of(8);
    let code_at = (symbols_at + SYMBOL * (functions.len() + 1)).next_multiple_of(16);
    let mut bodies = Vec::new();
    let mut names = vec![0];
    let mut symbols = vec![0; SYMBOL];
    for (name, number) in functions {
        symbols.extend((names.len() as u32).to_le_bytes());
        // A global function of section 1.
        symbols.extend([0x12, 0, 1, 0]);
        put(&mut symbols, &[(code_at + bodies.len()) as u64, 0]);
        names.extend(name.bytes().chain([0]));
        bodies.extend(code(*number));
    }
    let names_at = code_at + bodies.len();
    let size = (names_at + names.len()) as u64;

    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // A shared object.
    file.extend([3, 0]);
    file.extend(MACHINE.to_le_bytes());
    file.extend([1, 0, 0, 0]);
    put(&mut file, &[0, 64, 0]);
    file.extend([0; 4]);
    for number in [64_u16, 56, 3, 64, 0, 0] {
        file.extend(number.to_le_bytes());
    }
    // Loaded whole; the dynamic section, which the loader writes to; a stack that is not executed.
    let (dynamic_at, dynamic_size) = (HEADERS as u64, DYNAMIC as u64);
    for (kind, flags, at, size, align) in [
        (1_u32, 7_u32, 0, size, 0x1000),
        (2, 6, dynamic_at, dynamic_size, 8),
        (0x6474_e551, 6, 0, 0, 16),
    ] {
        file.extend(kind.to_le_bytes());
        file.extend(flags.to_le_bytes());
        put(&mut file, &[at, at, at, size, size, align]);
    }
    // DT_HASH, DT_STRTAB, DT_SYMTAB, DT_STRSZ, DT_SYMENT, and the end.
    for (tag, value) in [
        (4, hash_at),
        (5, names_at),
        (6, symbols_at),
        (10, names.len()),
        (11, SYMBOL),
        (0, 0),
        (0, 0),
    ] {
        put(&mut file, &[tag, value as u64]);
    }
    // One bucket, in which all symbols are a chain.
    let count = functions.len() as u32;
    let chain = (1..count).map(|index| index + 1).chain([0]);
    let hash = [1, count + 1, count.min(1), 0].into_iter().chain(chain);
    hash.for_each(|word| file.extend(word.to_le_bytes()));
    file.resize(symbols_at, 0);
    file.extend(symbols);
    file.resize(code_at, 0);
    file.extend(bodies);
    file.extend(names);
    std::fs::write(path, file).unwrap();
}

/// A driver that finds no GPU (`CUDA_ERROR_NO_DEVICE`), or one that starts.
pub fn write_driver(folder: &Path, init: i32) {
    let functions = [
        ("cuInit", init),
        ("cuDriverGetVersion", 0),
        ("cuDeviceGetCount", 0),
    ];
    write_library(&folder.join("libcuda.so.1"), &functions);
}

/// A TensorRT that calls itself this, and makes nothing.
pub fn write_tensorrt(folder: &Path, file: &str, version: i32) {
    let functions = [
        ("getInferLibVersion", version),
        ("createInferBuilder_INTERNAL", 0),
        ("createInferRuntime_INTERNAL", 0),
    ];
    write_library(&folder.join(file), &functions);
}
