"""The book's own site in headless Chromium: what a reader sees, does and needs."""

import json
import re
import shutil
import threading
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import ROOT

from weightbook.book.pages import chapters
from weightbook.book.site import site_server

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update"]
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
CHAPTERS = [path.relative_to(ROOT / "nbs").with_suffix(".html").as_posix() for path in chapters()]
PAGES = ["index.html", "ledger.html", "notation.html", "citation.html", "book/figures.html", "book/site.html", *CHAPTERS]
TERM = "WINA"
PATIENCE = 120_000  # ms: a page of a thousand formulas takes seconds, and many times as long on a busy machine

pytest.importorskip("playwright", reason="playwright is missing: pip install 'weightbook[test]'")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")]


@pytest.fixture(scope="module")
def address(built_site):
    with site_server(built_site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, address):
    "Opens a page of the site; at the end nothing may have been logged as an error or asked from another host"
    complaints = []

    @contextmanager
    def opened(name, scheme="light", width=1280):
        with closing(chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)) as context:
            context.set_default_timeout(PATIENCE)
            page = context.new_page()
            page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("request", lambda r: None if r.url.startswith((address, "data:")) else complaints.append(r.url))
            page.goto(address + name, wait_until="networkidle")
            page.wait_for_function("!document.querySelector('script[src*=mathjax]') || MathJax.startup?.promise")
            page.evaluate("window.MathJax?.startup?.promise?.then(() => 0)")
            yield page

    yield opened
    assert complaints == []


def luminance(colour):
    "WCAG relative luminance of `rgb(r, g, b)`"
    parts = [float(v) / 255 for v in re.findall(r"[\d.]+", colour)[:3]]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def axe(page):
    "The violations that axe-core finds on the page"
    import axe_playwright_python

    page.add_script_tag(path=Path(axe_playwright_python.__file__).parent / "axe.min.js")
    options = json.dumps({"runOnly": {"type": "tag", "values": RULES}, "resultTypes": ["violations"]})
    found = page.evaluate(f"axe.run(document, {options})")["violations"]
    return [f"{v['id']}: {n['target'][0]} {n['failureSummary'].splitlines()[-1]}" for v in found for n in v["nodes"][:4]]


def sweep(*quick):
    "Every page; those that are not named wait for `--slow`"
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow, id=name) for name in PAGES]


@pytest.mark.parametrize("name", sweep("ledger.html", CHAPTERS[0]))
def test_a_page_is_accessible_typeset_and_illustrated(visit, name, built_site):
    raw = (built_site / name).read_text(encoding="utf-8")
    with visit(name) as page:
        assert axe(page) == []
        check_mathematics(page, raw)
        check_figures(page)
        assert page.locator("main img.wb-figure").count() >= (name in CHAPTERS)


def check_mathematics(page, raw):
    "Every formula is typeset, tags included, and none is left as text"
    main = page.locator("main")
    expected = len(re.findall(r'class="math (?:inline|display)"', raw))
    assert main.locator(".math mjx-container").count() == expected
    assert main.locator("mjx-container mjx-assistive-mml").count() >= expected
    assert main.locator("mjx-merror").count() == 0
    prose = main.evaluate("m => { const c = m.cloneNode(true);"
                          " c.querySelectorAll('pre, code, mjx-container').forEach(e => e.remove()); return c.textContent; }")
    assert not re.search(r"\\\(|\\\[|\\tag\b", prose)
    tags = len(re.findall(r"\\tag\{", "".join(re.findall(r'class="math display">(.*?)</span>', raw, re.S))))
    assert main.locator("mjx-container mjx-mlabeledtr").count() == tags


def check_figures(page):
    "Every picture is there, with a text that says what is to be seen; of two drawings the light one"
    for image in page.locator("main img:not(.wb-night)").all():
        image.scroll_into_view_if_needed()
        assert image.evaluate("i => i.decode().then(() => i.naturalWidth)") > 0
        assert len(image.get_attribute("alt")) > 20


@pytest.mark.parametrize("name", sweep("index.html"))
def test_the_dark_page_is_accessible(visit, name):
    with visit(name, "dark") as page:
        assert axe(page) == []


@pytest.mark.parametrize("name", sweep("index.html", CHAPTERS[0]))
def test_a_phone_shows_the_page_without_scrolling_sideways(visit, name):
    with visit(name, width=390) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert axe(page) == []


def test_dark_mode_toggles_is_kept_and_figures_stay_legible(visit, built_site):
    pages = [p for p in built_site.rglob("*.html") if "wb-figure wb-night" in p.read_text("utf-8")]
    if not pages:
        pytest.skip("no figure is stored yet")
    with visit(pages[0].relative_to(built_site).as_posix()) as page:
        body = "getComputedStyle(document.body).backgroundColor"
        assert luminance(page.evaluate(body)) > 0.9
        page.click(".quarto-color-scheme-toggle")
        page.wait_for_function(f"{body} !== 'rgb(255, 255, 255)'")
        assert luminance(page.evaluate(body)) < 0.05
        day, night = (page.locator(f"img.wb-figure.wb-{kind}").first for kind in ("light", "night"))
        assert night.is_visible() and not day.is_visible()
        assert night.evaluate("i => getComputedStyle(i).filter") == "none", "drawn, not inverted"
        page.reload(wait_until="networkidle")
        assert luminance(page.evaluate(body)) < 0.05
        page.click(".quarto-color-scheme-toggle")
        page.wait_for_function(f"{body} === 'rgb(255, 255, 255)'")
        assert day.is_visible() and not night.is_visible()


