/* Attention over the paged KV cache, for decoding rows and for chunks of prompts alike.
 *
 * A block holds 16 tokens: keys as [dim, 16], values as [16, dim], in bfloat16, in float32 where the model is, or in bytes
 * with a scale for each token's key and value. Scales are left out of the sums: those of keys multiply the scores, those of
 * values the weights. A row goes through its keys SPAN at a time, from the first on: scores, their exponentials, the sum of values, each time relative
 * to the largest score so far (as in FlashAttention, https://arxiv.org/abs/2205.14135). Where one span ends and the next
 * begins depends on positions alone, and each sum has one order. So a row is computed alike, to the last bit, whether it
 * decodes or is one of a chunk, and wherever the chunk began: only what is done once for many rows differs. A chunk lays
 * a span's keys and values out as panels of a weight, and the tiles of products.c multiply; a few rows read the cache as
 * it lies. */
#include "kernels.h"
#include "products.c"
#include "simd.h"

enum {
    SPAN = 128,
    SPAN_BLOCKS = SPAN / BLOCK,
    FEW = 24, /* queries; more are worth laying out the keys and values */
    HEADS = 4,
    RUN = MANY_REGISTERS ? 4 : 2, /* vectors of a value that are summed at once */
};

/* A key head and the queries that share it, while they go through the keys. All in `room`. */
typedef struct {
    uint8_t *queries;      /* [queries, dim], as dot products read them */
    float *sums;           /* [queries, dim] */
    float *largest, *total; /* [queries] */
    float *scores;         /* [8, SPAN] */
    uint8_t *weights;      /* [8, SPAN], as dot products read them */
    float *key_scales, *value_scales; /* [SPAN] */
    uint8_t *key_panels, *value_panels;
} Room;

/* bfloat16 is multiplied in pairs where the processor can; everything else as float32. */
INLINE bool in_pairs(const Attention *a) { return DOTS_BFLOAT16 && !a->floats; }

static int64_t attention_room(int64_t heads, int64_t kv_heads, int64_t dim) {
    const int64_t queries = CHUNK * (heads / kv_heads);
    return queries * (8 * dim + 8) + 8 * SPAN * 8 + 2 * 4 * SPAN * dim + 2 * 4 * SPAN + 16 * LINE;
}

static Room rooms_of(const Attention *a) {
    const int64_t queries = CHUNK * (a->heads / a->kv_heads), dim = a->dim;
    Room r;
    uint8_t *at = a->room;
    r.key_panels = at, at += 4 * SPAN * dim;
    r.value_panels = at, at += 4 * SPAN * dim;
    r.queries = at, at += 4 * queries * dim;
    r.sums = (float *)at, at += 4 * queries * dim;
    r.scores = (float *)at, at += 8 * SPAN * 4;
    r.key_scales = (float *)at, at += 4 * SPAN;
    r.value_scales = (float *)at, at += 4 * SPAN;
    r.weights = at, at += 8 * SPAN * 4;
    r.largest = (float *)at, at += 4 * queries;
    r.total = (float *)at;
    return r;
}

/* ---- a query's weights ---- */

/* Make of a query's scores [SPAN] the weights of a span, 0 outside of positions `low` to `high`; its sums so far are
 * scaled to the largest score that is known now. */
