"""Style, helpers and tables: the same everywhere, true to their data, and safe for any text."""

import os
import subprocess
import sys
from html.parser import HTMLParser

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex

from weightbook.book.figures import PALETTE, grouped_bars, paper_line, plot_band, style_of, use_style
from weightbook.book.tables import Table, compare_table, format_value, table

DRAW = """
import io, matplotlib
matplotlib.use("agg")
import matplotlib.pyplot as plt, hashlib
from weightbook.book.figures import *
use_style()
fig, ax = plt.subplots()
plot_band(ax, range(4), [[1, 2, 3, 4], [2, 3, 4, 6]], label="a")
grouped_bars(ax, ["x", "y"], {"b": [1, 2], "c": [2, None]}, fmt="{:.1f}")
paper_line(ax, 2.5)
buffer = io.BytesIO()
fig.savefig(buffer, format="svg", metadata={"Date": None})
print(hashlib.sha256(buffer.getvalue()).hexdigest(), len(buffer.getvalue()))
"""


@pytest.fixture
def ax():
    use_style()
    fig, axes = plt.subplots()
    yield axes
    plt.close(fig)


# ---- style -----------------------------------------------------------------------------------------------------------


def test_a_figure_has_the_same_bytes_in_every_process():
    def draw(seed: str) -> str:
        env = os.environ | {"PYTHONHASHSEED": seed}
        return subprocess.run([sys.executable, "-c", DRAW], env=env, capture_output=True, text=True, check=True).stdout

    first, second = draw("1"), draw("2")
    assert first == second and int(first.split()[1]) < 150_000


def test_a_readers_own_settings_do_not_leak_in():
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9}):
        use_style()
        assert plt.rcParams["font.size"] == 10 and plt.rcParams["lines.linewidth"] == 1.8


def test_plain_matplotlib_follows_the_palette(ax):
    lines = [ax.plot([0, 1])[0] for _ in range(7)]
    assert [to_hex(line.get_color()).upper() for line in lines] == [c for n, c in PALETTE.items() if n != "grey"]
    assert len({str(line._unscaled_dash_pattern) for line in lines[:4]}) == 4


def test_import_of_the_module_is_light():
    code = "import sys, weightbook.book.figures; print('matplotlib' in sys.modules, 'torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["False", "False"]


