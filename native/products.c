/* Matrix products: y[rows, N] = x[rows, K] W[N, K]^T.
 *
 * A weight lies in panels of 16 outputs. A panel is a run of lines, one after the other as they are read; a line holds
 * for each of the 16 outputs the next inputs: one float32, two bfloat16, four bytes, or eight of 4 bits. So a line is
 * one vector, and one broadcast of a row's next inputs meets all of it.
 *
 * A tile is the product of a few rows and one or two panels, all sums in registers. Every tile adds a row's products in
 * the same order: a row is computed alike, to the last bit, whoever goes through with it. While a tile is computed, the
 * lines of the panels that come next are asked for. */
#include "kernels.h"
#include "simd.h"

enum {
    CODED_LINE = 48,
    NUMBERED = 16,
    SHARED = MANY_REGISTERS ? 17 : 9, /* from so many rows on they share the unpacking */
    PANELS = MANY_REGISTERS ? 2 : 1,
    /* The rows of a tile, as many as have their sums in registers. */
    FLOAT_ROWS = MANY_REGISTERS ? 8 : 4,
    INTEGER_ROWS = MANY_REGISTERS ? 6 : 4,
    MOST_ROWS = 8,
};

typedef struct {
    const uint8_t *x, *factors, *weights, *scales;
    int64_t x_step, factors_step, panel, scales_panel, depth, out_step, ahead;
    const float *bias;
    float *out;
    bool add;
} Tile;

/* ---- tiles ---- */

INLINE float *out_of(const Tile *t, int r, int c) { return (float *)((uint8_t *)t->out + r * t->out_step) + PANEL * c; }

INLINE Floats begun(const Tile *t, int r, int c) {
    Floats sum = t->bias ? load(t->bias + PANEL * c) : all(0);
    return t->add ? sum + load(out_of(t, r, c)) : sum;
}

INLINE void tile_floats(const Tile *t, const int R, const int C) {
    Floats sums[MOST_ROWS][2];
    EACH(r, R) EACH(c, C) sums[r][c] = begun(t, r, c);
    for (int64_t k = 0; k < t->depth; k++) {
        Floats line[2];
        EACH(c, C) line[c] = load(t->weights + c * t->panel + k * LINE);
        EACH(c, C) ask(t->weights + c * t->panel + k * LINE + t->ahead);
        EACH(r, R) {
            Floats x = all(load_float(t->x + r * t->x_step + 4 * k));
            EACH(c, C) sums[r][c] = x * line[c] + sums[r][c];
        }
    }
    EACH(r, R) EACH(c, C) store(out_of(t, r, c), sums[r][c]);
}

/* A line of CODED as 16 pairs of bfloat16: 32 lower bytes, then for each output the numbers (4 bits) of both upper ones. */
INLINE Ints decoded(const uint8_t *line, Ints uppers) {
    typedef uint8_t Lower __attribute__((vector_size(32)));
    typedef uint16_t Pairs __attribute__((vector_size(64)));
    Lower lower;
    memcpy(&lower, line, sizeof lower);
    Ints numbers = __builtin_convertvector(load_bytes(line + 32), Ints);
    /* Each number comes to stand in an upper byte; 0x80 makes the byte below 0. */
    Ints spread = (((numbers << 8) | (numbers << 20)) & 0x0F000F00) | 0x00800080;
    return (Ints)__builtin_convertvector(lower, Pairs) | looked_up(uppers, spread);
}

INLINE void tile_two(const Tile *t, const bool coded, const int R, const int C) {
    const int64_t size = coded ? CODED_LINE : LINE;
    Floats sums[MOST_ROWS][2];
    Ints uppers[2];
    EACH(c, C) if (coded) uppers[c] = four_times(t->scales + c * t->scales_panel);
    EACH(r, R) EACH(c, C) sums[r][c] = begun(t, r, c);
    for (int64_t step = 0; step < t->depth / 2; step++) {
        Ints line[2];
        EACH(c, C) {
            const uint8_t *at = t->weights + c * t->panel + step * size;
            if (coded || R == 1) ask(at + t->ahead);
            line[c] = coded ? decoded(at, uppers[c]) : load_ints(at);
        }
        EACH(r, R) {
#if DOTS_BFLOAT16
            Ints x = all_ints(load_int(t->x + r * t->x_step + 4 * step));
            EACH(c, C) sums[r][c] = dot_bfloat16(sums[r][c], x, line[c]);
#else
            Floats first = all(load_float(t->x + r * t->x_step + 8 * step));
            Floats second = all(load_float(t->x + r * t->x_step + 8 * step + 4));
            EACH(c, C) sums[r][c] = first * first_half(line[c]) + sums[r][c];
            EACH(c, C) sums[r][c] = second * second_half(line[c]) + sums[r][c];
#endif
        }
    }
    EACH(r, R) EACH(c, C) store(out_of(t, r, c), sums[r][c]);
}

