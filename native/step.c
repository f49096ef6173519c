/* A decoder's layers over the rows of a lane, from the embedding to the largest logits, in one call.
 *
 * The members of a team share every operation: those on rows by rows, products by columns. They meet where one needs what
 * another has written. Hidden states, and sums of every kind, are float32; what goes into a product is rounded to
 * bfloat16 or to bytes. */
#include <float.h>

#include "attention.c"
#include "kernels.h"
#include "lora.c"
#include "simd.h"
#include "team.c"

typedef struct {
    const Model *model;
    const Lane *lane;
    const Scratch *scratch;
    const Team *team;
} Part;

static bool in_floats(const Model *m) { return m->products->format == FLOAT32; }

/* ---- rows ---- */

static void norm(const float *x, const float *weight, float *out, int64_t size, double eps) {
    Floats squares = all(0);
    for (int64_t j = 0; j < size; j += LANES) squares = load(x + j) * load(x + j) + squares;
    const float sum = sum_of(squares);
    /* Numbers too large to be squared must not pass for zeros. */
    const float mean = sum < INFINITY ? sum / (float)size : NAN;
    const float scale = 1.0f / sqrtf(mean + (float)eps);
    for (int64_t j = 0; j < size; j += LANES) store(out + j, load(x + j) * scale * load(weight + j));
}

/* silu(gate) * up; `inner` numbers each. */
static void activate(const float *gate_up, float *out, int64_t inner) {
    for (int64_t j = 0; j < inner; j += LANES) {
        const Floats gate = load(gate_up + j), least = chosen(gate < -87.0f, all(-87.0f), gate);
        store(out + j, gate / (exponential(-least) + 1.0f) * load(gate_up + inner + j));
    }
}

/* Numbers of the model's type: bfloat16 or float32. */
INLINE Floats cached(const uint8_t *at, int64_t j, bool floats) { return floats ? load(at + 4 * j) : widened(load_shorts(at + 2 * j)); }
INLINE void keep(uint8_t *at, int64_t j, Floats values, bool floats) {
    if (floats) store(at + 4 * j, values);
    else store_shorts(at + 2 * j, narrowed(values));
}
INLINE float cached_number(const uint8_t *at, int64_t j, bool floats) { return floats ? ((const float *)at)[j] : wide(((const uint16_t *)at)[j]); }
INLINE void keep_number(uint8_t *at, int64_t j, float value, bool floats) {
    if (floats) ((float *)at)[j] = value;
    else ((uint16_t *)at)[j] = narrowed(all(value))[0];
}

/* A head's key or value as bytes `step` apart; what is not finite makes the scale so. */
static void keep_bytes(const uint8_t *numbers, int64_t dim, bool floats, int8_t *to, int64_t step, uint16_t *scale) {
    Ints sizes = all_ints(0);
    for (int64_t j = 0; j < dim; j += LANES) {
        const Ints size = (Ints)cached(numbers, j, floats) & 0x7FFFFFFF; /* sizes have the order of their bits */
        sizes = (Ints)chosen(size > sizes, (Floats)size, (Floats)sizes);
    }
    int32_t most = sizes[0];
    EACH(i, LANES) most = sizes[i] > most ? sizes[i] : most;
    const bool usable = most < 0x7F800000;
    const float largest = usable ? ((const Floats)all_ints(most))[0] * (1.0f / 127) : NAN;
    /* Rounded up: no number is beyond 127. */
    *scale = (uint16_t)((((Words)all(largest))[0] + (usable ? 0xFFFF : 0)) >> 16);
    const float inverse = usable && wide(*scale) > 1e-30f ? 1.0f / wide(*scale) : 0;
    for (int64_t j = 0; j < dim; j += LANES) {
        const Floats found = usable ? cached(numbers, j, floats) : all(0);
        const Ints whole = __builtin_convertvector(rounded(found * inverse), Ints);
        EACH(i, LANES) to[(j + i) * step] = (int8_t)whole[i];
    }
}

