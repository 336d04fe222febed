"""The guide of net2net: every snippet runs as it stands, and its lines are short."""

import pathlib
import re

import pytest

pytestmark = pytest.mark.slow

DOCS = pathlib.Path(__file__).parents[2] / "docs"


def pages():
    return [DOCS / "net2net.md", *sorted((DOCS / "results").glob("net2net_*.md"))]


def test_the_snippets_of_the_guide_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "net2net.md").read_text(encoding="utf-8")
    snippets = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(snippets) >= 12
    names = {}
    for snippet in snippets:
        line = text[: text.index(snippet)].count("\n")
        code = compile("\n" * line + snippet, "docs/net2net.md", "exec")
        exec(code, names)
    assert names["small"].count_params() < names["model"].count_params()
    assert (tmp_path / "plan.json").exists() and (tmp_path / "small.keras").exists()


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_lines_are_wrapped_and_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for line in text.splitlines():
        assert len(line) <= 100 or line.startswith("|"), line
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target
