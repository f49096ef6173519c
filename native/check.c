/* A program that compares the kernels of every instruction set that the processor has with plain loops, on random numbers.
 *
 * It needs no Python, so it runs on processors that are only emulated (tests/native/test_other_processors.py); what fuzzes
 * the kernels where they are at home are the other tests there. Prints the names of the sets; says what is wrong first. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

extern const Kernels *loradock_kernels(int64_t number);

static const char *set;

static void demand(bool right, const char *what, int64_t detail) {
    if (right) return;
    printf("%s: wrong: %s (%lld)\n", set, what, (long long)detail);
    exit(1);
}

/* ---- numbers ---- */

static uint64_t state = 88172645463325252;
static uint64_t bits(void) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
}
static int64_t below(int64_t limit) { return (int64_t)((bits() >> 16) % (uint64_t)limit); }
static float normal(void) {
    double sum = 0;
    for (int i = 0; i < 12; i++) sum += (double)(bits() >> 40) / (1 << 24);
    return (float)(sum - 6);
}
static void *room(int64_t bytes) { return calloc(1, (size_t)bytes + 1); }
static float *normals(int64_t count, float size) {
    float *found = room(4 * count);
    for (int64_t i = 0; i < count; i++) found[i] = normal() * size;
    return found;
}
static float wide(uint16_t x) {
    uint32_t whole = (uint32_t)x << 16;
    float found;
    memcpy(&found, &whole, 4);
    return found;
}
static uint16_t narrow(float x) {
    uint32_t whole;
    memcpy(&whole, &x, 4);
    return (uint16_t)((whole + 0x7FFF + (whole >> 16 & 1)) >> 16);
}
static float half(const void *at) {
    uint16_t h;
    memcpy(&h, at, 2);
    const int exponent = h >> 10 & 31, digits = h & 1023;
    const double size = exponent ? ldexp(1024 + digits, exponent - 25) : ldexp(digits, -24);
    return (float)(h >> 15 ? -size : size);
}
static bool near(double found, double wanted, double allowed) { return fabs(found - wanted) <= allowed; }

/* ---- weights ---- */

typedef struct {
    Weight weight;
    double *plain; /* [outputs, inputs]: what the panels say */
} Packed;

static double number(const Weight *w, int64_t n, int64_t k) {
    const int64_t panel = n / PANEL, lane = n % PANEL, groups = w->inputs / GROUP, g = k / GROUP;
    const uint8_t *lines = w->numbers + panel * w->inputs * PANEL * w->format / 8;
    const uint8_t *byte = lines + (k / 4 * PANEL + lane) * 4 + k % 4, *line = lines + k / 2 * 48;
    const uint8_t *scale = w->scales + 2 * ((panel * groups + g) * PANEL * (w->format == INT4 ? 2 : 1) + lane);
    switch (w->format) {
    case FLOAT32: return ((const float *)lines)[k * PANEL + lane];
    case BFLOAT16: return wide(((const uint16_t *)lines)[(k / 2 * PANEL + lane) * 2 + k % 2]);
    case INT8: return (double)(*byte - 128) * half(scale);
    case INT4: {
        const uint8_t both = lines[(k / 8 * PANEL + lane) * 4 + k % 4];
        return (double)(k % 8 < 4 ? both & 15 : both >> 4) * half(scale) + half(scale + 2 * PANEL);
    }
    }
    for (int64_t i = 0; i < w->rares; i++)
        if (w->rare[3 * i] == k && w->rare[3 * i + 1] == n) return wide((uint16_t)w->rare[3 * i + 2]);
    const uint8_t upper = w->scales[panel * 16 + (line[32 + lane] >> (4 * (k % 2)) & 15)];
    return wide((uint16_t)(upper << 8 | line[2 * lane + k % 2]));
}

