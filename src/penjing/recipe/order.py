"""The order in which steps work together, and why others do not.

clean -> structure -> prune -> recover -> choose codes -> quantize
"""

from penjing.core.errors import InvalidInput
from penjing.recipe.recipe import Recipe
from penjing.recipe.step import Phase, Step

_GRID_LOST = "moves weights off the grids that {earlier} chose, which are lost"

# (what comes later, what came before) -> why that is bad
_WHY_BAD = {
    (Phase.CLEAN, Phase.CODES): f"it {_GRID_LOST}",
    (Phase.STRUCTURE, Phase.CODES): f"it {_GRID_LOST}",
    (Phase.PRUNE, Phase.CODES): "weights that it changes leave the grids that {earlier} chose",
    (Phase.RECOVER, Phase.CODES): f"training {_GRID_LOST}; recover before",
    (Phase.STRUCTURE, Phase.PRUNE): "layers that change shape fill up the zeros that {earlier} made",
}


def check_order(recipe: Recipe) -> list[str]:
    """What is doubtful about the order, one sentence each.

    Raises:
        InvalidInput: a step after the weights have become integers.
    """
    doubts = []
    for i, later in enumerate(recipe.steps):
        before = recipe.steps[:i]
        quantized = next((one for one in before if one.phase is Phase.QUANTIZE), None)
        if quantized is not None:
            raise InvalidInput(
                f"{later.name} cannot follow {quantized.name}, after which weights are integers",
                where=recipe.places[i],
                hint=f"make {quantized.name} the last step",
            )
        reason = _reason(later, before)
        if reason is not None:
            doubts.append(f"{recipe.places[i]}: {reason}")
    return doubts + _unrecovered(recipe)


def _reason(later: Step, before: tuple[Step, ...]) -> str | None:
    for earlier in reversed(before):
        why = _WHY_BAD.get((later.phase, earlier.phase))
        if why is not None:
            return why.format(earlier=earlier.name)
    return None


def _unrecovered(recipe: Recipe) -> list[str]:
    """Pruning costs accuracy, which a training can win back as long as weights are floats."""
    phases = [one.phase for one in recipe.steps]
    if Phase.PRUNE not in phases or Phase.QUANTIZE not in phases:
        return []
    last = len(phases) - 1 - phases[::-1].index(Phase.PRUNE)
    if any(one.needs_training for one in recipe.steps[last:]):
        return []
    where = recipe.places[last]
    return [f"{where}: no step after it wins back accuracy; fine-tune does, where there are samples to train on"]
