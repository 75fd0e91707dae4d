// From the candidates of decode.cuh to the boxes that are left: sorting, and suppression or clustering, as
// src/decode/nms.rs has it.
#pragma once

#include "decode.cuh"

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
    float kept_angle[MAX_DETECTIONS];
    union {
        struct {
            Box tile_box[TILE];
            u32 tile_class[TILE];
            float tile_angle[TILE];
            // Bit j of row i: candidate i of the tile suppresses candidate j.
            union {
                u64 row[TILE];
                u8 part[TILE][TILE_LANES];
            } suppresses;
        };
        // Of soft suppression.
        u64 best[SUPPRESS_THREADS / 2];
    };
    u32 alive[TILE / 32];
    u64 chosen;
    // The clusters that a candidate can join.
    u32 joins[MAX_DETECTIONS / 32];
    u32 gathered;
    u32 kept;
    // Of soft suppression: where the best key is, and how many of its class were kept.
    u32 place, of_class;
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

// Intersection over union.
DEVICE float iou(const Box &a, const Box &b) {
    const float width = minimum(a.right, b.right) - maximum(a.left, b.left);
    const float height = minimum(a.bottom, b.bottom) - maximum(a.top, b.top);
    if (width <= 0.0f || height <= 0.0f) return 0.0f;
    const float intersection = width * height;
    return intersection / (area(a) + area(b) - intersection);
}

// The intersection as a part of the larger box's area.
DEVICE float share_of_larger(const Box &a, const Box &b) {
    const float width = minimum(a.right, b.right) - maximum(a.left, b.left);
    const float height = minimum(a.bottom, b.bottom) - maximum(a.top, b.top);
    if (width <= 0.0f || height <= 0.0f) return 0.0f;
    return width * height / maximum(area(a), area(b));
}

// Variances along x and y, and the covariance, of a turned box.
struct Moments {
    float xx, yy, xy;
};

DEVICE Moments moments_of(const Box &box, float angle) {
    const float width = box.right - box.left, height = box.bottom - box.top;
    const float along = width * width / 12.0f, across = height * height / 12.0f;
    const float sine = sine_of(angle), cosine = cosine_of(angle);
    return {along * cosine * cosine + across * sine * sine, along * sine * sine + across * cosine * cosine,
            (along - across) * sine * cosine};
}

// As probabilistic_iou of the Rust code.
DEVICE float probabilistic_iou(const Box &box_a, float angle_a, const Box &box_b, float angle_b) {
    const float epsilon = 1e-7f;
    const Moments a = moments_of(box_a, angle_a), b = moments_of(box_b, angle_b);
    const float xx = a.xx + b.xx, yy = a.yy + b.yy, xy = a.xy + b.xy;
    const float x = (box_a.left + box_a.right - box_b.left - box_b.right) / 2.0f;
    const float y = (box_a.top + box_a.bottom - box_b.top - box_b.bottom) / 2.0f;
    const float determinant = xx * yy - xy * xy;
    const float distance = 0.25f * (xx * y * y + yy * x * x - 2.0f * xy * x * y) / (determinant + epsilon);
    const float spread = square_root(maximum(a.xx * a.yy - a.xy * a.xy, 0.0f)) *
                         square_root(maximum(b.xx * b.yy - b.xy * b.xy, 0.0f));
    const float shape = 0.5f * logarithm(determinant / (4.0f * spread + epsilon) + epsilon);
    const float bhattacharyya = clamp(distance + shape, epsilon, 100.0f);
    return 1.0f - square_root(1.0f - exponential(-bhattacharyya) + epsilon);
}

// What decides whether two candidates are one object.
struct Comparison {
    float threshold;
    bool class_agnostic, turned;
};

DEVICE bool is_same(const Comparison &by, const Box &a, u32 class_a, float angle_a, const Box &b, u32 class_b,
                    float angle_b) {
    if (class_a != class_b && !by.class_agnostic) return false;
    return (by.turned ? probabilistic_iou(a, angle_a, b, angle_b) : iou(a, b)) > by.threshold;
}

