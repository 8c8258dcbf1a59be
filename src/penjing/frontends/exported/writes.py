"""In-place operators in an exported graph: later readers of what was written are given the operator's result.

After that, `relu_` means what `relu` means. Where memory is shared by views that outlive a write, or a buffer is
changed from call to call, the graph cannot say what the module does, and the place is reported.
"""

from collections.abc import Iterator, Mapping
from typing import Any


def bind_writes(graph: Any) -> list[tuple[Any, str]]:
    """Rewrite an fx graph in place; returns (node, reason) for each write that has no meaning as a pure operator.

    Writes into parameters and buffers are left to `stored_writes`.
    """
    order = {node: i for i, node in enumerate(graph.nodes)}
    family: dict[Any, list[Any]] = {}
    refused = []
    for node in graph.nodes:
        family.setdefault(root_of(node), []).append(node)
        for written in _written(node):
            relatives = [m for m in family[root_of(written)] if m not in (written, node)]
            if any(order[user] > order[node] for m in relatives for user in m.users):
                refused.append((node, "writes into memory that another view reads later"))
            written.replace_all_uses_with(node, delete_user_cb=lambda user, n=node: order[user] > order[n])
    return refused


def stored_writes(graph: Any, stored: Mapping[Any, str], live: set[Any]) -> list[tuple[Any, str]]:
    """(node, reason) for each write that outputs depend on, into one of `stored`: placeholder -> name in the module."""
    return [
        (node, f"changes {stored[root]} on every call: state is not supported")
        for node in graph.nodes
        for root in map(root_of, _written(node))
        if root in stored and (node in live or root in live)
    ]


def live_nodes(graph: Any) -> set[Any]:
    """Nodes that the outputs depend on."""
    pending = [node for node in graph.nodes if node.op == "output"]
    live: set[Any] = set()
    while pending:
        node = pending.pop()
        if node not in live:
            live.add(node)
            pending.extend(node.all_input_nodes)
    return live


def root_of(node: Any) -> Any:
    """The node whose memory this one shows: itself, unless it is a view of another."""
    while (source := _aliased(node)) is not None:
        node = source
    return node


def _aliased(node: Any) -> Any | None:
    if node.op != "call_function":
        return None
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return node.args[0] if getattr(node.target, "__name__", "") == "getitem" else None
    if not any(result.alias_info is not None for result in schema.returns):
        return None
    return next((value for argument, value in _tensor_arguments(node) if argument.alias_info is not None), None)


def _written(node: Any) -> list[Any]:
    if not hasattr(node.target, "_schema"):
        return []
    return [
        value for argument, value in _tensor_arguments(node) if argument.alias_info and argument.alias_info.is_write
    ]


def _tensor_arguments(node: Any) -> Iterator[tuple[Any, Any]]:
    for position, argument in enumerate(node.target._schema.arguments):
        value = node.args[position] if position < len(node.args) else node.kwargs.get(argument.name)
        if hasattr(value, "all_input_nodes"):
            yield argument, value
