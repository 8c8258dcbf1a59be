"""The text form of a graph: what dumps show, and what a tray carries as the program.

    penjing 1
    graph "edgecnn" stage "imported" {
      input  %x : f32[batch<=1, 1, 32, 32]
      const  %conv1.weight : f32[16, 1, 3, 3] dense sha256:0f3a...
      %relu = relu(%conv2d) : f32[batch<=1, 16, 32, 32] @ "model.py":12 "aten.relu.default"
      return %relu
    }

Quantization follows a type as `q(scale, zero_point)`, per channel as `q([s0, s1, ...], 0, axis)`. Floats print so that
they read back exactly. Constants are named by digest; their arrays travel beside the text.
"""

import dataclasses
import json
import re

from penjing.core.digests import digest_array
from penjing.ir.graph import Graph, Node
from penjing.ir.types import Dim, Quant, Source, Type

HEADER = "penjing 1"


def print_graph(graph: Graph) -> str:
    """The text form; equal graphs print equal text."""
    lines = [HEADER, f"graph {_string(graph.name)} stage {_string(graph.stage)} {{"]
    lines += [f"  input %{_name(name)} : {print_type(graph.types[name])}" for name in graph.inputs]
    for name, state in graph.states.items():
        lines.append(
            f"  state %{_name(name)} : {print_type(state.type)} = {_value(state.initial)} <- %{_name(state.update)}"
        )
    for name, constant in graph.constants.items():
        digest = digest_array(constant.array)
        lines.append(f"  const %{_name(name)} : {print_type(constant.type)} {constant.encoding} sha256:{digest}")
    lines += [f"  {_node(graph, node)}" for node in graph.nodes]
    lines.append("  return " + ", ".join(f"%{_name(name)}" for name in graph.outputs))
    lines.append("}")
    return "\n".join(lines) + "\n"


def print_type(type_: Type) -> str:
    """`u8[batch<=1, 10] q(0x1.8p-4, 3)`."""
    text = f"{type_.dtype}[{', '.join(str(extent) for extent in type_.shape)}]"
    return text if type_.quant is None else f"{text} {_quant(type_.quant)}"


def _quant(quant: Quant) -> str:
    if quant.axis is None:
        return f"q({_value(quant.scales[0])}, {quant.zero_point})"
    return f"q({_value(quant.scales)}, {quant.zero_point}, {quant.axis})"


def _node(graph: Graph, node: Node) -> str:
    outputs = ", ".join(f"%{_name(name)}" for name in node.outputs)
    inputs = ", ".join(f"%{_name(name)}" if name else "none" for name in node.inputs)
    types = ", ".join(print_type(type_) for type_ in graph.output_types(node))
    return f"{outputs} = {node.op.name}({inputs}){_attributes(node)} : {types}{_source(node.source)}"


def _attributes(node: Node) -> str:
    assert dataclasses.is_dataclass(node.op)
    pairs = [f"{f.name} = {_value(getattr(node.op, f.name))}" for f in dataclasses.fields(node.op)]
    return f" {{{', '.join(pairs)}}}" if pairs else ""


def _source(source: Source) -> str:
    if source == Source():
        return ""
    return f" @ {_string(source.file)}:{source.line} {_string(source.origin)}"


def _value(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return value.hex()
        case str():
            return _string(value)
        case Dim():
            return str(value)
        case tuple():
            return f"[{', '.join(_value(item) for item in value)}]"
        case _:
            raise TypeError(f"attributes hold numbers, strings, extents and tuples of them, not {type(value).__name__}")


def _string(text: str) -> str:
    return json.dumps(text)


_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,255}")


def _name(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else _string(name)
