"""Networks that look up ids, compiled: bytes as the interpreter's, and no id leads outside of a table."""

import dataclasses
import json

import numpy as np
import pytest

import penjing
from penjing import api
from penjing.bundle.tray import open_tray, read_tray
from penjing.cli.verify import random_codes, self_test
from penjing.core.errors import BundleError, CorruptBundle, InvalidInput
from penjing.ops.add import Add
from penjing.ops.embedding import Embedding
from penjing.ops.evaluate import evaluate
from penjing.ops.layer_norm import LayerNorm
from penjing.program.interpret import interpret
from penjing.runtime.loading import from_tray
from penjing.testing.model_suite import corner_samples, run_model_suite
from penjing.testing.networks import Network, batches

torch = pytest.importorskip("torch")

ROWS, KINDS, STEPS, FEATURES = 70, 2, 5, 12
ENGINES = ["library", "interpreter"]


def network():
    """Words and their kinds, with an input of reals beside them, into a norm and a linear layer."""
    net = Network("words")
    words, kinds, x = net.ids(STEPS, name="words"), net.ids(STEPS, name="kinds"), net.input(STEPS, FEATURES)
    a = net.node(Embedding(), net.weight("table", ROWS, FEATURES), words, out="a")
    b = net.node(Embedding(), net.weight("table of kinds", KINDS, FEATURES), kinds, out="b")
    value = net.node(Add(), net.node(Add(), a, b, out="sum"), x, out="all")
    return net.done(net.linear(net.node(LayerNorm(1, 1e-5), value, out="norm"), 3, out="y"))


GRAPH = network()
DATA = next(batches(GRAPH, 64))
PROGRAM = api.lower(api.quantize(GRAPH, [DATA]))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("ids") / "words.tray"
    options = api.BuildOptions(golden_inputs=[x[:3] for x in DATA], standalone=False)
    penjing.save(api.build(PROGRAM, options), path)
    return path


def altered(place: int, value: int) -> list[np.ndarray]:
    inputs = [x[:1].copy() for x in DATA]
    inputs[place].flat[-1] = value
    return inputs


WRONG = [(0, -1), (0, ROWS), (0, 2**31 - 1), (0, -(2**31)), (1, KINDS), (1, ROWS - 1)]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_compiled_network_of_ids_equals_the_interpreter(host, rng, threads):
    report = run_model_suite(PROGRAM, corner_samples(PROGRAM, rng, 8), host, optimize="-O1", threads=threads)
    assert not report.problems, "\n".join(report.problems)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_takes_ids_beside_reals(path, engine):
    model = penjing.load(path, engine=engine)
    (want,) = evaluate(GRAPH, *DATA)
    found = model.run(*DATA)
    np.testing.assert_allclose(found, want, atol=0.05 * np.abs(want).max())
    np.testing.assert_array_equal(found, model.run(DATA[0].astype(np.int64), *DATA[1:]))
    np.testing.assert_array_equal(
        model.run_codes(*model.to_codes(*DATA))[0], interpret(PROGRAM, *model.to_codes(*DATA))[0]
    )
    assert model.self_test() == 0
    assert self_test(model.tray, 5).differing_bytes == 0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("place", "value"), WRONG)
def test_an_id_that_is_no_row_is_refused(path, engine, place, value):
    model = penjing.load(path, engine=engine)
    inputs = altered(place, value)
    with pytest.raises(InvalidInput, match=f"holds {value}, and its table has rows 0.."):
        model.run(*inputs)
    with pytest.raises(InvalidInput, match=f"holds {value}"):
        model.run_codes(*inputs[:2], model.to_codes(*altered(0, 0))[2])
    with pytest.raises(InvalidInput, match=f"holds {value}"):
        evaluate(GRAPH, *inputs)


@pytest.mark.parametrize("reals", [False, True])
@pytest.mark.parametrize(("place", "value"), WRONG)
def test_the_library_itself_refuses_such_an_id_and_leaves_its_output_as_it_was(path, reals, place, value):
    bound = penjing.load(path, engine="library").bind(reals=reals)
    bound.inputs[place].flat[-1] = value
    bound.outputs[0].fill(7)
    with pytest.raises(BundleError, match="status -7"):
        bound.run()
    assert (bound.outputs[0] == 7).all()
    bound.inputs[place].flat[-1] = 0
    bound.run()
    assert (bound.outputs[0] != 7).any()


def test_the_manifest_says_which_ids_there_are(path):
    manifest = json.loads(bytes(open_tray(path).members["manifest.json"]))
    words, kinds, x = manifest["inputs"]
    assert (words["dtype"], words["code_dtype"], words["value_range"]) == ("s32", "s32", [0, ROWS - 1])
    assert (kinds["value_range"], x["dtype"]) == ([0, KINDS - 1], "f32")


def test_reals_are_no_ids(path):
    with pytest.raises(InvalidInput, match="must hold ids"):
        penjing.load(path).run(DATA[0].astype(np.float32), *DATA[1:])


def test_a_network_of_ids_trains_and_keeps_its_table():
    torch = pytest.importorskip("torch")
    module = api.trainable(GRAPH)
    found = module(*map(torch.from_numpy, DATA))
    np.testing.assert_allclose(found.detach().numpy(), evaluate(GRAPH, *DATA)[0], atol=1e-4)
    found.sum().backward()
    np.testing.assert_array_equal(module.to_graph().constants["table"].array, GRAPH.constants["table"].array)


class Words(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = torch.nn.Embedding(ROWS, FEATURES), torch.nn.Linear(FEATURES, 3)

    def forward(self, ids):
        return self.head(self.table(ids)).mean(1)


@pytest.fixture(scope="module")
def of_any_length() -> api.TrayParts:
    torch.manual_seed(0)
    graph = api.capture(Words(), np.zeros((2, 3), np.int32), length=api.Length(STEPS))
    program = api.lower(api.quantize(graph, [np.arange(2 * STEPS, dtype=np.int32).reshape(2, STEPS)]))
    return api.assemble(program, api.BuildOptions(targets=()))


def test_random_ids_have_the_length_that_is_asked_for(of_any_length):
    model = from_tray(read_tray(api.pack(of_any_length)), engine="interpreter")
    shapes = [random_codes(model, 2, np.random.default_rng(0), length)[0].shape for length in (None, 1, STEPS - 1)]
    assert shapes == [(2, STEPS), (2, 1), (2, STEPS - 1)]


def test_a_manifest_that_hides_the_length_of_ids_is_refused(of_any_length):
    (ids,) = of_any_length.inputs
    assert ids.length_axes == (1,)
    variant = of_any_length.variants["default"]
    longest = dataclasses.replace(variant, golden=dataclasses.replace(variant.golden, shorter={}))
    stated = (dataclasses.replace(ids, length_axes=()),)
    wrong = dataclasses.replace(of_any_length, inputs=stated, variants={"default": longest})
    with pytest.raises(CorruptBundle, match="do not fit the manifest"):
        from_tray(read_tray(api.pack(wrong)), engine="interpreter")
