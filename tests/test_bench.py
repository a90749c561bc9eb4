"""Benchmarks: the race is fair, the rows are what was measured, and files are never half-written."""

import gc
import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from weightbook.book import bench
from weightbook.book import settings as settings_module
from weightbook.book.bench import (
    Timing,
    bench_table,
    device_name,
    floor_seconds,
    load_rows,
    measure_bandwidth,
    save_rows,
    time_pairs,
    timing_rows,
)
from weightbook.book.settings import load_settings

TIMING = Timing(2e-3, 1e-3, 3e-3, 0.5, 0.4, 0.6, 20)
ROW = {"case": "small", "arm": "dense", "ratio": 1.0}


@pytest.fixture
def settings(tmp_path):
    return replace(load_settings(device="cpu"), cache=tmp_path, save=False)


# ---- the race --------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    "A sampler on a machine that slows down by half from sample to sample; records who was called how often"
    log = []

    def sample(call, calls):
        log.append((call.__name__, calls))
        call()
        return call.seconds * 1.5 ** (sum(n == call.__name__ for n, _ in log) - 1)

    monkeypatch.setitem(bench._SAMPLERS, "cpu", sample)
    return log


def arm(name: str, seconds: float):
    def call():
        return None

    call.__name__, call.seconds = name, seconds
    return call


def test_the_ratio_survives_a_drifting_machine(clock):
    made = time_pairs({"a": arm("a", 0.02), "b": arm("b", 0.05)}, repeats=15, warmup=0)
    assert made["b"].ratio == pytest.approx(2.5) and made["b"].ratio_high == pytest.approx(made["b"].ratio_low)
    assert made["a"].ratio == 1.0 and made["b"].speedup == pytest.approx(0.4)
    assert made["a"].low < made["a"].median < made["a"].high and made["a"].repeats == 15


def test_every_arm_is_first_equally_often_and_warmed_up(clock):
    time_pairs({n: arm(n, 0.02) for n in "abc"}, repeats=6, warmup=4)
    assert clock[:3] == [("a", 4), ("b", 4), ("c", 4)]
    rounds = ["".join(n for n, _ in clock[i : i + 3]) for i in range(6, len(clock), 3)]
    assert rounds == ["abc", "bca", "cab"] * 2


def test_short_calls_are_repeated_within_a_sample(clock):
    time_pairs({"a": arm("a", 0.003), "b": arm("b", 1.0)}, repeats=1, warmup=0, min_time=0.01)
    assert clock[2:] == [("a", 4), ("b", 1)]


def test_cold_samples_are_single_calls_behind_an_eviction(clock, monkeypatch):
    evicted = []
    monkeypatch.setattr(bench, "_evict", lambda device: lambda: evicted.append(len(clock)))
    time_pairs({"a": arm("a", 1e-5), "b": arm("b", 1e-5)}, repeats=3, warmup=0, cold=True)
    assert clock == [(n, 1) for n in "abbaab"] and evicted == [0, 1, 2, 3, 4, 5]


def test_eviction_overwrites_real_memory(monkeypatch):
    monkeypatch.setattr(bench, "_SCRATCH_BYTES", 100)
    assert bench._evict("cpu")().sum() == 0


def test_threads_and_garbage_collection_are_left_as_they_were():
    def fails():
        assert not gc.isenabled()
        raise KeyError

    threads = torch.get_num_threads()
    with pytest.raises(KeyError):
        time_pairs({"a": fails})
    assert gc.isenabled() and torch.get_num_threads() == threads
    gc.disable()
    try:
        time_pairs({"a": list}, repeats=1, min_time=0)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_cuda_is_timed_by_events(monkeypatch):
    order = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            order.append("record")

        def synchronize(self):
            order.append("wait")

        def elapsed_time(self, end):
            return 12.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    assert bench._cuda_sample(lambda: order.append("call"), 3) == pytest.approx(0.004)
    assert order == ["record", "call", "call", "call", "record", "wait"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"arms": {}}, ValueError, "at least one name"), ({"arms": [list]}, ValueError, "at least one name"),
        ({"arms": {"a": 1}}, TypeError, "got int for 'a'"), ({"repeats": 0}, ValueError, "`repeats`"),
        ({"warmup": -1}, ValueError, "`warmup`"), ({"min_time": -1.0}, ValueError, "`min_time`"),
        ({"device": "tpu"}, ValueError, "`device`"), ({"repeats": 2.5}, TypeError, "`repeats`"),
    ],
)  # fmt: skip
def test_bad_races_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        time_pairs(**({"arms": {"a": list}} | options))


