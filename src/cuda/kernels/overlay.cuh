// Draws rectangles and masks into a frame, in place. Integer arithmetic, so that every renderer draws the same
// picture; the structs are those of src/overlay/draw.rs.
#pragma once

#include "preprocess.cuh"

static const u32 NO_MASK = ~0u;

// A rectangle of pixels of the frame, or of a mask's squares of `scale` pixels. It may reach over the edges.
struct Primitive {
    i32 left, top;
    u32 width, height;
    u32 scale;
    // The first of the mask's rows of 16 bits, whose lowest is the leftmost.
    u32 mask;
    u32 alpha;
    // Y, U, V or R, G, B as the frame stores them; 10 bits for P010.
    u16 values[3];
    u16 reserved;
};

struct Canvas {
    u64 planes[3];
    u32 pitches[3];
    // As in `Frame`; `order` has in its highest byte the place of the alpha byte plus 1, 0 if there is none.
    u32 layout;
    u32 order;
    u32 width, height;
    u32 count;
    const Primitive *primitives;
    const u16 *masks;
};

// One stored value, and which of the four pixels of a square of 2x2 it stands for.
struct Sample {
    u64 address;
    u32 pixels;
    // Index of its value in `Primitive::values`; 3 for alpha.
    u32 channel;
};

static const u32 TILE_WIDTH = 64, TILE_HEIGHT = 16, OVERLAY_THREADS = 256, PRIMITIVES_AT_ONCE = 1024;

DEVICE u32 samples_in_square(u32 layout) {
    switch (layout) {
    case PACKED_422: return 8;
    case RGB_24: return 12;
    case RGB_32: return 16;
    case GRAY: return 4;
    default: return 6;
    }
}

DEVICE Sample sample_of_pixel(const Canvas &canvas, u32 pixel, u32 x, u32 y, u32 pixel_bytes, u32 offset, u32 channel) {
    const u64 row = canvas.planes[0] + u64(y + pixel / 2) * canvas.pitches[0];
    return {row + (x + pixel % 2) * pixel_bytes + offset, 1u << pixel, channel};
}

// The sample number `i` of the square whose first pixel is at x, y, both even.
DEVICE Sample sample_in_square(const Canvas &canvas, u32 i, u32 x, u32 y) {
    const bool luma = i < 4;
    const u32 chroma = i - 4, half_x = x / 2, half_y = y / 2;
    switch (canvas.layout) {
    case SEMI_PLANAR:
        if (luma) return sample_of_pixel(canvas, i, x, y, 1, 0, 0);
        return {canvas.planes[1] + u64(half_y) * canvas.pitches[1] + 2 * half_x + (chroma ^ canvas.order), 15, 1 + chroma};
    case PLANAR:
        if (luma) return sample_of_pixel(canvas, i, x, y, 1, 0, 0);
        return {canvas.planes[1 + chroma] + u64(half_y) * canvas.pitches[1 + chroma] + half_x, 15, 1 + chroma};
    case P010:
        if (luma) return sample_of_pixel(canvas, i, x, y, 2, 0, 0);
        return {canvas.planes[1] + u64(half_y) * canvas.pitches[1] + 4 * half_x + 2 * chroma, 15, 1 + chroma};
    case PACKED_422: {
        if (luma) return sample_of_pixel(canvas, i, x, y, 2, canvas.order, 0);
        const u32 row = chroma / 2, component = chroma % 2;
        const u64 address = canvas.planes[0] + u64(y + row) * canvas.pitches[0] + 4 * half_x;
        return {address + 2 * component + (canvas.order ^ 1), 3u << 2 * row, 1 + component};
    }
    case RGB_24: return sample_of_pixel(canvas, i / 3, x, y, 3, canvas.order ? 2 - i % 3 : i % 3, i % 3);
    case RGB_32: {
        const u32 channel = i % 4, place = canvas.order >> 8 * channel & 255;
        // The places of colours are in bits.
        if (channel < 3) return sample_of_pixel(canvas, i / 4, x, y, 4, place / 8, channel);
        Sample alpha = sample_of_pixel(canvas, i / 4, x, y, 4, place - 1, 3);
        if (place == 0) alpha.pixels = 0;
        return alpha;
    }
    default: return sample_of_pixel(canvas, i, x, y, 1, 0, 0);
    }
}

