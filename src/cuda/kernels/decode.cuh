// From a network's output tensors to the boxes that are left after non-maximum suppression. The rules are
// those of the decoders for the CPU; the structs are those of src/decode/cuda.rs.
#pragma once

#include "platform.cuh"

enum BoxFormat : u32 {
    CORNERS, // left, top, right, bottom
    CENTERS, // centre x, centre y, width, height
};

struct Box {
    float left, top, right, bottom;
};

// Where the values of a network's outputs lie, and where candidates are kept between the two kernels.
struct DecodeBatch {
    u64 boxes, scores;
    // 0 if the network returns none.
    u64 objectness;
    // Distances in elements: from image to image, from anchor to anchor, from value to value.
    u32 box_image, box_anchor, box_value;
    u32 score_image, score_anchor, score_class;
    u32 objectness_image, objectness_anchor;
    u32 anchors, classes;
    // The class of the first score.
    u32 first_class;
    u32 element;
    u32 box_format;
    // Pixels of the network's input for one unit of a box.
    float box_scale_x, box_scale_y;
    // `ImageRules` and behind each its thresholds, so many bytes apart.
    u32 rules_stride;
    u64 rules;
    // For each image: the number of candidates; for each candidate its key; for each anchor its box and class.
    Box *candidate_boxes;
    u64 *keys;
    u32 *candidate_classes;
    u32 *counts;
    // `Found`, so many bytes apart.
    u64 found;
    u32 found_stride;
    u32 capacity;
};

// What holds for one image. The thresholds of its classes lie behind it.
struct ImageRules {
    // The frame's place in the network's input, and pixels of the frame for one pixel of the input.
    float left, top, scale_x, scale_y;
    float frame_width, frame_height;
    float iou_threshold;
    // No threshold of a class is lower.
    float lowest_threshold;
    u32 max_detections;
    u32 reserved[3];
};

struct FoundBox {
    float x, y, width, height;
    float confidence;
    u32 class_id;
    u32 anchor;
};

// The result for one image. As many boxes follow as `capacity` says; `count` of them mean something.
struct Found {
    u32 count;
    // How many anchors passed their threshold.
    u32 candidates;
};

static const u32 DECODE_LANES = 8, DECODE_ANCHORS = 32;
static const u32 SUPPRESS_THREADS = 512;
// So many candidates of an image, those with the highest scores, take part in the suppression.
static const u32 MAX_CANDIDATES = 4096;
static const u32 MAX_DETECTIONS = 512;
static const u32 TILE = 64, TILE_LANES = SUPPRESS_THREADS / TILE;
static const u32 DIGIT_BITS = 11, DIGITS = 1 << DIGIT_BITS;

DEVICE float load_element(u64 base, u64 index, u32 element) {
    return element == F16 ? f16_value(load_u16(base + 2 * index)) : load_f32(base + 4 * index);
}

// As Placement::to_frame and BoundingBox::clipped_to of the Rust code.
DEVICE Box box_in_frame(const DecodeBatch &batch, const ImageRules &rules, u32 image, u32 anchor) {
    const u64 first = u64(image) * batch.box_image + u64(anchor) * batch.box_anchor;
    float value[4];
    for (u32 i = 0; i < 4; i++)
        value[i] = load_element(batch.boxes, first + i * batch.box_value, batch.element) *
                   (i % 2 == 0 ? batch.box_scale_x : batch.box_scale_y);
    const bool centers = batch.box_format == CENTERS;
    const float width = centers ? value[2] : maximum(value[2] - value[0], 0.0f);
    const float height = centers ? value[3] : maximum(value[3] - value[1], 0.0f);
    const float left = ((centers ? value[0] - width / 2.0f : value[0]) - rules.left) * rules.scale_x;
    const float top = ((centers ? value[1] - height / 2.0f : value[1]) - rules.top) * rules.scale_y;
    return {clamp(left, 0.0f, rules.frame_width), clamp(top, 0.0f, rules.frame_height),
            clamp(left + width * rules.scale_x, 0.0f, rules.frame_width),
            clamp(top + height * rules.scale_y, 0.0f, rules.frame_height)};
}

// Higher scores have higher keys; among equal scores lower anchors have. Scores are above 0.
DEVICE u64 candidate_key(float score, u32 anchor) {
    union {
        float value;
        u32 bits;
    } positive = {score};
    return u64(positive.bits) << 32 | u32(~anchor);
}

DEVICE u32 anchor_of(u64 key) { return ~u32(key); }

