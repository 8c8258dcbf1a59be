/* Tensors out of a pack, the member `weights/...` of a tray (docs/spec/bundle.md, "Packs"), in C99 without an allocator.
 *
 *   struct pj_pack_sizes sizes;
 *   if (pj_pack_sizes(pack, n, 64, &sizes) == PJ_PACK_OK) ... get sizes.out_bytes and sizes.scratch_bytes of memory ...
 *   pj_pack_decode(pack, n, 64, out, sizes.out_bytes, scratch, sizes.scratch_bytes)
 *
 * Tensors lie in `out` in the order of the pack, each at a multiple of `align`, elements little-endian, C order. Whatever
 * the bytes of the pack are, nothing outside `out` and `scratch` is written and nothing outside the pack is read. */
#ifndef PENJING_PJ_DECODE_H
#define PENJING_PJ_DECODE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef PJ_DECODE_API
#define PJ_DECODE_API
#endif

#define PJ_PACK_OK 0
#define PJ_PACK_CORRUPT 1
#define PJ_PACK_SMALL_MEMORY 2

struct pj_pack_sizes {
    uint64_t out_bytes, scratch_bytes;
    uint32_t tensors;
};

/* What decoding needs; `align` is a power of two. Returns PJ_PACK_OK or PJ_PACK_CORRUPT. */
PJ_DECODE_API int pj_pack_sizes(const uint8_t *pack, size_t bytes, uint32_t align, struct pj_pack_sizes *sizes);

/* `scratch` is aligned for uint64_t. Returns PJ_PACK_OK, or what is wrong; `out` then holds nothing of use. */
PJ_DECODE_API int pj_pack_decode(const uint8_t *pack, size_t bytes, uint32_t align, uint8_t *out, size_t out_bytes,
                                 void *scratch, size_t scratch_bytes);

#ifdef __cplusplus
}
#endif

#endif
