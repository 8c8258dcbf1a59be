"""What a step gained, and what it cost, in words: bytes, work, time and accuracy before and after it."""

from penjing.recipe.record import Drop, Effect, Realised

_CLEAR = 0.01  # share of a size below which nothing is said
_CLEAR_TIME = 0.1  # two timings of one thing, seconds apart, may differ by nearly as much
_NAMED = 3  # layers named with their reason


def gains_and_losses(
    before: Effect, after: Effect, drop: Drop | None, *, must_gain: bool
) -> tuple[list[str], list[str]]:
    """Two lists of short sentences.

    Args:
        before: of the network before the step.
        after: of the network after it.
        drop: of accuracy, where measured.
        must_gain: whether a step that gains nothing is told to have done so.
    """
    gains: list[str] = []
    losses: list[str] = []
    old, new = before.predicted, after.predicted
    is_quantized = old.stored_bytes == 4 * old.parameters and new.stored_bytes != 4 * new.parameters
    sizes = (old.stored_bytes, new.stored_bytes) if is_quantized else (old.weights_bytes, new.weights_bytes)
    for what, was, now in (
        ("bytes of weights" if is_quantized else "bytes of weights as integers", *sizes),
        ("bytes if codes are stored by how often they occur", old.coded_bytes, new.coded_bytes),
        ("multiply-accumulates", old.macs, new.macs),
    ):
        _compare(what, was, now, gains, losses)
    if before.realised is not None and after.realised is not None:
        _realised(before.realised, after.realised, gains, losses)
    _zeros(before, after, losses)
    if after.why_not is not None and before.why_not is None:
        losses.append(f"it can no longer be built as it is: {after.why_not}")
    if drop is not None and (drop.low > 0 or drop.high < 0):
        text = f"accuracy {-100 * drop.value:+.2f} points (95 %: {-100 * drop.high:+.2f} .. {-100 * drop.low:+.2f})"
        (losses if drop.value > 0 else gains).append(text)
    if not gains and must_gain:
        losses.append("nothing was gained in bytes, work or time")
    return gains, losses


def _compare(what: str, was: float, now: float, gains: list[str], losses: list[str], clear: float = _CLEAR) -> None:
    if was <= 0 or abs(now - was) < clear * was:
        return
    text = f"{was:,.0f} -> {now:,.0f} {what} ({100 * (now - was) / was:+.0f} %)"
    (gains if now < was else losses).append(text)


def _realised(old: Realised, new: Realised, gains: list[str], losses: list[str]) -> None:
    more = [name for name in new.sparse_layers if name not in old.sparse_layers]
    if more:
        gains.append(f"zeros are left out in {_count(len(more), 'more layer')} on {new.target}: {_some(more)}")
    gone = [name for name in old.sparse_layers if name not in new.sparse_layers]
    if gone and not more:
        losses.append(f"zeros are no longer left out in {_some(gone)}")
    if old.latency_us is not None and new.latency_us is not None:
        _compare("microseconds a sample, measured", old.latency_us, new.latency_us, gains, losses, _CLEAR_TIME)


def _zeros(before: Effect, after: Effect, losses: list[str]) -> None:
    """Zeros that no kernel leaves out, though work without them would be less."""
    new, realised = after.predicted, after.realised
    if realised is None or new.zeros - before.predicted.zeros < _CLEAR * max(new.weights, 1):
        return
    blind = realised.dense_layers
    if not blind:
        return
    named = "; ".join(f"{name}: {why}" for name, why in list(blind.items())[:_NAMED])
    more = f"; and {len(blind) - _NAMED} more" if len(blind) > _NAMED else ""
    zeros = f"{100 * new.zeros / max(new.weights, 1):.0f} % zeros"
    losses.append(f"{zeros} save no time on {realised.target} in {_count(len(blind), 'layer')}: {named}{more}")


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' if n != 1 else ''}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
