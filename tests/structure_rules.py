"""The rules that every notebook of the book keeps; each takes a notebook and returns what is wrong with it."""

import ast
import json
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from weightbook.book.ledger import VERDICTS
from weightbook.book.pages import front_matter, source_hash

SECTIONS = (
    "The problem",
    "Derivation",
    "Implementation",
    "On the GPU",
    "Reproduction",
    "Ledger",
    "Use it",
    "What we learned",
)
CHECKS = {"assert_close", "expect_fail", "z_test", "assert_parity", "gradcheck"}
LIMIT_BYTES = 1_500_000
CHARACTERS = 700  # of nine of ten code cells
WIDTH = 110       # of a line of code


@dataclass(frozen=True)
class Cell:
    kind: str  # "code", "markdown" or "raw"
    source: str
    outputs: tuple[dict, ...] = ()
    index: int = 0

    @cached_property
    def directives(self) -> dict[str, str]:
        found = re.findall(r"^#\|[ \t]*([\w-]+)[ \t]*:?[ \t]*(.*)$", self.source, re.MULTILINE)
        return {key: value.strip() for key, value in found}

    @cached_property
    def lines(self) -> list[str]:
        "The lines that count: not blank and no directive"
        return [line for line in self.source.splitlines() if line.strip() and not line.startswith("#|")]

    @cached_property
    def tree(self) -> ast.Module | None:
        "The parsed code; None for cells with magics or shell lines"
        try:
            return ast.parse(self.source)
        except SyntaxError:
            return None

    @property
    def exported(self) -> bool:
        return bool(self.directives.keys() & {"export", "exports", "exporti"})

    @property
    def only_imports(self) -> bool:
        return self.tree is not None and all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in self.tree.body)

    @cached_property
    def checks(self) -> int:
        "How many assertions and calls of a checking helper the cell makes"
        if self.kind != "code" or self.exported or self.tree is None:
            return 0
        calls = (node.func for node in ast.walk(self.tree) if isinstance(node, ast.Call))
        names = (getattr(func, "id", getattr(func, "attr", "")) for func in calls)
        return sum(isinstance(node, ast.Assert) for node in ast.walk(self.tree)) + sum(n in CHECKS for n in names)

    @cached_property
    def prose(self) -> str:
        "Markdown without fenced code, mathematics, headings and tables"
        text = re.sub(r"^```.*?^```", "", self.source, flags=re.MULTILINE | re.DOTALL)
        text = re.sub(r"\$\$.*?\$\$|\$[^$\n]+\$", " x ", text, flags=re.DOTALL)
        return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith(("#", "|")))

    @cached_property
    def headings(self) -> list[tuple[int, str]]:
        text = re.sub(r"^```.*?^```", "", self.source, flags=re.MULTILINE | re.DOTALL)
        return [(len(marks), title.strip()) for marks, title in re.findall(r"^(#+) +(.*)$", text, re.MULTILINE)]


class Notebook:
    def __init__(self, path: Path):
        self.path = Path(path)
        self.raw = json.loads(self.path.read_text(encoding="utf-8"))
        self.cells = [
            Cell(cell["cell_type"], "".join(cell["source"]), tuple(cell.get("outputs", ())), index)
            for index, cell in enumerate(self.raw["cells"])
        ]
        self.code = [cell for cell in self.cells if cell.kind == "code"]
        self.markdown = [cell for cell in self.cells if cell.kind == "markdown"]
        self.metadata = self.raw.get("metadata", {})
        self.name = re.sub(r"^\d+_", "", self.path.stem)


# ---- every notebook --------------------------------------------------------------------------------------------------


def summary_line(nb: Notebook) -> list[str]:
    "The title cell: H1, then one `>` line, which becomes a module docstring and may hold no escape"
    title = nb.markdown[0] if nb.markdown else None
    if title is None or [level for level, _ in title.headings] != [1]:
        return ["the first Markdown cell must hold the one H1 title"]
    summaries = re.findall(r"^>\s*(.+)$", title.source, re.MULTILINE)
    if len(summaries) != 1:
        return [f"the title cell must hold one `>` summary line, has {len(summaries)}"]
    return [f"summary holds {mark!r}" for mark in ("\\", "$") if mark in summaries[0]]