static void weigh(const Attention *a, Room *r, int64_t query, float *scores, uint8_t *weights, int64_t low, int64_t high) {
    const float scale = 1.0f / sqrtf((float)a->dim);
    Floats most = all(-INFINITY), sum = all(0);
    const int64_t vectors = (high + LANES - 1) / LANES;
    for (int64_t v = 0; a->kept == BYTES && v < vectors; v++)
        store(scores + v * LANES, load(scores + v * LANES) * load(r->key_scales + v * LANES));
    for (int64_t p = 0; p < low; p++) scores[p] = -INFINITY;
    for (int64_t p = high; p < vectors * LANES; p++) scores[p] = -INFINITY;
    for (int64_t v = 0; v < vectors; v++) most = larger(load(scores + v * LANES), most);
    const float before = r->largest[query], found = largest_of(most), largest = found > before ? found : before;
    for (int64_t v = 0; v < vectors; v++) {
        Floats weight = exponential((load(scores + v * LANES) - all(largest)) * scale);
        if (a->kept == BYTES) {
            sum = sum + weight;
            /* What lies behind the last position may have a scale that is not finite. */
            weight = chosen(weight == 0.0f, all(0), weight * load(r->value_scales + v * LANES));
        }
        if (in_pairs(a)) {
            const Shorts narrow = narrowed(weight);
            store_shorts(weights + v * LANES * 2, narrow);
            weight = widened(narrow);
        } else store(weights + v * LANES * 4, weight);
        if (a->kept != BYTES) sum = sum + weight;
    }
    const int64_t size = in_pairs(a) ? 2 : 4;
    memset(weights + vectors * LANES * size, 0, (SPAN - vectors * LANES) * size);
    r->largest[query] = largest;
    if (before == -INFINITY) r->total[query] = sum_of(sum);
    else {
        const float less = exponential(all((before - largest) * scale))[0];
        r->total[query] = r->total[query] * less + sum_of(sum);
        float *sums = r->sums + query * a->dim;
        for (int64_t j = 0; j < a->dim; j += LANES) store(sums + j, load(sums + j) * less);
    }
}

/* ---- the cache ---- */

/* 16 numbers, `kept` bytes each. */
INLINE Floats cache_numbers(const uint8_t *at, const int kept) {
    if (kept == FLOATS) return load(at);
    if (kept == SHORTS) return widened(load_shorts(at));
    return of_ints(__builtin_convertvector((Bytes)load_bytes(at), Ints));
}

/* Two runs of 16 numbers as 32 bfloat16, interleaved; for a byte those are enough. */
INLINE Ints cache_pairs(const uint8_t *first, const uint8_t *second, const int kept) {
    if (kept == SHORTS)
        return (Ints)(__builtin_convertvector(load_shorts(first), Words) |
                      (__builtin_convertvector(load_shorts(second), Words) << 16));
    return (Ints)((Words)cache_numbers(first, kept) >> 16 | ((Words)cache_numbers(second, kept) & 0xFFFF0000));
}

INLINE int64_t values_from(const Attention *a) { return a->dim * BLOCK * a->kept; }

/* The keys of a span's blocks; their values follow them. */
static void blocks_of(const Attention *a, const int64_t *blocks, int64_t head, int64_t span, int64_t count, const uint8_t **found) {
    const uint8_t *cache = a->cache + head * head_bytes(a->dim, a->kept);
    for (int64_t b = 0; b < count; b++) found[b] = cache + blocks[span * SPAN_BLOCKS + b] * a->block_bytes;
}

static void read_scales(const Attention *a, const uint8_t *const *blocks, int64_t count, Room *r) {
    for (int64_t b = 0; a->kept == BYTES && b < count; b++) {
        const uint8_t *scales = blocks[b] + 2 * values_from(a);
        store(r->key_scales + b * BLOCK, widened(load_shorts(scales)));
        store(r->value_scales + b * BLOCK, widened(load_shorts(scales + 2 * BLOCK)));
    }
}

/* ---- a few queries: the cache as it lies ---- */

/* scores[heads, 16 blocks] of H queries and some blocks of keys, B at once. */
INLINE void score_blocks(const Attention *a, const uint8_t *queries, const uint8_t *const *keys, const uint8_t *const *next,
                         float *scores, const int H, const int B, const bool pairs, const int kept) {
    const int64_t dim = a->dim, each = pairs ? 2 : 4;
    Floats totals[HEADS][2];
    EACH(h, H) EACH(b, B) totals[h][b] = all(0);
    for (int64_t d = 0; d < dim; d += 2) {
        EACH(b, B) {
            const uint8_t *at = keys[b] + d * BLOCK * kept;
            ask(next[b] + d * BLOCK * kept);
            if (pairs) {
                const Ints line = cache_pairs(at, at + BLOCK * kept, kept);
                EACH(h, H) totals[h][b] = dot_bfloat16(totals[h][b], all_ints(load_int(queries + (h * dim + d) * 2)), line);
            } else {
                EACH(n, 2) {
                    const Floats line = cache_numbers(at + n * BLOCK * kept, kept);
                    EACH(h, H) totals[h][b] = all(load_float(queries + (h * dim + d + n) * each)) * line + totals[h][b];
                }
            }
        }
    }
    EACH(h, H) EACH(b, B) store(scores + h * SPAN + b * BLOCK, totals[h][b]);
}

