"""Pages, runs, front page and site: running and stamping, staleness, README, build and link check."""

import json
import re
import warnings
from pathlib import Path

import pytest
from conftest import ROOT, write_cells

from weightbook.book import front, pages, run, site
from weightbook.book.settings import load_settings


@pytest.fixture
def settings(tmp_path):
    return load_settings(profile="quick", device="cpu", seed=3, cache=tmp_path / "cache", offline=True)


def outputs(path):
    return [out for cell in pages.read_notebook(path)["cells"] for out in cell.get("outputs", [])]


# ------------------------------------------------------------------ run and stamp


def test_a_run_hands_down_the_settings_and_reports_sections(tmp_path, settings):
    path = write_cells(tmp_path / "a.ipynb", "# A\n> b", "## First", "import os", "## Second",
                       "[os.environ[f'WEIGHTBOOK_{k}'] for k in ('PROFILE', 'SEED', 'OFFLINE', 'SAVE')]",
                       "#| eval: false\n1 / 0")
    seen = []
    before = path.read_bytes()
    report = run.execute_notebook(path, settings=settings, progress=lambda *step: seen.append(step))
    assert report.ok and report.cells == 2 and not report.saved
    assert seen == list(zip(range(6), [6] * 6, ["A", "First", "First", "Second", "Second", "Second"], strict=True))
    assert path.read_bytes() == before


def test_a_failing_cell_is_named_and_nothing_is_stored(tmp_path, settings):
    path = write_cells(tmp_path / "a.ipynb", "# A\n> b", "## The sum", "1 / 0", "2")
    before = path.read_bytes()
    report = run.execute_notebook(path, settings=settings, save=True)
    assert not report.ok and "The sum" in report.error and "ZeroDivisionError" in report.error
    assert "1 / 0" in report.traceback and "\x1b" not in report.traceback
    assert path.read_bytes() == before


def test_a_stored_run_is_stamped_and_goes_stale_with_its_code(tiny_book, settings):
    path = tiny_book / "nbs" / "lowbit" / "01_gate.ipynb"
    assert run.execute_notebook(path, settings=settings, save=True).ok
    mark = pages.read_notebook(path)["metadata"]["weightbook"]
    assert (mark["profile"], mark["device"], mark["seed"]) == ("quick", "cpu", 3)
    assert mark["code_hash"] == pages.source_hash(path) and mark["versions"]["python"]
    assert run.stale_notebooks(tiny_book) == []
    passport = json.dumps(outputs(path))
    assert "seed 3" in passport and "1 reproduced" in passport, "the passport shows the run that has just ended"
    assert (tiny_book / "nbs" / "thumbnails" / "gate.svg").read_text().lstrip().startswith("<?xml")
    nb = pages.read_notebook(path)
    nb["cells"][4]["source"] += "\n# another line"
    pages.write_notebook(path, nb)
    assert [line.partition(": ")[2] for line in run.stale_notebooks(tiny_book)] == [
        "the code changed since its outputs were made"
    ]


def test_outputs_without_a_stamp_are_stale_and_prose_is_not_code(tiny_book, settings):
    path = tiny_book / "nbs" / "lowbit" / "01_gate.ipynb"
    run.execute_notebook(path, settings=settings, save=True)
    nb = pages.read_notebook(path)
    nb["cells"][5]["source"] = "Prose has changed."
    pages.write_notebook(path, nb)
    assert run.stale_notebooks(tiny_book) == []
    del nb["metadata"]["weightbook"]
    pages.write_notebook(path, nb)
    assert run.stale_notebooks(tiny_book) == ["nbs/lowbit/01_gate.ipynb: outputs without a stamp"]


def test_progress_bars_leave_the_outputs_and_warnings_stay(tmp_path, tiny_book, settings):
    path = write_cells(tiny_book / "nbs" / "bars.ipynb", "# Bars\n> b", "import sys", "from tqdm import tqdm",
                       "for _ in tqdm(range(3), disable=False): pass\nprint('careful', file=sys.stderr)", "print('out')")
    run.execute_notebook(path, settings=settings, save=True)
    texts = ["".join(out["text"]) for out in outputs(path)]
    assert [text.strip() for text in texts] == ["careful", "out"]


def test_outputs_that_name_folders_of_this_machine_are_refused(tiny_book, settings):
    path = write_cells(tiny_book / "nbs" / "paths.ipynb", "# Paths\n> b", "import os", "print(os.getcwd())")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="nothing was stored: .*cell 2"):
        run.execute_notebook(path, settings=settings, save=True)
    assert path.read_bytes() == before


def test_a_warning_is_stored_without_the_folder_that_it_comes_from(tiny_book, settings):
    (tiny_book / "cry.py").write_text("import warnings\n\ndef wolf():\n    warnings.warn('mind the gap')\n")
    cells = f"import sys\nsys.path.append({str(tiny_book)!r})", "from cry import wolf\nwolf()"
    path = write_cells(tiny_book / "nbs" / "warned.ipynb", "# Warned\n> b", *cells)
    run.execute_notebook(path, settings=settings, save=True)
    said = pages.read_notebook(path)["cells"][2]["outputs"][0]["text"]
    assert "".join(said).startswith("cry.py:4: UserWarning: mind the gap")


