/* Preloaded into a worker, this makes the processor look as if it had nothing above AVX2.
 *
 * Linux on x86-64 can make CPUID fault in a thread and in all that it starts. The fault is answered with what the
 * processor says less the features of `HIDDEN`, so every library that asks the processor is held alike, whatever
 * settings it has. execve ends it, and the preload begins it again. glibc asks before any constructor runs: it is told
 * by GLIBC_TUNABLES (see cpu_mask.py). XGETBV does not fault; it is no use without the features.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { ARCH_CPUID = 0x1012, CPUID_BYTES = 2, OPMASK_ZMM = 0xE0, ANY = -1 };

typedef struct {
    uint32_t leaf;
    int subleaf;
    uint32_t eax, ebx, ecx, edx;
} hidden_t;

#define BIT(n) (1u << (n))
#define ALL 0xFFFFFFFFu

static const hidden_t HIDDEN[] = {
    /* EBX: AVX512 F, DQ, IFMA, PF, ER, CD, BW, VL
     * ECX: VBMI, VBMI2, GFNI, VAES, VPCLMULQDQ, VNNI, BITALG, VPOPCNTDQ
     * EDX: 4VNNIW, 4FMAPS, VP2INTERSECT, AMX-BF16, AVX512-FP16, AMX-TILE, AMX-INT8 */
    {7, 0, 0, BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31),
     BIT(1) | BIT(6) | BIT(8) | BIT(9) | BIT(10) | BIT(11) | BIT(12) | BIT(14),
     BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25)},
    /* SHA512, SM3, SM4, AVX-VNNI, AVX512-BF16, AMX-FP16, AVX-IFMA; all of AVX-VNNI-INT8 .. AVX10, APX */
    {7, 1, BIT(0) | BIT(1) | BIT(2) | BIT(4) | BIT(5) | BIT(21) | BIT(23), 0, 0, ALL},
    {0xD, 0, OPMASK_ZMM | BIT(17) | BIT(18), 0, 0, 0}, /* their registers */
    {0xD, 5, ALL, ALL, ALL, ALL},
    {0xD, 6, ALL, ALL, ALL, ALL},
    {0xD, 7, ALL, ALL, ALL, ALL},
    {0xD, 17, ALL, ALL, ALL, ALL},
    {0xD, 18, ALL, ALL, ALL, ALL},
    {0x1D, ANY, ALL, ALL, ALL, ALL}, /* tiles */
    {0x1E, ANY, ALL, ALL, ALL, ALL},
    {0x24, ANY, ALL, ALL, ALL, ALL}, /* AVX10 */
};

static unsigned answered; /* how often; an engine that asks in every call pays for the mask */
static struct sigaction theirs; /* what the process believes to have set for SIGSEGV */
static int (*real_sigaction)(int, const struct sigaction*, struct sigaction*);

static long set_faulting(int on) { return syscall(SYS_arch_prctl, ARCH_CPUID, (unsigned long)!on); }

static void masked_cpuid(greg_t* regs) {
    const uint32_t leaf = (uint32_t)regs[REG_RAX], subleaf = (uint32_t)regs[REG_RCX];
    uint32_t eax, ebx, ecx, edx;
    ++answered;
    set_faulting(0);
    __cpuid_count(leaf, subleaf, eax, ebx, ecx, edx);
    set_faulting(1);
    for (size_t i = 0; i < sizeof HIDDEN / sizeof *HIDDEN; ++i) {
        const hidden_t* h = &HIDDEN[i];
        if (h->leaf != leaf || (h->subleaf != ANY && (uint32_t)h->subleaf != subleaf)) continue;
        eax &= ~h->eax;
        ebx &= ~h->ebx;
        ecx &= ~h->ecx;
        edx &= ~h->edx;
    }
    regs[REG_RAX] = eax;
    regs[REG_RBX] = ebx;
    regs[REG_RCX] = ecx;
    regs[REG_RDX] = edx;
}

static void on_fault(int number, siginfo_t* info, void* context) {
    greg_t* regs = ((ucontext_t*)context)->uc_mcontext.gregs;
    const uint8_t* at = (const uint8_t*)regs[REG_RIP];
    /* Only a fault with no address can be CPUID: reading code after a wild jump would fault again. */
    if (info->si_code == SI_KERNEL && at[0] == 0x0F && at[1] == 0xA2) {
        const int kept = errno;
        masked_cpuid(regs);
        regs[REG_RIP] += CPUID_BYTES;
        errno = kept;
        return;
    }
    if (theirs.sa_flags & SA_SIGINFO) {
        theirs.sa_sigaction(number, info, context);
    } else if (theirs.sa_handler != SIG_DFL && theirs.sa_handler != SIG_IGN) {
        theirs.sa_handler(number);
    } else {
        const struct sigaction plain = {.sa_handler = SIG_DFL};
        real_sigaction(number, &plain, NULL); /* the fault repeats, and ends the process */
    }
}

/* Handlers of SIGSEGV (Python's faulthandler, engines) are called from ours; they must not replace it. */
int sigaction(int number, const struct sigaction* given, struct sigaction* old) {
    if (!real_sigaction) *(void**)&real_sigaction = dlsym(RTLD_NEXT, "sigaction");
    if (number != SIGSEGV) return real_sigaction(number, given, old);
    const struct sigaction before = theirs;
    if (given) theirs = *given;
    if (old) *old = before;
    return 0;
}

void (*signal(int number, void (*handler)(int)))(int) {
    const struct sigaction given = {.sa_handler = handler, .sa_flags = SA_RESTART};
    struct sigaction old;
    return sigaction(number, &given, &old) ? SIG_ERR : old.sa_handler;
}

/* Whether this thread's AVX-512 registers hold anything: XGETBV(1) is the state in use. */
int cpu_mask_wide_registers_in_use(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(1));
    return (low & OPMASK_ZMM) != 0;
}

unsigned cpu_mask_answered(void) { return answered; }

__attribute__((constructor)) static void begin(void) {
    const struct sigaction ours = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART};
    sigaction(SIGUSR2, NULL, NULL); /* finds the real one */
    if (real_sigaction(SIGSEGV, &ours, NULL) || set_faulting(1)) {
        static const char said[] = "cpu_mask: this system cannot make CPUID fault\n";
        (void)!write(STDERR_FILENO, said, sizeof said - 1);
        _exit(127);
    }
}
