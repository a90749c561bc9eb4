"""The fuzz table: every public callable, how to call it right, and bad inputs made from the kinds of its arguments.

A chapter's entries are in a file of its own, tests/chapters/fuzz_<chapter>.py. An entry is a function of the module that gives
the arguments of a right call, made anew for each call. `Free` marks a value of any shape, `Wide` one of any width, `Deep` one
with any axes before its own, `Fixed` one that is not spoilt, because it is no user's number. A text in place of an entry says
why there is nothing to spoil: a record that the library fills, a step of the build, an experiment of minutes.
"""

import contextlib
import importlib
import io
import math
import pkgutil
import signal
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

import weightbook

RECORD = "a record that the library fills"
BUILD = "a step of the build, on the book's own files"
EXPERIMENT = "an experiment of minutes, checked through the functions that it calls"
RACE = "a race of the book, on its own sizes"


@dataclass
class Free:
    "A value whose shape is free"

    value: object


@dataclass
class Wide:
    "A value whose last axis is free"

    value: object


@dataclass
class Deep:
    "A value with any number of axes before its own"

    value: object


@dataclass
class Fixed:
    "A value that is left as it is"

    value: object


def t(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def a(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def place(n=6, seed=0):
    return np.random.default_rng(seed).uniform(-60, 60, (n, 2))


def net(*sizes):
    torch.manual_seed(0)
    layers = [nn.Linear(i, o) for i, o in zip(sizes, sizes[1:], strict=False)]
    return nn.Sequential(*layers)


def conv_net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(32, 2)
    )


def settings():
    from weightbook.book.settings import load_settings

    return Fixed(load_settings())


# ---- what a user may get wrong ---------------------------------------------------------------------------------------


def spoilt(value):
    "Bad versions of a value, by name"
    free, wide, deep = isinstance(value, Free), isinstance(value, Wide), isinstance(value, Deep)
    value = value.value if free or wide or deep else value
    if isinstance(value, Fixed) or value is None or isinstance(value, (bool, torch.Generator)):
        return
    if isinstance(value, torch.Tensor):
        yield "word", "x"
        if value.is_floating_point() and value.numel():
            bad = value.detach().clone()
            bad.view(-1)[0] = math.nan
            yield "nan", bad
        if not free and not deep:
            yield "dims", value[None, None]
        if not free and not wide:
            yield "longer", torch.cat([value, value[..., :1]], -1) if value.ndim else value[None]
    elif isinstance(value, np.ndarray):
        yield "word", "x"
        if value.dtype.kind == "f" and value.size:
            bad = value.copy()
            bad.flat[0] = math.nan
            yield "nan", bad
        if not free and not deep:
            yield "dims", value[None, None]
        if not free and not wide:
            yield "longer", np.concatenate([value, value[..., :1]], -1)
    elif isinstance(value, int):
        yield from (("negative", -2), ("fraction", 1.5), ("word", "x"))  # −1 often stands for "all"
    elif isinstance(value, float):
        yield from (("nan", math.nan), ("word", "x"))
    elif isinstance(value, str):
        yield from (("unknown", "no such thing"), ("number", 3))
    elif isinstance(value, (list, tuple)):
        yield "number", 3
        yield "words", ["x"] * len(value)
    elif isinstance(value, (nn.Module, dict)) or callable(value) or hasattr(value, "__dict__"):
        yield "number", 3


def has_nan(found, depth=0):
    "Whether NaN came out again"
    if isinstance(found, torch.Tensor):
        return found.is_floating_point() and bool(found.isnan().any())
    if isinstance(found, (float, np.floating)):
        return math.isnan(found)
    if isinstance(found, np.ndarray):
        return found.dtype.kind == "f" and bool(np.isnan(found).any())
    if hasattr(found, "to_numpy") and not callable(getattr(found, "isnull", None)):
        return has_nan(found.to_numpy())
    if callable(getattr(found, "isnull", None)):
        return bool(np.asarray(found.isnull()).any())
    if isinstance(found, dict):
        return any(has_nan(v, depth + 1) for v in found.values())
    if isinstance(found, (list, tuple)) and depth < 4:
        return any(has_nan(v, depth + 1) for v in found)
    if hasattr(found, "__dict__") and depth < 3 and not isinstance(found, nn.Module):
        return any(has_nan(v, depth + 1) for v in vars(found).values())
    if isinstance(found, nn.Module):
        return any(has_nan(v) for v in found.state_dict().values())
    return False


def keeps_nan(found, value):
    "Whether a mask over the entries of a value keeps the first, which is NaN, so that a product with it is NaN"
    mask = isinstance(found, torch.Tensor) and found.dtype == torch.bool and isinstance(value, torch.Tensor)
    return mask and value.ndim > 0 and found.shape[-1:] == value.shape[-1:] and bool(found.flatten()[:1].any())


HOME = str(Path(weightbook.__file__).parent)


def outcome(call, name, label, others=(), value=None):
    "named, unnamed, raw, right (NaN in, NaN out) or accepted; shapes that disagree may name either argument"
    names = [name, *others] if label in ("dims", "longer") else [name]
    said = lambda error: any(f"`{n}" in str(error) for n in names)  # noqa: E731
    quiet = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    try:
        with quiet[0], quiet[1]:
            found = call()
            found = list(found) if hasattr(found, "__next__") else found
    except (ValueError, TypeError, FileNotFoundError) as error:
        if said(error):
            return "named"
        last = traceback.extract_tb(error.__traceback__)[-1].filename
        return "unnamed" if last.startswith(HOME) and "`" in str(error) else "raw"
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a user would see
        if isinstance(error, TimeoutError):
            return "raw"
        return "named" if said(error) and "weightbook" in str(traceback.extract_tb(error.__traceback__)[-1]) else "raw"
    if label == "nan" and (has_nan(found) or keeps_nan(found, value)):
        return "right"
    return "accepted"


def unpacked(arguments):
    "Positional and keyword arguments of an entry"
    plain = {k: v.value if isinstance(v, (Free, Wide, Deep, Fixed)) else v for k, v in arguments.items()}
    return plain.pop("*", ()), plain


def modules():
    "The public modules"
    for found in pkgutil.walk_packages(weightbook.__path__, "weightbook."):
        if not found.ispkg and not found.name.endswith("_modidx") and "._" not in found.name:
            yield importlib.import_module(found.name)


def public():
    "full name → callable: every callable in an `__all__`, and what else has an entry; `book.head` only passes names on"
    found = {}
    for m in modules():
        short = m.__name__.removeprefix("weightbook.")
        entered = [name for name in vars(m) if f"{short}.{name}" in TABLE]
        for name in ["begin"] if short == "book.head" else dict.fromkeys([*m.__all__, *entered]):
            if callable(getattr(m, name)):
                found[f"{short}.{name}"] = (m, getattr(m, name))
    return found


def trials(name, module, function, entry):
    "argument, label, outcome for each bad input of one callable"
    for argument, value in entry(module).items():
        for label, _ in spoilt(value) if argument != "*" else ():
            arguments = entry(module)
            arguments[argument] = dict(spoilt(arguments[argument]))[label]
            positional, keywords = unpacked(arguments)
            yield (
                argument,
                label,
                outcome(lambda p=positional, k=keywords: function(*p, **k), argument, label, arguments, keywords.get(argument)),
            )


def right(name, module, function, entry):
    "The right call"
    positional, keywords = unpacked(entry(module))
    found = function(*positional, **keywords)
    return list(found) if hasattr(found, "__next__") else found


@contextlib.contextmanager
def limit(seconds):
    "TimeoutError after some seconds of computing: a busy machine makes nothing slow"

    def stop(*_):
        raise TimeoutError(f"more than {seconds} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def measure(only=""):
    "Outcomes of the whole table: rows of (name, argument, label, outcome)"
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, (module, function) in public().items():
            entry = TABLE.get(name)
            if callable(entry) and name.startswith(only):
                with limit(20):
                    rows += [(name, *row) for row in trials(name, module, function, entry)]
    return rows


def shares(rows):
    "Per cent of each outcome; NaN in, NaN out is no fault and does not count"
    count = Counter(row[3] for row in rows)
    total = sum(count.values()) - count["right"]
    return {kind: 100 * count[kind] / max(total, 1) for kind in ("named", "unnamed", "raw", "accepted")} | {"of": total}


TABLE = {}


def table(module, **entries):
    "Enter the callables of a module"
    TABLE.update({f"{module}.{name}": entry for name, entry in entries.items()})


# ---- the tables of blocks and book ----------------------------------------------------------------------------------


CONVERTER = "a converter of language models: its own battery"


def hessian(n=8):
    x = t(20, n)
    return x.T @ x + torch.eye(n)


def images(n=3):
    return torch.randint(256, (n, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


unit = lambda n, d=3: nn.functional.normalize(t(n, d), dim=-1)  # noqa: E731


def batches(m=None):
    from weightbook.blocks.training import make_batches

    return make_batches(t(6, 3), torch.arange(6) % 2, batch_size=2)


def fitting(m):
    model = net(3, 2)
    return dict(
        model=model,
        batches=batches(),
        loss=m.classification_loss,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        steps=1,
        clip=1.0,
        seed=0,
        accelerator=Fixed(m.make_accelerator("cpu")),
        progress=False,
    )


table(
    "blocks.training",
    make_batches=lambda m: dict({"*": (t(6, 3),), "batch_size": 2}),
    make_accelerator=lambda m: dict(device="cpu", mixed_precision="no"),
    bfloat16_pays=lambda m: dict(device="cpu"),
    History=RECORD,
    classification_loss=lambda m: dict(model=net(3, 2), batch=(t(4, 3), torch.tensor([0, 1, 0, 1]))),
    fit=fitting,
    accuracy=lambda m: dict(outputs=Wide(t(4, 2)), targets=torch.tensor([0, 1, 0, 1])),
    cross_entropy=lambda m: dict(outputs=Wide(t(4, 2)), targets=torch.tensor([0, 1, 0, 1])),
    evaluate=lambda m: dict(
        model=net(3, 2),
        batches=batches(),
        metrics={"accuracy": m.accuracy},
        accelerator=Fixed(m.make_accelerator("cpu")),
    ),
)


table(
    "blocks.nets",
    count_parameters=lambda m: dict(module=net(3, 2)),
    MLP=lambda m: dict(sizes=[3, 2], activation=nn.ReLU, dropout=0.1),
    make_norm=lambda m: dict(norm="group", channels=4, groups=2),
    ResidualBlock=lambda m: dict(channels=2, out_channels=4, stride=1, norm="batch"),
    SmallResNet=lambda m: dict(depth=8, classes=2, channels=1, width=2, norm="batch"),
    SmallViT=lambda m: dict(size=8, patch=4, classes=2, channels=1, width=4, depth=1, heads=2, ratio=1, dropout=0.1),
)


table(
    "blocks.study",
    Study=lambda m: dict(name=Fixed("race"), arm=lambda seed: 1.0, settings=settings(), unit=Fixed("window")),
    Results=RECORD,
)


table("blocks.corruptions", corrupt=lambda m: dict(images=Wide(images()), name="contrast", severity=5))


table(
    "blocks.data",
    Text=RECORD,
    Images=RECORD,
    fetch_file="reads the network: test_data",
    load_text=lambda m: dict(name="stdlib", settings=settings()),
    load_images=lambda m: dict(name="digits", split="train", settings=settings(), limit=3),
)


def llama(layers=1):
    from weightbook.blocks.lm import toy_llama

    return toy_llama(layers=layers, width=16, heads=2, kv_heads=1, mlp=24, vocab=31)


def ids(*shape):
    return torch.randint(31, shape or (2, 6), generator=torch.Generator().manual_seed(0))


NO_ARGUMENTS = "no arguments"


table(
    "blocks.kernels",
    jit="Triton's decorator",
    kernel_operator="a decorator for launchers: test_kernels",
    is_plain=lambda m: dict({"*": (t(3),)}),
    state_key=lambda m: dict({"*": (t(3), None)}),
    compiled_rows=BUILD,
    launch_rows=NO_ARGUMENTS,
    load_c="compiles a source of the library: test_kernels",
    use_triton=lambda m: dict({"*": (t(3),)}),
    force_kernel=NO_ARGUMENTS,
    poisoned_memory=NO_ARGUMENTS,
    poison=lambda m: dict(shape=(2, 3), like=Free(t(2))),
    Parity=RECORD,
    assert_parity="compares two functions in tests",
    scale_add_reference="the definition of scale_add, which checks its arguments",
    scale_add=lambda m: dict(x=Free(t(3)), y=t(3), alpha=1.0),
)


table(
    "blocks.lm",
    toy_llama=lambda m: dict(layers=1, width=16, heads=2, kv_heads=1, mlp=24, vocab=31, seed=0),
    LanguageModel=RECORD,
    load_lm="downloads a model: test_lm",
    token_windows="needs a tokenizer: test_lm",
    Perplexity=RECORD,
    perplexity=lambda m: dict(model=llama(), windows=Wide(ids()), score_last=2, batch_size=2),
    linear_layers=lambda m: dict(model=llama(), pattern="*q_proj"),
    replace_layers=lambda m: dict(model=llama(), pattern="*q_proj", factory=lambda name, layer: layer),
    capture_inputs=lambda m: dict(model=llama(), windows=Wide(ids()), pattern="*q_proj", batch_size=2),
)


table(
    "book.bench",
    Timing=RECORD,
    save_rows=BUILD,
    load_rows=BUILD,
    bench_table=BUILD,
    timing_rows=BUILD,
    measure_bandwidth=RACE,
    time_pairs=lambda m: dict(arms={"a": lambda: None}, repeats=1, warmup=0, device="cpu", min_time=0.001),
    floor_seconds=lambda m: dict(bytes=1, flops=1, bandwidth=1.0, peak=1.0),
    device_name=lambda m: dict(device="cpu"),
)


table(
    "book.checks",
    rms_error=lambda m: dict(actual=Free(a(3)), expected=a(3)),
    expect_fail="a context manager for tests",
    assert_close="its refusal is an AssertionError that names the difference",
    z_test=lambda m: dict(samples=Free(a(9)), expected=0.1),
    check_real=BUILD,
    check_integer=BUILD,
    check_choice=BUILD,
    check_tensor=BUILD,
    typed="a decorator",
)


table(
    "book.cli",
    **dict.fromkeys(
        (
            "app",
            "list_chapters",
            "show_ledger",
            "reproduce",
            "bench",
            "export",
            "begin_chapter",
            "site",
            "serve",
            "doctor",
            "check",
            "test",
            "main",
            "keep_arms",
            "stability",
            "verify",
        ),
        "a command: test_cli",
    ),
)


table(
    "book.figures",
    **dict.fromkeys(
        (
            "use_style",
            "style_of",
            "plot_band",
            "paper_line",
            "grouped_bars",
        ),
        "a figure of the book: test_figures",
    ),
)


table(
    "book.tables",
    **dict.fromkeys(
        ("Badge", "Lines", "Link", "Table", "format_value", "table", "compare_table"), "a table of the book: test_figures"
    ),
)


table("book.dark", draw_dark="a step of the site's build: test_site")
table("book.shape", **dict.fromkeys(("claim_ids", "name_documented", "shape_page"), "a step of the site's build: test_site"))


table(
    "book.ledger",
    **dict.fromkeys(
        ("Cost", "Ledger", "Scale", "Verdict", "ledger_table", "load_ledgers", "relative_gap", "scoreboard",
         "summary", "verdict_of"),
        BUILD,
    ),
)


def gaps(m):
    return m.estimate([1.0, 2.0, 3.0, 2.0])


table(
    "book.conditions",
    Condition=RECORD,
    Estimate=RECORD,
    State="a kind of text",
    estimate=lambda m: dict(values=[1.0, 2.0, 3.0], kind="seed", method="Student", resamples=100, seed=0),
    estimate_gap=lambda m: dict(values=[1.0, 2.0, 3.0], base=[0.5, 1.0, 1.5], ratio=False),
    above=lambda m: dict(gap=gaps(m), bound=0.0, without_control=Fixed("a toy")),
    below=lambda m: dict(gap=gaps(m), bound=9.0, without_control=Fixed("a toy")),
    contains=lambda m: dict(gap=gaps(m), value=2.0, without_control=Fixed("a toy")),
    within=lambda m: dict(gap=gaps(m), margin=5.0, around=2.0, without_control=Fixed("a toy")),
    at_least=lambda m: dict(x=2.0, bound=1.0, without_control=Fixed("a toy")),
    at_most=lambda m: dict(x=2.0, bound=3.0, without_control=Fixed("a toy")),
    exactly=lambda m: dict(ours=2.0, paper=2.0, tol=0.1, without_control=Fixed("a toy")),
    all_of=lambda m: dict(checks=Fixed([True, True]), at_least=1, without_control=Fixed("a toy")),
)


DIGEST = "a step from code to its digest: test_digest"


table(
    "book.digest",
    **dict.fromkeys(
        ("CannotDigest", "ChangedSince", "Reach", "dotted_names", "is_ours", "loaded_names", "page_digest",
         "page_imports", "plain",
         "tree_of", "walk"),
        DIGEST,
    ),
)


table(
    "book.arms",
    **dict.fromkeys(
        ("Arm", "Arms", "ArmsCost", "Finished", "arms_cost", "arms_file", "committed_arms", "cost_of", "decode", "encode",
         "finished_arms", "largest_difference", "read_arms", "report_data", "resolves_data"),
        "how results are kept: test_arms",
    ),
)


table("book.docments", document=BUILD)
table("book.head", begin=NO_ARGUMENTS)
table("book.new", Claim=RECORD, Brief=RECORD, read_brief=BUILD, new_chapter=BUILD)


table(
    "book.settings",
    Settings=RECORD,
    find_root=BUILD,
    versions=BUILD,
    write_atomic=BUILD,
    write_json=BUILD,
    resolve_device=lambda m: dict(name="cpu"),
    seed_everything=lambda m: dict(seed=1),
    require=lambda m: dict(module="json", extra="lm"),
    load_settings=lambda m: dict(profile="quick", device="cpu", seed=0),
)


table(
    "book.pages",
    **dict.fromkeys(
        ("Part", "alt_text", "chapter_name", "chapters", "checkout", "figures_of", "find_notebook", "front_matter", "notebooks",
         "planned_chapters", "read_notebook", "source_hash", "workshops", "write_notebook"),
        BUILD,
    ),
)


table(
    "book.run",
    **dict.fromkeys(
        ("ExecutionReport", "execute_notebook", "inputs_hash", "machine_paths", "refresh_pages", "stale_notebooks",
         "stamp"), BUILD
    ),
)


table(
    "book.front",
    **dict.fromkeys(
        ("Outputs", "Shown", "bibliography", "bibtex", "book_rate", "chapter_cards", "chapter_link", "fill_passport", "passport",
         "plan_table", "thumbnail_file", "write_readme"),
        BUILD,
    ),
)


table(
    "book.site",
    **dict.fromkeys(("build_site", "SiteWarning", "check_links", "remote_resources", "serve", "site_server"), BUILD),
)


# ---- the tables of the chapters: tests/chapters/fuzz_<chapter>.py --------------------------------------------------

for found in sorted(Path(__file__).with_name("chapters").glob("fuzz_*.py")):
    importlib.import_module(f"chapters.{found.stem}")