/* sums[heads, dim] += weights[heads, span] · values[span, dim], V vectors of the dimension at a time. What lies behind the
 * last position may be another's, even not finite. */
INLINE void gather(const Attention *a, const uint8_t *weights, const uint8_t *const *values, const uint8_t *const *next,
                   int64_t low, int64_t high, float *sums, int64_t from, const int H, const int V, const bool pairs,
                   const int kept) {
    const int64_t dim = a->dim;
    Floats totals[HEADS][4];
    EACH(h, H) EACH(v, V) totals[h][v] = load(sums + h * dim + from + v * LANES);
    for (int64_t p = low / BLOCK * BLOCK; p < high; p += 2) {
        const uint8_t *at = values[p / BLOCK] + (p % BLOCK * dim + from) * kept;
        const uint8_t *ahead = next[p / BLOCK] + (p % BLOCK * dim + from) * kept;
        EACH(v, V) if (v % 2 == 0) ask(ahead + v * LANES * kept), ask(ahead + (dim + v * LANES) * kept);
        const bool both = p + 1 < high;
        const int32_t mask = both ? -1 : 0xFFFF;
        if (pairs) {
            EACH(v, V) {
                const Ints line = cache_pairs(at + v * LANES * kept, at + (dim + v * LANES) * kept, kept) & mask;
                EACH(h, H) totals[h][v] = dot_bfloat16(totals[h][v], all_ints(load_int(weights + (h * SPAN + p) * 2)), line);
            }
        } else
            for (int64_t n = 0; n < (both ? 2 : 1); n++) EACH(v, V) {
                const Floats line = cache_numbers(at + (n * dim + v * LANES) * kept, kept);
                EACH(h, H) totals[h][v] = all(load_float(weights + (h * SPAN + p + n) * 4)) * line + totals[h][v];
            }
    }
    EACH(h, H) EACH(v, V) store(sums + h * dim + from + v * LANES, totals[h][v]);
}

INLINE void some_heads(const Attention *a, Room *r, const Run *run, int64_t head, int64_t length, int64_t query, const int H,
                       const bool pairs, const int kept) {
    const int64_t dim = a->dim, each = pairs ? 2 : 4, start = a->window && length > a->window ? length - a->window : 0;
    for (int64_t span = start / SPAN; span * SPAN < length; span++) {
        const int64_t low = start > span * SPAN ? start - span * SPAN : 0;
        const int64_t high = length - span * SPAN < SPAN ? length - span * SPAN : SPAN;
        const int64_t first = low / BLOCK, count = (high + BLOCK - 1) / BLOCK;
        const uint8_t *keys[SPAN_BLOCKS], *values[SPAN_BLOCKS], *next[SPAN_BLOCKS];
        blocks_of(a, run->blocks, head, span, count, keys);
        for (int64_t b = 0; b < count; b++) next[b] = values[b] = keys[b] + values_from(a);
        read_scales(a, keys, count, r);
        /* While keys are read, the values are asked for; meanwhile, the next keys. */
        int64_t b = first;
        for (; b + 2 <= count; b += 2)
            score_blocks(a, r->queries + query * dim * each, keys + b, values + b, r->scores + b * BLOCK, H, 2, pairs, kept);
        for (; b < count; b++)
            score_blocks(a, r->queries + query * dim * each, keys + b, values + b, r->scores + b * BLOCK, H, 1, pairs, kept);
        EACH(h, H) weigh(a, r, query + h, r->scores + h * SPAN, r->weights + h * SPAN * each, low, high);
        const int64_t left = (length - (span + 1) * SPAN + BLOCK - 1) / BLOCK;
        if (left > 0) blocks_of(a, run->blocks, head, span + 1, left < count ? left : count, next);
        int64_t j = 0;
        for (; j + RUN * LANES <= dim; j += RUN * LANES)
            gather(a, r->weights, values, next, low, high, r->sums + query * dim, j, H, RUN, pairs, kept);
        for (; j < dim; j += LANES) gather(a, r->weights, values, next, low, high, r->sums + query * dim, j, H, 1, pairs, kept);
    }
}

