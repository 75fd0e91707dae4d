// Crops: rectangles of frames, as they are or in another size and format, all of one frame in one launch. The rules
// are those of src/crop/mod.rs; the structs are those of src/crop/cuda.rs.
#pragma once

#include "preprocess.cuh"

// Where samples lie; as in `Frame`.
struct CropPlanes {
    u64 planes[3];
    u32 pitches[3];
    u32 layout;
    u32 order;
    u32 width, height;
};

enum CropFlags : u32 {
    FROM_TEXTURES = 1, // the source's planes are texture objects
    COPY = 2,          // samples stay as they are
    // Which components of the source count in the target's grid of pixels, and in its grid of chroma.
    LUMA_IN_PIXELS = 4,
    CHROMA_IN_PIXELS = 8,
    LUMA_IN_CHROMA = 16,
    CHROMA_IN_CHROMA = 32,
};

struct CropJob {
    CropPlanes source;
    CropPlanes target;
    u32 flags;
    // The rectangle's first pixel in the source; its size is that of `source`.
    u32 left, top;
    // The rectangle's picture in the target.
    u32 picture_left, picture_top, picture_width, picture_height;
    // Tiles in a row of the target.
    u32 columns;
    // target = clamp(matrix * source + offset, 0, 255) * scale, component by component
    float matrix[9];
    float offset[3];
    float scale;
    // What is around the picture.
    float black[3];
};

static_assert(sizeof(CropJob) == 208, "crop/cuda.rs has another one");

struct CropLaunch {
    const CropJob *jobs;
    // The first tile of each job, and one behind the last of all.
    const u32 *first_tiles;
    u32 count;
    u32 tiles;
};

static const u32 CROP_WIDTH = 64, CROP_HEIGHT = 16, CROP_THREADS = 256;
// Rows of a tile, then those that lie between every two of them.
static const u32 CROP_ROWS = CROP_HEIGHT + CROP_HEIGHT / 2;

// Where the columns and rows of a tile lie in the source: in its grid of pixels, and in that of its chroma.
struct CropTaps {
    Taps columns[CROP_WIDTH][2];
    Taps rows[CROP_ROWS][2];
};

// `pixel` is counted from the picture's edge; chroma begins at `first` of the source's pixels.
DEVICE float place_at(double pixel, u32 source, u32 picture, bool chroma, double first) {
    const double at = (pixel + 0.5) * double(source) / double(picture) - 0.5;
    return float(chroma ? (at - first) / 2.0 : at);
}

DEVICE u32 samples_of(u32 pixels, bool chroma) { return chroma ? (pixels + 1) / 2 : pixels; }

// Fills in one of the taps; `i` counts them all.
DEVICE void find_tap(const CropJob &job, CropTaps &taps, u32 tile_x, u32 tile_y, u32 i) {
    const bool chroma = i % 2 == 1;
    const u32 place = i / 2;
    if (place < CROP_WIDTH) {
        const double pixel = double(i32(tile_x + place) - i32(job.picture_left));
        const float at = place_at(pixel, job.source.width, job.picture_width, chroma, 0.0);
        taps.columns[place][chroma] = taps_of_column(at, samples_of(job.source.width, chroma));
    } else if (place < CROP_WIDTH + CROP_ROWS) {
        const u32 row = place - CROP_WIDTH, between = row - CROP_HEIGHT;
        const bool is_between = row >= CROP_HEIGHT;
        const u32 whole = tile_y + (is_between ? 2 * between : row);
        const double pixel = double(i32(whole) - i32(job.picture_top)) + (is_between ? 0.5 : 0.0);
        const float at = place_at(pixel, job.source.height, job.picture_height, chroma, 0.5);
        taps.rows[row][chroma] = taps_of_row(at, samples_of(job.source.height, chroma));
    }
}

template <typename Planes> DEVICE u32 crop_luma(const CropJob &job, const Planes &planes, u32 x, u32 y) {
    switch (job.source.layout) {
    case P010: return ten_bits(planes.word(0, x, y));
    case PACKED_422: return planes.packed_luma(x, y);
    default: return planes.byte(0, x, y);
    }
}

