"""Rounding for size: nearest at strength 0, never worse in what it minimises, zeros stay, integers get smaller."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penjing.bundle import pack_tensors
from penjing.compress.layer_inputs import LayerInputs, collect_layer_inputs
from penjing.compress.prune.prune_magnitude import PruneMagnitude
from penjing.compress.quantize.affine_map import symmetric_per_channel
from penjing.compress.quantize.round_for_size import RoundForSize, entropy_bits, rounded
from penjing.core.entropy import code_bits, counts_cost
from penjing.core.errors import CalibrationError, InvalidInput, QuantizationError
from penjing.ir.graph import Graph
from penjing.ir.grid import grid_codes, on_grid
from penjing.ir.passes import run_passes
from penjing.ops.conv_transpose2d import ConvTranspose2d
from penjing.ops.layers import float_weights
from penjing.testing.networks import Network, batches


def network() -> Graph:
    net = Network()
    x = net.conv(net.input(4, 8, 8), 16, out="conv")
    return net.done(net.linear(net.flatten(net.conv(x, 16, out="grouped", groups=4), out="flat"), 12, out="fc"))


def codes_after(strength: float, **options) -> dict[str, np.ndarray]:
    graph, _ = run_passes(network(), [RoundForSize(strength, **options)])
    return {name: grid_codes(graph.constants[name]) for name in float_weights(graph)}


def size(codes: dict[str, np.ndarray]) -> int:
    return len(pack_tensors(codes))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_strength_0_is_rounding_to_nearest(bits):
    for name, codes in codes_after(0.0, bits=bits).items():
        np.testing.assert_array_equal(codes, symmetric_per_channel(float_weights(network())[name], bits)[0])


def test_more_strength_makes_smaller_packs_and_larger_errors():
    sizes, errors = [], []
    weights = float_weights(network())
    for strength in (0.0, 0.2, 1.0, 3.0):
        graph, _ = run_passes(network(), [RoundForSize(strength, bits=5)])
        sizes.append(size({name: grid_codes(graph.constants[name]) for name in weights}))
        errors.append(sum(np.square(graph.constants[name].array - w).sum() for name, w in weights.items()))
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] < 0.8 * sizes[0]
    assert errors == sorted(errors)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.01, 0.1, 1.0]), st.sampled_from([1, 7, 127]))
def test_what_is_minimised_never_exceeds_that_of_nearest_codes(seed, strength, top):
    """At the bits that the chosen codes themselves have, for each weight alone."""
    rng = np.random.default_rng(seed)
    exact = np.clip(rng.normal(size=(8, 30)) * top / 2, -top, top)
    nearest = np.rint(exact).astype(np.int8)
    importance = rng.random((8, 30)) + 0.1
    codes = rounded(exact, nearest, importance, strength, top)
    assert np.abs(codes.astype(int)).max() <= top

    def total(found: np.ndarray) -> float:
        counts = np.bincount(found.reshape(-1).astype(np.int64) + 127, minlength=255)
        return float((importance * np.square(exact - found)).sum() + strength * counts_cost(counts) / 4096)

    # the estimator adds half a count to each symbol, which the entropy does not have
    assert total(codes) <= total(nearest) + strength * 0.03 * exact.size


def test_zeros_stay_zero():
    graph, _ = run_passes(network(), [PruneMagnitude(ratio=0.7), RoundForSize(0.05, bits=4)])
    before, _ = run_passes(network(), [PruneMagnitude(ratio=0.7)])
    for name, weight in float_weights(before).items():
        assert not graph.constants[name].array[weight == 0].any()


def test_weights_on_a_grid_keep_their_scales_and_their_codes():
    graph = network()
    entries = np.array([-100, -40, 0, 3, 90])
    codes = entries[np.random.default_rng(0).choice(5, (12, 1024), p=[0.02, 0.2, 0.5, 0.2, 0.08])]
    graph.set_constant("fc.weight", on_grid(codes, np.array([0.25]), None))
    after, _ = run_passes(graph, [RoundForSize(300.0)])
    got = after.constants["fc.weight"]
    assert got.quant == graph.constants["fc.weight"].quant
    assert set(np.unique(grid_codes(got))) < set(entries)
    assert entropy_bits(grid_codes(got)) < entropy_bits(codes)


def test_inputs_that_matter_keep_their_weights():
    graph = network()
    statistics = collect_layer_inputs(graph, batches(graph, 16))
    loud = dict(statistics)
    gram = loud["fc.weight"].gram.copy()
    gram[:, :512, :512] *= 100
    loud["fc.weight"] = LayerInputs(gram, loud["fc.weight"].mean, loud["fc.weight"].rows)
    weight = float_weights(graph)["fc.weight"]
    after, _ = run_passes(graph, [RoundForSize(0.3, bits=4, statistics=loud)])
    error = np.square(after.constants["fc.weight"].array - weight)
    assert 4 * error[:, :512].mean() < error[:, 512:].mean()


def test_a_group_of_a_convolution_has_inputs_of_its_own():
    graph = network()
    statistics = collect_layer_inputs(graph, batches(graph, 8))
    assert len(statistics["grouped.weight"].gram) == 4
    run_passes(graph, [RoundForSize(0.1, statistics=statistics)])


def test_transposed_convolutions_have_their_channels_on_another_axis():
    net = Network()
    weight = net.weight("up.weight", 6, 10, 3, 3)
    graph = net.done(net.node(ConvTranspose2d(), net.input(6, 5, 5), weight, out="up"))
    after, _ = run_passes(graph, [RoundForSize(0.05, bits=4)])
    quant = after.constants["up.weight"].quant
    assert (quant.axis, len(quant.scales)) == (1, 10)


def test_the_original_stays_and_every_layer_gets_a_remark():
    graph = network()
    before = {name: constant.array for name, constant in graph.constants.items()}
    result = RoundForSize(0.1).run(graph)
    assert all(graph.constants[name].array is array for name, array in before.items())
    assert [remark.where for remark in result.changed] == list(float_weights(graph))
    again = RoundForSize(0.0).run(result.graph)
    assert [remark.text for remark in again.declined] == ["no cheaper code is near enough"] * 3


@pytest.mark.parametrize(("options", "error", "reason"), [
    ({"strength": -0.1}, InvalidInput, "strength"), ({"strength": float("nan")}, InvalidInput, "strength"),
    ({"strength": float("inf")}, InvalidInput, "strength"), ({"strength": 0.1, "bits": 9}, InvalidInput, "2 to 8"),
    ({"strength": 0.1, "bits": 1}, InvalidInput, "2 to 8"), ({"strength": 1e9}, QuantizationError, "become 0"),
    ({"strength": 0.1, "statistics": {"fc.weight": LayerInputs(np.ones((1, 3, 3)), np.ones((1, 3)), 1)}},
     CalibrationError, "do not fit"),
])  # fmt: skip
def test_bad_input_is_refused(options, error, reason):
    with pytest.raises(error, match=reason):
        run_passes(network(), [RoundForSize(**options)])


def test_an_unseen_code_costs_more_than_any_seen_one():
    bits = code_bits(np.array([0, 1, 5, 100]))
    assert list(bits) == sorted(bits, reverse=True)
    assert np.isfinite(bits).all()
