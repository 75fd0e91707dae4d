// From a network's output tensors to candidates: boxes that pass their threshold. The rules are those of
// src/decode/plan.rs, as src/decode/host.rs carries them out; the structs are those of src/decode/cuda.rs.
#pragma once

#include "platform.cuh"

enum OutputElement : u32 { OUTPUT_F32, OUTPUT_F16, OUTPUT_I32, OUTPUT_I64 };

enum Activation : u32 { NO_ACTIVATION, SIGMOID, SOFTMAX };

enum ClassOf : u32 { CLASS_OF_SCORE, CLASS_OF_ANCHOR, CLASS_OF_OUTPUT };

enum BoxFormat : u32 { CORNERS, CENTERS, DISTANCES };

enum Extent : u32 { LINEAR, EXPONENTIAL, SQUARED_SIGMOID };

enum Suppression : u32 { SUPPRESS_NOTHING, SUPPRESS_PER_CLASS, CLUSTER };

// What outputs of a network that works never hold; SOMETHING they do.
enum Sign : u32 { NOT_A_NUMBER = 1, ABOVE_ONE = 2, FAR = 4, UNKNOWN_CLASS = 8, SOMETHING = 16, BELOW_ZERO = 32 };

struct Box {
    float left, top, right, bottom;
};

// Values of an output tensor; distances in elements.
struct Values {
    // 0 if there are none.
    u64 address;
    u32 image, cell, anchor, value;
    u32 element;
    u32 reserved;
};

// What a candidate's values are relative to, in pixels of the network's input.
struct Prior {
    float x, y, step_x, step_y, width, height;
};

// Where the values of one source of candidates lie, what they mean, and where candidates are kept between the two
// kernels.
struct DecodeBatch {
    Values scores, background, objectness, class_numbers, points, extents, angles, count, end;
    // One for each candidate of the source, or 0.
    u64 priors;
    u32 cells, anchors;
    u32 classes;
    // The class of the first score.
    u32 first_class;
    // Classes that have a threshold.
    u32 known_classes;
    u32 activation, objectness_sigmoid, class_of;
    u32 box_format, vertical_first, bins, point_sigmoid, extent;
    float point_gain, point_bias, extent_gain;
    // Pixels of the network's input for one unit of a box without prior.
    float scale_x, scale_y;
    // Columns of the grid of which only peaks count, or 0.
    u32 peak_columns;
    // The number of the source's first candidate, and how many an image has in all sources.
    u32 first_index, total;
    u32 suppression;
    // `ImageRules` and behind each its thresholds, so many bytes apart.
    u32 rules_stride;
    u32 found_stride;
    u64 rules;
    // For each image: the number of candidates; for each candidate its key, box, class and, for turned ones, angle.
    Box *candidate_boxes;
    u64 *keys;
    u32 *candidate_classes;
    float *candidate_angles;
    u32 *counts;
    u32 *signs;
    // `Found`, so many bytes apart.
    u64 found;
    u32 capacity;
    u32 reserved;
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
    u32 class_agnostic;
    float smallest, largest;
    // 0 if there is no limit.
    u32 most_of_class;
    // Above 0, suppression is soft.
    float soft_sigma;
    u32 reserved[2];
};

struct FoundBox {
    // Of the box before it is turned.
    float x, y, width, height;
    float confidence;
    u32 class_id;
    u32 index;
    float angle;
};

// The result for one image. As many boxes follow as `capacity` says; `count` of them mean something.
struct Found {
    u32 count;
    // How many candidates there were.
    u32 candidates;
    u32 signs;
    u32 reserved;
};

static const u32 DECODE_LANES = 8, DECODE_ANCHORS = 32;
static const u32 SUPPRESS_THREADS = 512;
// So many candidates of an image, those with the highest scores, take part in the suppression.
static const u32 MAX_CANDIDATES = 4096;
static const u32 MAX_DETECTIONS = 512;
static const u32 TILE = 64, TILE_LANES = SUPPRESS_THREADS / TILE;
static const u32 DIGIT_BITS = 11, DIGITS = 1 << DIGIT_BITS;
// As Signs of the Rust code.
static const float HIGHEST_CONFIDENCE = 1.01f, LOWEST_CONFIDENCE = -0.01f, FAR_AWAY = 2.0f;