static Packed pack(const Kernels *kernels, int64_t format, int64_t rows, int64_t columns) {
    const int64_t outputs = (rows + 15) / 16 * 16, inputs = (columns + 31) / 32 * 32;
    float *source = normals(rows * columns, 0.05f);
    for (int64_t i = 0; i < rows * columns; i += 97) source[i] *= 1e-6f;
    const Matrix matrix = {(const uint8_t *)source, 0, F32, rows, columns};
    uint8_t *numbers = room(outputs * inputs * format / 8), *scales = room(outputs * inputs / 8 + outputs);
    int32_t *rare = room(12 * rows * columns);
    const int64_t rares = kernels->pack(&matrix, format, 0, numbers, scales, rare, rows * columns);
    Packed p = {{numbers, scales, normals(outputs, 1), rare, rares, format, outputs, inputs}, room(8 * outputs * inputs)};
    for (int64_t n = 0; n < outputs; n++)
        for (int64_t k = 0; k < inputs; k++) {
            const float wanted = n < rows && k < columns ? source[n * columns + k] : 0;
            const double found = p.plain[n * inputs + k] = number(&p.weight, n, k);
            const double exact = format == FLOAT32 ? wanted : wide(narrow(wanted));
            const bool right = format > INT8 ? found == exact : near(found, wanted, format == INT8 ? 1e-3 : 2e-2);
            demand(right, "a packed weight", n * inputs + k);
        }
    return p;
}

/* A number of a row as the product reads it. */
static double as_read(int64_t format, const float *group, int64_t i) {
    if (format > INT8) return format == FLOAT32 ? group[i] : wide(narrow(group[i]));
    double largest = 0;
    for (int k = 0; k < GROUP; k++) largest = fmax(largest, fabs(group[k]));
    return largest > 0 ? nearbyint(group[i] * 127 / largest) * largest / 127 : 0;
}

static void multiply(const Kernels *kernels, const Packed *p, const float *x, int64_t rows, float *out) {
    const Weight *w = &p->weight;
    const int64_t tiled = w->inputs * kernels->tiled_bytes(w->format), factors = w->inputs / GROUP * 8;
    const Inputs in = {room(rows * w->inputs * 4), w->inputs * 4, room(rows * tiled), tiled, room(rows * factors), factors,
                       room(2 * PANEL * UNPACKED * 2)};
    kernels->product(w, &in, x, rows, out, w->outputs * 4, false, 0, w->outputs / PANEL);
    free(in.rows), free(in.tiled), free(in.factors), free(in.unpacked);
}

static void check_product(const Kernels *kernels, int64_t format, int64_t outputs, int64_t columns, int64_t rows) {
    const Packed p = pack(kernels, format, outputs, columns);
    const int64_t n_all = p.weight.outputs, inputs = p.weight.inputs;
    float *x = normals(rows * inputs, 1), *out = room(4 * rows * n_all), *alone = room(4 * n_all);
    multiply(kernels, &p, x, rows, out);
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t n = 0; n < n_all; n++) {
            double wanted = p.weight.bias[n], size = fabs(wanted), largest = 0;
            for (int64_t k = 0; k < inputs; k++) {
                const double by = p.plain[n * inputs + k];
                const double term = by * as_read(format, x + r * inputs + k / GROUP * GROUP, k % GROUP);
                wanted += term, size += fabs(term), largest = fmax(largest, fabs(by));
            }
            const double allowed = 2.5e-7 * sqrt((double)inputs) * size + (format > INT8 ? 0 : largest * 6 / 127);
            demand(near(out[r * n_all + n], wanted, allowed), "a product", format);
        }
        multiply(kernels, &p, x + r * inputs, 1, alone);
        demand(!memcmp(alone, out + r * n_all, 4 * (size_t)n_all), "a row by itself", format);
    }
}

/* ---- adapters ---- */

