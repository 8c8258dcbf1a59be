"""The tables of what zeros are worth, from what `benchmarks/sparse.py` wrote; likewise see `performance_tables.py`."""

from collections.abc import Iterator
from typing import Any

from performance_tables import machine_line, time_text, verdict


def sparse(record: dict[str, Any]) -> Iterator[str]:
    """Whole networks with zeros, against their dense form."""
    for r in record["results"]:
        yield f"| {r['network']} | Zeros | Time | Faster than dense |"
        yield "|---|---:|---:|---:|"
        for f in r["forms"]:
            yield f"| {f['form']} | {100 * f['zeros']:.0f} % | {time_text(f['median_us'])} | {f['gain']:.2f}x |"
        yield ""
    yield f"Measured on {machine_line(record)}."


def sparse_peers(record: dict[str, Any]) -> Iterator[str]:
    """Networks with zeros, against the fastest other engine on the dense network and on the same zeros."""
    rows = [(r["network"], p) for r in record["results"] for p in r.get("peers", ())]
    if not rows:
        yield "Not measured in this checkout yet: `python benchmarks/sparse.py` does it."
        return
    yield (
        "| Network | Zeros | In and out | penjing | Fastest other, dense | Its time | penjing is "
        "| Fastest other, same zeros | Its time | penjing is |"
    )
    yield "|---|---|---|---:|---|---:|---|---|---:|---|"
    for network, p in rows:
        dense, zeros = (_against(p, p[key]) for key in ("dense_peer", "zeros_peer"))
        yield f"| {network} | {p['form']} | {p['ends']} | {time_text(p['ours_us'])} | {dense} | {zeros} |"
    yield ""
    yield f"All engines without AMX. Measured on {machine_line(record)}."


def sparse_line(record: dict[str, Any]) -> Iterator[str]:
    """One sentence on the first network."""
    r = record["results"][0]
    forms = {f["form"]: f for f in r["forms"]}
    parts = [
        f"{time_text(f['median_us'])} with {name} ({f['gain']:.2f}x)"
        for name in ("75 % zeros, 4:16", "80 % zeros, blocks 16x4", "80 % zeros, anywhere")
        if (f := forms.get(name))
    ]
    yield f"{r['network']} takes {time_text(forms['dense']['median_us'])} dense, {', '.join(parts)}; codes in and out."


def _against(p: dict[str, Any], peer: dict[str, Any]) -> str:
    ahead = verdict({"ours_passes": p["ours_passes"], "ours_over_best": peer["ours_over_it"]})
    return f"{peer['engine']}, {peer['form']} | {time_text(peer['us'])} | {ahead}"
