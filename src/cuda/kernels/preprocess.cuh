// From frames into the network's input tensor: colour conversion, resize, letterbox, normalisation, in one
// pass over the tensor. The rules are those of src/preprocess/mod.rs; the structs are those of
// src/preprocess/cuda.rs.
#pragma once

#include "platform.cuh"

// Where a frame's samples lie. `Frame::order` tells formats of the same layout apart.
enum Layout : u32 {
    SEMI_PLANAR,  // Y, then UV (order 0) or VU (order 1)
    PLANAR,       // Y, U, V
    P010,         // Y, then UV, in the upper 10 bits of 16
    PACKED_422,   // Y0 U Y1 V (order 0) or U Y0 V Y1 (order 1)
    RGB_24,       // R G B (order 0) or B G R (order 1)
    RGB_32,       // order: bit offsets of red, green, blue in a little-endian word, at bits 0, 8, 16
    GRAY,
};

enum FrameFlags : u32 {
    TEXTURES = 1,  // planes are texture objects instead of addresses
    AVERAGE_X = 2, // every sample under an output pixel counts, instead of the nearest two
    AVERAGE_Y = 4,
};

struct Frame {
    u64 planes[3];
    u32 pitches[3];
    u32 layout;
    u32 order;
    u32 flags;
    u32 width, height;
    // The frame's picture within the tensor, in pixels of the tensor.
    i32 left, top;
    u32 placed_width, placed_height;
    // red = luma + red_cr * cr and so on, with luma = (Y - luma_offset) * luma_scale, cb = U - 128, cr = V - 128
    float luma_offset, luma_scale;
    float red_cr, green_cb, green_cr, blue_cb;
    float fill;
    u32 slot;
};

struct Target {
    u64 data;
    // Distances in elements.
    u32 slot_stride, channel_stride, row_stride, pixel_stride;
    u32 width, height;
    u32 element;
    u32 bgr;
    float mean[3], scale[3];
};

static const u32 MAX_FRAMES = 32;

struct PreprocessBatch {
    Target target;
    Frame frames[MAX_FRAMES];
    u32 count;
};

struct Vector {
    float x, y, z;
};