def cell_sizes(nb: Notebook) -> list[str]:
    "Median at most 8 lines, nine of ten at most 20, none above 40 (60 with a kernel)"
    sizes = sorted(len(cell.lines) for cell in nb.code if cell.lines)
    if not sizes:
        return []
    wrong = [f"median of {statistics.median(sizes)} lines a cell, above 8"] * (statistics.median(sizes) > 8)
    ninth = sizes[max(0, -(-9 * len(sizes) // 10) - 1)]
    wrong += [f"nine of ten cells reach {ninth} lines, above 20"] * (ninth > 20)
    for cell in nb.code:
        limit = 60 if re.search(r"^@(triton\.)?jit\b", cell.source, re.MULTILINE) else 40
        if len(cell.lines) > limit:
            wrong.append(f"cell {cell.index} has {len(cell.lines)} lines, above {limit}")
    return wrong


def measures(nb: Notebook) -> dict[str, int]:
    "Characters that nine of ten code cells keep within, and the lines of code that are too wide"
    sizes = sorted(len(cell.source) for cell in nb.code)
    wide = sum(len(line) > WIDTH for cell in nb.code for line in cell.source.splitlines())
    return {"characters": sizes[-(-9 * len(sizes) // 10) - 1] if sizes else 0, "wide": wide}


def cell_characters(nb: Notebook, recorded: dict | None = None) -> list[str]:
    "Nine of ten cells within 700 characters, lines within 110; what an older notebook has above that may only fall"
    found, recorded = measures(nb), recorded or {}
    characters, wide = max(CHARACTERS, recorded.get("characters", 0)), recorded.get("wide", 0)
    wrong = [f"nine of ten cells reach {found['characters']} characters, above {characters}"] * (found["characters"] > characters)
    return wrong + [f"{found['wide']} lines of code are above {WIDTH} characters, more than {wide}"] * (found["wide"] > wide)


def outputs(nb: Notebook) -> list[str]:
    "No stored error, no widget state, no figure twice"
    wrong = [f"cell {c.index} stores an error" for c in nb.code if any(o["output_type"] == "error" for o in c.outputs)]
    wrong += ["widget state is stored"] * ("widgets" in nb.metadata)
    pictured = lambda c: {o["output_type"] for o in c.outputs if any(k.startswith("image/") for k in o.get("data", {}))}  # noqa: E731
    wrong += [f"cell {c.index} stores its figure twice: end it with `;`" for c in nb.code if len(pictured(c)) > 1]
    for cell in nb.code:
        kinds = {kind for output in cell.outputs for kind in output.get("data", {})}
        wrong += [f"cell {cell.index} stores {kind}" for kind in kinds if "widget" in kind]
    return wrong


def file_size(nb: Notebook) -> list[str]:
    size = nb.path.stat().st_size
    return [f"{size / 1e6:.2f} MB, above 1.5 MB"] if size > LIMIT_BYTES else []


def figure_alt(nb: Notebook) -> list[str]:
    "A cell that shows a picture says on one line what is to be seen"
    wrong = []
    for cell in nb.code:
        if not any(kind.startswith("image/") for output in cell.outputs for kind in output.get("data", {})):
            continue
        alt = cell.directives.get("fig-alt", "").strip("\"'")
        after = cell.source.partition("fig-alt:")[2].splitlines()[1:2]
        if len(alt) < 20 or alt[0] in ">|":
            wrong.append(f"cell {cell.index} shows a figure and needs `#| fig-alt:` of 20 characters or more")
        elif after and re.match(r"#\|\s*(?![\w-]+:|\w+\s*$)", after[0]):
            wrong.append(f"cell {cell.index}: fig-alt goes on in a second line, which is lost")
    return wrong


def fresh_stamp(nb: Notebook) -> list[str]:
    "Outputs carry the hash of the code that made them"
    if not any(cell.outputs for cell in nb.code) or front_matter(nb.path).get("pending"):
        return []
    stamp = nb.metadata.get("weightbook", {})
    if not stamp:
        return ["outputs without a stamp"]
    return [] if stamp.get("code_hash") == source_hash(nb.path) else ["the code changed since its outputs were made"]


def nothing_skipped(nb: Notebook) -> list[str]:
    "Tests pass in silence over a skipped notebook or cell"
    wrong = ["the notebook is skipped: skip_exec"] * bool(re.search(r"skip_exec:\s*true", nb.cells[0].source))
    wrong += ["the notebook is skipped: skip_exec"] * bool(nb.markdown and "skip_exec" in nb.markdown[0].source)
    for cell in nb.code:
        if cell.directives.get("eval") == "false" or "notest" in cell.directives:
            wrong.append(f"cell {cell.index} is never run")
    return wrong


# ---- chapters --------------------------------------------------------------------------------------------------------


def anatomy(nb: Notebook) -> list[str]:
    "Module directive, title, passport, then the eight sections in their order"
    wrong = _module_and_sections(nb, SECTIONS)
    first = next((c.index for c in nb.markdown if any(level == 2 for level, _ in c.headings)), len(nb.cells))
    if not any(re.search(r"\bpassport\(", c.source) for c in nb.code if c.index < first):
        wrong.append("no passport before the first section")
    return wrong


def workshop_anatomy(nb: Notebook) -> list[str]:
    "Module directive, title, then the sections of a chapter but for the two about a paper; no passport, no ledger"
    wrong = _module_and_sections(nb, [title for title in SECTIONS if title not in ("Reproduction", "Ledger")])
    paper = {"passport": r"\bpassport\(", "ledger": r"\bLedger\("}
    return wrong + [f"a workshop has no {what}" for what, p in paper.items() if any(re.search(p, c.source) for c in nb.code)]


def _module_and_sections(nb: Notebook, sections: Sequence[str]) -> list[str]:
    wrong = []
    module = nb.cells[0].directives.get("default_exp", "")
    if module != f"{nb.path.parent.name}.{nb.name}":
        wrong.append(f"the first cell must export to {nb.path.parent.name}.{nb.name}, has {module or 'nothing'}")
    found = [title for cell in nb.markdown for level, title in cell.headings if level == 2]
    if [title for title in found if title in sections] != list(sections):
        wrong.append(f"the sections must be {', '.join(sections)}; found {', '.join(found) or 'none'}")
    wrong += [f"section {title!r} is none of the anatomy" for title in found if title not in sections]
    return wrong


def equations_checked(nb: Notebook) -> list[str]:
    r"""Every `\tag{n}` is checked: by a cell that names `eq. (n)`, or by one before the next tagged cell or section.

    Where one Markdown cell holds several tags, the cells that follow must hold as many checks.
    """
    tagged = {c.index: re.findall(r"\\tag\{(\w+)\}", c.source) for c in nb.markdown if r"\tag{" in c.source}
    all_tags = [tag for tags in tagged.values() for tag in tags]
    wrong = [f"tag ({tag}) stands twice" for tag in sorted({t for t in all_tags if all_tags.count(t) > 1})]
    named = {t for c in nb.code if c.checks for t in re.findall(r"(?:eqs?\.|equation|and) \((\w+)\)", c.source)}
    for index, tags in tagged.items():
        open_tags = [tag for tag in tags if tag not in named]
        count = 0
        for cell in nb.cells[index + 1 :]:
            if cell.index in tagged or any(level <= 2 for level, _ in cell.headings if cell.kind == "markdown"):
                break
            count += cell.checks
        if count < len(open_tags):
            wrong.append(f"equation ({', '.join(open_tags[count:])}) of cell {index} is followed by no check")
    return wrong


def numbered_equations(nb: Notebook) -> list[str]:
    r"The numbers of the tags run 1, 2, 3, …"
    tags = [tag for cell in nb.markdown for tag in re.findall(r"\\tag\{(\w+)\}", cell.source)]
    in_order = tags and tags == [str(n + 1) for n in range(len(tags))]
    return [] if in_order else [f"tags run {', '.join(tags) or 'nowhere'}"]


def markdown_sizes(nb: Notebook) -> list[str]:
    "Nine of ten Markdown cells have at most 100 words, none above 200; one for every two code cells"
    cells = [cell for cell in nb.markdown[1:] if "```bibtex" not in cell.source]
    words = sorted(len(cell.prose.split()) for cell in cells)
    wrong = [f"{len(nb.markdown)} Markdown cells for {len(nb.code)} code cells"] * (2 * len(nb.markdown) < len(nb.code))
    if words and words[max(0, -(-9 * len(words) // 10) - 1)] > 100:
        wrong.append("more than one Markdown cell of ten has above 100 words")
    wrong += [f"cell {c.index} has {len(c.prose.split())} words" for c in cells if len(c.prose.split()) > 200]
    return wrong


def source_shown(nb: Notebook) -> list[str]:
    "At least four of five exported cells, imports aside, show their source on the site"
    cells = [cell for cell in nb.code if cell.exported and not cell.only_imports]
    shown = sum(bool({"exports", "exporti"} & cell.directives.keys()) for cell in cells)
    if not cells:
        return ["nothing is exported"]
    return [] if shown >= 0.8 * len(cells) else [f"only {shown} of {len(cells)} exported cells use `#| exports`"]


SCAFFOLD = re.compile(
    r"Arm|Task|Study|benchmark|ARMS|\w*(Task|_task|_arms?|_ARMS)|build_network|NETWORKS|study_\w+"
    r"|(run|train|evaluate)_(arms?|tasks?|pretraining|features)"
)


def no_scaffold(path: Path) -> list[str]:
    "Experiments do not stand among the public names of a chapter's module: `#| exporti` exports without naming them"
    names = _public(ast.parse(path.read_text(encoding="utf-8")))
    return [f"{name} belongs to an experiment, not to the method" for name in names if SCAFFOLD.fullmatch(name)]


def chapter_stamp(nb: Notebook) -> list[str]:
    "A chapter's outputs are stored, and from the book or the paper profile"
    if front_matter(nb.path).get("pending"):
        return []
    if not any(cell.outputs for cell in nb.code):
        return ["no outputs are stored"]
    profile = nb.metadata.get("weightbook", {}).get("profile")
    return [] if profile in ("book", "paper") else [f"outputs are from the {profile} profile"]


def claims_recorded(nb: Notebook, folder: Path) -> list[str]:
    "The claims named in the code are C1 … Cn, and each has a verdict in the stored ledger of this very code"
    strings = [n.value for c in nb.code if c.tree for n in ast.walk(c.tree) if isinstance(n, ast.Constant)]
    declared = {s for s in strings if isinstance(s, str) and re.fullmatch(r"C[1-9]\d*[a-z]?", s)}
    path = folder / f"{nb.name}.json"
    if front_matter(nb.path).get("pending"):  # said in the passport; an old ledger would contradict it
        return [f"{path.name} is older than the page, whose results are still to come"] * path.is_file()
    if not path.is_file():
        return [f"no ledger {path.name} for {len(declared)} claims"]
    ledger = json.loads(path.read_text(encoding="utf-8"))
    verdicts = {claim["id"]: claim["verdict"] for claim in ledger["claims"]}
    wrong = [f"claim {id} is in the notebook or in the ledger, not in both" for id in sorted(declared ^ set(verdicts))]
    numbers = {int(re.sub(r"\D", "", id)) for id in verdicts}
    wrong += ["the claims must run C1, C2, …"] * (not numbers or numbers != set(range(1, max(numbers) + 1)))
    wrong += [f"claim {id} has the verdict {v!r}" for id, v in verdicts.items() if v not in VERDICTS]
    wrong += ["the ledger was made by other code"] * (ledger["source_hash"] != source_hash(nb.path))
    wrong += [f"the ledger is from the {ledger['profile']} profile"] * (ledger["profile"] not in ("book", "paper"))
    return wrong


UNWRITTEN = re.compile(r"to be (written|said)\b|nothing is measured yet|not attempted yet", re.IGNORECASE)


def no_placeholder(nb: Notebook) -> list[str]:
    "What `weightbook new` wrote in place of the chapter goes before the chapter counts as written"
    if front_matter(nb.path).get("pending"):
        return []
    wrong = [f"cell {c.index} exports the placeholder" for c in nb.code if re.search(r"^def placeholder\(", c.source, re.M)]
    return wrong + [f"cell {c.index} says {m[0]!r}" for c in nb.cells if (m := UNWRITTEN.search(c.source))]


EVERY = (summary_line, cell_sizes, outputs, file_size, figure_alt, fresh_stamp, nothing_skipped)
CHAPTER = (anatomy, no_placeholder, equations_checked, numbered_equations, markdown_sizes, source_shown, chapter_stamp)
WORKSHOP = (workshop_anatomy, *CHAPTER[1:])


# ---- generated modules -----------------------------------------------------------------------------------------------


def public_docs(path: Path) -> list[str]:
    "Every public function and class has a docstring, and every parameter a comment beside it"
    source = path.read_text(encoding="utf-8")
    tree, lines, wrong = ast.parse(source), source.splitlines(), []
    names = _public(tree)
    for node in tree.body:
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name not in names:
            continue
        functions = [node] if isinstance(node, ast.FunctionDef) else _public_methods(node)
        for function in {id(f): f for f in [node, *functions]}.values():
            label = node.name if function is node else f"{node.name}.{function.name}"
            if not ast.get_docstring(function) and not label.endswith("__init__"):
                wrong.append(f"{label} has no docstring")
        for function in functions:
            wrong += [f"{node.name}: parameter `{a}` has no comment" for a in _bare_parameters(function, lines)]
    return wrong


def _public(tree: ast.Module) -> list[str]:
    return next((ast.literal_eval(n.value) for n in tree.body if isinstance(n, ast.Assign) and _assigns_all(n)), [])


def _assigns_all(node: ast.Assign) -> bool:
    return any(getattr(target, "id", "") == "__all__" for target in node.targets)


def _public_methods(node: ast.ClassDef) -> list[ast.FunctionDef]:
    methods = [child for child in node.body if isinstance(child, ast.FunctionDef)]
    return [m for m in methods if not m.name.startswith("_") or m.name == "__init__"]


def _bare_parameters(function: ast.FunctionDef, lines: list[str]) -> list[str]:
    "Parameters with no comment on their lines"
    args = function.args
    every = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
    every = [arg for arg in every if arg is not None and arg.arg not in ("self", "cls")]
    return [arg.arg for arg in every if "#" not in "".join(lines[arg.lineno - 1 : arg.end_lineno])]
