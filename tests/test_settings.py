"""Settings: which value wins, what is refused, seeds, optional modules, versions and atomic files."""

import dataclasses
import json
import os
import random
import stat
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

import weightbook
from weightbook.book.settings import (
    PROFILES,
    Settings,
    find_root,
    load_settings,
    require,
    resolve_device,
    seed_everything,
    versions,
    write_atomic,
    write_json,
)

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("PROFILE", "DEVICE", "SEED", "DATA", "OFFLINE", "CACHE", "SAVE")


@pytest.fixture
def place(tmp_path, monkeypatch):
    "An empty working folder outside of the repository, and an environment without our variables"
    for name in NAMES:
        monkeypatch.delenv(f"WEIGHTBOOK_{name}", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings.ini").write_text("[weightbook]\ndevice = cpu\n")
    return tmp_path


def write_ini(place, text):
    (place / "settings.ini").write_text(f"[weightbook]\ndevice = cpu\n{text}\n")


# ---- which value wins ------------------------------------------------------------------------------------------------


def test_defaults(place):
    settings = load_settings()
    assert (settings.profile, settings.device, settings.seed) == ("quick", "cpu", 0)
    assert (settings.data, settings.offline, settings.save) == (None, False, False)
    assert settings.cache.name == "weightbook" and settings.cache.is_absolute()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("profile", ("book", "paper", "quick")),
        ("seed", (3, 5, 7)),
        ("offline", (True, False, True)),
        ("cache", ("one", "two", "three")),
        ("data", ("one", "two", "three")),
    ],
)
def test_argument_beats_environment_beats_file(place, monkeypatch, name, values):
    for folder in ("one", "two", "three"):
        (place / folder).mkdir()
    wanted = [place / value if isinstance(value, str) and name in ("cache", "data") else value for value in values]
    write_ini(place, f"{name} = {values[0]}")
    assert getattr(load_settings(), name) == wanted[0]
    monkeypatch.setenv(f"WEIGHTBOOK_{name.upper()}", str(values[1]))
    assert getattr(load_settings(), name) == wanted[1]
    assert getattr(load_settings(**{name: values[2]}), name) == wanted[2]


def test_an_empty_variable_is_no_variable(place, monkeypatch):
    write_ini(place, "seed = 3\ndata =")
    monkeypatch.setenv("WEIGHTBOOK_SEED", " ")
    assert load_settings().seed == 3
    assert load_settings().data is None


def test_the_nearest_file_of_ours_counts(place, monkeypatch):
    write_ini(place, "seed = 3")
    inner = place / "a" / "b"
    inner.mkdir(parents=True)
    (place / "a" / "settings.ini").write_text("[DEFAULT]\nlib_name = another tool\n")
    monkeypatch.chdir(inner)
    assert load_settings().seed == 3
    (inner / "settings.ini").write_text("[weightbook]\ndevice = cpu\nseed = 4\n")
    assert load_settings().seed == 4


def test_the_file_beside_the_package_is_found_from_anywhere(place, monkeypatch):
    (place / "settings.ini").unlink()
    fake = place / "repository"
    (fake / "nbs").mkdir(parents=True)
    (fake / "weightbook").mkdir()
    (fake / "pyproject.toml").write_text("[tool.nbdev]\n")
    (fake / "settings.ini").write_text("[weightbook]\ndevice = cpu\nseed = 6\n")
    monkeypatch.setattr(weightbook, "__file__", str(fake / "weightbook" / "__init__.py"))
    assert load_settings().seed == 6


def test_without_any_file_the_defaults_hold(place, monkeypatch):
    (place / "settings.ini").unlink()
    monkeypatch.setattr(weightbook, "__file__", str(place / "weightbook" / "__init__.py"))
    assert find_root() is None
    assert load_settings(device="cpu", cache="kept").cache == place / "kept"


def test_relative_folders_start_at_the_file_that_names_them(place, monkeypatch):
    (place / "sets").mkdir()
    (place / "inner").mkdir()
    write_ini(place, "data = sets\ncache = kept")
    monkeypatch.chdir(place / "inner")
    assert load_settings().data == place / "sets"
    assert load_settings().cache == place / "kept"


def test_home_is_expanded_and_percent_signs_are_plain(place, monkeypatch):
    monkeypatch.setenv("HOME", str(place))
    write_ini(place, "cache = ~/100%/kept")
    assert load_settings().cache == place / "100%" / "kept"


