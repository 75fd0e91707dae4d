// What the kernels need of a GPU, without the headers of the CUDA toolkit: Debian's clang compiles this.
// tests/kernels/emulation.h defines the same names for a CPU, so that the same kernels run in tests there.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef int i32;
typedef unsigned long long u64;

struct Index {
    u32 x, y, z;
};

// What a texture holds at one place; channels that it lacks are 0.
struct Texel {
    u32 x, y, z, w;
};

#if defined(__CUDA__)

#define KERNEL(threads) extern "C" __attribute__((global, launch_bounds(threads))) void
#define DEVICE static inline __attribute__((device, always_inline))
#define MEMBER inline __attribute__((device, always_inline))
#define SHARED __attribute__((shared))
#define GLOBAL __attribute__((address_space(1)))

DEVICE Index thread_index() {
    return {u32(__nvvm_read_ptx_sreg_tid_x()), u32(__nvvm_read_ptx_sreg_tid_y()), u32(__nvvm_read_ptx_sreg_tid_z())};
}

DEVICE Index block_index() {
    return {u32(__nvvm_read_ptx_sreg_ctaid_x()), u32(__nvvm_read_ptx_sreg_ctaid_y()),
            u32(__nvvm_read_ptx_sreg_ctaid_z())};
}

DEVICE void wait_for_block() { __syncthreads(); }

// Loads of what no thread of the same launch writes.
DEVICE u32 load_u8(u64 address) { return __nvvm_ldg_uc((const u8 *)address); }
DEVICE u32 load_u16(u64 address) { return __nvvm_ldg_us((const u16 *)address); }
DEVICE u32 load_u32(u64 address) { return __nvvm_ldg_ui((const u32 *)address); }
DEVICE float load_f32(u64 address) { return __nvvm_ldg_f((const float *)address); }

DEVICE void store_u8(u64 address, u32 value) { *(GLOBAL u8 *)address = u8(value); }
DEVICE void store_u16(u64 address, u32 value) { *(GLOBAL u16 *)address = u16(value); }
DEVICE void store_u32(u64 address, u32 value) { *(GLOBAL u32 *)address = value; }
DEVICE void store_f32(u64 address, float value) { *(GLOBAL float *)address = value; }

// The texel at whole coordinates of a texture with point sampling that reads integers.
DEVICE Texel load_texel(u64 texture, i32 x, i32 y) {
    Texel texel;
    asm("tex.2d.v4.u32.s32 {%0, %1, %2, %3}, [%4, {%5, %6}];"
        : "=r"(texel.x), "=r"(texel.y), "=r"(texel.z), "=r"(texel.w)
        : "l"(texture), "r"(x), "r"(y));
    return texel;
}

// Each result is rounded: neither compiler makes one operation of a product and a sum.
DEVICE float multiplied(float a, float b) { return __nvvm_mul_rn_f(a, b); }
DEVICE float added(float a, float b) { return __nvvm_add_rn_f(a, b); }

DEVICE u32 f16_bits(float value) {
    u16 bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

DEVICE float f16_value(u32 bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(u16(bits)));
    return value;
}

// To within two units of the last place, or 2^-20 for sine and cosine of small angles.
DEVICE float exponential(float value) {
    float result;
    asm("ex2.approx.f32 %0, %1;" : "=f"(result) : "f"(value * 1.44269504f));
    return result;
}

DEVICE float logarithm(float value) {
    float result;
    asm("lg2.approx.f32 %0, %1;" : "=f"(result) : "f"(value));
    return result * 0.693147181f;
}

DEVICE float square_root(float value) {
    float result;
    asm("sqrt.rn.f32 %0, %1;" : "=f"(result) : "f"(value));
    return result;
}

DEVICE float sine_of(float angle) {
    float result;
    asm("sin.approx.f32 %0, %1;" : "=f"(result) : "f"(angle));
    return result;
}

DEVICE float cosine_of(float angle) {
    float result;
    asm("cos.approx.f32 %0, %1;" : "=f"(result) : "f"(angle));
    return result;
}

// The sum over the 32 threads of a warp, all of which call this; only the first of them gets all of it.
DEVICE u64 warp_sum(u64 value) {
    for (u32 step = 16; step > 0; step /= 2) {
        const u32 low = u32(__nvvm_shfl_sync_down_i32(~0u, i32(u32(value)), i32(step), 31));
        const u32 high = u32(__nvvm_shfl_sync_down_i32(~0u, i32(u32(value >> 32)), i32(step), 31));
        value += u64(high) << 32 | low;
    }
    return value;
}

#else
#include "emulation.h"
#endif

DEVICE float minimum(float a, float b) { return __builtin_fminf(a, b); }
DEVICE float maximum(float a, float b) { return __builtin_fmaxf(a, b); }
DEVICE float clamp(float value, float low, float high) { return minimum(maximum(value, low), high); }
DEVICE u32 smaller(u32 a, u32 b) { return a < b ? a : b; }
DEVICE i32 within(i32 value, i32 end) { return value < 0 ? 0 : value > end ? end : value; }

// a * b + c, rounded once. Nothing else is: the kernels are compiled without contraction.
DEVICE float fused(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

// Atomic within the memory that all threads of the launch see; the value from before.
DEVICE u32 fetch_add(u32 *counter, u32 count) { return __atomic_fetch_add(counter, count, __ATOMIC_RELAXED); }
DEVICE u64 fetch_add(u64 *counter, u64 count) { return __atomic_fetch_add(counter, count, __ATOMIC_RELAXED); }
DEVICE void set_bits(u32 *word, u32 bits) { __atomic_fetch_or(word, bits, __ATOMIC_RELAXED); }
DEVICE void clear_bits(u32 *word, u32 bits) { __atomic_fetch_and(word, ~bits, __ATOMIC_RELAXED); }

// The element types of tensors.
enum Element : u32 { F32, F16, U8, I8 };
