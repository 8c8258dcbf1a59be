"""`penjing demo`: the whole road on real digits, in about a minute."""

from pathlib import Path
from typing import Annotated

import typer

from penjing.cli.arguments import AsJson, Examples, Force
from penjing.cli.demo_steps import FILES, check, deliver, make
from penjing.cli.demo_view import as_dict, show_demo
from penjing.cli.output import phases, print_json
from penjing.cli.sources import require_torch
from penjing.cli.writing import claim_folder

EXAMPLES: Examples = (
    ("in the current folder", "penjing demo"),
    ("elsewhere, and once more", "penjing demo -o somewhere --force"),
    ("how far does pruning go?", "penjing demo --prune 0.9 -o pruned"),
)


def demo(
    folder: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", help=f"Where {' and '.join(FILES)} go.")
    ] = Path(),
    data: Annotated[
        str,
        typer.Option(
            metavar="auto|digits|mnist", help="Digits of scikit-learn, or MNIST; auto: MNIST where PENJING_DATA has it."
        ),
    ] = "auto",
    prune: Annotated[
        float, typer.Option(metavar="0..1", help="Share of each layer's weights to zero.", min=0, max=1)
    ] = 0.5,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Train, compress, compile and verify a small network on real digits.

    The table tells what pruning and 8 bits cost and gain. A .tray and an image to run it on are left. It takes about a
    minute, on MNIST three.
    """
    require_torch()
    check(prune)
    claim_folder(folder, FILES, force=force)
    with phases(quiet=as_json) as shown:
        made = make(data, prune, shown)
        delivered = deliver(made, folder, shown, force=force)
    if as_json:
        print_json(as_dict(made, delivered))
    else:
        show_demo(made, delivered)