#define FOR_TYPE(call, ...)                                                 \
    do {                                                                    \
        if (in_pairs(a) && a->kept == BYTES) call(__VA_ARGS__, true, BYTES); \
        else if (in_pairs(a)) call(__VA_ARGS__, true, SHORTS);              \
        else if (a->kept == BYTES) call(__VA_ARGS__, false, BYTES);         \
        else if (a->kept == SHORTS) call(__VA_ARGS__, false, SHORTS);       \
        else call(__VA_ARGS__, false, FLOATS);                              \
    } while (0)

static void four_heads(const Attention *a, Room *r, const Run *run, int64_t head, int64_t length, int64_t query) {
    FOR_TYPE(some_heads, a, r, run, head, length, query, 4);
}
static void three_heads(const Attention *a, Room *r, const Run *run, int64_t head, int64_t length, int64_t query) {
    FOR_TYPE(some_heads, a, r, run, head, length, query, 3);
}
static void two_heads(const Attention *a, Room *r, const Run *run, int64_t head, int64_t length, int64_t query) {
    FOR_TYPE(some_heads, a, r, run, head, length, query, 2);
}
static void one_head(const Attention *a, Room *r, const Run *run, int64_t head, int64_t length, int64_t query) {
    FOR_TYPE(some_heads, a, r, run, head, length, query, 1);
}

static void attend_one(const Attention *a, Room *r, const Run *run, int64_t head, int64_t row) {
    const int64_t group = a->heads / a->kv_heads, length = run->start + row + 1;
    int64_t query = row * group, left = group;
    for (; left >= 4; left -= 4, query += 4) four_heads(a, r, run, head, length, query);
    if (left == 3) three_heads(a, r, run, head, length, query);
    else if (left == 2) two_heads(a, r, run, head, length, query);
    else if (left == 1) one_head(a, r, run, head, length, query);
}

/* ---- many queries: a span's keys and values as panels ---- */

/* Panels [count / 16][depth][16] of numbers [depth, 16], `step` bytes apart, of which `known` are to be read. */
INLINE void panels_in_pairs(const uint8_t *from, int64_t step, int64_t depth, int64_t known, uint8_t *to, const int kept) {
    for (int64_t d = 0; d < depth; d += 2) {
        const int32_t mask = d + 1 < known ? -1 : d < known ? 0xFFFF : 0;
        const Ints line = cache_pairs(from + d * step, from + (d + 1) * step, kept) & mask;
        memcpy(to + d / 2 * LINE, &line, LINE);
    }
}
INLINE void panels_in_floats(const uint8_t *from, int64_t step, int64_t depth, int64_t known, uint8_t *to, const int kept) {
    for (int64_t d = 0; d < depth; d++) store(to + d * LINE, d < known ? cache_numbers(from + d * step, kept) : all(0));
}
static void lay_out(const Attention *a, const uint8_t *from, int64_t step, int64_t depth, int64_t known, uint8_t *to) {
    if (in_pairs(a) && a->kept == BYTES) panels_in_pairs(from, step, depth, known, to, BYTES);
    else if (in_pairs(a)) panels_in_pairs(from, step, depth, known, to, SHORTS);
    else if (a->kept == BYTES) panels_in_floats(from, step, depth, known, to, BYTES);
    else if (a->kept == SHORTS) panels_in_floats(from, step, depth, known, to, SHORTS);
    else panels_in_floats(from, step, depth, known, to, FLOATS);
}

static void multiply_panels(const Attention *a, const uint8_t *x, int64_t x_step, const uint8_t *panels, int64_t count,
                            int64_t depth, int64_t rows, float *out, int64_t out_step, bool add) {
    const Tile tile = {.x = x, .x_step = x_step, .weights = panels, .panel = depth * PANEL * (in_pairs(a) ? 2 : 4),
                       .scales = panels, .factors = x, .depth = depth, .out = out, .out_step = out_step, .add = add};
    if (in_pairs(a)) through(&tile, rows, count, pairs, FLOAT_ROWS);
    else through(&tile, rows, count, floats, FLOAT_ROWS);
}