DEVICE float load_element(u64 base, u64 index, u32 element) {
    switch (element) {
    case OUTPUT_F16: return f16_value(load_u16(base + 2 * index));
    case OUTPUT_I32: return float(i32(load_u32(base + 4 * index)));
    // The lower half of a number that is small.
    case OUTPUT_I64: return float(i32(load_u32(base + 8 * index)));
    default: return load_f32(base + 4 * index);
    }
}

DEVICE u64 index_of(const Values &values, u32 image, u32 cell, u32 anchor) {
    return u64(image) * values.image + u64(cell) * values.cell + u64(anchor) * values.anchor;
}

DEVICE float load_value(const Values &values, u32 image, u32 cell, u32 anchor, u32 value) {
    const u64 index = index_of(values, image, cell, anchor) + u64(value) * values.value;
    return load_element(values.address, index, values.element);
}

DEVICE float sigmoid(float value) { return 1.0f / (1.0f + exponential(-value)); }

struct Candidate {
    Box box;
    float angle;
};

// The mean of the distribution that starts at this value.
DEVICE float mean_of_bins(const DecodeBatch &batch, u32 image, u32 cell, u32 anchor, u32 first) {
    float highest = -__builtin_inff(), sum = 0.0f, weighted = 0.0f;
    for (u32 bin = 0; bin < batch.bins; bin++)
        highest = maximum(highest, load_value(batch.points, image, cell, anchor, first + bin));
    for (u32 bin = 0; bin < batch.bins; bin++) {
        const float weight = exponential(load_value(batch.points, image, cell, anchor, first + bin) - highest);
        sum += weight;
        weighted += float(bin) * weight;
    }
    return weighted / sum;
}

// One of the four values of a candidate's box.
DEVICE float side_of(const DecodeBatch &batch, u32 image, u32 cell, u32 anchor, u32 side) {
    if (batch.bins > 1) return mean_of_bins(batch, image, cell, anchor, side * batch.bins);
    return side < 2 ? load_value(batch.points, image, cell, anchor, side)
                    : load_value(batch.extents, image, cell, anchor, side - 2);
}

DEVICE float point_of(const DecodeBatch &batch, float value) {
    return batch.point_gain * (batch.point_sigmoid ? sigmoid(value) : value) + batch.point_bias;
}

DEVICE float extent_of(const DecodeBatch &batch, float value) {
    value *= batch.extent_gain;
    if (batch.extent == EXPONENTIAL) return exponential(value);
    if (batch.extent == SQUARED_SIGMOID) {
        const float twice = 2.0f * sigmoid(value);
        return twice * twice;
    }
    return value;
}

// A candidate's box in pixels of the network's input; corners in the wrong order give a box without area.
DEVICE Box box_in_input(const DecodeBatch &batch, u32 image, u32 cell, u32 anchor) {
    const u32 first = batch.vertical_first ? 1 : 0, second = 1 - first;
    const float a = side_of(batch, image, cell, anchor, first), b = side_of(batch, image, cell, anchor, second);
    const float c = side_of(batch, image, cell, anchor, 2 + first), d = side_of(batch, image, cell, anchor, 2 + second);
    Prior prior = {0.0f, 0.0f, batch.scale_x, batch.scale_y, batch.scale_x, batch.scale_y};
    if (batch.priors) {
        const u64 address = batch.priors + sizeof(Prior) * (u64(cell) * batch.anchors + anchor);
        prior = {load_f32(address),      load_f32(address + 4),  load_f32(address + 8),
                 load_f32(address + 12), load_f32(address + 16), load_f32(address + 20)};
    }
    if (batch.box_format == CENTERS) {
        const float x = prior.x + point_of(batch, a) * prior.step_x, y = prior.y + point_of(batch, b) * prior.step_y;
        const float width = extent_of(batch, c) * prior.width, height = extent_of(batch, d) * prior.height;
        return {x - width / 2.0f, y - height / 2.0f, x + width / 2.0f, y + height / 2.0f};
    }
    const float sign = batch.box_format == DISTANCES ? -1.0f : 1.0f;
    const float left = prior.x + sign * a * prior.step_x, top = prior.y + sign * b * prior.step_y;
    return {left, top, maximum(left, prior.x + c * prior.step_x), maximum(top, prior.y + d * prior.step_y)};
}

