"""`<stem>_run_f32`, from reals to reals in one call, equals the interpreter between the definition's own codes."""

from collections.abc import Callable

import numpy as np
import pytest

from penjing import api, assembly
from penjing.ir.graph import Graph
from penjing.ops.add import Add
from penjing.ops.permute import Permute
from penjing.ops.relu import Relu
from penjing.program.symbols import c_stem
from penjing.runtime.engines import InterpreterEngine
from penjing.testing.isas import isa_number, native_isas
from penjing.testing.networks import Network, batches
from penjing.toolchain import Target, compile_executable, find_target, host_target, run_executable
from penjing.vector.prepare import prepare

HOST = host_target()
PLAIN = find_target("wasm32")  # whose sources are one file in plain C
SAMPLES = 6

MAIN = r"""
#include "STEM.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *block(size_t bytes)
{
    char *made = malloc(bytes + 64);
    if (!made)
        exit(3);
    memset(made, 0xA5, bytes + 64);
    return made + (-(uintptr_t)made & 63);
}

int main(void)
{
    static const int isas[] = {ISAS};
    unsigned char *weights = block(UP_WEIGHTS_BYTES), *arena = block(UP_ARENA_F32_BYTES);
    float *in = block(sizeof *in * UP_INPUT_BYTES), *out = block(sizeof *out * UP_OUTPUT_BYTES);
    size_t i;
    if (fread(weights, 1, UP_WEIGHTS_BYTES, stdin) != UP_WEIGHTS_BYTES)
        return 4;
    while (fread(in, sizeof *in, UP_INPUT_BYTES, stdin) == UP_INPUT_BYTES)
        for (i = 0; i < sizeof isas / sizeof *isas; i++) {
            USE(isas[i]);
            memset(arena, 0xA5, UP_ARENA_F32_BYTES);
            if (STEM_run_f32(weights, in, out, arena) != 0)
                return 5;
            fwrite(out, sizeof *out, UP_OUTPUT_BYTES, stdout);
        }
    return STEM_run_f32(weights, in, out, 0) != UP_ERROR_NULL ||
           STEM_run_f32(weights, 0, out, arena) != UP_ERROR_NULL ||
           STEM_run_f32(weights, in, out, arena + 1) != UP_ERROR_ALIGNMENT;
}
"""


def image() -> Graph:
    net = Network("image")
    return net.done(net.conv(net.input(3, 23, 29), 8, out="y"))


def two_images() -> Graph:
    net = Network("two_images")
    x = net.conv(net.conv(net.input(3, 9, 11), 6, out="a"), 5, out="b")
    y = net.conv(net.input(3, 9, 11, name="z"), 5, out="c")
    return net.done(net.node(Add(), x, y, out="y"))


def image_and_vector() -> Graph:
    net = Network("image_and_vector")
    x = net.linear(net.flatten(net.conv(net.input(3, 8, 8), 4, out="a"), out="f"), 9, out="b")
    y = net.linear(net.input(13, name="z"), 9, out="c")
    return net.done(net.node(Add(), x, y, out="y"))


def image_read_twice() -> Graph:
    net = Network("image_read_twice")
    x = net.input(3, 8, 8)
    first = net.linear(net.flatten(x, out="f"), 9, out="a")
    second = net.linear(net.flatten(net.conv(x, 4, out="c"), out="g"), 9, out="b")
    return net.done(net.node(Add(), first, second, out="y"))


def four_planes() -> Graph:
    net = Network("four_planes")
    return net.done(net.conv(net.input(4, 7, 9), 8, out="y"))


def gray_image() -> Graph:
    net = Network("gray_image")
    return net.done(net.conv(net.input(1, 20, 21), 8, out="y"))


def pixels() -> Graph:
    net = Network("pixels")
    return net.done(net.node(Permute((0, 2, 3, 1)), net.node(Relu(), net.input(3, 9, 8), out="r"), out="y"))


MAKERS: dict[Callable[[], Graph], bool] = {
    image: True,
    two_images: True,
    image_and_vector: False,
    image_read_twice: False,
    four_planes: False,
    gray_image: False,
    pixels: False,
}


def outputs_of(program: Graph, target: Target, threads: int, inputs: list[np.ndarray]) -> tuple[np.ndarray, str]:
    """(samples, instruction sets, floats) of the block of outputs, and the sources in one text."""
    prepared = prepare(program, target, threads)
    plan, stem = prepared.plan, c_stem(program.name)
    isas = native_isas(HOST) if target.isas else ()
    main = MAIN.replace("STEM", stem).replace("UP_", f"{stem.upper()}_")
    main = main.replace("ISAS", ", ".join(str(isa_number(HOST, isa)) for isa in isas) or "0")
    main = main.replace("USE(isas[i])", f"if ({stem}_use(isas[i]) != 0) return 6" if isas else "(void)isas")
    sources = dict(assembly.emit(prepared, standalone=False).sources)
    block = np.zeros((SAMPLES, plan.input_bytes), np.float32)
    for name, x in zip(program.inputs, inputs, strict=True):
        place = plan.places[name]
        block[:, place.offset : place.offset + place.nbytes] = x.reshape(SAMPLES, -1)
    made = compile_executable({**sources, "main.c": main}, HOST, optimize="-O2")
    written = run_executable(made, HOST, stdin=prepared.weights.tobytes() + block.tobytes())
    floats = np.frombuffer(written, np.float32).reshape(SAMPLES, max(len(isas), 1), plan.output_bytes)
    return floats, "".join(sources.values())


FORMS = [(PLAIN, 1, make) for make in MAKERS]
if HOST.isas:
    FORMS += [*((HOST, 1, make) for make in MAKERS), (HOST, 2, two_images)]


@pytest.mark.parametrize(("target", "threads", "make"), FORMS)
def test_one_call_from_reals_to_reals_equals_the_interpreter(target, threads, make):
    graph = make()
    program = api.lower(api.quantize(graph, batches(graph, 16)))
    (inputs,) = batches(graph, SAMPLES, seed=9)
    inputs = [np.float32(1.5) * x for x in inputs]  # some beyond what was seen before
    (want,) = InterpreterEngine(program).run_reals(*inputs)
    got, text = outputs_of(program, target, threads, inputs)
    for each in range(got.shape[1]):
        assert got[:, each].tobytes() == want.reshape(SAMPLES, -1).tobytes()
    assert text.count("if (reals)") == (len(graph.inputs) if MAKERS[make] else 0)
