"""The how-tos: the files that they show are complete, and one file is all that is touched."""

import ast
import importlib.util
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from penjing.core.arithmetic import quantize
from penjing.core.errors import InvalidInput
from penjing.core.targets import Target
from penjing.program.interpret import interpret
from penjing.testing.op_suite import run_op_suite
from penjing.toolchain import compile_library, has_emulator

LINES_OF_A_SCREEN = 95

# What a fresh process does with the file: float meanings, a network that uses it, text form, program, library.
USE_THE_OPERATOR = """
import numpy as np, torch, penjing, penjing.ops
penjing.ops.__path__.append({folder!r})
from penjing.ir.parse import parse_graph
from penjing.ir.text import print_graph
from penjing.program.interpret import interpret
from penjing.testing.sample_graphs import operator_samples, sample_graph

samples = [sample for _, sample in operator_samples(["softshrink"])]
for sample in samples:
    (want,) = sample.op.float_reference(*sample.inputs)
    got = sample.op.torch_form(torch, *map(torch.from_numpy, sample.inputs))
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-6, atol=1e-7)

torch.manual_seed(0)
layers = torch.nn.Conv2d(1, 4, 3), torch.nn.Softshrink(0.25), torch.nn.Flatten(), torch.nn.Linear(144, 3)
module = torch.nn.Sequential(*layers)
x = torch.randn(64, 1, 8, 8)
graph = penjing.capture(module.eval(), x[:2], name="shrinking")
assert [node.op.name for node in graph.nodes] == ["conv2d", "softshrink", "reshape", "linear"]
assert graph.nodes[1].op.threshold == 0.25
text = print_graph(graph)
arrays = {{name: constant.array for name, constant in graph.constants.items()}}
assert print_graph(parse_graph(text, arrays, penjing.ops.registry())) == text
program = penjing.lower(penjing.quantize(graph, [x.numpy()]))
assert "q_table" in [node.op.name for node in program.nodes]
tray = penjing.build(program)
penjing.save(tray, "shrinking.tray")
model = penjing.load("shrinking.tray", engine="library")
assert model.self_test() == 0
step = model.outputs[0].scale
assert np.abs(model.run(x.numpy()) - module(x).detach().numpy()).max() < 12 * step
print("works", len(samples))
"""


@pytest.fixture
def python_blocks(blocks):
    """`python_blocks("adding-a-pass")`: the texts of the how-to's Python blocks."""
    return lambda name: [block.text for block in blocks(f"docs/howto/{name}.md") if block.language == "python"]


@pytest.mark.parametrize(
    "name", ["adding-an-operator", "adding-a-pass", "adding-a-target", "pruning-channels", "exporting-onnx"]
)
def test_a_howto_fits_on_about_one_screen(root, name):
    assert len((root / f"docs/howto/{name}.md").read_text(encoding="utf-8").splitlines()) <= LINES_OF_A_SCREEN


@pytest.mark.slow
def test_the_operator_of_the_howto_works_from_import_to_library_with_its_one_file(python_blocks, tmp_path, root):
    (text,) = python_blocks("adding-an-operator")
    folder = tmp_path / "ops"
    folder.mkdir()
    (folder / "softshrink.py").write_text(text, encoding="utf-8")
    script = USE_THE_OPERATOR.format(folder=str(folder))
    found = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.stdout == "works 3\n", found.stdout + found.stderr


def test_the_operator_of_the_howto_is_not_in_penjing_yet(root):
    # when it is, the page needs another example, and two files would claim one name
    assert not (root / "src/penjing/ops/softshrink.py").exists()


@pytest.mark.slow
@pytest.mark.slow
def test_the_stream_of_the_howto_gives_the_whole_sequence(run_page):
    names = run_page("docs/howto/streaming.md").names
    assert sum(state.type.nbytes for state in names["frames"].states.values()) == 4 * 8 * 4 + 16 * 2


@pytest.mark.slow
def test_the_encoder_of_the_howto_takes_any_length(run_page):
    names = run_page("docs/howto/sequences.md").names
    with pytest.raises(InvalidInput, match="1 to 32"):
        names["model"].run(names["np"].zeros((1, 33, 24), "float32"))


@pytest.mark.slow
def test_the_sentence_encoder_of_the_howto_takes_ids(run_page):
    names = run_page("docs/howto/text.md").names
    assert names["model"].self_test() == 0


def test_the_pass_of_the_howto_changes_what_the_page_shows(run_page):
    names = run_page("docs/howto/adding-a-pass.md").names
    clip, graph = names["ClipOutliers"], names["graph"]
    result = clip(deviations=100).run(graph)
    assert [remark.where for remark in result.declined] == ["weight"]
    assert not result.changed
    with pytest.raises(InvalidInput, match="above 0"):
        clip(deviations=0).run(graph)


@pytest.mark.slow
def test_the_page_on_pruning_channels_prints_what_it_shows(run_page):
    names = run_page("docs/howto/pruning-channels.md").names
    assert names["small"].constants["4.weight.folded"].array.shape == (32, 32, 3, 3)


def test_the_page_on_onnx_prints_what_it_shows(run_page):
    pytest.importorskip("onnxruntime", reason="the page runs a file in ONNX Runtime")
    names = run_page("docs/howto/exporting-onnx.md").names
    np.testing.assert_allclose(names["theirs"], names["ours"], rtol=0, atol=1e-6)


@pytest.fixture
def one_thread():
    """Layers this small only wait for each other on several threads, and for minutes on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_the_page_on_recovery_leads_to_a_small_network_that_is_right(run_page):
    names = run_page("docs/howto/recovering.md").names
    graph, program, data = names["graph"], names["program"], names["data"]
    weights = [c.array for name, c in graph.constants.items() if c.array.ndim > 1]
    assert sum((w == 0).sum() for w in weights) / sum(w.size for w in weights) == pytest.approx(0.9, abs=1e-3)
    assert all(np.abs(c.array).max() <= 7 for c in program.constants.values() if c.array.dtype == np.int8)
    source = program.types[program.inputs[0]].quant
    (codes,) = interpret(program, quantize(data.normalise(data.test_x), source.scale, source.zero_point))
    assert (codes.argmax(1) == data.test_y).mean() > 0.85


@pytest.fixture
def shown_target(python_blocks):
    """The row that the how-to shows, as a Target."""
    (text,) = python_blocks("adding-a-target")
    call = ast.parse(textwrap.dedent(text), mode="eval").body
    assert isinstance(call, ast.Call)
    assert ast.unparse(call.func) == "Target"
    return Target(**{str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords})


@pytest.mark.slow
def test_the_target_of_the_howto_computes_the_same_bytes(shown_target):
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("the package ziglang is not installed")
    library = compile_library({"three.c": "int three(void);\nint three(void) { return 3; }\n"}, shown_target)
    assert library[:4] == b"\x7fELF"
    if not has_emulator(shown_target):
        pytest.skip(f"none of {', '.join(shown_target.emulator)} is on PATH")
    assert run_op_suite("q_add", shown_target) == []
