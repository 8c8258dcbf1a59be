"""Every operator of networks: its samples mean the same in numpy and in torch, and have the shapes it announces."""

import dataclasses

import numpy as np
import pytest

from penjing.ir.types import DType
from penjing.ops import operators
from penjing.ops.advance import Advance
from penjing.ops.operator import Operator, QuantRule, Sample

torch = pytest.importorskip("torch")

# of the largest output: both sides add float32 numbers, in different orders
TOLERANCE = 2e-6


SAMPLES = [
    pytest.param(sample, id=f"{name}-{i}")
    for name, operator in operators().items()
    for i, sample in enumerate(operator.samples())
]


def float_outputs(sample: Sample) -> tuple[np.ndarray, ...]:
    assert isinstance(sample.op, Operator)
    return sample.op.float_reference(*sample.inputs)


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_float_reference_is_what_torch_computes(sample: Sample) -> None:
    assert isinstance(sample.op, Operator)
    tensors = [None if x is None else torch.from_numpy(x.copy()) for x in sample.inputs]
    with torch.no_grad():
        made = sample.op.torch_form(torch, *tensors)
    made = made if isinstance(made, tuple) else (made,)
    for ours, theirs in zip(float_outputs(sample), made, strict=True):
        assert ours.shape == tuple(theirs.shape)
        limit = TOLERANCE * max(1.0, float(np.abs(ours).max()))
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=limit, err_msg=repr(sample.op))


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_shape_rule_announces_the_outputs(sample: Sample) -> None:
    outputs = float_outputs(sample)
    announced = sample.op.infer(*sample.types)
    assert [t.shape for t in announced] == [y.shape for y in outputs]
    assert {t.dtype for t in announced} == {DType.of(y) for y in outputs}
    assert {t.dtype for t in announced} == {DType.F32} or isinstance(sample.op, Advance)


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_float_reference_leaves_its_inputs_alone(sample: Sample) -> None:
    before = [None if x is None else x.copy() for x in sample.inputs]
    float_outputs(sample)
    for x, y in zip(sample.inputs, before, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("sample", [p for p in SAMPLES if not isinstance(p.values[0].op, Advance)])
def test_the_torch_form_is_differentiable(sample: Sample) -> None:
    assert isinstance(sample.op, Operator)
    x = torch.from_numpy(np.array(sample.inputs[0])).requires_grad_()
    rest = [None if a is None else torch.from_numpy(a.copy()) for a in sample.inputs[1:]]
    made = sample.op.torch_form(torch, x, *rest)
    sum(y.sum() for y in (made if isinstance(made, tuple) else (made,))).backward()
    assert x.grad is not None and bool(torch.isfinite(x.grad).all())


@pytest.mark.parametrize("name", operators())
def test_samples_vary_every_attribute(name: str) -> None:
    made = list(operators()[name].samples())
    for field in dataclasses.fields(operators()[name]):  # type: ignore[arg-type]  # every operator is a dataclass
        values = {getattr(sample.op, field.name) for sample in made}
        assert len(values) > 1, f"no sample of {name} tells what {field.name} does: always {values}"


@pytest.mark.parametrize("name", operators())
def test_an_operator_says_what_later_stages_ask(name: str) -> None:
    operator = operators()[name]
    made = list(operator.samples())
    assert made, f"{name} has no samples"
    for sample in made:
        assert isinstance(sample.op, operator)
        inputs, outputs = sample.types, sample.op.infer(*sample.types)
        cost = sample.op.cost(inputs, outputs)
        assert cost.macs >= 0 and cost.bytes >= 0
        for i, y in enumerate(sample.op.float_reference(*sample.inputs)):
            if sample.op.quant_rule_of(i) is QuantRule.FIXED:
                low, high = sample.op.fixed_range()
                step = (high - low) / 255
                assert low - step <= y.min() and y.max() <= high + step, f"{name} leaves its fixed range"


def test_no_two_operators_claim_the_same_torch_name() -> None:
    claims: dict[str, str] = {}
    for name, operator in operators().items():
        for target in operator.torch:
            assert claims.setdefault(target, name) == name, f"{target} belongs to {claims[target]} and {name}"


@pytest.mark.parametrize("target", sorted({target for operator in operators().values() for target in operator.torch}))
def test_every_torch_name_exists_in_torch(target: str) -> None:
    namespace, operator, overload = target.split(".")
    packet = getattr(getattr(torch.ops, namespace), operator)
    assert overload in packet.overloads()
