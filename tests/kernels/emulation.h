// A GPU's part of src/cuda/kernels/platform.cuh on a CPU: one block at a time, its threads in turns.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#define KERNEL(threads) static void
#define DEVICE static inline
#define MEMBER inline
#define SHARED
#define GLOBAL

extern Index current_thread, current_block;

// Lets the block's other threads run until they wait too.
void wait_for_block();

DEVICE Index thread_index() { return current_thread; }

// Only the first thread of a warp gets the sum: here the threads run one after the other, and it is the last of them.
static u64 warp_sum(u64 value) {
    static u64 sum;
    sum += value;
    return current_thread.x % 32 == 0 ? std::exchange(sum, 0) : 0;
}

DEVICE Index block_index() { return current_block; }

template <typename T> static T load(u64 address) {
    T value;
    std::memcpy(&value, reinterpret_cast<const void *>(address), sizeof value);
    return value;
}

template <typename T> static void store(u64 address, T value) {
    std::memcpy(reinterpret_cast<void *>(address), &value, sizeof value);
}

DEVICE u32 load_u8(u64 address) { return load<u8>(address); }
DEVICE u32 load_u16(u64 address) { return load<u16>(address); }
DEVICE u32 load_u32(u64 address) { return load<u32>(address); }
DEVICE float load_f32(u64 address) { return load<float>(address); }
DEVICE void store_u8(u64 address, u32 value) { store(address, u8(value)); }
DEVICE void store_u16(u64 address, u32 value) { store(address, u16(value)); }
DEVICE void store_u32(u64 address, u32 value) { store(address, value); }
DEVICE void store_f32(u64 address, float value) { store(address, value); }

// Compiled without contraction.
DEVICE float multiplied(float a, float b) { return a * b; }
DEVICE float added(float a, float b) { return a + b; }

// What a texture object stands for: rows of texels without gaps.
struct Texture {
    u64 data;
    u32 width, height, channels, bytes;
};

DEVICE Texel load_texel(u64 texture, i32 x, i32 y) {
    const Texture &from = *reinterpret_cast<const Texture *>(texture);
    const u64 column = std::clamp(x, 0, i32(from.width) - 1), row = std::clamp(y, 0, i32(from.height) - 1);
    u32 value[4] = {};
    for (u32 c = 0; c < from.channels; c++) {
        const u64 address = from.data + ((row * from.width + column) * from.channels + c) * from.bytes;
        value[c] = from.bytes == 2 ? load_u16(address) : load_u8(address);
    }
    return {value[0], value[1], value[2], value[3]};
}

DEVICE float f16_value(u32 bits) {
    const u32 exponent = bits >> 10 & 31, fraction = bits & 1023;
    const float sign = bits >> 15 ? -1.0f : 1.0f;
    if (exponent == 31) return fraction ? NAN : sign * INFINITY;
    if (exponent == 0) return sign * std::ldexp(float(fraction), -24);
    return sign * std::ldexp(float(fraction + 1024), i32(exponent) - 25);
}

// The nearest float16, of two equally near ones the even one.
DEVICE u32 f16_bits(float value) {
    const u32 sign = std::signbit(value) ? 0x8000 : 0;
    const float size = std::fabs(value);
    if (std::isnan(value)) return 0x7fff;
    if (size >= 65520.0f) return sign | 0x7c00;
    i32 exponent;
    std::frexp(size, &exponent);
    const i32 step = std::max(exponent - 11, -24);
    const u32 units = u32(std::nearbyint(std::ldexp(size, -step)));
    // A fraction rounded up to the next power carries into the exponent.
    return sign | (step == -24 ? units : units + (u32(step + 24) << 10));
}

DEVICE float exponential(float value) { return std::exp(value); }
DEVICE float logarithm(float value) { return std::log(value); }
DEVICE float square_root(float value) { return std::sqrt(value); }
DEVICE float sine_of(float angle) { return std::sin(angle); }
DEVICE float cosine_of(float angle) { return std::cos(angle); }