static void attend_many(const Attention *a, Room *r, const Run *run, int64_t head) {
    const int64_t group = a->heads / a->kv_heads, dim = a->dim, queries = run->rows * group, each = in_pairs(a) ? 2 : 4;
    const int64_t kept = a->kept, length = run->start + run->rows;
    const int64_t start = a->window && run->start + 1 > a->window ? run->start + 1 - a->window : 0;
    for (int64_t span = start / SPAN; span * SPAN < length; span++) {
        const int64_t seen = length - span * SPAN < SPAN ? length - span * SPAN : SPAN, count = (seen + BLOCK - 1) / BLOCK;
        const uint8_t *keys[SPAN_BLOCKS], *values[SPAN_BLOCKS];
        blocks_of(a, run->blocks, head, span, count, keys);
        for (int64_t b = 0; b < count; b++) values[b] = keys[b] + values_from(a);
        read_scales(a, keys, count, r);
        const int64_t key_panel = dim * PANEL * each;
        for (int64_t b = 0; b < count; b++) lay_out(a, keys[b], BLOCK * kept, dim, dim, r->key_panels + b * key_panel);
        for (int64_t j = 0; j < dim / LANES; j++)
            for (int64_t b = 0; b < SPAN_BLOCKS; b++) {
                const int64_t known = seen - b * BLOCK < 0 ? 0 : seen - b * BLOCK;
                uint8_t *to = r->value_panels + (j * SPAN + b * BLOCK) * PANEL * each;
                lay_out(a, b < count ? values[b] + j * LANES * kept : values[0], dim * kept, BLOCK, known, to);
            }
        for (int64_t q = 0; q < queries; q += FLOAT_ROWS) {
            const int64_t rows = queries - q < FLOAT_ROWS ? queries - q : FLOAT_ROWS;
            if (run->start + (q + rows - 1) / group < span * SPAN) continue; /* all before these keys */
            multiply_panels(a, r->queries + q * dim * each, dim * each, r->key_panels, count, dim, rows, r->scores, SPAN * 4, false);
            for (int64_t i = 0; i < rows; i++) {
                const int64_t own = run->start + (q + i) / group + 1, begin = a->window && own > a->window ? own - a->window : 0;
                int64_t low = begin - span * SPAN, high = own - span * SPAN;
                uint8_t *weights = r->weights + i * SPAN * each;
                low = low < 0 ? 0 : low, high = high > SPAN ? SPAN : high;
                if (high <= 0 || low >= SPAN) memset(weights, 0, SPAN * each);
                else weigh(a, r, q + i, r->scores + i * SPAN, weights, low, high);
            }
            multiply_panels(a, r->weights, SPAN * each, r->value_panels, dim / LANES, SPAN, rows, r->sums + q * dim, dim * 4, true);
        }
    }
}

/* ---- rows of a run and one key head ---- */

static void attend(const Attention *a, const Run *run, int64_t head) {
    const int64_t group = a->heads / a->kv_heads, dim = a->dim, queries = run->rows * group;
    const int64_t width = (a->heads + 2 * a->kv_heads) * dim, size = a->floats ? 4 : 2;
    Room room = rooms_of(a), *r = &room;
    for (int64_t i = 0; i < run->rows; i++) {
        const uint8_t *from = a->qkv + ((run->row + i) * width + head * group * dim) * size;
        const int64_t at = i * group * dim;
        if (in_pairs(a) || a->floats) memcpy(r->queries + at * size, from, group * dim * size);
        else
            for (int64_t j = 0; j < group * dim; j += LANES) store(r->queries + 4 * (at + j), widened(load_shorts(from + 2 * j)));
    }
    memset(r->sums, 0, queries * dim * 4);
    for (int64_t q = 0; q < queries; q++) r->largest[q] = -INFINITY, r->total[q] = 0;
    if (queries > FEW) attend_many(a, r, run, head);
    else
        for (int64_t i = 0; i < run->rows; i++) attend_one(a, r, run, head, i);
    for (int64_t q = 0; q < queries; q++) {
        const float share = 1.0f / r->total[q];
        uint8_t *to = a->out + ((run->row + q / group) * a->heads * dim + (head * group + q % group) * dim) * size;
        for (int64_t j = 0; j < dim; j += LANES) {
            const Floats found = load(r->sums + q * dim + j) * share;
            if (a->floats) store(to + 4 * j, found);
            else store_shorts(to + 2 * j, narrowed(found));
        }
    }
}
