"""The documentation site: it builds without a warning, and needs nothing from elsewhere."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import jupytext
import markdown
import nbformat
import pytest

ROOT = Path(__file__).parents[1]
SUPERFENCES = "pymdownx.superfences"
LOADED = re.compile(r"""<(?:script|img|link|iframe|source)\b[^>]*?(?:src|href)=["']?(https?:)?//""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it, but for what blocks draw and lessons find.

    tests/test_documents.py and tests/test_lessons.py run these.
    """
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    light = {**os.environ, "SITE_RUNS_BLOCKS": "0"}
    done = subprocess.run(command, cwd=ROOT, env=light, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr  # a broken link or anchor is a warning, and fails
    return folder


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = [*site.rglob("*.html")]
    assert len(pages) > 20
    for page in pages:
        assert not LOADED.search(page.read_text(encoding="utf-8")), page.name
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_formulas_are_mathml(site: Path) -> None:
    pages = {page: page.read_text(encoding="utf-8") for page in site.rglob("*.html")}
    assert sum(text.count("<math") for text in pages.values()) > 100
    for page, text in pages.items():
        prose = re.sub(r"<(pre|code|script)\b.*?</\1>|<[^>]*>", "", text, flags=re.DOTALL)
        left = re.search(r".*(\\[(\[]|\\(frac|sum|prod|partial|mathrm)\b|\$\S).*", prose)
        assert not left, f"{page.name}: {left and left[0]}"


def test_every_lesson_is_a_page_with_its_notebook(site: Path) -> None:
    lessons = sorted(path.stem for path in (ROOT / "docs" / "lessons").glob("[0-9]*.py"))
    for name in lessons:
        for suffix in (".html", ".ipynb", ".py.txt"):
            assert (site / "lessons" / f"{name}{suffix}").is_file()
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [*re.findall(r"lessons/(\d\w+)\.md", nav)] == lessons


def test_a_lesson_folds_the_code_of_a_picture_and_describes_the_picture(tmp_path: Path) -> None:
    lesson = """# %% [markdown]
# # A lesson
# ## Two pictures

# %% tags=["draws"]
axes.set_title(f"All {n} < 3")

# %% tags=["draws"]
show_a_picture()

# %%
print("a\\nb")
"""
    (tmp_path / "docs" / "lessons").mkdir(parents=True)
    (tmp_path / "docs" / "lessons" / "1_short.py").write_text(lesson)
    notebook = jupytext.reads(lesson, "py:percent")
    one, other, printing = (cell for cell in notebook.cells if cell.cell_type == "code")
    for cell in (one, other):
        svg = {"image/svg+xml": "<svg><!-- 0.5 --><!-- All 2 &lt; 3 --></svg>"}
        cell.outputs = [nbformat.v4.new_output("display_data", svg)]
    printing.outputs = [nbformat.v4.new_output("stream", text="a\nb\n")]
    (tmp_path / "build" / "lessons").mkdir(parents=True)
    nbformat.write(notebook, tmp_path / "build" / "lessons" / "1_short.ipynb")

    pages = runpy.run_path(str(ROOT / "scripts" / "site" / "lessons.py"))["pages"]
    files = dict(pages(tmp_path))
    page, pictures = files["lessons/1_short.md"], [name for name in files if name.endswith("svg")]
    html = markdown.markdown(page, extensions=["attr_list", "pymdownx.details", SUPERFENCES])
    folded = re.findall(r"<details[^>]*>.*?</details>", html, re.DOTALL)
    assert ["set_title" in each for each in folded] == [True, False]
    assert "print" not in "".join(folded)
    assert re.findall(r'alt="(.*?)"', html) == ["All 2 &lt; 3", "Two pictures"]
    assert sorted(f"lessons/{name}" for name in re.findall(r'src="(.*?)"', html)) == pictures
    assert re.search(r'class="[^"]*output[^"]*"', html)


def test_the_front_page_is_short_and_its_picture_is_drawn_from_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 130
    (picture,) = re.findall(r"\]\((docs/pictures/\w+\.svg)\)", readme)
    monkeypatch.setattr(sys, "argv", ["front_picture.py", str(tmp_path / "again.svg")])
    runpy.run_path(str(ROOT / "scripts" / "front_picture.py"), run_name="__main__")
    numbers = [
        [float(number) for number in re.findall(r"-?\d+\.\d+", path.read_text())]
        for path in (ROOT / picture, tmp_path / "again.svg")
    ]
    assert numbers[0] == pytest.approx(numbers[1], abs=0.01)  # points; 72 are an inch


def test_the_citation_names_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
