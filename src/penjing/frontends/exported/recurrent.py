"""Recurrent layers of torch.nn, traced for sequences of any length.

torch finds the shapes of `lstm`, `gru` and `rnn` by running them step by step, which makes the number of steps a
constant. While a module is exported, these calls are therefore others, of the same arguments and results, whose shapes
follow the input; in the exported program, torch's own stand in their place again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_NAMES = ("lstm", "gru", "rnn_tanh", "rnn_relu")


@contextmanager
def recurrent_of_any_length(torch: Any) -> Iterator[None]:
    """Until the end of the block, what `torch.nn` calls for recurrent layers keeps the length a symbol."""
    functions, others = torch._VF, _operators(torch)
    own = {name: getattr(functions, name) for name in _NAMES}
    for name in _NAMES:
        setattr(functions, name, _calling(own[name], getattr(others, name), _has_pair(name)))
    try:
        yield
    finally:
        for name, function in own.items():
            setattr(functions, name, function)


def name_recurrent(torch: Any, program: Any) -> None:
    """Put torch's own operators in the place of those that stood for them, in the graph of an exported program."""
    operators = _operators(torch)
    own = {getattr(operators, name).default: getattr(torch.ops.aten, name).input for name in _NAMES}
    for node in program.graph_module.graph.nodes:
        if node.op == "call_function":
            node.target = own.get(node.target, node.target)


def _has_pair(name: str) -> bool:
    """Whether its state is a list: hidden state and cell."""
    return name == "lstm"


def _calling(own: Any, other: Any, pair: bool) -> Any:
    def call(*args: Any) -> Any:
        state, weights = args[1], args[2]  # or, of packed sequences, batch sizes and the state
        packed = not isinstance(weights, list | tuple) or isinstance(state, list | tuple) is not pair
        return own(*args) if packed else other(*args)

    return call


@cache
def _operators(torch: Any) -> Any:
    """torch.ops.penjing, with an operator for each name, of which nothing but shapes is known."""
    for name in _NAMES:
        schema = str(getattr(torch.ops.aten, name).input._schema).removeprefix("aten::").replace(".input", "", 1)
        torch.library.define(f"penjing::{name}", schema.removeprefix(name))
        torch.library.register_fake(f"penjing::{name}", _shapes(_has_pair(name)))
    return torch.ops.penjing


def _shapes(pair: bool) -> Any:
    def shapes(
        x: Any, state: Any, weights: Any, biased: Any, layers: Any, dropout: Any, train: Any, two: Any, *_: Any
    ) -> Any:
        states = state if pair else [state]
        width = states[0].shape[-1] * (2 if two else 1)
        return (x.new_empty((*x.shape[:2], width)), *(one.new_empty(one.shape) for one in states))

    return shapes
