"""The C around kernels: what `op_suite` compiles with them. It replaces words between @ signs."""

OPERATORS_MAIN = r"""
#include <stdio.h>
#include <stdlib.h>

struct suite_pieces {
    const void *params;
    size_t bytes, step; /* of the output: in a piece, and from piece to piece */
};

struct suite_case {
    void (*run)(const void *params, const void *const *in, void *const *out, void *scratch, struct pj_part part);
    const void *params;
    int inputs, outputs;
    int modes;  /* one bit for each in which it runs */
    int pieces; /* how many more there are with an output in pieces */
    size_t scratch;
    const struct suite_pieces *piece;
    const size_t *bytes;      /* of the inputs, then of the outputs */
    const size_t *activation; /* bytes of an element of each input and output; 0 for constants */
};
@TABLES@
enum { SUITE_CASES = sizeof suite_cases / sizeof *suite_cases };

@SANITIZER@

static uint8_t *suite_block(size_t bytes, int fill)
{
    uint8_t *block = malloc(bytes ? bytes : 1);
    if (!block)
        exit(3);
    memset(block, fill, bytes);
    return block;
}

enum { EXACT, UNALIGNED, IN_PLACE, TWO_PARTS, THREE_PARTS, IN_PIECES };
enum { INPUT_CHANGED = 1, WRITTEN_TWICE = 2, WRITTEN_BETWEEN = 4 };

/* What a byte is before it is written: not what it shall become. */
static uint8_t suite_other(uint8_t byte)
{
    return (uint8_t)~byte;
}

static uint8_t *suite_unlike(const uint8_t *whole, size_t bytes)
{
    uint8_t *block = suite_block(bytes, 0);
    size_t i;
    for (i = 0; i < bytes; i++)
        block[i] = suite_other(whole[i]);
    return block;
}

/* The part's bytes go to `out`; returns whether another part has written one of them before. */
static int suite_gather(uint8_t *out, const uint8_t *made, const uint8_t *whole, size_t bytes)
{
    int twice = 0;
    size_t i;
    for (i = 0; i < bytes; i++)
        if (made[i] != suite_other(whole[i])) {
            twice |= out[i] != suite_other(whole[i]);
            out[i] = made[i];
        }
    return twice;
}

/* One part after the other, each with memory of its own; returns whether two of them wrote one byte. */
static int suite_run_parts(const struct suite_case *c, const void *const *from, uint8_t *const *whole,
                           uint8_t *const *out, int32_t count)
{
    struct pj_part part;
    int k, twice = 0;
    part.count = count;
    for (part.index = 0; part.index < count; part.index++) {
        uint8_t *made[SUITE_MAX], *scratch = c->scratch ? suite_block(c->scratch, 0xA5) : 0;
        void *to[SUITE_MAX];
        for (k = 0; k < c->outputs; k++)
            to[k] = made[k] = suite_unlike(whole[k], c->bytes[c->inputs + k]);
        c->run(c->params, from, to, scratch, part);
        for (k = 0; k < c->outputs; k++) {
            twice |= suite_gather(out[k], made[k], whole[k], c->bytes[c->inputs + k]);
            free(made[k]);
        }
        free(scratch);
    }
    return twice;
}

/* Lets `bytes` bytes in pieces lie together; returns whether a byte between them is not as it was filled. */
static int suite_close_up(uint8_t *block, size_t bytes, const struct suite_pieces *p, int fill)
{
    size_t i, j;
    int written = 0;
    for (i = 1; i < bytes / p->bytes; i++)
        for (j = p->bytes; j < p->step; j++)
            written |= block[(i - 1) * p->step + j] != fill;
    for (i = 1; i < bytes / p->bytes; i++)
        memmove(block + i * p->bytes, block + i * p->step, p->bytes);
    return written;
}

static void suite_run_whole(const struct suite_case *c, const void *params, const void *const *from, void *const *to)
{
    const struct pj_part all = {0, 1};
    uint8_t *scratch = c->scratch ? suite_block(c->scratch, 0xA5) : 0;
    c->run(params, from, to, scratch, all);
    free(scratch);
}

static int suite_write(const uint8_t *from, size_t bytes)
{
    return fwrite(from, 1, bytes, stdout) == bytes ? 0 : 4;
}

/* Writes one byte, 0 where all is well, and the outputs; EXACT leaves them in `whole`, which later modes read. */
static int suite_run(const struct suite_case *c, uint8_t *const *original, uint8_t *const *whole, int mode)
{
    const struct suite_pieces *p = mode >= IN_PIECES ? &c->piece[mode - IN_PIECES] : 0;
    const int parts = mode == TWO_PARTS ? 2 : mode == THREE_PARTS ? 3 : 1;
    uint8_t *in[SUITE_MAX], *out[SUITE_MAX];
    const void *from[SUITE_MAX];
    void *to[SUITE_MAX];
    const size_t off = mode == UNALIGNED;
    uint8_t wrong = 0;
    int k, status;
    for (k = 0; k < c->inputs; k++) {
        const size_t shift = off * c->activation[k];
        in[k] = suite_block(c->bytes[k] + shift, 0);
        memcpy(in[k] + shift, original[k], c->bytes[k]);
        from[k] = in[k] + shift;
    }
    for (k = 0; k < c->outputs; k++) {
        const size_t bytes = c->bytes[c->inputs + k];
        const size_t shift = off * c->activation[c->inputs + k];
        const size_t span = p ? (bytes / p->bytes - 1) * p->step + p->bytes : bytes + shift;
        out[k] = parts == 1 ? suite_block(span, off ? 0x5A : 0xA5) : suite_unlike(whole[k], bytes);
        to[k] = mode == IN_PLACE ? in[k] : out[k] + shift;
    }
    if (parts == 1)
        suite_run_whole(c, p ? p->params : c->params, from, to);
    else if (suite_run_parts(c, from, whole, out, parts))
        wrong |= WRITTEN_TWICE;
    if (p && suite_close_up(out[0], c->bytes[c->inputs], p, 0xA5))
        wrong |= WRITTEN_BETWEEN;
    for (k = 0; k < c->inputs; k++)
        if (!(mode == IN_PLACE && k < c->outputs) && memcmp(from[k], original[k], c->bytes[k]) != 0)
            wrong |= INPUT_CHANGED;
    status = suite_write(&wrong, 1);
    for (k = 0; k < c->outputs; k++) {
        status |= suite_write(to[k], c->bytes[c->inputs + k]);
        if (mode == EXACT)
            memcpy(whole[k], to[k], c->bytes[c->inputs + k]);
        free(out[k]);
    }
    for (k = 0; k < c->inputs; k++)
        free(in[k]);
    return status;
}

/* With an argument, only the case of that number runs. */
int main(int argc, char **argv)
{
    const int only = argc > 1 ? atoi(argv[1]) : -1;
    int i, k, mode, status = 0;
    SUITE_REPORT_ERRORS();
    for (i = 0; i < SUITE_CASES; i++) {
        const struct suite_case *c = &suite_cases[i];
        uint8_t *original[SUITE_MAX], *whole[SUITE_MAX];
        for (k = 0; k < c->inputs; k++) {
            original[k] = suite_block(c->bytes[k], 0);
            if (fread(original[k], 1, c->bytes[k], stdin) != c->bytes[k])
                return 5;
        }
        for (k = 0; k < c->outputs; k++)
            whole[k] = suite_block(c->bytes[c->inputs + k], 0);
        for (mode = 0; mode < IN_PIECES + c->pieces; mode++)
            if ((only < 0 || only == i) && (mode >= IN_PIECES || c->modes >> mode & 1))
                status |= suite_run(c, original, whole, mode);
        for (k = 0; k < c->inputs; k++)
            free(original[k]);
        for (k = 0; k < c->outputs; k++)
            free(whole[k]);
    }
    return status;
}
"""
