"""The order of steps: what cannot be is refused, what is doubtful is told with the reason."""

import pytest

from penjing.compress.prune.prune_magnitude import PruneMagnitude
from penjing.compress.structure.fold_batch_norm import FoldBatchNorm
from penjing.core.errors import InvalidInput
from penjing.ir.graph import Graph
from penjing.ir.passes import Pass, PassResult
from penjing.recipe.order import check_order
from penjing.recipe.recipe import Recipe, parse_recipe
from penjing.recipe.step import PassStep, Phase, Quantize
from penjing.recipe.trainings import FineTune


def stand_in(title: str, family: str) -> PassStep:
    """A pass of another family that does nothing."""

    class Idle(Pass):
        name = title

        def run(self, graph: Graph) -> PassResult:
            return PassResult(graph)

    Idle.__module__ = f"penjing.compress.{family}.{title}"
    return PassStep(Idle)


CODES, SHRINK = stand_in("share-weights", "share"), stand_in("shrink-kernels", "structure")
PRUNE, TRAIN = PruneMagnitude(0.5), FineTune()


def doubts(*steps) -> list[str]:
    return check_order(Recipe(steps))


@pytest.mark.parametrize(
    "steps",
    [
        (Quantize(),),
        (PRUNE,),
        (PRUNE, TRAIN, Quantize()),
        (FoldBatchNorm(), SHRINK, PRUNE, TRAIN, CODES, Quantize()),
        (CODES, Quantize()),
        (SHRINK, TRAIN, PRUNE, TRAIN),
    ],
)
def test_the_road_is_taken_without_a_word(steps):
    assert doubts(*steps) == []


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ((CODES, PRUNE), "step 2 (prune-magnitude): weights that it changes leave the grids that share-weights chose"),
        ((CODES, TRAIN), "step 2 (fine-tune): training moves weights off the grids that share-weights chose"),
        ((CODES, SHRINK), "step 2 (shrink-kernels): it moves weights off the grids"),
        ((CODES, FoldBatchNorm()), "step 2 (fold-batch-norm): it moves weights off the grids"),
        ((PRUNE, TRAIN, SHRINK), "step 3 (shrink-kernels): layers that change shape fill up the zeros that prune-"),
        ((PRUNE, Quantize()), "step 1 (prune-magnitude): no step after it wins back accuracy"),
        ((TRAIN, PRUNE, Quantize()), "step 2 (prune-magnitude): no step after it wins back accuracy"),
    ],
)
def test_a_doubtful_order_is_told_with_its_reason(steps, reason):
    (told,) = doubts(*steps)
    assert told.startswith(reason)


@pytest.mark.parametrize("after", [PRUNE, TRAIN, Quantize(), CODES])
def test_nothing_follows_quantization(after):
    with pytest.raises(InvalidInput, match="after which weights are integers") as caught:
        doubts(Quantize(), after)
    assert caught.value.where.startswith("step 2 (")


def test_places_are_those_of_the_file():
    with pytest.raises(InvalidInput) as caught:
        check_order(parse_recipe("steps:\n- quantize\n- fine-tune", where="r.yaml"))
    assert caught.value.where == "r.yaml, line 3, step 2 (fine-tune)"


def test_phases_follow_from_folders():
    assert [CODES.phase, SHRINK.phase] == [Phase.CODES, Phase.STRUCTURE]
    assert Recipe([PRUNE, FoldBatchNorm()]).steps[0].phase is Phase.PRUNE
    assert Recipe([FoldBatchNorm()]).steps[0].phase is Phase.CLEAN
