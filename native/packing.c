/* Weights and adapters, as files hold them, laid out as the kernels read them.
 *
 * Numbers are read in chunks of a few vectors and converted there, whatever the file's kind of them. A panel is laid out
 * by transposing: 16 outputs of some inputs become lines of 16 outputs. */
#include "kernels.h"
#include "simd.h"

enum { MOST_HALF = 65504 };
typedef uint8_t Block[GROUP];

/* ---- numbers of files ---- */

/* Up to 16 numbers as float32, zeros behind them. */
INLINE Floats numbers_at(const uint8_t *at, int64_t kind, int64_t count) {
    uint8_t rest[LINE] = {0};
    if (count <= 0) return all(0);
    if (count < LANES) at = memcpy(rest, at, count * (kind == F32 ? 4 : 2));
    return kind == F32 ? load(at) : kind == F16 ? of_halves(load_halves(at)) : widened(load_shorts(at));
}

INLINE float half_at(const uint8_t *at) {
    uint16_t bits;
    memcpy(&bits, at, 2);
    return of_half(bits);
}

/* A group's bytes, number * scale + offset each. */
typedef struct {
    Block numbers;
    float scale, offset;
} Group;

INLINE void split_nibbles(const uint8_t *from, Block numbers) {
    const Unsigned both = load_bytes(from), low = both & 15, high = both >> 4;
    memcpy(numbers, &low, sizeof low), memcpy(numbers + sizeof low, &high, sizeof high);
}

/* Of eight groups that share a half scale and a half offset the 6-bit factors of both for one, in 12 bytes. */
INLINE void factors_of(const uint8_t *packed, int64_t group, int *scale, int *offset) {
    if (group < 4) *scale = packed[group] & 63, *offset = packed[4 + group] & 63;
    else {
        *scale = (packed[4 + group] & 15) | (packed[group - 4] >> 6 << 4);
        *offset = (packed[4 + group] >> 4) | (packed[group] >> 6 << 4);
    }
}

/* Group `g` of a row in blocks: https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h. Q8_0's numbers are 128
 * larger here. */
static Group group_at(const uint8_t *row, int64_t kind, int64_t g) {
    Group found;
    if (kind == Q8_0) {
        const uint8_t *block = row + 34 * g;
        for (int i = 0; i < 2; i++) {
            const Unsigned part = load_bytes(block + 2 + LANES * i) ^ 128;
            memcpy(found.numbers + LANES * i, &part, LANES);
        }
        found.scale = half_at(block), found.offset = -128 * found.scale;
    } else if (kind == Q4_K) {
        const uint8_t *block = row + 144 * (g / 8), *nibbles = block + 16 + g % 8 / 2 * GROUP;
        int scale, offset;
        factors_of(block + 4, g % 8, &scale, &offset);
        found.scale = half_at(block) * (float)scale, found.offset = -half_at(block + 2) * (float)offset;
        for (int i = 0; i < GROUP; i++) found.numbers[i] = g % 2 ? nibbles[i] >> 4 : nibbles[i] & 15;
    } else {
        const uint8_t *block = row + (kind == Q4_0 ? 18 : 20) * g;
        found.scale = half_at(block), found.offset = kind == Q4_0 ? -8 * found.scale : half_at(block + 2);
        split_nibbles(block + (kind == Q4_0 ? 2 : 4), found.numbers);
    }
    return found;
}

static const uint8_t *row_of(const Matrix *m, int64_t place) {
    static const struct {
        int64_t numbers, bytes;
    } blocks[] = {[F16] = {1, 2},    [BF16] = {1, 2},   [F32] = {1, 4},     [Q8_0] = {32, 34},
                  [Q4_0] = {32, 18}, [Q4_1] = {32, 20}, [Q4_K] = {256, 144}};
    if (place >= m->rows) return 0;
    const int64_t bytes = m->columns / blocks[m->kind].numbers * blocks[m->kind].bytes;
    return m->numbers + (m->order ? m->order[place] : place) * bytes;
}

