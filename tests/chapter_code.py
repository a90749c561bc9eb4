"""Run the code of a chapter's page: its derivation with one formula broken, and its recipe as it stands.

As a program, `python chapter_code.py JOB` runs a derivation once in an interpreter of its own and forks at every cell that
holds a formula to break: the child takes the broken cell and those after it, the parent goes on with the sound one. A
broken formula then costs the cells up to the check that notices it, not the chapter."""

import itertools
import json
import linecache
import os
import re
import resource
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ASIDE = re.compile(r"passport\(|show_doc\(")  # neither defines nor checks a numbered result
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")  # pools do not survive a fork
CPU_SECONDS = 120  # of one broken formula, and of the sound derivation


def cells(chapter: str) -> list[dict]:
    from weightbook.book.pages import find_notebook

    return json.loads(find_notebook(chapter).read_text(encoding="utf-8"))["cells"]


def tags(chapter: str) -> set[int]:
    "Numbers of the chapter's equations"
    text = "".join("".join(cell["source"]) for cell in cells(chapter) if cell["cell_type"] == "markdown")
    return {int(tag) for tag in re.findall(r"\\tag\{(\d+)\}", text)}


def derivation(chapter: str, until: str, aside: str | None = None, start: str | None = None) -> list[str]:
    "Code of the chapter from the cell that holds `start` up to the one with `until`, without what matches `aside`"
    found = cells(chapter)
    at = lambda text: next(i for i, cell in enumerate(found) if text in "".join(cell["source"]))  # noqa: E731
    chosen = found[at(start) if start else 0 : at(until)]
    sources = ["".join(cell["source"]) for cell in chosen if cell["cell_type"] == "code"]
    return [s for s in sources if not ASIDE.search(s) and not (aside and re.search(aside, s))]


# ---- breaks ----------------------------------------------------------------------------------------------------------


def place(sources: Sequence[str], old: str) -> int:
    "The index of the one cell that holds `old`, once"
    hits = [i for i, source in enumerate(sources) if old in source]
    if len(hits) != 1 or sources[hits[0]].count(old) != 1:
        raise ValueError(f"{old!r} is in {len(hits)} cells, {sum(s.count(old) for s in sources)} times; it must be there once")
    return hits[0]


def run_breaks(
    sources: Sequence[str],                  # code of the cells, in order
    broken: Mapping[str, tuple[str, str]],   # name -> (text of one cell, what is put in its place)
    folder: Path | None = None,              # where the cells run
    cpu: int = CPU_SECONDS,                  # limit of each run, in seconds of CPU time
) -> dict[str, dict]:                        # name -> outcome; the sound derivation stands under "sound"
    "What became of each broken formula: noticed (an AssertionError), passed, error, or the limit"
    where: dict[int, list] = {}
    outcomes = {}
    for name, (old, new) in broken.items():
        try:
            where.setdefault(place(sources, old), []).append((name, old, new))
        except ValueError as error:
            outcomes[name] = {"outcome": "misplaced", "text": str(error)}
    with tempfile.TemporaryDirectory() as work:
        job, out = Path(work, "job.json"), Path(work, "out.jsonl")
        job.write_text(json.dumps({"sources": list(sources), "where": where, "cpu": cpu, "out": str(out)}), encoding="utf-8")
        command = [sys.executable, str(Path(__file__).resolve()), str(job)]
        done = subprocess.run(command, cwd=folder, env=_environment(work), capture_output=True, text=True)
        lines = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
    outcomes |= {found["name"]: found for found in map(json.loads, lines)}
    how = outcomes.setdefault("sound", {"outcome": "died", "text": f"status {done.returncode}: {done.stderr[-2000:]}"})
    missing = {"outcome": "not run", "text": f"the sound derivation came to nothing: {how['outcome']} {how['text']}"}
    return {name: outcomes.get(name, missing) for name in ("sound", *broken)}