// What a tile's candidates suppress among themselves, and which of them the boxes kept so far suppress.
DEVICE void compare_tile(SuppressMemory &memory, const Comparison &by, u32 thread, u32 in_tile, u32 kept) {
    const u32 row = thread / TILE_LANES, lane = thread % TILE_LANES;
    if (row >= in_tile) return;
    const Box box = memory.tile_box[row];
    const u32 box_class = memory.tile_class[row];
    const float angle = memory.tile_angle[row];
    for (u32 k = lane; k < kept; k += TILE_LANES)
        if (is_same(by, memory.kept_box[k], memory.kept_class[k], memory.kept_angle[k], box, box_class, angle)) {
            clear_bits(&memory.alive[row / 32], 1u << row % 32);
            break;
        }
    u32 bits = 0;
    for (u32 i = 0; i < 8; i++) {
        const u32 other = lane * 8 + i;
        if (other > row && other < in_tile &&
            is_same(by, box, box_class, angle, memory.tile_box[other], memory.tile_class[other],
                    memory.tile_angle[other]))
            bits |= 1u << i;
    }
    memory.suppresses.part[row][lane] = u8(bits);
}

// Whether as many of a class were kept as are wanted.
DEVICE bool has_enough(const SuppressMemory &memory, const ImageRules &rules, u32 kept, u32 box_class) {
    if (rules.most_of_class == 0) return false;
    u32 of_class = 0;
    for (u32 k = 0; k < kept; k++) of_class += memory.kept_class[k] == box_class;
    return of_class >= rules.most_of_class;
}

// Which of those alive in a tile are kept, from the highest score down, as bits of their rows.
DEVICE u64 choose_alive(SuppressMemory &memory, const ImageRules &rules, u32 kept, u32 most) {
    u64 alive = u64(memory.alive[1]) << 32 | memory.alive[0], chosen = 0;
    while (alive != 0 && kept < most) {
        const u32 row = u32(__builtin_ctzll(alive));
        alive &= alive - 1;
        if (has_enough(memory, rules, kept, memory.tile_class[row])) continue;
        alive &= ~memory.suppresses.row[row];
        chosen |= 1ull << row;
        // Only for those who count.
        if (rules.most_of_class != 0) memory.kept_class[kept] = memory.tile_class[row];
        kept++;
    }
    return chosen;
}

// Puts the chosen ones of a tile behind those that were kept before.
DEVICE void keep_chosen(SuppressMemory &memory, u32 start, u32 kept, u32 row) {
    const u64 chosen = memory.chosen;
    if ((chosen >> row & 1) == 0) return;
    const u32 place = kept + u32(__builtin_popcountll(chosen & ((1ull << row) - 1)));
    memory.kept_box[place] = memory.tile_box[row];
    memory.kept_class[place] = memory.tile_class[row];
    memory.kept_angle[place] = memory.tile_angle[row];
    memory.kept_rank[place] = u16(start + row);
}

// From the highest score down, keeps what no kept candidate suppresses; returns how many.
DEVICE u32 suppress_tiles(SuppressMemory &memory, const DecodeBatch &batch, const ImageRules &rules, u64 first,
                          u32 count, u32 most, u32 thread) {
    const bool turned = batch.angles.address != 0;
    const Comparison by = {rules.iou_threshold, rules.class_agnostic != 0, turned};
    u32 kept = 0;
    for (u32 start = 0; start < count && kept < most; start += TILE) {
        const u32 in_tile = smaller(TILE, count - start);
        if (thread < in_tile) {
            const u32 number = number_of(memory.keys[start + thread]);
            memory.tile_box[thread] = batch.candidate_boxes[first + number];
            memory.tile_class[thread] = batch.candidate_classes[first + number];
            memory.tile_angle[thread] = turned ? batch.candidate_angles[first + number] : 0.0f;
        }
        if (thread < TILE / 32) {
            const u32 left = in_tile > thread * 32 ? in_tile - thread * 32 : 0;
            memory.alive[thread] = left >= 32 ? ~0u : (1u << left) - 1;
        }
        wait_for_block();
        if (batch.suppression == SUPPRESS_NOTHING)
            memory.suppresses.part[thread / TILE_LANES][thread % TILE_LANES] = 0;
        else
            compare_tile(memory, by, thread, in_tile, kept);
        wait_for_block();
        if (thread == 0) memory.chosen = choose_alive(memory, rules, kept, most);
        wait_for_block();
        if (thread < in_tile) keep_chosen(memory, start, kept, thread);
        kept += u32(__builtin_popcountll(memory.chosen));
        wait_for_block();
    }
    return kept;
}