/* 32 numbers of a row from column `k` on; of columns and rows (0) that are not there, zeros. */
static void floats_of(const Matrix *m, const uint8_t *row, int64_t k, Floats found[2]) {
    const int64_t left = row ? m->columns - k : 0, size = m->kind == F32 ? 4 : 2;
    if (left > 0 && m->kind >= Q8_0) {
        const Group group = group_at(row, m->kind, k / GROUP);
        EACH(i, 2) {
            const Ints numbers = __builtin_convertvector(load_bytes(group.numbers + LANES * i), Ints);
            found[i] = of_ints(numbers) * group.scale + group.offset;
        }
        return;
    }
    EACH(i, 2) found[i] = numbers_at(left > 0 ? row + (k + LANES * i) * size : 0, m->kind, left - LANES * i);
}

/* ---- groups in few bits ---- */

/* Integers in the order of the float32; beyond those of the infinities are NaN. */
INLINE Ints in_order(Floats v) { return (Ints)v ^ (((Ints)v >> 31) & 0x7FFFFFFF); }
INLINE float of_order(int32_t key) {
    const int32_t bits = key ^ ((key >> 31) & 0x7FFFFFFF);
    float found;
    memcpy(&found, &bits, 4);
    return found;
}
INLINE int32_t largest_int(Ints a, Ints b) {
    const Ints greater = a > b, most = (greater & a) | (~greater & b);
    int32_t largest = most[0];
    EACH(i, LANES) largest = most[i] > largest ? most[i] : largest;
    return largest;
}

/* A group as steps from `low` to `high` of a scale: (x - offset) / scale, to the nearest. */
INLINE Group in_steps(const Floats x[2], float scale, float offset, float low, float high, int zero) {
    Group found = {.scale = of_half(half_of(scale)), .offset = of_half(half_of(offset))};
    const float by = found.scale < 1e-30f ? 1e-30f : found.scale; /* a half is 0 where the weights need not be */
    EACH(i, 2) {
        Floats steps = (x[i] - found.offset) / by;
        steps = chosen(steps > low, steps, all(low)); /* NaN, too */
        steps = chosen(steps < high, steps, all(high));
        const Unsigned numbers = __builtin_convertvector(__builtin_convertvector(rounded(steps), Ints) + zero, Unsigned);
        memcpy(found.numbers + LANES * i, &numbers, sizeof numbers);
    }
    return found;
}

/* 1 to 255, 128 for zero. What is not finite makes the scale so. */
static Group in_bytes(const Floats x[2]) {
    const float largest = of_order(largest_int((Ints)x[0] & 0x7FFFFFFF, (Ints)x[1] & 0x7FFFFFFF));
    return in_steps(x, largest / 127, 0, -127, 127, 128);
}

/* 0 to 15, from the least of the weights on. */
static Group in_nibbles(const Floats x[2]) {
    const Ints keys[2] = {in_order(x[0]), in_order(x[1])};
    const float high = of_order(largest_int(keys[0], keys[1])), low = of_order(~largest_int(~keys[0], ~keys[1]));
    return in_steps(x, (high - low) / 15, low, 0, 15, 0);
}

/* Group `g` of a row. What the file holds in as many bits keeps its numbers; so does Q4_0 in bytes. */
static Group group_of(const Matrix *m, const uint8_t *row, int64_t g, int64_t format) {
    if (row && (format == INT8 ? m->kind == Q8_0 || m->kind == Q4_0 : m->kind > Q8_0)) {
        Group found = group_at(row, m->kind, g);
        if (format == INT8 && m->kind == Q4_0) EACH(i, GROUP) found.numbers[i] += 128 - 8;
        if (format == INT8 || (fabsf(found.scale) <= MOST_HALF && fabsf(found.offset) <= MOST_HALF)) return found;
    }
    Floats x[2];
    floats_of(m, row, g * GROUP, x);
    return format == INT8 ? in_bytes(x) : in_nibbles(x);
}

/* ---- panels ---- */

