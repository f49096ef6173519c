/* What Python hands over, and what it may call: one table of functions for each instruction set.
 *
 * The structures have their like in engine/kernels/structures.py, which compares the sizes. All counts are int64, all
 * strides ("steps") bytes, unless said otherwise. */
#ifndef LORADOCK_KERNELS_H
#define LORADOCK_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

enum { PANEL = 16, GROUP = 32, BLOCK = 16, CHUNK = 64, UNPACKED = 640 };
/* PANEL: outputs of a weight that lie together. GROUP: inputs that share a scale. BLOCK: tokens of a KV cache block.
 * CHUNK: rows that go through a layer together, so that what they need in between stays in the second cache.
 * UNPACKED: so many inputs of CODED panels at most are unpacked at once, into the first cache. */

/* The bytes of a number in the KV cache. What lies there for a key head in a block: keys [dim, 16], values [16, dim], and of
 * BYTES (int8) the scales of each token's key, then of its value, in bfloat16 [2, 16]. */
enum { BYTES = 1, SHORTS = 2, FLOATS = 4 };
static inline int64_t head_bytes(int64_t dim, int64_t kept) { return 2 * BLOCK * (dim * kept + (kept == BYTES ? 2 : 0)); }

/* How a weight's numbers are kept; the first of them are bits. */
enum { INT4 = 4, INT8 = 8, CODED = 12, BFLOAT16 = 16, FLOAT32 = 32 };

/* A weight [outputs, inputs] in panels. `scales`: of INT8 halves [panels, groups, 16], of INT4 the same with offsets
 * beside them [panels, groups, 2, 16], of CODED the panels' upper bytes [panels, 16]. `bias` float32 [outputs] or 0.
 * `rare`: of CODED the weights that are not in the panels. Both sizes are those of the panels, padded with zeros. */
typedef struct {
    const uint8_t *numbers, *scales;
    const float *bias;
    const int32_t *rare;
    int64_t rares, format, outputs, inputs;
} Weight;

/* Rows of activations. `rows`: bfloat16 (float32 for FLOAT32 weights), which adapters read; `tiled`: as tiles read them
 * where that is something else; `factors`: per row the groups' scales, and in the second half what their sums add. */
typedef struct {
    uint8_t *rows;
    int64_t rows_step;
    uint8_t *tiled;
    int64_t tiled_step;
    uint8_t *factors;
    int64_t factors_step;
    uint8_t *unpacked; /* room for two panels of UNPACKED inputs */
} Inputs;

enum { QKV, OUT, GATE_UP, DOWN, PRODUCTS };
enum { SHARE = 256 }; /* logits that are looked through together, while they are in the cache */

/* A module of an adapter: where its rows lie, their number (the rank), and the first and end column of the product's output.
 * A row is one row of A [inputs] and the same row of B transposed [high - low], in bfloat16, or float32 where the model is. */
typedef struct {
    const uint8_t *rows;
    int64_t rank, low, high;
} Module;

/* Some rows of one sequence that follow each other. `blocks`: its block numbers; `start`: the first row's position. */
typedef struct {
    const int64_t *blocks;
    int64_t row, rows, start;
} Run;

/* A layer's weights of norms. */
typedef struct {
    const float *attention, *mlp, *q, *k; /* q, k: 0 where the family has none */
} Norms;

/* What all rows of all steps have in common. */
typedef struct {
    int64_t layers, hidden, inner, vocabulary, heads, kv_heads, dim, window;
    double eps;
    const Weight *products; /* [layers, PRODUCTS] */
    const Norms *norms;     /* [layers] */
    const float *last_norm;
    const Weight *head;
    const uint8_t *embedding; /* [vocabulary, hidden] in bfloat16 (float32 with FLOAT32), 0: the head serves as such */
} Model;

/* Room for CHUNK rows on the way through a layer. `inputs`, `wide`, `sums`, `tops`, `places` are the team's, the others a
 * member's own. */
typedef struct {
    Inputs inputs;
    float *wide; /* [CHUNK, wide_step]: the widest output */
    int64_t wide_step;
    float *sums; /* [CHUNK, sums_step]: the ranks of an adapter's modules that share an input */
    int64_t sums_step;
    float *tops;     /* [members, CHUNK, 2]: the largest logit of a row, and NaN once one was not finite */
    int64_t *places; /* [members, CHUNK]: where the first largest one is */
    float *row;      /* [widest input] */
    float *seen;     /* [CHUNK, SHARE] */
    uint8_t *attention;
} Scratch;

/* Some rows of a step. */
typedef struct {
    int64_t rows, runs;
    const int64_t *tokens;  /* [rows] */
    const float *cos, *sin; /* [rows, dim] */
    const int64_t *slots;   /* [rows]: a row's place in the cache */
    const Run *run;         /* [runs] */
    int64_t alone;          /* every row is another sequence's */
    float *x;               /* [rows, hidden] */
    uint8_t *qkv, *attended; /* [rows, (heads + 2 kv_heads) dim], [rows, heads dim], of the model's type */
    uint8_t *cache;          /* [blocks, layers, kv_heads]: a block's layers lie together */
    int64_t block_bytes, kept; /* `kept`: bytes of a number there */
    int64_t *stored;        /* in how many layers the keys and values of this lane and those ahead are in the cache */
    const int64_t *ahead;   /* the same of the lane in which the first run's sequence began, or 0 */
    const int64_t *owners;  /* [rows] */
    const Module *adapters; /* [layers, PRODUCTS, adapters, modules], 0 without any */
    int64_t adapter_count, modules;
    const int64_t *wanted;  /* [wanted_rows]: the rows whose logits are wanted */
    int64_t wanted_rows;
    float *logits;          /* [wanted_rows, vocabulary], 0 where nobody reads them */
    int64_t *best;          /* [wanted_rows] */
    uint8_t *usable;        /* [wanted_rows]: the row has no NaN, and its largest logit is finite */
} Lane;

