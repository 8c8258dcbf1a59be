"""Tables of docs/results/compression/*.json, as lines of Markdown."""

from collections.abc import Iterator, Mapping
from typing import Any


def mnist(record: dict[str, Any]) -> Iterator[str]:
    """Whole files of MNIST networks."""
    yield (
        "| Network | Bar | Whole file, bytes | Times smaller | With the library here | Weights alone "
        "| Error (95 % interval) | Baseline's error |"
    )
    yield "|---|---|---:|---:|---:|---:|---:|---:|"
    for r in record["results"]:
        e, bar = r["error"], r["bar"]
        limit = "no significant loss" if bar["error_percent"] is None else f"<= {bar['error_percent']} % error"
        yield (
            f"| {r['network']} | {bar['ratio']:g}x, {limit} | {r['file_bytes']:,} | **{r['ratio']:.0f}x** "
            f"| {r['file_with_library_bytes']:,} | {r['packed_weights_bytes']:,} ({r['weights_ratio']:.0f}x) "
            f"| {_percent(e['value'])} ({_percent(e['low'])} .. {_percent(e['high'])}) "
            f"| {_percent(r['baseline_error'])} (p = {r['drop']['p_value']:.2g}) |"
        )


def four_bits(record: dict[str, Any]) -> Iterator[str]:
    """ResNet-20 with 4-bit weights."""
    yield f"| ResNet-20, {record['results']['n']:,} test images | Accuracy (95 % interval) | Lost, in points (95 %) |"
    yield "|---|---:|---:|"
    for name, r in record["results"]["forms"].items():
        a = r["accuracy"]
        lost = "" if name == "float" else _drop(r["drop"])
        yield f"| {name} | {_percent(a['value'])} ({_percent(a['low'])} .. {_percent(a['high'])}) | {lost} |"


def trained_forms(record: dict[str, Any]) -> Iterator[str]:
    """Smaller forms of a network against its own dense form, all in w8a8."""
    result = record["results"]
    yield (
        f"| {result['network']}, w8a8, {result['images']:,} test images, {result['epochs']} epochs | Accuracy "
        "| Lost, in points (95 %) | Time of a call | Times as fast | Zeros | MACs | Whole file with library |"
    )
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for r in result["rows"]:
        yield (
            f"| {r['form']} | {_percent(r['accuracy']['accuracy'])} | {_drop(r['drop'])} | {r['median_us']:.1f} us "
            f"| {r['faster']:.2f} | {100 * r['zeros']:.0f} % | {r['macs'] / 1e6:.1f} M | {r['tray_bytes']:,} |"
        )


def channels_peer(record: dict[str, Any]) -> Iterator[str]:
    """Channels removed by penjing and by Torch-Pruning."""
    result = record["results"]
    epochs = f"{result['epochs']} epoch" + "s" * (result["epochs"] > 1)
    yield (
        f"| Tool | What goes | MACs left | Times as fast | Lost without training, in points (95 %) "
        f"| After {epochs}, in points (95 %) | Against ours (95 %) |"
    )
    yield "|---|---|---:|---:|---:|---:|---:|"
    for r in result["rows"]:
        after = _drop(r["trained"]["drop"]) if r["trained"] else ""
        against = _drop(r["trained"]["against_ours"]) if r["trained"] and r["tool"] != "penjing" else ""
        yield (
            f"| {r['tool']} | {r['form']} | {100 * r['share']:.1f} % | {r['untrained']['faster']:.2f} "
            f"| {_drop(r['untrained']['drop'])} | {after} | {against} |"
        )
    for r in result["failed"]:
        yield f"| {r['tool']} | {r['form']} | not to be had |  |  |  | {r['reason']} |"


def photographs(record: dict[str, Any]) -> Iterator[str]:
    """Agreement of EfficientNet-Lite0 with its float form."""
    yield "| EfficientNet-Lite0 | Same class as in floats (95 %) | Right class | In floats |"
    yield "|---|---:|---:|---:|"
    for r in record["results"]:
        yield (
            f"| w8a8, {r['observer']} ranges, {r['n']} photographs | {_percent(r['agreement'])} "
            f"({_percent(r['low'])} .. {_percent(r['high'])}) | {_percent(r['accuracy'])} "
            f"| {_percent(r['float_accuracy'])} |"
        )


def peers(record: dict[str, Any]) -> Iterator[str]:
    """Other quantizers on ResNet-20."""
    yield "| Tool | Form | Accuracy | Lost, in points (95 %) |"
    yield "|---|---|---:|---:|"
    for r in record["results"]:
        if "failed" in r:
            yield f"| {r['tool']} | {r['form']} | not to be had | {r['failed']} |"
        else:
            yield f"| {r['tool']} | {r['form']} | {_percent(r['accuracy'])} | {_drop(r['drop'])} |"


def coding(record: dict[str, Any]) -> Iterator[str]:
    """Bits a weight on disk, and the speed of decoding."""
    yield (
        "| Weights of ResNet-20 | Zeros | zstd -19, bits a weight | Coded | Smaller "
        "| Decoded in C | Loaded | In numpy |"
    )
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for r in record["results"]:
        yield (
            f"| {r['form']} | {100 * r['zeros']:.0f} % | {r['zstd_bits']:.2f} | {r['bits']:.2f} "
            f"| {100 * r['smaller']:.1f} % | {r['c_mb_per_s']:.0f} MB/s | {r['load_mb_per_s']:.0f} MB/s "
            f"| {r['numpy_mb_per_s']:.0f} MB/s |"
        )


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def _drop(d: Mapping[str, float]) -> str:
    return f"{100 * d['value']:+.2f} ({100 * d['low']:+.2f} .. {100 * d['high']:+.2f})"
