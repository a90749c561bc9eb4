"""Arms and seeds to a tidy table, paired comparisons, tables and figures."""

import math
import threading
import time

import matplotlib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

from weightbook.blocks.study import Results, Study  # noqa: E402
from weightbook.book.conditions import Estimate, above, below  # noqa: E402
from weightbook.book.figures import use_style  # noqa: E402

SEEDS = [3, 1, 4, 7]
SHIFT = {"rtn": 0.0, "dsq": -0.5, "gptq": -0.2}


def measure(seed, method="rtn", rate=1.0, windows=12):
    "A loss by window: common noise of the seed, own noise of the method, and the method's effect"
    common, own = np.random.default_rng(seed), np.random.default_rng([seed, len(method), ord(method[0])])
    loss = 3 + common.normal() + common.normal(size=windows) + 0.1 * own.normal(size=windows) + SHIFT[method] * rate
    return {"loss": loss, "total": loss.sum(), "bits": 3, "name": method, "ragged": [[1], [1, 2]], "grid": np.ones((2, 2))}


ARMS = {name: {"method": name} for name in SHIFT}


@pytest.fixture(scope="module")
def found():
    return Study("toy", measure).run(ARMS, seeds=SEEDS)


@pytest.fixture(autouse=True)
def closed():
    use_style()
    yield
    plt.close("all")


def truth(metric, arm, by="seed"):
    runs = np.array([measure(seed, arm)[metric] for seed in SEEDS])
    return runs.mean(axis=0) if by == "window" else runs.reshape(len(SEEDS), -1).mean(axis=1)


# ---- running ---------------------------------------------------------------------------------------------------------


def test_the_tidy_table(found):
    frame = found.frame
    assert list(frame.columns) == ["arm", "seed", "metric", "place", "value", "seconds"]
    assert len(frame) == 3 * 4 * (12 + 1 + 1) and set(frame.metric) == {"loss", "total", "bits"}
    one = frame[(frame.arm == "dsq") & (frame.seed == 4) & (frame.metric == "loss")]
    assert one.place.tolist() == list(range(12)) and one.value.tolist() == measure(4, "dsq")["loss"].tolist()
    assert frame[frame.metric == "bits"].place.isna().all()
    wide = frame.groupby(["arm", "seed", "metric"]).value.mean().unstack("arm").xs("loss", level="metric")
    assert (wide.dsq - wide.rtn).mean() == pytest.approx(found.compare("loss", arm="dsq", base="rtn").mean)
    assert pd.api.types.is_float_dtype(frame.value) and (frame.seconds >= 0).all()
    assert found.seeds == SEEDS and list(found.arms) == list(ARMS)


def test_raw_values_are_kept(found):
    assert found.raw("gptq", 7)["name"] == "gptq" and found.raw("gptq", 7)["grid"].shape == (2, 2)
    for arm, seed in (("none", 7), ("gptq", 2)):
        with pytest.raises(ValueError, match="must be one"):
            found.raw(arm, seed)


def test_a_number_alone_is_called_value():
    found = Study("toy", lambda seed, up: seed + up).run({"a": {"up": 1}, "b": {"up": 3}}, seeds=[0, 5])
    assert found.compare("value", arm="b", base="a").mean == 2


def test_seconds_are_those_of_the_runs():
    def slow(seed):
        time.sleep(0.05)
        return seed

    found = Study("toy", slow).run({"a": {}}, seeds=[1, 2])
    assert 0.1 <= found.seconds < 0.5 and (found.frame.seconds >= 0.05).all()
    assert found.oldest.startswith("20") and found.oldest == min(stamp["date"] for stamp in found.stamps)


