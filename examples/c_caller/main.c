/* Makes a wave, asks the network what it is, and says so:  ./waves sine|square|sawtooth PERIODS */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "penjing_waves.h"

enum { SAMPLES = PENJING_WAVES_INPUT_BYTES, KINDS = PENJING_WAVES_OUTPUT_BYTES };

static const char *const names[KINDS] = {"sine", "square", "sawtooth"};
static _Alignas(PENJING_WAVES_ALIGNMENT) uint8_t arena[PENJING_WAVES_ARENA_BYTES];

static float sample(const char *kind, float phase)
{
    const float sine = sinf(6.2831853f * phase);
    if (strcmp(kind, "square") == 0)
        return sine >= 0.0f ? 1.0f : -1.0f;
    return strcmp(kind, "sawtooth") == 0 ? 2.0f * (phase - floorf(phase)) - 1.0f : sine;
}

/* real = scale * (code - zero_point), the other way round */
static uint8_t to_code(float real)
{
    const float low = 0 - PENJING_WAVES_INPUT_0_ZERO_POINT, high = 255 - PENJING_WAVES_INPUT_0_ZERO_POINT;
    const float steps = real / PENJING_WAVES_INPUT_0_SCALE;
    return (uint8_t)(lrintf(fminf(fmaxf(steps, low), high)) + PENJING_WAVES_INPUT_0_ZERO_POINT);
}

int main(int argc, char **argv)
{
    uint8_t in[SAMPLES], out[KINDS];
    int i, best = 0;

    if (argc != 3) {
        fprintf(stderr, "usage: %s sine|square|sawtooth PERIODS\n", argv[0]);
        return 2;
    }
    if (penjing_waves_self_test() != PENJING_WAVES_OK) {
        fprintf(stderr, "this library was built for another kind of machine\n");
        return 1;
    }
    for (i = 0; i < SAMPLES; i++)
        in[i] = to_code(sample(argv[1], strtof(argv[2], 0) * (float)i / SAMPLES));
    if (penjing_waves_run(in, out, arena) != PENJING_WAVES_OK)
        return 1;
    for (i = 1; i < KINDS; i++)
        best = out[i] > out[best] ? i : best;
    printf("%s heard as %s\n", argv[1], names[best]);
    return 0;
}
