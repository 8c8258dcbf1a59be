/* Which of the x86 headers this processor and its operating system can run: 0 scalar, 1 AVX2, 2 AVX-512 VNNI and VBMI. */
#include <cpuid.h>

static int pj_detect(void)
{
    unsigned a, b, c, d, xcr0, high;
    const unsigned avx2 = 1u << 5, fma = 1u << 12;  /* in ebx of leaf 7; in ecx of leaf 1 */
    const unsigned avx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;  /* F, DQ, BW, VL in ebx */
    const unsigned vbmi_vnni = 1u << 1 | 1u << 11;                      /* in ecx */
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1u << 27) || !(c & fma))
        return 0;
    __asm__ volatile("xgetbv" : "=a"(xcr0), "=d"(high) : "c"(0));
    if ((xcr0 & 0x6) != 0x6 || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & avx2))
        return 0;
    return (xcr0 & 0xE6) == 0xE6 && (b & avx512) == avx512 && (c & vbmi_vnni) == vbmi_vnni ? 2 : 1;
}