def _environment(work: str) -> dict[str, str]:
    "Quick, one thread, without a screen; arms go to a cache that nobody reads afterwards, for a broken one would stay"
    from weightbook.book.settings import find_root, load_settings

    kept, cache = load_settings().cache, Path(work, "cache")
    cache.mkdir()
    for entry in kept.iterdir() if kept.is_dir() else ():
        if entry.name not in ("arms", "ledger", "bench"):
            (cache / entry.name).symlink_to(entry)
    paths = [str(find_root() or ""), os.environ.get("PYTHONPATH", "")]
    mine = {"WEIGHTBOOK_PROFILE": "quick", "WEIGHTBOOK_CACHE": str(cache), "WEIGHTBOOK_SAVE": "0", "MPLBACKEND": "agg",
            "PYTHONPATH": os.pathsep.join(filter(None, paths)), "TOKENIZERS_PARALLELISM": "false"}
    return os.environ | ONE_THREAD | mine


def _execute(sources: Sequence[str], first: int, space: dict) -> None:
    "Run cells in one namespace, each under a name of its own: its source can be found, and the digest takes it for ours"
    for index, source in enumerate(sources, first):
        name = f"<ipython-cell {index}>"
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        exec(compile(source, name, "exec"), space)


def _outcome(call: Callable[[], None]) -> dict:
    "How a run of cells ended"
    try:
        call()
    except AssertionError as error:
        frames = reversed(traceback.extract_tb(error.__traceback__))
        line = next((f for f in frames if f.filename.startswith("<ipython-cell")), None)
        return {"outcome": "noticed", "text": f"{line and line.filename}: {error}"[:500]}
    except BaseException:
        return {"outcome": "error", "text": traceback.format_exc()[-2000:]}
    return {"outcome": "passed", "text": ""}


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _fork(run: Callable[[], None], name: str, cpu: int, out: Path) -> None:
    "Run in a child, which writes its outcome; one that dies gets it written"
    pid = os.fork()
    if pid == 0:
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 5))
            _write(out, name, _outcome(run), _cpu())
        finally:
            os._exit(0)
    _, status, used = os.wait4(pid, 0)
    if status:
        how = os.waitstatus_to_exitcode(status)
        text = f"more than {cpu} s of CPU time" if used.ru_utime + used.ru_stime >= cpu - 1 else f"status {how}"
        _write(out, name, {"outcome": "died", "text": text}, used.ru_utime + used.ru_stime)


def _write(out: Path, name: str, found: dict, seconds: float) -> None:
    with open(out, "a", encoding="utf-8") as file:
        file.write(json.dumps({"name": name, **found, "cpu": round(seconds, 2)}) + "\n")


def main(job: Path) -> None:
    "The sound derivation, with a child at each broken cell"
    todo = json.loads(job.read_text(encoding="utf-8"))
    sources, out, space = todo["sources"], Path(todo["out"]), {"__name__": "chapter"}
    sys.argv, sys.path[0] = ["chapter"], os.getcwd()
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_CPU, (todo["cpu"], todo["cpu"] + 5))

    def derive() -> None:
        for index, source in enumerate(sources):
            for name, old, new in todo["where"].get(str(index), ()):
                rest = [source.replace(old, new), *sources[index + 1 :]]
                _fork(lambda rest=rest, index=index: _execute(rest, index, space), name, todo["cpu"], out)
            _execute([source], index, space)

    _write(out, "sound", _outcome(derive), _cpu())


# ---- recipe ----------------------------------------------------------------------------------------------------------


ABSENT = re.compile(r"^\S*(?:Absent|FileNotFoundError): (.*(?:offline is set|cannot be downloaded|needs its wheel).*)$", re.M)


def run_recipe(chapter: str, folder: Path) -> str:
    "What the cells under «Use it» print when they are copied into a file of their own; `Absent` where data are not there"
    found = cells(chapter)
    start = next(i for i, cell in enumerate(found) if "## Use it" in "".join(cell["source"]))
    later = itertools.dropwhile(lambda cell: cell["cell_type"] != "code", found[start + 1 :])
    codes = itertools.takewhile(lambda cell: cell["cell_type"] == "code", later)
    recipe = folder / "recipe.py"
    recipe.write_text("\n".join("".join(cell["source"]) for cell in codes), encoding="utf-8")
    headless = os.environ | {"MPLBACKEND": "agg"}
    done = subprocess.run([sys.executable, str(recipe)], capture_output=True, text=True, cwd=folder, env=headless)
    if done.returncode and (found := ABSENT.search(done.stderr)):
        raise Absent(f"the recipe of {chapter}: {found[1]}")
    assert done.returncode == 0, done.stderr
    return done.stdout


class Absent(Exception):
    "A recipe needs data, a model or a network that this machine does not have"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
