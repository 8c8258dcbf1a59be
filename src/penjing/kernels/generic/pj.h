/* What every kernel shares: exact requantization and rounding, in C99 with IEEE-754 float32.
 *
 * Kernels are plain functions without state: int-only inputs, constants and scratch memory come from the caller.
 *   in[]  the operator's inputs, in its order; out[] its outputs; scratch is as large as the operator's scratch_bytes.
 */
#ifndef PENJING_PJ_H
#define PENJING_PJ_H

#include <float.h>
#include <stdint.h>
#include <string.h>

#if !defined(FLT_EVAL_METHOD) || FLT_EVAL_METHOD != 0
#error "penjing needs float arithmetic in float (FLT_EVAL_METHOD == 0); on 32-bit x86 build with -msse2 -mfpmath=sse"
#endif
#ifdef __FAST_MATH__
#error "penjing needs IEEE arithmetic: do not build with -ffast-math"
#endif
#if FLT_RADIX != 2 || FLT_MANT_DIG != 24
#error "penjing needs IEEE-754 binary32 floats"
#endif

#define PJ_UNUSED(x) ((void)(x))

/* Functions of this file, of which a program may need none. PJ_SHARED: large inner loops, one copy of each in the library.
 * The attribute silences a warning that clang has also for inline functions. */
#if defined(__GNUC__)
#define PJ_INLINE static inline __attribute__((unused))
#define PJ_SHARED static __attribute__((noinline, unused))
#else
#define PJ_INLINE static inline
#define PJ_SHARED static inline
#endif

/* The codes that a kernel may store, and the one that means 0. */
struct pj_codes {
    int32_t zero, qmin, qmax;
};

/* What one of several threads computes of a layer; each has scratch memory of its own. */
struct pj_part {
    int32_t index, count;
};

/* The threads that work on one call: `meet` returns in each when all have called it. */
struct pj_team {
    struct pj_part part;
    void (*meet)(void *context);
    void *context;
};

PJ_INLINE void pj_meet(const struct pj_team *team)
{
    if (team->part.count > 1)
        team->meet(team->context);
}

/* The kernel that computes a whole layer, of one that computes a part. */
#define PJ_WHOLE(op)                                                                                                  \
    PJ_INLINE void pj_##op(const struct pj_##op *p, const void *const *in, void *const *out, void *scratch)          \
    {                                                                                                                \
        const struct pj_part whole = {0, 1};                                                                         \
        pj_##op##_part(p, in, out, scratch, whole);                                                                  \
    }

/* The part's share of `total` rows: from *from up to *to. Fewer rows than threads are no work to share. */
PJ_INLINE void pj_share(struct pj_part part, int32_t total, int32_t *from, int32_t *to)
{
    const int32_t alone = total < part.count, count = alone ? 1 : part.count;
    *from = alone && part.index > 0 ? total : total * part.index / count;
    *to = alone ? total : total * (part.index + 1) / count;
}

/* The part's share of an image of oh x ow: of its rows, or of the columns of its only row. */
PJ_INLINE void pj_share_image(struct pj_part part, int32_t oh, int32_t ow, int32_t rows[2], int32_t columns[2])
{
    rows[0] = columns[0] = 0, rows[1] = oh, columns[1] = ow;
    if (oh == 1)
        pj_share(part, ow, &columns[0], &columns[1]);
    else
        pj_share(part, oh, &rows[0], &rows[1]);
}

/* One of the s32 ids that a caller gave, at any address. */
PJ_INLINE int32_t pj_id(const uint8_t *ids, int32_t i)
{
    int32_t id;
    memcpy(&id, ids + (size_t)i * sizeof id, sizeof id);
    return id;
}

/* Whether one of n ids is not 0..rows - 1. */
PJ_INLINE int pj_wrong_ids(const uint8_t *ids, int32_t n, int32_t rows)
{
    int32_t i, wrong = 0;
    for (i = 0; i < n; i++)
        wrong |= pj_id(ids, i) < 0 || pj_id(ids, i) >= rows;
    return wrong;
}

