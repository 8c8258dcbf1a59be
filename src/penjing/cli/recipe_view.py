"""How `penjing apply` and the verbs tell what each step was worth."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from penjing.bundle import strict_json
from penjing.cli.output import console, hanging, quoted, say, show, suggest
from penjing.cli.recipe_steps import TRAY, Made
from penjing.measure.sizes import bytes_text
from penjing.recipe.record import Effect, StepRecord

_NAMED = 3  # places that a step left as they were, with the reason


def as_dict(made: Made) -> dict[str, Any]:
    """For JSON."""
    return {
        "file": str(made.path),
        "stage": made.applied.graph.stage,
        "record": strict_json.encode(made.applied.record),
    }


def show_made(made: Made) -> None:
    """The table, the gains and losses of this command's steps, and what to do next."""
    say(f"{made.path}  {bytes_text(made.path.stat().st_size)}", style="bold")
    show_steps(made.applied.before, made.applied.record.steps[made.first :])
    if made.path.suffix == TRAY:
        suggest(f"inspect {quoted(made.path)} --kernels", f"bench {quoted(made.path)}")
    elif made.is_quantized:
        suggest(f"build {quoted(made.path)}")
    else:
        suggest(f"inspect {quoted(made.path)}", f"quantize {quoted(made.path)} --calibrate SAMPLES")


def show_steps(before: Effect, steps: Sequence[StepRecord]) -> None:
    """The network before and after every step, and what each gained and lost."""
    effects = [("before", before), *((step.step, step.effect) for step in steps)]
    measured = [effect.realised for _, effect in effects if effect.realised is not None]
    with_accuracy = any(one.accuracy is not None for one in measured)
    with_latency = any(one.latency_us is not None for one in measured)
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("  step", no_wrap=True)
    for title in ("int8", "coded", "zeros", "MACs", "not by zero"):
        table.add_column(title, justify="right")
    if with_accuracy:
        table.add_column("accuracy", justify="right")
    if with_latency:
        table.add_column("us", justify="right")
    for name, effect in effects:
        table.add_row(Text(f"  {name}"), *_figures(effect, with_accuracy=with_accuracy, with_latency=with_latency))
    show(table)
    for step in steps:
        _tell(step.step, "+", step.gains, "green")
        _tell(step.step, "-", step.losses if step.changed else (_why_nothing(step),), "yellow")


def _why_nothing(step: StepRecord) -> str:
    reasons = [*step.declined[:_NAMED], *([f"and {len(step.declined) - _NAMED} more"] * (len(step.declined) > _NAMED))]
    return f"nothing was changed: {'; '.join(reasons) or 'there was no place for it'}"


def _figures(effect: Effect, *, with_accuracy: bool, with_latency: bool) -> list[str]:
    p, realised = effect.predicted, effect.realised
    figures = [
        bytes_text(p.weights_bytes),
        bytes_text(p.coded_bytes),
        f"{100 * p.zeros / max(p.weights, 1):.0f} %",
        _work(p.macs),
        _work(p.effective_macs),
    ]
    if with_accuracy:
        accuracy = realised.accuracy if realised is not None else None
        figures.append("" if accuracy is None else f"{100 * accuracy.value:.2f} %")
    if with_latency:
        latency = realised.latency_us if realised is not None else None
        figures.append("" if latency is None else f"{latency:.1f}")
    return figures


def _work(macs: int) -> str:
    return f"{macs / 1e6:.2f} M" if macs >= 1e6 else f"{macs:,}"


def _tell(step: str, sign: str, lines: tuple[str, ...], style: str) -> None:
    for line in lines:
        text = Text(hanging(f"  {sign} {step}: {line}", 4, console))
        text.stylize(style, 0, 3)
        console.print(text, soft_wrap=True)
