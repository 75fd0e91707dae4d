// Small grey pictures of frames and of parts of them. The rules are those of src/thumbnail/mod.rs, in whole numbers;
// the structs are those of src/thumbnail/cuda.rs.
#pragma once

#include "preprocess.cuh"

// What is read of a frame, and how its pixels become levels.
struct ThumbnailFrame {
    // Luma, or all that there is of a pixel.
    u64 plane;
    u32 pitch;
    // As in `Frame`; `order` has in its highest byte the place of the alpha byte plus 1, 0 if alpha does not count.
    u32 layout;
    u32 order;
    u32 textures;
    // Of luma samples.
    u32 black, span;
    // Of red, green and blue, in a byte each from the lowest.
    u32 weights;
    // The level of white.
    u32 highest;
};

struct ThumbnailArea {
    u16 left, top, width, height;
    // Of the launch, the first block for this area.
    u32 first_block;
    u16 frame;
    // Warps that share each cell, at most 255.
    u16 slices;
};

static const u32 THUMBNAIL_FRAMES = 32, THUMBNAIL_AREAS = 128;

struct ThumbnailBatch {
    // For each cell of each area a number that is 0 between launches, and its byte.
    u64 *sums;
    u64 cells;
    u32 side;
    u32 count;
    ThumbnailFrame frames[THUMBNAIL_FRAMES];
    ThumbnailArea areas[THUMBNAIL_AREAS];
};

// In a number of `sums`, the bits below count levels, those above warps that are done: levels of a picture of 65535 x
// 65535 pixels fit.
static const u32 LEVEL_BITS = 56;

static const u32 WARPS = 8;

// The pixels of one axis that a cell covers. Lengths are in units of 1 / side of a pixel.
struct Covered {
    u32 begin, end;
    u32 first, last;
    u32 count;
    u32 side;

    MEMBER u32 length(u32 pixel) const {
        const u32 from = pixel * side, to = from + side;
        return smaller(to, end) - (from < begin ? begin : from);
    }
};

DEVICE Covered covered(u32 cell, u32 side, u32 length) {
    const u32 begin = cell * length, end = begin + length, first = begin / side, last = (end - 1) / side;
    return {begin, end, first, last, last - first + 1, side};
}

// The area that a block works on: the last one that does not begin behind it.
DEVICE u32 thumbnail_area(const ThumbnailBatch &batch, u32 block) {
    u32 low = 0, high = batch.count;
    while (high - low > 1) {
        const u32 middle = (low + high) / 2;
        if (batch.areas[middle].first_block <= block)
            low = middle;
        else
            high = middle;
    }
    return low;
}

// Rows of which a thread reads a pixel each before it needs the first: reads take long, so several are under way.
static const u32 ROWS_AT_ONCE = 4;

// A warp's part of the sum of a cell's levels times the areas that they cover. Where a cell is narrow, the warp's
// threads lie below each other as well as beside.
template <typename Level>
DEVICE u64 thumbnail_sum(const ThumbnailArea &area, Covered columns, Covered rows, u32 slice, u32 lane, Level level) {
    u32 beside = 32;
    while (beside / 2 >= columns.count) beside /= 2;
    const u32 below = 32 / beside, step = ROWS_AT_ONCE * below;
    u64 sum = 0;
    for (u32 first = rows.first + slice * step + lane / beside; first <= rows.last; first += area.slices * step) {
        u32 y[ROWS_AT_ONCE], height[ROWS_AT_ONCE];
        for (u32 i = 0; i < ROWS_AT_ONCE; i++) {
            const u32 row = first + i * below;
            y[i] = smaller(row, rows.last);
            height[i] = row <= rows.last ? rows.length(row) : 0;
        }
        for (u32 x = columns.first + lane % beside; x <= columns.last; x += beside) {
            const u32 width = columns.length(x);
            u32 levels[ROWS_AT_ONCE];
            for (u32 i = 0; i < ROWS_AT_ONCE; i++) levels[i] = level(area.left + x, area.top + y[i]);
            for (u32 i = 0; i < ROWS_AT_ONCE; i++) sum += u64(levels[i]) * (width * height[i]);
        }
    }
    return sum;
}

DEVICE u32 luma_level(const ThumbnailFrame &frame, u32 sample) {
    return sample < frame.black ? 0 : smaller(sample - frame.black, frame.span);
}