/* A few bytes, for the ends of rows: compilers make much more of a memcpy whose length they do not know. */
PJ_SHARED void pj_copy(uint8_t *to, const uint8_t *from, int32_t n)
{
    int32_t i;
    for (i = 0; i < n; i++)
        to[i] = from[i];
}

/* x as 16-bit differences from its zero point: what the dot products below take. */
PJ_INLINE void pj_centre(int16_t *to, const uint8_t *x, int32_t n, int32_t zero)
{
    int32_t i;
    for (i = 0; i < n; i++)
        to[i] = (int16_t)(x[i] - zero);
}

/* acc[r][j] = sum over k of x[r * k + .] * w[j * k + .], for 2 rows and 4 channels: each weight is widened once for both
 * rows, and each difference is read once for four channels. */
PJ_SHARED void pj_dot_2x4(int32_t acc[2][4], const int16_t *x, const int8_t *w, int32_t k)
{
    const int16_t *x0 = x, *x1 = x + k;
    const int8_t *w0 = w, *w1 = w + k, *w2 = w + 2 * k, *w3 = w + 3 * k;
    int32_t a00 = 0, a01 = 0, a02 = 0, a03 = 0, a10 = 0, a11 = 0, a12 = 0, a13 = 0, i;
    for (i = 0; i < k; i++) {
        const int16_t v0 = w0[i], v1 = w1[i], v2 = w2[i], v3 = w3[i];
        a00 += x0[i] * v0;
        a01 += x0[i] * v1;
        a02 += x0[i] * v2;
        a03 += x0[i] * v3;
        a10 += x1[i] * v0;
        a11 += x1[i] * v1;
        a12 += x1[i] * v2;
        a13 += x1[i] * v3;
    }
    acc[0][0] = a00, acc[0][1] = a01, acc[0][2] = a02, acc[0][3] = a03;
    acc[1][0] = a10, acc[1][1] = a11, acc[1][2] = a12, acc[1][3] = a13;
}

/* The same for one row and one channel. */
PJ_SHARED int32_t pj_dot(const int16_t *x, const int8_t *w, int32_t k)
{
    int32_t a = 0, i;
    for (i = 0; i < k; i++) {
        const int16_t v = w[i];
        a += x[i] * v;
    }
    return a;
}

/* acc[r][j] for `rows` <= 2 and `lanes` <= 4. */
PJ_SHARED void pj_dots(int32_t acc[2][4], const int16_t *x, const int8_t *w, int32_t k, int32_t rows, int32_t lanes)
{
    int32_t r, j;
    if (rows == 2 && lanes == 4) {
        pj_dot_2x4(acc, x, w, k);
        return;
    }
    for (r = 0; r < rows; r++)
        for (j = 0; j < lanes; j++)
            acc[r][j] = pj_dot(x + r * k, w + j * k, k);
}

/* Round to nearest even after a clamp to [low, high], both within +-2^21: adding 1.5 * 2^23 leaves no fraction bits. */
PJ_INLINE int32_t pj_round(float value, float low, float high)
{
    union {
        float f;
        int32_t i;
    } u;
    value = value < low ? low : value;
    value = value > high ? high : value;
    u.f = value + 12582912.0f;
    return u.i - INT32_C(0x4B400000);
}

/* floor(sqrt(w)) for w < 2^62, one digit after the other. */
PJ_SHARED int32_t pj_root_digits(uint64_t w)
{
    uint64_t root = 0, digit = UINT64_C(1) << 60;
    for (; digit; digit /= 4) {
        const uint64_t next = root + digit;
        root /= 2;
        if (w >= next) {
            w -= next;
            root += digit;
        }
    }
    return (int32_t)root;
}

/* 1 / sqrt(w) for 1 <= w < 2^62: 2^h / float(floor(sqrt(w * 4^h))), the root having 31 bits. */
PJ_SHARED float pj_inverse_root(uint64_t w)
{
    float scale = 1.0f;
    for (; w < UINT64_C(1) << 60; w *= 4)
        scale *= 2.0f;
    return scale / (float)pj_root_digits(w);
}