template <typename Planes> DEVICE Samples crop_chroma(const CropJob &job, const Planes &planes, u32 x, u32 y) {
    switch (job.source.layout) {
    case SEMI_PLANAR: {
        const u32 pair = planes.byte_pair(1, x, y), first = pair & 255, second = pair >> 8;
        return job.source.order == 0 ? Samples{0, first, second} : Samples{0, second, first};
    }
    case P010: {
        const u32 pair = planes.word_pair(1, x, y);
        return {0, ten_bits(pair), ten_bits(pair >> 16)};
    }
    case PACKED_422: return planes.packed_chroma(x, y);
    default: return {0, planes.byte(1, x, y), planes.byte(2, x, y)};
    }
}

template <typename Planes> DEVICE Samples crop_rgb(const CropJob &job, const Planes &planes, u32 x, u32 y) {
    const u32 order = job.source.order;
    if (job.source.layout == RGB_24) {
        const Samples triple = planes.byte_triple(x, y);
        return order == 0 ? triple : Samples{triple.z, triple.y, triple.x};
    }
    const u32 quad = planes.byte_quad(0, x, y);
    return {quad >> (order & 255) & 255, quad >> (order >> 8 & 255) & 255, quad >> (order >> 16 & 255) & 255};
}

// The components of the source between samples; those that do not count are 0.
template <bool TEN_BITS, typename Planes>
DEVICE Vector crop_yuv(const CropJob &job, const Planes &planes, const Taps *x, const Taps *y, bool luma, bool chroma) {
    Vector sample = {0.0f, 0.0f, 0.0f};
    const bool half_height = job.source.layout != PACKED_422;
    if (chroma)
        sample = real(interpolate<TEN_BITS>(x[1], y[half_height], [&](i32 x, i32 y) {
            return crop_chroma(job, planes, x + job.left / 2, y + (half_height ? job.top / 2 : job.top));
        }));
    if (luma)
        sample.x = real(interpolate<TEN_BITS>(x[0], y[0], [&](i32 x, i32 y) {
            return crop_luma(job, planes, x + job.left, y + job.top);
        }));
    // The colour transform takes words with the ten bits in their upper part.
    return TEN_BITS ? sample * 64.0f : sample;
}

template <typename Planes>
DEVICE Vector crop_sample(const CropJob &job, const Planes &planes, const Taps *x, const Taps *y, bool luma, bool chroma) {
    const u32 layout = job.source.layout;
    if (layout == RGB_24 || layout == RGB_32)
        return real(interpolate<false>(x[0], y[0], [&](i32 x, i32 y) {
            return crop_rgb(job, planes, x + job.left, y + job.top);
        }));
    return layout == P010 ? crop_yuv<true>(job, planes, x, y, luma, chroma)
                          : crop_yuv<false>(job, planes, x, y, luma, chroma);
}

DEVICE float finished(const CropJob &job, Vector sample, u32 component) {
    const float *row = job.matrix + 3 * component;
    const float sum = added(added(multiplied(row[0], sample.x), multiplied(row[1], sample.y)), multiplied(row[2], sample.z));
    return multiplied(clamp(added(sum, job.offset[component]), 0.0f, 255.0f), job.scale);
}

DEVICE u32 nearest(float value, float peak) { return u32(__builtin_rintf(clamp(value, 0.0f, peak))); }

// Three stored values, and where they belong: a pixel, or the chroma of a pixel and its neighbours.
struct CropValues {
    u32 first, second, third;
};

DEVICE void store_bytes(u64 address, u32 first, u32 second, u32 third) {
    store_u8(address, first);
    store_u8(address + 1, second);
    store_u8(address + 2, third);
}

