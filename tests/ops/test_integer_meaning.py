"""Every operator of programs: its samples have the types that it announces, and its kernel takes what it hands over."""

import dataclasses
import re
from importlib.resources import files

import numpy as np
import pytest

from penjing.ir.types import DType
from penjing.ops import integer_operators
from penjing.ops.operator import IntegerOperator, Sample

INT32 = np.iinfo(np.int32)


SAMPLES = [
    pytest.param(sample, id=f"{name}-{i}")
    for name, operator in integer_operators().items()
    for i, sample in enumerate(operator.samples())
]


def fields_of(operator: type[IntegerOperator]) -> list[str]:
    """Names of the attributes."""
    return [field.name for field in dataclasses.fields(operator)]  # type: ignore[arg-type]  # all are dataclasses


def integer_outputs(sample: Sample) -> tuple[np.ndarray, ...]:
    assert isinstance(sample.op, IntegerOperator)
    return sample.op.integer_reference(*sample.inputs)


def struct_fields(name: str) -> list[tuple[str, str, int]]:
    """(C type, field, array length or 1) of `struct pj_<name>` in the generic kernel's file."""
    text = (files("penjing") / "kernels" / "generic" / f"{name}.c").read_text(encoding="utf-8")
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    found = re.search(rf"struct pj_{name}\s*{{(.*?)}};", text, flags=re.DOTALL)
    assert found is not None, f"{name}.c has no struct pj_{name}"
    fields = []
    for line in filter(None, (part.strip() for part in found[1].split(";"))):
        ctype, declared = line.split(maxsplit=1)
        for item in declared.split(","):
            array = re.fullmatch(r"(\w+)(?:\[(\d+)\])?", item.strip())
            assert array is not None, f"{name}.c: cannot read {item!r}"
            fields.append((ctype, array[1], int(array[2] or 1)))
    return fields


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_type_rule_announces_the_outputs(sample: Sample) -> None:
    announced = sample.op.infer(*sample.types)
    outputs = integer_outputs(sample)
    assert [(t.shape, t.dtype) for t in announced] == [(y.shape, DType.of(y)) for y in outputs]


@pytest.mark.parametrize("sample", SAMPLES)
def test_an_integer_reference_leaves_its_inputs_alone(sample: Sample) -> None:
    before = [None if x is None else x.copy() for x in sample.inputs]
    integer_outputs(sample)
    for x, y in zip(sample.inputs, before, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("sample", SAMPLES)
def test_kernel_parameters_are_the_fields_of_the_kernels_struct(sample: Sample) -> None:
    assert isinstance(sample.op, IntegerOperator)
    params = sample.op.kernel_params(sample.types, sample.op.infer(*sample.types))
    kinds = {"int32_t": int, "float": float}
    fields = struct_fields(sample.op.name)
    assert [field for _, field, _ in fields] == list(params)
    for ctype, field, length in fields:
        value = params[field]
        items = value if isinstance(value, tuple) else (value,)
        assert len(items) == length, f"{field} = {value!r}"
        assert all(type(item) is kinds[ctype] for item in items), f"{field} = {value!r} for {ctype}"
        if ctype == "float":
            assert all(float(np.float32(item)) == item for item in items), f"{field} = {value!r} is no float32"
        else:
            assert all(INT32.min <= item <= INT32.max for item in items), f"{field} = {value!r}"


@pytest.mark.parametrize("sample", SAMPLES)
def test_an_operator_in_place_makes_as_many_bytes_as_it_takes(sample: Sample) -> None:
    assert isinstance(sample.op, IntegerOperator)
    (first, *_), (y, *_) = sample.types, sample.op.infer(*sample.types)
    # norms of 16 bits are not made in place
    if sample.op.name == "q_reshape" or (sample.op.in_place and first.dtype is y.dtype):
        assert first.nbytes == y.nbytes
    if sample.op.alias:
        assert sample.inputs[0] is not None
        assert sample.inputs[0].tobytes().startswith(integer_outputs(sample)[0].tobytes())


@pytest.mark.parametrize("sample", SAMPLES)
def test_cost_and_scratch_are_numbers_of_bytes(sample: Sample) -> None:
    assert isinstance(sample.op, IntegerOperator)
    outputs = sample.op.infer(*sample.types)
    cost = sample.op.cost(sample.types, outputs)
    assert cost.macs >= 0 and cost.bytes > 0
    assert sample.op.scratch_bytes(sample.types, outputs) >= 0


# q_advance counts, and float32 operators read no codes
CODES = [name for name in integer_operators() if name != "q_advance" and (name[0] == "q" or name == "f_dequantize")]


@pytest.mark.parametrize("name", CODES)
def test_samples_hold_every_code(name: str) -> None:
    samples = list(integer_operators()[name].samples())
    assert set(np.unique(np.concatenate([np.ravel(sample.inputs[0]) for sample in samples]))) >= set(range(256))


@pytest.mark.parametrize("name", [name for name, made in integer_operators().items() if "qmin" in fields_of(made)])
def test_samples_of_an_operator_that_rounds_saturate_at_both_ends(name: str) -> None:
    outputs = [y for sample in integer_operators()[name].samples() for y in integer_outputs(sample)]
    assert set(np.unique(np.concatenate([np.ravel(y) for y in outputs]))) >= {0, 255}


@pytest.mark.parametrize("name", integer_operators())
def test_samples_vary_every_attribute(name: str) -> None:
    made = list(integer_operators()[name].samples())
    for field in fields_of(integer_operators()[name]):
        values = {getattr(sample.op, field) for sample in made}
        assert len(values) > 1, f"no sample of {name} tells what {field} does: always {values}"


@pytest.mark.parametrize("name", integer_operators())
def test_a_kernel_keeps_to_its_own_names(name: str) -> None:
    text = (files("penjing") / "kernels" / "generic" / f"{name}.c").read_text(encoding="utf-8")
    assert f"static void pj_{name}(" in text
    functions = re.findall(r"^static (?:inline )?[\w ]+?[ *](\w+)\(", text, flags=re.MULTILINE)
    assert all(function == f"pj_{name}" or function.startswith(f"pj_{name}_") for function in functions), functions


def test_every_kernel_belongs_to_an_operator() -> None:
    kernels = {path.name for path in (files("penjing") / "kernels" / "generic").iterdir() if path.name.endswith(".c")}
    assert kernels == {f"{name}.c" for name in integer_operators()}
