/* All kernels for one instruction set, ISA: compiled once for each (build.py). */
#include "step.c"

#include "packing.c"
#include "sampling.c"

#define NAMED_(isa) kernels_##isa
#define NAMED(isa) NAMED_(isa)
#define TEXT_(isa) #isa
#define TEXT(isa) TEXT_(isa)

static void product(const Weight *w, const Inputs *in, const float *x, int64_t rows, float *out, int64_t out_step, int64_t add,
                    int64_t first, int64_t end) {
    for (int64_t r = 0; x && r < rows; r++) prepare(w->format, x + r * w->inputs, w->inputs, in, r);
    multiply(w, in, rows, out, out_step, add, first, end);
}

static void adapt(const Module *table, int64_t modules, const int64_t *owners, int64_t floats, const Inputs *in, int64_t inputs,
                  int64_t rows, float *sums, int64_t sums_step, float *out, int64_t out_step, int64_t first, int64_t end) {
    const Adapters adapters = {table, modules, owners, floats};
    shrink_adapters(&adapters, in->rows, in->rows_step, inputs, 0, rows, sums, sums_step);
    expand_adapters(&adapters, inputs, rows, first, end, out, out_step, sums, sums_step);
}

static void attend_all(const Attention *a, const Run *run) {
    for (int64_t head = 0; head < a->kv_heads; head++) attend(a, run, head);
}

/* The bytes of `Inputs.tiled` for a number of a weight of this format. */
static int64_t tiled_bytes(int64_t format) {
    if (format == FLOAT32 || (format >= CODED && DOTS_BFLOAT16)) return 0;
    return format >= CODED ? 4 : format == INT8 && SHORT_NUMBERS ? 2 : 1;
}

const Kernels NAMED(ISA) = {
    .name = TEXT(ISA),
    .run = run,
    .product = product,
    .adapt = adapt,
    .attend = attend_all,
    .tiled_bytes = tiled_bytes,
    .attention_room = attention_room,
    .pack = pack,
    .convert = convert,
    .pack_adapter = pack_adapter,
    .finite = all_finite,
    .choose = choose,
    .likeliest = likeliest,
    .largest = largest,
};
