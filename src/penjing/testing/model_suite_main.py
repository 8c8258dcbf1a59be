"""The C around an emitted program: what `model_suite` compiles with it. It replaces words between @ signs."""

MODEL_MAIN = r"""
#define _POSIX_C_SOURCE 200112L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "@STEM@.h"

#define SUITE_STANDALONE @STANDALONE@
#define SUITE_ISAS @ISAS@       /* how many instruction sets the library chooses from */
#define SUITE_THREADS @THREADS@ /* how many threads work on a call with a pool */
#define SUITE_STATES @STATES@   /* whether the inputs are calls of one session */
#define SUITE_LENGTH @LENGTH@   /* the longest sequence, 0 where lengths are fixed; each input follows its length */
enum {
    GUARD = 256,
    IN = @UP@_INPUT_BYTES,
    OUT = @UP@_OUTPUT_BYTES,
    ARENA = @UP@_ARENA_BYTES,
    WEIGHTS = SUITE_STANDALONE ? 0 : @UP@_WEIGHTS_BYTES,
#if SUITE_THREADS > 1
    SUITE_POOL_BYTES = @UP@_POOL_BYTES,
#else
    SUITE_POOL_BYTES = 1,
#endif
#if SUITE_STATES
    SESSION = @UP@_STATE_BYTES
#else
    SESSION = 0
#endif
};

#if SUITE_STATES
#define SUITE_LAST , session
#elif SUITE_LENGTH
#define SUITE_LAST , length
#else
#define SUITE_LAST
#endif

#if SUITE_LENGTH
#define SUITE_ERROR_LENGTH @UP@_ERROR_LENGTH
#else
#define SUITE_ERROR_LENGTH 0
#endif

@SANITIZER@

static int fail(const char *what)
{
    fprintf(stderr, "%s\n", what);
    return 2;
}

static uint8_t *block(size_t bytes)
{
    void *made = 0;
    if (posix_memalign(&made, @UP@_ALIGNMENT, bytes ? bytes : 1))
        exit(fail("out of memory"));
    return made;
}

static void *pool; /* null: calls are of one thread */
static uint8_t *session;
static int32_t length = SUITE_LENGTH;

static int run(const uint8_t *weights, const void *in, void *out, void *arena)
{
#if SUITE_THREADS > 1 && SUITE_STANDALONE
    if (pool)
        return @STEM@_pool_run(pool, in, out, arena SUITE_LAST);
#elif SUITE_THREADS > 1
    if (pool)
        return @STEM@_pool_run(pool, weights, in, out, arena SUITE_LAST);
#endif
#if SUITE_STANDALONE
    (void)weights;
    return @STEM@_run(in, out, arena SUITE_LAST);
#else
    return @STEM@_run(weights, in, out, arena SUITE_LAST);
#endif
}

/* whether all of n bytes have one value */
static int all(const uint8_t *bytes, size_t n, int value)
{
    size_t i;
    for (i = 0; i < n; i++)
        if (bytes[i] != value)
            return 0;
    return 1;
}

static size_t touched(const uint8_t *arena, int fill, size_t highest)
{
    size_t i;
    for (i = ARENA; i > highest; i--)
        if (arena[i - 1] != fill)
            return i;
    return highest;
}

static int refusals(const uint8_t *weights, const uint8_t *in, uint8_t *out, uint8_t *arena)
{
    memset(out, 0x11, OUT);
    if (run(weights, 0, out, arena) != @UP@_ERROR_NULL || run(weights, in, 0, arena) != @UP@_ERROR_NULL)
        return fail("a null input or output is not refused");
    if (ARENA > 0 && run(weights, in, out, 0) != @UP@_ERROR_NULL)
        return fail("a null arena is not refused");
    if (ARENA > 0 && run(weights, in, out, arena + 4) != @UP@_ERROR_ALIGNMENT)
        return fail("a misaligned arena is not refused");
    if (!SUITE_STANDALONE && run(0, in, out, arena) != @UP@_ERROR_NULL)
        return fail("null weights are not refused");
    if (!SUITE_STANDALONE && run(weights + 4, in, out, arena) != @UP@_ERROR_ALIGNMENT)
        return fail("misaligned weights are not refused");
    if (SESSION > 0) {
        uint8_t *const kept = session;
        session = 0;
        if (run(weights, in, out, arena) != @UP@_ERROR_NULL)
            return fail("a null state is not refused");
        session = kept + 4;
        if (run(weights, in, out, arena) != @UP@_ERROR_ALIGNMENT)
            return fail("a misaligned state is not refused");
        session = kept;
    }
    if (SUITE_LENGTH > 0) {
        const int32_t wrong[] = {0, -1, SUITE_LENGTH + 1, INT32_MIN, INT32_MAX};
        size_t i;
        for (i = 0; i < sizeof wrong / sizeof *wrong; i++) {
            length = wrong[i];
            if (run(weights, in, out, arena) != SUITE_ERROR_LENGTH)
                return fail("a length that is none is not refused");
        }
        length = SUITE_LENGTH;
    }
    return all(out, OUT, 0x11) ? 0 : fail("a refused call changed the output");
}

/* The length of the next input, four bytes before it. */
static int next_length(void)
{
    uint8_t bytes[4];
    if (!SUITE_LENGTH)
        return 1;
    if (fread(bytes, 1, sizeof bytes, stdin) != sizeof bytes)
        return 0;
    length = bytes[0] | bytes[1] << 8 | bytes[2] << 16;
    return 1;
}

/* Begins a session in memory that is full of other bytes. */
static int begin(uint8_t *memory)
{
#if SUITE_STATES
    memset(memory, 0x77, SESSION);
    if (@STEM@_reset(0) != @UP@_ERROR_NULL || @STEM@_reset(memory + 4) != @UP@_ERROR_ALIGNMENT)
        return fail("a null or misaligned state is not refused");
    if (@STEM@_reset(memory) != @UP@_OK)
        return fail("a session cannot be begun");
#else
    (void)memory;
#endif
    return 0;
}

static int start(void *memory)
{
#if SUITE_THREADS > 1
    if (@STEM@_pool_start(0, SUITE_THREADS) != @UP@_ERROR_NULL || @STEM@_pool_start(memory, 0) != @UP@_ERROR_PART ||
        @STEM@_pool_start(memory, @UP@_THREADS + 1) != @UP@_ERROR_PART)
        return fail("a pool of no or of too many threads is not refused");
    if (@STEM@_pool_start(memory, SUITE_THREADS) != @UP@_OK)
        return fail("the pool cannot be started");
#else
    (void)memory;
#endif
    return 0;
}

static void stop(void *memory)
{
#if SUITE_THREADS > 1
    @STEM@_pool_stop(memory);
#endif
    free(memory);
}

/* Takes the instruction set of that number; every other number is refused. */
static int choose(const char *number)
{
#if SUITE_ISAS
    const int wanted = atoi(number), before = @STEM@_isa();
    if (before < 0 || before >= SUITE_ISAS)
        return fail("the instruction set in use has no name");
    if (@STEM@_use(-1) != @UP@_ERROR_ISA || @STEM@_use(SUITE_ISAS) != @UP@_ERROR_ISA || @STEM@_isa() != before)
        return fail("an instruction set that there is not is not refused");
    if (@STEM@_use(wanted) != @UP@_OK || @STEM@_isa() != wanted)
        return fail("this processor is said to lack the instruction set");
#else
    (void)number;
#endif
    return 0;
}

/* With an argument, the number of an instruction set to run on. */
int main(int argc, char **argv)
{
    uint8_t *weights = block(WEIGHTS), *kept = block(WEIGHTS);
    uint8_t *guarded_arena = block(ARENA + 2 * GUARD), *guarded_out = block(OUT + 2 * GUARD + 1);
    uint8_t *arena = block(ARENA), *in = malloc(IN), *odd_in = malloc(IN + 1), *out = malloc(OUT);
    uint8_t *const inner_arena = guarded_arena + GUARD, *const inner_out = guarded_out + GUARD + 1;
    uint8_t *guarded_session = block(SESSION + 2 * GUARD), *exact_session = block(SESSION);
    void *const threads = block(SUITE_POOL_BYTES);
    size_t highest = 0, i;
    uint8_t tail[8];

    SUITE_REPORT_ERRORS();
    if (argc > 1 && choose(argv[1]))
        return 2;
    if (@STEM@_self_test() != 0)
        return fail("the self-test failed");
    if (!in || !odd_in || !out || fread(weights, 1, WEIGHTS, stdin) != WEIGHTS)
        return fail("no memory, or no weights");
    memcpy(kept, weights, WEIGHTS);
    memset(guarded_arena, 0xC3, ARENA + 2 * GUARD);
    memset(guarded_out, 0xC3, OUT + 2 * GUARD + 1);
    memset(in, 0, IN);
    memset(guarded_session, 0xC3, SESSION + 2 * GUARD);
    session = exact_session;
    if (begin(exact_session) || begin(guarded_session + GUARD))
        return 2;
    if (start(threads) || refusals(weights, in, out, arena))
        return 2;
    pool = SUITE_THREADS > 1 ? threads : 0;
    if (refusals(weights, in, out, arena) || begin(exact_session))
        return 2;
    while (next_length() && fread(in, 1, IN, stdin) == IN) {
        memcpy(odd_in + 1, in, IN);
        memset(inner_arena, 0xA5, ARENA);
        memset(inner_out, 0xA5, OUT);
        pool = SUITE_THREADS > 1 ? threads : 0;
        session = guarded_session + GUARD;
        if (run(weights, odd_in + 1, inner_out, ARENA > 0 ? inner_arena : 0) != @UP@_OK)
            return fail("the guarded run returned an error");
        if (!all(guarded_arena, GUARD, 0xC3) || !all(inner_arena + ARENA, GUARD, 0xC3))
            return fail("a byte beside the arena was written");
        if (!all(guarded_out, GUARD + 1, 0xC3) || !all(inner_out + OUT, GUARD, 0xC3))
            return fail("a byte beside the output was written");
        if (!all(guarded_session, GUARD, 0xC3) || !all(guarded_session + GUARD + SESSION, GUARD, 0xC3))
            return fail("a byte beside the states was written");
        memset(arena, 0x5A, ARENA);
        memset(out, 0x5A, OUT);
        pool = 0;
        session = exact_session;
        if (run(weights, in, out, ARENA > 0 ? arena : 0) != @UP@_OK)
            return fail("the exact run returned an error");
        if (memcmp(in, odd_in + 1, IN) || memcmp(weights, kept, WEIGHTS))
            return fail("the input or the weights were changed");
        highest = touched(arena, 0x5A, touched(inner_arena, 0xA5, highest));
        if (fwrite(inner_out, 1, OUT, stdout) != OUT || fwrite(out, 1, OUT, stdout) != OUT)
            return fail("the output cannot be written");
    }
    for (i = 0; i < sizeof tail; i++)
        tail[i] = (uint8_t)((uint64_t)highest >> (8 * i));
    if (fwrite(tail, 1, sizeof tail, stdout) != sizeof tail)
        return fail("the output cannot be written");
    stop(threads);
    free(weights);
    free(kept);
    free(guarded_session);
    free(exact_session);
    free(guarded_arena);
    free(guarded_out);
    free(arena);
    free(in);
    free(odd_in);
    free(out);
    return 0;
}
"""
