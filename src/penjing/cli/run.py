"""`penjing run`: a tray and files in, labels or arrays out."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from penjing.api import Port
from penjing.bundle.schema import InputSpec
from penjing.cli.arguments import AsJson, Engine, EngineName, Examples, Force, Raw, TrayPath
from penjing.cli.arrays import ARRAYS, check_finite, check_samples, read_array, require_file
from penjing.cli.images import IMAGES, read_image
from penjing.cli.output import phases, print_json, say
from penjing.cli.samples import prepared
from penjing.cli.sessions import check_calls, opened_session, stepped
from penjing.cli.streams import calls_of
from penjing.cli.writing import claim
from penjing.core.errors import InvalidInput
from penjing.core.files import write_atomically
from penjing.runtime.loading import load
from penjing.runtime.model import Model

EXAMPLES: Examples = (
    ("an image: resized, converted and normalised as the tray says", "penjing run edgecnn.tray digit.png"),
    ("many files, the five best labels of each", "penjing run edgecnn.tray scans/*.png --top 5"),
    ("a batch of raw samples, all scores kept", "penjing run edgecnn.tray samples.npy -o scores.npy"),
    (
        "frame by frame, and tomorrow from there on",
        "penjing run denoiser.tray frames.npy --stream --state today.session",
    ),
    ("for a program", "penjing run edgecnn.tray digit.png --json"),
)
_CHUNK = 64


@dataclass(frozen=True)
class _Result:
    """What one file gave: per output of the model, one array (n, ...)."""

    file: str
    outputs: tuple[np.ndarray, ...]


def run(
    tray: TrayPath,
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Images, or .npy arrays of one sample or many.", show_default=False),
    ],
    top: Annotated[int, typer.Option(metavar="N", help="How many labels to show.", min=1)] = 3,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write all scores: .npy, or .npz for several outputs."),
    ] = None,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            metavar="",
            help="Step through sequences: each call goes on from the one before, over all files.",
        ),
    ] = False,
    state: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Of --stream: go on from the session in FILE, if there is one, and leave it there."
        ),
    ] = None,
    engine: Engine = EngineName.AUTO,
    raw: Raw = True,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Run a model on files: images or arrays in, labels out.

    Images are scaled to the model's size and colours, and normalised as the tray says. In arrays, uint8 is taken as
    pixels of 0..255, floats as raw values in the model's range.
    """
    if state is not None and not stream:
        raise InvalidInput("only a stream has a state", where="--state", hint="add --stream")
    if output is not None:
        claim(output, force=force)
    model = load(tray, engine=engine.value)
    if len(model.inputs) != 1:
        what = f"the model takes {len(model.inputs)} inputs; the command line runs models with one"
        raise InvalidInput(what, where=str(tray), hint="in Python: penjing.load(FILE).run(a, b)")
    if output is not None:
        _check_suffix(output, len(model.outputs))
    if stream:
        _stream(model, inputs, top, output, state, raw=raw, force=force, as_json=as_json)
        return
    with phases(quiet=as_json) as shown:
        results = []
        for path in inputs:
            samples = _read(path, model.inputs[0], raw=raw)
            shown.start(f"running {path.name}", total=len(samples))
            results.append(_Result(str(path), _outputs(model, samples, shown.reached)))
    if output is not None:
        write_atomically(output, _file(model, results, output), force=force)
    if as_json:
        print_json({"engine": model.engine.name, "results": [_as_dict(model, result, top) for result in results]})
        return
    for result in results:
        _show(model, result, top)


def _stream(
    model: Model,
    inputs: list[Path],
    top: int,
    output: Path | None,
    state: Path | None,
    *,
    raw: bool,
    force: bool,
    as_json: bool,
) -> None:
    """All files as one session; of each, the answer to its last call is shown."""
    session = opened_session(model, state)
    calls = [_read(path, model.inputs[0], raw=raw, stream=True) for path in inputs]
    check_calls(session, sum(map(len, calls)))
    results, seconds = [], 0.0
    with phases(quiet=as_json) as shown:
        for path, samples in zip(inputs, calls, strict=True):
            shown.start(f"streaming {path.name}", total=len(samples))
            outputs, took = stepped(session, samples, shown.reached)
            results.append(_Result(str(path), outputs))
            seconds += took
    if output is not None:
        write_atomically(output, _file(model, results, output), force=force)
    if state is not None:
        write_atomically(state, session.save(), force=True)
    speed = {"calls": session.steps, "seconds": seconds, "calls_left": session.calls_left}
    if as_json:
        told = [_as_dict(model, result, top) for result in results]
        print_json({"engine": model.engine.name, "stream": speed, "results": told})
        return
    for result in results:
        last = tuple(array[-1:] for array in result.outputs)
        _show(model, _Result(f"{result.file}, call {len(result.outputs[0])}", last), top)
    left = "" if session.calls_left is None else f"; room for {session.calls_left:,} more"
    say(f"{session.steps:,} calls in {seconds:.3g} s, {session.steps / seconds:,.0f} a second{left}")