INLINE void tile_pairs(const Tile *t, const int R, const int C) { tile_two(t, false, R, C); }
INLINE void tile_coded(const Tile *t, const int R, const int C) { tile_two(t, true, R, C); }

INLINE const uint8_t *factor_of(const Tile *t, int r, int64_t group) { return t->factors + r * t->factors_step + 4 * group; }

/* Unsigned weights are 128 too large: what that adds to a group's sum is taken off where the sum begins. */
INLINE void tile_bytes(const Tile *t, const int R, const int C) {
    Floats sums[MOST_ROWS][2];
    EACH(r, R) EACH(c, C) sums[r][c] = begun(t, r, c);
    for (int64_t g = 0; g < t->depth / GROUP; g++) {
        const uint8_t *x = t->x + g * GROUP * (SHORT_NUMBERS ? 2 : 1);
        Ints whole[MOST_ROWS][2];
        EACH(r, R) {
            Ints start = all_ints(load_int(factor_of(t, r, g) + t->factors_step / 2));
            EACH(c, C) whole[r][c] = start;
        }
        EACH(s, GROUP / 4) {
            Ints line[2];
            EACH(c, C) {
                const uint8_t *at = t->weights + c * t->panel + (g * (GROUP / 4) + s) * LINE;
                line[c] = load_ints(at);
                if (R == 1) ask_once(at + t->ahead);
                else ask(at + t->ahead);
            }
#if SHORT_NUMBERS
            /* The first and third of each four weights, then the second and fourth. */
            EACH(r, R) EACH(c, C) whole[r][c] = dot_bytes(whole[r][c], line[c] & 0x00FF00FF, all_ints(load_int(x + r * t->x_step + 8 * s)));
            EACH(r, R) EACH(c, C) whole[r][c] = dot_bytes(whole[r][c], (line[c] >> 8) & 0x00FF00FF, all_ints(load_int(x + r * t->x_step + 8 * s + 4)));
#else
            EACH(r, R) {
                Ints four = all_ints(load_int(x + r * t->x_step + 4 * s));
                EACH(c, C) whole[r][c] = dot_bytes(whole[r][c], line[c], four);
            }
#endif
        }
        EACH(c, C) {
            Floats scale = of_halves(load_halves(t->scales + c * t->scales_panel + g * 2 * PANEL));
            EACH(r, R) sums[r][c] = of_ints(whole[r][c]) * (scale * all(load_float(factor_of(t, r, g)))) + sums[r][c];
        }
    }
    EACH(r, R) EACH(c, C) store(out_of(t, r, c), sums[r][c]);
}

/* A line holds two steps, in the low and the high halves of its bytes; a weight is number * scale + offset. */
INLINE void tile_nibbles(const Tile *t, const int R, const int C) {
    Floats sums[MOST_ROWS][2];
    EACH(r, R) EACH(c, C) sums[r][c] = begun(t, r, c);
    for (int64_t g = 0; g < t->depth / GROUP; g++) {
        const uint8_t *x = t->x + g * GROUP;
        Ints whole[MOST_ROWS][2];
        EACH(r, R) EACH(c, C) whole[r][c] = all_ints(0);
        EACH(s, GROUP / 8) {
            Ints low[2], high[2];
            EACH(c, C) {
                const uint8_t *at = t->weights + c * t->panel + (g * (GROUP / 8) + s) * LINE;
                Ints line = load_ints(at);
                if (R == 1) ask_once(at + t->ahead);
                else ask(at + t->ahead);
                low[c] = line & 0x0F0F0F0F;
                high[c] = (line >> 4) & 0x0F0F0F0F;
            }
            EACH(r, R) {
                Ints four = all_ints(load_int(x + r * t->x_step + 8 * s));
                EACH(c, C) whole[r][c] = dot_nibbles(whole[r][c], low[c], four);
            }
            EACH(r, R) {
                Ints four = all_ints(load_int(x + r * t->x_step + 8 * s + 4));
                EACH(c, C) whole[r][c] = dot_nibbles(whole[r][c], high[c], four);
            }
        }
        EACH(c, C) {
            const uint8_t *at = t->scales + c * t->scales_panel + g * 4 * PANEL;
            Floats scale = of_halves(load_halves(at)), offset = of_halves(load_halves(at + 2 * PANEL));
            EACH(r, R) {
                Floats both = scale * all(load_float(factor_of(t, r, g)));
                sums[r][c] = of_ints(sums_of_nibbles(whole[r][c])) * both + sums[r][c];
                sums[r][c] = offset * all(load_float(factor_of(t, r, g) + t->factors_step / 2)) + sums[r][c];
            }
        }
    }
    EACH(r, R) EACH(c, C) store(out_of(t, r, c), sums[r][c]);
}

