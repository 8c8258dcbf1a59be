"""The figures in the pages are those of the files, whatever they say."""

import importlib.util
import json
from typing import Any

import pytest

PAGE = "before\n<!-- figures: {name} -->\nold\n<!-- end of figures -->\nafter\n"

ACCURACY = {
    "results": [
        {
            "network": "Net",
            "dataset": "Set",
            "n": 10000,
            "float": {"accuracy": 0.99, "low": 0.98, "high": 0.995},
            "int8": {"accuracy": 0.9895, "low": 0.979, "high": 0.994},
            "drop": {"value": 0.0005, "low": -0.001, "high": 0.002, "p_value": 0.3},
        }
    ]
}


MACHINE = {
    "revision": "abc",
    "notes": ["a note"],
    "machine": {
        "cpu": "Some CPU",
        "isa": ["avx2"],
        "cores": 2,
        "memory_gib": 8.0,
        "system": "Linux x86_64",
        "python": "3.11.7",
        "compiler": "cc 12",
        "packages": {"numpy": "2.0", "torch": None},
        "load_average": {"before": 0.1, "after": 0.2},
    },
}


def best(ours_over_best: float, **changed: Any) -> dict[str, Any]:
    found = {"model": "net", "ends": "floats", "amx": "refused", "engine": "Peer", "form": "static"}
    found |= {"best_amx": "refused", "ours_passes": True}
    times = {"best_us": 40.0, "ours_us": 40 * ours_over_best, "ours_over_best": ours_over_best}
    return {**found, **times, **changed}


def form(engine: str, stage: str, **changed: Any) -> dict[str, Any]:
    found = {"model": "net", "engine": engine, "form": "static", "precision": "int8", "ends": "floats"}
    outputs = {"amx": "refused", "stage": stage, "reason": "", "passes": True, "snr_db": 30.0, "top1": 8}
    times = dict.fromkeys(("screened_us", "median_us", "p10_us", "p90_us", "p99_us"), 40.0)
    costs = {"time_over_ours": 1.5, "cold_start_ms": 100.0, "rss_peak_mib": 40.0, "model_bytes": 2048}
    return {**found, **outputs, **times, **costs, **changed}


