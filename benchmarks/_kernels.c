/* What benchmarks/kernels.py puts around the kernels: inputs from standard input, times to standard output. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const void *in[8];
static void *out[1], *scratch;

static double bench_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *bench_block(size_t bytes)
{
    char *block = malloc(bytes + 128);
    if (!block)
        exit(3);
    block += 64 - ((uintptr_t)block & 63);
    memset(block, 0, bytes + 64);
    return block;
}

static void bench_load(const size_t *bytes, int inputs, size_t scratch_bytes)
{
    int k;
    for (k = 0; k < inputs; k++) {
        void *block = bench_block(bytes[k]);
        if (fread(block, 1, bytes[k], stdin) != bytes[k])
            exit(5);
        in[k] = block;
    }
    out[0] = bench_block(bytes[inputs]);
    scratch = bench_block(scratch_bytes);
}

/* Keeps a compiler from using a product twice. */
#if PJ_VECTORS == 2
#define BENCH_KEEP __asm__ volatile("" : "+v"(x));
#elif PJ_STAGES_CODES
#define BENCH_KEEP __asm__ volatile("" : "+r"(x) : : "memory");
#else
#define BENCH_KEEP __asm__ volatile("" : "+x"(x));
#endif

static volatile uint32_t bench_sum; /* of all lanes, so that none is left out */

/* GMAC/s of the dot word alone, on sums that stay in registers. */
static __attribute__((noinline)) double bench_ceiling(const int8_t *weights, const int32_t *bias)
{
    enum { SUMS = PJ_VECTORS == 2 ? 16 : 2, TURNS = 400 };
    static const pj_staged codes[64];
    int32_t kept[16];
    uint32_t sum = 0;
    pj_acc acc[SUMS];
    const pj_w w = pj_load_w(weights);
    pj_x x = pj_load_x(codes);
    double start;
    int i, turn;
    PJ_UNROLL
    for (i = 0; i < SUMS; i++)
        acc[i] = pj_acc_start(bias);
    start = bench_now();
    for (turn = 0; turn < TURNS; turn++) {
        PJ_UNROLL
        for (i = 0; i < SUMS; i++) {
            BENCH_KEEP
            acc[i] = pj_dot4(acc[i], x, w);
        }
    }
    start = bench_now() - start;
    PJ_UNROLL
    for (i = 0; i < SUMS; i++) {
        pj_acc_store(kept, acc[i], bias);
        for (turn = 0; turn < 16; turn++)
            sum += (uint32_t)kept[turn];
    }
    bench_sum = sum;
    return 64.0 * SUMS * TURNS / start * 1e-9;
}

static int bench_order(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

#define BENCH(i, call)                                                                                                \
    do {                                                                                                             \
        static double us[@ROUNDS@], ceiling[@ROUNDS@];                                                               \
        int round, turn, turns;                                                                                      \
        double start = bench_now();                                                                                  \
        call;                                                                                                        \
        start = bench_now() - start;                                                                                 \
        turns = start > 50e-6 ? 1 : (int)(50e-6 / (start + 1e-8)) + 1;                                               \
        for (round = 0; round < @ROUNDS@; round++) {                                                                 \
            ceiling[round] = -bench_ceiling(in[1], in[2]);                                                                       \
            start = bench_now();                                                                                     \
            for (turn = 0; turn < turns; turn++)                                                                     \
                call;                                                                                                \
            us[round] = (bench_now() - start) / turns * 1e6;                                                         \
        }                                                                                                            \
        qsort(us, @ROUNDS@, sizeof *us, bench_order);                                                                \
        qsort(ceiling, @ROUNDS@, sizeof *ceiling, bench_order);                                                      \
        printf("%s[%.6f, %.3f]", i ? ", " : "[", us[@ROUNDS@ / 5], -ceiling[@ROUNDS@ / 5]);                          \
    } while (0)