DEVICE float score_of(u64 key) {
    union {
        u32 bits;
        float value;
    } positive = {u32(key >> 32)};
    return positive.value;
}

struct DecodeMemory {
    float score[DECODE_LANES][DECODE_ANCHORS];
    u32 score_class[DECODE_LANES][DECODE_ANCHORS];
    u32 count, base;
};

// The best of every eighth class of an anchor.
DEVICE void scan_classes(const DecodeBatch &batch, float lowest_threshold, u32 image, u32 anchor, u32 lane,
                         float &best, u32 &best_class) {
    const u64 first = u64(image) * batch.score_image + u64(anchor) * batch.score_anchor;
    float objectness = 1.0f;
    if (batch.objectness) {
        const u64 index = u64(image) * batch.objectness_image + u64(anchor) * batch.objectness_anchor;
        objectness = load_element(batch.objectness, index, batch.element);
        // Class scores are probabilities, so that no product is above this.
        if (!(objectness > lowest_threshold)) return;
    }
    for (u32 c = lane; c < batch.classes; c += DECODE_LANES) {
        const float score = load_element(batch.scores, first + u64(c) * batch.score_class, batch.element) * objectness;
        if (score > best) {
            best = score;
            best_class = c;
        }
    }
}

// Blocks of 32 anchors of one image, eight threads for each anchor: those whose best class passes its
// threshold become candidates.
KERNEL(DECODE_LANES * DECODE_ANCHORS) decode(DecodeBatch batch) {
    SHARED static DecodeMemory memory;
    const u32 thread = thread_index().x, image = block_index().y, start = block_index().x * DECODE_ANCHORS;
    const u64 rules_address = batch.rules + u64(image) * batch.rules_stride;
    const ImageRules &rules = *(const ImageRules *)rules_address;

    // Neighbours in a warp read neighbours in memory.
    const bool anchors_adjacent = batch.score_anchor < batch.score_class;
    const u32 lane = anchors_adjacent ? thread / DECODE_ANCHORS : thread % DECODE_LANES;
    const u32 local = anchors_adjacent ? thread % DECODE_ANCHORS : thread / DECODE_LANES;
    float best = -__builtin_inff();
    u32 best_class = 0;
    if (start + local < batch.anchors)
        scan_classes(batch, rules.lowest_threshold, image, start + local, lane, best, best_class);
    memory.score[lane][local] = best;
    memory.score_class[lane][local] = best_class;
    if (thread == 0) memory.count = 0;
    wait_for_block();

    const u32 anchor = start + thread;
    bool passes = false;
    u32 rank = 0;
    if (thread < DECODE_ANCHORS) {
        best = memory.score[0][thread];
        best_class = memory.score_class[0][thread];
        for (u32 i = 1; i < DECODE_LANES; i++) {
            const float score = memory.score[i][thread];
            const u32 score_class = memory.score_class[i][thread];
            if (score > best || (score == best && score_class < best_class)) {
                best = score;
                best_class = score_class;
            }
        }
        best_class += batch.first_class;
        passes = anchor < batch.anchors && best > load_f32(rules_address + sizeof(ImageRules) + 4 * u64(best_class));
        if (passes) rank = fetch_add(&memory.count, 1);
    }
    wait_for_block();
    if (thread == 0 && memory.count > 0) memory.base = fetch_add(&batch.counts[image], memory.count);
    wait_for_block();
    if (!passes) return;
    const u64 first = u64(image) * batch.anchors;
    batch.keys[first + memory.base + rank] = candidate_key(best, anchor);
    batch.candidate_classes[first + anchor] = best_class;
    batch.candidate_boxes[first + anchor] = box_in_frame(batch, rules, image, anchor);
}

struct SuppressMemory {
    union {
        u64 keys[MAX_CANDIDATES];
        struct {
            u32 histogram[DIGITS];
            u32 sums[SUPPRESS_THREADS];
            u32 digit, wanted, in_digit;
        } select;
    };
    Box kept_box[MAX_DETECTIONS];
    u32 kept_class[MAX_DETECTIONS];
    u16 kept_rank[MAX_DETECTIONS];
    Box tile_box[TILE];
    u32 tile_class[TILE];
    // Bit j of row i: candidate i of the tile suppresses candidate j.
    union {
        u64 row[TILE];
        u8 part[TILE][TILE_LANES];
    } suppresses;
    u32 alive[TILE / 32];
    u32 gathered;
    u32 kept;
};