# ---- floor and bandwidth ---------------------------------------------------------------------------------------------

amounts, rates = st.floats(1, 1e15), st.floats(1, 1e15)


@given(amounts, amounts, rates, rates)
def test_the_floor_is_the_slower_of_the_two(size, work, bandwidth, peak):
    floor = floor_seconds(bytes=size, flops=work, bandwidth=bandwidth, peak=peak)
    assert floor in (size / bandwidth, work / peak) and floor >= size / bandwidth and floor >= work / peak
    assert floor_seconds(bytes=size, bandwidth=bandwidth) == size / bandwidth


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bytes": 1}, "`bandwidth` must be given"), ({"flops": 1, "bandwidth": 1}, "`peak` must be given"),
        ({"bytes": -1}, "`bytes`"), ({"bytes": 1, "bandwidth": 0}, "`bandwidth`"), ({"flops": float("nan")}, "`flops`"),
    ],
)  # fmt: skip
def test_bad_floors_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        floor_seconds(**options)


def test_bandwidth_is_bytes_over_the_fastest_sample(monkeypatch):
    times = iter([9.0, 0.5, 0.25, 1.0])
    monkeypatch.setitem(bench._SAMPLERS, "cpu", lambda call, calls: next(times))
    assert measure_bandwidth(size=4000, repeats=3) == 16000
    with pytest.raises(ValueError, match="`size`"):
        measure_bandwidth(size=3)


# ---- rows ------------------------------------------------------------------------------------------------------------


def test_seconds_are_kept_for_gpus_only(monkeypatch, settings):
    cpu = timing_rows("wina", "small", {"dense": TIMING}, m=3)[0]
    assert "seconds" not in cpu and cpu["threads"] == torch.get_num_threads() and cpu["m"] == 3
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    gpu = timing_rows("wina", "small", {"dense": TIMING}, device="cuda", bytes={"dense": 5})[0]
    assert (gpu["seconds"], gpu["bytes"], gpu["device"]) == (2e-3, 5, "nvidia-h100-80gb-hbm3")
    save_rows("wina", [gpu], settings=settings)
    assert not any(key.startswith("seconds") for key in load_rows(folder=settings.cache / "bench")[0])
    path = save_rows("wina", [gpu], settings=replace(settings, device="cuda"))
    assert path.parts[-2:] == ("nvidia-h100-80gb-hbm3", "wina.json")
    assert json.loads(path.read_text())["rows"][0]["seconds"] == 2e-3
    assert device_name("cuda:1") == "nvidia-h100-80gb-hbm3"


def test_rows_merge_by_chapter_case_and_arm(settings):
    save_rows("wina", [ROW, ROW | {"arm": "floor", "ratio": 0.3}], settings=settings)
    save_rows("other", [ROW], settings=settings)
    path = save_rows("wina", [ROW | {"ratio": 2.0}], settings=settings)
    folder = path.parents[1]
    rows = load_rows(folder=folder)
    assert [(r["chapter"], r["arm"], r["ratio"]) for r in rows] == [
        ("other", "dense", 1.0), ("wina", "dense", 2.0), ("wina", "floor", 0.3),
    ]  # fmt: skip
    assert load_rows("other", folder=folder) == rows[:1]
    assert set(rows[0]) >= {"device", "versions", "date"} and "torch" in rows[0]["versions"]