// As Signs::look_at of the Rust code.
DEVICE bool is_far(const ImageRules &rules, const Box &box) {
    const float width = rules.frame_width / rules.scale_x, height = rules.frame_height / rules.scale_y;
    return box.right < rules.left - FAR_AWAY * width || box.left > rules.left + (1.0f + FAR_AWAY) * width ||
           box.bottom < rules.top - FAR_AWAY * height || box.top > rules.top + (1.0f + FAR_AWAY) * height;
}

// As Placement::to_frame and BoundingBox::clipped_to of the Rust code; without area if the box does not count.
DEVICE Box box_in_frame(const ImageRules &rules, const Box &box, bool turned, float angle) {
    const Box none = {0.0f, 0.0f, 0.0f, 0.0f};
    Box frame = {(box.left - rules.left) * rules.scale_x, (box.top - rules.top) * rules.scale_y,
                 (box.right - rules.left) * rules.scale_x, (box.bottom - rules.top) * rules.scale_y};
    if (turned) {
        const float x = (frame.left + frame.right) / 2.0f, y = (frame.top + frame.bottom) / 2.0f;
        const bool inside = x >= 0.0f && x <= rules.frame_width && y >= 0.0f && y <= rules.frame_height;
        // An angle that is not a number is not below infinity.
        if (!inside || !(__builtin_fabsf(angle) < __builtin_inff())) return none;
    } else {
        frame = {clamp(frame.left, 0.0f, rules.frame_width), clamp(frame.top, 0.0f, rules.frame_height),
                 clamp(frame.right, 0.0f, rules.frame_width), clamp(frame.bottom, 0.0f, rules.frame_height)};
    }
    const float width = frame.right - frame.left, height = frame.bottom - frame.top;
    const float shorter = minimum(width, height), longer = maximum(width, height);
    const bool counts = width > 0.0f && height > 0.0f && shorter >= rules.smallest && longer <= rules.largest;
    return counts ? frame : none;
}

// Higher scores have higher keys; among equal scores lower numbers have. Scores are above 0.
DEVICE u64 candidate_key(float score, u32 number) {
    union {
        float value;
        u32 bits;
    } positive = {score};
    return u64(positive.bits) << 32 | u32(~number);
}

DEVICE u32 number_of(u64 key) { return ~u32(key); }

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
    // Of the softmax: the greatest score of a lane, and the sum of its exponentials below that.
    float highest[DECODE_LANES][DECODE_ANCHORS];
    float sum[DECODE_LANES][DECODE_ANCHORS];
    u32 signs;
    u32 count, base;
};

// What a lane finds in every eighth score of a candidate.
struct Scan {
    float best;
    u32 best_class;
    float highest, sum;
    u32 signs;
};

// Looks at a score that was not activated; what comes after the end of a list is often -1.
DEVICE void look_at_score(const DecodeBatch &batch, float score, bool is_probability, u32 &signs) {
    if (score != score) signs |= NOT_A_NUMBER;
    if (score != 0.0f) signs |= SOMETHING;
    if (score < LOWEST_CONFIDENCE && is_probability && !batch.count.address && !batch.end.address) signs |= BELOW_ZERO;
}

// Whether an objectness, or 1 where there is none, lets a candidate pass at all; `signs` tells what was seen.
DEVICE float load_objectness(const DecodeBatch &batch, u32 image, u32 cell, u32 anchor, u32 &signs) {
    if (!batch.objectness.address) return 1.0f;
    const float value = load_value(batch.objectness, image, cell, anchor, 0);
    look_at_score(batch, value, !batch.objectness_sigmoid, signs);
    return batch.objectness_sigmoid ? sigmoid(value) : value;
}

