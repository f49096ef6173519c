/* Every row through its own adapter, whatever the mix: x A, then B of what comes out, sums in registers.
 *
 * A line of the table has for each module that shares the input: where its rows lie, their number (the rank), and the
 * first and end column of the output. A row is one row of A [inputs] and the same row of B transposed [columns], in
 * bfloat16, or float32 where the model is. */
#include "kernels.h"
#include "simd.h"

typedef struct {
    const Module *table; /* [adapters, modules] */
    int64_t modules;
    const int64_t *owners; /* [rows]: a row's line of the table, -1 for the base model */
    bool floats;
} Adapters;

enum { ROWS = 4, RANKS = 4, LONG = 4, ALONE = MANY_REGISTERS ? 8 : 4 };
/* Rows, ranks and vectors whose sums are in registers at a time; ALONE: ranks and vectors of one row. */

/* The next two vectors of a row of numbers: in pairs of bfloat16, or float32. */
INLINE Floats dots(Floats total, const uint8_t *x, const uint8_t *a, const bool floats) {
    if (!floats) return dot_bfloat16(total, load_ints(x), load_ints(a));
    total = load(x) * load(a) + total;
    return load(x + LINE) * load(a + LINE) + total;
}

/* sums[rows, ranks] = x A. Rows of x are padded with zeros to a multiple of 32, those of A are not. */
INLINE void shrink(const uint8_t *x, int64_t x_step, const uint8_t *a, int64_t a_step, int64_t depth, float *sums,
                   int64_t sums_step, const bool floats, const int R, const int K) {
    const int64_t size = floats ? 2 * LINE : LINE;
    Floats totals[ROWS * RANKS]; /* [R, K] */
    EACH(i, R * K) totals[i] = all(0);
    for (int64_t i = 0; i < depth / 32; i++)
        EACH(k, K) EACH(r, R) totals[r * K + k] = dots(totals[r * K + k], x + r * x_step + i * size, a + k * a_step + i * size, floats);
    if (depth % 32) EACH(k, K) {
        uint8_t rest[2 * LINE] = {0};
        memcpy(rest, a + k * a_step + depth / 32 * size, depth % 32 * (floats ? 4 : 2));
        EACH(r, R) totals[r * K + k] = dots(totals[r * K + k], x + r * x_step + depth / 32 * size, rest, floats);
    }
    const Floats found = R * K == 1 ? all(sum_of(totals[0])) : sums_of(totals, R * K);
    EACH(r, R) memcpy(sums + r * sums_step, (const float *)&found + r * K, K * sizeof(float));
}

INLINE Floats numbers_of(const uint8_t *at, const bool floats) { return floats ? load(at) : widened(load_shorts(at)); }

/* out[rows, columns] += sums[rows, rank] · b[rank, columns], in runs of V vectors. */
INLINE void expand(const float *sums, int64_t sums_step, int64_t rank, const uint8_t *b, int64_t b_step, int64_t columns,
                   uint8_t *out, int64_t out_step, const bool floats, const int R, const int V) {
    const int64_t size = floats ? 4 : 2;
    for (int64_t n = 0; n + V * LANES <= columns; n += V * LANES) {
        Floats totals[ROWS][ALONE];
        EACH(r, R) EACH(v, V) totals[r][v] = load(out + r * out_step + 4 * (n + v * LANES));
        for (int64_t k = 0; k < rank; k++) {
            Floats line[ALONE];
            EACH(v, V) line[v] = numbers_of(b + k * b_step + size * (n + v * LANES), floats);
            EACH(r, R) {
                const Floats by = all(sums[r * sums_step + k]);
                EACH(v, V) totals[r][v] = by * line[v] + totals[r][v];
            }
        }
        EACH(r, R) EACH(v, V) store(out + r * out_step + 4 * (n + v * LANES), totals[r][v]);
    }
}

