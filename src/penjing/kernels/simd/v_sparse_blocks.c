/* v_sparse_blocks: x u8 (n, ih, iw, ic), lists s32, bias s32 and multiplier f32 (blocks * 16), [residual u8 like y].
 * Blocks of 16 output channels and 4 codes that lie side by side; those that hold zeros only are left out.
 */
struct pj_v_sparse_blocks {
    int32_t n, ih, iw, ic, oh, ow, oc;
    int32_t reach_h, reach_w, stride_h, stride_w, pad_top, pad_left;
    int32_t band_h, band_w, pitch, fill;
    int32_t x_zero, y_zero, qmin, qmax;
    int32_t rectified;
    int32_t has_residual, residual_zero;
    float residual_scale;
};

static void pj_v_sparse_blocks_part(const struct pj_v_sparse_blocks *p, const void *const *in, void *const *out,
                                    void *scratch, struct pj_part part)
{
    const struct pj_sparse shape = PJ_SPARSE_SHAPE(p);
    pj_sparse_bands(&shape, in, in[1], out, scratch, PJ_STAGES_CODES, PJ_HALF, PJ_GROUPS, pj_sparse_blocks_open,
                    pj_sparse_blocks_tile, part);
}

PJ_WHOLE(v_sparse_blocks)