DEVICE void scan_classes(const DecodeBatch &batch, float lowest_threshold, u32 image, u32 cell, u32 anchor, u32 lane,
                         Scan &scan) {
    // Scores are probabilities, so that no product with the objectness is above it.
    if (!(load_objectness(batch, image, cell, anchor, scan.signs) > lowest_threshold)) return;
    const u64 first = index_of(batch.scores, image, cell, anchor);
    for (u32 c = lane; c < batch.classes; c += DECODE_LANES) {
        const float score = load_element(batch.scores.address, first + u64(c) * batch.scores.value, batch.scores.element);
        // One score of each lane is enough to see what a network that does not work returns.
        if (c == lane)
            look_at_score(batch, score, batch.activation == NO_ACTIVATION && !batch.objectness.address, scan.signs);
        if (score > scan.best) {
            scan.best = score;
            scan.best_class = c;
        }
        if (batch.activation == SOFTMAX) {
            const float higher = maximum(scan.highest, score);
            scan.sum = scan.sum * exponential(scan.highest - higher) + exponential(score - higher);
            scan.highest = higher;
        }
    }
}

// The probability that belongs to the best score of what all lanes found.
DEVICE float softmax(const DecodeBatch &batch, const DecodeMemory &memory, u32 image, u32 cell, u32 anchor, u32 local,
                     float best) {
    float highest = best, sum = 0.0f;
    if (batch.background.address) highest = maximum(highest, load_value(batch.background, image, cell, anchor, 0));
    for (u32 i = 0; i < DECODE_LANES; i++) sum += memory.sum[i][local] * exponential(memory.highest[i][local] - highest);
    if (batch.background.address) sum += exponential(load_value(batch.background, image, cell, anchor, 0) - highest);
    return exponential(best - highest) / sum;
}

// Whether the cell is before the end of a list.
DEVICE bool is_listed(const DecodeBatch &batch, u32 image, u32 cell) {
    if (batch.count.address && !(float(cell) < load_value(batch.count, image, 0, 0, 0))) return false;
    if (batch.end.address)
        for (u32 i = 0; i <= cell; i++)
            if (load_value(batch.end, image, i, 0, 0) < 0.0f) return false;
    return true;
}

// Whether no neighbour of the cell has a greater score of the class.
DEVICE bool is_peak(const DecodeBatch &batch, u32 image, u32 cell, u32 anchor, u32 score_class, float score) {
    if (batch.peak_columns == 0) return true;
    const i32 columns = i32(batch.peak_columns), rows = i32(batch.cells) / columns;
    const i32 column = i32(cell) % columns, row = i32(cell) / columns;
    for (i32 y = row - 1; y <= row + 1; y++)
        for (i32 x = column - 1; x <= column + 1; x++)
            if (x >= 0 && x < columns && y >= 0 && y < rows &&
                load_value(batch.scores, image, u32(y * columns + x), anchor, score_class) > score)
                return false;
    return true;
}

// Judges the best score of a candidate; false if it is not wanted.
DEVICE bool judge(const DecodeBatch &batch, const DecodeMemory &memory, const ImageRules &rules, u64 thresholds,
                  u32 image, u32 cell, u32 anchor, u32 local, float best, u32 best_class, float &confidence,
                  u32 &class_id, Candidate &candidate, u32 &signs) {
    if (!(best > -__builtin_inff())) return false;
    confidence = best;
    if (batch.activation == SIGMOID) confidence = sigmoid(best);
    if (batch.activation == SOFTMAX) confidence = softmax(batch, memory, image, cell, anchor, local, best);
    confidence *= load_objectness(batch, image, cell, anchor, signs);
    if (!(confidence > rules.lowest_threshold) || !is_listed(batch, image, cell)) return false;
    class_id = batch.first_class + best_class;
    if (batch.class_of == CLASS_OF_ANCHOR) class_id = anchor;
    if (batch.class_of == CLASS_OF_OUTPUT) {
        const float number = load_value(batch.class_numbers, image, cell, anchor, 0);
        class_id = number >= 0.0f && number < 1e6f ? u32(number + 0.5f) : batch.known_classes;
    }
    if (class_id >= batch.known_classes) {
        signs |= UNKNOWN_CLASS;
        return false;
    }
    if (!(confidence > load_f32(thresholds + 4 * u64(class_id)))) return false;
    if (!is_peak(batch, image, cell, anchor, best_class, best)) return false;
    if (!(confidence < __builtin_inff())) {
        signs |= NOT_A_NUMBER;
        return false;
    }
    if (confidence > HIGHEST_CONFIDENCE) signs |= ABOVE_ONE;
    const Box box = box_in_input(batch, image, cell, anchor);
    if (is_far(rules, box)) signs |= FAR;
    if (box.left != box.left || box.top != box.top || box.right != box.right || box.bottom != box.bottom)
        signs |= NOT_A_NUMBER;
    const bool turned = batch.angles.address != 0;
    candidate.angle = turned ? load_value(batch.angles, image, cell, anchor, 0) : 0.0f;
    candidate.box = box_in_frame(rules, box, turned, candidate.angle);
    return candidate.box.right > candidate.box.left;
}

