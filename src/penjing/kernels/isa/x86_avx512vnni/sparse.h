/* sparse */
#define PJ_GROUPS 2 /* groups of pixels in a tile; pixels in one of them, which is even where there are two */
#define PJ_HALF 8
#define PJ_HALVES(T) T(1, 2) T(2, 2) T(3, 2) T(4, 2) T(5, 2) T(6, 2) T(7, 2) T(8, 2)
#define PJ_WINDOW_HALF 6
#define PJ_WINDOW_HALVES(T) T(1, 2) T(2, 2) T(3, 2) T(4, 2) T(5, 2) T(6, 2)
#define PJ_WINDOW_PARTS 1    /* words to a step of a window */
#define PJ_PICKS_ANYWHERE 1 /* whether picks reach all 64 codes of a window */

typedef __m512i pj_window; /* 64 codes */
typedef __m512i pj_picks;  /* which of them each weight of a pj_w meets */
typedef __m512i pj_pick_w;
typedef __m512i pj_sum; /* 16 sums of 32 bits */

PJ_WORD pj_window pj_load_window(const uint8_t *x)
{
    return _mm512_loadu_si512(x);
}

PJ_WORD pj_picks pj_load_picks(const uint8_t *step, const int32_t part)
{
    PJ_UNUSED(part);
    return _mm512_loadu_si512(step);
}

PJ_WORD pj_pick_w pj_load_pick_w(const uint8_t *step, const int32_t part)
{
    PJ_UNUSED(part);
    return _mm512_loadu_si512(step + 64);
}

PJ_WORD pj_sum pj_sum_start(const int32_t *bias)
{
    return _mm512_loadu_si512(bias);
}

PJ_WORD pj_sum pj_pick_dot(pj_sum sum, pj_window x, pj_picks picks, pj_pick_w w)
{
    return pj_dot4(sum, _mm512_permutexvar_epi8(picks, x), w);
}

PJ_WORD pj_sum pj_sum_add(pj_sum a, pj_sum b)
{
    return _mm512_add_epi32(a, b);
}

PJ_WORD void pj_sum_store(int32_t *to, pj_sum sum)
{
    _mm512_storeu_si512(to, sum);
}
