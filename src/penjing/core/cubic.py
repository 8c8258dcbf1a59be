"""The schedule of gradual pruning: much at first, while others can still take over, and the last little by little.

    v(t) = final + (initial - final) (1 - (t - begin) / (end - begin))^3,    begin <= t <= end

(Zhu and Gupta, "To prune, or not to prune", 2017, section 3, equation 1.)
"""


def cubic(step: float, begin: float, end: float, initial: float, final: float) -> float:
    """The value at `step`: `initial` up to `begin`, `final` from `end` on."""
    if step >= end:
        return final
    if step <= begin:
        return initial
    return final + (initial - final) * (1 - (step - begin) / (end - begin)) ** 3