/* Rotate a row's queries in place, and put its rotated keys and its values into the cache. */
INLINE void rotate_and_store(const Part *p, int64_t layer, int64_t row, const bool floats) {
    const Model *m = p->model;
    const Lane *l = p->lane;
    const int64_t dim = m->dim, half = dim / 2, size = floats ? 4 : 2;
    uint8_t *qkv = l->qkv + row * (m->heads + 2 * m->kv_heads) * dim * size;
    const float *cos = l->cos + row * dim, *sin = l->sin + row * dim;
    for (int64_t h = 0; h < m->heads + m->kv_heads; h++) {
        uint8_t *head = qkv + h * dim * size;
        int64_t j = 0;
        for (; j + LANES <= half; j += LANES) {
            const Floats first = cached(head, j, floats), second = cached(head, half + j, floats);
            keep(head, j, first * load(cos + j) - second * load(sin + j), floats);
            keep(head, half + j, second * load(cos + half + j) + first * load(sin + half + j), floats);
        }
        for (; j < half; j++) {
            const float first = cached_number(head, j, floats), second = cached_number(head, half + j, floats);
            keep_number(head, j, first * cos[j] - second * sin[j], floats);
            keep_number(head, half + j, second * cos[half + j] + first * sin[half + j], floats);
        }
    }
    const int64_t place = l->slots[row] % BLOCK;
    uint8_t *block = l->cache + l->slots[row] / BLOCK * l->block_bytes + layer * m->kv_heads * head_bytes(dim, l->kept);
    for (int64_t h = 0; h < m->kv_heads; h++) {
        const uint8_t *key = qkv + (m->heads + h) * dim * size, *value = key + m->kv_heads * dim * size;
        uint8_t *keys = block + h * head_bytes(dim, l->kept), *values = keys + dim * BLOCK * l->kept;
        if (l->kept == BYTES) {
            uint16_t *scales = (uint16_t *)(values + dim * BLOCK);
            keep_bytes(key, dim, floats, (int8_t *)keys + place, BLOCK, scales + place);
            keep_bytes(value, dim, floats, (int8_t *)values + place * dim, 1, scales + BLOCK + place);
            continue;
        }
        for (int64_t j = 0; j < dim; j++) memcpy(keys + (j * BLOCK + place) * size, key + j * size, size);
        memcpy(values + place * dim * size, value, dim * size);
    }
}

static void embed(const Model *m, int64_t token, float *x) {
    const Weight *w = m->head;
    if (m->embedding) {
        const bool floats = in_floats(m);
        const uint8_t *row = m->embedding + token * m->hidden * (floats ? 4 : 2);
        for (int64_t j = 0; j < m->hidden; j += LANES) store(x + j, cached(row, j, floats));
        return;
    }
    column(w, token, x, m->hidden);
}

/* ---- products of a chunk ---- */

static Adapters adapters_of(const Part *p, int64_t layer, int product, int64_t low) {
    const Lane *l = p->lane;
    const Module *table = l->adapters + (layer * PRODUCTS + product) * l->adapter_count * l->modules;
    return (Adapters){table, l->modules, l->owners + low, in_floats(p->model)};
}

/* A product's inputs of rows `first` to `end` have been prepared: multiply them by the adapters' A. */
static void down(const Part *p, int64_t layer, int product, int64_t inputs, int64_t low, int64_t first, int64_t end) {
    if (!p->lane->adapters) return;
    const Adapters a = adapters_of(p, layer, product, low);
    const Scratch *s = p->scratch;
    shrink_adapters(&a, s->inputs.rows, s->inputs.rows_step, inputs, first, end, s->sums, s->sums_step);
}

/* A member's columns of a product, and what the rows' adapters add to them. */
static void project(const Part *p, int64_t layer, int product, int64_t inputs, int64_t low, int64_t count, float *out,
                    int64_t out_step, bool add) {
    const Weight *w = p->model->products + layer * PRODUCTS + product;
    const int64_t panels = w->outputs / PANEL, pairs_of_panels = (panels + 1) / 2;
    const int64_t first = 2 * begin_of(p->team, pairs_of_panels), last = 2 * end_of(p->team, pairs_of_panels);
    const int64_t end = last < panels ? last : panels;
    const Scratch *s = p->scratch;
    multiply(w, &s->inputs, count, out + first * PANEL, out_step, add, first, end);
    if (!p->lane->adapters) return;
    const Adapters a = adapters_of(p, layer, product, low);
    expand_adapters(&a, inputs, count, first * PANEL, end * PANEL, out, out_step, s->sums, s->sums_step);
}

/* ---- a layer ---- */

