/* f_add: a, b f32 broadcast to `extent`; a step of 0 repeats. y = clamp(a + sign * b). */
struct pj_f_add {
    int32_t extent[6], stride_a[6], stride_b[6];
    float sign, low, high;
};

static void pj_f_add(const struct pj_f_add *p, const void *const *in, void *const *out, void *scratch)
{
    const int32_t *e = p->extent, *sa = p->stride_a, *sb = p->stride_b;
    float *y = out[0];
    int32_t i0, i1, i2, i3, i4, j;
    PJ_UNUSED(scratch);

    for (i0 = 0; i0 < e[0]; i0++)
        for (i1 = 0; i1 < e[1]; i1++)
            for (i2 = 0; i2 < e[2]; i2++)
                for (i3 = 0; i3 < e[3]; i3++)
                    for (i4 = 0; i4 < e[4]; i4++) {
                        const float *a = (const float *)in[0] + (int64_t)i0 * sa[0] + (int64_t)i1 * sa[1] +
                                         (int64_t)i2 * sa[2] + (int64_t)i3 * sa[3] + (int64_t)i4 * sa[4];
                        const float *b = (const float *)in[1] + (int64_t)i0 * sb[0] + (int64_t)i1 * sb[1] +
                                         (int64_t)i2 * sb[2] + (int64_t)i3 * sb[3] + (int64_t)i4 * sb[4];
                        for (j = 0; j < e[5]; j++)
                            *y++ = pj_f_clamp(a[j * sa[5]] + p->sign * b[j * sb[5]], p->low, p->high);
                    }
}