// Which of a square's pixels a primitive covers.
DEVICE u32 covered_pixels(const Primitive &primitive, const u16 *masks, u32 x, u32 y, u32 pixels) {
    u32 covered = 0;
    for (u32 i = 0; i < 4; i++) {
        const u32 column = x + i % 2 - u32(primitive.left), row = y + i / 2 - u32(primitive.top);
        if (!(pixels >> i & 1) || column >= primitive.width || row >= primitive.height) continue;
        const bool set = primitive.mask == NO_MASK ||
                         (masks[primitive.mask + row / primitive.scale] >> column / primitive.scale & 1);
        covered |= u32(set) << i;
    }
    return covered;
}

DEVICE u32 blended(u32 old, u32 value, u32 opacity) { return (old * (255 - opacity) + value * opacity + 127) / 255; }

DEVICE bool touches(const Primitive &primitive, u32 x, u32 y) {
    const long long left = primitive.left, top = primitive.top;
    return left < x + TILE_WIDTH && left + primitive.width > x && top < y + TILE_HEIGHT && top + primitive.height > y;
}

// The primitives that touch a block: bit j of word i stands for the primitive `first` + 32 * i + j.
struct Chosen {
    u32 bits[PRIMITIVES_AT_ONCE / 32];
    u32 any;
};

// Draws the chosen ones of `count` primitives from `first` on, in their order, over one sample.
DEVICE void draw_sample(const Canvas &canvas, const Chosen &chosen, u32 first, u32 count, u32 inside, u32 x, u32 y,
                        Sample sample) {
    sample.pixels &= inside;
    const u32 pixels = u32(__builtin_popcount(sample.pixels));
    if (pixels == 0) return;
    const bool ten_bits = canvas.layout == P010;
    u32 value = ten_bits ? *(const u16 *)sample.address >> 6 : *(const u8 *)sample.address;
    bool drawn = false;
    for (u32 word = 0; word * 32 < count; word++) {
        for (u32 left = chosen.bits[word]; left != 0; left &= left - 1) {
            const Primitive &primitive = canvas.primitives[first + word * 32 + u32(__builtin_ctz(left))];
            const u32 covered = covered_pixels(primitive, canvas.masks, x, y, sample.pixels);
            const u32 opacity = (primitive.alpha * u32(__builtin_popcount(covered)) + pixels / 2) / pixels;
            if (opacity == 0) continue;
            value = blended(value, sample.channel < 3 ? primitive.values[sample.channel] : 255, opacity);
            drawn = true;
        }
    }
    if (!drawn) return;
    if (ten_bits)
        store_u16(sample.address, value << 6);
    else
        store_u8(sample.address, value);
}

// Blocks of 64x16 pixels, one thread for each square of 2x2, which shares chroma. A block without anything to
// draw only looks at the primitives.
KERNEL(OVERLAY_THREADS) overlay(Canvas canvas) {
    SHARED static Chosen chosen;
    const u32 thread = thread_index().x;
    const u32 tile_x = block_index().x * TILE_WIDTH, tile_y = block_index().y * TILE_HEIGHT;
    const u32 x = tile_x + thread % 32 * 2, y = tile_y + thread / 32 * 2;
    u32 inside = 0;
    for (u32 i = 0; i < 4; i++) inside |= u32(x + i % 2 < canvas.width && y + i / 2 < canvas.height) << i;

    for (u32 first = 0; first < canvas.count; first += PRIMITIVES_AT_ONCE) {
        if (thread < PRIMITIVES_AT_ONCE / 32) chosen.bits[thread] = 0;
        if (thread == 0) chosen.any = 0;
        wait_for_block();
        const u32 count = smaller(PRIMITIVES_AT_ONCE, canvas.count - first);
        for (u32 i = thread; i < count; i += OVERLAY_THREADS) {
            if (!touches(canvas.primitives[first + i], tile_x, tile_y)) continue;
            set_bits(&chosen.bits[i / 32], 1u << i % 32);
            set_bits(&chosen.any, 1);
        }
        wait_for_block();
        if (inside != 0 && chosen.any != 0)
            for (u32 i = 0; i < samples_in_square(canvas.layout); i++)
                draw_sample(canvas, chosen, first, count, inside, x, y, sample_in_square(canvas, i, x, y));
        wait_for_block();
    }
}