/* One layer of the cache, and rows of a step. */
typedef struct {
    const uint8_t *cache; /* the first block's part of it, the others `block_bytes` apart */
    int64_t block_bytes, kept;
    const uint8_t *qkv; /* [rows, (heads + 2 kv_heads) dim], rotated, of the model's type */
    uint8_t *out;       /* [rows, heads dim] of the model's type */
    int64_t heads, kv_heads, dim, window;
    uint8_t *room; /* attention_room bytes, a member's own */
    bool floats;
} Attention;

/* One member's view of a team, and the gate where all meet, on two cache lines. */
typedef struct {
    int64_t number, size;
    int64_t *gate;
} Team;

/* The kinds of numbers in files; from Q8_0 on GGUF's blocks of 32 numbers (Q4_K: 256). */
enum { F16, BF16, F32, Q8_0, Q4_0, Q4_1, Q4_K };

/* Rows as a file holds them, at any address. Blocks lie along a row; their number of columns is whole. */
typedef struct {
    const uint8_t *numbers;
    const int64_t *order; /* [rows]: which row of the file is in each place; 0: they have the file's order */
    int64_t kind, rows, columns;
} Matrix;

/* A pair of an adapter in a file: A [rank, inputs] and B [outputs, rank], each so many bytes from the file's beginning, and
 * where its rows (see Module) begin, in numbers. */
typedef struct {
    int64_t a, a_kind, b, b_kind, rank, inputs, outputs, start;
} Move;

/* How a token is chosen from a row of logits: the first largest one at temperature 0, otherwise by its random number `uniform`
 * in [0, 1), inverting the cumulative distribution of softmax(logits / temperature). 0 as top_k and 1 as top_p cut nothing. */
typedef struct {
    const float *logits;
    int64_t top_k;
    float temperature, uniform, top_p, min_p;
} Choice;

/* What can be called; made once for each instruction set. */
typedef struct {
    const char *name;
    /* A lane's rows through all layers: a member's part of it. */
    void (*run)(const Model *, const Lane *, const Scratch *, const Team *);
    /* A product by itself, for tests and measurements: float32 rows x [rows, inputs] (0: they are prepared) times panels
     * `first` to `end`. */
    void (*product)(const Weight *, const Inputs *, const float *x, int64_t rows, float *out, int64_t out_step, int64_t add,
                    int64_t first, int64_t end);
    /* What adapters add to a product, by itself: x A of prepared rows into `sums`, then B of that into columns `first` to
     * `end`. */
    void (*adapt)(const Module *table, int64_t modules, const int64_t *owners, int64_t floats, const Inputs *, int64_t inputs,
                  int64_t rows, float *sums, int64_t sums_step, float *out, int64_t out_step, int64_t first, int64_t end);
    /* The attention of a run's rows, by itself. */
    void (*attend)(const Attention *, const Run *);
    /* The bytes of `Inputs.tiled` for a number of a weight of this format. */
    int64_t (*tiled_bytes)(int64_t format);
    /* The bytes of `Scratch.attention`. */
    int64_t (*attention_room)(int64_t heads, int64_t kv_heads, int64_t dim);
    /* Lay rows out as a weight's panels from `first` on. `numbers`, `scales`: of the whole weight (see Weight). What CODED
     * leaves out comes into `rare`, as long as there is room; returns how many they are. */
    int64_t (*pack)(const Matrix *, int64_t format, int64_t first, uint8_t *numbers, uint8_t *scales, int32_t *rare,
                    int64_t room);
    /* Rows in bfloat16 or (`floats`) float32. */
    void (*convert)(const Matrix *, int64_t floats, uint8_t *out);
    /* An adapter's pairs, B transposed and scaled. Returns the first tensor with a number that is not finite: 2 * pair for an
     * A, one more for a B; -1 when there is none. */
    int64_t (*pack_adapter)(const Move *, const float *scales, int64_t pairs, const uint8_t *file, int64_t floats,
                            uint8_t *out);
    /* Whether none of these bfloat16 is infinite or NaN. */
    int64_t (*finite)(const uint16_t *numbers, int64_t count);
    /* Each row's token; -1 where the row cannot be used (see `largest`). `room`: 2 (width + 16). */
    void (*choose)(const Choice *, int64_t rows, int64_t width, uint64_t *room, int64_t *tokens);
    /* Each row's `count` largest logits, of equal ones the first token's first, and the sum of e^(logit - largest) over all: NaN
     * where the row cannot be used. `tokens`, `logits`: [rows, count]; `room`: 2 (width + 16). */
    void (*likeliest)(const float *const *at, int64_t rows, int64_t width, int64_t count, uint64_t *room, int64_t *tokens, float *logits,
                      float *largest, double *sums);
    /* Each row's first largest logit, and whether the row can be used: it has no NaN, and that logit is finite. */
    void (*largest)(const float *logits, int64_t rows, int64_t width, int64_t *tokens, uint8_t *usable);
} Kernels;

#endif
