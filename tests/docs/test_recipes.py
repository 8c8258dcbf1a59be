"""The page on recipes: its recipe is one, and its code prints what it shows."""

import pytest

from penjing.recipe.recipe import parse_recipe, step_kinds


def test_the_recipe_on_the_page_is_one_and_the_steps_in_its_table_exist(blocks, root):
    (text,) = (block.text for block in blocks("docs/howto/recipes.md") if block.language == "yaml")
    assert [one.name for one in parse_recipe(text, where="small.yaml").steps] == [
        "prune-magnitude",
        "fine-tune",
        "quantize",
    ]
    page = (root / "docs/howto/recipes.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in page for name, kind in step_kinds().items() if "recipe" in kind.cls.__module__)


@pytest.mark.slow
def test_the_page_prints_what_it_shows(run_page):
    run_page("docs/howto/recipes.md")
