"""Recipes at work: what comes out, what the record says of it, and what is refused before any work."""

import warnings
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

import penjing
from penjing.bundle import strict_json
from penjing.compress.prune.prune_magnitude import PruneMagnitude
from penjing.compress.quantize.affine_map import symmetric_per_channel
from penjing.core.errors import CalibrationError, CorruptBundle, InvalidInput, PruningError
from penjing.ir.graph import Graph
from penjing.ir.grid import grid_codes, on_grid
from penjing.ir.passes import PassLog, Remark
from penjing.ir.text import print_graph
from penjing.ir.types import Constant
from penjing.ops.batch_norm import BatchNorm
from penjing.ops.evaluate import evaluate
from penjing.ops.relu import Relu
from penjing.recipe.apply import apply_recipe
from penjing.recipe.data import Data, Labelled
from penjing.recipe.predict import coded_bytes, predict
from penjing.recipe.recipe import Recipe, parse_recipe, step
from penjing.recipe.record import dump_record, parse_record
from penjing.recipe.step import Phase, PlainStep, Quantize, Ran
from penjing.recipe.trainings import Distil, FineTune
from penjing.testing.networks import Network, batches

QUANTIZE = Quantize(observer="min-max")


def network(with_norm: bool = False) -> Graph:
    net = Network("net")
    value = net.conv(net.input(8, 6, 6), 32, out="conv", bias=not with_norm)
    if with_norm:
        of = [net.constant(f"norm.{name}", np.linspace(0.5, 1.5, 32)) for name in ("gamma", "beta", "mean", "var")]
        value = net.node(BatchNorm(), value, *of, out="norm")
    return net.done(net.linear(net.flatten(value, out="flat"), 3, out="fc"))


def data_for(graph: Graph, tested: int = 0) -> Data:
    calibration = tuple(batch[0] for batch in batches(graph, 4, 2))
    if not tested:
        return Data(calibration)
    (x,) = next(batches(graph, tested, seed=3))
    return Data(calibration, None, Labelled(x, np.zeros(tested, np.int64)))


def quietly(*steps, graph: Graph | None = None, data: Data | None = None, **options):
    graph = graph or network()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return apply_recipe(Recipe(steps), graph, data_for(graph) if data is None else data, **options)


def test_a_recipe_gives_what_its_steps_give_by_hand():
    graph = network(with_norm=True)
    data = data_for(graph)
    got = quietly(PruneMagnitude(0.5), QUANTIZE, graph=graph, data=data).graph
    want = penjing.quantize(penjing.prune(graph, ratio=0.5), data.calibration, observer="min-max")
    assert print_graph(got) == print_graph(want)


def test_the_graph_that_was_given_stays_as_it_was():
    graph = network(with_norm=True)
    before = print_graph(graph)
    quietly(PruneMagnitude(0.5), QUANTIZE, graph=graph)
    assert print_graph(graph) == before


def test_batch_norms_are_folded_first_and_only_where_there_are_any():
    steps = quietly(PruneMagnitude(0.5), graph=network(with_norm=True)).record.steps
    assert [one.step for one in steps] == ["fold-batch-norm", "prune-magnitude"]
    assert [one.step for one in quietly(PruneMagnitude(0.5)).record.steps] == ["prune-magnitude"]


def test_the_record_predicts_from_the_weights():
    graph = network()
    applied = quietly(PruneMagnitude(0.75), QUANTIZE, graph=graph)
    first, pruned, quantized = (applied.record.first, *(one.effect for one in applied.record.steps))
    weights = 32 * 8 * 9 + 3 * 32 * 36
    assert (first.predicted.weights, first.predicted.zeros) == (weights, 0)
    assert first.predicted.weights_bytes == weights + 4 * 35
    assert first.predicted.stored_bytes == 4 * (weights + 35)
    assert pruned.predicted.zeros == 32 * 8 * 9 * 3 // 4 + 3 * 32 * 36 * 3 // 4
    assert pruned.predicted.macs == first.predicted.macs == 32 * 8 * 9 * 36 + 3 * 32 * 36
    assert pruned.predicted.effective_macs * 4 == pruned.predicted.macs
    assert pruned.predicted.coded_bytes < 0.5 * first.predicted.coded_bytes
    assert quantized.predicted.stored_bytes == quantized.predicted.weights_bytes == first.predicted.weights_bytes
    assert applied.record.steps[1].gains[0].endswith("bytes of weights (-75 %)")