DEVICE u32 grey_level(const ThumbnailFrame &frame, u32 red, u32 green, u32 blue) {
    return red * (frame.weights & 255) + green * (frame.weights >> 8 & 255) + blue * (frame.weights >> 16 & 255);
}

DEVICE u32 quad_level(const ThumbnailFrame &frame, u32 quad) {
    const u32 red = frame.order & 255, green = frame.order >> 8 & 255, blue = frame.order >> 16 & 255;
    const u32 alpha = frame.order >> 24;
    const u32 level = grey_level(frame, quad >> red & 255, quad >> green & 255, quad >> blue & 255);
    return alpha == 0 ? level : level * (quad >> 8 * (alpha - 1) & 255);
}

// By layout, so that what is the same for all pixels is decided once.
DEVICE u64 thumbnail_sum(const ThumbnailFrame &frame, const ThumbnailArea &area, Covered columns, Covered rows,
                         u32 slice, u32 lane) {
    auto sum = [&](auto level) { return thumbnail_sum(area, columns, rows, slice, lane, level); };
    auto row = [&](u32 y) { return frame.plane + u64(y) * frame.pitch; };
    auto texel = [&](u32 x, u32 y) { return load_texel(frame.plane, i32(x), i32(y)); };
    const u32 order = frame.order;
    if (frame.textures) switch (frame.layout) {
        case P010: return sum([&](u32 x, u32 y) { return luma_level(frame, texel(x, y).x >> 6); });
        case PACKED_422:
            return sum([&](u32 x, u32 y) {
                const Texel at = texel(x, y);
                return luma_level(frame, order == 0 ? at.x : at.y);
            });
        case RGB_24:
            return sum([&](u32 x, u32 y) {
                const Texel at = texel(x, y);
                return order == 0 ? grey_level(frame, at.x, at.y, at.z) : grey_level(frame, at.z, at.y, at.x);
            });
        case RGB_32:
            return sum([&](u32 x, u32 y) {
                const Texel at = texel(x, y);
                return quad_level(frame, at.x | at.y << 8 | at.z << 16 | at.w << 24);
            });
        default: return sum([&](u32 x, u32 y) { return luma_level(frame, texel(x, y).x); });
        }
    switch (frame.layout) {
    case P010: return sum([&](u32 x, u32 y) { return luma_level(frame, load_u16(row(y) + 2 * x) >> 6); });
    case PACKED_422: return sum([&](u32 x, u32 y) { return luma_level(frame, load_u8(row(y) + 2 * x + order)); });
    case RGB_24:
        return sum([&](u32 x, u32 y) {
            const u64 at = row(y) + 3 * x;
            const u32 first = load_u8(at), green = load_u8(at + 1), last = load_u8(at + 2);
            return order == 0 ? grey_level(frame, first, green, last) : grey_level(frame, last, green, first);
        });
    case RGB_32: return sum([&](u32 x, u32 y) { return quad_level(frame, load_u32(row(y) + 4 * x)); });
    default: return sum([&](u32 x, u32 y) { return luma_level(frame, load_u8(row(y) + x)); });
    }
}

// One warp for each slice of each cell of each area.
KERNEL(256) thumbnail(ThumbnailBatch batch) {
    const u32 block = block_index().x, thread = thread_index().x, lane = thread % 32;
    const u32 number = thumbnail_area(batch, block), side = batch.side;
    const ThumbnailArea &area = batch.areas[number];
    const ThumbnailFrame &frame = batch.frames[area.frame];
    const u32 task = (block - area.first_block) * WARPS + thread / 32;
    const u32 cell = task / area.slices, slice = task % area.slices;
    const bool busy = cell < side * side;
    u64 sum = 0;
    if (busy) {
        const Covered columns = covered(cell % side, side, area.width), rows = covered(cell / side, side, area.height);
        sum = thumbnail_sum(frame, area, columns, rows, slice, lane);
    }
    sum = warp_sum(sum);
    if (!busy || lane != 0) return;

    const u64 index = u64(number) * side * side + cell;
    if (area.slices > 1) {
        const u64 before = fetch_add(batch.sums + index, sum | u64(1) << LEVEL_BITS);
        if (before >> LEVEL_BITS != area.slices - 1u) return;
        batch.sums[index] = 0;
        sum += before & ((u64(1) << LEVEL_BITS) - 1);
    }
    const u64 white = u64(frame.highest) * area.width * area.height;
    store_u8(batch.cells + index, u32((255 * sum + white / 2) / white));
}