def test_search_finds_the_term(visit):
    with visit("index.html") as page:
        page.locator("#quarto-search input").fill(TERM)
        hit = page.locator("#quarto-search .search-result").first
        hit.wait_for()
        hit.click()
        page.wait_for_load_state("networkidle")
        assert TERM.lower() in page.locator("main").inner_text().lower()


def test_the_front_page_leads_to_every_chapter(visit, address):
    with visit("index.html") as page:
        links = [urlsplit(a.evaluate("a => a.href")).path.lstrip("/") for a in page.locator(".wb-card a").all()]
        assert links == CHAPTERS
        text = page.locator("main").inner_text()
        assert "make site" in text and "make test" in text


def test_the_scoreboard_filters(visit):
    with visit("ledger.html") as page:
        rows = page.locator(".wb-claims .wb-claim")
        if not rows.count():
            pytest.skip("no ledger yet")
        shown = page.locator(".wb-claims .wb-claim:visible")
        everything = shown.count()
        assert everything == rows.count()
        page.select_option("select[name=verdict]", "not attempted")
        assert all("not attempted" in row.inner_text() for row in shown.all()) and shown.count() < everything
        page.select_option("select[name=verdict]", "")
        page.fill("input[name=words]", "nowhere to be found")
        assert shown.count() == 0


def test_code_can_be_copied_and_unfolded(visit):
    with visit("book/site.html") as page:
        assert page.locator("main .code-copy-button").count() > 10
        fold = page.locator("main details.code-fold").first
        assert fold.get_attribute("open") is None
        fold.locator("summary").click()
        assert fold.get_attribute("open") is not None


# ---- a chapter's length, its code, its claims ------------------------------------------------------------------------

FOLDED = 45_000  # px at 1300 px with everything folded, and the one chapter that is longer
TALLER = {"estimation/01_dpp_least_squares.html": 56_000}


@pytest.mark.parametrize("name", [page for page in sweep(CHAPTERS[0]) if page.id in CHAPTERS])
def test_a_chapter_is_short_and_nothing_of_it_is_cut(visit, name):
    with visit(name, width=1300) as page:
        assert page.evaluate("document.documentElement.scrollHeight") <= TALLER.get(name, FOLDED)
        assert page.locator("main details.code-fold[open]").count() == 0 < page.locator("main details.code-fold").count()
        assert cut(page, "pre") == [] and cut(page, ".math.display") == []
        assert len(cut(page, ".wb-scroll, .cell-output-display")) <= 2  # tables of many columns; they scroll, by keyboard too
        contents = page.locator("#TOC a").all_inner_texts()
        assert not [text for text in contents if text.startswith("_") or re.fullmatch(r"\w*[._]\w*", text)]
        assert page.locator("#TOC ul ul ul").count() == 0


def cut(page, css):
    "The visible boxes whose content is wider than they are"
    wide = "b => b.filter(e => e.checkVisibility() && e.scrollWidth > e.clientWidth + 1).map(e => e.textContent.slice(0, 60))"
    return page.locator(f"main :is({css})").evaluate_all(wide)


def test_one_switch_shows_all_code_and_the_browser_remembers(chromium, built_site):
    "By keyboard, and from a file"
    address = (built_site / CHAPTERS[0]).as_uri()
    with closing(chromium.new_context()) as context:
        page = context.new_page()
        page.goto(address)
        shown = page.locator("main details.code-fold[open]")
        everything = page.locator("main details.code-fold").count()
        page.locator(".wb-switch").focus()
        page.keyboard.press("Enter")
        assert page.locator(".wb-switch").get_attribute("aria-pressed") == "true" and shown.count() == everything
        page.reload()
        assert shown.count() == everything
        page.locator(".wb-switch").press("Space")
        page.reload()
        assert shown.count() == 0


def claimed(site):
    "Pages that show claims"
    return [name for name in ["ledger.html", *CHAPTERS] if 'class="wb-claim"' in (site / name).read_text("utf-8")]


@pytest.mark.parametrize("width", [1300, 390])
def test_every_verdict_is_on_screen(visit, built_site, width):
    for name in claimed(built_site)[:3]:
        with visit(name, width=width) as page:
            boxes = page.locator(".wb-claim, .wb-claim .wb-verdict, .wb-claim dd").evaluate_all(
                "boxes => boxes.map(b => b.getBoundingClientRect()).map(b => [b.left, b.right, b.height])")
            assert boxes and all(0 <= left <= right <= width and height > 0 for left, right, height in boxes)
            assert page.locator(".wb-claim").count() == page.locator(".wb-claim-head > .wb-verdict").count()


def test_the_scoreboard_and_the_passport_lead_to_the_claim(visit, built_site):
    if not any((ROOT / "nbs" / "ledger").glob("*.json")):
        pytest.skip("no ledger yet")
    with visit("ledger.html") as page:
        page.locator(".wb-claim-id[href*='.html#C']").first.click()
        page.wait_for_url("**#C*")
        target = page.locator(".wb-claim:target")
        target.wait_for()
        assert target.locator("details").get_attribute("open") is not None, "the reasons are open"
        first = page.locator(".wb-passport .wb-claim-links a").first.get_attribute("href")
        assert page.locator(f".wb-claim{first}").count() == 1