DEVICE Vector operator+(Vector a, Vector b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
DEVICE Vector operator*(Vector a, float b) { return {a.x * b, a.y * b, a.z * b}; }

// Where an output pixel lies on one axis of a plane, in coordinates that are whole at the samples' centres.
struct Position {
    float centre, begin, end;
};

DEVICE Position position(i32 output, u32 samples, u32 placed) {
    const float size = float(samples), pixels = float(placed), at = float(output);
    return {(at + 0.5f) * size / pixels - 0.5f, at * size / pixels - 0.5f, (at + 1.0f) * size / pixels - 0.5f};
}

// The same place in a plane of half as many samples whose first one lies at `first` of the full plane.
DEVICE Position halved(Position full, float first) {
    return {(full.centre - first) * 0.5f, (full.begin - first) * 0.5f, (full.end - first) * 0.5f};
}

// A run of samples on one axis and their weights.
struct Span {
    i32 first, last;
    float lead, inner, trail;

    MEMBER float weight(i32 sample) const { return sample == first ? lead : sample == last ? trail : inner; }
};

DEVICE Span nearest_two(Position at, u32 size) {
    const i32 end = i32(size) - 1;
    const float centre = clamp(at.centre, 0.0f, float(end));
    const i32 first = i32(centre);
    const float fraction = centre - float(first);
    return {first, first < end ? first + 1 : end, 1.0f - fraction, 0.0f, fraction};
}

DEVICE Span all_under(Position at, u32 size) {
    const float begin = clamp(at.begin + 0.5f, 0.0f, float(size) - 1.0f);
    const float end = clamp(at.end + 0.5f, begin + 1e-3f, float(size));
    const i32 first = i32(begin);
    i32 last = i32(__builtin_ceilf(end)) - 1;
    last = last < first ? first : last;
    if (first == last) return {first, first, 1.0f, 0.0f, 0.0f};
    const float inner = 1.0f / (end - begin);
    return {first, last, (float(first + 1) - begin) * inner, inner, (end - float(last)) * inner};
}

// The weighted sum of samples; `fetch(x, y)` reads one. Without AVERAGE both spans are the nearest two.
template <bool AVERAGE, typename Fetch> DEVICE auto sample(const Span &h, const Span &v, Fetch fetch) {
    if (!AVERAGE)
        return (fetch(h.first, v.first) * h.lead + fetch(h.last, v.first) * h.trail) * v.lead +
               (fetch(h.first, v.last) * h.lead + fetch(h.last, v.last) * h.trail) * v.trail;
    auto sum = fetch(h.first, v.first) * 0.0f;
    for (i32 y = v.first; y <= v.last; y++) {
        auto row = fetch(h.first, y) * h.lead;
        for (i32 x = h.first + 1; x <= h.last; x++) row = row + fetch(x, y) * h.weight(x);
        sum = sum + row * v.weight(y);
    }
    return sum;
}

// Planes as rows of bytes; samples of 2 and 4 bytes lie at multiples of their size.
template <typename Described> struct Linear {
    const Described &frame;

    MEMBER u64 row(u32 plane, i32 y) const { return frame.planes[plane] + u64(y) * frame.pitches[plane]; }
    MEMBER u32 byte(u32 plane, i32 x, i32 y) const { return load_u8(row(plane, y) + x); }
    MEMBER u32 byte_pair(u32 plane, i32 x, i32 y) const { return load_u16(row(plane, y) + 2 * x); }
    MEMBER u32 word(u32 plane, i32 x, i32 y) const { return load_u16(row(plane, y) + 2 * x); }
    MEMBER u32 word_pair(u32 plane, i32 x, i32 y) const { return load_u32(row(plane, y) + 4 * x); }
    MEMBER u32 byte_quad(u32 plane, i32 x, i32 y) const { return load_u32(row(plane, y) + 4 * x); }
    MEMBER u32 packed_luma(i32 x, i32 y) const { return load_u8(row(0, y) + 2 * x + frame.order); }

    MEMBER Vector packed_chroma(i32 x, i32 y) const {
        const u32 quad = byte_quad(0, x, y) >> (frame.order == 0 ? 8 : 0);
        return {0.0f, float(quad & 255), float(quad >> 16 & 255)};
    }

    MEMBER Vector byte_triple(i32 x, i32 y) const {
        const u64 address = row(0, y) + 3 * x;
        return {float(load_u8(address)), float(load_u8(address + 1)), float(load_u8(address + 2))};
    }
};

// Planes as textures with one channel for each sample that lies at the same place: Y; U and V; R, G, B and A.
// 4:2:2 packed frames are textures of the frame's width, luma and one chroma sample at each place.
template <typename Described> struct Textures {
    const Described &frame;

    MEMBER u32 byte(u32 plane, i32 x, i32 y) const { return load_texel(frame.planes[plane], x, y).x; }
    MEMBER u32 word(u32 plane, i32 x, i32 y) const { return byte(plane, x, y); }

    MEMBER u32 byte_pair(u32 plane, i32 x, i32 y) const {
        const Texel texel = load_texel(frame.planes[plane], x, y);
        return texel.x | texel.y << 8;
    }

    MEMBER u32 word_pair(u32 plane, i32 x, i32 y) const {
        const Texel texel = load_texel(frame.planes[plane], x, y);
        return texel.x | texel.y << 16;
    }

    MEMBER u32 byte_quad(u32 plane, i32 x, i32 y) const {
        const Texel texel = load_texel(frame.planes[plane], x, y);
        return texel.x | texel.y << 8 | texel.z << 16 | texel.w << 24;
    }

    MEMBER u32 packed_luma(i32 x, i32 y) const {
        const Texel texel = load_texel(frame.planes[0], x, y);
        return frame.order == 0 ? texel.x : texel.y;
    }

    MEMBER Vector packed_chroma(i32 x, i32 y) const {
        const Texel u = load_texel(frame.planes[0], 2 * x, y), v = load_texel(frame.planes[0], 2 * x + 1, y);
        return {0.0f, float(frame.order == 0 ? u.y : u.x), float(frame.order == 0 ? v.y : v.x)};
    }

    MEMBER Vector byte_triple(i32 x, i32 y) const {
        const Texel texel = load_texel(frame.planes[0], x, y);
        return {float(texel.x), float(texel.y), float(texel.z)};
    }
};

// Luma and chroma, 0 to 255, as y, u, v.
template <bool AVERAGE, typename Luma, typename Chroma>
DEVICE Vector sample_yuv(const Frame &frame, Position x, Position y, bool half_height, Luma luma, Chroma chroma) {
    const u32 chroma_width = (frame.width + 1) / 2, chroma_height = half_height ? (frame.height + 1) / 2 : frame.height;
    const Position chroma_x = halved(x, 0.0f), chroma_y = half_height ? halved(y, 0.5f) : y;
    Span h = nearest_two(x, frame.width), v = nearest_two(y, frame.height);
    Span chroma_h = nearest_two(chroma_x, chroma_width), chroma_v = nearest_two(chroma_y, chroma_height);
    if (AVERAGE && (frame.flags & AVERAGE_X)) {
        h = all_under(x, frame.width);
        chroma_h = all_under(chroma_x, chroma_width);
    }
    if (AVERAGE && (frame.flags & AVERAGE_Y)) {
        v = all_under(y, frame.height);
        chroma_v = all_under(chroma_y, chroma_height);
    }
    Vector yuv = sample<AVERAGE>(chroma_h, chroma_v, chroma);
    yuv.x = sample<AVERAGE>(h, v, luma);
    return yuv;
}

template <bool AVERAGE, typename Fetch>
DEVICE auto sample_packed(const Frame &frame, Position x, Position y, Fetch fetch) {
    const Span h = AVERAGE && (frame.flags & AVERAGE_X) ? all_under(x, frame.width) : nearest_two(x, frame.width);
    const Span v = AVERAGE && (frame.flags & AVERAGE_Y) ? all_under(y, frame.height) : nearest_two(y, frame.height);
    return sample<AVERAGE>(h, v, fetch);
}

DEVICE Vector limited(Vector rgb) {
    return {clamp(rgb.x, 0.0f, 255.0f), clamp(rgb.y, 0.0f, 255.0f), clamp(rgb.z, 0.0f, 255.0f)};
}

DEVICE Vector rgb_from_yuv(const Frame &frame, Vector yuv) {
    const float luma = (yuv.x - frame.luma_offset) * frame.luma_scale, cb = yuv.y - 128.0f, cr = yuv.z - 128.0f;
    return limited({luma + frame.red_cr * cr, luma + frame.green_cb * cb + frame.green_cr * cr,
                    luma + frame.blue_cb * cb});
}

DEVICE Vector reversed(Vector v) { return {v.z, v.y, v.x}; }

// Ten bits in the upper part of 16, on the scale of 8 bits.
DEVICE float ten_bits(u32 word) { return float(word >> 6 & 1023) * 0.25f; }

template <bool AVERAGE, typename Planes>
DEVICE Vector sample_rgb(const Frame &frame, const Planes &planes, Position x, Position y) {
    auto luma = [&](i32 x, i32 y) { return float(planes.byte(0, x, y)); };
    Vector yuv;
    switch (frame.layout) {
    case SEMI_PLANAR:
        yuv = sample_yuv<AVERAGE>(frame, x, y, true, luma, [&](i32 x, i32 y) {
            const u32 pair = planes.byte_pair(1, x, y);
            return Vector{0.0f, float(pair & 255), float(pair >> 8)};
        });
        if (frame.order == 1) yuv = {yuv.x, yuv.z, yuv.y};
        return rgb_from_yuv(frame, yuv);
    case PLANAR:
        yuv = sample_yuv<AVERAGE>(frame, x, y, true, luma, [&](i32 x, i32 y) {
            return Vector{0.0f, float(planes.byte(1, x, y)), float(planes.byte(2, x, y))};
        });
        return rgb_from_yuv(frame, yuv);
    case P010:
        yuv = sample_yuv<AVERAGE>(
            frame, x, y, true, [&](i32 x, i32 y) { return ten_bits(planes.word(0, x, y)); },
            [&](i32 x, i32 y) {
                const u32 pair = planes.word_pair(1, x, y);
                return Vector{0.0f, ten_bits(pair & 65535), ten_bits(pair >> 16)};
            });
        return rgb_from_yuv(frame, yuv);
    case PACKED_422:
        yuv = sample_yuv<AVERAGE>(
            frame, x, y, false, [&](i32 x, i32 y) { return float(planes.packed_luma(x, y)); },
            [&](i32 x, i32 y) { return planes.packed_chroma(x, y); });
        return rgb_from_yuv(frame, yuv);
    case RGB_24: {
        const Vector rgb =
            sample_packed<AVERAGE>(frame, x, y, [&](i32 x, i32 y) { return planes.byte_triple(x, y); });
        return frame.order == 0 ? rgb : reversed(rgb);
    }
    case RGB_32: {
        const u32 red = frame.order & 255, green = frame.order >> 8 & 255, blue = frame.order >> 16 & 255;
        return sample_packed<AVERAGE>(frame, x, y, [&](i32 x, i32 y) {
            const u32 quad = planes.byte_quad(0, x, y);
            return Vector{float(quad >> red & 255), float(quad >> green & 255), float(quad >> blue & 255)};
        });
    }
    default: {
        const float gray = (sample_packed<AVERAGE>(frame, x, y, luma) - frame.luma_offset) * frame.luma_scale;
        return limited({gray, gray, gray});
    }
    }
}

template <typename Planes>
DEVICE Vector sample_frame(const Frame &frame, const Planes &planes, Position x, Position y) {
    return frame.flags & (AVERAGE_X | AVERAGE_Y) ? sample_rgb<true>(frame, planes, x, y)
                                                 : sample_rgb<false>(frame, planes, x, y);
}

DEVICE void write(const Target &target, u64 index, float value) {
    switch (target.element) {
    case F32: store_f32(target.data + 4 * index, value); break;
    case F16: store_u16(target.data + 2 * index, f16_bits(value)); break;
    default: store_u8(target.data + index, u32(__builtin_rintf(clamp(value, 0.0f, 255.0f)))); break;
    }
}

// One thread for each pixel of the tensor, one layer of blocks for each frame.
KERNEL(256) preprocess(PreprocessBatch batch) {
    const Target &target = batch.target;
    const Frame &frame = batch.frames[block_index().z];
    const u32 x = block_index().x * 32 + thread_index().x, y = block_index().y * 8 + thread_index().y;
    if (x >= target.width || y >= target.height) return;

    const i32 placed_x = i32(x) - frame.left, placed_y = i32(y) - frame.top;
    Vector rgb = {frame.fill, frame.fill, frame.fill};
    if (placed_x >= 0 && placed_x < i32(frame.placed_width) && placed_y >= 0 && placed_y < i32(frame.placed_height)) {
        const Position at_x = position(placed_x, frame.width, frame.placed_width);
        const Position at_y = position(placed_y, frame.height, frame.placed_height);
        rgb = frame.flags & TEXTURES ? sample_frame(frame, Textures<Frame>{frame}, at_x, at_y)
                                     : sample_frame(frame, Linear<Frame>{frame}, at_x, at_y);
    }
    const Vector ordered = target.bgr ? reversed(rgb) : rgb;
    const u64 index = u64(frame.slot) * target.slot_stride + u64(y) * target.row_stride + u64(x) * target.pixel_stride;
    write(target, index, (ordered.x - target.mean[0]) * target.scale[0]);
    write(target, index + target.channel_stride, (ordered.y - target.mean[1]) * target.scale[1]);
    write(target, index + 2 * u64(target.channel_stride), (ordered.z - target.mean[2]) * target.scale[2]);
}