static void check_adapters(const Kernels *kernels, bool floats, int64_t inputs, int64_t outputs, int64_t rank, int64_t rows) {
    const int64_t size = floats ? 4 : 2, width = (inputs + 31) / 32 * 32;
    float *a = normals(rank * inputs, 0.1f), *b = normals(outputs * rank, 0.1f), scale = 1.5f;
    const int64_t length = inputs + outputs;
    uint8_t *file = room(4 * rank * length), *packed = room(rank * length * size), *x = room(rows * width * size);
    memcpy(file, a, 4 * (size_t)(rank * inputs)), memcpy(file + 4 * rank * inputs, b, 4 * (size_t)(rank * outputs));
    const Move move = {0, F32, 4 * rank * inputs, F32, rank, inputs, outputs, 0};
    demand(kernels->pack_adapter(&move, &scale, 1, file, floats, packed) == -1, "finite numbers", rank);
#define AT(from, i) (floats ? ((float *)(from))[i] : wide(((uint16_t *)(from))[i]))
    for (int64_t k = 0; k < rank; k++)
        for (int64_t j = 0; j < length; j++) {
            const float wanted = j < inputs ? a[k * inputs + j] : b[(j - inputs) * rank + k] * scale;
            demand(AT(packed, k * length + j) == (floats ? wanted : wide(narrow(wanted))), "a packed adapter", j);
        }
    for (int64_t i = 0; i < rows * width; i++) {
        const float value = i % width < inputs ? normal() : 0;
        if (floats) ((float *)x)[i] = value;
        else ((uint16_t *)x)[i] = narrow(value);
    }
    const Inputs in = {.rows = x, .rows_step = width * size};
    const Module module = {packed, rank, 0, outputs};
    int64_t *owners = room(8 * rows);
    for (int64_t r = 0; r < rows; r++) owners[r] = r % 7 == 6 ? -1 : 0;
    float *sums = room(4 * rows * rank), *out = room(4 * rows * outputs);
    kernels->adapt(&module, 1, owners, floats, &in, inputs, rows, sums, rank, out, 4 * outputs, 0, outputs);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t n = 0; n < outputs; n++) {
            double wanted = 0, sizes = 0;
            for (int64_t k = 0; k < rank && owners[r] == 0; k++) {
                double inner = 0, most = 0;
                for (int64_t j = 0; j < inputs; j++) {
                    const double term = (double)AT(packed, k * length + j) * AT(x, r * width + j);
                    inner += term, most += fabs(term);
                }
                wanted += inner * AT(packed, k * length + inputs + n);
                sizes += most * fabs(AT(packed, k * length + inputs + n));
            }
            demand(near(out[r * outputs + n], wanted, 1e-5 * sizes), "what an adapter adds", n);
        }
#undef AT
}

/* ---- attention ---- */

