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

/* Round to nearest even after a clamp to [low, high], both within +-2^21: adding 1.5 * 2^23 leaves no fraction bits. */
static inline int32_t pj_round(float value, float low, float high)
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

/* acc * multiplier: one conversion, one multiplication. */
static inline uint8_t pj_requantize(int32_t acc, float multiplier, int32_t zero, float low, float high)
{
    return (uint8_t)(pj_round((float)acc * multiplier, low, high) + zero);
}

/* acc * multiplier + d * scale, in this order; a contracted build differs in the last bit (see the self-test). */
static inline float pj_scaled_sum(int32_t acc, float multiplier, int32_t d, float scale)
{
    const float a = (float)acc * multiplier;
    const float b = (float)d * scale;
    return a + b;
}

#endif
