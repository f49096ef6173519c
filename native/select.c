/* Which of the compiled kernels this processor can run.
 *
 * CPUID and XGETBV are asked directly: `__builtin_cpu_supports` is always false where zig links. */
#include <string.h>

#include "kernels.h"

/* Those that were not built are 0. */
#define PERHAPS extern const Kernels __attribute__((weak))

#if defined(__x86_64__)
#include <cpuid.h>

PERHAPS kernels_plain, kernels_avx2, kernels_avxvnni, kernels_avx512, kernels_avx512vnni, kernels_avx512bf16;

/* A bit of the registers that CPUID gives. */
typedef struct {
    uint32_t leaf, subleaf;
    enum { EAX, EBX, ECX, EDX } in;
    uint32_t bit;
} Feature;

static bool has(Feature f) {
    uint32_t r[4];
    if (__get_cpuid_max(0, 0) < f.leaf) return false;
    return __get_cpuid_count(f.leaf, f.subleaf, &r[EAX], &r[EBX], &r[ECX], &r[EDX]) && r[f.in] >> f.bit & 1;
}

/* Whether the system keeps these registers for each thread. */
static bool kept(uint32_t registers) {
    if (!has((Feature){1, 0, ECX, 27})) return false;
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & registers) == registers;
}

enum { YMM = 0x6, ZMM = 0xE6 };

static bool x86_64_v3(void) {
    static const Feature needed[] = {{1, 0, ECX, 12}, {1, 0, ECX, 22}, {1, 0, ECX, 28}, {1, 0, ECX, 29}, {7, 0, EBX, 3},
                                     {7, 0, EBX, 5}, {7, 0, EBX, 8}, {0x80000001, 0, ECX, 5}};
    /* FMA, MOVBE, AVX, F16C, BMI1, AVX2, BMI2, LZCNT */
    for (unsigned i = 0; i < sizeof needed / sizeof *needed; i++) {
        uint32_t r[4];
        if (!__get_cpuid_count(needed[i].leaf, needed[i].subleaf, &r[EAX], &r[EBX], &r[ECX], &r[EDX])) return false;
        if (!(r[needed[i].in] >> needed[i].bit & 1)) return false;
    }
    return kept(YMM);
}
static bool x86_64_v4(void) {
    /* AVX512F, DQ, CD, BW, VL */
    return x86_64_v3() && kept(ZMM) && has((Feature){7, 0, EBX, 16}) && has((Feature){7, 0, EBX, 17}) &&
           has((Feature){7, 0, EBX, 28}) && has((Feature){7, 0, EBX, 30}) && has((Feature){7, 0, EBX, 31});
}
static bool avxvnni(void) { return x86_64_v3() && has((Feature){7, 1, EAX, 4}); }
static bool avx512vnni(void) { return x86_64_v4() && has((Feature){7, 0, ECX, 11}); }
static bool avx512bf16(void) { return avx512vnni() && has((Feature){7, 1, EAX, 5}); }
static bool plain(void) { return has((Feature){1, 0, ECX, 9}) && has((Feature){1, 0, ECX, 19}); } /* SSSE3, SSE4.1 */

static const struct {
    const Kernels *kernels;
    bool (*runs)(void);
} known[] = {{&kernels_avx512bf16, avx512bf16}, {&kernels_avx512vnni, avx512vnni}, {&kernels_avx512, x86_64_v4},
             {&kernels_avxvnni, avxvnni},       {&kernels_avx2, x86_64_v3},        {&kernels_plain, plain}};

#elif defined(__aarch64__)
#if defined(__linux__)
#include <sys/auxv.h>
#endif

PERHAPS kernels_neon, kernels_neondot, kernels_neoni8mm;

enum { DOTPROD = 1 << 20, I8MM = 1 << 13 }; /* in HWCAP, in HWCAP2 */
static bool neon(void) { return true; }
#if defined(__linux__)
static bool neondot(void) { return getauxval(AT_HWCAP) & DOTPROD; }
static bool neoni8mm(void) { return neondot() && getauxval(AT_HWCAP2) & I8MM; }
#else
static bool neondot(void) { return true; } /* every Apple processor since the A13 */
static bool neoni8mm(void) { return false; }
#endif

static const struct {
    const Kernels *kernels;
    bool (*runs)(void);
} known[] = {{&kernels_neoni8mm, neoni8mm}, {&kernels_neondot, neondot}, {&kernels_neon, neon}};
#endif

/* What Python must agree with before it calls anything. */
__attribute__((visibility("default"))) const int64_t loradock_sizes[] = {
    sizeof(Kernels), sizeof(Weight), sizeof(Inputs), sizeof(Module), sizeof(Run), sizeof(Norms), sizeof(Model),
    sizeof(Scratch), sizeof(Lane), sizeof(Team), sizeof(Matrix), sizeof(Move), sizeof(Attention),
    sizeof(Choice),  PANEL,          GROUP, BLOCK, CHUNK, SHARE, UNPACKED};

/* The kernels of the `number`th best instruction set that this processor has; 0 when there are no more. */
__attribute__((visibility("default"))) const Kernels *loradock_kernels(int64_t number) {
    for (unsigned i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].kernels && known[i].runs() && number-- == 0) return known[i].kernels;
    return 0;
}
