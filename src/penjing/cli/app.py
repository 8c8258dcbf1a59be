"""Entry point: one subcommand per verb, errors as text or JSON, exit codes.

Exit codes: 0 done, 1 a penjing error, 2 wrong usage, 130 interrupted.
"""

import json
import sys
from typing import Annotated, Any

import typer

from penjing.cli import bench, build, demo, inspect, ops, run
from penjing.cli.output import console, error_console
from penjing.core import knobs
from penjing.core.errors import PenjingError
from penjing.core.version import VERSION

app = typer.Typer(
    name="penjing",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Makes a trained model small enough for the device that must carry it, and proves what that cost.\n\n"
        "Try [bold]penjing demo[/bold] first: it trains, compresses, compiles and verifies a small network."
    ),
    epilog="Knobs (environment variables): penjing knobs. Documentation: docs/README.md.",
)
app.command("demo")(demo.demo)
app.command("build")(build.build)
app.command("inspect")(inspect.inspect)
app.command("run")(run.run)
app.command("bench")(bench.bench)
app.command("ops")(ops.ops)


@app.command("knobs")
def show_knobs(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the environment variables that penjing reads."""
    if as_json:
        entries: list[dict[str, Any]] = [vars(knob) | {"value": knob.text()} for knob in knobs.ALL]
        print(json.dumps(entries, indent=2))
        return
    for knob in knobs.ALL:
        console.print(f"[bold]{knob.name}[/bold]  {knob.meaning}  [dim]now: {knob.text() or 'unset'}[/dim]")


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        print(f"penjing {VERSION}")
        raise typer.Exit


def main() -> None:
    """Run the command line; never returns."""
    wants_json = "--json" in sys.argv[1:]
    try:
        app()
    except PenjingError as error:
        if wants_json:
            print(json.dumps(error.as_dict(), indent=2))
        else:
            error_console.print(f"[bold red]{type(error).__name__}[/bold red]: ", end="")
            error_console.print(str(error), markup=False, highlight=False)
        sys.exit(1)
    except KeyboardInterrupt:
        error_console.print("interrupted; nothing was left half-written")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