static void normed(const Part *p, int64_t layer, const float *weight, int product, int64_t low, int64_t first, int64_t end) {
    const Model *m = p->model;
    for (int64_t i = first; i < end; i++) {
        norm(p->lane->x + (low + i) * m->hidden, weight, p->scratch->row, m->hidden, m->eps);
        prepare(m->products[layer * PRODUCTS + product].format, p->scratch->row, m->hidden, &p->scratch->inputs, i);
    }
    down(p, layer, product, m->hidden, low, first, end);
}

static void queries_keys_values(const Part *p, int64_t layer, int64_t low, int64_t count) {
    const Model *m = p->model;
    const Scratch *s = p->scratch;
    const Norms *norms = m->norms + layer;
    const int64_t first = begin_of(p->team, count), end = end_of(p->team, count), dim = m->dim;
    const int64_t width = (m->heads + 2 * m->kv_heads) * dim;
    const bool floats = in_floats(m);
    normed(p, layer, norms->attention, QKV, low, first, end);
    meet(p->team);
    project(p, layer, QKV, m->hidden, low, count, s->wide, s->wide_step * 4, false);
    meet(p->team);
    for (int64_t i = first; i < end; i++) {
        float *row = s->wide + i * s->wide_step;
        for (int64_t h = 0; norms->q && h < m->heads + m->kv_heads; h++)
            norm(row + h * dim, h < m->heads ? norms->q : norms->k, row + h * dim, dim, m->eps);
        uint8_t *to = p->lane->qkv + (low + i) * width * (floats ? 4 : 2);
        for (int64_t j = 0; j < width; j += LANES) keep(to, j, load(row + j), floats);
        if (floats) rotate_and_store(p, layer, low + i, true);
        else rotate_and_store(p, layer, low + i, false);
    }
}

static void attention(const Part *p, int64_t layer) {
    const Model *m = p->model;
    const Lane *l = p->lane;
    const int64_t units = l->runs * m->kv_heads;
    const Attention a = {
        .cache = l->cache + layer * m->kv_heads * head_bytes(m->dim, l->kept), .block_bytes = l->block_bytes, .kept = l->kept, .qkv = l->qkv,
        .out = l->attended, .heads = m->heads, .kv_heads = m->kv_heads, .dim = m->dim, .window = m->window,
        .room = p->scratch->attention, .floats = in_floats(m)};
    /* Rows that decode see nothing of each other: with one for each member, each attends for its own. */
    const bool own = l->alone && p->team->size <= l->rows && l->rows <= CHUNK;
    if (!own) meet(p->team);
    /* A chunk may go on in the next lane. (None follows a lane that has several members.) */
    if (l->ahead) await_number(l->ahead, layer + 1);
    if (p->team->number == 0) announce(l->stored, layer + 1);
    const int64_t first = own ? begin_of(p->team, l->rows) * m->kv_heads : begin_of(p->team, units);
    const int64_t end = own ? end_of(p->team, l->rows) * m->kv_heads : end_of(p->team, units);
    for (int64_t u = first; u < end; u++) attend(&a, l->run + u / m->kv_heads, u % m->kv_heads);
    if (!own) meet(p->team);
}

static void rest_of_layer(const Part *p, int64_t layer, int64_t low, int64_t count) {
    const Model *m = p->model;
    const Scratch *s = p->scratch;
    const int64_t first = begin_of(p->team, count), end = end_of(p->team, count), deep = m->heads * m->dim;
    float *x = p->lane->x + low * m->hidden;
    const bool floats = in_floats(m);
    for (int64_t i = first; i < end; i++) {
        const uint8_t *row = p->lane->attended + (low + i) * deep * (floats ? 4 : 2);
        for (int64_t j = 0; j < deep; j += LANES) store(s->row + j, cached(row, j, floats));
        prepare(m->products[layer * PRODUCTS + OUT].format, s->row, deep, &s->inputs, i);
    }
    down(p, layer, OUT, deep, low, first, end);
    meet(p->team);
    project(p, layer, OUT, deep, low, count, x, m->hidden * 4, true);
    meet(p->team);
    normed(p, layer, m->norms[layer].mlp, GATE_UP, low, first, end);
    meet(p->team);
    project(p, layer, GATE_UP, m->hidden, low, count, s->wide, s->wide_step * 4, false);
    meet(p->team);
    for (int64_t i = first; i < end; i++) {
        activate(s->wide + i * s->wide_step, s->row, m->inner);
        prepare(m->products[layer * PRODUCTS + DOWN].format, s->row, m->inner, &s->inputs, i);
    }
    down(p, layer, DOWN, m->inner, low, first, end);
    meet(p->team);
    project(p, layer, DOWN, m->inner, low, count, x, m->hidden * 4, true);
    meet(p->team);
}