@pytest.mark.slow
def test_a_notebook_shows_svg_at_its_declared_size(tmp_path):
    from nbclient import NotebookClient

    cells = [
        "from weightbook.book.figures import use_style\nuse_style()",
        "import matplotlib.pyplot as plt\nfig, ax = plt.subplots()\nax.plot([1, 2]);",
    ]
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    NotebookClient(nb, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    data = nb.cells[1].outputs[0]["data"]
    assert "image/png" not in data and 'width="504pt"' in data["image/svg+xml"]
    assert "<dc:date>" not in data["image/svg+xml"] and "<text" not in data["image/svg+xml"]


# ---- labels ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.text(max_size=8), max_size=56))
def test_labels_keep_their_look_and_do_not_share_it(labels):
    use_style()
    looks = {label: style_of(label) for label in labels}
    assert all(style_of(label) == look for label, look in looks.items())
    assert len({str(look) for look in looks.values()}) == len(looks)


def test_a_look_can_be_changed_without_harm():
    use_style()
    style_of("a")["color"] = "white"
    assert style_of("a")["color"] == PALETTE["blue"]


# ---- curve with a band -----------------------------------------------------------------------------------------------

RUNS = np.array([[1.0, 5.0, 2.0], [3.0, 1.0, 2.0], [8.0, 3.0, 2.0], [4.0, 3.0, 6.0]])
HALF = {"se": RUNS.std(axis=0, ddof=1) / 2, "sd": RUNS.std(axis=0, ddof=1)}


@pytest.mark.parametrize("band", ["se", "sd", "range"])
@pytest.mark.parametrize("kind", [np.asarray, torch.tensor, lambda a: a.tolist()], ids=["numpy", "torch", "list"])
def test_band_edges(ax, band, kind):
    line = plot_band(ax, [0, 1, 2], kind(RUNS), label="a", band=band)
    low = RUNS.min(axis=0) if band == "range" else RUNS.mean(axis=0) - HALF[band]
    high = RUNS.max(axis=0) if band == "range" else RUNS.mean(axis=0) + HALF[band]
    outline = ax.collections[0].get_paths()[0].vertices
    edges = [(outline[outline[:, 0] == x][:, 1].min(), outline[outline[:, 0] == x][:, 1].max()) for x in range(3)]
    np.testing.assert_allclose(edges, np.stack([low, high], 1))
    np.testing.assert_allclose(line.get_ydata(), RUNS.mean(axis=0))


@pytest.mark.parametrize("runs", [[1.0, 2.0], [[1.0, 2.0]]], ids=["flat", "one row"])
def test_one_run_has_no_band(ax, runs):
    assert list(plot_band(ax, [0, 1], runs, label="a").get_ydata()) == [1.0, 2.0]
    assert not ax.collections


def test_options_win_over_the_labels_look(ax):
    line = plot_band(ax, range(100), np.zeros(100), label="a", color="black", markevery=50)
    assert line.get_color() == "black" and line.get_markevery() == 50
    assert plot_band(ax, range(100), np.zeros(100), label="b").get_markevery() == 9


@pytest.mark.parametrize(
    ("x", "runs", "band", "message"),
    [
        ([0, 1], [[1, 2, 3]], "se", r"`runs` must be \(R, X\)"),
        ([[0, 1]], [[1, 2]], "se", r"`runs` must be \(R, X\)"),
        ([], [[]], "se", r"`runs` must be \(R, X\)"),
        ([0], [[[1]]], "se", r"`runs` must be \(R, X\)"),
        ([0, 1], [[1, np.inf]], "se", "must be finite, got 1"),
        ([0, 1], [[1, 2]], "ci", "`band`"),
    ],
)
def test_bad_curves_are_refused(ax, x, runs, band, message):
    with pytest.raises(ValueError, match=message):
        plot_band(ax, x, runs, label="a", band=band)
    assert not ax.lines


# ---- bars and lines --------------------------------------------------------------------------------------------------


def texts(ax) -> dict[str, tuple[float, float]]:
    return {text.get_text(): text.xy for text in ax.texts}


def test_bars_stand_where_their_values_say(ax):
    errors = {"a": [0.1, 0.5], "b": [[0.2, 0], [0.4, 0]]}
    grouped_bars(ax, ["x", "y"], {"a": [1, -2], "b": [3, None]}, errors=errors, fmt="{:.0f}")
    heights = [bar.get_height() for bar in ax.patches]
    np.testing.assert_array_equal(heights, [1, -2, 3, np.nan])
    found = texts(ax)
    assert [found[name][1] for name in ("1", "-2", "3", "n/a")] == [1.1, -2.5, 3.4, 0.0]
    assert ax.get_xlim() == (-0.5, 1.5) and [t.get_text() for t in ax.get_xticklabels()] == ["x", "y"]


def test_bars_do_not_touch_across_groups_and_differ_in_hatch(ax):
    grouped_bars(ax, list("xyz"), {name: [1, 2, 3] for name in "abcd"}, width=0.8)
    spans = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in ax.patches)
    assert all(right < left for (_, right), (left, _) in zip(spans, spans[1:], strict=False))
    assert spans[0][0] >= -0.4 and len({bar.get_hatch() for bar in ax.patches}) == 4


def test_bars_without_numbers_have_no_text(ax):
    grouped_bars(ax, ["x"], {"a": [1.0]})
    assert not ax.texts


@pytest.mark.parametrize("axis", ["x", "y"])
def test_paper_line_stands_at_the_value_and_behind_the_data(ax, axis):
    line = paper_line(ax, 3.5, axis)
    data = line.get_ydata() if axis == "y" else line.get_xdata()
    assert list(data) == [3.5, 3.5] and line.get_zorder() < ax.plot([1])[0].get_zorder()
    assert list(texts(ax)) == ["paper"]


def test_paper_line_refuses_another_axis(ax):
    with pytest.raises(ValueError, match="`axis`"):
        paper_line(ax, 1.0, "z")


# ---- tables ----------------------------------------------------------------------------------------------------------