DEVICE void store_pixel(const CropPlanes &target, u32 x, u32 y, CropValues values) {
    const u64 row = target.planes[0] + u64(y) * target.pitches[0];
    switch (target.layout) {
    case P010: store_u16(row + 2 * x, values.first); break;
    case PACKED_422: store_u8(row + 2 * x + target.order, values.first); break;
    case RGB_24:
        if (target.order == 0)
            store_bytes(row + 3 * x, values.first, values.second, values.third);
        else
            store_bytes(row + 3 * x, values.third, values.second, values.first);
        break;
    case RGB_32: {
        const u32 red = target.order & 255, green = target.order >> 8 & 255, blue = target.order >> 16 & 255;
        const u32 others = ~(255u << red | 255u << green | 255u << blue);
        store_u32(row + 4 * x, others | values.first << red | values.second << green | values.third << blue);
        break;
    }
    default: store_u8(row + x, values.first); break;
    }
}

// `x` and `y` are those of the first pixel that shares the chroma.
DEVICE void store_chroma(const CropPlanes &target, u32 x, u32 y, u32 u, u32 v) {
    const u32 half_x = x / 2, half_y = y / 2;
    switch (target.layout) {
    case SEMI_PLANAR:
        store_u16(target.planes[1] + u64(half_y) * target.pitches[1] + 2 * half_x,
                  target.order == 0 ? u | v << 8 : v | u << 8);
        break;
    case P010: store_u32(target.planes[1] + u64(half_y) * target.pitches[1] + 4 * half_x, u | v << 16); break;
    case PACKED_422: {
        const u64 quad = target.planes[0] + u64(y) * target.pitches[0] + 4 * half_x + (target.order ^ 1);
        store_u8(quad, u);
        store_u8(quad + 2, v);
        break;
    }
    default:
        store_u8(target.planes[1] + u64(half_y) * target.pitches[1] + half_x, u);
        store_u8(target.planes[2] + u64(half_y) * target.pitches[2] + half_x, v);
        break;
    }
}

// One pixel, or its chroma, as the frame stores it, for a target of the same format.
template <typename Planes>
DEVICE void copy_place(const CropJob &job, const Planes &planes, u32 x, u32 y, bool chroma) {
    const CropPlanes &target = job.target;
    const u32 from_x = x + job.left, from_y = y + job.top, half_x = from_x / 2, half_y = from_y / 2;
    const u64 row = target.planes[0] + u64(y) * target.pitches[0];
    switch (target.layout) {
    case SEMI_PLANAR:
        if (chroma)
            store_u16(target.planes[1] + u64(y / 2) * target.pitches[1] + x, planes.byte_pair(1, half_x, half_y));
        else
            store_u8(row + x, planes.byte(0, from_x, from_y));
        break;
    case PLANAR:
        if (chroma)
            store_chroma(target, x, y, planes.byte(1, half_x, half_y), planes.byte(2, half_x, half_y));
        else
            store_u8(row + x, planes.byte(0, from_x, from_y));
        break;
    case P010:
        if (chroma)
            store_u32(target.planes[1] + u64(y / 2) * target.pitches[1] + 2 * x, planes.word_pair(1, half_x, half_y));
        else
            store_u16(row + 2 * x, planes.word(0, from_x, from_y));
        break;
    case PACKED_422:
        if (chroma) {
            const Vector sample = real(planes.packed_chroma(half_x, from_y));
            store_chroma(target, x, y, u32(sample.y), u32(sample.z));
        } else {
            store_u8(row + 2 * x + target.order, planes.packed_luma(from_x, from_y));
        }
        break;
    case RGB_24: {
        const Vector triple = real(planes.byte_triple(from_x, from_y));
        store_bytes(row + 3 * x, u32(triple.x), u32(triple.y), u32(triple.z));
        break;
    }
    case RGB_32: store_u32(row + 4 * x, planes.byte_quad(0, from_x, from_y)); break;
    default: store_u8(row + x, planes.byte(0, from_x, from_y)); break;
    }
}