def test_two_chapters_write_nothing_in_common_and_compiled_kernels_are_no_races(settings):
    first = save_rows("wina", [ROW], settings=settings)
    before = first.read_bytes()
    second = save_rows("other", [ROW], settings=settings)
    assert first.read_bytes() == before and (first.name, second.name) == ("wina.json", "other.json")
    aot = first.parents[1] / "aot"
    aot.mkdir()
    (aot / "sm_90.json").write_text("{}")
    assert len(load_rows(folder=aot.parent)) == 2
    with pytest.raises(ValueError, match="`chapter`"):
        save_rows("../wina", [ROW], settings=settings)


def test_the_stored_rows_belong_to_the_chapter_of_their_file():
    folder = bench.find_root() / "bench"
    files = [path for path in folder.glob("*/*.json") if path.parent.name != "aot"]
    assert files
    for path in files:
        assert {row["chapter"] for row in load_rows(path.stem, folder=folder)} == {path.stem} - {"parity"}  # which has no races


def test_only_a_saving_run_writes_into_the_repository(settings, tmp_path, monkeypatch):
    root = tmp_path / "clone"
    monkeypatch.setattr(bench, "find_root", lambda: root)
    monkeypatch.setattr(settings_module, "find_root", lambda: root)
    assert save_rows("wina", [ROW], settings=settings) == settings.cache / "bench" / "cpu" / "wina.json" and load_rows() == []
    assert save_rows("wina", [ROW], settings=replace(settings, save=True)) == root / "bench" / "cpu" / "wina.json"
    assert len(load_rows()) == 1
    monkeypatch.setattr(bench, "find_root", lambda: None)
    monkeypatch.setattr(settings_module, "find_root", lambda: None)
    assert load_rows() == []
    with pytest.raises(FileNotFoundError, match="inside a clone"):
        save_rows("wina", [ROW], settings=replace(settings, save=True))


@pytest.mark.parametrize("text", ["", '{"rows": [', "[]", '{"rows": [1]}', '{"rows": [{"case": "a"}]}', '{"device": "cpu"}'])
def test_a_broken_file_is_named_and_left_alone(settings, text):
    path = settings.cache / "bench" / "cpu" / "wina.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    for call in (lambda: save_rows("wina", [ROW], settings=settings), lambda: load_rows(folder=path.parents[1])):
        with pytest.raises(ValueError, match=r"wina\.json is no file of benchmark rows"):
            call()
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"case": ""}, "a text `case`"), ({"arm": None}, "a text `arm`"), ({"ratio": 0.0}, "`ratio`"),
        ({"ratio": float("inf")}, "must be finite"), ({"ratio": None}, "`ratio`"), ({"chapter": "other"}, "chapter 'wina'"),
        ({"bytes": float("nan")}, "`bytes` of arm 'dense' must be finite"),
    ],
)  # fmt: skip
def test_bad_rows_are_refused_before_anything_is_written(settings, row, message):
    with pytest.raises((ValueError, TypeError), match=message):
        save_rows("wina", [ROW, ROW | row], settings=settings)
    assert not (settings.cache / "bench").exists()


# ---- the table -------------------------------------------------------------------------------------------------------


def test_the_table_shows_what_was_recorded():
    spread = {"ratio_low": 0.4, "ratio_high": 0.6}
    dense = ROW | {"device": "cpu", "date": "2026-01-02"}
    rows = [dense, dense | {"arm": "WINA", "ratio": 0.5} | spread]
    made = bench_table(rows, "Race")
    assert made.columns == ("case", "arm", "relative time", "20–80 %", "speed-up") and made.caption == "Race (cpu 2026-01-02)"
    assert made.text()[1] == ["small", "WINA", "0.500", "0.400–0.600", "2.00×"]
    both = bench_table([*rows, ROW | {"device": "gpu", "seconds": 1.5e-5, "bytes": 2e6}], "Race")
    assert both.columns[2] == "device" and both.text()[2][-2:] == ["15.0", "2.0"]
    assert "nothing measured yet" in bench_table([], "Race")._repr_html_()
