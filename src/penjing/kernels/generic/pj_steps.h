/* How a program calls its kernels. A step is a row of places: of PJ_MOST_INPUTS inputs, of PJ_MOST_OUTPUTS outputs, and of
 * its scratch memory. A place is 8 times an offset, plus the memory in which it lies: 0 weights, 1 inputs, 2 outputs, 3 the
 * arena, 4 none, 5 the states, 6 the next states. Rows are shorter than the instructions that would compute the same addresses.
 *
 * There is one function for each kind of step. `known` assigns what is the same in all steps of the kind, to `p` and `c`:
 * with these constants and everything inlined, compilers leave out what the network does not need of a kernel.
 */
#if defined(__GNUC__)
#define PJ_KIND static __attribute__((noinline, flatten))
#else
#define PJ_KIND static
#endif

struct pj_call {
    const void *in[PJ_MOST_INPUTS];
    void *out[PJ_MOST_OUTPUTS];
    uint8_t *scratch;
};

PJ_INLINE struct pj_call pj_open(const uint32_t *places, const uintptr_t *memory)
{
    struct pj_call call;
    int32_t i;
    for (i = 0; i < PJ_MOST_INPUTS; i++, places++)
        call.in[i] = (const void *)(memory[*places & 7] + (*places >> 3));
    for (i = 0; i < PJ_MOST_OUTPUTS; i++, places++)
        call.out[i] = (void *)(memory[*places & 7] + (*places >> 3));
    call.scratch = (uint8_t *)(memory[*places & 7] + (*places >> 3));
    return call;
}

#define PJ_STEP(op, known)                                                                                            \
    PJ_KIND void pj_step_##op(const struct pj_##op *step, const uint32_t *places, const uintptr_t *memory)           \
    {                                                                                                                \
        struct pj_##op p = *step;                                                                                    \
        struct pj_call c = pj_open(places, memory);                                                                  \
        known                                                                                                        \
        pj_##op(&p, c.in, c.out, c.scratch);                                                                         \
    }

/* The same for a team: each computes a part, with `share` bytes of scratch memory, */
#define PJ_STEP_OF_ALL(op, known)                                                                                     \
    PJ_KIND void pj_step_##op(const struct pj_##op *step, const uint32_t *places, const uintptr_t *memory,           \
                              const struct pj_team *team, int32_t share)                                             \
    {                                                                                                                \
        struct pj_##op p = *step;                                                                                    \
        struct pj_call c = pj_open(places, memory);                                                                  \
        known                                                                                                        \
        pj_##op##_part(&p, c.in, c.out, c.scratch + (int64_t)team->part.index * share, team->part);                  \
        pj_meet(team);                                                                                               \
    }

/* or one computes everything. */
#define PJ_STEP_OF_ONE(op, known)                                                                                     \
    PJ_KIND void pj_step_##op(const struct pj_##op *step, const uint32_t *places, const uintptr_t *memory,           \
                              const struct pj_team *team)                                                            \
    {                                                                                                                \
        struct pj_##op p = *step;                                                                                    \
        struct pj_call c = pj_open(places, memory);                                                                  \
        known                                                                                                        \
        if (team->part.index == 0)                                                                                   \
            pj_##op(&p, c.in, c.out, c.scratch);                                                                     \
        pj_meet(team);                                                                                               \
    }
