"""The commands, and what becomes of their errors.

Exit codes: 0 done, 1 a penjing error or a check that failed, 2 wrong usage, 130 interrupted.
"""

import sys
import warnings
from typing import Annotated, Any

from penjing.core.errors import MissingDependency

try:
    import rich  # noqa: F401  # only asked whether it is there
    import typer
except ImportError as error:
    raise MissingDependency(
        f"the command line needs typer and rich, and {error.name} is not installed",
        hint="pip install penjing, without --no-deps; for the Python API, penjing.load(...), numpy is enough",
    ) from error

from penjing.cli import apply, bench, build, demo, export, inspect, knobs, ops, run, verbs
from penjing.cli.arguments import Examples, epilog, explanation
from penjing.cli.failures import INTERRUPTED, explain, explain_usage, finish, prepare_streams
from penjing.cli.output import as_note, write_text
from penjing.core.errors import PenjingError
from penjing.core.version import VERSION

# typer's own class for wrong usage has no public name; it has moved from click into typer, this one leads to either.
_UsageError: Any = typer.BadParameter.__mro__[1]

_ROOT_EXAMPLES: Examples = (
    ("see it all at work: train, compress, compile and verify a small network", "penjing demo"),
    ("then run what it left", "penjing run edgecnn.tray digit.png"),
    ("what a command does, with examples", "penjing build --help"),
)
COMMANDS: tuple[tuple[Any, Examples], ...] = (
    (demo.demo, demo.EXAMPLES),
    (apply.apply, apply.EXAMPLES),
    *verbs.commands(),
    (build.build, build.EXAMPLES),
    (export.export, export.EXAMPLES),
    (inspect.inspect, inspect.EXAMPLES),
    (run.run, run.EXAMPLES),
    (bench.bench, bench.EXAMPLES),
    (ops.ops, ops.EXAMPLES),
    (knobs.knobs, knobs.EXAMPLES),
)

app = typer.Typer(
    name="penjing",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Make a trained model small enough for the device that must carry it, and prove what that cost.\n\n"
        "A model comes from torch or ONNX, is quantized to 8-bit integers, compiled to a C library without "
        "dependencies, and packed into one file, a .tray, which runs with the same bytes everywhere.\n\n"
        "Exit codes: 0 done, 1 an error or a failed check, 2 wrong usage, 130 interrupted."
    ),
    epilog=epilog(_ROOT_EXAMPLES),
)


def command_name(function: Any) -> str:
    """As one types it."""
    return str(function.__name__).replace("_", "-")


for _function, _examples in COMMANDS:
    app.command(command_name(_function), help=explanation(_function), epilog=epilog(_examples))(_function)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[
        bool, typer.Option("--version", metavar="", help="Print the version and exit.", is_eager=True)
    ] = False,
) -> None:
    if version:
        write_text(f"penjing {VERSION}\n")
        raise typer.Exit


def main() -> None:
    """Run the command line on `sys.argv`; never returns."""
    arguments = sys.argv[1:]
    as_json = "--json" in arguments
    prepare_streams()
    with warnings.catch_warnings():
        warnings.showwarning = as_note
        code = _run(arguments or ["--help"], as_json=as_json)
    sys.exit(finish(code, as_json=as_json))


def _command(arguments: list[str]) -> list[str]:
    return [word for word in arguments[:1] if word in {command_name(function) for function, _ in COMMANDS}]


def _run(arguments: list[str], *, as_json: bool) -> int:
    try:
        code = app(args=arguments, prog_name="penjing", standalone_mode=False)
    except PenjingError as error:
        return explain(error, as_json=as_json)
    except OSError as error:
        return explain(error, as_json=as_json)
    except _UsageError as error:
        command = error.ctx.command_path if error.ctx is not None else " ".join(["penjing", *_command(arguments)])
        return explain_usage(error.format_message(), command, as_json=as_json)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED  # typer turns Ctrl-C into this code itself, older releases into Abort
    if code == INTERRUPTED:
        return explain(KeyboardInterrupt(), as_json=as_json)
    return code if isinstance(code, int) else 0