/* ---- rows through panels ---- */

typedef void Through(const Tile *);
#define TILE(name, rows, panels) \
    static void name##_##rows(const Tile *t) { tile_##name(t, rows, panels); }
#if MANY_REGISTERS
#define HIGH_TILES(name) TILE(name, 5, PANELS) TILE(name, 6, PANELS) TILE(name, 7, PANELS) TILE(name, 8, PANELS)
#define HIGH(name) name##_5, name##_6, name##_7, name##_8
#else
#define HIGH_TILES(name)
#define HIGH(name) 0
#endif
/* By the number of rows. One row goes through one panel after the other: reading is then a single stream. */
#define TILES(name)                                                                                     \
    TILE(name, 1, 1) TILE(name, 2, PANELS) TILE(name, 3, PANELS) TILE(name, 4, PANELS) HIGH_TILES(name) \
    static Through *const name[] = {0, name##_1, name##_2, name##_3, name##_4, HIGH(name)};
TILES(floats)
TILES(pairs)
TILES(coded)
TILES(bytes)
TILES(nibbles)

INLINE Tile panels_from(const Tile *tile, int64_t c) {
    Tile part = *tile;
    part.weights += c * tile->panel, part.scales += c * tile->scales_panel, part.out += c * PANEL;
    if (tile->bias) part.bias += c * PANEL;
    return part;
}

/* Rows through one panel or a pair, in tiles as equal as can be. */
INLINE void through_pair(Tile tile, int64_t rows, int64_t panels, Through *const tiles[], int64_t most) {
    const int64_t ahead = tile.ahead;
    if (panels < PANELS) most = 1;
    for (int64_t left = rows; left > 0;) {
        const int64_t count = left / ((left + most - 1) / most);
        left -= count;
        tile.ahead = left > 0 ? 0 : ahead; /* the last rows ask for what comes next */
        for (int64_t c = 0; c < (count == 1 ? panels : 1); c++) {
            const Tile one = panels_from(&tile, c);
            tiles[count](&one);
        }
        tile.x += count * tile.x_step, tile.factors += count * tile.factors_step;
        tile.out = (float *)((uint8_t *)tile.out + count * tile.out_step);
    }
}

INLINE void through(const Tile *tile, int64_t rows, int64_t panels, Through *const tiles[], int64_t most) {
    for (int64_t c = 0; c < panels; c += PANELS)
        through_pair(panels_from(tile, c), rows, panels - c < PANELS ? panels - c : PANELS, tiles, most);
}

static void unpack(const uint8_t *lines, const uint8_t *scales, int64_t steps, int64_t ahead, uint8_t *out) {
    const Ints uppers = four_times(scales);
    for (int64_t s = 0; s < steps; s++) {
        ask(lines + s * CODED_LINE + ahead);
        Ints line = decoded(lines + s * CODED_LINE, uppers);
        memcpy(out + s * LINE, &line, LINE);
    }
}

/* Many rows share the work of unpacking, some inputs at a time. */
static void through_unpacked(Tile tile, uint8_t *room, int64_t rows, int64_t panels) {
    const int64_t depth = tile.depth, x_size = DOTS_BFLOAT16 ? 2 : 4, whole = UNPACKED / 2 * LINE;
    const uint8_t *weights = tile.weights, *x = tile.x;
    const int64_t parts = (depth + UNPACKED - 1) / UNPACKED, size = (depth / parts + GROUP - 1) / GROUP * GROUP;
    for (int64_t k = 0; k < depth; k += size) {
        tile.depth = depth - k < size ? depth - k : size;
        for (int64_t c = 0; c < panels; c++) {
            const uint8_t *from = weights + c * tile.panel + k / 2 * CODED_LINE;
            unpack(from, tile.scales + c * tile.scales_panel, tile.depth / 2, tile.ahead, room + c * whole);
        }
        Tile part = tile;
        part.weights = room, part.panel = whole, part.x = x + k * x_size, part.ahead = 0;
        through(&part, rows, panels, pairs, FLOAT_ROWS);
        tile.add = true, tile.bias = 0;
    }
}

/* Return where in the list the panel of `output`, or what follows it, begins. */
static int64_t first_rare(const Weight *w, int64_t output) {
    int64_t low = 0, high = w->rares;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (w->rare[3 * middle + 1] / PANEL * PANEL < output) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* What the weights that are not in the panels contribute; their list has the order of the panels. */
static void add_rare(const Weight *w, const Inputs *in, int64_t rows, float *out, int64_t out_step, int64_t first, int64_t end) {
    const int64_t low = first_rare(w, first * PANEL), high = first_rare(w, end * PANEL);
    for (int64_t r = 0; r < (low < high ? rows : 0); r++) {
        const uint16_t *x = (const uint16_t *)(in->rows + r * in->rows_step);
        float *y = (float *)((uint8_t *)out + r * out_step);
        for (const int32_t *n = w->rare + 3 * low; n < w->rare + 3 * high; n += 3)
            y[n[1] - first * PANEL] += wide(x[n[0]]) * wide((uint16_t)n[2]);
    }
}

/* The rows times panels `first` to `end` of a weight, stored or (`add`) added at `out`. */
static void multiply(const Weight *w, const Inputs *in, int64_t rows, float *out, int64_t out_step, bool add, int64_t first, int64_t end) {
    static const struct {
        Through *const *tiles;
        int64_t most, bits, scales; /* bits of a number; bytes of scales for 32 inputs of a panel */
    } ways[] = {
        [INT4] = {nibbles, INTEGER_ROWS, 4, 4 * PANEL},
        [INT8] = {bytes, INTEGER_ROWS, 8, 2 * PANEL},
        [CODED] = {coded, FLOAT_ROWS, 12, 0},
        [BFLOAT16] = {pairs, FLOAT_ROWS, 16, 0},
        [FLOAT32] = {floats, FLOAT_ROWS, 32, 0},
    };
    const int64_t format = w->format, panel = w->inputs * PANEL * ways[format].bits / 8;
    const int64_t scales_panel = format == CODED ? NUMBERED : w->inputs / GROUP * ways[format].scales;
    const bool as_rows = format == FLOAT32 || (DOTS_BFLOAT16 && format >= CODED);
    for (int64_t p = first; p < end; p += 2) {
        const int64_t panels = end - p < 2 ? 1 : 2;
        Tile tile = {
            .x = as_rows ? in->rows : in->tiled,
            .x_step = as_rows ? in->rows_step : in->tiled_step,
            .factors = in->factors,
            .factors_step = in->factors_step,
            .weights = w->numbers + p * panel,
            .panel = panel,
            .scales = w->scales + p * scales_panel,
            .scales_panel = scales_panel,
            .depth = w->inputs,
            .bias = w->bias ? w->bias + p * PANEL : 0,
            .out = out + (p - first) * PANEL,
            .out_step = out_step,
            .ahead = panels * panel,
            .add = add,
        };
        if (format == CODED && rows >= SHARED) through_unpacked(tile, in->unpacked, rows, panels);
        else through(&tile, rows, panels, ways[format].tiles, ways[format].most);
    }
    if (w->rares) add_rare(w, in, rows, out, out_step, first, end);
}

/* ---- rows as tiles read them ---- */

/* A group of float32 as the nearest of 255 steps between minus and plus the largest; gives the scale, and the sum of the
 * numbers. Bytes know no NaN: what is not finite makes the scale so, and with it all sums. */
INLINE float quantized(const float *values, uint8_t *numbers, const bool shorts, int32_t *sum) {
    const Floats parts[2] = {load(values), load(values + LANES)};
    const Floats size[2] = {(Floats)((Ints)parts[0] & 0x7FFFFFFF), (Floats)((Ints)parts[1] & 0x7FFFFFFF)};
    const Ints bits = (Ints)chosen((Ints)size[0] > (Ints)size[1], size[0], size[1]);
    int32_t most = bits[0];
    EACH(i, LANES) most = bits[i] > most ? bits[i] : most; /* sizes have the order of their bits, NaN is the largest */
    float largest;
    memcpy(&largest, &most, 4);
    const bool usable = largest > 0 && largest < INFINITY;
    const Floats inverse = all(usable ? 127.0f / largest : 0);
    Ints whole[2];
    EACH(i, 2) {
        whole[i] = __builtin_convertvector(rounded((usable ? parts[i] : all(0)) * inverse), Ints);
        if (shorts) {
            typedef int16_t Shorts16 __attribute__((vector_size(32)));
            const Shorts16 in_order = __builtin_convertvector(whole[i], Shorts16);
            int16_t *to = (int16_t *)numbers + i * LANES;
            EACH(n, LANES / 4) { /* of each four numbers the first and third, then the others */
                to[4 * n] = in_order[4 * n], to[4 * n + 1] = in_order[4 * n + 2];
                to[4 * n + 2] = in_order[4 * n + 1], to[4 * n + 3] = in_order[4 * n + 3];
            }
        } else {
            const Bytes bytes16 = __builtin_convertvector(whole[i], Bytes);
            memcpy(numbers + i * LANES, &bytes16, LANES);
        }
    }
    *sum = sum_of_ints(whole[0] + whole[1]);
    return largest * (1.0f / 127);
}

/* Put a float32 row where tiles read row `r` for a weight of this format, and where adapters do. */
static void prepare(int64_t format, const float *row, int64_t size, const Inputs *in, int64_t r) {
    uint8_t *rows = in->rows + r * in->rows_step, *tiled = in->tiled + r * in->tiled_step;
    float *scales = (float *)(in->factors + r * in->factors_step);
    int32_t *starts = (int32_t *)(in->factors + r * in->factors_step + in->factors_step / 2);
    const int64_t rest = size % GROUP ? GROUP - size % GROUP : 0; /* weights are zero there, and what was there may be NaN */
    memset(rows + (format == FLOAT32 ? 4 : 2) * size, 0, (format == FLOAT32 ? 4 : 2) * rest);
    if (format == FLOAT32) {
        memcpy(rows, row, 4 * size);
        return;
    }
    if (format >= CODED && !DOTS_BFLOAT16) memset(tiled + 4 * size, 0, 4 * rest);
    for (int64_t k = 0; k < size; k += LANES) {
        const Shorts narrow = narrowed(load(row + k));
        store_shorts(rows + 2 * k, narrow);
        if (format >= CODED && !DOTS_BFLOAT16) store(tiled + 4 * k, widened(narrow));
    }
    if (format >= CODED) return;
    const bool shorts = SHORT_NUMBERS && format == INT8;
    for (int64_t g = 0; g < size / GROUP; g++) {
        int32_t sum;
        scales[g] = quantized(row + g * GROUP, tiled + g * GROUP * (shorts ? 2 : 1), shorts, &sum);
        if (format == INT8) starts[g] = -128 * sum;
        else ((float *)starts)[g] = scales[g] * (float)sum;
    }
}

/* An output's weights as float32: a token's embedding, where the head serves as such. */
static void column(const Weight *w, int64_t output, float *x, int64_t size) {
    const int64_t panel = output / PANEL, n = output % PANEL, groups = w->inputs / GROUP;
    const uint8_t *lines = w->numbers + panel * w->inputs * PANEL * (w->format == CODED ? 12 : w->format) / 8;
    const uint16_t *scales = (const uint16_t *)w->scales + panel * groups * PANEL + n;
    for (int64_t k = 0; k < size; k++) {
        if (w->format == FLOAT32) x[k] = ((const float *)lines)[k * PANEL + n];
        else if (w->format == BFLOAT16) x[k] = wide(((const uint16_t *)lines)[(k / 2 * PANEL + n) * 2 + k % 2]);
        else if (w->format == INT8) x[k] = ((float)lines[(k / 4 * PANEL + n) * 4 + k % 4] - 128.0f) * of_half(scales[k / GROUP * PANEL]);
        else { /* CODED */
            const uint8_t *line = lines + k / 2 * CODED_LINE;
            const uint8_t number = line[2 * PANEL + n] >> (4 * (k % 2)) & 15;
            x[k] = wide((uint16_t)(w->scales[panel * NUMBERED + number] << 8 | line[2 * n + k % 2]));
        }
    }
    for (int64_t i = 0; i < w->rares; i++)
        if (w->rare[3 * i + 1] == output) x[w->rare[3 * i]] = wide((uint16_t)w->rare[3 * i + 2]);
}
