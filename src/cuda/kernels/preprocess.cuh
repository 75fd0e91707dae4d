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
    u32 order;
    u8 layout;
    u8 flags;
    u16 slot;
    u32 width, height;
    // The frame's picture within the tensor, in pixels of the tensor.
    i32 left, top;
    u32 placed_width, placed_height;
    // Pixels of the frame for one of the picture: a number of 64 bits as the sum of two.
    float scale_x[2], scale_y[2];
    // The entries of the colour transform that are not 0, luma's being the same for all, and its offset.
    float luma, red_v, green_u, green_v, blue_u, offset[3];
    // Where the frame begins in the planes that are textures; even.
    u16 first_column, first_row;
};

struct Target {
    u64 data;
    // Distances in elements.
    u32 slot_stride, channel_stride, row_stride, pixel_stride;
    u32 width, height;
    u32 element;
    u32 bgr;
    float mean[3], scale[3];
    float fill;
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

// The samples of the components that lie at one place.
struct Samples {
    u32 x, y, z;
};

DEVICE Samples operator+(Samples a, Samples b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
DEVICE Samples operator+(Samples a, u32 b) { return {a.x + b, a.y + b, a.z + b}; }
DEVICE Samples operator*(Samples a, u32 b) { return {a.x * b, a.y * b, a.z * b}; }
DEVICE Samples operator>>(Samples a, u32 b) { return {a.x >> b, a.y >> b, a.z >> b}; }

DEVICE float real(u32 a) { return float(a); }
DEVICE Vector real(Samples a) { return {float(a.x), float(a.y), float(a.z)}; }

// Rule 3. The coordinate (output + 0.5) * scale - offset, rounded to 32 bits once, as if computed in 64, which many
// GPUs do 32 or 64 times slower: the product and the difference come with what is lost in their rounding.
DEVICE float coordinate(i32 output, const float *scale, float offset) {
    const float at = float(output) + 0.5f, product = at * scale[0];
    const float product_rest = fused(at, scale[1], fused(at, scale[0], -product));
    const float difference = product - offset;
    return difference + (product - (difference + offset) + product_rest);
}

// Two neighbouring samples and their weights of 11 bits.
struct Taps {
    i32 first, last;
    u32 lead, trail;
};

DEVICE u32 weight(float part) { return u32(__builtin_rintf(part * 2048.0f)); }

DEVICE Taps taps_of_column(float at, u32 size) {
    const float before = __builtin_floorf(at);
    const i32 first = i32(before), end = i32(size) - 1;
    if (first < 0) return {0, 0, 2048, 0};
    if (first >= end) return {end, end, 2048, 0};
    return {first, first + 1, weight(1.0f - (at - before)), weight(at - before)};
}

DEVICE Taps taps_of_row(float at, u32 size) {
    const float before = __builtin_floorf(at);
    const i32 first = i32(before), end = i32(size) - 1;
    return {within(first, end), within(first + 1, end), weight(1.0f - (at - before)), weight(at - before)};
}

// Samples of ten bits, or eight, between two columns and two rows; `fetch(x, y)` reads them at one place.
template <bool TEN_BITS, typename Fetch> DEVICE auto interpolate(const Taps &h, const Taps &v, Fetch fetch) {
    const u32 down = TEN_BITS ? 5 : 4, last_down = TEN_BITS ? 1 : 2;
    const auto upper = (fetch(h.first, v.first) * h.lead + fetch(h.last, v.first) * h.trail) >> down;
    const auto lower = (fetch(h.first, v.last) * h.lead + fetch(h.last, v.last) * h.trail) >> down;
    return (((upper * v.lead) >> 16) + ((lower * v.trail) >> 16) + (1u << last_down >> 1)) >> last_down;
}

// Rule 6. Where an output pixel lies on one axis of a plane, in coordinates that are whole at the samples' centres.
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

// The weighted sum of samples.
template <typename Fetch> DEVICE auto average(const Span &h, const Span &v, Fetch fetch) {
    auto sum = real(fetch(h.first, v.first)) * 0.0f;
    for (i32 y = v.first; y <= v.last; y++) {
        auto row = real(fetch(h.first, y)) * h.lead;
        for (i32 x = h.first + 1; x <= h.last; x++) row = row + real(fetch(x, y)) * h.weight(x);
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

    MEMBER Samples packed_chroma(i32 x, i32 y) const {
        const u32 quad = byte_quad(0, x, y) >> (frame.order == 0 ? 8 : 0);
        return {0, quad & 255, quad >> 16 & 255};
    }

    MEMBER Samples byte_triple(i32 x, i32 y) const {
        const u64 address = row(0, y) + 3 * x;
        return {load_u8(address), load_u8(address + 1), load_u8(address + 2)};
    }
};

// Planes as textures with one channel for each sample that lies at the same place: Y; U and V; R, G, B and A.
// 4:2:2 packed frames are textures of the frame's width, luma and one chroma sample at each place.
// The frame may begin within them, at even columns and rows.
template <typename Described> struct Textures {
    const Described &frame;
    i32 first_column = 0, first_row = 0;

    // Planes besides the first have half as many columns and rows.
    MEMBER Texel texel(u32 plane, i32 x, i32 y) const {
        const u32 shift = plane == 0 ? 0 : 1;
        return load_texel(frame.planes[plane], x + (first_column >> shift), y + (first_row >> shift));
    }

    MEMBER u32 byte(u32 plane, i32 x, i32 y) const { return texel(plane, x, y).x; }
    MEMBER u32 word(u32 plane, i32 x, i32 y) const { return byte(plane, x, y); }

    MEMBER u32 byte_pair(u32 plane, i32 x, i32 y) const {
        const Texel pair = texel(plane, x, y);
        return pair.x | pair.y << 8;
    }

    MEMBER u32 word_pair(u32 plane, i32 x, i32 y) const {
        const Texel pair = texel(plane, x, y);
        return pair.x | pair.y << 16;
    }

    MEMBER u32 byte_quad(u32 plane, i32 x, i32 y) const {
        const Texel quad = texel(plane, x, y);
        return quad.x | quad.y << 8 | quad.z << 16 | quad.w << 24;
    }

    MEMBER u32 packed_luma(i32 x, i32 y) const {
        const Texel luma = texel(0, x, y);
        return frame.order == 0 ? luma.x : luma.y;
    }

    MEMBER Samples packed_chroma(i32 x, i32 y) const {
        const Texel u = texel(0, 2 * x, y), v = texel(0, 2 * x + 1, y);
        return {0, frame.order == 0 ? u.y : u.x, frame.order == 0 ? v.y : v.x};
    }

    MEMBER Samples byte_triple(i32 x, i32 y) const {
        const Texel triple = texel(0, x, y);
        return {triple.x, triple.y, triple.z};
    }
};

DEVICE Span span(const Frame &frame, FrameFlags averaged, Position at, u32 size) {
    return frame.flags & averaged ? all_under(at, size) : nearest_two(at, size);
}

// One sample, or those of R, G, B, at a pixel of the picture.
template <bool AVERAGE, bool TEN_BITS, typename Fetch>
DEVICE auto sample_full(const Frame &frame, i32 x, i32 y, Fetch fetch) {
    if (AVERAGE)
        return average(span(frame, AVERAGE_X, position(x, frame.width, frame.placed_width), frame.width),
                       span(frame, AVERAGE_Y, position(y, frame.height, frame.placed_height), frame.height), fetch);
    return real(interpolate<TEN_BITS>(taps_of_column(coordinate(x, frame.scale_x, 0.5f), frame.width),
                                      taps_of_row(coordinate(y, frame.scale_y, 0.5f), frame.height), fetch));
}

// U and V, as y and z.
template <bool AVERAGE, bool TEN_BITS, typename Fetch>
DEVICE Vector sample_chroma(const Frame &frame, i32 x, i32 y, bool half_height, Fetch fetch) {
    const u32 width = (frame.width + 1) / 2, height = half_height ? (frame.height + 1) / 2 : frame.height;
    if (AVERAGE) {
        const Position at_x = position(x, frame.width, frame.placed_width);
        const Position at_y = position(y, frame.height, frame.placed_height);
        return average(span(frame, AVERAGE_X, halved(at_x, 0.0f), width),
                       span(frame, AVERAGE_Y, half_height ? halved(at_y, 0.5f) : at_y, height), fetch);
    }
    // Halving takes no bit.
    const float at_x = coordinate(x, frame.scale_x, 0.5f) * 0.5f;
    const float at_y =
        half_height ? coordinate(y, frame.scale_y, 1.0f) * 0.5f : coordinate(y, frame.scale_y, 0.5f);
    return real(interpolate<TEN_BITS>(taps_of_column(at_x, width), taps_of_row(at_y, height), fetch));
}

template <bool AVERAGE, bool TEN_BITS, typename Luma, typename Chroma>
DEVICE Vector sample_yuv(const Frame &frame, i32 x, i32 y, bool half_height, Luma luma, Chroma chroma) {
    Vector yuv = sample_chroma<AVERAGE, TEN_BITS>(frame, x, y, half_height, chroma);
    yuv.x = sample_full<AVERAGE, TEN_BITS>(frame, x, y, luma);
    return yuv;
}

DEVICE float limited(float color) { return clamp(color, 0.0f, 255.0f); }

// Each operation is rounded, in this order, as on the CPU.
DEVICE Vector rgb_from_yuv(const Frame &frame, Vector yuv) {
    const float luma = frame.luma * yuv.x;
    return {limited(luma + frame.red_v * yuv.z + frame.offset[0]),
            limited(luma + frame.green_u * yuv.y + frame.green_v * yuv.z + frame.offset[1]),
            limited(luma + frame.blue_u * yuv.y + frame.offset[2])};
}

DEVICE Vector reversed(Vector v) { return {v.z, v.y, v.x}; }

// The upper ten bits of a word.
DEVICE u32 ten_bits(u32 word) { return word >> 6 & 1023; }

template <bool AVERAGE, typename Planes>
DEVICE Vector sample_rgb(const Frame &frame, const Planes &planes, i32 x, i32 y) {
    auto luma = [&](i32 x, i32 y) { return planes.byte(0, x, y); };
    Vector yuv;
    switch (frame.layout) {
    case SEMI_PLANAR:
        yuv = sample_yuv<AVERAGE, false>(frame, x, y, true, luma, [&](i32 x, i32 y) {
            const u32 pair = planes.byte_pair(1, x, y);
            return Samples{0, pair & 255, pair >> 8};
        });
        if (frame.order == 1) yuv = {yuv.x, yuv.z, yuv.y};
        return rgb_from_yuv(frame, yuv);
    case PLANAR:
        yuv = sample_yuv<AVERAGE, false>(frame, x, y, true, luma, [&](i32 x, i32 y) {
            return Samples{0, planes.byte(1, x, y), planes.byte(2, x, y)};
        });
        return rgb_from_yuv(frame, yuv);
    case P010:
        yuv = sample_yuv<AVERAGE, true>(
            frame, x, y, true, [&](i32 x, i32 y) { return ten_bits(planes.word(0, x, y)); },
            [&](i32 x, i32 y) {
                const u32 pair = planes.word_pair(1, x, y);
                return Samples{0, ten_bits(pair), ten_bits(pair >> 16)};
            });
        // The colour transform takes words with the ten bits in their upper part.
        return rgb_from_yuv(frame, yuv * 64.0f);
    case PACKED_422:
        yuv = sample_yuv<AVERAGE, false>(
            frame, x, y, false, [&](i32 x, i32 y) { return planes.packed_luma(x, y); },
            [&](i32 x, i32 y) { return planes.packed_chroma(x, y); });
        return rgb_from_yuv(frame, yuv);
    case RGB_24: {
        const Vector rgb =
            sample_full<AVERAGE, false>(frame, x, y, [&](i32 x, i32 y) { return planes.byte_triple(x, y); });
        return frame.order == 0 ? rgb : reversed(rgb);
    }
    case RGB_32: {
        const u32 red = frame.order & 255, green = frame.order >> 8 & 255, blue = frame.order >> 16 & 255;
        return sample_full<AVERAGE, false>(frame, x, y, [&](i32 x, i32 y) {
            const u32 quad = planes.byte_quad(0, x, y);
            return Samples{quad >> red & 255, quad >> green & 255, quad >> blue & 255};
        });
    }
    default: {
        const float gray = limited(frame.luma * sample_full<AVERAGE, false>(frame, x, y, luma) + frame.offset[0]);
        return {gray, gray, gray};
    }
    }
}

template <typename Planes>
DEVICE Vector sample_frame(const Frame &frame, const Planes &planes, i32 x, i32 y) {
    return frame.flags & (AVERAGE_X | AVERAGE_Y) ? sample_rgb<true>(frame, planes, x, y)
                                                 : sample_rgb<false>(frame, planes, x, y);
}

DEVICE void write(const Target &target, u64 index, float value) {
    switch (target.element) {
    case F32: store_f32(target.data + 4 * index, value); break;
    case F16: store_u16(target.data + 2 * index, f16_bits(value)); break;
    case I8: store_u8(target.data + index, u32(i32(__builtin_rintf(clamp(value, -128.0f, 127.0f)))) & 255); break;
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
    Vector rgb = {target.fill, target.fill, target.fill};
    if (placed_x >= 0 && placed_x < i32(frame.placed_width) && placed_y >= 0 && placed_y < i32(frame.placed_height))
        rgb = frame.flags & TEXTURES ? sample_frame(frame, Textures<Frame>{frame, frame.first_column, frame.first_row},
                                                    placed_x, placed_y)
                                     : sample_frame(frame, Linear<Frame>{frame}, placed_x, placed_y);
    const Vector ordered = target.bgr ? reversed(rgb) : rgb;
    const u64 index = u64(frame.slot) * target.slot_stride + u64(y) * target.row_stride + u64(x) * target.pixel_stride;
    write(target, index, (ordered.x - target.mean[0]) * target.scale[0]);
    write(target, index + target.channel_stride, (ordered.y - target.mean[1]) * target.scale[1]);
    write(target, index + 2 * u64(target.channel_stride), (ordered.z - target.mean[2]) * target.scale[2]);
}