class Cells(HTMLParser):
    "Texts of caption and cells as a browser would show them"

    def __init__(self, page: str):
        super().__init__()
        self.seen: list[tuple[str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, ""))

    def handle_endtag(self, tag):
        self.seen.append(("end", ""))

    def handle_data(self, data):
        if self.seen and self.seen[-1][0] in ("td", "th", "caption"):
            tag, text = self.seen[-1]
            self.seen[-1] = (tag, text + data)

    def of(self, *tags: str) -> list[str]:
        return [text for tag, text in self.seen if tag in tags]


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


@given(st.lists(st.tuples(words, words), min_size=1, max_size=4), words)
def test_any_text_survives_html_and_markdown(rows, caption):
    made = Table(("<b>", "|"), tuple(rows), caption)
    cells = Cells(made._repr_html_())
    assert cells.of("caption") == [caption]
    assert cells.of("td", "th") == ["<b>", "|", *(cell for row in rows for cell in row)]
    lines = made._repr_markdown_().split("\n")
    unescaped = [line.replace("\\\\", "").replace("\\|", "").count("|") for line in lines[: len(rows) + 2]]
    assert unescaped == [3] * (len(rows) + 2)


def test_header_scopes_and_the_scrolling_region():
    page = compare_table([("a", 1.0, 2.0)], caption='5 % "better"')._repr_html_()
    assert page.count('scope="col"') == 2 and page.count('scope="row"') == 1 and page.count("<caption") == 1
    assert 'role="region" tabindex="0" aria-label="5 % &quot;better&quot;"' in page


def test_numbers_are_right_aligned_and_text_is_not():
    page = table([{"name": "a", "n": 1, "t": "x"}, {"name": "b", "n": None, "t": "y"}], caption="c")._repr_html_()
    assert page.count("text-align:right") == 3
    assert table([{"name": "a", "ok": True}], caption="c")._repr_html_().count("text-align:right") == 0


@pytest.mark.parametrize(
    ("value", "spec", "text"),
    [
        (3, None, "3"), (3, ".1f", "3.0"), (1e6, None, "1.00e+06"), (999999.4, None, "999999"), (-1234.6, None, "-1235"),
        (1e-4, None, "0.0001"), (9.9e-5, None, "9.90e-05"), (float("inf"), None, "inf"), (np.int64(7), None, "7"),
        (np.float64("nan"), ".2f", "–"), (torch.tensor(0.25), None, "0.25"), (np.True_, None, "yes"), (False, ".1f", "no"),
        ("x", ".1f", "x"), (None, str, "–"), (0.5, "{:.0%}".format, "50%"),
    ],
)  # fmt: skip
def test_format_value(value, spec, text):
    assert format_value(value, spec) == text


def test_frames_keep_what_their_index_says():
    frame = pd.DataFrame({"arm": ["x", "y", "x"], "s": [0.5, 0.5, 0.6], "p": [1.0, 2.0, 3.0]})
    assert table(frame[frame.arm == "x"], caption="c").columns == ("arm", "s", "p")
    assert table(frame.groupby(["arm", "s"]).mean(), caption="c").columns == ("arm", "s", "p")
    wide = table(frame.pivot(index="arm", columns="s", values="p"), caption="c", fmt={0.5: ".2f"})
    assert wide.columns == ("arm", "0.5", "0.6") and wide.text() == [["x", "1.00", "3"], ["y", "2.00", "–"]]


def test_missing_entries_of_a_frame_are_dashes():
    frame = pd.DataFrame({"arm": ["x", None], "n": pd.array([1, None], dtype="Int64"), "day": [pd.NaT, pd.NaT]})
    made = table(frame, caption="c")
    assert made.text() == [["x", "1", "–"], ["–", "–", "–"]] and made._repr_html_().count("text-align:right") == 3


def test_columns_are_the_union_of_the_rows_in_order():
    made = table([{"b": 1}, {"a": 2, "b": 3}], caption="c")
    assert made.columns == ("b", "a") and made.rows == ((1, None), (3, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: table([], caption="c"), "at least one row"),
        (lambda: table([{"a": 1}], caption="c", fmt={"b": ".1f"}), "`fmt` must name columns"),
        (lambda: compare_table([("a", 1)], caption="c"), "3 entries each"),
        (lambda: compare_table([], caption="c"), "at least one row"),
        (lambda: table([1, 2], caption="c"), "must be mappings"),
    ],
)
def test_bad_tables_are_refused(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