// Blocks of 32 candidates of one image, eight threads for each: those whose best class passes its threshold are kept.
KERNEL(DECODE_LANES * DECODE_ANCHORS) decode(DecodeBatch batch) {
    SHARED static DecodeMemory memory;
    const u32 thread = thread_index().x, image = block_index().y, start = block_index().x * DECODE_ANCHORS;
    const u64 rules_address = batch.rules + u64(image) * batch.rules_stride;
    const ImageRules &rules = *(const ImageRules *)rules_address;
    const u32 candidates = batch.cells * batch.anchors;

    // Neighbours in a warp read neighbours in memory.
    const bool cells_adjacent = batch.scores.cell < batch.scores.value;
    const u32 lane = cells_adjacent ? thread / DECODE_ANCHORS : thread % DECODE_LANES;
    const u32 local = cells_adjacent ? thread % DECODE_ANCHORS : thread / DECODE_LANES;
    Scan scan = {-__builtin_inff(), 0, -__builtin_inff(), 0.0f, 0};
    if (start + local < candidates) {
        const u32 index = start + local;
        const u32 cell = batch.anchors == 1 ? index : index / batch.anchors;
        scan_classes(batch, rules.lowest_threshold, image, cell, index - cell * batch.anchors, lane, scan);
    }
    memory.score[lane][local] = scan.best;
    memory.score_class[lane][local] = scan.best_class;
    if (batch.activation == SOFTMAX) {
        // Nothing is added by a lane without scores.
        memory.highest[lane][local] = scan.sum > 0.0f ? scan.highest : 0.0f;
        memory.sum[lane][local] = scan.sum;
    }
    if (thread == 0) {
        memory.count = 0;
        memory.signs = 0;
    }
    wait_for_block();
    if (scan.signs & ~memory.signs) set_bits(&memory.signs, scan.signs);

    const u32 index = start + thread;
    bool passes = false;
    u32 rank = 0, class_id = 0;
    float confidence = 0.0f;
    Candidate candidate = {};
    if (thread < DECODE_ANCHORS && index < candidates) {
        float best = memory.score[0][thread];
        u32 best_class = memory.score_class[0][thread], signs = 0;
        for (u32 i = 1; i < DECODE_LANES; i++) {
            const float score = memory.score[i][thread];
            const u32 score_class = memory.score_class[i][thread];
            if (score > best || (score == best && score_class < best_class)) {
                best = score;
                best_class = score_class;
            }
        }
        const u32 cell = batch.anchors == 1 ? index : index / batch.anchors;
        passes = judge(batch, memory, rules, rules_address + sizeof(ImageRules), image, cell,
                       index - cell * batch.anchors, thread, best, best_class, confidence, class_id, candidate, signs);
        if (passes) rank = fetch_add(&memory.count, 1);
        if (signs & ~memory.signs) set_bits(&memory.signs, signs);
    }
    wait_for_block();
    if (thread == 0) {
        if (memory.count > 0) memory.base = fetch_add(&batch.counts[image], memory.count);
        if (memory.signs & ~batch.signs[image]) set_bits(&batch.signs[image], memory.signs);
    }
    wait_for_block();
    if (!passes) return;
    const u64 first = u64(image) * batch.total;
    const u32 number = batch.first_index + index;
    batch.keys[first + memory.base + rank] = candidate_key(confidence, number);
    batch.candidate_classes[first + number] = class_id;
    batch.candidate_boxes[first + number] = candidate.box;
    if (batch.angles.address) batch.candidate_angles[first + number] = candidate.angle;
}
