/* sparse */
#define PJ_GROUPS 1
#define PJ_HALF 2
#define PJ_HALVES(T) T(2, 1)
#define PJ_WINDOW_HALF 2
#define PJ_WINDOW_HALVES(T) T(2, 1)
#define PJ_WINDOW_PARTS 1
#define PJ_PICKS_ANYWHERE 1

typedef const uint8_t *pj_window;
typedef const uint8_t *pj_picks;
typedef const int8_t *pj_pick_w;
typedef pj_acc pj_sum;

PJ_WORD pj_window pj_load_window(const uint8_t *x)
{
    return x;
}

PJ_WORD pj_picks pj_load_picks(const uint8_t *step, const int32_t part)
{
    PJ_UNUSED(part);
    return step;
}

PJ_WORD pj_pick_w pj_load_pick_w(const uint8_t *step, const int32_t part)
{
    PJ_UNUSED(part);
    return (const int8_t *)step + 64;
}

PJ_WORD pj_sum pj_sum_start(const int32_t *bias)
{
    return pj_acc_start(bias);
}

PJ_WORD pj_sum pj_pick_dot(pj_sum sum, pj_window x, pj_picks picks, pj_pick_w w)
{
    int32_t j;
    for (j = 0; j < 64; j++)
        sum.at[j / 4] += (uint32_t)(x[picks[j]] * w[j]);
    return sum;
}

PJ_WORD pj_sum pj_sum_add(pj_sum a, pj_sum b)
{
    return pj_acc_add(a, b);
}

PJ_WORD void pj_sum_store(int32_t *to, pj_sum sum)
{
    memcpy(to, sum.at, sizeof sum.at);
}