// From the highest score down, lets each candidate join the first cluster that it covers, or that covers it; returns
// how many clusters there are.
DEVICE u32 cluster(SuppressMemory &memory, const DecodeBatch &batch, const ImageRules &rules, u64 first, u32 count,
                   u32 most, u32 thread) {
    static_assert(SUPPRESS_THREADS >= MAX_DETECTIONS, "each cluster has a thread");
    for (u32 rank = 0; rank < count; rank++) {
        const u32 number = number_of(memory.keys[rank]);
        const Box box = batch.candidate_boxes[first + number];
        const u32 box_class = batch.candidate_classes[first + number], kept = memory.kept;
        if (thread < MAX_DETECTIONS / 32) memory.joins[thread] = 0;
        wait_for_block();
        if (thread < kept && (rules.class_agnostic || memory.kept_class[thread] == box_class) &&
            share_of_larger(memory.kept_box[thread], box) > rules.iou_threshold)
            set_bits(&memory.joins[thread / 32], 1u << thread % 32);
        wait_for_block();
        if (thread == 0) {
            u32 word = 0;
            while (word < MAX_DETECTIONS / 32 && memory.joins[word] == 0) word++;
            if (word < MAX_DETECTIONS / 32) {
                Box &joined = memory.kept_box[word * 32 + u32(__builtin_ctz(memory.joins[word]))];
                joined = {minimum(joined.left, box.left), minimum(joined.top, box.top),
                          maximum(joined.right, box.right), maximum(joined.bottom, box.bottom)};
            } else if (kept < most && !has_enough(memory, rules, kept, box_class)) {
                memory.kept_box[kept] = box;
                memory.kept_class[kept] = box_class;
                memory.kept_angle[kept] = 0.0f;
                memory.kept_rank[kept] = u16(rank);
                memory.kept = kept + 1;
            }
        }
        wait_for_block();
    }
    return memory.kept;
}

// The highest key from `start` on; 0 if there is none.
DEVICE u64 highest_key(SuppressMemory &memory, u32 start, u32 count, u32 thread) {
    const u32 half = SUPPRESS_THREADS / 2;
    u64 best = 0;
    for (u32 i = start + thread; i < count; i += SUPPRESS_THREADS)
        if (memory.keys[i] > best) best = memory.keys[i];
    if (thread >= half) memory.best[thread - half] = best;
    wait_for_block();
    if (thread < half && best > memory.best[thread]) memory.best[thread] = best;
    wait_for_block();
    for (u32 distance = half / 2; distance > 0; distance /= 2) {
        if (thread < distance && memory.best[thread + distance] > memory.best[thread])
            memory.best[thread] = memory.best[thread + distance];
        wait_for_block();
    }
    best = memory.best[0];
    // Keys differ, but for those that are none.
    for (u32 i = start + thread; i < count; i += SUPPRESS_THREADS)
        if (best != 0 && memory.keys[i] == best) memory.place = i;
    wait_for_block();
    return best;
}

// Lowers the score of a candidate that the kept one overlaps; returns its new key, 0 if it is not wanted any more.
DEVICE u64 softened(const DecodeBatch &batch, const ImageRules &rules, u64 first, u64 key, const Box &box, u32 box_class,
                    float angle, bool enough) {
    const u32 number = number_of(key), other_class = batch.candidate_classes[first + number];
    if (enough && other_class == box_class) return 0;
    if (other_class != box_class && !rules.class_agnostic) return key;
    const Box &other = batch.candidate_boxes[first + number];
    const float overlap = batch.angles.address != 0
                              ? probabilistic_iou(box, angle, other, batch.candidate_angles[first + number])
                              : iou(box, other);
    const float score = score_of(key) * exponential(-overlap * overlap / rules.soft_sigma);
    const u64 thresholds = u64(&rules) + sizeof(ImageRules);
    return score > load_f32(thresholds + 4 * u64(other_class)) ? candidate_key(score, number) : 0;
}