/* The same of v * 2^shift, rounded down, + high * 2^31 + low; of 0 it is that of 1. */
PJ_SHARED float pj_inverse_norm(uint64_t v, int32_t shift, int32_t high, int32_t low)
{
    for (; shift > 0; shift--)
        v *= 2;
    for (; shift < 0; shift++)
        v /= 2;
    v += ((uint64_t)high << 31) + (uint64_t)low;
    return pj_inverse_root(v ? v : 1);
}

/* The code of a real: one division. NaN becomes `zero`. */
PJ_INLINE uint8_t pj_quantize_1(float x, float scale, int32_t zero)
{
    const float steps = x / scale;
    return (uint8_t)(pj_round(steps == steps ? steps : 0.0f, (float)-zero, (float)(255 - zero)) + zero);
}

/* acc * multiplier: one conversion, one multiplication. */
PJ_INLINE uint8_t pj_requantize(int32_t acc, float multiplier, int32_t zero, float low, float high)
{
    return (uint8_t)(pj_round((float)acc * multiplier, low, high) + zero);
}

/* The code at a place among codes of 8 bits or of 16. */
PJ_INLINE int32_t pj_code(const void *codes, int64_t at, int32_t wide)
{
    return wide ? ((const int16_t *)codes)[at] : ((const uint8_t *)codes)[at];
}

/* A real in steps, as a code of 16 bits. */
PJ_INLINE int16_t pj_wide(float value)
{
    return (int16_t)pj_round(value, -32768.0f, 32767.0f);
}

/* acc * multiplier + d * scale, in this order; a contracted build differs in the last bit (see the self-test). */
PJ_INLINE float pj_scaled_sum(int32_t acc, float multiplier, int32_t d, float scale)
{
    const float a = (float)acc * multiplier;
    const float b = (float)d * scale;
    return a + b;
}

/* x / 2^n, rounded down, as most compilers shift: C leaves the shift of a negative number to them. One instruction. */
PJ_INLINE int32_t pj_shift(int32_t x, int32_t n)
{
    return x < 0 ? ~(~x >> n) : x >> n;
}

PJ_INLINE int32_t pj_clamp(int32_t x, int32_t low, int32_t high)
{
    return x < low ? low : x > high ? high : x;
}

/* Where the steps of a call begin among all that there is room for: at a position, held between 0 and `last`. */
PJ_INLINE int32_t pj_first_step(const void *position, int32_t last)
{
    return pj_clamp(*(const int32_t *)position, 0, last);
}

/* Steps of a sequence whose inputs are multiplied at once: what follows step by step keeps their products meanwhile. */
enum { PJ_STEPS_AT_ONCE = 16 };

/* Pre-activations of gates are in units of 1/128, and index tables of 2048 entries. */
PJ_INLINE int32_t pj_gate(const int16_t *table, float steps)
{
    return table[pj_round(steps, -1024.0f, 1023.0f) + 1024];
}

/* to[r * rows + o] = float(bias[o] + sum over k of x[r * k + .] * w[o * k + .]) * multiplier[o] for `steps` rows of x, of
 * which two at a time lie in `centred` as differences from their zero point. */
PJ_SHARED void pj_project(float *to, int16_t *centred, const uint8_t *x, const int8_t *w, const int32_t *bias,
                          const float *multiplier, int32_t steps, int32_t k, int32_t rows, int32_t zero)
{
    int32_t step, o, r, j;
    for (step = 0; step < steps; step += 2) {
        const int32_t some = steps - step < 2 ? 1 : 2;
        pj_centre(centred, x + (int64_t)step * k, some * k, zero);
        for (o = 0; o < rows; o += 4) {
            const int32_t lanes = rows - o < 4 ? rows - o : 4;
            int32_t acc[2][4];
            pj_dots(acc, centred, w + (int64_t)o * k, k, some, lanes);
            for (r = 0; r < some; r++)
                for (j = 0; j < lanes; j++)
                    to[(int64_t)(step + r) * rows + o + j] = (float)(acc[r][j] + bias[o + j]) * multiplier[o + j];
        }
    }
}

#endif
