/* f_linear: x f32 (rows, k), w f32 (k, oc), bias f32 (oc); y f32 (rows, oc). Each output has a sum of its own, in the order
 * of k, so that vectors of outputs give the same bytes as one output after the other. */
struct pj_f_linear {
    int32_t rows, k, oc;
    float low, high;
};

static void pj_f_linear(const struct pj_f_linear *p, const void *const *in, void *const *out, void *scratch)
{
    const float *x = in[0], *w = in[1], *bias = in[2];
    float *y = out[0];
    int32_t row, o;
    PJ_UNUSED(scratch);

    for (row = 0; row < p->rows; row++, x += p->k, y += p->oc)
        for (o = 0; o < p->oc; o += PJ_F_LANES) {
            const int32_t lanes = p->oc - o < PJ_F_LANES ? p->oc - o : PJ_F_LANES;
            float acc[PJ_F_LANES] = {0};
            pj_f_sums(acc, x, w + o, p->k, p->oc, lanes);
            pj_f_finish(y + o, acc, bias + o, lanes, p->low, p->high);
        }
}
