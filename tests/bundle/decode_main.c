/* Decodes packs from standard input, each after its length as uint32, and writes for each its status and what came out,
 * after its length. Every block of memory has exactly the size asked for, so that a sanitizer sees a step outside. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pj_decode.h"

#define MOST_BYTES (UINT64_C(1) << 24)

static int get(void *to, size_t n) { return fread(to, 1, n, stdin) == n; }

static void put(uint32_t status, const uint8_t *bytes, uint32_t n) {
    fwrite(&status, sizeof status, 1, stdout);
    fwrite(&n, sizeof n, 1, stdout);
    fwrite(bytes, 1, n, stdout);
}

int main(void) {
    uint32_t n;
    while (get(&n, sizeof n)) {
        uint8_t *pack = malloc(n ? n : 1), *out, *scratch;
        struct pj_pack_sizes sizes;
        int status;
        if (!pack || !get(pack, n)) return 1;
        status = pj_pack_sizes(pack, n, 1, &sizes);
        if (status != PJ_PACK_OK || sizes.out_bytes > MOST_BYTES || sizes.scratch_bytes > MOST_BYTES) {
            put(PJ_PACK_CORRUPT, pack, 0);
            free(pack);
            continue;
        }
        out = malloc((size_t)sizes.out_bytes + 1);
        scratch = malloc((size_t)sizes.scratch_bytes);
        if (!out || !scratch) return 1;
        memset(out, 0xA5, (size_t)sizes.out_bytes + 1);
        if (pj_pack_decode(pack, n, 1, out, (size_t)sizes.out_bytes - (sizes.out_bytes > 0), scratch,
                           (size_t)sizes.scratch_bytes) == PJ_PACK_OK && sizes.out_bytes > 0) return 2;
        if (pj_pack_decode(pack, n, 1, out, (size_t)sizes.out_bytes, scratch, (size_t)sizes.scratch_bytes - 1) !=
            PJ_PACK_SMALL_MEMORY) return 3;
        status = pj_pack_decode(pack, n, 1, out, (size_t)sizes.out_bytes, scratch, (size_t)sizes.scratch_bytes);
        if (out[sizes.out_bytes] != 0xA5) return 4;
        put((uint32_t)status, out, status == PJ_PACK_OK ? (uint32_t)sizes.out_bytes : 0);
        free(pack);
        free(out);
        free(scratch);
    }
    return 0;
}