/* A block's bytes of keys (`side` 0) and values begin with the first, and their scales follow all of them. */
static void check_attention(const Kernels *kernels, bool floats, bool bytes, int64_t heads, int64_t kv_heads, int64_t dim,
                            int64_t start, int64_t rows, int64_t window) {
    const int64_t size = floats ? 4 : 2, width = (heads + 2 * kv_heads) * dim;
    const int64_t length = start + rows, count = (length + BLOCK - 1) / BLOCK;
    int64_t *blocks = room(8 * count);
    for (int64_t i = 0; i < count; i++) blocks[i] = count - 1 - i;
    float *plain[2], *queries = normals(rows * width, 2);
    const int64_t kept = bytes ? BYTES : size, whole = head_bytes(dim, kept);
    uint8_t *cache = room(count * kv_heads * whole), *qkv = room(rows * width * size);
    uint8_t *out = room(rows * heads * dim * size), *alone = room(heads * dim * size);
#define PUT(to, i, value) \
    if (floats) ((float *)(to))[i] = (value); \
    else ((uint16_t *)(to))[i] = narrow(value), (value) = wide(narrow(value))
    for (int64_t i = 0; i < rows * width; i++) { PUT(qkv, i, queries[i]); }
    for (int side = 0; side < 2; side++) {
        plain[side] = normals(length * kv_heads * dim, 1);
        for (int64_t p = 0; p < length; p++)
            for (int64_t j = 0; j < kv_heads * dim; j++) {
                uint8_t *head = cache + (blocks[p / BLOCK] * kv_heads + j / dim) * whole;
                const int64_t place = p % BLOCK, at = side ? place * dim + j % dim : j % dim * BLOCK + place;
                float *value = plain[side] + p * kv_heads * dim + j;
                if (bytes) {
                    const int8_t number = (int8_t)(*value * 30 > 127 ? 127 : *value * 30 < -127 ? -127 : *value * 30);
                    const uint16_t scale = narrow((float)(1 + p % 7) / 100);
                    ((int8_t *)head)[side * dim * BLOCK + at] = number, *value = (float)number * wide(scale);
                    ((uint16_t *)(head + 2 * dim * BLOCK))[side * BLOCK + place] = scale;
                } else { PUT(head + side * dim * BLOCK * size, at, *value); }
            }
    }
    uint8_t *own = room(kernels->attention_room(heads, kv_heads, dim));
    Attention a = {cache, kv_heads * whole, kept, qkv, out, heads, kv_heads, dim, window, own, floats};
    const Run run = {blocks, 0, rows, start};
    kernels->attend(&a, &run);
    double *weights = room(8 * length);
    for (int64_t i = 0; i < rows * heads; i++) {
        const int64_t end = start + i / heads + 1, low = window && end > window ? end - window : 0;
        const int64_t head = i % heads, kv = head / (heads / kv_heads);
        const float *query = queries + i / heads * width + head * dim;
        double largest = -INFINITY, total = 0;
        for (int64_t p = low; p < end; p++) {
            weights[p] = 0;
            const float *key = plain[0] + (p * kv_heads + kv) * dim;
            for (int64_t j = 0; j < dim; j++) weights[p] += (double)query[j] * key[j] / sqrt((double)dim);
            largest = fmax(largest, weights[p]);
        }
        for (int64_t p = low; p < end; p++) total += weights[p] = exp(weights[p] - largest);
        for (int64_t j = 0; j < dim; j++) {
            double wanted = 0;
            for (int64_t p = low; p < end; p++) wanted += weights[p] / total * plain[1][(p * kv_heads + kv) * dim + j];
            const float found = floats ? ((float *)out)[i * dim + j] : wide(((uint16_t *)out)[i * dim + j]);
            demand(near(found, wanted, floats ? 2e-5 : 0.04), "attention", i);
        }
    }
    for (int64_t r = 0; r < rows; r++) {
        const Run one = {blocks, 0, 1, start + r};
        a.qkv = qkv + r * width * size, a.out = alone;
        kernels->attend(&a, &one);
        demand(!memcmp(alone, out + r * heads * dim * size, (size_t)(heads * dim * size)), "a row's attention by itself", r);
    }
#undef PUT
}

/* ---- files, and tokens ---- */

static void check_blocks(const Kernels *kernels, int64_t kind, int64_t numbers, int64_t bytes, int64_t head) {
    const int64_t rows = 20, size = rows * 2 * bytes;
    uint8_t *content = room(size);
    float *found = room(4 * rows * 2 * numbers);
    for (int64_t i = 0; i < size; i++) /* small scales */
        content[i] = (uint8_t)bits() & (i % bytes < head && i % 2 ? 0x2F : 0xFF);
    const Matrix matrix = {content, 0, kind, rows, 2 * numbers};
    kernels->convert(&matrix, true, (uint8_t *)found);
    for (int64_t i = 0; i < rows * 2 * numbers; i++) {
        const uint8_t *block = content + i / numbers * bytes, *rest = block + head;
        const int64_t n = i % numbers, g = n / 32;
        const float scale = half(block);
        double wanted = kind == F16 || kind == Q8_0 ? scale * (double)(kind == F16 ? 1 : (int8_t)rest[n]) : 0;
        if (kind == Q4_0 || kind == Q4_1) {
            const int four = n < 16 ? rest[n] & 15 : rest[n - 16] >> 4;
            wanted = kind == Q4_0 ? scale * (double)(four - 8) : scale * (double)four + half(block + 2);
        } else if (kind == Q4_K) {
            const uint8_t *six = block + 4, both = block[16 + g / 2 * 32 + n % 32];
            const int by = g < 4 ? six[g] & 63 : (six[4 + g] & 15) | six[g - 4] >> 6 << 4;
            const int off = g < 4 ? six[4 + g] & 63 : six[4 + g] >> 4 | six[g] >> 6 << 4;
            wanted = (double)scale * by * (g % 2 ? both >> 4 : both & 15) - (double)half(block + 2) * off;
        }
        demand(found[i] == (float)wanted, "a number of a file", kind);
    }
}