// Finds the digit at which, counted from the highest, the wanted number of keys is reached.
DEVICE void find_digit(SuppressMemory &memory, u32 thread, u32 wanted) {
    const u32 own = DIGITS / SUPPRESS_THREADS, highest = DIGITS - 1 - thread * own;
    u32 sum = 0;
    for (u32 i = 0; i < own; i++) sum += memory.select.histogram[highest - i];
    memory.select.sums[thread] = sum;
    wait_for_block();
    for (u32 distance = 1; distance < SUPPRESS_THREADS; distance *= 2) {
        const u32 before = thread >= distance ? memory.select.sums[thread - distance] : 0;
        wait_for_block();
        memory.select.sums[thread] += before;
        wait_for_block();
    }
    u32 above = memory.select.sums[thread] - sum;
    if (above < wanted && above + sum >= wanted) {
        u32 digit = highest;
        while (above + memory.select.histogram[digit] < wanted) above += memory.select.histogram[digit--];
        memory.select.digit = digit;
        memory.select.wanted = wanted - above;
        memory.select.in_digit = memory.select.histogram[digit];
    }
    wait_for_block();
}

// The lowest key that is among the MAX_CANDIDATES highest: a radix selection from the highest digit down.
DEVICE u64 lowest_key_kept(SuppressMemory &memory, const u64 *keys, u32 total, u32 thread) {
    u64 prefix = 0, known = 0;
    u32 wanted = MAX_CANDIDATES;
    for (i32 shift = 64 - DIGIT_BITS; known != ~0ull; shift -= DIGIT_BITS) {
        // The last digit is what remains of the key.
        const u32 bits = shift < 0 ? DIGIT_BITS + shift : DIGIT_BITS, low = shift < 0 ? 0 : shift;
        const u64 digit_mask = (1ull << bits) - 1;
        for (u32 i = thread; i < DIGITS; i += SUPPRESS_THREADS) memory.select.histogram[i] = 0;
        wait_for_block();
        for (u32 i = thread; i < total; i += SUPPRESS_THREADS)
            if ((keys[i] & known) == prefix) fetch_add(&memory.select.histogram[keys[i] >> low & digit_mask], 1);
        wait_for_block();
        find_digit(memory, thread, wanted);
        prefix |= u64(memory.select.digit) << low;
        known |= digit_mask << low;
        wanted = memory.select.wanted;
        const bool all_of_digit = memory.select.in_digit == wanted;
        wait_for_block();
        if (all_of_digit) break;
    }
    return prefix;
}

// Brings the highest keys, at most MAX_CANDIDATES, into the block's memory; returns how many.
DEVICE u32 gather(SuppressMemory &memory, const u64 *keys, u32 total, u32 thread) {
    if (total <= MAX_CANDIDATES) {
        for (u32 i = thread; i < total; i += SUPPRESS_THREADS) memory.keys[i] = keys[i];
        return total;
    }
    const u64 lowest = lowest_key_kept(memory, keys, total, thread);
    for (u32 i = thread; i < total; i += SUPPRESS_THREADS)
        if (keys[i] >= lowest) memory.keys[fetch_add(&memory.gathered, 1)] = keys[i];
    return MAX_CANDIDATES;
}

// Bitonic sort from high to low.
DEVICE void sort(SuppressMemory &memory, u32 count, u32 thread) {
    u32 size = 2;
    while (size < count) size *= 2;
    for (u32 i = count + thread; i < size; i += SUPPRESS_THREADS) memory.keys[i] = 0;
    wait_for_block();
    for (u32 run = 2; run <= size; run *= 2) {
        for (u32 distance = run / 2; distance > 0; distance /= 2) {
            for (u32 pair = thread; pair < size / 2; pair += SUPPRESS_THREADS) {
                const u32 low = (pair & ~(distance - 1)) * 2 | (pair & (distance - 1)), high = low | distance;
                const u64 a = memory.keys[low], b = memory.keys[high];
                if ((a < b) == ((low & run) == 0)) {
                    memory.keys[low] = b;
                    memory.keys[high] = a;
                }
            }
            wait_for_block();
        }
    }
}

DEVICE float area(const Box &box) { return (box.right - box.left) * (box.bottom - box.top); }

DEVICE bool overlap(const Box &a, const Box &b, float iou_threshold) {
    const float width = minimum(a.right, b.right) - maximum(a.left, b.left);
    const float height = minimum(a.bottom, b.bottom) - maximum(a.top, b.top);
    if (width <= 0.0f || height <= 0.0f) return false;
    const float intersection = width * height;
    return intersection / (area(a) + area(b) - intersection) > iou_threshold;
}

