"""Recipes as text: what is taken, what is refused and where, and that what is written reads back."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penjing.compress.prune.patterns import Anywhere, Blocks, NOfM
from penjing.compress.prune.prune_magnitude import PruneMagnitude
from penjing.compress.quantize.calibrate import Ranges
from penjing.compress.quantize.quantize_static import QuantizeStatic
from penjing.core.errors import InvalidInput, PenjingError, PruningError
from penjing.recipe.document import MAX_BYTES
from penjing.recipe.recipe import MAX_STEPS, Recipe, dump_recipe, load_recipe, parse_recipe, step, step_kinds
from penjing.recipe.step import Quantize
from penjing.recipe.trainings import FineTune

SMALL = """\
# how to make a network small
name: small
steps:
  - prune-magnitude: {ratio: 5e-1, scope: global}
  - fine-tune:
      epochs: 2
      learning_rate: 1
  - quantize
"""


def steps_of(text: str, where: str = "r.yaml") -> tuple:
    return parse_recipe(text, where=where).steps


def test_yaml_gives_typed_steps():
    recipe = parse_recipe(SMALL, where="r.yaml")
    assert recipe.name == "small"
    assert recipe.steps == (
        step("prune-magnitude", ratio=0.5, scope="global"),
        FineTune(epochs=2, learning_rate=1.0),
        Quantize(),
    )


def test_json_gives_the_same_recipe():
    steps = [
        {"prune-magnitude": {"ratio": 0.5, "scope": "global"}},
        {"fine-tune": {"epochs": 2, "learning_rate": 1}},
        "quantize",
    ]
    text = json.dumps({"name": "small", "steps": steps}, indent="\t")
    assert parse_recipe(text, where="r.json") == parse_recipe(SMALL, where="r.yaml")
    compact = json.dumps({"name": "small", "steps": steps}, separators=(",", ":"))
    assert parse_recipe(compact, where="r.yaml") == parse_recipe(SMALL, where="r.yaml")


PATTERNS = """\
steps:
- prune-obs:
    pattern: 2:16
    per_layer: {a: 4:16, b: {blocks: {ratio: 0.7}}, c: null}
