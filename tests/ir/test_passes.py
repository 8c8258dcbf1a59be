"""The runner of passes: it verifies, dumps, and keeps what each pass says it did."""

from dataclasses import dataclass

import pytest

from penjing.core.errors import InvalidGraph, WriteFailed
from penjing.ir.dump import dump
from penjing.ir.graph import Graph
from penjing.ir.passes import Pass, PassLog, PassResult, Remark, run_passes
from penjing.ir.text import print_graph
from penjing.ir.types import Type
from penjing.ops.relu import Relu


@dataclass(frozen=True)
class AddRelu(Pass):
    """Appends a relu."""

    name = "add-relu"

    to: str = "y"

    def run(self, graph: Graph) -> PassResult:
        graph = graph.copy()
        out = f"{self.to}{len(graph.nodes)}"
        graph.add_node(Relu(), graph.outputs, (out,))
        graph.outputs = (out,)
        return PassResult(graph, (Remark(out, "added"),), (Remark("x", "is an input"),))


@dataclass(frozen=True)
class Spoil(Pass):
    """Leaves an output that nothing computes."""

    name = "spoil"

    def run(self, graph: Graph) -> PassResult:
        graph = graph.copy()
        graph.outputs = ("nowhere",)
        return PassResult(graph)


@pytest.fixture
def graph() -> Graph:
    made = Graph("net")
    made.add_input("x", Type((1, 4)))
    made.outputs = ("x",)
    return made


@pytest.fixture(autouse=True)
def knobs_unset(monkeypatch):
    monkeypatch.delenv("PENJING_DUMP", raising=False)
    monkeypatch.delenv("PENJING_VERIFY", raising=False)


def test_passes_run_in_order_and_their_remarks_are_kept(graph):
    got, logs = run_passes(graph, [AddRelu(), AddRelu("z")])
    assert got.outputs == ("z1",)
    assert [node.inputs for node in got.nodes] == [("x",), ("y0",)]
    declined = (Remark("x", "is an input"),)
    assert logs == (
        PassLog("add-relu", (Remark("y0", "added"),), declined),
        PassLog("add-relu", (Remark("z1", "added"),), declined),
    )


def test_the_graph_passed_in_is_not_changed(graph):
    before = print_graph(graph)
    run_passes(graph, [AddRelu(), AddRelu()])
    assert print_graph(graph) == before


def test_no_passes_change_nothing(graph):
    assert run_passes(graph, []) == (graph, ())


def test_the_graph_is_verified_after_each_pass(graph):
    with pytest.raises(InvalidGraph, match="output %nowhere is never computed"):
        run_passes(graph, [AddRelu(), Spoil(), AddRelu()])


def test_verification_can_be_switched_off(graph, monkeypatch):
    monkeypatch.setenv("PENJING_VERIFY", "0")
    assert run_passes(graph, [Spoil()])[0].outputs == ("nowhere",)


def test_nothing_is_written_without_a_dump_folder(graph, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_passes(graph, [AddRelu()])
    assert list(tmp_path.iterdir()) == []


def test_each_stage_is_dumped_under_its_number(graph, tmp_path, monkeypatch):
    folder = tmp_path / "new" / "dumps"
    monkeypatch.setenv("PENJING_DUMP", str(folder))
    got, _ = run_passes(graph, [AddRelu(), AddRelu("z")])
    dump(got, "lowered")
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == [
        "00-net-add-relu.penjing",
        "01-net-add-relu.penjing",
        "02-net-lowered.penjing",
    ]
    assert files[1].read_text(encoding="utf-8") == files[2].read_text(encoding="utf-8") == print_graph(got)
    assert "%z1" not in files[0].read_text(encoding="utf-8")


def test_the_pass_that_breaks_the_graph_leaves_the_dump_of_the_one_before(graph, tmp_path, monkeypatch):
    monkeypatch.setenv("PENJING_DUMP", str(tmp_path))
    with pytest.raises(InvalidGraph):
        run_passes(graph, [AddRelu(), Spoil()])
    assert [file.name for file in tmp_path.iterdir()] == ["00-net-add-relu.penjing"]


def test_numbers_go_on_from_what_the_folder_holds(graph, tmp_path, monkeypatch):
    monkeypatch.setenv("PENJING_DUMP", str(tmp_path))
    (tmp_path / "07-other-cleaned.penjing").write_text("")
    (tmp_path / "notes.penjing").write_text("")
    dump(graph, "cleaned")
    assert (tmp_path / "08-net-cleaned.penjing").is_file()


@pytest.mark.parametrize("name", ["a/b", "../up", "网络", "a\0b", "a b\n"])
def test_a_name_that_is_no_file_name_stays_inside_the_folder(graph, tmp_path, monkeypatch, name):
    monkeypatch.setenv("PENJING_DUMP", str(tmp_path / "dumps"))
    graph.name = name
    dump(graph, "imported")
    (file,) = tmp_path.rglob("*.penjing")
    assert file.parent == tmp_path / "dumps"
    assert file.read_text(encoding="utf-8") == print_graph(graph)


def test_a_dump_folder_that_cannot_be_made_is_named(graph, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PENJING_DUMP", str(tmp_path / "file" / "dumps"))
    with pytest.raises(WriteFailed, match="cannot make") as caught:
        dump(graph, "imported")
    assert "PENJING_DUMP" in str(caught.value.hint)
