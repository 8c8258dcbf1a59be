"""How `penjing demo` tells what compression cost and gained; the table fits 80 columns."""

from typing import Any

from rich.table import Table
from rich.text import Text

from penjing.cli.demo_steps import Delivered, Made, Network
from penjing.cli.output import quoted, say, show, suggest
from penjing.measure.sizes import bytes_text, ratio_text
from penjing.measure.timing import ratio


def as_dict(made: Made, delivered: Delivered) -> dict[str, Any]:
    """For JSON."""
    first, drop = made.networks[0], made.drop
    return {
        "tray": str(delivered.tray),
        "image": str(delivered.image),
        "dataset": made.dataset,
        "test_samples": len(first.right),
        "pruned_share": made.pruned_share,
        "networks": [_network(first, network) for network in made.networks],
        "drop": {"value": drop.drop, "low": drop.low, "high": drop.high, "p_value": drop.p_value},
        "verified": delivered.test.as_dict(),
    }


def show_demo(made: Made, delivered: Delivered) -> None:
    """One table, what its figures mean, and three commands."""
    drop, test = made.drop, delivered.test
    say(f"EdgeCNN on {made.dataset}, {len(made.networks[0].right)} test images, batch 1, one thread", style="bold")
    show(_table(made))
    say(f"int8 is the pruned network ({100 * made.pruned_share:g} % zeros) in 8-bit integers, compiled to C.")
    say("Bytes: parameters; for int8 the whole tray with its library. RAM: activations.")
    say(
        f"Lost: {100 * drop.drop:.2f} points of accuracy "
        f"({100 * drop.low:.2f} .. {100 * drop.high:.2f}, 95 % interval of the difference)."
    )
    say(f"Verified in a fresh process by {test.engine}:", style="green")
    say("no byte differs from the program's definition", style="green")
    say(f"on {test.golden} golden and {test.random} random inputs.", style="green")
    tray = quoted(delivered.tray)
    suggest(f"run {tray} {quoted(delivered.image)}", f"inspect {tray} --layers", f"bench {tray}")


def _network(first: Network, network: Network) -> dict[str, Any]:
    a = network.accuracy
    return {
        "name": network.name,
        "accuracy": a.value,
        "low": a.low,
        "high": a.high,
        "bytes": network.nbytes,
        "ram_bytes": network.ram_bytes,
        "latency_us": network.timing.median_us,
        "size_ratio": first.nbytes / network.nbytes,
        "ram_ratio": first.ram_bytes / network.ram_bytes,
        "speed_ratio": ratio(first.timing, network.timing),
    }


def _table(made: Made) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("network", no_wrap=True)
    for head in ("accuracy", "95 % interval", "bytes", "RAM", "latency"):
        table.add_column(head, justify="right", no_wrap=True)
    first = made.networks[0]
    for network in made.networks:
        a = network.accuracy
        table.add_row(
            Text(network.name, style="bold"),
            f"{100 * a.value:.2f} %",
            f"{100 * a.low:.2f}..{100 * a.high:.2f}",
            bytes_text(network.nbytes),
            bytes_text(network.ram_bytes),
            f"{network.timing.median_us:.0f} us",
        )
        if network is not first:
            table.add_row(*_against(first, network), style="dim")
    return table


def _against(first: Network, network: Network) -> tuple[str, ...]:
    speed = ratio(first.timing, network.timing)
    return (
        "  to float",
        f"{100 * (network.accuracy.value - first.accuracy.value):+.2f}",
        "",
        ratio_text(first.nbytes, network.nbytes),
        ratio_text(first.ram_bytes, network.ram_bytes),
        ratio_text(speed, 1, "faster", "slower"),
    )