class Cached:
    "An arm that keeps what is finished, as `book.arms` gives it"

    class Done:
        def __init__(self, value, seconds, date):
            self.value, self.stamp = value, {"key": "x", "seconds": seconds, "date": date}

    def __init__(self):
        self.asked, self.ran, self.kept = [], 0, {}

    def __call__(self, **call):
        raise AssertionError("an arm with `many` is asked for all calls at once")

    def many(self, calls, *, jobs=None, desc=""):
        self.asked.append((len(calls), jobs, desc))
        for call in calls:
            key = tuple(sorted(call.items()))
            if key not in self.kept:
                self.ran += 1
                self.kept[key] = self.Done(measure(**call), float(self.ran), f"2026-01-{self.ran:02}")
        return [self.kept[tuple(sorted(call.items()))] for call in calls]


def test_finished_arms_are_asked_for_all_calls_at_once(found):
    arm = Cached()
    first = Study("toy", arm).run(ARMS, seeds=SEEDS[:2], jobs=2)
    again = Study("toy", arm).run(ARMS, seeds=SEEDS, jobs=2)
    assert arm.asked == [(6, 2, "toy"), (12, 2, "toy")] and arm.ran == 12  # the first six are not run again
    pd.testing.assert_frame_equal(again.frame.drop(columns="seconds"), found.frame.drop(columns="seconds"))
    assert (first.seconds, again.seconds, again.oldest) == (21.0, 78.0, "2026-01-01")


def test_jobs_and_threads_give_the_same_numbers(found):
    import joblib

    with joblib.parallel_config(backend="threading", n_jobs=3):
        threads = Study("toy", measure).run(ARMS, seeds=SEEDS)
    processes = Study("toy", measure).run(ARMS, seeds=SEEDS, jobs=2)
    for other in (threads, processes):
        pd.testing.assert_frame_equal(other.frame.drop(columns="seconds"), found.frame.drop(columns="seconds"))


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same_numbers(found):
    import joblib

    distributed = pytest.importorskip("distributed")

    def local(seed, method):  # travels by value: the workers do not know this file
        import os

        rng = np.random.default_rng([seed, len(method), ord(method[0])])
        return {"loss": rng.normal(size=5), "process": os.getpid()}

    here = Study("toy", local).run(ARMS, seeds=SEEDS)
    options = dict(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)  # with one worker joblib stays here
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster):
        with joblib.parallel_config(backend="dask"):
            there = Study("toy", local).run(ARMS, seeds=SEEDS)
    pids = [set(f.frame[f.frame.metric == "process"].value) for f in (here, there)]
    assert not pids[0] & pids[1]  # it did run elsewhere
    one, two = (f.frame[f.frame.metric == "loss"].drop(columns="seconds").reset_index(drop=True) for f in (here, there))
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    assert str(here.compare("loss", arm="dsq", base="rtn")) == str(there.compare("loss", arm="dsq", base="rtn"))


def test_settings_give_the_seeds():
    class Replication:
        def seeds(self, n):
            return list(range(100, 100 + n))

    assert Study("toy", measure, settings=Replication()).run(ARMS, seeds=3).seeds == [100, 101, 102]
    assert Study("toy", measure, settings=Replication()).run(ARMS, seeds=[5]).seeds == [5]
    with pytest.raises(TypeError, match="`seeds` must be a sequence"):
        Study("toy", measure).run(ARMS, seeds=3)


@pytest.mark.parametrize(
    ("arms", "seeds", "kind", "message"),
    [
        ({}, [0], TypeError, "`arms` must be a mapping"),
        ([{}], [0], TypeError, "`arms` must be a mapping"),
        ({1: {}}, [0], TypeError, "`arms` must map a name"),
        ({"a": 3}, [0], TypeError, "`arms` must map a name"),
        ({"a": {"seed": 1}}, [0], ValueError, "leave the seed to `seeds`"),
        (ARMS, [], ValueError, "`seeds` must be different numbers"),
        (ARMS, [1, 1], ValueError, "`seeds` must be different numbers"),
        (ARMS, [True], TypeError, "`seeds` must"),
        (ARMS, [-1], ValueError, "`seeds` must"),
        (ARMS, [0.5], TypeError, "`seeds` must"),
    ],
)
def test_a_study_refuses(arms, seeds, kind, message):
    with pytest.raises(kind, match=message):
        Study("toy", measure).run(arms, seeds=seeds)


