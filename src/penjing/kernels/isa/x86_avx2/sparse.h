/* sparse */
#define PJ_GROUPS 1
#define PJ_HALF 3
#define PJ_HALVES(T) T(2, 1) T(3, 1)
#define PJ_WINDOW_HALF 4
#define PJ_WINDOW_HALVES(T) T(2, 1) T(3, 1) T(4, 1)
#define PJ_WINDOW_PARTS 2
#define PJ_PICKS_ANYWHERE 0

typedef const uint8_t *pj_window;
typedef struct {
    __m256i lo, hi; /* for 2 of the 4 weights of channels 0-7 and 8-15: which of 16 codes, in 16 bits */
    int32_t base;   /* the first of the 16 codes */
} pj_picks;
typedef struct {
    __m256i lo, hi; /* 16 bits */
} pj_pick_w;
typedef struct {
    __m256i lo, hi;
} pj_sum;

PJ_WORD pj_window pj_load_window(const uint8_t *x)
{
    return x;
}

PJ_WORD pj_picks pj_load_picks(const uint8_t *step, const int32_t part)
{
    /* bytes 0, 1 (part 0) or 2, 3 (part 1) of every 4, in the low halves of 16 bits; high halves pick nothing */
    const __m256i high = _mm256_set1_epi16((int16_t)0x8000);
    const __m256i spread = _mm256_setr_epi8(0, 0, 1, 0, 4, 0, 5, 0, 8, 0, 9, 0, 12, 0, 13, 0, /* a lane */
                                            0, 0, 1, 0, 4, 0, 5, 0, 8, 0, 9, 0, 12, 0, 13, 0);
    const __m256i from = _mm256_add_epi8(spread, _mm256_set1_epi16((int16_t)(2 * part)));
    pj_picks p;
    p.lo = _mm256_shuffle_epi8(_mm256_loadu_si256((const __m256i *)step), from);
    p.hi = _mm256_shuffle_epi8(_mm256_loadu_si256((const __m256i *)step + 1), from);
    p.lo = _mm256_or_si256(p.lo, high);
    p.hi = _mm256_or_si256(p.hi, high);
    p.base = step[2 * part] & 48;
    return p;
}

PJ_WORD pj_pick_w pj_load_pick_w(const uint8_t *step, const int32_t part)
{
    const __m256i a = _mm256_loadu_si256((const __m256i *)(step + 64)), b = _mm256_loadu_si256((const __m256i *)(step + 96));
    /* weights to the high halves of 16 bits, and down with their sign */
    const __m256i spread = _mm256_setr_epi8(-1, 0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13, /* a lane */
                                            -1, 0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13);
    const __m256i from = _mm256_add_epi8(spread, _mm256_set1_epi16((int16_t)(512 * part)));
    pj_pick_w w;
    w.lo = _mm256_srai_epi16(_mm256_shuffle_epi8(a, from), 8);
    w.hi = _mm256_srai_epi16(_mm256_shuffle_epi8(b, from), 8);
    return w;
}

PJ_WORD pj_sum pj_sum_start(const int32_t *bias)
{
    pj_sum s;
    s.lo = _mm256_loadu_si256((const __m256i *)bias);
    s.hi = _mm256_loadu_si256((const __m256i *)bias + 1);
    return s;
}

PJ_WORD pj_sum pj_pick_dot(pj_sum sum, pj_window x, pj_picks picks, pj_pick_w w)
{
    const __m256i codes = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(x + picks.base)));
    sum.lo = _mm256_add_epi32(sum.lo, _mm256_madd_epi16(_mm256_shuffle_epi8(codes, picks.lo), w.lo));
    sum.hi = _mm256_add_epi32(sum.hi, _mm256_madd_epi16(_mm256_shuffle_epi8(codes, picks.hi), w.hi));
    return sum;
}

PJ_WORD pj_sum pj_sum_add(pj_sum a, pj_sum b)
{
    a.lo = _mm256_add_epi32(a.lo, b.lo);
    a.hi = _mm256_add_epi32(a.hi, b.hi);
    return a;
}

PJ_WORD void pj_sum_store(int32_t *to, pj_sum sum)
{
    _mm256_storeu_si256((__m256i *)to, sum.lo);
    _mm256_storeu_si256((__m256i *)to + 1, sum.hi);
}
