/* Tokens chosen from rows of logits. */
#include "logits.c"

/* The first token at which the running sum of weights is above `uniform` of all; the last one with any weight if rounding
 * leaves none. Whole shares are passed over first. `sums`: room for one of each share. */
static int64_t draw_whole(const Choice *c, int64_t width, float most, double *sums) {
    const int64_t shares = (width + SHARE - 1) / SHARE;
    const float inverse = 1.0f / c->temperature;
    double total = 0, passed = 0;
    for (int64_t s = 0; s < shares; s++) total += sums[s] = weigh_share(c->logits, width, s, most, inverse, 0);
    const double target = c->uniform * total;
    int64_t share = 0, found = -1;
    for (; share + 1 < shares && passed + sums[share] <= target; share++) passed += sums[share];
    const int64_t first = share;
    for (float weights[SHARE]; share < shares; share++) {
        weigh_share(c->logits, width, share, most, inverse, weights);
        for (int64_t i = 0; i < SHARE && share * SHARE + i < width; i++) {
            passed += weights[i];
            if (weights[i] > 0) found = share * SHARE + i;
            if (found >= 0 && passed > target) return found;
        }
    }
    for (share = first - 1; found < 0; share--) {
        float weights[SHARE];
        weigh_share(c->logits, width, share, most, inverse, weights);
        for (int64_t i = 0; i < SHARE; i++)
            if (weights[i] > 0) found = share * SHARE + i;
    }
    return found;
}

/* What tokens weigh together that are not further from the largest logit than each of these distances. */
enum { STEPS = 7 };
static const float DISTANCES[STEPS] = {-2, -4, -6, -8, -10, -13, WEIGHTLESS};
static const float LEFT[STEPS] = {0.136f, 0.0184f, 0.00248f, 3.36e-4f, 4.55e-5f, 2.27e-6f, 0}; /* a bit more than e^distance */
typedef double Doubles __attribute__((vector_size(128)));

static void weigh_steps(const Choice *c, int64_t width, float most, double weights[STEPS]) {
    Doubles totals[STEPS] = {0};
    const float inverse = 1.0f / c->temperature;
    for (int64_t begin = 0; begin < width; begin += SHARE) {
        Floats sums[STEPS] = {0};
        for (int64_t j = begin; j < width && j < begin + SHARE; j += LANES) {
            const Floats distance = (logits_at(c->logits, j, width) - most) * inverse, weight = exponential(distance);
            EACH(s, STEPS) sums[s] = sums[s] + (Floats)((Ints)(distance > DISTANCES[s]) & (Ints)weight);
        }
        EACH(s, STEPS) totals[s] += __builtin_convertvector(sums[s], Doubles);
    }
    for (int s = 0; s < STEPS; s++) {
        weights[s] = 0;
        for (int i = 0; i < LANES; i++) weights[s] += totals[s][i];
    }
}

/* A logit that no token is below which the cuts leave: rounding may be in favour of a few more. In `total` what all tokens
 * weigh, where a cut asks. */
static float least_kept(const Choice *c, int64_t width, const Overview *o, uint64_t *room, double *total) {
    double weights[STEPS];
    int step = STEPS - 1;
    float least = -INFINITY;
    if (c->top_k) least = reached_by(o, c->top_k, room);
    if (c->min_p > 0 || !c->top_k) {
        weigh_steps(c, width, o->most, weights);
        *total = weights[STEPS - 1];
        const double enough = c->top_p < 1 ? c->top_p * *total * (1 + 1e-5) : INFINITY;
        while (!c->top_k && step > 0 && (weights[step - 1] > enough || c->min_p > LEFT[step - 1])) step--;
    }
    const float furthest = o->most + DISTANCES[step] * c->temperature * 1.0001f;
    return furthest > least ? furthest : least;
}

/* Of the tokens in order, those that all cuts leave are the first; one is drawn from them as from all. top_p and min_p count
 * probabilities after top_k, min_p's part is of the likeliest one's before. */
static int64_t draw_cut(const Choice *c, int64_t width, const Overview *o, uint64_t *room) {
    double total = 0, whole = 0, sum = 0;
    const float least = least_kept(c, width, o, room, &total), inverse = 1.0f / c->temperature;
    int64_t count = ordered(c->logits, width, least, room, room + width), kept = 0;
    float *weights = (float *)(room + width);
    for (int64_t i = 0; i < count; i += LANES) {
        Floats logits = all(-INFINITY);
        for (int64_t j = i; j < count && j < i + LANES; j++) logits[j - i] = logit_of(room[j]);
        store(weights + i, weight_at((logits - o->most) * inverse));
    }
    if (c->top_k && c->top_k < count) count = c->top_k;
    for (int64_t i = 0; i < count; i++) whole += weights[i];
    if (!c->top_k) whole = total;
    const double most = c->top_p < 1 ? c->top_p * whole : INFINITY;
    const double smallest = c->min_p > 0 ? c->min_p * whole / total : 0;
    while (kept < count && (kept == 0 || (sum < most && weights[kept] >= smallest))) sum += weights[kept++];
    const double target = c->uniform * sum;
    int64_t found = 0;
    for (double passed = weights[0]; found < kept - 1 && passed <= target; passed += weights[found]) found++;
    while (found > 0 && weights[found] == 0) found--;
    return (int64_t)(room[found] & UINT32_MAX);
}

static void choose(const Choice *choices, int64_t rows, int64_t width, uint64_t *room, int64_t *tokens) {
    for (int64_t r = 0; r < rows; r++) {
        const Choice *c = choices + r;
        const Overview o = look_over(c->logits, width);
        if (!o.usable)
            tokens[r] = -1;
        else if (c->temperature == 0)
            tokens[r] = first_of_largest(c->logits, width, &o);
        else if (c->top_k || c->top_p < 1 || c->min_p > 0)
            tokens[r] = draw_cut(c, width, &o, room);
        else
            tokens[r] = draw_whole(c, width, o.most, (double *)room);
    }
}
