"""The ledger: verdicts, files, tables and the scoreboard's filter."""

import itertools
import json
import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from weightbook.book import tables
from weightbook.book.conditions import State, above, all_of, at_least, at_most, below, estimate_gap, exactly
from weightbook.book.ledger import (
    SCALES,
    VERDICTS,
    Cost,
    Ledger,
    ledger_table,
    load_ledgers,
    relative_gap,
    scoreboard,
    summary,
    verdict_of,
)
from weightbook.book.pages import PARTS, chapters, find_notebook, source_hash, workshops
from weightbook.book.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
KEYS = ["format", "chapter", "title", "arxiv", "profile", "device", "versions", "seed", "date", "source_hash", "arms", "claims"]
CLAIM_KEYS = ["id", "claim", "where", "paper", "ours", "scale", "at", "verdict", "note", "conditions", "command", "cost"]
FREE = {"without_control": "a toy"}
YES, NO, OPEN = at_most(1, 2, **FREE), at_most(3, 2, **FREE), at_most(math.nan, 2, **FREE)
AT = dict(scale="reduced", at="all")
COST = Cost(gpu_hours=3.5, memory_gb=80, data="C4")


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
    for home in ("ledger", "pages"):
        monkeypatch.setattr(f"weightbook.book.{home}.find_root", lambda *_: None)
    for call in (chapters, lambda: find_notebook("toy"), load_ledgers):
        with pytest.raises(FileNotFoundError, match="no clone of the book"):
            call()
    made = make(book, claims=1)
    made.record("C1", "1.0", holds=YES, **AT)
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

TABLE = {  # (a true, a false, an undecided) -> verdict
    (1, 0, 0): "reproduced",
    (1, 1, 0): "partly",
    (1, 1, 1): "partly",
    (0, 1, 0): "not reproduced",
    (0, 1, 1): "not reproduced",
    (1, 0, 1): "inconclusive",
    (0, 0, 1): "inconclusive",
}


@pytest.mark.parametrize(("found", "verdict"), TABLE.items())
def test_the_verdict_follows_from_the_conditions(book, found, verdict):
    made = make(book)
    for times in (1, 3):
        holds = [condition for condition, there in zip((YES, NO, OPEN), found, strict=True) for _ in range(times * there)]
        assert made.record("C1", "1.1", holds=holds, **AT) == made.rows["C1"]["verdict"] == verdict
        assert {made.record("C1", "1.1", holds=order, **AT) for order in itertools.permutations(holds[:4])} <= set(VERDICTS)
    if len(holds) == 3:
        assert made.record("C1", "1.1", holds=holds[0], **AT) == verdict  # a condition alone
    assert [row["state"] for row in made.rows["C1"]["conditions"]] == [holds[0].state] * (len(holds) == 3) or len(holds) > 3