/* v[i][j] becomes v[j][i]: all 256 numbers are shuffled as two halves of a deck of cards, four times. */
static __attribute__((noinline)) void transpose(Ints v[LANES]) {
    EACH(turn, 4) {
        Ints w[LANES];
        EACH(i, LANES / 2) {
            w[2 * i] = __builtin_shufflevector(v[i], v[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            w[2 * i + 1] =
                __builtin_shufflevector(v[i], v[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        }
        EACH(i, LANES) v[i] = w[i];
    }
}

/* A panel, and where it goes. */
typedef struct {
    const Matrix *matrix;
    const uint8_t *rows[PANEL]; /* 0: beyond the last */
    int64_t inputs;
    uint8_t *lines, *scales;
} Panel;

static void panel_of_groups(const Panel *p, int64_t format) {
    const int64_t groups = p->inputs / GROUP, words = GROUP / 4, halves = format == INT8 ? 1 : 2;
    uint16_t *scales = (uint16_t *)p->scales;
    uint8_t *to = p->lines;
    for (int64_t g = 0; g < groups; g += 2) {
        const int64_t count = groups - g < 2 ? 1 : 2;
        Ints lines[LANES];
        memset(lines, 0, sizeof lines);
        for (int64_t n = 0; n < PANEL; n++)
            for (int64_t i = 0; i < count; i++) {
                const Group group = group_of(p->matrix, p->rows[n], g + i, format);
                memcpy((uint8_t *)&lines[n] + i * GROUP, group.numbers, GROUP);
                uint16_t *scale = scales + (g + i) * halves * PANEL + n;
                scale[0] = half_of(group.scale);
                if (halves == 2) scale[PANEL] = half_of(group.offset);
            }
        transpose(lines);
        for (int64_t s = 0; s < count * words; s += halves, to += LINE) {
            if (halves == 2) lines[s] |= lines[s + 1] << 4;
            memcpy(to, &lines[s], LINE);
        }
    }
}

/* 32 numbers of a row from column `k` on as pairs of bfloat16. */
INLINE Ints pairs_of(const Matrix *m, const uint8_t *row, int64_t k) {
    if (row && m->kind == BF16 && k + 2 * LANES <= m->columns) return load_ints(row + 2 * k);
    Floats x[2];
    floats_of(m, row, k, x);
    const Shorts narrow[2] = {narrowed(x[0]), narrowed(x[1])};
    return load_ints(narrow);
}

static void panel_of_pairs(const Panel *p) {
    for (int64_t k = 0; k < p->inputs; k += 2 * LANES) {
        Ints lines[LANES];
        for (int64_t n = 0; n < PANEL; n++) lines[n] = pairs_of(p->matrix, p->rows[n], k);
        transpose(lines);
        memcpy(p->lines + k / 2 * LINE, lines, sizeof lines);
    }
}

static void panel_of_floats(const Panel *p) {
    for (int64_t k = 0; k < p->inputs; k += 2 * LANES) {
        Ints lines[2][LANES];
        for (int64_t n = 0; n < PANEL; n++) {
            Floats x[2];
            floats_of(p->matrix, p->rows[n], k, x);
            EACH(i, 2) lines[i][n] = (Ints)x[i];
        }
        EACH(i, 2) transpose(lines[i]);
        memcpy(p->lines + k * LINE, lines, sizeof lines);
    }
}

/* ---- bfloat16 in 12 bits, exactly ---- */

typedef uint16_t Uppers __attribute__((vector_size(64)));
typedef uint8_t Lower __attribute__((vector_size(32)));

/* The 15 most frequent upper bytes of a panel, sign and most of the exponent; 0, that of zero, is the first. */
static void number_uppers(const Panel *p, uint8_t *uppers) {
    uint32_t counts[4][256]; /* one counter would wait for itself */
    memset(counts, 0, sizeof counts);
    for (int64_t k = 0; k < p->inputs; k += 2 * LANES) {
        Ints pairs[PANEL];
        for (int64_t n = 0; n < PANEL; n++) pairs[n] = pairs_of(p->matrix, p->rows[n], k);
        const uint8_t *bytes = (const uint8_t *)pairs;
        for (size_t i = 0; i < sizeof pairs; i += 8) EACH(n, 4) counts[n][bytes[i + 2 * n + 1]]++;
    }
    for (int upper = 0; upper < 256; upper++) counts[0][upper] += counts[1][upper] + counts[2][upper] + counts[3][upper];
    uppers[0] = counts[0][0] = 0;
    for (int number = 1; number < NUMBERED; number++) {
        int most = 0;
        for (int upper = 1; upper < 256; upper++)
            if (counts[0][upper] > counts[0][most]) most = upper;
        uppers[number] = (uint8_t)most;
        counts[0][most] = 0;
    }
}

/* List the weights of a line that have no number: their input, output and bits. Return the end of the list. */
static int64_t list_rare(Uppers line, Uppers missing, int64_t input, int64_t output, int32_t *rare, int64_t room, int64_t end) {
    for (int i = 0; i < 2 * LANES; i++) {
        if (!missing[i]) continue;
        if (end < room) {
            const int32_t found[3] = {(int32_t)(input + i % 2), (int32_t)(output + i / 2), line[i]};
            memcpy(rare + 3 * end, found, sizeof found);
        }
        end++;
    }
    return end;
}

static int64_t panel_coded(const Panel *p, int64_t output, int32_t *rare, int64_t room, int64_t end) {
    number_uppers(p, p->scales);
    Uppers known[NUMBERED];
    for (int n = 1; n < NUMBERED; n++) known[n] = (Uppers){0} + (uint16_t)(p->scales[n] ? p->scales[n] : 0xFFFF);
    uint8_t *to = p->lines;
    for (int64_t k = 0; k < p->inputs; k += 2 * LANES) {
        Ints lines[LANES];
        for (int64_t n = 0; n < PANEL; n++) lines[n] = pairs_of(p->matrix, p->rows[n], k);
        transpose(lines);
        for (int64_t s = 0; s < LANES; s++, to += CODED_LINE) {
            const Uppers line = (Uppers)lines[s], upper = line >> 8;
            Uppers numbers = {0};
            EACH(n, NUMBERED - 1) {
                const Uppers is = (Uppers)(upper == known[n + 1]);
                numbers = (is & (uint16_t)(n + 1)) | (~is & numbers);
            }
            const Uppers missing = (Uppers)(upper != 0) & (Uppers)(numbers == 0);
            const Lower lower = __builtin_convertvector(line & 255 & ~missing, Lower);
            const Words both = ((Words)numbers | (Words)numbers >> 12) & 255;
            const Unsigned beside = __builtin_convertvector(both, Unsigned);
            memcpy(to, &lower, sizeof lower), memcpy(to + sizeof lower, &beside, sizeof beside);
            uint64_t parts[8], any = 0;
            memcpy(parts, &missing, sizeof parts);
            EACH(i, 8) any |= parts[i];
            if (any) end = list_rare(line, missing, k + 2 * s, output, rare, room, end);
        }
    }
    return end;
}

/* ---- what is called ---- */

static int64_t pack(const Matrix *m, int64_t format, int64_t first, uint8_t *numbers, uint8_t *scales, int32_t *rare,
                    int64_t room) {
    const int64_t inputs = (m->columns + GROUP - 1) / GROUP * GROUP, panel = inputs * PANEL * format / 8;
    const int64_t beside = format == CODED ? NUMBERED : format < CODED ? inputs / GROUP * PANEL * (format == INT4 ? 4 : 2) : 0;
    int64_t end = 0;
    for (int64_t low = 0; low < m->rows; low += PANEL) {
        const int64_t place = first + low / PANEL;
        Panel p = {.matrix = m, .inputs = inputs, .lines = numbers + place * panel, .scales = scales + place * beside};
        for (int64_t n = 0; n < PANEL; n++) p.rows[n] = row_of(m, low + n);
        if (format == FLOAT32) panel_of_floats(&p);
        else if (format == BFLOAT16) panel_of_pairs(&p);
        else if (format == CODED) end = panel_coded(&p, place * PANEL, rare, room, end);
        else panel_of_groups(&p, format);
    }
    return end;
}

static void convert(const Matrix *m, int64_t floats, uint8_t *out) {
    for (int64_t i = 0; i < m->rows; i++) {
        const uint8_t *row = row_of(m, i);
        for (int64_t k = 0; k < m->columns; k += 2 * LANES) {
            const int64_t left = m->columns - k < 2 * LANES ? m->columns - k : 2 * LANES, size = left * (floats ? 4 : 2);
            Floats x[2];
            floats_of(m, row, k, x);
            const Shorts narrow[2] = {narrowed(x[0]), narrowed(x[1])};
            memcpy(out, floats ? (const void *)x : narrow, size);
            out += size;
        }
    }
}

/* ---- adapters ---- */

enum { NOT_FINITE = 0x7F800000 };
INLINE Ints not_finite(Floats v) { return ((Ints)v & NOT_FINITE) == NOT_FINITE; }
INLINE void put(uint8_t *out, Floats values, int64_t count, bool floats) {
    const Shorts narrow = narrowed(values);
    memcpy(out, floats ? (const void *)&values : &narrow, (count < LANES ? count : LANES) * (floats ? 4 : 2));
}

/* Copy numbers [rows, size] to rows `step` bytes apart; whether all are finite. */
static bool copy_rows(const uint8_t *from, int64_t kind, int64_t rows, int64_t size, uint8_t *out, int64_t step, bool floats) {
    const int64_t each = kind == F32 ? 4 : 2;
    Ints bad = all_ints(0);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < size; j += LANES) {
            const Floats x = numbers_at(from + (i * size + j) * each, kind, size - j);
            bad |= not_finite(x);
            put(out + i * step + j * (floats ? 4 : 2), x, size - j, floats);
        }
    return sum_of_ints(bad) == 0;
}

/* The same of numbers [size, rows], times a scale. */
static bool turn_rows(const uint8_t *from, int64_t kind, int64_t rows, int64_t size, float scale, uint8_t *out, int64_t step,
                      bool floats) {
    const int64_t each = kind == F32 ? 4 : 2;
    Ints bad = all_ints(0);
    for (int64_t j = 0; j < size; j += LANES)
        for (int64_t i = 0; i < rows; i += LANES) {
            Ints lines[LANES];
            for (int64_t n = 0; n < LANES; n++) {
                const Floats x = j + n < size ? numbers_at(from + ((j + n) * rows + i) * each, kind, rows - i) : all(0);
                bad |= not_finite(x);
                lines[n] = (Ints)(x * scale);
            }
            transpose(lines);
            for (int64_t n = 0; n < LANES && i + n < rows; n++)
                put(out + (i + n) * step + j * (floats ? 4 : 2), (Floats)lines[n], size - j, floats);
        }
    return sum_of_ints(bad) == 0;
}

static int64_t pack_adapter(const Move *moves, const float *scales, int64_t pairs, const uint8_t *file, int64_t floats,
                            uint8_t *out) {
    const int64_t size = floats ? 4 : 2;
    for (int64_t n = 0; n < pairs; n++) {
        const Move *m = moves + n;
        const int64_t step = (m->inputs + m->outputs) * size;
        uint8_t *rows = out + m->start * size;
        if (!copy_rows(file + m->a, m->a_kind, m->rank, m->inputs, rows, step, floats)) return 2 * n;
        uint8_t *beside = rows + m->inputs * size;
        if (!turn_rows(file + m->b, m->b_kind, m->rank, m->outputs, scales[n], beside, step, floats)) return 2 * n + 1;
    }
    return -1;
}

static int64_t all_finite(const uint16_t *numbers, int64_t count) {
    uint16_t most = 0;
    for (int64_t i = 0; i < count; i++) {
        const uint16_t exponent = numbers[i] & 0x7F80;
        most = exponent > most ? exponent : most;
    }
    return most < 0x7F80;
}
