"""The ledger: verdicts, files, tables and the scoreboard's filter."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from weightbook.book import ledger as ledger_module
from weightbook.book.ledger import (
    PARTS,
    VERDICTS,
    Ledger,
    chapters,
    find_notebook,
    ledger_table,
    load_ledgers,
    relative_gap,
    scoreboard,
    source_hash,
    summary,
    workshops,
)
from weightbook.book.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
KEYS = ["chapter", "title", "arxiv", "profile", "device", "versions", "seed", "date", "source_hash", "claims"]
CLAIM_KEYS = ["id", "claim", "where", "paper", "ours", "scale", "verdict", "note"]


@pytest.fixture
def book(tmp_path, monkeypatch):
    "A small repository with three chapters and a workshop, as the working folder"
    notebook = {"cells": [{"cell_type": "code", "source": "x = 1"}]}
    names = ("lowbit/02_toy", "lowbit/10_late", "reparam/01_early", "book/toy_tools", "page", "_proc/lowbit/02_toy")
    for name in (*names, "lowbit/00_shared"):
        path = tmp_path / "nbs" / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(notebook))
    (tmp_path / "pyproject.toml").write_text("[tool.nbdev]\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings(folder, **changes):
    fields = dict(profile="quick", device="cpu", seed=4, data=None, offline=True, cache=folder / "cache", save=False)
    return Settings(**(fields | changes))


def make(book, claims=2, **changes):
    made = Ledger("toy", title="A Toy", arxiv="2501.00001", settings=settings(book, **changes))
    for n in range(1, claims + 1):
        made.claim(f"C{n}", f"claim {n}", where=f"Table {n}", paper=f"{n}.0")
    return made


# ---- notebooks -------------------------------------------------------------------------------------------------------


def test_chapters_stand_in_the_order_of_parts_and_numbers(book):
    assert [path.stem for path in chapters()] == ["01_early", "02_toy", "10_late"]
    assert [path.stem for path in workshops()] == ["00_shared"] and find_notebook("shared") == workshops()[0]
    assert len(PARTS) == len(set(PARTS)) == 6


@pytest.mark.parametrize("name", ["toy", "lowbit/toy", "02_toy", "lowbit/02_toy", "lowbit/02_toy.ipynb"])
def test_find_notebook(book, name):
    assert find_notebook(name) == book / "nbs" / "lowbit" / "02_toy.ipynb"
    assert find_notebook("book/toy_tools").stem == find_notebook("toy_tools").stem == "toy_tools"
    assert find_notebook("page") == book / "nbs" / "page.ipynb"


def test_find_notebook_refuses(book):
    with pytest.raises(ValueError, match=r"got 'tooy'; nearest: toy"):
        find_notebook("tooy")
    with pytest.raises(ValueError, match=r"nearest: reparam/early, lowbit/toy, lowbit/late"):
        find_notebook("zzzzzz")
    shutil.copy(book / "nbs" / "page.ipynb", book / "nbs" / "book" / "toy.ipynb")
    with pytest.raises(ValueError, match="could be book/toy or lowbit/toy; add the folder"):
        find_notebook("toy")
    with pytest.raises(ValueError):
        find_notebook("")


def test_without_a_clone(book, monkeypatch):
    monkeypatch.setattr(ledger_module, "find_root", lambda: None)
    for call in (chapters, lambda: find_notebook("toy"), load_ledgers):
        with pytest.raises(FileNotFoundError, match="inside a clone"):
            call()
    made = make(book, claims=1)
    made.record("C1", "1.0", holds=True, scale="all")
    stored = json.loads(made.save().read_text())
    assert stored["chapter"] == "toy" and stored["source_hash"] == ""


def hash_of(tmp_path, *cells):
    path = tmp_path / "cells.json"
    path.write_text(json.dumps({"cells": [{"cell_type": k, "source": s, "outputs": o} for k, s, o in cells]}))
    return source_hash(path)


def test_source_hash(tmp_path):
    first = hash_of(tmp_path, ("markdown", "old", []), ("code", "x = 1", []), ("code", "x", []))
    assert re.fullmatch(r"[0-9a-f]{16}", first)
    assert hash_of(tmp_path, ("code", ["\n", "x = 1\n"], ["out"]), ("code", "", []), ("code", "x ", [])) == first
    assert hash_of(tmp_path, ("code", "x = 2", []), ("code", "x", [])) != first
    assert hash_of(tmp_path, ("code", "x", []), ("code", "x = 1", [])) != first
    assert hash_of(tmp_path, ("code", "x = 1x", [])) != first


# ---- verdicts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("holds", "verdict", "note"),
    [
        (True, "reproduced", ""),
        (False, "not reproduced", ""),
        (np.True_, "reproduced", ""),
        (np.float64(0.5) < 0.1, "not reproduced", ""),
        (torch.tensor(2.0) > 1, "reproduced", ""),
        ([True, True], "reproduced", ""),
        ((True, False, True), "partly", "2 of 3 conditions hold"),
        ([False, False], "not reproduced", "0 of 2 conditions hold"),
        (np.array([1, 2]) > 1, "partly", "1 of 2 conditions hold"),
        (torch.tensor([1, 2]) > 1, "partly", "1 of 2 conditions hold"),
        ([np.True_, torch.tensor(False)], "partly", "1 of 2 conditions hold"),
        ({"order": True, "size": True}, "reproduced", ""),
        ({"order": True, "size": False, "sign": np.False_}, "partly", "does not hold: size; sign"),
        ({"order": False}, "not reproduced", "does not hold: order"),
    ],
)
def test_the_verdict_follows_from_the_conditions(book, holds, verdict, note):
    made = make(book)
    assert made.record("C1", "1.1", holds=holds, scale="all") == verdict
    assert (made.rows["C1"]["verdict"], made.rows["C1"]["note"]) == (verdict, note)
    made.record("C1", "1.1", holds=holds, scale="all", note="seed 4")
    assert made.rows["C1"]["note"] == ("seed 4; " + note if note else "seed 4")


@pytest.mark.parametrize(
    ("holds", "kind"),
    [(1, TypeError), (0.3, TypeError), ("yes", TypeError), (None, TypeError), ([1, 0], TypeError), ([], ValueError)]
    + [({}, ValueError), ({"a": 1.0}, TypeError), (np.array([0.5]), TypeError), (np.array([[True]]), TypeError)],
)
def test_what_is_no_condition(book, holds, kind):
    made = make(book)
    with pytest.raises(kind, match="`holds` must"):
        made.record("C1", "1.1", holds=holds, scale="all")
    assert made.pending == ["C1", "C2"]


def test_a_second_record_replaces_the_first(book):
    made = make(book)
    made.not_attempted("C1", "no data")
    made.record("C1", "1.1", holds={"size": False}, scale="all")
    made.record("C1", "1.0", holds={"size": True}, scale="all")
    assert made.rows["C1"]["verdict"] == "reproduced" and made.rows["C1"]["note"] == ""
    made.not_attempted("C1", "no data")
    assert made.rows["C1"] | {"ours": "", "scale": "", "note": "no data"} == made.rows["C1"]


def test_declarations_and_records_are_refused(book):
    made = make(book)
    for id in ("c3", "C0", "3", "C3 ", "C3ab", ""):
        with pytest.raises(ValueError, match="`id` must"):
            made.claim(id, "x", where="y", paper="z")
    with pytest.raises(ValueError, match="declared already"):
        made.claim("C1", "x", where="y", paper="z")
    for call in (lambda: made.record("C9", "1", holds=True, scale="all"), lambda: made.not_attempted("C9", "no data")):
        with pytest.raises(ValueError, match=r"declared claim \(C1, C2\), got 'C9'"):
            call()
    for wrong in (dict(ours=1.1), dict(scale=None), dict(note=3)):
        with pytest.raises(TypeError, match="must be text"):
            made.record(**(dict(id="C1", ours="1", holds=True, scale="all") | wrong))
    for wrong in (dict(ours=" "), dict(scale="")):
        with pytest.raises(ValueError, match="must not be empty"):
            made.record(**(dict(id="C1", ours="1", holds=True, scale="all") | wrong))
    with pytest.raises(ValueError, match="`reason` must not be empty"):
        made.not_attempted("C1", "")
    assert made.pending == ["C1", "C2"]


def test_an_unknown_chapter_is_refused_at_once(book):
    with pytest.raises(ValueError, match="nearest: toy"):
        Ledger("tooy", title="A", arxiv="", settings=settings(book))
    assert Ledger("lowbit/02_toy", title="A", arxiv="", settings=settings(book)).chapter == "toy"


def test_counts(book):
    made = make(book, claims=5)
    made.record("C1", "1", holds=True, scale="all")
    made.record("C2", "1", holds=[True, False], scale="all")
    made.record("C3", "1", holds=False, scale="all")
    made.not_attempted("C4", "no data")
    assert made.counts() == dict.fromkeys(VERDICTS, 1) and made.pending == ["C5"]


@pytest.mark.parametrize(("ours", "paper", "gap"), [(1.1, 1.0, 0.1), (0.9, 1.0, 0.1), (-1.0, -2.0, 0.5), (1, -1, 2.0)])
def test_relative_gap(ours, paper, gap):
    assert relative_gap(ours, paper) == pytest.approx(gap)
    with pytest.raises(ValueError, match="must not be 0"):
        relative_gap(ours, 0.0)


# ---- files -----------------------------------------------------------------------------------------------------------


def complete(book, **changes):
    made = make(book, **changes)
    made.record("C1", "1.1", holds=True, scale="all")
    made.not_attempted("C2", "no data")
    return made


def test_a_ledger_is_saved_where_the_run_may_write(book, tmp_path):
    assert complete(book).save() == book / "cache" / "ledger" / "toy.json"
    assert not (book / "nbs" / "ledger").exists()
    assert complete(book, save=True).save() == book / "nbs" / "ledger" / "toy.json"
    made = complete(book, save=True)
    made.folder = tmp_path / "elsewhere"
    assert made.save() == tmp_path / "elsewhere" / "toy.json"


def test_the_stored_ledger(book):
    stored = json.loads(complete(book, profile="book").save().read_text())
    assert list(stored) == KEYS
    assert [list(claim) for claim in stored["claims"]] == [CLAIM_KEYS] * 2
    assert (stored["profile"], stored["device"], stored["seed"]) == ("book", "cpu", 4)
    assert stored["source_hash"] == source_hash(book / "nbs" / "lowbit" / "02_toy.ipynb")
    assert {"python", "torch", "weightbook"} <= set(stored["versions"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", stored["date"])


def test_pending_claims_are_not_saved(book):
    with pytest.raises(ValueError, match="pending claims is not saved: C1, C2"):
        make(book).save()
    with pytest.raises(ValueError, match="none declared"):
        make(book, claims=0).save()
    assert not (book / "cache").exists()


def test_load_ledgers_keeps_the_order_of_the_book(book):
    for name in ("late", "early", "toy"):
        made = Ledger(name, title=name, arxiv="", settings=settings(book, save=True))
        made.claim("C1", "x", where="y", paper="z")
        made.not_attempted("C1", "no data")
        made.save()
    assert [ledger["chapter"] for ledger in load_ledgers()] == ["early", "toy", "late"]
    assert load_ledgers(book / "nothing") == []
    assert summary(load_ledgers())["overall"] == dict.fromkeys(VERDICTS, 0) | {"not attempted": 3}
    assert summary([]) == {"overall": dict.fromkeys(VERDICTS, 0), "chapters": {}}


def change(key, value):
    return lambda stored: stored | {key: value}


def change_claim(**changes):
    return lambda stored: stored | {"claims": [stored["claims"][0] | changes, stored["claims"][1]]}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda stored: {k: v for k, v in stored.items() if k != "seed"}, "check seed"),
        (change("seed", "4"), "check seed"),
        (change("seed", True), "check seed"),
        (change("extra", 1), "check extra"),
        (change("claims", {}), "check claims"),
        (change("claims", ["C1"]), "must hold text under"),
        (change_claim(verdict="mostly"), "verdict of C1 must be one of"),
        (change_claim(verdict=""), "verdict of C1 must be one of"),
        (change_claim(ours=1.1), "claim 'C1' must hold text"),
        (change_claim(other="x"), "claim 'C1' must hold text"),
        (change_claim(id="C2"), "an id of its own"),
        (lambda stored: [stored], "is no ledger"),
        (lambda stored: None, "is no ledger"),
    ],
)
def test_an_edited_ledger_is_refused(book, edit, message):
    path = complete(book, save=True).save()
    path.write_text(json.dumps(edit(json.loads(path.read_text()))))
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        load_ledgers()
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("keep", [0, 1, 300])
def test_a_truncated_ledger_is_refused(book, keep):
    path = complete(book, save=True).save()
    path.write_text(path.read_text()[:keep])
    with pytest.raises(ValueError, match="is not JSON"):
        load_ledgers()


# ---- tables ----------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    "The tags of an HTML fragment; every opened one must be closed"

    def __init__(self, text):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("input",):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


NASTY = '<script>alert(1)</script> & "quoted" | a\\b'


def test_the_table_is_accessible_and_escaped(book):
    made = make(book, claims=1)
    made.claim("C2", NASTY, where=NASTY, paper=NASTY)
    made.record("C1", "1", holds=[True, False], scale="all")
    made.record("C2", NASTY, holds={NASTY: False}, scale=NASTY, note=NASTY)
    page = Page(made.table()._repr_html_())
    assert len(page.all("caption")) == 1 and page.all("script") == []
    assert [cell.get("scope") for cell in page.all("th")] == ["col"] * 8 + ["row"] * 2
    assert [badge["class"] for badge in page.all("span")] == ["wb-verdict wb-partly", "wb-verdict wb-not-reproduced"]
    region = next(box for box in page.all("div") if box.get("role") == "region")
    assert region["tabindex"] == "0" and region["aria-label"] == "Claims of “A Toy”"


def test_the_markdown_table_keeps_its_columns(book):
    made = make(book, claims=1)
    made.claim("C2", NASTY, where="a\nb", paper="|")
    lines = made.table()._repr_markdown_().splitlines()
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in lines[:4]] == [9] * 4


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_badges_have_the_contrast_of_wcag():
    pairs = re.findall(r"background:(#\w{6});color:(#\w{6})", ledger_module._STYLE)
    assert len(pairs) == len(VERDICTS)
    for background, text in pairs:
        dark, light = sorted((luminance(background), luminance(text)))
        assert (light + 0.05) / (dark + 0.05) >= 7


def test_a_table_refuses_unknown_verdicts():
    with pytest.raises(ValueError, match="got 'mostly'"):
        ledger_table([{"id": "C1", "verdict": "mostly"}], "a")
    with pytest.raises(ValueError, match="`caption` must not be empty"):
        ledger_table([], "")


def stored(chapter, *verdicts):
    claims = [dict.fromkeys(CLAIM_KEYS, f"text {n}") | {"id": f"C{n}", "verdict": v} for n, v in enumerate(verdicts, 1)]
    return {"chapter": chapter, "claims": claims}


BOARD = [stored("wina", "reproduced", "partly", "partly"), stored("adadim", "partly", "not attempted")]


def test_the_scoreboard_links_and_marks_its_rows():
    page = Page(scoreboard(BOARD, link=lambda chapter: f'{chapter}.html?a="1"&b')._repr_html_())
    marks = [(row.get("data-chapter"), row.get("data-verdict")) for row in page.all("tr")[1:]]
    rows = [(ledger["chapter"], claim["verdict"]) for ledger in BOARD for claim in ledger["claims"]]
    assert marks == rows and len(rows) == 5
    assert [link["href"] for link in page.all("a")] == ['wina.html?a="1"&b'] * 3 + ['adadim.html?a="1"&b'] * 2
    assert len(page.all("label")) == len(page.all("select")) + len(page.all("input")) == 3
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "hidden" in page.all("form")[0]
    captions = [scoreboard(BOARD[:count]).table.caption for count in (0, 1, 2)]
    assert captions == ["Claims of 0 papers", "Claims of 1 paper", "Claims of 2 papers"]
    assert scoreboard(BOARD)._repr_markdown_().count("| wina |") == 3


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


def board_page(browser, **options):
    page = browser.new_context(**options).new_page()
    head = '<!doctype html><html lang="en"><head><title>Board</title></head>'
    page.set_content(f"{head}<body><main><h1>Board</h1>{scoreboard(BOARD)._repr_html_()}</main></body></html>")
    return page


@pytest.mark.browser
def test_the_filter_works(browser):
    page = board_page(browser)
    assert page.locator("output").inner_text() == "5 of 5 claims"
    page.get_by_label("Verdict").select_option("partly")
    assert page.locator("output").inner_text() == "3 of 5 claims"
    page.get_by_label("Chapter").select_option("wina")
    assert page.locator("tbody tr:visible").count() == 2
    page.get_by_label("Words").fill("TEXT 3")
    assert page.locator("tbody tr:visible").all_inner_texts()[0].startswith("wina\tC3")
    page.get_by_label("Words").fill("nothing like this")
    assert page.locator("output").inner_text() == "0 of 5 claims"
    page.get_by_label("Words").press("Enter")
    assert page.locator("output").inner_text() == "0 of 5 claims"


@pytest.mark.browser
def test_without_scripts_the_table_is_whole(browser):
    page = board_page(browser, java_script_enabled=False)
    assert page.locator("tbody tr").count() == 5 and not page.locator("form").is_visible()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = board_page(browser, color_scheme=scheme)
    found = axe.run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]})
    assert found.violations_count == 0, found.generate_report()