def test_an_arm_that_fails_is_not_swallowed():
    with pytest.raises(KeyError, match="awq"):
        Study("toy", measure).run({"awq": {"method": "awq"}}, seeds=[0])
    with pytest.raises(TypeError, match="`arm` must be a function"):
        Study("toy", 3)


# ---- comparisons -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["loss", "total"])
def test_arms_are_paired_by_seed(found, metric):
    ours = found.compare(metric, arm="dsq", base="rtn")
    theirs = stats.ttest_rel(truth(metric, "dsq"), truth(metric, "rtn")).confidence_interval()
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-9)
    unpaired = stats.ttest_ind(truth(metric, "dsq"), truth(metric, "rtn")).confidence_interval()
    assert ours.half < 0.5 * (unpaired.high - unpaired.low) / 2  # the spread that both share has dropped out
    assert (ours.n, ours.kind, ours.method, ours.neutral) == (4, "seed", "Student", 0)
    assert ours.label == f"{metric}, dsq − rtn"


def test_arms_are_paired_by_window(found):
    ours = found.compare("loss", arm="dsq", base="rtn", by="window")
    gap = truth("loss", "dsq", "window") - truth("loss", "rtn", "window")
    resampled = gap[np.random.default_rng(9).integers(12, size=(40_000, 12))].mean(axis=1)
    assert ours.mean == pytest.approx(gap.mean())
    assert [ours.low, ours.high] == pytest.approx(np.quantile(resampled, [0.025, 0.975]), abs=3e-3)
    assert str(ours).endswith("(95 % bootstrap over 12 windows, mean of 4 seeds)")
    single = Study("toy", measure, unit="test case").run(ARMS, seeds=[2]).compare("loss", arm="dsq", base="rtn", by="window")
    assert str(single).endswith("(95 % bootstrap over 12 test cases, one run)") and single.decided
    with pytest.raises(ValueError, match="`by` must be 'seed' where 'total'"):
        found.compare("total", arm="dsq", base="rtn", by="window")


def test_ratios(found):
    ours = found.compare("loss", arm="dsq", base="rtn", ratio=True)
    assert ours.mean == pytest.approx(stats.gmean(truth("loss", "dsq") / truth("loss", "rtn")))
    assert ours.neutral == 1 and ours.label == "loss, dsq ÷ rtn"
    assert below(ours, without_control="toy").state == ("true" if ours.high < 1 else "undecided")


def test_a_single_arm(found):
    ours, theirs = found.value("loss", "dsq"), stats.ttest_1samp(truth("loss", "dsq"), 0).confidence_interval()
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high)) and math.isnan(ours.neutral)
    windows = found.value("loss", "dsq", by="window")
    assert windows.n == 12 and windows.method == "bootstrap" and windows.mean == pytest.approx(ours.mean)


def test_one_seed_decides_nothing():
    single = Study("toy", measure).run(ARMS, seeds=[2])
    gap = single.compare("loss", arm="dsq", base="rtn")
    assert (gap.low, gap.high, gap.n) == (-math.inf, math.inf, 1) and math.isinf(gap.half)
    assert below(gap, without_control="toy").state == above(gap, without_control="toy").state == "undecided"
    assert "1 seed, no interval" in single.table("loss", base="rtn").caption
    for figure in (single.bars("loss"), single.bars("loss", base="rtn")):
        bars = [segment for bar in figure.axes[0].collections for segment in bar.get_segments()]
        assert all(len(segment) == 0 for segment in bars)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_diverged_run_is_not_averaged_away(bad):
    def arm(seed, kind):
        return {"loss": np.array([1.0, bad if (seed, kind) == (1, "b") else 2.0 + seed])}

    found = Study("toy", arm).run({"a": {"kind": "a"}, "b": {"kind": "b"}}, seeds=[0, 1, 2])
    gap = found.compare("loss", arm="b", base="a")
    assert not gap.decided and not math.isfinite(gap.mean) and "not finite" in str(gap)
    assert below(gap, 100, without_control="toy").state == above(gap, -100, without_control="toy").state == "undecided"
    assert not found.compare("loss", arm="b", base="a", by="window").decided
    assert found.value("loss", "a").decided