"""


def test_a_pattern_is_text_where_that_says_everything():
    wanted = step("prune-obs", pattern=NOfM(2, 16), per_layer={"a": NOfM(4, 16), "b": Blocks(0.7), "c": None})
    recipe = parse_recipe(PATTERNS, where="r.yaml")
    assert recipe.steps == (wanted,)
    assert recipe == parse_recipe(PATTERNS.replace("2:16", "{n-of-m: {n: 2}}"), where="r.yaml")
    assert wanted.options() == {
        "pattern": "2:16",
        "per_layer": {"a": "4:16", "b": {"blocks": {"ratio": 0.7, "height": 16, "width": 4}}, "c": None},
    }
    assert "pattern: '2:16'" in dump_recipe(recipe)
    as_json = json.dumps({"steps": [{wanted.name: wanted.options()}]})
    assert parse_recipe(as_json, where="r.json").steps == recipe.steps
    assert parse_recipe(dump_recipe(recipe), where="r.yaml") == recipe


@given(
    st.one_of(
        st.integers(1, 64).flatmap(lambda m: st.builds(NOfM, st.integers(1, m), st.just(m))),
        st.builds(Blocks, st.floats(0, 0.99), st.integers(1, 64), st.integers(1, 64)),
        st.builds(Anywhere, st.floats(0, 0.99)),
    )
)
def test_every_pattern_reads_back(pattern):
    recipe = Recipe([step("prune-obs", pattern=pattern)])
    assert recipe.steps[0].given == {"pattern": pattern}
    assert parse_recipe(dump_recipe(recipe), where="r.yaml") == recipe


@pytest.mark.parametrize(
    ("pattern", "error", "what", "hint"),
    [
        ("20:16", PruningError, "20 of every 16 weights cannot stay", "1..m"),
        ("{n-of-m: {n: 20}}", PruningError, "20 of every 16 weights cannot stay", "1..m"),
        ("{blocks: {ratio: 1}}", PruningError, "must lie in [0, 1), not 1.0", "0.5"),
        ("16x4", InvalidInput, "the pattern 16x4 needs a ratio", "{blocks: {ratio, height, width}}"),
        ("unstructured", InvalidInput, "needs a ratio", "{anywhere: {ratio}}"),
        ("stripes", InvalidInput, "pattern must be text | {n-of-m: {n, m}}", None),
        ("2.16", InvalidInput, "not 2.16", None),
    ],
)
def test_a_pattern_that_cannot_be_is_told_with_its_line(pattern, error, what, hint):
    with pytest.raises(error) as caught:
        parse_recipe(f"steps:\n- prune-obs:\n    pattern: {pattern}", where="r.yaml")
    assert what in caught.value.what
    assert hint is None or hint in caught.value.hint
    assert caught.value.where.startswith("r.yaml, line 3")


def test_a_pass_made_in_python_is_a_step():
    assert Recipe([PruneMagnitude(0.5)]) == Recipe([step("prune-magnitude", ratio=0.5)])


def test_a_pass_that_holds_statistics_is_no_step():
    with pytest.raises(InvalidInput, match="another graph") as caught:
        Recipe([QuantizeStatic(Ranges({}, 1))])
    assert "quantize" in caught.value.hint


@given(
    st.lists(
        st.one_of(
            st.builds(
                FineTune,
                epochs=st.integers(1, 99),
                batch_size=st.integers(1, 999),
                learning_rate=st.floats(1e-9, 1.0, exclude_min=True),
                optimizer=st.sampled_from(["adam", "sgd"]),
                crop_and_flip=st.booleans(),
            ),
            st.builds(Quantize, observer=st.sampled_from(["mse", "min-max"])),
            st.floats(0, 0.99).map(lambda ratio: step("prune-magnitude", ratio=ratio)),
        ),
        min_size=1,
        max_size=6,
    ),
    st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=30),
)
def test_what_is_written_reads_back(steps, name):
    recipe = Recipe(steps, name)
    assert parse_recipe(dump_recipe(recipe), where="r.yaml") == recipe


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("", None, "empty"),
        ("# only a comment\n", None, "empty"),
        ("steps: []", 1, "a list"),
        ("name: x", 1, "needs `steps`"),
        ("- quantize", 1, "a mapping"),
        ("steps: quantize", 1, "a list"),
        ("steps:\n- quantize\nstpes: []", 3, "unknown key 'stpes'"),
        ("name: 3\nsteps: [quantize]", 1, "name must be text, not 3"),
        ("steps:\n- quantise", 2, "there is no step 'quantise'"),
        ("steps:\n- quantize-static", 2, "there is no step"),
        ("steps:\n- [quantize]", 2, "a step is a name"),
        ("steps:\n- {quantize: {}, fine-tune: {}}", 2, "a step is a name"),
        ("steps:\n- quantize: 8", 2, "a mapping, not 8"),
        ("steps:\n- fine-tune:\n    epochs: 1\n    epoch: 2", 4, "no option 'epoch'"),
        ("steps:\n- fine-tune: {epochs: 1.5}", 2, "a whole number, not 1.5"),
        ("steps:\n- fine-tune: {epochs: true}", 2, "a whole number, not true"),
        ("steps:\n- fine-tune: {epochs: '1'}", 2, "a whole number, not '1'"),
        ("steps:\n- fine-tune: {epochs: 0}", 2, "at least 1, not 0"),
        ("steps:\n- fine-tune: {learning_rate: -1}", 2, "above 0, not -1.0"),
        ("steps:\n- fine-tune: {learning_rate: .inf}", 2, "a number, not '.inf'"),
        ("steps:\n- fine-tune: {optimizer: lbfgs}", 2, "adam | sgd, not 'lbfgs'"),
        ("steps:\n- fine-tune: {crop_and_flip: yes}", 2, "true or false, not 'yes'"),
        ("steps:\n- prune-magnitude:\n    ratio: [0.5]", 3, "a number or null, not a list"),
        ("steps:\n- quantize\n- quantize: {observer: mse, observer: mse}", 3, "occurs twice"),
        ("steps:\n- &a quantize\n- *a", 2, "anchors and aliases"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nsteps: [*b]", 1, "anchors and aliases"),
        ("steps: !!python/object/apply:os.system ['false']", 1, "the tag"),
        ("steps:\n- !!python/name:os.system x", 2, "the tag"),
        ("steps:\n- !mine quantize", 2, "the tag"),
        ("steps: [quantize]\n---\nsteps: [quantize]", None, "more than one document"),
        ("steps:\n\t- quantize", 2, "not YAML"),
        ("steps: [quantize", 1, "not YAML"),
        ("steps: [\x00]", None, "not YAML"),
        ("? [a]\n: b", 1, "a key must be text"),
        ("1: 2", 1, "a key must be text"),
        ("steps: " + "[" * 50 + "]" * 50, 1, "nest deeper"),
        ("steps: [" + "quantize," * (MAX_STEPS + 1) + "]", 1, "more than"),
        ("#" * (MAX_BYTES + 1), None, "more than"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text, line, what):
    with pytest.raises(InvalidInput) as caught:
        parse_recipe(text, where="r.yaml")
    assert what in caught.value.what
    assert caught.value.where.startswith("r.yaml" if line is None else f"r.yaml, line {line}")


@pytest.mark.parametrize(
    "text",
    ["", "[", "NaN", "[]", '{"steps": []}', '{"steps": ["quantize"], "steps": []}', '{"steps": [1]}', "[" * 999],
)
def test_json_that_is_no_recipe_is_refused(text):
    with pytest.raises(InvalidInput):
        parse_recipe(text, where="r.json")


def test_a_fault_in_json_names_its_step():
    with pytest.raises(InvalidInput) as caught:
        parse_recipe('{"steps": ["quantize", {"fine-tune": {"epochs": "x"}}]}', where="r.json")
    assert caught.value.where == "r.json, step 2"


@given(st.text(st.sampled_from("steps:-{}[]\n quanizefu!&*'\"#|>%@`,0.5"), max_size=60))
def test_any_text_is_a_recipe_or_refused(text):
    for where in ("r.yaml", "r.json"):
        try:
            parse_recipe(text, where=where)
        except PenjingError as error:
            assert error.where is not None


def test_a_file_is_read_and_named_after(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text("steps: [quantize]")
    assert load_recipe(path) == Recipe([Quantize()], "tiny")
    path.write_bytes(b"steps: [\xff]")
    with pytest.raises(InvalidInput, match="UTF-8 at byte 8"):
        load_recipe(path)
    with pytest.raises(InvalidInput, match="no file"):
        load_recipe(tmp_path / "missing.yaml")


def test_json_needs_no_yaml_library_and_yaml_says_what_to_install():
    program = (
        "import sys; sys.modules['yaml'] = None\n"
        "from penjing.recipe.recipe import parse_recipe\n"
        "from penjing.core.errors import MissingDependency\n"
        "parse_recipe('{\"steps\": [\"quantize\"]}', where='r.json')\n"
        "try: parse_recipe('steps: [quantize]', where='r.yaml')\n"
        "except MissingDependency as error: print(error.hint)\n"
        "print(sorted({'torch', 'rich', 'typer'} & set(sys.modules)))\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert found.stdout == "pip install 'penjing[compress]', or write the recipe as JSON\n[]\n", found.stderr


def test_every_step_says_what_it_does():
    for kind in step_kinds().values():
        assert len(kind.summary.split()) >= 3, kind.name


@pytest.mark.parametrize("options", [{"ratoi": 1}, {"ratio": "half"}, {"scope": "world"}, {"ratio": float("nan")}])
def test_steps_made_in_python_are_checked_as_those_of_files(options):
    with pytest.raises(InvalidInput) as caught:
        step("prune-magnitude", **options)
    assert caught.value.where == "step prune-magnitude"


@pytest.mark.parametrize(("steps", "name"), [([], "r"), ([Quantize()] * 101, "r"), ([Quantize()], "two\nlines")])
def test_an_impossible_recipe_is_refused(steps, name):
    with pytest.raises(InvalidInput):
        Recipe(steps, name)
