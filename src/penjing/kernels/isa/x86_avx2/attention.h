/* products of two activations, and means weighted by 16 bits: see x86_avx512vnni/attention.h */
#define PJ_MATMUL_ROWS 3
#define PJ_MATMUL_VECTORS 1
#define PJ_MATMUL_TILES(T) T(3, 1) T(1, 1)
#define PJ_ATTEND_ROWS 4
#define PJ_ATTEND_VECTORS 1
#define PJ_ATTEND_TILES(T) T(4, 1) T(1, 1)

typedef struct {
    pj_fc_acc even, odd;
} pj_pairs;

PJ_WORD pj_pairs pj_pairs_load(const uint8_t *v)
{
    const __m256i lo = _mm256_loadu_si256((const __m256i *)v), hi = _mm256_loadu_si256((const __m256i *)v + 1);
    const __m256i byte = _mm256_set1_epi16(255);
    pj_pairs two;
    two.even.lo = _mm256_and_si256(lo, byte), two.even.hi = _mm256_and_si256(hi, byte);
    two.odd.lo = _mm256_srli_epi16(lo, 8), two.odd.hi = _mm256_srli_epi16(hi, 8);
    return two;
}

PJ_WORD pj_fc_acc pj_pairs_dot(pj_fc_acc acc, const int16_t *weights, int64_t odd, pj_pairs codes)
{
    int32_t a, b;
    __m256i even_w, odd_w;
    memcpy(&a, weights, 4), memcpy(&b, weights + odd, 4);
    even_w = _mm256_set1_epi32(a), odd_w = _mm256_set1_epi32(b);
    acc.lo = _mm256_add_epi32(acc.lo, _mm256_madd_epi16(even_w, codes.even.lo));
    acc.hi = _mm256_add_epi32(acc.hi, _mm256_madd_epi16(even_w, codes.even.hi));
    acc.lo = _mm256_add_epi32(acc.lo, _mm256_madd_epi16(odd_w, codes.odd.lo));
    acc.hi = _mm256_add_epi32(acc.hi, _mm256_madd_epi16(odd_w, codes.odd.hi));
    return acc;
}