@settings(max_examples=25, deadline=None)
@given(st.permutations(list(ARMS)), st.permutations(SEEDS), st.sampled_from(["seed", "window"]))
def test_the_order_of_arms_and_seeds_does_not_matter(arms, seeds, by):
    one = Study("toy", measure).run(ARMS, seeds=SEEDS)
    two = Study("toy", measure).run({name: ARMS[name] for name in arms}, seeds=seeds)
    pair = [found.compare("loss", arm="dsq", base="rtn", by=by) for found in (one, two)]
    assert [pair[0].low, pair[0].mean, pair[0].high] == pytest.approx([pair[1].low, pair[1].mean, pair[1].high], rel=1e-12)
    assert set(one.table("loss").rows) == set(two.table("loss").rows)


def test_results_are_merged():
    study = Study("toy", measure)
    whole = study.run(ARMS, seeds=SEEDS)
    by_arm = study.run({"rtn": ARMS["rtn"]}, seeds=SEEDS) | study.run({k: ARMS[k] for k in ("dsq", "gptq")}, seeds=SEEDS)
    by_seed = study.run(ARMS, seeds=SEEDS[:2]) | study.run(ARMS, seeds=SEEDS[2:])
    for merged in (by_arm, by_seed):
        assert merged.compare("loss", arm="dsq", base="rtn") == whole.compare("loss", arm="dsq", base="rtn")
        assert isinstance(merged, Results) and merged.seeds == SEEDS
    with pytest.raises(ValueError, match="in both"):
        whole | study.run(ARMS, seeds=SEEDS[:1])
    with pytest.raises(ValueError, match="same options"):
        whole | study.run({"rtn": {"method": "dsq"}}, seeds=[99])
    with pytest.raises(ValueError, match="`unit` must be the same"):
        whole | Study("toy", measure, unit="case").run({"x": {}}, seeds=SEEDS)
    uneven = study.run({"rtn": ARMS["rtn"]}, seeds=[1, 2]) | study.run({"dsq": ARMS["dsq"]}, seeds=[1, 3])
    with pytest.raises(ValueError, match=r"must have the same seeds, got \[1, 3\] for 'dsq' and \[1, 2\] for 'rtn'"):
        uneven.compare("loss", arm="dsq", base="rtn")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: f.compare("loss", arm="awq", base="rtn"), "`arm` must be one of"),
        (lambda f: f.compare("loss", arm="dsq", base="awq"), "`base` must be one of"),
        (lambda f: f.compare("speed", arm="dsq", base="rtn"), "`metric` must be one of .*loss, total, bits, got 'speed'"),
        (lambda f: f.compare("name", arm="dsq", base="rtn"), "`metric` must be one of"),
        (lambda f: f.compare("grid", arm="dsq", base="rtn"), "`metric` must be one of"),
        (lambda f: f.compare("loss", arm="dsq", base="rtn", by="layer"), "`by` must be one of"),
        (lambda f: f.sweep("loss", x="rate"), "`x` and `series` must be options"),
        (lambda f: f.bars("loss", base="awq"), "`base` must be one of"),
        (lambda f: f.table("loss", base=["rtn", "awq"]), "`base` must be one of"),
        (lambda f: f.table("loss", fmt={"speed": ".1f"}), "`fmt` must be one of"),
    ],
)
def test_comparisons_refuse(found, call, message):
    with pytest.raises(ValueError, match=message):
        call(found)


# ---- tables and figures ----------------------------------------------------------------------------------------------