// As soften of the Rust code: kept keys come first; returns how many there are.
DEVICE u32 soften(SuppressMemory &memory, const DecodeBatch &batch, const ImageRules &rules, u64 first, u32 count,
                  u32 most, u32 thread) {
    u32 kept = 0;
    while (kept < most) {
        const u64 winner = highest_key(memory, kept, count, thread);
        if (winner == 0) break;
        const u32 number = number_of(winner), box_class = batch.candidate_classes[first + number];
        const Box box = batch.candidate_boxes[first + number];
        const float angle = batch.angles.address != 0 ? batch.candidate_angles[first + number] : 0.0f;
        if (thread == 0) {
            memory.keys[memory.place] = memory.keys[kept];
            memory.keys[kept] = winner;
            memory.kept_box[kept] = box;
            memory.kept_class[kept] = box_class;
            memory.kept_angle[kept] = angle;
            memory.kept_rank[kept] = u16(kept);
            memory.of_class = 0;
        }
        wait_for_block();
        if (thread <= kept && memory.kept_class[thread] == box_class) fetch_add(&memory.of_class, 1);
        wait_for_block();
        kept++;
        const bool enough = rules.most_of_class != 0 && memory.of_class >= rules.most_of_class;
        for (u32 i = kept + thread; i < count; i += SUPPRESS_THREADS)
            if (memory.keys[i] != 0)
                memory.keys[i] = softened(batch, rules, first, memory.keys[i], box, box_class, angle, enough);
        wait_for_block();
    }
    return kept;
}

// One block for each image: sorts its candidates by confidence and keeps those that are objects of their own, until
// there are as many as wanted. Leaves the image's counter and signs at 0 for the next batch.
KERNEL(SUPPRESS_THREADS) suppress(DecodeBatch batch) {
    static_assert(TILE_LANES == 8 && TILE == 64, "a row of a tile is 8 bytes");
    SHARED static SuppressMemory memory;
    const u32 thread = thread_index().x, image = block_index().x;
    const ImageRules &rules = *(const ImageRules *)(batch.rules + u64(image) * batch.rules_stride);
    const u64 first = u64(image) * batch.total;
    const u32 most = smaller(smaller(rules.max_detections, batch.capacity), MAX_DETECTIONS);
    const u32 total = smaller(batch.counts[image], batch.total);
    if (thread == 0) {
        memory.gathered = 0;
        memory.kept = 0;
    }
    wait_for_block();
    const u32 count = gather(memory, batch.keys + first, total, thread);
    sort(memory, count, thread);
    u32 kept;
    if (batch.suppression == CLUSTER)
        kept = cluster(memory, batch, rules, first, count, most, thread);
    else if (batch.suppression == SUPPRESS_PER_CLASS && rules.soft_sigma > 0.0f)
        kept = soften(memory, batch, rules, first, count, most, thread);
    else
        kept = suppress_tiles(memory, batch, rules, first, count, most, thread);

    Found &found = *(Found *)(batch.found + u64(image) * batch.found_stride);
    FoundBox *boxes = (FoundBox *)(&found + 1);
    for (u32 k = thread; k < kept; k += SUPPRESS_THREADS) {
        const Box box = memory.kept_box[k];
        const u64 key = memory.keys[memory.kept_rank[k]];
        boxes[k] = {box.left,      box.top,
                    box.right - box.left, box.bottom - box.top,
                    score_of(key), memory.kept_class[k],
                    number_of(key), memory.kept_angle[k]};
    }
    if (thread == 0) {
        found.count = kept;
        found.candidates = total;
        found.signs = batch.signs[image];
        batch.counts[image] = 0;
        batch.signs[image] = 0;
    }
}