/* Whether a random number belongs to a token, which comes after those in `order` before it, of the first `kept` ones. */
static void check_draw(const Choice *c, const int64_t *order, int64_t kept, int64_t token, float most) {
    double total = 0, before = 0, own = 0;
    for (int64_t i = 0; i < kept; i++) {
        const double weight = exp((c->logits[order[i]] - most) / c->temperature);
        if (order[i] == token) before = total, own = weight;
        total += weight;
    }
    const double at = c->uniform * total, allowed = 1e-5 * total;
    demand(own > 0 && at >= before - allowed && at <= before + own + allowed, "a token that was drawn", token);
}

static void check_tokens(const Kernels *kernels, int64_t width) {
    const float *logits = normals(width, 3), chance = (float)(bits() >> 40) / (1 << 24);
    float *found = room(4 * width), most;
    int64_t *order = room(8 * width), *places = room(8 * width), tokens[3], best;
    double sum, wanted = 0, kept = 0;
    uint64_t *space = room(16 * (width + 16));
    uint8_t usable;
    kernels->likeliest(&logits, 1, width, width, space, order, found, &most, &sum);
    for (int64_t i = 0; i < width; i++) {
        const bool after = i == 0 || found[i] < found[i - 1] || (found[i] == found[i - 1] && order[i] > order[i - 1]);
        demand(after && found[i] == logits[order[i]], "the order of tokens", i);
        wanted += exp(logits[places[i] = i] - most);
    }
    demand(found[0] == most && near(sum, wanted, 1e-5 * wanted), "the sum of the exponentials", width);
    const Choice choices[] = {{logits, 0, 0.7f, chance, 1, 0}, {logits, 7, 0.7f, chance, 1, 0}, {logits, 0, 0, 0, 1, 0}};
    kernels->choose(choices, 3, width, space, tokens);
    check_draw(choices, places, width, tokens[0], most);
    check_draw(choices + 1, order, width < 7 ? width : 7, tokens[1], most);
    kernels->largest(logits, 1, width, &best, &usable);
    demand(best == order[0] && tokens[2] == best && usable, "the largest logit", best);
    const Choice cut = {logits, 0, 1, chance, 0.8f, 0};
    int64_t count = 0;
    while (kept < 0.8f * wanted) kept += exp(found[count++] - most);
    kernels->choose(&cut, 1, width, space, tokens);
    check_draw(&cut, order, count, tokens[0], most);
    ((float *)logits)[below(width)] = NAN;
    kernels->largest(logits, 1, width, &best, &usable);
    kernels->choose(choices, 3, width, space, tokens);
    demand(!usable && tokens[0] == -1 && tokens[1] == -1 && tokens[2] == -1, "a row with NaN", width);
}

int main(void) {
    static const int64_t formats[] = {INT4, INT8, CODED, BFLOAT16, FLOAT32}, rows[] = {1, 2, 5, 9, 23};
    for (int64_t number = 0; loradock_kernels(number); number++) {
        const Kernels *kernels = loradock_kernels(number);
        set = kernels->name;
        for (int f = 0; f < 5; f++)
            for (int r = 0; r < 5; r++)
                check_product(kernels, formats[f], 16 + 21 * r, r == 4 ? UNPACKED + 64 : 32 + 64 * r, rows[r]);
        for (int floats = 0; floats < 2; floats++) {
            for (int64_t rank = 1; rank < 20; rank += 3)
                check_adapters(kernels, floats, 16 * rank, 16 * (20 - rank), rank, 1 + rank);
            for (int64_t group = 1; group < 6; group++)
                for (int64_t n = 1; n < 40; n += 12)
                    for (int bytes = 0; bytes < 2; bytes++)
                        check_attention(kernels, floats, bytes, 2 * group, 2, 16 * group, 150 / n, n, n == 13 ? 30 : 0);
        }
        check_blocks(kernels, F16, 1, 2, 2), check_blocks(kernels, Q8_0, 32, 34, 2), check_blocks(kernels, Q4_0, 32, 18, 2);
        check_blocks(kernels, Q4_1, 32, 20, 4), check_blocks(kernels, Q4_K, 256, 144, 4);
        for (int64_t width = 1; width < 2000; width = width * 3 / 2 + 1) check_tokens(kernels, width);
        printf("%s\n", set);
    }
    return 0;
}