@given(st.lists(st.sampled_from(["true", "false", "undecided"]), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_verdicts_do_not_depend_on_order_and_every_mixture_has_one(states, random):
    verdict = verdict_of(states)
    assert verdict == verdict_of(random.sample(states, len(states))) == TABLE[tuple(int(s in states) for s in get_args(State))]
    assert (verdict == "reproduced") == (set(states) == {"true"})
    assert verdict_of([*states, "false"]) in ("partly", "not reproduced")  # a failure is never lost


def test_verdicts_are_refused_for_anything_else():
    with pytest.raises(ValueError, match="at least one state"):
        verdict_of([])
    for wrong in ("True", "yes", True):
        with pytest.raises(ValueError, match="`states` must be one of"):
            verdict_of(["true", wrong])


TYPED = [True, False, np.True_, np.float64(0.5) < 0.1, torch.tensor(2.0) > 1, 1, 0.3, "yes", None]
TYPED += [[True], [YES, True], (NO, np.False_)]
TYPED += [[YES, 1.0], {"order": True}, {"order": YES}, np.array([True]), [None], [[YES]], lambda: YES]


@pytest.mark.parametrize("holds", TYPED, ids=range(len(TYPED)))
def test_what_is_no_condition_is_refused(book, holds):
    made = make(book)
    with pytest.raises(TypeError, match=r"`holds` must .*write the comparison, such as `above\(gap, control=…\)`"):
        made.record("C1", "1.1", holds=holds, **AT)
    with pytest.raises(ValueError, match="at least one condition"):
        made.record("C1", "1.1", holds=[], **AT)
    assert made.pending == ["C1", "C2"]


def test_one_seed_and_a_useless_control_are_inconclusive(book):
    made = make(book)
    single, good = estimate_gap([2.0], [1.0]), estimate_gap([2.0, 2.5, 2.2], [1.0, 1.1, 1.3])
    assert made.record("C1", "1", holds=above(single, **FREE), **AT) == "inconclusive"
    assert made.record("C1", "1", holds=above(good, control=good), **AT) == "inconclusive"
    assert "the control passes too" in made.rows["C1"]["conditions"][0]["control"]
    assert made.record("C1", "1", holds=above(good, **FREE), **AT) == "reproduced"
    assert made.record("C1", "1", holds=below(good, **FREE), **AT) == "not reproduced"
    assert made.record("C1", "1", holds=[exactly(3, 3, **FREE), all_of([True, False], **FREE)], **AT) == "partly"


def test_the_row_says_what_a_verdict_rests_on(book):
    made = make(book, claims=1)
    made.record("C1", "1", holds=at_least(5, 3, says="large enough", without_control="a count"), note="seed 4", **AT)
    made.claim("C2", "x", where="y", paper="z")
    made.not_attempted("C2", "too large", command="weightbook reproduce toy --profile paper", cost=COST)
    for shown in (made.table()._repr_html_(), made.table()._repr_markdown_()):
        assert "true: large enough: 5 ≥ 3 (no control: a count)" in shown and "seed 4" in shown
        assert "reduced: all" in shown
        assert "attempt: weightbook reproduce toy --profile paper (3.5 GPU-hours, 80 GB, C4)" in shown


def test_a_claim_that_was_not_attempted_says_what_it_would_take(book):
    made = make(book)
    for wrong in ({}, {"command": "x", "no_command": "y"}):
        with pytest.raises(TypeError, match="`command` must be what would attempt"):
            made.not_attempted("C1", "no data", **wrong)
    for cost in (None, 3.5, {"gpu_hours": 3.5}):
        with pytest.raises(TypeError, match="`cost` must be a Cost"):
            made.not_attempted("C1", "no data", command="x", cost=cost)
    assert made.pending == ["C1", "C2"]
    assert made.not_attempted("C1", "no data", no_command="never published") == "not attempted"
    assert made.rows["C1"]["note"] == "no data; no command: never published"
    for wrong in ({"gpu_hours": -1}, {"gpu_hours": math.nan}, {"gpu_hours": "3"}, {"memory_gb": 0}, {"data": ""}, {"days": 3}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            Cost(**({"gpu_hours": 1, "memory_gb": 8, "data": "C4"} | wrong))
    assert str(Cost(gpu_hours=0, memory_gb=8, data="none")) == "no GPU, 8 GB, none"


@pytest.mark.parametrize("scale", ["small", "", "Exact", None, 3, True])
def test_the_scale_is_one_of_four(book, scale):
    assert set(SCALES) == {"exact", "paper", "reduced", "stand-in"}
    with pytest.raises(ValueError, match="`scale` must be one of 'exact', 'paper', 'reduced', 'stand-in'"):
        make(book).record("C1", "1", holds=YES, scale=scale, at="all")


def test_a_second_record_replaces_the_first(book):
    made = make(book)
    made.not_attempted("C1", "no data", command="x", cost=COST)
    made.record("C1", "1.1", holds=NO, note="old", **AT)
    made.record("C1", "1.0", holds=YES, **AT)
    assert made.rows["C1"]["verdict"] == "reproduced" and made.rows["C1"]["note"] == ""
    assert (made.rows["C1"]["command"], made.rows["C1"]["cost"]) == ("", None)
    made.not_attempted("C1", "no data", no_command="none")
    assert made.rows["C1"] | {"ours": "", "scale": "", "at": "", "conditions": []} == made.rows["C1"]


def test_declarations_and_records_are_refused(book):
    made = make(book)
    for id in ("c3", "C0", "3", "C3 ", "C3ab", ""):
        with pytest.raises(ValueError, match="`id` must"):
            made.claim(id, "x", where="y", paper="z")
    with pytest.raises(ValueError, match="declared already"):
        made.claim("C1", "x", where="y", paper="z")
    for call in (lambda: made.record("C9", "1", holds=YES, **AT), lambda: made.not_attempted("C9", "no data", no_command="x")):
        with pytest.raises(ValueError, match=r"declared claim \(C1, C2\), got 'C9'"):
            call()
    for wrong in (dict(ours=1.1), dict(at=None), dict(note=3)):
        with pytest.raises(TypeError, match="must be text"):
            made.record(**(dict(id="C1", ours="1", holds=YES) | AT | wrong))
    for wrong in (dict(ours=" "), dict(at="")):
        with pytest.raises(ValueError, match="must not be empty"):
            made.record(**(dict(id="C1", ours="1", holds=YES) | AT | wrong))
    for call in (lambda: made.not_attempted("C1", "", no_command="x"), lambda: made.not_attempted("C1", "x", no_command="")):
        with pytest.raises(ValueError, match="must not be empty"):
            call()
    assert made.pending == ["C1", "C2"]


def test_an_unknown_chapter_is_refused_at_once(book):
    with pytest.raises(ValueError, match="nearest: toy"):
        Ledger("tooy", title="A", arxiv="", settings=settings(book))
    assert Ledger("lowbit/02_toy", title="A", arxiv="", settings=settings(book)).chapter == "toy"


def test_counts(book):
    made = make(book, claims=6)
    for id, holds in {"C1": YES, "C2": [YES, NO], "C3": NO, "C4": [YES, OPEN]}.items():
        made.record(id, "1", holds=holds, **AT)
    made.not_attempted("C5", "no data", no_command="none")
    assert made.counts() == dict.fromkeys(VERDICTS, 1) and made.pending == ["C6"]


@pytest.mark.parametrize(("ours", "paper", "gap"), [(1.1, 1.0, 0.1), (0.9, 1.0, 0.1), (-1.0, -2.0, 0.5), (1, -1, 2.0)])
def test_relative_gap(ours, paper, gap):
    assert relative_gap(ours, paper) == pytest.approx(gap)
    with pytest.raises(ValueError, match="must not be 0"):
        relative_gap(ours, 0.0)


# ---- files -----------------------------------------------------------------------------------------------------------


def complete(book, **changes):
    made = make(book, **changes)
    made.record("C1", "1.1", holds=YES, **AT)
    made.not_attempted("C2", "no data", command="x", cost=COST)
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
        made.not_attempted("C1", "no data", no_command="none")
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
        (lambda stored: {k: v for k, v in stored.items() if k != "seed"}, "seed: Field required"),
        (change("seed", "4"), "seed: Input should be a valid integer"),
        (change("seed", True), "seed: Input should be a valid integer"),
        (change("seed", -1), "seed: Input should be greater"),
        (change("extra", 1), "extra: Extra inputs are not permitted"),
        (change("format", 3), "format: Input should be 2"),
        (change("date", "yesterday"), "date: String should match"),
        (change("versions", {"torch": 2}), "versions.torch: Input should be a valid string"),
        (change("arms", {"seconds": -1, "oldest": "2026-01-01"}), "arms.seconds"),
        (change("claims", {}), "claims: Input should be a valid array"),
        (change("claims", []), "claims: "),
        (change("claims", ["C1"]), "claims.0: "),
        (change_claim(verdict="mostly"), "claims.0.verdict: Input should be 'reproduced'"),
        (change_claim(verdict=""), "claims.0.verdict"),
        (change_claim(verdict="partly"), "the verdict 'partly' of C1 does not follow from its conditions"),
        (change_claim(verdict="not attempted"), "does not follow from its conditions"),
        (change_claim(conditions=[]), "does not follow from its conditions"),
        (change_claim(conditions=[{"sentence": "x", "state": True, "control": "y"}]), "claims.0.conditions.0.state"),
        (change_claim(conditions=[{"sentence": "x", "state": "true"}]), "claims.0.conditions.0.control: Field required"),
        (change_claim(scale="large"), "claims.0.scale"),
        (change_claim(scale=""), "must have our value and its scale"),
        (change_claim(at=""), "must have our value and its scale"),
        (change_claim(ours=1.1), "claims.0.ours: Input should be a valid string"),
        (change_claim(other="x"), "claims.0.other: Extra inputs"),
        (change_claim(command="x"), "a command and its cost together"),
        (change_claim(cost={"gpu_hours": 1}), "claims.0.cost.memory_gb: Field required"),
        (change_claim(id="C2"), "C2 occurs twice"),
        (change_claim(id="c1"), "claims.0.id"),
        (lambda stored: [stored], "is no ledger: file"),
        (lambda stored: None, "is no ledger: file"),
    ],
)
def test_an_edited_ledger_is_refused(book, edit, message):
    path = complete(book, save=True).save()
    path.write_text(json.dumps(edit(json.loads(path.read_text()))))
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        load_ledgers()
    assert str(path) in str(refused.value)


def test_what_was_stored_is_what_is_read(book):
    made = complete(book, save=True)
    assert load_ledgers(made.save().parent)[0]["claims"] == list(made.rows.values())


def test_the_arms_are_in_the_stamp(book):
    class Arms:
        seconds, oldest = 1234.56, "2026-03-01"

    made = complete(book)
    assert json.loads(made.save().read_text())["arms"] is None
    made.arms = Arms()
    assert json.loads(made.save().read_text())["arms"] == {"seconds": 1234.6, "oldest": "2026-03-01"}
    Arms.oldest = None
    assert json.loads(made.save().read_text())["arms"] is None  # no arm was made


def test_a_wrong_row_is_not_written(book):
    made = complete(book)
    made.rows["C1"]["verdict"] = "not reproduced"
    with pytest.raises(ValueError, match="does not follow from its conditions"):
        made.save()
    assert not (book / "cache").exists()


@pytest.mark.parametrize("keep", [0, 1, 300])
def test_a_truncated_ledger_is_refused(book, keep):
    path = complete(book, save=True).save()
    path.write_text(path.read_text()[:keep])
    with pytest.raises(ValueError, match="is not JSON"):
        load_ledgers()


def test_one_chapter_is_read_whatever_lies_beside_it(book):
    path = complete(book, save=True).save()
    path.with_name("other.json").write_text('{"format": 1}')
    assert [ledger["chapter"] for ledger in load_ledgers(chapter="toy")] == ["toy"]
    with pytest.raises(ValueError, match="other.json is no ledger"):
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
        if tag not in ("input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


NASTY = '<script>alert(1)</script> & "quoted" | a\\b'


def test_the_table_is_accessible_and_escaped(book):
    made = make(book, claims=1)
    made.claim("C2", NASTY, where=NASTY, paper=NASTY)
    made.record("C1", "1", holds=[YES, NO], **AT)
    made.record("C2", NASTY, holds=at_most(3, 2, says=NASTY, without_control=NASTY), scale="exact", at=NASTY, note=NASTY)
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
    pairs = re.findall(r"background:(#\w{6});color:(#\w{6})", tables._FALLBACK)
    assert len(pairs) == len(VERDICTS)
    for background, text in pairs:
        dark, light = sorted((luminance(background), luminance(text)))
        assert (light + 0.05) / (dark + 0.05) >= 7


def test_a_table_refuses_unknown_verdicts():
    with pytest.raises(ValueError, match="`verdict` must be one of .*got 'mostly'"):
        ledger_table([{"id": "C1", "verdict": "mostly"}], "a")
    with pytest.raises(ValueError, match="`caption` must not be empty"):
        ledger_table([], "")


def stored(chapter, *verdicts):
    rest = {"conditions": [], "cost": None, "command": ""}
    claims = [dict.fromkeys(CLAIM_KEYS, f"text {n}") | rest | {"id": f"C{n}", "verdict": v} for n, v in enumerate(verdicts, 1)]
    return {"chapter": chapter, "claims": claims, "profile": "book", "device": "cpu", "seed": 0, "date": "2026-01-01"}


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


def test_ledgers_of_other_machines_stand_beside_ours():
    other = stored("wina", "reproduced", "not reproduced", "partly") | {"device": "cuda", "date": "2026-02-02", "seed": 7}
    board = scoreboard(BOARD, beside=[other])
    rows = [(row[0].text, row[1], str(row[7]), row[-1]) for row in board.table.rows]
    assert [row[:3] for row in rows[:4]] == [
        ("wina", "C1", "reproduced"), ("wina", "C1", "reproduced"), ("wina", "C2", "partly"), ("wina", "C2", "not reproduced"),
    ]  # fmt: skip
    assert [row[3] for row in rows[:2]] == ["book, cpu, 2026-01-01, seed 0", "book, cuda, 2026-02-02, seed 7"]
    assert board.table.columns[-1] == "Run" and "Run" not in scoreboard(BOARD).table.columns
    assert board.table.caption == "Claims of 2 papers"


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