def _read(path: Path, spec: InputSpec, *, raw: bool, stream: bool = False) -> np.ndarray:
    """The samples of a file as real inputs (n, ...), or its calls."""
    shape = spec.shape[1:]
    suffix = path.suffix.lower()
    port = Port(spec.mean, spec.std, spec.value_range)
    if suffix in IMAGES:
        return prepared(read_image(path, shape), port, raw=True, where=str(path))
    require_file(path, hint="give images or .npy arrays")
    if suffix not in ARRAYS:
        known = ", ".join((*ARRAYS, *IMAGES))
        raise InvalidInput(f"the kind of {path} is not known", where=str(path), hint=f"known are {known}")
    array = read_array(path)
    if stream:
        array = calls_of(array, shape, str(path))
    if spec.dtype == "s32":
        return array  # ids, which `Model.run` checks
    samples = check_samples(array, shape, str(path), [axis - 1 for axis in spec.length_axes])
    if not len(samples):
        raise InvalidInput("there is no sample in it", where=str(path))
    check_finite(samples, str(path))
    return prepared(samples, port, raw=raw, where=str(path))


def _outputs(model: Model, samples: np.ndarray, progress: Any) -> tuple[np.ndarray, ...]:
    parts = []
    for start in range(0, len(samples), _CHUNK):
        found = model.run(samples[start : start + _CHUNK])
        parts.append(found if isinstance(found, tuple) else (found,))
        progress(min(start + _CHUNK, len(samples)), len(samples))
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))


def _check_suffix(output: Path, n_outputs: int) -> None:
    wanted = ".npy" if n_outputs == 1 else ".npz"
    if output.suffix.lower() not in (wanted, ".npz"):
        raise InvalidInput(
            f"{n_outputs} {'output goes' if n_outputs == 1 else 'outputs go'} into a {wanted} file",
            where=str(output),
            hint=f"-o {output.with_suffix(wanted)}",
        )


def _file(model: Model, results: list[_Result], output: Path) -> bytes:
    stream = io.BytesIO()
    arrays = [np.concatenate(parts) for parts in zip(*(result.outputs for result in results), strict=True)]
    if output.suffix.lower() == ".npz":
        named: dict[str, Any] = dict(zip((spec.name for spec in model.outputs), arrays, strict=True))
        np.savez(stream, **named)
    else:
        np.save(stream, arrays[0])
    return stream.getvalue()


def _as_dict(model: Model, result: _Result, top: int) -> dict[str, Any]:
    labels = None
    if model.outputs[0].labels:
        best = (model.top_labels(row, top) for row in result.outputs[0])
        labels = [[{"label": label, "probability": share} for label, share in sample] for sample in best]
    return {
        "file": result.file,
        "labels": labels,
        "outputs": {spec.name: array.tolist() for spec, array in zip(model.outputs, result.outputs, strict=True)},
    }


def _show(model: Model, result: _Result, top: int) -> None:
    first = result.outputs[0]
    for i, row in enumerate(first):
        name = result.file if len(first) == 1 else f"{result.file}[{i}]"
        if model.outputs[0].labels:
            found = ", ".join(f"{label} {100 * share:.1f} %" for label, share in model.top_labels(row, top))
        else:
            found = _largest(row, top)
        say(f"{name}: {found}")


def _largest(row: np.ndarray, top: int) -> str:
    """Without labels nothing tells what a number means, so the numbers are shown as they are."""
    best = np.argsort(-row, axis=None, kind="stable")[:top]
    places = [list(map(int, np.unravel_index(i, row.shape))) for i in best]
    values = ", ".join(f"{place} {row[tuple(place)]:.4g}" for place in places)
    return f"largest of {'x'.join(map(str, row.shape))}: {values}"