#define BY_ROWS(count, call, ...) \
    if (count == ROWS) call(__VA_ARGS__, ROWS); \
    else call(__VA_ARGS__, 1)

INLINE void shrink_module(const Module *m, const uint8_t *x, int64_t x_step, int64_t depth, float *sums, int64_t step,
                          const bool floats, const int R) {
    const int64_t length = (depth + m->high - m->low) * (floats ? 4 : 2);
    const int ranks = R == 1 ? ALONE : RANKS;
    int64_t k = 0;
    for (; k + ranks <= m->rank; k += ranks) shrink(x, x_step, m->rows + k * length, length, depth, sums + k, step, floats, R, ranks);
    for (; k + RANKS <= m->rank; k += RANKS) shrink(x, x_step, m->rows + k * length, length, depth, sums + k, step, floats, R, RANKS);
    for (; k < m->rank; k++) shrink(x, x_step, m->rows + k * length, length, depth, sums + k, step, floats, R, 1);
}

INLINE void expand_module(const Module *m, const float *sums, int64_t step, int64_t depth, int64_t first, int64_t end,
                          uint8_t *out, int64_t out_step, const bool floats, const int R) {
    const int64_t size = floats ? 4 : 2, length = (depth + m->high - m->low) * size;
    const int64_t begin = first > m->low ? first : m->low, columns = (end < m->high ? end : m->high) - begin;
    if (m->rank == 0 || columns <= 0) return;
    const int vectors = R == 1 ? ALONE : LONG;
    const int64_t many = columns / (vectors * LANES) * (vectors * LANES);
    const uint8_t *b = m->rows + (depth + begin - m->low) * size;
    expand(sums, step, m->rank, b, length, many, out + 4 * begin, out_step, floats, R, vectors);
    expand(sums, step, m->rank, b + many * size, length, columns - many, out + 4 * (begin + many), out_step, floats, R, 1);
}

/* Return how many rows from `i` on are taken together: four of one adapter, or one. */
INLINE int64_t alike(const int64_t *owners, int64_t i, int64_t end) {
    if (i + ROWS > end) return 1;
    EACH(n, ROWS) if (owners[i + n] != owners[i]) return 1;
    return ROWS;
}

/* x A of rows `first` to `end`, of every module one behind the other, into float32 sums [rows, step]. */
static void shrink_adapters(const Adapters *a, const uint8_t *x, int64_t x_step, int64_t depth, int64_t first, int64_t end,
                            float *sums, int64_t step) {
    for (int64_t i = first, count; i < end; i += count) {
        count = alike(a->owners, i, end);
        if (a->owners[i] < 0) continue;
        float *place = sums + i * step;
        for (const Module *m = a->table + a->owners[i] * a->modules, *last = m + a->modules; m < last; place += m++->rank) {
            const uint8_t *row = x + i * x_step;
            if (a->floats) { BY_ROWS(count, shrink_module, m, row, x_step, depth, place, step, true); }
            else { BY_ROWS(count, shrink_module, m, row, x_step, depth, place, step, false); }
        }
    }
}

/* Add the sums times B to columns `first` to `end` of float32 [rows, …] at `out`. */
static void expand_adapters(const Adapters *a, int64_t depth, int64_t rows, int64_t first, int64_t end, float *out,
                            int64_t out_step, const float *sums, int64_t step) {
    for (int64_t i = 0, count; i < rows; i += count) {
        count = alike(a->owners, i, rows);
        if (a->owners[i] < 0) continue;
        const float *place = sums + i * step;
        for (const Module *m = a->table + a->owners[i] * a->modules, *last = m + a->modules; m < last; place += m++->rank) {
            uint8_t *to = (uint8_t *)out + i * out_step;
            if (a->floats) { BY_ROWS(count, expand_module, m, place, step, depth, first, end, to, out_step, true); }
            else { BY_ROWS(count, expand_module, m, place, step, depth, first, end, to, out_step, false); }
        }
    }
}
