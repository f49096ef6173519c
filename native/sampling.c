/* Tokens chosen from rows of logits. */
#include "kernels.h"
#include "simd.h"

/* Up to 16 logits; those behind the last one are chosen by nobody. */
INLINE Floats logits_at(const float *row, int64_t j, int64_t width) {
    if (j + LANES <= width) return load(row + j);
    Floats rest = all(-INFINITY);
    memcpy(&rest, row + j, (width - j) * sizeof *row);
    return rest;
}

INLINE float largest_logit(const float *row, int64_t width) {
    Floats found = all(-INFINITY);
    for (int64_t j = 0; j < width; j += LANES) found = larger(logits_at(row, j, width), found);
    return largest_of(found);
}

static void largest(const float *logits, int64_t rows, int64_t width, int64_t *tokens, uint8_t *usable) {
    for (int64_t i = 0; i < rows; i++) {
        const float *row = logits + i * width, most = largest_logit(row, width);
        Ints spoilt = all_ints(0);
        for (int64_t j = 0; j < width; j += LANES) {
            const Floats seen = logits_at(row, j, width);
            spoilt |= seen != seen;
        }
        usable[i] = sum_of_ints(spoilt) == 0 && most > -INFINITY && most < INFINITY;
        tokens[i] = 0;
        while (tokens[i] < width - 1 && row[tokens[i]] != most) tokens[i]++;
    }
}

/* The first token at which the running sum of weights is above `target`; the last one with any weight if rounding leaves
 * none, -1 where there is none. Whole shares are passed over first. */
static int64_t search(const float *weights, const double *sums, int64_t width, double target) {
    int64_t share = 0, found = -1;
    double passed = 0;
    for (; (share + 1) * SHARE < width && passed + sums[share] <= target; share++) passed += sums[share];
    for (int64_t j = share * SHARE; j < width; j++) {
        passed += weights[j];
        if (weights[j] > 0) found = j;
        if (found >= 0 && passed > target) return found;
    }
    for (int64_t j = 0; found < 0 && j < share * SHARE; j++)
        if (weights[share * SHARE - 1 - j] > 0) found = share * SHARE - 1 - j;
    return found;
}

static void draw(const float *logits, const float *temperatures, const float *uniform, int64_t rows, int64_t width, float *weights,
                 double *sums, int64_t *tokens) {
    for (int64_t i = 0; i < rows; i++) {
        const float *row = logits + i * width, inverse = 1.0f / temperatures[i];
        const Floats most = all(largest_logit(row, width));
        double total = 0;
        for (int64_t begin = 0; begin < width; begin += SHARE) {
            Floats sum = all(0);
            for (int64_t j = begin; j < width && j < begin + SHARE; j += LANES) {
                const Floats distance = (logits_at(row, j, width) - most) * inverse;
                /* Beyond the exponential's range the probability is none, rather than the smallest there is. */
                const Floats weight = chosen(distance > -80.0f, exponential(distance), all(0));
                store(weights + j, weight);
                sum = sum + weight;
            }
            sums[begin / SHARE] = sum_of(sum);
            total += sums[begin / SHARE];
        }
        tokens[i] = search(weights, sums, width, (double)uniform[i] * total);
    }
}
