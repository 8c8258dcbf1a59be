"""A loaded model: real numbers or codes in and out, raw pixels in and labels out."""

from collections.abc import Sequence

import numpy as np

from penjing.bundle.schema import InputSpec, OutputSpec
from penjing.bundle.tray import Tray
from penjing.core.errors import BundleError, InvalidInput
from penjing.core.normalise import normalise
from penjing.ir.types import Type
from penjing.ops.embedding import check_ids
from penjing.runtime.engines import Bound, Engine, LibraryEngine, check_one_length, shape_words, to_codes, to_reals
from penjing.runtime.session import Session


class Model:
    """One variant of a tray, ready to run.

    Attributes:
        tray: where it came from; `tray.manifest` holds the model card, labels and sizes.
        variant: name of the variant.
        engine: what computes it; `engine.name` is 'library <target>' or 'interpreter'.
    """

    def __init__(self, tray: Tray, variant: str, engine: Engine) -> None:
        self.tray = tray
        self.variant = variant
        self.engine = engine

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """Shape, normalisation and quantization of each input."""
        return self.tray.manifest.inputs

    @property
    def outputs(self) -> tuple[OutputSpec, ...]:
        """Shape, quantization and labels of each output."""
        return self.tray.manifest.outputs

    def session(self) -> Session:
        """Begin a stream through a model with states, whose calls go on from each other.

        Raises:
            InvalidInput: the model has no states.
        """
        return Session(self)

    def run(self, *inputs: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
        """Compute real outputs from real inputs, both float32, normalised as in training.

        Samples know nothing of each other: each is a first call where the model has states.

        Args:
            inputs: one array (n, ...) per input; a single sample may leave out the first axis. An input of ids takes
                integers, of 0 up to the end of its `value_range`. Where the model takes sequences of any length, all
                samples of a call have the same.

        Returns:
            One float32 array (n, ...) per output; the array itself when there is one output.

        Raises:
            InvalidInput: wrong number, shape or dtype; NaN or infinity; an id that is no row of its table.
        """
        real = self.engine.run_reals(*self._checked_inputs(inputs))
        return real[0] if len(real) == 1 else real

    def bind(self, *, reals: bool = False, length: int | None = None) -> Bound:
        """The library's own memory for one sample: fill `inputs`, call `run`, read `outputs`, without any copy.

        Args:
            reals: whether the arrays hold float32, or codes. NaN is not looked for: it counts as 0.
            length: of the sequence where the model takes any; the longest when None. All lengths share the memory.

        Raises:
            InvalidInput: the model takes no sequences of this length.
            BundleError: the interpreter runs this model, which has no memory of its own.
        """
        if not isinstance(self.engine, LibraryEngine):
            raise BundleError(f"only a compiled library can be bound, not the {self.engine.name}")
        return self.engine.bind(reals=reals, length=length)

    def to_codes(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """Codes of real inputs, which `run` takes. Errors as there."""
        return to_codes(self.engine.program, self._checked_inputs(inputs))

    def to_reals(self, *outputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """Reals of output codes."""
        return to_reals(self.engine.program, outputs)

    def run_codes(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """Compute output codes from input codes (n, ...), without any float arithmetic outside the program."""
        return self.engine.run(*inputs)

    def prepare(self, raw: np.ndarray, index: int = 0) -> np.ndarray:
        """Raw values of input `index` as the real input: (x - mean) / std per channel.

        uint8 pixels 0..255 are first scaled to the input's value range; floats must already lie in it.
        """
        spec = self.inputs[index]
        if raw.dtype.kind == "f":
            _check_finite(raw, spec)
        elif raw.dtype != np.uint8:
            raise InvalidInput(f"raw input {spec.name} must be uint8 or float, not {raw.dtype}")
        type_ = self.engine.program.types[self.engine.program.inputs[index]]
        batch = raw if raw.ndim == len(spec.shape) else raw[None]
        if not type_.matches((1, *batch.shape[1:])):
            raise InvalidInput(f"raw input {spec.name} has shape {raw.shape}, expected (n, {shape_words(type_)})")
        return normalise(batch, spec.mean, spec.std, spec.value_range)

    def classify(self, raw: np.ndarray, top: int = 5) -> list[tuple[str, float]]:
        """The `top` most likely labels of one raw sample, with softmax probabilities of the first output."""
        scores = self.run(self.prepare(raw))
        first = scores if isinstance(scores, np.ndarray) else scores[0]
        if len(first) != 1:
            raise InvalidInput(f"classify takes one sample, not {len(first)}", hint="use run for batches")
        return self.top_labels(first[0], top)

    def top_labels(self, scores: np.ndarray, top: int = 5) -> list[tuple[str, float]]:
        """The `top` largest of one sample's scores (first output) as labels with probabilities.

        Scores that add up to 1, as after a softmax layer, are probabilities already; others go through a softmax.
        """
        flat = scores.reshape(-1)
        probabilities = flat if _is_distribution(flat) else _softmax(flat)
        labels = self.outputs[0].labels or tuple(str(i) for i in range(flat.size))
        best = np.argsort(-probabilities, kind="stable")[:top]
        return [(labels[i], float(probabilities[i])) for i in best]

    def self_test(self) -> int:
        """Run the golden vectors, one after another where the model has states.

        Returns:
            The number of bytes that differ, 0 when this engine is exact here.
        """
        run = self._in_a_row if self.engine.program.states else self.run_codes
        wrong = 0
        for _, golden in self.tray.golden(self.variant).groups():
            outputs = run(*golden.inputs)
            wrong += sum(int((got != want).sum()) for got, want in zip(outputs, golden.outputs, strict=True))
        return wrong

    def _in_a_row(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """Samples as calls that go on from each other."""
        session = self.session()
        steps = [session.step_codes(*(x[i : i + 1] for x in inputs)) for i in range(len(inputs[0]))]
        return tuple(np.concatenate(outputs) for outputs in zip(*steps, strict=True))

    def _checked_inputs(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        program, specs = self.engine.program, self._specs(inputs)
        types = [program.types[name] for name in program.inputs]
        checked = [_checked(x, spec, type_) for x, spec, type_ in zip(inputs, specs, types, strict=True)]
        check_one_length(program, checked)
        n = len(checked[0])
        if n == 0 or any(len(x) != n for x in checked[1:]):
            counts = sorted(len(x) for x in checked)
            raise InvalidInput(f"inputs must hold the same number of samples, at least one, not {counts}")
        return checked

    def _specs(self, inputs: Sequence[np.ndarray]) -> tuple[InputSpec, ...]:
        specs = self.inputs
        if len(inputs) != len(specs):
            raise InvalidInput(f"{len(inputs)} inputs were given, the model takes {len(specs)}")
        return specs


def _checked(x: np.ndarray, spec: InputSpec, type_: Type) -> np.ndarray:
    """float32 (n, ...), finite, or int32 ids."""
    array = np.asarray(x)
    if spec.dtype == "s32":
        return _checked_ids(_batched(array, spec, type_), spec)
    if array.dtype.kind != "f":
        raise InvalidInput(
            f"input {spec.name} must be float, not {array.dtype}",
            hint="run takes real inputs; prepare() takes raw uint8 pixels, run_codes() takes codes",
        )
    array = _batched(array, spec, type_)
    _check_finite(array, spec)
    return array.astype(np.float32, copy=False)


def _batched(array: np.ndarray, spec: InputSpec, type_: Type) -> np.ndarray:
    array = array[None] if array.ndim == len(spec.shape) - 1 else array
    if array.ndim != len(spec.shape) or not type_.matches((1, *array.shape[1:])):
        raise InvalidInput(f"input {spec.name} has shape {array.shape}, expected (n, {shape_words(type_)})")
    return array


def _checked_ids(array: np.ndarray, spec: InputSpec) -> np.ndarray:
    if array.dtype.kind not in "iu":
        raise InvalidInput(f"input {spec.name} must hold ids, which are integers, not {array.dtype}")
    check_ids(array, int(spec.value_range[1]) + 1, spec.name)
    return array.astype(np.int32, copy=False)


def _is_distribution(scores: np.ndarray) -> bool:
    # each code of a softmax may be half a step of 1/256 off
    return bool(scores.min() >= 0 and abs(float(scores.sum()) - 1) <= 1 / 256 + min(scores.size / 512, 0.25))


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max())
    probabilities: np.ndarray = exponents / exponents.sum()
    return probabilities


def _check_finite(array: np.ndarray, spec: InputSpec) -> None:
    bad = array.size - np.count_nonzero(np.isfinite(array))
    if bad:
        raise InvalidInput(f"input {spec.name} holds NaN or infinity in {bad} places", hint="check the sensor or file")