/* ---- logits ---- */

/* Row `i`'s next logits, of columns from `low` on. */
static void look_through(const float *logits, int64_t count, int64_t low, float *top, int64_t *place) {
    Floats largest = all(-INFINITY), spoilt = all(0);
    for (int64_t j = 0; j < count; j += LANES) {
        const Floats seen = load(logits + j);
        largest = larger(seen, largest);
        spoilt = spoilt + seen * 0.0f;
    }
    top[1] += sum_of(spoilt);
    const float found = largest_of(largest);
    if (!(found > top[0])) return;
    int64_t at = 0;
    while (at < count - 1 && logits[at] != found) at++;
    top[0] = found, *place = low + at;
}

static void logits(const Part *p) {
    const Model *m = p->model;
    const Lane *l = p->lane;
    const Scratch *s = p->scratch;
    const int64_t shares = (m->vocabulary + SHARE - 1) / SHARE, number = p->team->number;
    for (int64_t low = 0; low < l->wanted_rows; low += CHUNK) {
        const int64_t left = l->wanted_rows - low, count = left < CHUNK ? left : CHUNK;
        const int64_t first = begin_of(p->team, count), end = end_of(p->team, count);
        for (int64_t i = first; i < end; i++) {
            norm(l->x + l->wanted[low + i] * m->hidden, m->last_norm, s->row, m->hidden, m->eps);
            prepare(m->head->format, s->row, m->hidden, &s->inputs, i);
        }
        float *tops = s->tops + number * CHUNK * 2;
        int64_t *places = s->places + number * CHUNK;
        for (int64_t i = 0; i < count; i++) tops[2 * i] = -INFINITY, tops[2 * i + 1] = 0, places[i] = -1;
        meet(p->team);
        for (int64_t part = begin_of(p->team, shares); part < end_of(p->team, shares); part++) {
            const int64_t begin = part * SHARE, size = m->vocabulary - begin < SHARE ? m->vocabulary - begin : SHARE;
            multiply(m->head, &s->inputs, count, s->seen, SHARE * 4, false, begin / PANEL, (begin + size + PANEL - 1) / PANEL);
            for (int64_t i = 0; i < count; i++) {
                float *seen = s->seen + i * SHARE;
                for (int64_t j = size; j % LANES; j++) seen[j] = -FLT_MAX; /* padding is no token */
                if (l->logits) memcpy(l->logits + (low + i) * m->vocabulary + begin, seen, size * 4);
                look_through(seen, size, begin, tops + 2 * i, places + i);
            }
        }
        meet(p->team);
        for (int64_t i = first; i < end; i++) {
            float largest = -INFINITY, spoilt = 0;
            int64_t best = -1;
            for (int64_t n = 0; n < p->team->size; n++) {
                const float *top = s->tops + (n * CHUNK + i) * 2;
                spoilt += top[1];
                if (top[0] > largest) largest = top[0], best = s->places[n * CHUNK + i];
            }
            l->best[low + i] = best < 0 ? 0 : best;
            l->usable[low + i] = spoilt == 0 && largest > -INFINITY;
        }
        meet(p->team);
    }
}

/* ---- all of it ---- */

static void run(const Model *model, const Lane *lane, const Scratch *scratch, const Team *team) {
    const Part part = {model, lane, scratch, team}, *p = &part;
    for (int64_t i = begin_of(team, lane->rows); i < end_of(team, lane->rows); i++) embed(model, lane->tokens[i], lane->x + i * model->hidden);
    meet(team);
    for (int64_t layer = 0; layer < model->layers; layer++) {
        for (int64_t low = 0; low < lane->rows; low += CHUNK)
            queries_keys_values(p, layer, low, lane->rows - low < CHUNK ? lane->rows - low : CHUNK);
        attention(p, layer);
        for (int64_t low = 0; low < lane->rows; low += CHUNK)
            rest_of_layer(p, layer, low, lane->rows - low < CHUNK ? lane->rows - low : CHUNK);
    }
    logits(p);
}
