/* f_transpose: f32 of rank 6; `extent` is the output's shape, `stride` the input's step along each output axis. */
struct pj_f_transpose {
    int32_t extent[6], stride[6];
};

static void pj_f_transpose(const struct pj_f_transpose *p, const void *const *in, void *const *out, void *scratch)
{
    const float *x = in[0];
    float *y = out[0];
    const int32_t *e = p->extent, *s = p->stride;
    int32_t a, b, c, d, i, j;
    PJ_UNUSED(scratch);

    for (a = 0; a < e[0]; a++)
        for (b = 0; b < e[1]; b++)
            for (c = 0; c < e[2]; c++)
                for (d = 0; d < e[3]; d++)
                    for (i = 0; i < e[4]; i++) {
                        const float *from = x + (int64_t)a * s[0] + (int64_t)b * s[1] + (int64_t)c * s[2] +
                                              (int64_t)d * s[3] + (int64_t)i * s[4];
                        for (j = 0; j < e[5]; j++)
                            *y++ = from[(int64_t)j * s[5]];
                    }
}