def test_hugging_face_offline_counts(place, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert load_settings().offline
    assert not load_settings(offline=False).offline
    monkeypatch.setenv("WEIGHTBOOK_OFFLINE", "0")
    assert not load_settings().offline


def test_only_the_environment_can_ask_for_saving(place, monkeypatch):
    monkeypatch.setenv("WEIGHTBOOK_SAVE", "1")
    assert load_settings().save
    monkeypatch.delenv("WEIGHTBOOK_SAVE")
    write_ini(place, "save = 1")
    with pytest.raises(ValueError, match="`save` is no setting"):
        load_settings()


# ---- what is refused -------------------------------------------------------------------------------------------------

WRONG = [
    ("profile", "fast", "`profile` must be one of quick, book, paper, got 'fast'"),
    ("profile", "Quick", "must be one of"),
    ("seed", "-1", "an integer from 0 to 4294967295"),
    ("seed", "4294967296", "an integer from 0"),
    ("seed", "1.5", "an integer from 0"),
    ("seed", "١٢", "an integer from 0"),
    ("offline", "maybe", "1 or 0"),
    ("device", "gpu", "auto, cpu, cuda, cuda:N or mps"),
    ("device", "cuda:", "auto, cpu, cuda, cuda:N or mps"),
    ("data", "not/here", "an existing folder"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG)
def test_a_wrong_value_says_where_it_came_from(place, monkeypatch, name, value, message):
    sources = {"from an argument": {name: value}, f"from environment variable WEIGHTBOOK_{name.upper()}": {}}
    for origin, arguments in sources.items():
        if not arguments:
            monkeypatch.setenv(f"WEIGHTBOOK_{name.upper()}", value)
        with pytest.raises(ValueError) as refused:
            load_settings(**arguments)
        assert message in str(refused.value) and origin in str(refused.value)
    monkeypatch.delenv(f"WEIGHTBOOK_{name.upper()}")
    (place / "settings.ini").write_text(f"[weightbook]\n{name} = {value}\n", encoding="utf-8")
    with pytest.raises(ValueError) as refused:
        load_settings()
    assert str(place / "settings.ini") in str(refused.value)


@pytest.mark.parametrize("wrong", [{"seed": True}, {"seed": 1.0}, {"seed": None, "cache": 3}, {"profile": ["quick"]}])
def test_arguments_of_the_wrong_kind(place, wrong):
    with pytest.raises(ValueError, match="must be"):
        load_settings(**wrong)


def test_a_file_where_a_folder_should_be(place):
    (place / "plain").write_text("")
    for name in ("data", "cache"):
        with pytest.raises(ValueError, match="folder"):
            load_settings(**{name: place / "plain"})


@pytest.mark.parametrize("text", ["[weightbook]\nseed = 1\nseed = 2\n", "seed = 1\n[weightbook]\n"])
def test_a_malformed_file_is_named(place, text):
    (place / "settings.ini").write_text(text)
    with pytest.raises(ValueError, match=r"settings\.ini cannot be read"):
        load_settings()


def test_a_misspelled_key_is_refused(place):
    write_ini(place, "sed = 3")
    with pytest.raises(ValueError, match="did you mean seed"):
        load_settings()


# ---- the object ------------------------------------------------------------------------------------------------------


def make(**changes):
    fields = dict(profile="quick", device="cpu", seed=0, data=None, offline=True, cache=Path("c"), save=False)
    return Settings(**(fields | changes))


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().seed = 1


@pytest.mark.parametrize(
    ("sizes", "picked"),
    [
        (dict(quick=1), (1, 1, 1)),
        (dict(quick=1, book=2), (1, 2, 2)),
        (dict(quick=1, paper=3), (1, 1, 3)),
        (dict(quick=1, book=2, paper=3), (1, 2, 3)),
        (dict(quick=1, book=None), (1, None, None)),
    ],
)
def test_pick(sizes, picked):
    assert tuple(make(profile=profile).pick(**sizes) for profile in PROFILES) == picked


def test_the_seeds_of_two_settings_are_disjoint():
    assert make(seed=0).seeds(3) == [0, 1, 2] and make(seed=7).seeds(2) == [7000, 7001]
    assert not set(make(seed=0).seeds(1000)) & set(make(seed=1).seeds(1000))


@pytest.mark.parametrize("count", [0, 1001, 2.0, True, "3"])
def test_the_number_of_seeds_is_checked(count):
    with pytest.raises(ValueError, match="`count` must be an integer from 1 to 1000"):
        make().seeds(count)


def test_results_go_where_the_run_may_write(tmp_path, monkeypatch):
    monkeypatch.delenv("WEIGHTBOOK_STAGE", raising=False)
    assert make(cache=tmp_path).output("nbs/ledger") == tmp_path / "ledger"
    assert make(cache=tmp_path, save=True).output("nbs/ledger") == find_root() / "nbs" / "ledger"
    monkeypatch.setenv("WEIGHTBOOK_STAGE", str(tmp_path / "stage"))
    assert make(cache=tmp_path, save=True).output("nbs/ledger") == tmp_path / "stage" / "nbs" / "ledger"
    assert make(cache=tmp_path).output("nbs/ledger") == tmp_path / "ledger"


@pytest.mark.parametrize(
    ("cuda", "mps", "asked", "answer"),
    [
        (0, False, "auto", "cpu"),
        (0, True, "auto", "mps"),
        (2, True, "auto", "cuda"),
        (2, False, "cuda:1", "cuda:1"),
        (2, False, "cuda", "cuda"),
        (2, True, "mps", "mps"),
        (2, True, "cpu", "cpu"),
        (2, False, "cuda:2", "which has cuda, cuda:0, cuda:1, cpu"),
        (0, False, "cuda", "which has cpu"),
        (0, False, "mps", "which has cpu"),
    ],
)
def test_resolve_device(monkeypatch, cuda, mps, asked, answer):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    if answer.startswith("which"):
        with pytest.raises(ValueError, match=answer):
            resolve_device(asked)
    else:
        assert resolve_device(asked) == answer


@pytest.mark.parametrize("name", ["", "CPU", "cuda:-1", "tpu", None, 0])
def test_resolve_device_refuses(name):
    with pytest.raises(ValueError, match="`device` must be"):
        resolve_device(name)


def test_seed_everything():
    draws = []
    for seed in (1, 1, 2):
        seed_everything(seed)
        draws.append((random.random(), np.random.random(), torch.rand(1).item()))
    assert draws[0] == draws[1] and all(a != b for a, b in zip(draws[0], draws[2], strict=True))
    for wrong in (-1, 2**32, True, 1.0):
        with pytest.raises(ValueError, match="`seed` must be an integer"):
            seed_everything(wrong)


def test_require(tmp_path, monkeypatch):
    assert require("json.decoder", extra="lm").__name__ == "json.decoder"
    for name in ("nobody_has_this", "nobody_has_this.inside"):
        with pytest.raises(ImportError) as missing:
            require(name, extra="lm")
        assert str(missing.value) == f"`{name}` is missing: pip install 'weightbook[lm]'"
    (tmp_path / "half_installed.py").write_text("import something_else_that_is_missing\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="something_else"):
        require("half_installed", extra="lm")


def test_versions():
    assert versions("torch", "nobody-has-this") == {
        "python": ".".join(map(str, sys.version_info[:3])),
        "torch": versions()["torch"],
    }
    assert versions()["weightbook"] == weightbook.__version__


# ---- repository ------------------------------------------------------------------------------------------------------


def test_find_root(tmp_path, monkeypatch):
    assert find_root(ROOT / "nbs" / "book") == ROOT
    project = tmp_path / "project"
    (project / "nbs").mkdir(parents=True)
    monkeypatch.setattr(weightbook, "__file__", str(tmp_path / "site-packages" / "weightbook" / "__init__.py"))
    for text in ("", "[project]\n", "[tool.nbdev]\nlib_path = 'another'\n", "[broken"):
        (project / "pyproject.toml").write_text(text)
        assert find_root(project / "nbs") is None
    (project / "pyproject.toml").write_text("[tool.nbdev]\nlib_path = 'weightbook'\n")
    assert find_root(project / "nbs") == project
    monkeypatch.chdir(project)
    assert find_root() == project


# ---- files -----------------------------------------------------------------------------------------------------------


def test_write_atomic_keeps_line_ends_and_bytes(tmp_path):
    assert write_atomic(tmp_path / "new" / "text", "a\r\nβ\n") == tmp_path / "new" / "text"
    assert (tmp_path / "new" / "text").read_bytes() == "a\r\nβ\n".encode()
    write_atomic(tmp_path / "bytes", b"\x00\xff")
    assert (tmp_path / "bytes").read_bytes() == b"\x00\xff"


@pytest.mark.skipif(os.name != "posix", reason="file modes and links of POSIX")
def test_write_atomic_keeps_mode_and_link(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    write_atomic(link, "new")
    assert link.is_symlink() and target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = write_atomic(tmp_path / "file", "old")

    def fail(*args):
        raise OSError("disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="disk is full"):
            write_atomic(path, "new")
    with pytest.raises(TypeError):
        write_atomic(path, 3)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]


def test_writers_at_the_same_moment_leave_one_whole_file(tmp_path):
    path, texts = tmp_path / "file", [str(i) * 50_000 for i in range(8)]
    threads = [threading.Thread(target=write_atomic, args=(path, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts and os.listdir(tmp_path) == ["file"]


def test_write_json(tmp_path):
    path = write_json(tmp_path / "a.json", {"wo": "Köln", "n": 1})
    assert path.read_text(encoding="utf-8") == '{\n "wo": "Köln",\n "n": 1\n}\n'
    for wrong, kind in ((float("nan"), ValueError), (float("inf"), ValueError), ({1, 2}, TypeError)):
        with pytest.raises(kind):
            write_json(path, wrong)
    assert json.loads(path.read_text(encoding="utf-8"))["n"] == 1