def test_few_codes_are_predicted_to_take_few_bits():
    graph = network()
    codes, scales = symmetric_per_channel(graph.constants["fc.weight"].array, 8, 0)
    before = predict(graph)
    graph.set_constant("fc.weight", on_grid((codes // 64).astype(np.int8), scales, 0))
    after = predict(graph)
    assert after.coded_bytes < before.coded_bytes - 0.6 * codes.size
    assert after.weights_bytes == before.weights_bytes


@pytest.mark.parametrize(
    ("codes", "want"),
    [(np.zeros(800, np.int8), 0), (np.arange(-127, 129) % 256 - 128, 256), (np.array([1, -1] * 400, np.int8), 100)],
)
def test_coded_bytes_are_the_entropy(codes, want):
    assert coded_bytes(codes) == want


def test_zeros_that_no_kernel_leaves_out_are_told_with_the_reason():
    few = quietly(PruneMagnitude(0.5)).record.steps[0]
    many = quietly(PruneMagnitude(0.9)).record.steps[0]
    if not few.effect.realised or few.effect.realised.target not in ("x86_64-linux", "aarch64-linux"):
        pytest.skip("the kernels of this machine know no zeros")
    assert "conv" in few.effect.realised.dense_layers
    assert any("zeros save no time" in loss and "conv: not v_sparse" in loss for loss in few.losses)
    assert "conv" in many.effect.realised.sparse_layers
    assert any("zeros are left out in" in gain and "conv" in gain for gain in many.gains)


def test_a_step_that_gains_nothing_says_so():
    (told,) = quietly(step("prune-magnitude", ratio=0.0)).record.steps
    assert told.gains == ()
    assert told.losses == ("nothing was gained in bytes, work or time",)
    assert told.declined[0] == "conv.weight: no weight is small enough"


def test_accuracy_is_compared_on_the_same_samples():
    applied = quietly(PruneMagnitude(0.9), data=data_for(network(), tested=40))
    before, after = applied.record.first.realised.accuracy, applied.record.steps[0].effect.realised.accuracy
    drop = applied.record.steps[0].drop
    assert before.n == after.n == 40
    assert drop.value == pytest.approx(before.value - after.value)
    assert drop.low <= drop.value <= drop.high
    assert applied.before == applied.record.first


def test_latency_is_measured_where_asked_for():
    net = Network()
    graph = net.done(net.linear(net.input(6), 2, out="fc"))
    applied = quietly(QUANTIZE, graph=graph, latency=True)
    realised = applied.record.steps[0].effect.realised
    assert realised.latency_us > 0
    assert realised.packed_bytes > 0
    assert quietly(QUANTIZE).record.steps[0].effect.realised.latency_us is None


def test_a_record_goes_on_where_an_earlier_one_ended():
    first = quietly(PruneMagnitude(0.5))
    second = quietly(QUANTIZE, graph=first.graph, before=first.record)
    assert [one.step for one in second.record.steps] == ["prune-magnitude", "quantize"]
    assert second.record.first == first.record.first
    assert second.before.predicted == first.record.last.predicted


def test_a_record_reads_back_and_no_other_text_does():
    record = quietly(PruneMagnitude(0.5), data=data_for(network(), tested=8)).record
    text = dump_record(record)
    assert parse_record(text, "here") == record
    document = strict_json.parse(text)
    newer, more = strict_json.dump(document | {"format": 2}), strict_json.dump(document | {"more": 1})
    for other in (b"", b"{}", text[:-1], b" " + text, newer, more):
        with pytest.raises(CorruptBundle):
            parse_record(other, "here")


@pytest.mark.parametrize("kind", ["nothing", "calibration"])
def test_missing_data_is_told_before_any_work(kind, monkeypatch):
    monkeypatch.setattr(PruneMagnitude, "run", lambda self, graph: pytest.fail("it has begun"))
    data = Data() if kind == "nothing" else data_for(network())
    recipe = parse_recipe("steps:\n- prune-magnitude: {ratio: 0.5}\n- fine-tune\n- quantize", where="r.yaml")
    with pytest.raises(InvalidInput, match="samples to train on") as caught:
        apply_recipe(recipe, network(), data)
    assert caught.value.where == "r.yaml, line 3, step 2 (fine-tune)"
    with pytest.raises(CalibrationError, match="typical inputs") as caught:
        quietly(PruneMagnitude(0.5), QUANTIZE, data=Data())
    assert caught.value.where == "step 2 (quantize)"


def test_options_out_of_range_are_told_before_what_takes_long(monkeypatch):
    monkeypatch.setattr(FineTune, "run", lambda self, graph, work: pytest.fail("it trains"))
    recipe = Recipe([FineTune(), PruneMagnitude(1.5)])
    with pytest.raises(PruningError, match="must lie in") as caught:
        apply_recipe(recipe, network(), Data(training=object()))
    assert caught.value.where == "step 2 (prune-magnitude)"


def test_integers_are_no_place_to_begin():
    quantized = quietly(QUANTIZE).graph
    with pytest.raises(InvalidInput, match="holds integers"):
        quietly(PruneMagnitude(0.5), graph=quantized)


def test_a_doubtful_order_is_a_warning():
    graph = network()
    with pytest.warns(RuntimeWarning, match="wins back accuracy"):
        penjing.apply(Recipe([PruneMagnitude(0.5), QUANTIZE]), graph, data_for(graph))


def test_the_tray_carries_the_record():
    graph = network()
    applied = quietly(QUANTIZE, graph=graph)
    options = penjing.BuildOptions(targets=[], record=applied.record)
    from penjing.bundle.tray import read_tray

    tray = read_tray(penjing.build(penjing.lower(applied.graph), options))
    assert parse_record(tray.members["record.json"], "tray") == applied.record


def test_biases_take_back_what_rounding_moved_by_the_network_before_it():
    rounded, corrected = quietly(step("round-weights", bits=3), step("correct-bias")).record.steps
    assert len(rounded.changed) == 2
    assert [line.partition(":")[0] for line in corrected.changed] == ["conv.weight", "fc.weight"]
    alone = quietly(step("correct-bias")).record.steps[0]
    assert [line.partition(": ")[2] for line in alone.declined] == ["nothing moved"] * 2


def test_layers_are_measured_unless_they_are_named():
    net = Network()
    value = net.conv(net.input(4, 6, 6), 4, out="one")
    graph = net.done(net.conv(value, 4, out="two"))
    (measured,) = quietly(step("remove-layers", count=1), graph=graph).record.steps
    assert len(measured.changed) == 1
    said: list[str] = []
    named = step("remove-layers", layers=["one.weight"], inputs=None)
    quietly(named, graph=graph, progress=lambda what, done, total: said.append(what))
    assert "measuring layers" not in said


class Toy:
    """Two classes that a line tells apart."""

    def __init__(self, n: int) -> None:
        rng = np.random.default_rng(0)
        self.train_x = rng.normal(size=(n, 6)).astype(np.float32)
        self.train_y = (self.train_x[:, 0] > 0).astype(np.int64)
        self.test_x, self.test_y = self.train_x[:0], self.train_y[:0]

    def normalise(self, x: np.ndarray) -> np.ndarray:
        return x


def test_fine_tuning_wins_back_accuracy_keeps_zeros_and_resumes(tmp_path):
    net = Network()
    graph = net.done(net.linear(net.input(6), 2, out="fc"))
    toy = Toy(256)
    data = Data((toy.train_x[:32],), toy, Labelled(toy.train_x, toy.train_y))
    recipe = (PruneMagnitude(0.5), FineTune(epochs=4, batch_size=16, learning_rate=0.05), QUANTIZE)
    said: list[str] = []

    def stop(what: str, done: int, total: int | None) -> None:
        said.append(what)
        if what == "fine-tune" and done == 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quietly(*recipe, graph=graph, data=data, checkpoint=tmp_path, progress=stop)
    assert [file.name for file in tmp_path.iterdir()] == ["step-2-fine-tune.checkpoint"]
    resumed = quietly(*recipe, graph=graph, data=data, checkpoint=tmp_path)
    whole = quietly(*recipe, graph=graph, data=data)
    assert print_graph(resumed.graph) == print_graph(whole.graph)
    tuned = whole.record.steps[1]
    assert tuned.effect.predicted.zeros == 6
    assert tuned.effect.realised.accuracy.value > 0.9
    assert tuned.changed[0].startswith("all weights: mean loss of each epoch")
    assert whole.record.steps[2].effect.realised.accuracy.value > 0.85


def test_a_reconstruction_goes_on_at_the_block_where_it_was(tmp_path):
    net = Network()
    hidden = net.node(Relu(), net.linear(net.input(6), 8, out="one"), out="relu")
    graph = net.done(net.linear(hidden, 2, out="two"))
    data = Data((np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32),))
    recipe = (step("reconstruct", steps=10), QUANTIZE)

    def stop(what: str, done: int, total: int | None) -> None:
        if what == "reconstruct" and done == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quietly(*recipe, graph=graph, data=data, checkpoint=tmp_path, progress=stop)
    (file,) = tmp_path.iterdir()
    assert file.name == "step-1-reconstruct.checkpoint"
    for steps, batch, what in ((11, data.calibration[0], "steps"), (10, data.calibration[0] * 2, "samples")):
        with pytest.raises(InvalidInput, match=f"another training: {what} differ"):
            quietly(step("reconstruct", steps=steps), graph=graph, data=Data((batch,)), checkpoint=tmp_path)
    done_anew: list[int] = []
    resumed = quietly(
        *recipe,
        graph=graph,
        data=data,
        checkpoint=tmp_path,
        progress=lambda what, done, total: done_anew.append(done) if what == "reconstruct" else None,
    )
    assert [done for done in done_anew if done] == list(range(11, 21))
    assert print_graph(resumed.graph) == print_graph(quietly(*recipe, graph=graph, data=data).graph)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InvalidInput, match="digest does not match"):
        quietly(*recipe, graph=graph, data=data, checkpoint=tmp_path)


def test_samples_to_measure_on_that_are_no_numbers_are_refused():
    net = Network()
    graph = net.done(net.linear(net.input(6), 2, out="fc"))
    spoilt = Labelled(np.full((4, 6), np.nan, np.float32), np.zeros(4, np.int64))
    with pytest.raises(InvalidInput, match="NaN or infinity"):
        quietly(PruneMagnitude(0.5), graph=graph, data=Data(tested=spoilt))


def test_weights_can_be_weighed_by_what_layers_read_or_by_gradients():
    net = Network()
    graph = net.done(net.linear(net.input(64), 32, out="fc"))
    rng = np.random.default_rng(0)
    toy = Toy(64)
    toy.train_x = rng.normal(size=(64, 64)).astype(np.float32) * np.repeat([0.01, 1.0], 32).astype(np.float32)
    toy.train_y = rng.integers(0, 32, 64)
    data = Data((toy.train_x,), toy)
    kept = {
        by: quietly(step("prune-n-of-m", m=64, per_layer={"fc.weight": 8}, importance=by), graph=graph, data=data)
        for by in (None, "hessian", "taylor")
    }
    weights = {by: applied.graph.constants["fc.weight"].array for by, applied in kept.items()}
    assert {int(np.count_nonzero(weight)) for weight in weights.values()} == {32 * 8}
    faint = {by: int(np.count_nonzero(weight[:, :32])) for by, weight in weights.items()}
    assert faint["hessian"] == faint["taylor"] == 0
    assert faint[None] > 50
    with pytest.raises(InvalidInput, match="samples to train on"):
        quietly(step("prune-n-of-m", importance="taylor"), graph=graph, data=Data((toy.train_x,)))
    with pytest.raises(CalibrationError):
        quietly(step("prune-n-of-m", importance="hessian"), graph=graph, data=Data(training=toy))


@pytest.mark.parametrize("name", ["qat", "reconstruct"])
def test_codes_that_are_trained_are_those_that_quantization_takes(name):
    net = Network()
    graph = net.done(net.linear(net.input(6), 2, out="fc"))
    toy = Toy(128)
    options = {"epochs": 2, "batch_size": 16} if name == "qat" else {"steps": 20}
    data = Data((toy.train_x[:64], toy.train_x[64:]), toy)
    coded, quantized = quietly(step(name, bits=3, **options), QUANTIZE, graph=graph, data=data).record.steps
    assert coded.changed
    assert "in 3 bits" in quantized.changed[0]
    only_coded = quietly(step(name, bits=3, **options), graph=graph, data=data).graph.constants["fc.weight"]
    assert set(np.unique(grid_codes(only_coded))) <= set(range(-3, 4))


def test_quantization_takes_the_ranges_that_training_learned():
    net = Network()
    graph = net.done(net.linear(net.input(6), 2, out="fc"))
    toy = Toy(128)
    train = step("qat", epochs=3, batch_size=16, learning_rate=0.05)
    data = Data((toy.train_x,), toy)
    learned = quietly(train, QUANTIZE, graph=graph, data=data).graph.types["fc"].quant
    coded = quietly(train, graph=graph, data=data).graph
    seen = quietly(QUANTIZE, graph=coded, data=data).graph.types["fc"].quant
    assert learned != seen


def test_a_student_learns_from_the_network_that_the_recipe_was_given_or_from_another():
    net = Network()
    graph = net.done(net.linear(net.input(6), 2, out="fc"))
    toy = Toy(64)
    taught = Distil(epochs=30, batch_size=16, learning_rate=0.05, share=1.0, temperature=1.0)
    pruned = quietly(PruneMagnitude(0.2), graph=graph).graph
    (x,) = next(batches(graph, 32))

    def distance(one: Graph, other: Graph) -> float:
        outputs = [evaluate(each, x)[0] for each in (one, other)]
        return float(np.abs(np.subtract(*[y[:, 0] - y[:, 1] for y in outputs])).mean())

    by_first = quietly(PruneMagnitude(0.2), taught, graph=graph, data=Data(training=toy)).graph
    assert distance(by_first, graph) < 0.5 * distance(pruned, graph)
    other = net.graph.copy()
    other.set_constant("fc.weight", Constant(-graph.constants["fc.weight"].array))
    by_other = quietly(taught, graph=graph, data=Data(training=toy, teacher=other)).graph
    assert distance(by_other, other) < 0.5 * distance(graph, other)


@dataclass(frozen=True)
class Doubled(PlainStep):
    """Stands for a training: it moves weights, and remembers who its teacher would have been."""

    name = "doubled"
    phase = Phase.RECOVER
    teachers: ClassVar[list[Graph]] = []

    def run(self, graph, work):
        self.teachers.append(work.first)
        graph = graph.copy()
        graph.set_constant("fc.weight", Constant(2 * graph.constants["fc.weight"].array))
        return Ran(graph, PassLog(self.name, (Remark("fc.weight", "twice as large"),), ()))


def test_the_teacher_is_the_network_as_trained_before_anything_was_taken_away():
    graph = network()
    Doubled.teachers.clear()
    quietly(Doubled(), PruneMagnitude(0.5), Doubled(), graph=graph)
    first, second = (teacher.constants["fc.weight"].array for teacher in Doubled.teachers)
    np.testing.assert_array_equal(first, graph.constants["fc.weight"].array)
    np.testing.assert_array_equal(second, 2 * graph.constants["fc.weight"].array)
