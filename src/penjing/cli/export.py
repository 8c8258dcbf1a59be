"""`penjing export`: a network as an ONNX file, for other engines."""

from pathlib import Path
from typing import Annotated

import typer

from penjing.cli.arguments import (
    MODEL_KINDS,
    OF_INPUT,
    SMALLER,
    AsJson,
    Examples,
    Fix,
    Force,
    InputShape,
    Observer,
    ObserverName,
    Raw,
    SampleCount,
    Std,
    Weights,
)
from penjing.cli.export_steps import Request, as_dict, make, show_exported
from penjing.cli.output import phases, print_json
from penjing.cli.samples import SOURCES

EXAMPLES: Examples = (
    ("a network in floats, its batch norms folded", "penjing export net.pt2 -o net.onnx"),
    ("one that is quantized, pruned or trained for few bits already", "penjing export small.graph"),
    (
        "quantized on the way: QDQ, for ONNX Runtime and OpenVINO",
        "penjing export zoo:resnet20 --weights resnet20.npz --calibrate cifar10",
    ),
    (
        "and as TensorRT wants it",
        "penjing export zoo:resnet20 --weights resnet20.npz \\\n    --calibrate cifar10 --tensorrt",
    ),
)
_FILE = "Options: the file"


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=f"{MODEL_KINDS}.", show_default=False)],
    weights: Weights = None,
    input_shape: InputShape = None,
    fix: Fix = None,
    mean: Annotated[
        str | None,
        typer.Option(metavar="X,...", help="Subtracted from each channel of SAMPLES.", rich_help_panel=OF_INPUT),
    ] = None,
    std: Std = None,
    raw: Raw = True,
    calibrate: Annotated[
        str | None,
        typer.Option(
            metavar="SAMPLES", help=f"Quantize to 8 bits by typical inputs: {SOURCES}.", rich_help_panel=SMALLER
        ),
    ] = None,
    samples: SampleCount = 512,
    observer: Observer = ObserverName.MSE,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="The file to write; else NAME.onnx.", rich_help_panel=_FILE
        ),
    ] = None,
    opset: Annotated[
        int | None,
        typer.Option(
            metavar="17..21", help="Version of the operators; else 17, or 21 for --int4.", rich_help_panel=_FILE
        ),
    ] = None,
    int4: Annotated[
        bool,
        typer.Option("--int4", metavar="", help="Store weights of at most four bits in four.", rich_help_panel=_FILE),
    ] = False,
    tensorrt: Annotated[
        bool,
        typer.Option(
            "--tensorrt",
            metavar="",
            help="Codes around zero and float biases, which is what TensorRT takes.",
            rich_help_panel=_FILE,
        ),
    ] = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write a network as an ONNX file, for other engines.

    A float network is written in floats. A quantized one gets QuantizeLinear and DequantizeLinear exactly where penjing
    rounds, so that engines which compute in integers give the same codes. The file takes what the network took in
    training: real numbers, normalised, of any batch size.
    """
    request = Request(
        model=model,
        weights=weights,
        input_shape=input_shape,
        fix=tuple(fix or ()),
        mean=mean,
        std=std,
        raw=raw,
        calibrate=calibrate,
        samples=samples,
        observer=observer.value,
        output=output,
        opset=opset,
        int4=int4,
        tensorrt=tensorrt,
        force=force,
    )
    with phases(quiet=as_json) as shown:
        exported = make(request, shown)
    if as_json:
        print_json(as_dict(exported))
    else:
        show_exported(exported)