def test_stored_outputs_of_the_book_name_no_machine():
    found = {path.name: run.machine_paths(pages.read_notebook(path), ROOT) for path in pages.notebooks(ROOT)}
    assert not {name: lines for name, lines in found.items() if lines}


def test_a_broken_notebook_is_refused_by_name(tmp_path):
    (tmp_path / "cut.ipynb").write_text('{"cells": [')
    with pytest.raises(ValueError, match="cut.ipynb is not a notebook"):
        pages.read_notebook(tmp_path / "cut.ipynb")
    (tmp_path / "list.ipynb").write_text("[]")
    with pytest.raises(ValueError, match="no list of cells"):
        pages.read_notebook(tmp_path / "list.ipynb")


# ------------------------------------------------------------------ front page, README


def test_front_matter_is_read_as_nbdev_reads_it(tiny_book):
    facts = pages.front_matter(tiny_book / "nbs" / "lowbit" / "01_gate.ipynb")
    assert facts["title"] == "Gate" and facts["summary"] == "Keep the large ones"
    assert facts["paper"] == "Gates: a study" and facts["arxiv"] == "2501.00010"


def test_passport_card_rate_and_bibtex(tiny_book):
    shown = front.passport("gate")
    assert 'href="https://arxiv.org/abs/2501.00010"' in shown.html and "https://github.com/owner/gates" in shown.html
    assert "| Module | weightbook.lowbit.gate |" in shown.markdown
    assert "1 of 1 measured claims reproduced" in front.book_rate().markdown
    assert "[Gate](lowbit/01_gate.ipynb)" in front.chapter_cards().markdown
    assert "author = {A. Author and B. Author}" in front.bibtex("gate")


def test_the_passport_shows_what_the_arms_cost_and_when_the_oldest_was_made(tiny_book):
    from weightbook.book.arms import arms_file

    made = dict(versions={}, machine="x86_64", device="cpu", threads=1, profile="book", seed=0)
    stamps = [made | dict(key=key, seconds=seconds, date=date) for key, seconds, date in
              (("a", 3000.0, "2026-02-01"), ("b", 4200.0, "2026-01-05"))]  # fmt: skip
    records = [dict(arm="measured", arguments={}, value=1, data={}, stamp=stamp) for stamp in stamps]
    (tiny_book / "nbs" / "arms").mkdir()
    (tiny_book / "nbs" / "arms" / "gate.json").write_text(arms_file(records))
    shown = front.passport("gate").markdown
    assert "2 finished arms, 2.0 h to make anew, the oldest of 2026-01-05" in shown


def test_the_plan_has_twenty_four_chapters_in_the_ledgers_order(tiny_book):
    assert tuple(part.folder for part in pages.PLAN) == pages.PARTS
    assert sum(len(part.planned) for part in pages.PLAN) == 24
    assert sum(map(len, pages.planned_chapters().values())) == 23


def test_a_changed_ledger_makes_the_front_page_stale_until_it_is_refreshed(tiny_book):
    index = tiny_book / "nbs" / "index.ipynb"
    assert run.refresh_pages(tiny_book) == [index]
    assert run.refresh_pages(tiny_book) == [] and run.stale_notebooks(tiny_book) == []
    path = tiny_book / "nbs" / "ledger" / "gate.json"
    path.write_text(path.read_text().replace('"reproduced"', '"not reproduced"').replace('"true"', '"false"'))
    assert run.stale_notebooks(tiny_book) == ["nbs/index.ipynb: a ledger or a chapter's title cell changed since it was made"]
    assert run.refresh_pages(tiny_book) == [index]
    assert "0 of 1 measured claims" in (tiny_book / "README.md").read_text()


def test_readme_is_the_front_page():
    assert front.write_readme(check=True, root=ROOT), "README.md differs from nbs/index.ipynb: run `make site`"


def test_readme_reads_well_on_a_git_host():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not re.findall(r"<(?!!--)[a-z/][^>]*>", text), "no HTML"
    links = re.findall(r"\]\(([^)#\s]+)\)", text)
    assert links and not [link for link in links if not link.startswith("http") and not (ROOT / link).exists()]


# ------------------------------------------------------------------ build


@pytest.fixture
def tiny_site(tiny_book):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run.refresh_pages(tiny_book)
        settings = load_settings(profile="quick", device="cpu", seed=0, cache=tiny_book / "cache")
        run.execute_notebook(tiny_book / "nbs" / "lowbit" / "01_gate.ipynb", settings=settings, save=True)
        out = site.build_site(renderer="smalldocs")
    assert [str(w.message) for w in caught if issubclass(w.category, site.SiteWarning)] == []
    return out


