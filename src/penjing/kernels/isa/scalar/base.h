/* The SIMD vocabulary in plain C, for processors without the others, and to check the kernels' own logic anywhere. */
#define PJ_WORD PJ_INLINE
#define PJ_UNROLL /* small rather than fast */
#define PJ_STAGES_CODES 1
#define PJ_MASKS 0
#define PJ_VECTORS 1
#define PJ_TILES_1(T) T(1) T(2)
#define PJ_PIXELS_1 2
#define PJ_PIXELS 2
#define PJ_STRETCH 6
#define PJ_SUMS 12

typedef uint8_t pj_staged;
typedef struct {
    uint32_t at[16]; /* unsigned, so that sums may wrap on their way as they do in vectors */
} pj_acc;
typedef const int8_t *pj_w;
typedef const uint8_t *pj_x;
typedef struct {
    float at[16];
} pj_f;

PJ_WORD void pj_stage(pj_staged *to, const uint8_t *x, int32_t n)
{
    memcpy(to, x, (size_t)n);
}

PJ_WORD void pj_stage_zero(pj_staged *to, int32_t zero, int32_t n)
{
    memset(to, zero, (size_t)n);
}

PJ_WORD pj_acc pj_acc_start(const int32_t *bias)
{
    pj_acc acc;
    memcpy(acc.at, bias, sizeof acc.at);
    return acc;
}

PJ_WORD pj_w pj_load_w(const int8_t *w)
{
    return w;
}

PJ_WORD pj_x pj_load_x(const pj_staged *x)
{
    return x;
}

PJ_WORD void pj_prefetch(const void *at)
{
    PJ_UNUSED(at);
}

PJ_WORD pj_acc pj_dot4(pj_acc acc, pj_x x, pj_w w)
{
    int32_t j;
    for (j = 0; j < 16; j++)
        acc.at[j] += (uint32_t)(x[0] * w[4 * j] + x[1] * w[4 * j + 1] + x[2] * w[4 * j + 2] + x[3] * w[4 * j + 3]);
    return acc;
}

PJ_WORD void pj_acc_store(int32_t *to, pj_acc acc, const int32_t *bias)
{
    PJ_UNUSED(bias);
    memcpy(to, acc.at, sizeof acc.at);
}

PJ_WORD void pj_largest(int32_t *to, const int32_t *a, const int32_t *b, int32_t step, const int32_t n)
{
    int32_t i, j;
    for (j = 0; j < 16; j++) {
        int32_t most = a[j];
        for (i = 0; i < n; i++) {
            most = a[i * step + j] > most ? a[i * step + j] : most;
            most = b[i * step + j] > most ? b[i * step + j] : most;
        }
        to[j] = most;
    }
}

PJ_WORD pj_f pj_scale(const int32_t *acc, const float *multiplier)
{
    pj_f v;
    int32_t j;
    for (j = 0; j < 16; j++)
        v.at[j] = (float)acc[j] * multiplier[j];
    return v;
}

PJ_WORD pj_f pj_scale_rectified(const int32_t *acc, const float *multiplier)
{
    pj_f v;
    int32_t j;
    for (j = 0; j < 16; j++)
        v.at[j] = (float)(acc[j] - 0x4B000000) * multiplier[j];
    return v;
}

PJ_WORD pj_f pj_add_codes(pj_f value, const uint8_t *codes, int32_t zero, float scale)
{
    int32_t j;
    for (j = 0; j < 16; j++) {
        const float b = (float)(codes[j] - zero) * scale;
        value.at[j] = value.at[j] + b;
    }
    return value;
}

PJ_WORD void pj_put1(uint8_t *y, pj_f v, const struct pj_codes *q)
{
    const float low = (float)(q->qmin - q->zero), high = (float)(q->qmax - q->zero);
    int32_t j;
    for (j = 0; j < 16; j++)
        y[j] = (uint8_t)(pj_round(v.at[j], low, high) + q->zero);
}
