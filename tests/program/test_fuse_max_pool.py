"""A max pool becomes part of the convolution before it where no byte changes; where it stays, the reason is given."""

import numpy as np
import pytest

from penjing.core.targets import find_target
from penjing.ir.graph import Graph
from penjing.ir.types import Constant, DType, Quant, Type
from penjing.ir.verify import verify
from penjing.ops.conv2d import QConv2d
from penjing.ops.pool2d import QMaxPool2d
from penjing.program.interpret import interpret
from penjing.program.plan import plan
from penjing.vector.fuse_max_pool import FuseMaxPool
from penjing.vector.specialise import UseVectorKernels, kernel_choices, specialise

X86 = find_target("x86_64-linux")
PLAIN = find_target("aarch64-linux")


def program(
    kernel=(2, 2),
    stride=None,
    padding=(0, 0, 0, 0),
    dilation=(1, 1),
    ceil=False,
    size=(9, 15),
    multiplier=0.001,
    residual=False,
    leaves=False,
    read_twice=False,
    on_input=False,
) -> Graph:
    """x -> v_conv2d -> max pool, in the variations that decide whether they can be one."""
    rng = np.random.default_rng(0)
    graph = Graph("pooled", stage="lowered")
    x = graph.add_input("x", Type((1, *size, 4), DType.U8, Quant((np.float32(0.1),), 7)))
    w = graph.add_constant("w", Constant(rng.integers(-127, 128, (20, 3, 3, 4), dtype=np.int8)))
    bias = graph.add_constant("bias", Constant(rng.integers(-999, 999, 20, dtype=np.int32)))
    m = graph.add_constant("m", Constant(np.where(np.arange(20) == 3, multiplier, 0.001).astype(np.float32)))
    conv = QConv2d((1, 1), (1, 1, 1, 1), (1, 1), 1, 7, 100, 0, 255, *((0.5, 3) if residual else ()))
    more = ()
    if residual:
        plain = QConv2d((1, 1), (1, 1, 1, 1), (1, 1), 1, 7, 100, 0, 255)
        graph.add_node(plain, (x, w, bias, m), ("before",))
        more = ("before",)
    graph.add_node(conv, (x, w, bias, m, *more), ("sums",))
    pool = QMaxPool2d(kernel, stride or kernel, padding, dilation, ceil)
    graph.add_node(pool, ("x" if on_input else "sums",), ("y",))
    graph.outputs = ("y",)
    if read_twice:
        graph.add_node(QMaxPool2d((3, 3), (3, 3), (0, 0, 0, 0), (1, 1), False), ("sums",), ("z",))
        graph.outputs = ("y", "z")
    if leaves or on_input:
        graph.outputs = ("y", "sums")
    verify(graph)
    return graph


@pytest.mark.parametrize("kernel", [(2, 2), (3, 3), (1, 2), (4, 1), (2, 12)])
def test_the_convolution_keeps_the_largest(kernel):
    before = program(kernel)
    after = specialise(before, X86)
    verify(after)
    (node,) = after.nodes
    assert (node.op.name, node.op.pool, node.outputs) == ("v_conv2d", kernel, ("y",))
    codes = np.random.default_rng(1).integers(0, 256, before.types["x"].bounds, dtype=np.uint8)
    np.testing.assert_array_equal(interpret(after, codes)[0], interpret(before, codes)[0])


def test_a_window_that_ends_with_its_input_may_round_up():
    (node,) = specialise(program(size=(8, 16), ceil=True), X86).nodes
    assert node.op.pool == (2, 2)


def test_the_map_between_takes_no_memory_and_the_work_is_that_of_both():
    before = program(size=(64, 64))
    apart, together = UseVectorKernels().run(before).graph, specialise(before, X86)
    assert plan(apart).arena_bytes - plan(together).arena_bytes >= 64 * 64 * 20
    (conv, _), (fused,) = apart.nodes, together.nodes
    work = [g.nodes[0].op.cost(g.input_types(n), g.output_types(n)) for g, n in ((apart, conv), (together, fused))]
    assert work[0].macs == work[1].macs == 64 * 64 * 20 * 36


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"stride": (1, 1)}, "side by side"),
        ({"kernel": (3, 3), "stride": (2, 2)}, "side by side"),
        ({"padding": (1, 1, 1, 1)}, "side by side"),
        ({"dilation": (2, 1)}, "side by side"),
        ({"ceil": True}, "hang over"),
        ({"kernel": (1, 13)}, "wider than 12"),
        ({"multiplier": -0.001}, "negative multiplier"),
        ({"residual": True}, "residual"),
        ({"leaves": True}, "other users"),
        ({"read_twice": True}, "other users"),
    ],
)
def test_a_reason_is_given_where_the_pool_stays(changes, reason):
    before = program(**changes)
    result = FuseMaxPool().run(UseVectorKernels().run(before).graph)
    assert not result.changed
    assert len(result.graph.nodes) == len(before.nodes)
    assert reason in result.declined[0].text
    pool = next(choice for choice in kernel_choices(before, X86) if choice.name == "y")
    assert pool.kernel == "q_max_pool2d" and reason in pool.why


def test_a_pool_of_the_input_is_no_part_of_anything():
    before = program(on_input=True)
    result = FuseMaxPool().run(UseVectorKernels().run(before).graph)
    assert not result.changed and not result.declined


def test_the_table_of_kernels_says_what_runs_where():
    before = program()
    assert [(c.op, c.kernel) for c in kernel_choices(before, X86)] == [
        ("q_conv2d", "v_conv2d"),
        ("q_max_pool2d", "v_conv2d"),
    ]
    assert kernel_choices(before, X86)[1].why == "part of sums"
    assert [c.kernel for c in kernel_choices(before, PLAIN)] == ["q_conv2d", "q_max_pool2d"]
