"""A torch module as it is timed and compared: on one thread, without gradients, with the weights of a graph."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from penjing.ir.graph import Graph


@contextmanager
def one_thread() -> Iterator[None]:
    """torch on one thread and without gradients; its own number of threads comes back at the end."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(threads)


def with_weights_of(graph: Graph, module: nn.Module) -> nn.Module:
    """A copy of `module`, from which `graph` was captured, with the constants that the graph has now.

    Timed in the graph's own form (`trainable`), the masks that keep zeros would count as the network's cost. A graph
    whose batch norms are folded no longer has the module's tensors.
    """
    copied = copy.deepcopy(module)
    copied.load_state_dict({name: torch.tensor(constant.array) for name, constant in graph.constants.items()})
    return copied