template <typename Planes>
DEVICE void render_place(const CropJob &job, const CropTaps &taps, const Planes &planes, u32 tile_x, u32 tile_y, u32 x,
                         u32 y, bool chroma) {
    const CropPlanes &target = job.target;
    const u32 shown_x = x - job.picture_left, shown_y = y - job.picture_top;
    float first = job.black[0], second = job.black[1], third = job.black[2];
    // Chroma is the picture's where its first pixel is: the picture begins with a whole sample.
    if (shown_x < job.picture_width && shown_y < job.picture_height) {
        const bool luma = job.flags & (chroma ? LUMA_IN_CHROMA : LUMA_IN_PIXELS);
        const bool colour = job.flags & (chroma ? CHROMA_IN_CHROMA : CHROMA_IN_PIXELS);
        const bool is_between = chroma && target.layout != PACKED_422;
        const u32 row = is_between ? CROP_HEIGHT + (y - tile_y) / 2 : y - tile_y;
        const Vector sample = crop_sample(job, planes, taps.columns[x - tile_x], taps.rows[row], luma, colour);
        first = finished(job, sample, 0);
        second = finished(job, sample, 1);
        third = finished(job, sample, 2);
    }
    const bool ten_bits = target.layout == P010;
    const float peak = ten_bits ? 1023.0f : 255.0f;
    const u32 shift = ten_bits ? 6 : 0;
    const CropValues values = {nearest(first, peak) << shift, nearest(second, peak) << shift,
                               nearest(third, peak) << shift};
    if (chroma)
        store_chroma(target, x, y, values.second, values.third);
    else
        store_pixel(target, x, y, values);
}

// The four pixels of a square and the chroma that they share, once or row by row.
template <typename Planes>
DEVICE void cut_square(const CropJob &job, const CropTaps &taps, const Planes &planes, u32 tile_x, u32 tile_y, u32 x,
                       u32 y) {
    const u32 layout = job.target.layout;
    const bool packed = layout == PACKED_422, yuv = layout <= PACKED_422;
    const u32 places = packed ? 6 : yuv ? 5 : 4;
    // Rows of packed pixels end with a whole pair.
    const u32 width = packed ? (job.target.width + 1) / 2 * 2 : job.target.width;
    for (u32 i = 0; i < places; i++) {
        const bool chroma = i >= 4;
        const u32 at_x = chroma ? x : x + i % 2, at_y = y + (chroma ? i - 4 : i / 2);
        if (at_x >= width || at_y >= job.target.height) continue;
        if (job.flags & COPY)
            copy_place(job, planes, at_x, at_y, chroma);
        else
            render_place(job, taps, planes, tile_x, tile_y, at_x, at_y, chroma);
    }
}

typedef u32 __attribute__((may_alias)) JobWord;

// Blocks of 64x16 pixels of a target, one thread for each square of 2x2.
KERNEL(CROP_THREADS) crop(CropLaunch launch) {
    SHARED static CropJob job;
    SHARED static CropTaps taps;
    SHARED static u32 index;
    const u32 block = block_index().x, thread = thread_index().x;
    for (u32 i = thread; i < launch.count; i += CROP_THREADS)
        if (launch.first_tiles[i] <= block && block < launch.first_tiles[i + 1]) index = i;
    wait_for_block();
    if (thread < sizeof(CropJob) / sizeof(u32))
        ((JobWord *)&job)[thread] = ((const JobWord *)(launch.jobs + index))[thread];
    const u32 tile = block - launch.first_tiles[index];
    wait_for_block();
    const u32 tile_x = tile % job.columns * CROP_WIDTH, tile_y = tile / job.columns * CROP_HEIGHT;
    find_tap(job, taps, tile_x, tile_y, thread);
    wait_for_block();
    const u32 x = tile_x + thread % 32 * 2, y = tile_y + thread / 32 * 2;
    if (job.flags & FROM_TEXTURES)
        cut_square(job, taps, Textures<CropPlanes>{job.source}, tile_x, tile_y, x, y);
    else
        cut_square(job, taps, Linear<CropPlanes>{job.source}, tile_x, tile_y, x, y);
}