def models(*bests: dict[str, Any], forms: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    """What models.py writes of one network."""
    net = {"model": "net", "title": "Net", "weights": "trained", "macs": 3_100_000, "tray_bytes": 4096}
    net |= {"library_bytes": 1024, "checked": 8, "int8_limit_db": 10.0}
    engine = {"engine": "Peer", "version": "1", "installed_bytes": 1048576, "reason": "", "avx2": ""}
    return {**MACHINE, "results": {"models": [net], "engines": [engine], "forms": list(forms), "best": list(bests)}}


@pytest.fixture
def tables(root, tmp_path, monkeypatch):
    """tools/result_tables.py, reading its figures from an empty folder."""
    monkeypatch.syspath_prepend(root / "tools")  # as when it is run
    spec = importlib.util.spec_from_file_location("result_tables", root / "tools" / "result_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    return module


@pytest.mark.parametrize(
    ("name", "command"),
    [("ranking", "models.py"), ("kernels", "kernels.py"), ("ranking-avx2", "models.py --isa avx2 --output")],
)
def test_a_page_without_figures_says_so_and_how_to_measure(tables, name, command):
    text = tables.filled(PAGE.format(name=name))
    assert f"Not measured in this checkout yet: `python benchmarks/{command}" in text
    assert "old" not in text


def test_only_what_stands_between_the_marks_is_replaced(tables):
    text = tables.filled(PAGE.format(name="accuracy"))
    assert text.startswith("before\n<!-- figures: accuracy -->\n")
    assert text.endswith("\n<!-- end of figures -->\nafter\n")
    assert tables.filled(text) == text


def test_a_loss_stands_with_its_interval(tables, tmp_path):
    (tmp_path / "accuracy.json").write_text(json.dumps(ACCURACY))
    text = tables.filled(PAGE.format(name="accuracy"))
    assert "| Net on Set | 10,000 | 99.00 % | 98.95 % (97.90 % .. 99.40 %) | +0.05 (-0.10 .. +0.20) |" in text


@pytest.fixture
def shown(tables, tmp_path):
    """What stands in a place, given the record of its file."""

    def make(name: str, record: dict[str, Any]) -> str:
        path = tmp_path / f"{tables.FIGURES[name][0]}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(record))
        return tables.filled(PAGE.format(name=name))

    return make


@pytest.mark.parametrize(
    ("ours_over_best", "verdict"),
    [(0.5, "**2.00x faster**"), (0.9, "tie (1.11x)"), (1.1, "tie (0.91x)"), (2.0, "2.00x slower")],
)
def test_a_rank_is_told_as_it_is(shown, ours_over_best, verdict):
    text = shown("ranking", models(best(ours_over_best)))
    assert f"| Net | floats | {40 * ours_over_best:.1f} us | Peer, static | 40.0 us | {verdict} |" in text
    assert "AMX" not in text  # none was measured
    assert "Some CPU with avx2, at revision abc" in text


def test_a_peer_that_amx_helps_is_shown_beside_the_one_without(shown):
    text = shown("ranking", models(best(0.5), best(3.0, amx="allowed", best_amx="allowed", engine="Other")))
    assert "| **2.00x faster** | 3.00x slower: Other, static |" in text


def test_wrong_outputs_never_rank(shown):
    record = models(best(0.5, ours_passes=False))
    assert "faster" not in shown("ranking", record).replace("Fastest", "")
    assert "* Net, floats, AMX refused: WRONG in its outputs, against Peer, static" in shown("behind", record)


def test_what_penjing_does_not_win_is_listed(shown):
    text = shown("behind", models(best(0.5), best(2.0, ends="codes"), best(1.0, ends="codes", amx="none")))
    assert "faster in 1 of 3" in text
    assert "Slower:\n\n* Net, codes, AMX refused: 2.00x slower, against Peer, static\n" in text
    assert "* Net, codes: tie (1.00x), against Peer, static\n" in text
    assert text.count("* Net") == 2


def test_winning_everywhere_leaves_no_list(shown):
    text = shown("behind", models(best(0.5)))
    assert "Slower: none.\n" in text
    assert "* Net" not in text


def test_every_form_is_there_with_what_became_of_it(shown):
    reason = "Error: /home/someone/cache/net.mnn | <bad>\nmore"
    failed = [form("Peer", "failed", amx=amx, reason=reason, form="int4") for amx in ("allowed", "refused")]
    screened = form("Peer", "screened", passes=False, snr_db=2.0)
    text = shown("forms", models(forms=(form("penjing", "final"), form("Peer", "final"), screened, *failed)))
    assert "| **penjing** | static | floats | refused | 40.0 us |" in text
    assert "| Peer | static | floats | refused | 40.0 us | 40.0 .. 40.0 us | 40.0 us | 1.50 | 30 dB, 8 |" in text
    assert "| Peer | static | floats | refused | 40.0 us | WRONG, 2 dB, 8 |" in text
    assert "* Peer, int4, floats, AMX allowed and refused: Error: net.mnn \\| \\<bad\\> more\n" in text


def test_what_a_process_costs_stands_beside_the_least_of_the_others(shown):
    forms = (form("penjing", "final"), form("Peer", "final", cold_start_ms=50.0), form("Peer", "screened"))
    text = shown("besides", models(forms=forms))
    assert "| Net | 100 ms | 50 ms, Peer | 40 MiB | 40 MiB, Peer | 4.0 KiB | 2.0 KiB, Peer |" in text


def test_kernels_are_told_with_their_ceiling_and_the_worst_by_name(shown):
    layers = [
        {"layer": f"linear {n}", "kernel": "v_linear", "us": 1.0, "gmacs_per_s": 10.0 * n, "of_ceiling": 0.1 * n}
        for n in (1, 2, 6)
    ]
    text = shown("kernels", {**MACHINE, "results": {"avx": {"net": layers, "sparse": layers[:1]}}})
    assert "3 dense layers: 20 % of the ceiling in the middle, at least 10 % (`linear 1`)." in text
    assert "| `linear 6` | `v_linear` | 1.00 us | 60 | 60 % |" in text
    assert "layers with zeros" in text


def test_a_table_of_held_engines_says_how_they_were_held(shown):
    record = models(best(0.5, amx="none"))
    record["results"]["held"] = "CPUID answers as on AVX2"
    text = shown("ranking-avx2", record)
    assert "**2.00x faster**" in text
    assert "at revision abc. All engines held: CPUID answers as on AVX2." in text


def test_networks_measured_at_several_revisions_name_them_all(shown):
    record = models(best(0.5))
    record["results"]["models"] = [{**record["results"]["models"][0], "revision": one} for one in ("abc", "def")]
    assert "at revisions abc, def." in shown("ranking", record)


def test_what_an_engine_does_not_offer_is_listed(shown):
    record = models()
    assert "Not offered" not in shown("engines", record)
    record["results"]["engines"][0]["not_offered"] = {"int4 weights": "it has *none*"}
    assert "Not offered:\n\n* Peer, int4 weights: it has \\*none\\*\n" in shown("engines", record)


def zeros_against_a_peer(**changed: Any) -> dict[str, Any]:
    row = {"form": "75 % zeros, 4:16", "ends": "floats", "ours_us": 50.0, "ours_passes": True}
    peers = {"dense_peer": ("Peer", 100.0, 0.5), "zeros_peer": ("Other", 25.0, 2.0)}
    told = {
        key: {"engine": e, "form": "static", "us": us, "ours_over_it": over} for key, (e, us, over) in peers.items()
    }
    return {**MACHINE, "results": [{"network": "Net", "forms": [], "peers": [{**row, **told, **changed}]}]}


def test_zeros_are_ranked_against_peers_with_and_without_them(shown):
    text = shown("sparse-peers", zeros_against_a_peer())
    assert "| Net | 75 % zeros, 4:16 | floats | 50.0 us | Peer, static | 100 us | **2.00x faster** " in text
    assert "| Other, static | 25.0 us | 2.00x slower |\n" in text


def test_zeros_with_wrong_outputs_never_rank(shown):
    text = shown("sparse-peers", zeros_against_a_peer(ours_passes=False))
    assert text.count("WRONG in its outputs") == 2


def test_zeros_not_raced_with_peers_say_how_to_measure(shown):
    record = {**MACHINE, "results": [{"network": "Net", "forms": []}]}
    assert "Not measured in this checkout yet: `python benchmarks/sparse.py`" in shown("sparse-peers", record)


def test_zeros_are_told_by_their_gain(shown):
    forms = [
        {"form": "dense", "zeros": 0.01, "median_us": 200.0, "gain": 1.0},
        {"form": "75 % zeros, 4:16", "zeros": 0.75, "median_us": 250.0, "gain": 0.8},
    ]
    record = {**MACHINE, "results": [{"network": "Net", "forms": forms}]}
    assert "| 75 % zeros, 4:16 | 75 % | 250 us | 0.80x |" in shown("sparse", record)
    text = shown("sparse-line", record)
    assert "Net takes 200 us dense, 250 us with 75 % zeros, 4:16 (0.80x); codes in and out." in text


def test_channels_that_were_not_trained_have_no_figure_for_it(shown):
    loss = {"value": 0.02, "low": 0.01, "high": 0.03, "p_value": 0.001}
    row = {"tool": "tool", "share": 0.491, "untrained": {"drop": loss, "faster": 1.5}, "trained": None}
    gain = {**loss, "value": -0.01, "low": -0.02, "high": 0.0}
    rows = [{**row, "form": "a", "trained": {"drop": loss, "against_ours": gain}}, {**row, "form": "b"}]
    failed = [{"tool": "tool", "form": "c", "reason": "the reason"}]
    text = shown("channels-peer", {"results": {"epochs": 1, "rows": rows, "failed": failed}})
    assert "After 1 epoch, in" in text
    assert (
        "| tool | a | 49.1 % | 1.50 | +2.00 (+1.00 .. +3.00) | +2.00 (+1.00 .. +3.00) | -1.00 (-2.00 .. +0.00) |"
        in text
    )
    assert "| tool | b | 49.1 % | 1.50 | +2.00 (+1.00 .. +3.00) |  |  |" in text
    assert "| tool | c | not to be had |  |  |  | the reason |" in text