def test_the_tiny_site(tiny_site):
    page = (tiny_site / "lowbit" / "01_gate.html").read_text(encoding="utf-8")
    image = r'<img class="wb-figure wb-light" src="([^"]+)" alt="A line: it rises" width="\d+" height="\d+">'
    figure = re.search(image, page)
    assert figure and (tiny_site / "lowbit" / figure[1]).read_text().lstrip().startswith("<?xml")
    assert (night := figure[1].replace(".svg", ".dark.svg")) in page and (tiny_site / "lowbit" / night).is_file()
    assert 'src="../site_libs/mathjax/tex-chtml.js"' in page and (tiny_site / "site_libs/mathjax/tex-chtml.js").exists()
    assert "lowbit/01_gate.html" in (tiny_site / "index.html").read_text(encoding="utf-8")
    assert "[Gate](lowbit/01_gate.html): Keep the large ones" in (tiny_site / "llms.txt").read_text()
    assert (tiny_site / "lowbit" / "01_gate.ipynb").exists(), "the page offers its notebook"
    assert site.remote_resources(tiny_site) == []


def test_planted_faults_are_found(tiny_site):
    page = tiny_site / "index.html"
    planted = '<a href="lowbit/none.html">x</a><a href="lowbit/01_gate.html#nowhere">y</a><img src="https://a.test/b.png">'
    page.write_text(page.read_text().replace("</main>", planted + "</main>"))
    assert site.check_links(tiny_site) == [
        "index.html: lowbit/none.html (no such file)",
        "index.html: lowbit/01_gate.html#nowhere (no such section)",
    ]
    assert site.remote_resources(tiny_site) == ["index.html: https://a.test/b.png"]


def test_a_figure_without_alternative_text_is_a_warning(tiny_book):
    path = tiny_book / "nbs" / "lowbit" / "01_gate.ipynb"
    nb = pages.read_notebook(path)
    nb["cells"][6]["source"] = "plt.plot([1, 2]);"
    pages.write_notebook(path, nb)
    run.execute_notebook(path, settings=load_settings(device="cpu"), save=True)
    with pytest.warns(site.SiteWarning, match="a figure without `#| fig-alt:`".replace("|", r"\|")):
        site.build_site(renderer="smalldocs")


def test_the_renderer_is_named_when_it_cannot_be_used(tiny_book, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="quarto is not on the PATH"):
        site.build_site(renderer="quarto")
    with pytest.raises(ValueError, match="`renderer`"):
        site.build_site(renderer="pandoc")


def test_a_folder_that_is_no_site_is_never_replaced(tiny_book):
    with pytest.raises(ValueError, match="`out` must be a new or empty folder"):
        site.build_site(renderer="smalldocs", out=tiny_book / "nbs")
    assert (tiny_book / "nbs" / "index.ipynb").exists()


def test_serving_needs_a_site(tiny_book):
    with pytest.raises(FileNotFoundError, match="no site yet"):
        site.serve(root=tiny_book)


# ------------------------------------------------------------------ the book's own site


@pytest.mark.slow
def test_every_internal_link_of_the_book_resolves(built_site):
    assert site.check_links(built_site) == []


@pytest.mark.slow
def test_the_book_loads_nothing_from_another_host(built_site):
    assert site.remote_resources(built_site) == []
    cdn = re.compile(r"cdn\.jsdelivr|cdnjs|unpkg\.com|fonts\.g")
    files = [p for p in built_site.rglob("*") if p.suffix in (".html", ".css", ".js") and "mathjax" not in p.parts]
    assert not [p.relative_to(built_site).as_posix() for p in files if cdn.search(p.read_text(encoding="utf-8"))]


@pytest.mark.slow
def test_every_notebook_is_a_page_in_the_sidebar_and_in_llms_txt(built_site):
    shown = [p.relative_to(ROOT / "nbs").with_suffix(".html").as_posix() for p in pages.notebooks(ROOT)]
    for name in shown:
        page = (built_site / name).read_text(encoding="utf-8")
        sidebar = page[page.index('id="quarto-sidebar"'):page.index("<main")]
        entries = re.findall(r'<a [^>]*sidebar-link[^>]*>', sidebar)
        assert any("active" in entry for entry in entries), name
        assert len(entries) <= 40, "Quarto pays for a long sidebar on every page"
    llms = (built_site / "llms.txt").read_text(encoding="utf-8")
    assert not [p for p in shown if p != "index.html" and f"({p})" not in llms]
    assert [p.name for p in Path(built_site).rglob("llms*.txt")] == ["llms.txt"]


@pytest.mark.parametrize("path", pages.notebooks(ROOT), ids=lambda p: p.relative_to(ROOT / "nbs").as_posix())
def test_the_title_cell_is_what_nbdev_reads_too(path):
    from fastcore.nbio import md_frontmatter

    title = next("".join(c["source"]) for c in pages.read_notebook(path)["cells"] if c["cell_type"] == "markdown")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a value with a colon must stand in quotes
        facts = md_frontmatter(title)
    mine = pages.front_matter(path)
    assert (facts["title"], facts["description"]) == (mine["title"], mine["summary"])
    assert set(facts) - {"description"} == set(mine) - {"summary"}
