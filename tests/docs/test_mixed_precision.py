"""The page on layers in float32: its code runs as shown, and its recipe is one."""

from penjing.recipe.recipe import load_recipe


def test_the_page_runs_and_its_recipe_reads(run_page):
    page = run_page("docs/howto/mixed-precision.md")
    gains = page.names["gains"]
    assert list(gains.values()) == sorted(gains.values(), reverse=True)
    (step,) = load_recipe(page.folder / "recipe.yaml").steps
    assert step.keep_float == ("0.weight", "5.*")
