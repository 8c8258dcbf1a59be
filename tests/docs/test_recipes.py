"""The page on recipes: its recipe is one, and its code prints what it shows."""

import pytest

from penjing.recipe.recipe import parse_recipe, step_kinds


def test_the_recipes_on_the_page_are_some_and_the_steps_in_its_table_exist(blocks, root):
    texts = [block.text for block in blocks("docs/howto/recipes.md") if block.language == "yaml"]
    small, patterns = (parse_recipe(text, where="r.yaml").steps for text in texts)
    assert [one.name for one in small] == ["prune-magnitude", "fine-tune", "quantize"]
    assert patterns[0].options()["pattern"] == "4:16"
    page = (root / "docs/howto/recipes.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in page for name, kind in step_kinds().items() if "recipe" in kind.cls.__module__)


@pytest.mark.slow
def test_the_page_prints_what_it_shows(run_page):
    run_page("docs/howto/recipes.md")