// What a tile's candidates suppress among themselves, and which of them the boxes kept so far suppress.
DEVICE void compare_tile(SuppressMemory &memory, u32 thread, u32 in_tile, u32 kept, float iou_threshold) {
    const u32 row = thread / TILE_LANES, lane = thread % TILE_LANES;
    if (row >= in_tile) return;
    const Box box = memory.tile_box[row];
    const u32 box_class = memory.tile_class[row];
    for (u32 k = lane; k < kept; k += TILE_LANES)
        if (memory.kept_class[k] == box_class && overlap(memory.kept_box[k], box, iou_threshold)) {
            clear_bits(&memory.alive[row / 32], 1u << row % 32);
            break;
        }
    u32 bits = 0;
    for (u32 i = 0; i < 8; i++) {
        const u32 other = lane * 8 + i;
        if (other > row && other < in_tile && memory.tile_class[other] == box_class &&
            overlap(box, memory.tile_box[other], iou_threshold))
            bits |= 1u << i;
    }
    memory.suppresses.part[row][lane] = u8(bits);
}

// Keeps what is alive in a tile, from the highest score down.
DEVICE void keep_alive(SuppressMemory &memory, u32 start, u32 most) {
    u64 alive = u64(memory.alive[1]) << 32 | memory.alive[0];
    u32 kept = memory.kept;
    while (alive != 0 && kept < most) {
        const u32 row = u32(__builtin_ctzll(alive));
        alive &= alive - 1;
        alive &= ~memory.suppresses.row[row];
        memory.kept_box[kept] = memory.tile_box[row];
        memory.kept_class[kept] = memory.tile_class[row];
        memory.kept_rank[kept] = u16(start + row);
        kept++;
    }
    memory.kept = kept;
}

// One block for each image: sorts its candidates by confidence and keeps those that no better one of the same
// class overlaps, until there are as many as wanted. Leaves the image's counter at 0 for the next batch.
KERNEL(SUPPRESS_THREADS) suppress(DecodeBatch batch) {
    static_assert(TILE_LANES == 8 && TILE == 64, "a row of a tile is 8 bytes");
    SHARED static SuppressMemory memory;
    const u32 thread = thread_index().x, image = block_index().x;
    const ImageRules &rules = *(const ImageRules *)(batch.rules + u64(image) * batch.rules_stride);
    const u64 first = u64(image) * batch.anchors;
    const u32 most = smaller(smaller(rules.max_detections, batch.capacity), MAX_DETECTIONS);
    const float iou_threshold = rules.iou_threshold;
    const u32 total = smaller(batch.counts[image], batch.anchors);
    if (thread == 0) {
        memory.gathered = 0;
        memory.kept = 0;
    }
    wait_for_block();
    const u32 count = gather(memory, batch.keys + first, total, thread);
    sort(memory, count, thread);

    u32 kept = 0;
    for (u32 start = 0; start < count && kept < most; start += TILE) {
        const u32 in_tile = smaller(TILE, count - start);
        if (thread < in_tile) {
            const u32 anchor = anchor_of(memory.keys[start + thread]);
            memory.tile_box[thread] = batch.candidate_boxes[first + anchor];
            memory.tile_class[thread] = batch.candidate_classes[first + anchor];
        }
        if (thread < TILE / 32) {
            const u32 left = in_tile > thread * 32 ? in_tile - thread * 32 : 0;
            memory.alive[thread] = left >= 32 ? ~0u : (1u << left) - 1;
        }
        wait_for_block();
        compare_tile(memory, thread, in_tile, kept, iou_threshold);
        wait_for_block();
        if (thread == 0) keep_alive(memory, start, most);
        wait_for_block();
        kept = memory.kept;
    }

    Found &found = *(Found *)(batch.found + u64(image) * batch.found_stride);
    FoundBox *boxes = (FoundBox *)(&found + 1);
    for (u32 k = thread; k < kept; k += SUPPRESS_THREADS) {
        const Box box = memory.kept_box[k];
        const u64 key = memory.keys[memory.kept_rank[k]];
        boxes[k] = {box.left, box.top, box.right - box.left, box.bottom - box.top, score_of(key),
                    memory.kept_class[k], anchor_of(key)};
    }
    if (thread == 0) {
        found.count = kept;
        found.candidates = total;
        batch.counts[image] = 0;
    }
}