def test_the_table(found):
    made = found.table({"loss": "loss (nats)", "bits": "bits"}, base=("rtn", "gptq"), fmt={"loss": ".2f"})
    assert made.columns == ("arm", "loss (nats)", "bits", "loss (nats) − rtn", "loss (nats) − gptq", "bits − rtn", "bits − gptq")
    gap = found.compare("loss", arm="dsq", base="rtn")
    row = dict(zip(made.columns, made.rows[1], strict=True))
    assert row["arm"] == "dsq" and row["loss (nats) − rtn"] == f"{gap.mean:+.2f} ± {gap.half:.2f}"
    assert row["loss (nats)"] == found.value("loss", "dsq").short(".2f") and row["bits"] == "3 ± 0"
    assert made.rows[0][3] is None
    assert made.caption == "toy (± 95 %, 4 seeds; differences paired by seed)"
    chosen = found.table("loss", arms=["gptq"], caption="One arm", by="window")
    assert len(chosen.rows) == 1 and chosen.caption.startswith("One arm (± 95 % bootstrap over 12 windows, mean of 4 seeds")
    assert "ratios paired by window" in found.table("loss", base="rtn", by="window", ratio=True).caption


def test_bars_show_what_was_estimated(found):
    ax = found.bars("loss", base="rtn").axes[0]
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["gptq", "dsq"]  # the first arm stands on top
    middles, spans = [line.get_xdata()[0] for line in ax.lines if len(line.get_xdata()) == 1 and line.get_marker() != "|"], []
    spans = [segment[:, 0] for bar in ax.collections for segment in bar.get_segments()]
    for row, name in enumerate(names):
        gap = found.compare("loss", arm=name, base="rtn")
        assert middles[row] == pytest.approx(gap.mean) and list(spans[row]) == pytest.approx([gap.low, gap.high])
    assert "loss − rtn (95 %, 4 seeds)" in ax.get_xlabel() and any(list(line.get_xdata()) == [0, 0] for line in ax.lines)
    fig, (left, right) = plt.subplots(1, 2)
    assert found.bars("loss", ax=right) is fig and right.lines and not left.lines


@pytest.fixture(scope="module")
def swept():
    arms = {f"{m}, {rate:g}": {"method": m, "rate": rate} for rate in (2.0, 0.5, 1.0) for m in ("rtn", "dsq")}
    return Study("sweep", measure).run(arms, seeds=SEEDS)


def test_a_sweep_shows_what_was_estimated(swept):
    ax = swept.sweep("loss", x="rate", series="method").axes[0]
    lines = {line.get_label(): line for line in ax.lines}
    assert list(lines) == ["rtn", "dsq"] and ax.get_xlabel() == "rate"
    line = lines["dsq"]
    found = [swept.value("loss", f"dsq, {rate:g}") for rate in (0.5, 1.0, 2.0)]
    assert list(line.get_xdata()) == [0.5, 1.0, 2.0] and list(line.get_ydata()) == pytest.approx([e.mean for e in found])
    band = ax.collections[1].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((min(e.low for e in found), max(e.high for e in found)))
    assert ax.get_legend().get_title().get_text() == "method (95 %, 4 seeds)"


def test_a_sweep_of_differences(swept):
    ax = swept.sweep("loss", x="rate", series="method", base="rtn").axes[0]
    line = next(line for line in ax.lines if line.get_label() == "dsq")
    gaps = [swept.compare("loss", arm=f"dsq, {r:g}", base=f"rtn, {r:g}").mean for r in (0.5, 1.0, 2.0)]
    assert list(line.get_ydata()) == pytest.approx(gaps) and "loss − rtn" in ax.get_ylabel()
    with pytest.raises(ValueError, match="`base` must be one of the series"):
        swept.sweep("loss", x="rate", series="method", base="awq")
    with pytest.raises(ValueError, match="`series` must tell arms"):
        swept.sweep("loss", x="rate")
    with pytest.raises(ValueError, match="`x` must be an option that holds numbers"):
        swept.sweep("loss", x="method", series="rate")


def test_a_progress_bar_is_shown(capsys):
    Study("quantise", measure).run(ARMS, seeds=[0])
    assert "quantise" in capsys.readouterr().err


def test_results_stand_for_the_arms_of_a_ledger(found):
    assert found.seconds > 0 and isinstance(found.oldest, str)
    assert isinstance(found.value("loss", "rtn"), Estimate) and threading.active_count() < 50
