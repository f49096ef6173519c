/* What there is to find in a row of logits: the largest, what all weigh together, the likeliest tokens in order. */
#include "kernels.h"
#include "simd.h"

/* Up to 16 logits; those behind the last one are chosen by nobody. */
INLINE Floats logits_at(const float *row, int64_t j, int64_t width) {
    if (j + LANES <= width) return load(row + j);
    Floats rest = all(-INFINITY);
    memcpy(&rest, row + j, (width - j) * sizeof *row);
    return rest;
}

enum { BLOCKS = 64, TOPS = BLOCKS * LANES };

/* A row as it is seen at first sight: in blocks of `block` logits, of whose every 16th (a share) the largest is kept. */
typedef struct {
    float tops[TOPS], most;
    int64_t block, shares;
    bool usable; /* no NaN, and `most` is finite */
} Overview;

INLINE Overview look_over(const float *row, int64_t width) {
    Overview o = {.block = (width / TOPS + 1) * LANES};
    Floats most = all(-INFINITY);
    Ints spoilt = all_ints(0);
    for (int64_t begin = 0; begin < width; begin += o.block, o.shares += LANES) {
        Floats top = all(-INFINITY);
        for (int64_t j = begin; j < width && j < begin + o.block; j += LANES) {
            const Floats seen = logits_at(row, j, width);
            top = larger(seen, top);
            spoilt |= seen != seen;
        }
        store(o.tops + o.shares, top);
        most = larger(top, most);
    }
    o.most = largest_of(most);
    o.usable = sum_of_ints(spoilt) == 0 && o.most > -INFINITY && o.most < INFINITY;
    return o;
}

/* The first token with the largest logit. */
static int64_t first_of_largest(const float *row, int64_t width, const Overview *o) {
    int64_t share = 0;
    while (share < o->shares - 1 && o->tops[share] != o->most) share++;
    int64_t token = share / LANES * o->block;
    while (token < width - 1 && row[token] != o->most) token++;
    return token;
}

static void largest(const float *logits, int64_t rows, int64_t width, int64_t *tokens, uint8_t *usable) {
    for (int64_t i = 0; i < rows; i++) {
        const Overview o = look_over(logits + i * width, width);
        tokens[i] = first_of_largest(logits + i * width, width, &o);
        usable[i] = o.usable;
    }
}

/* What a token weighs whose logit is so far from the largest: beyond the exponential's range nothing, rather than the
 * smallest there is. */
static const float WEIGHTLESS = -80.0f;
INLINE Floats weight_at(Floats distance) { return chosen(distance > WEIGHTLESS, exponential(distance), all(0)); }

/* The weights of a share of SHARE tokens; their sum. */
INLINE float weigh_share(const float *row, int64_t width, int64_t share, float most, float inverse, float *weights) {
    Floats sum = all(0);
    for (int64_t i = 0; i < SHARE && share * SHARE + i < width; i += LANES) {
        const Floats weight = weight_at((logits_at(row, share * SHARE + i, width) - most) * inverse);
        if (weights) store(weights + i, weight);
        sum = sum + weight;
    }
    return sum_of(sum);
}

/* ---- order ---- */

/* A token in its place: above, its logit as an integer that is the smaller the larger the logit, below the token. */
INLINE uint64_t place_of(float logit, int64_t token) {
    logit += 0.0f; /* makes one of both zeros */
    int32_t bits;
    memcpy(&bits, &logit, 4);
    return (uint64_t)((uint32_t)INT32_MAX - (uint32_t)(bits ^ ((bits >> 31) & INT32_MAX))) << 32 | (uint32_t)token;
}
INLINE float logit_of(uint64_t place) {
    int32_t bits = (int32_t)((uint32_t)INT32_MAX - (uint32_t)(place >> 32));
    bits ^= (bits >> 31) & INT32_MAX;
    float logit;
    memcpy(&logit, &bits, 4);
    return logit;
}

/* Places sorted by their logits, the equal ones staying as they are: by a byte at a time, the last one first. `other` is
 * room for as many. */
static void sort(uint64_t *places, uint64_t *other, int64_t count) {
    for (int shift = 32; shift < 64; shift += 8) {
        int64_t begin[256] = {0}, sum = 0;
        for (int64_t i = 0; i < count; i++) begin[places[i] >> shift & 255]++;
        for (int b = 0; b < 256; b++) {
            const int64_t size = begin[b];
            begin[b] = sum, sum += size;
        }
        for (int64_t i = 0; i < count; i++) other[begin[places[i] >> shift & 255]++] = places[i];
        uint64_t *sorted = other;
        other = places, places = sorted;
    }
}

/* A logit that at least `count` of the row are not below. `room`: 2 * TOPS. */
static float reached_by(const Overview *o, int64_t count, uint64_t *room) {
    if (count > o->shares) return -INFINITY;
    for (int64_t s = 0; s < o->shares; s++) room[s] = place_of(o->tops[s], s);
    sort(room, room + o->shares, o->shares);
    return logit_of(room[count - 1]);
}

INLINE bool any(Ints mask) {
    uint64_t halves[2];
    const Bytes bytes = __builtin_convertvector(mask, Bytes);
    memcpy(halves, &bytes, sizeof bytes);
    return halves[0] | halves[1];
}

/* The tokens whose logit is not below `least`, the likeliest first, of equal ones the first; returns how many they are.
 * `places`, `other`: room for `width` each. */
static int64_t ordered(const float *row, int64_t width, float least, uint64_t *places, uint64_t *other) {
    int64_t count = 0;
    for (int64_t j = 0; j < width; j += LANES) {
        if (!any(logits_at(row, j, width) >= least)) continue;
        for (int64_t i = j; i < width && i < j + LANES; i++) {
            places[count] = place_of(row[i], i);
            count += row[i] >= least;
        }
    }
    sort(places, other, count);
    return count;
}

static void likeliest(const float *const *rows_at, int64_t rows, int64_t width, int64_t count, uint64_t *room, int64_t *tokens,
                      float *logits, float *largest, double *sums) {
    for (int64_t r = 0; r < rows; r++, tokens += count, logits += count) {
        const float *row = rows_at[r];
        const Overview o = look_over(row, width);
        largest[r] = o.most, sums[r] = o.usable ? 0 : NAN;
        for (int64_t s = 0; o.usable && s * SHARE < width; s++) sums[r] += weigh_share(row, width, s, o.most, 1, 0);
        if (o.usable && count > 0) ordered(row, width, reached_by(&o, count, room), room, room + width);
        for (int64_t i = 0; i < count; i++) {
            tokens[i] = o.usable ? (int64_t)(room[i] & UINT32_MAX) : i;
            logits[i] = row[tokens[i]];
        }
    }
}
