"""Pulse from dark video against pyts, ssalib, explicit singular value decompositions, formulas of the papers and SciPy."""

import copy
import json
import math
import pickle
from fractions import Fraction

import battery
import numpy as np
import pytest
import torch
from scipy import linalg, signal
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from weightbook.book.checks import assert_close
from weightbook.estimation import lowlight_rppg as lr

FS = 30.0
CLOCK = np.arange(300) / FS


def traces(lux: float = 20.0, hr: float = 72.0, seconds: float = 30.0, seed: int = 0, **scene) -> np.ndarray:
    pulse, _ = lr.pulse_wave(np.array([hr]), seconds, seed=seed)
    return lr.SkinPatchSimulator(lux=lux, scene=lr.SceneModel(**scene)).traces(pulse[0], seed=seed)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


# ---- singular spectrum analysis --------------------------------------------------------------------------------------


def explicit(x: np.ndarray, L: int) -> tuple[np.ndarray, np.ndarray]:
    "The definition: a matrix of windows, its decomposition, the mean of every anti-diagonal"
    K = len(x) - L + 1
    u, s, vt = np.linalg.svd(linalg.hankel(x[:L], x[L - 1 :]), full_matrices=False)
    parts = np.zeros((L, len(x)))
    for i in range(L):
        for a in range(L):
            for b in range(K):
                parts[i, a + b] += s[i] * u[a, i] * vt[i, b]
    return parts / np.array([min(t + 1, L, K, len(x) - t) for t in range(len(x))]), s


@pytest.mark.parametrize(("n", "L"), [(4, 2), (9, 4), (30, 15), (41, 7), (64, 32)])
def test_components_are_those_of_the_definition(n, L):
    x = noise(n, seed=n)
    wanted, sigma = explicit(x, L)
    for method in ("svd", "eigh"):
        rcs, found = lr.ssa_decompose(x, L, method=method)
        assert_close(found, sigma, rtol=1e-8)
        assert_close(rcs, wanted, rtol=1e-7)
        assert np.abs(rcs.sum(0) - x).max() < 1e-12


def test_components_are_those_of_pyts():
    pyts = pytest.importorskip("pyts.decomposition")
    x = noise(3, 200, seed=5)
    theirs = pyts.SingularSpectrumAnalysis(window_size=40, groups=None).fit_transform(x)
    assert_close(lr.ssa_decompose(x, 40)[0], np.asarray(theirs), rtol=1e-8)


def test_components_are_those_of_ssalib():
    ssalib = pytest.importorskip("ssalib")
    x = noise(180, seed=6)
    one = ssalib.SingularSpectrumAnalysis(x, window=40, standardize=False)
    one.decompose(n_components=40)
    rcs, sigma = lr.ssa_decompose(x, 40, 10)
    assert_close(sigma, np.asarray(one.s_[:10]), rtol=1e-8)
    for i in range(10):
        assert_close(rcs[i], np.asarray(one[i]), rtol=1e-8)


def test_a_subset_of_lapacks_eigenvectors_gives_the_leading_components():
    x, L, r = noise(300, seed=7), 60, 10
    X = linalg.hankel(x[:L], x[L - 1 :])
    U = linalg.eigh(X @ X.T, subset_by_index=(L - r, L - 1))[1][:, ::-1]
    counts = np.minimum(np.minimum(np.arange(300) + 1, 300 - np.arange(300)), L)
    wanted = np.array([np.convolve(u, X.T @ u) for u in U.T]) / counts
    assert_close(lr.ssa_decompose(x, L, r)[0], wanted, rtol=1e-8)


@pytest.mark.parametrize("method", ["eigh", "svd", "toeplitz"])
def test_batches_devices_and_dtypes(method):
    x = torch.from_numpy(noise(2, 3, 50, seed=8))
    rcs, sigma = lr.ssa_decompose(x, 11, 4, method=method)
    assert rcs.shape == (2, 3, 4, 50) and sigma.shape == (2, 3, 4)
    assert_close(rcs[1, 2], lr.ssa_decompose(x[1, 2], 11, 4, method=method)[0], rtol=1e-8)
    low = lr.ssa_decompose(x.float(), 11, 11, method=method)[0]
    assert low.dtype == torch.float32 and (low.sum(-2) - x.float()).abs().max() < 1e-5
    strided = x.transpose(0, 1)[:, :, ::1]
    assert_close(lr.ssa_decompose(strided, 11, 4, method=method)[0], rcs.transpose(0, 1), rtol=1e-8)


def test_a_constant_and_zeros_decompose():
    rcs, sigma = lr.ssa_decompose(np.full(40, 3.0), 10)
    assert sigma[0] == pytest.approx(3 * math.sqrt(10 * 31)) and np.abs(rcs[0] - 3).max() < 1e-12
    assert np.abs(lr.ssa_decompose(np.zeros(40), 10)[0]).max() == 0


def test_equal_singular_values_leave_the_pair_alone():
    x = np.cos(2 * np.pi * np.arange(99) / 10)  # whole periods in L and K: a tie
    by_svd, by_eigh = (lr.ssa_decompose(x, 40, 2, method=m)[0].sum(0) for m in ("svd", "eigh"))
    assert_close(by_svd, x, rtol=1e-9)
    assert_close(by_eigh, x, rtol=1e-9)


def test_w_correlation_is_the_cosine_of_the_matrices():
    rcs = noise(4, 30, seed=9)
    flat = np.array([linalg.hankel(r[:8], r[7:]).ravel() for r in rcs])
    wanted = flat @ flat.T / np.outer(np.linalg.norm(flat, axis=1), np.linalg.norm(flat, axis=1))
    assert_close(lr.w_correlation(rcs, 8), wanted, rtol=1e-9)


# ---- filters, spectra, scores ----------------------------------------------------------------------------------------


def test_the_periodogram_is_scipys():
    x = noise(3, 300, seed=1)
    freqs, power = lr.periodogram(x, FS)
    f, P = signal.periodogram(x, FS, window="hann", nfft=2048, detrend=False, scaling="spectrum")
    hann = signal.windows.hann(300, sym=False)
    scale = np.where((f == 0) | (f == FS / 2), 1, 2) / hann.sum() ** 2
    assert_close(freqs, f, rtol=1e-9)
    assert_close(power * scale, P, rtol=1e-9)


def test_the_band_pass_is_scipys_and_knows_its_band():
    x = noise(2, 400, seed=2)
    sos = signal.butter(4, (0.7, 4.0), "bandpass", fs=FS, output="sos")
    assert_close(lr.band_pass(x), signal.sosfiltfilt(sos, x), rtol=1e-12)
    tones = np.cos(2 * np.pi * np.array([[0.2], [1.5], [8.0]]) * np.arange(1800) / FS)
    kept = lr.band_pass(tones)[:, 400:-400].std(1) / tones.std(1)
    assert kept[1] > 0.95 and kept[[0, 2]].max() < 0.02


def test_filtering_a_segment_alone_raises_its_noise():
    x = noise(300, 900, seed=3)
    whole, alone = lr.band_pass(x)[:, 300:600], lr.band_pass(x[:, 300:600])
    edge = [lr.ssa_decompose(p, 60, 1)[1].mean() for p in (whole, alone)]
    assert 1.0 < edge[1] / edge[0] < 1.05


def test_the_score_sums_by_hand():
    x, hr = noise(300, seed=4) + 3 * np.cos(2 * np.pi * 1.3 * CLOCK), 78.0
    spectrum = np.abs(np.fft.rfft(x * signal.windows.hann(300, sym=False), 2048)) ** 2
    f = np.arange(1025) * FS / 2048
    U, inside = (abs(f - 1.3) <= 0.1) | (abs(f - 2.6) <= 0.2), (f >= 40 / 60) & (f <= 4)
    wanted = 10 * np.log10(spectrum[U & inside].sum() / spectrum[~U & inside].sum())
    assert float(lr.snr_dehaan(x, FS, hr)) == pytest.approx(wanted, rel=1e-9)


def test_rates_near_the_edge_of_the_band_and_second_harmonics_outside_it():
    assert abs(lr.heart_rate(np.cos(2 * np.pi * 3.5 * CLOCK), FS)[0] - 210) < 1
    assert np.isfinite(lr.snr_dehaan(np.cos(2 * np.pi * 3.5 * CLOCK), FS, 210.0))
    assert np.isnan(lr.heart_rate(np.zeros(300), FS)).all()


def test_metrics_by_hand():
    est, ref = np.array([60.0, 80, 75, 90]), np.array([61.0, 70, 75, 96])
    found, e = lr.hr_metrics(est, ref), est - ref
    wanted = dict(mae=4.25, rmse=math.sqrt((1 + 100 + 36) / 4), bias=0.75, sd=e.std(ddof=1), success=0.5)
    assert all(found[k] == pytest.approx(v) for k, v in wanted.items())
    assert found["r"] == pytest.approx(np.corrcoef(est, ref)[0, 1])
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * e.std(ddof=1))
    assert math.isnan(lr.hr_metrics([60.0], [60.0])["r"])


def test_smoothness_priors_solve_their_system():
    x, n = noise(60, 2, seed=5), 60
    D = np.diff(np.eye(n), 2, axis=0)
    wanted = x - np.linalg.solve(np.eye(n) + 9.0**2 * D.T @ D, x)
    assert_close(lr.detrend(x, 9.0), wanted, rtol=1e-9)


# ---- baselines, written again from their papers ----------------------------------------------------------------------


def pos_by_hand(C: np.ndarray, fs: float) -> np.ndarray:
    n, length = len(C), math.ceil(1.6 * fs)
    out = np.zeros(n)
    for m in range(n - length + 1):
        window = C[m : m + length]
        c = window / window.mean(axis=0)
        s1, s2 = c[:, 1] - c[:, 2], c[:, 1] + c[:, 2] - 2 * c[:, 0]
        h = s1 + s1.std() / s2.std() * s2
        out[m : m + length] += h - h.mean()
    return out


def chrom_by_hand(C: np.ndarray, fs: float) -> np.ndarray:
    length = 2 * math.ceil(0.8 * fs)
    out = np.zeros(len(C))
    for start in range(0, len(C) - length + 1, length // 2):
        c = C[start : start + length] / C[start : start + length].mean(axis=0)
        x, y = 3 * c[:, 0] - 2 * c[:, 1], 1.5 * c[:, 0] + c[:, 1] - 1.5 * c[:, 2]
        x, y = lr.band_pass(x, fs), lr.band_pass(y, fs)
        out[start : start + length] += signal.windows.hann(length, sym=False) * (x - x.std() / y.std() * y)
    return out


def lgi_by_hand(C: np.ndarray, fs: float) -> np.ndarray:
    u = np.linalg.svd(C.T, full_matrices=False)[0][:, :1]
    return ((np.eye(3) - u @ u.T) @ C.T)[1]


def pbv_by_hand(C: np.ndarray, fs: float) -> np.ndarray:
    c = (C / C.mean(axis=0)).T
    p = c.std(axis=1) / math.sqrt((c.std(axis=1) ** 2).sum())
    w = np.linalg.solve(c @ c.T, p)
    return w @ c / (p @ w)


@pytest.mark.parametrize(
    ("ours", "theirs", "sign"),
    [(lr.pos, pos_by_hand, -1), (lr.chrom, chrom_by_hand, 1), (lr.lgi, lgi_by_hand, -1), (lr.pbv, pbv_by_hand, -1)],
    ids=["POS", "CHROM", "LGI", "PBV"],
)
@pytest.mark.parametrize("fs", [25.0, 30.0])
def test_baselines_are_the_formulas_of_their_papers(ours, theirs, sign, fs):
    C = np.stack([traces(lux=15, seed=s) for s in (0, 1)])
    found, wanted = ours(C, fs, band=None), sign * np.stack([theirs(c, fs) for c in C])
    assert_close(found, wanted, rtol=1e-8)
    assert_close(ours(C, fs), lr.band_pass(wanted, fs), rtol=1e-7)


def test_green_and_a_known_signature():
    C = traces(lux=1e4, sway=0.0, drift=0.0, specular=0.0)
    assert_close(lr.green(C, band=None), 1 - C[:, 1] / C[:, 1].mean(), rtol=1e-12)
    p = np.array([0.33, 0.77, 0.53])
    found = lr.pbv(C, signature=p)
    assert np.corrcoef(found[60:-60], lr.green(C)[60:-60])[0, 1] > 0.999


def test_ica_takes_the_sharpest_source_and_repeats_itself():
    C = traces(lux=60)
    assert_close(lr.ica(C), lr.ica(C), rtol=1e-12)
    assert abs(np.median(lr.heart_rate(lr.ica(C))) - 72) < 2


# ---- the camera ------------------------------------------------------------------------------------------------------


def test_the_film_repeats_and_its_pixels_average_to_the_light():
    camera = lr.SkinPatchSimulator(lux=50.0, sensor=lr.SensorModel(gamma=1.0))
    pulse = lr.pulse_wave(np.array([60.0]), 10)[0][0]
    frames, truth = camera.render(pulse, 391, seed=4)
    assert frames.shape == (300, 17, 23, 3) and frames.dtype == np.uint8
    assert (frames == camera.render(pulse, 391, seed=4)[0]).all()
    seen = lr.traces_from_array(frames) * camera.sensor.full_scale / 255
    assert_close(seen.mean(0), truth["electrons"].mean(0), rtol=0.01)


def test_the_law_of_the_patch_is_scipys_poisson():
    camera = lr.SkinPatchSimulator(lux=8.0)
    mean = np.full(20_000, 40.0)
    pixels = np.random.default_rng(0).poisson(40.0, 20_000) + 3.0 * noise(20_000)
    level = camera.sensor.level_width(np.array(40.0))
    assert camera.sensor.variance(mean)[0] == pytest.approx(40 + 9 + level**2 / 12)
    assert pixels.var() == pytest.approx(49, rel=0.05)
    step = [(255 * (e / 1500) ** (1 / 2.2)) for e in (39.5, 40.5)]
    assert level == pytest.approx(1 / (step[1] - step[0]), rel=1e-3)


def test_the_pulse_has_its_rate_and_its_sign():
    pulse, rate = lr.pulse_wave(np.array([[50.0, 90.0]]), 30, seed=2)
    assert pulse.shape == rate.shape == (1, 2, 900)
    assert np.abs(pulse.mean(-1)).max() < 1e-12 and np.abs(pulse.std(-1) - 1).max() < 1e-12
    assert np.abs(60 * lr.dominant_frequency(pulse) - rate.mean(-1)).max() < 2
    clear = lr.SkinPatchSimulator(lux=1e7, scene=lr.SceneModel(sway=0.0, drift=0.0)).electrons(pulse[0])
    assert np.corrcoef(clear[0, :, 1], pulse[0, 0])[0, 1] < -0.999


# ---- the extractor ---------------------------------------------------------------------------------------------------


def test_layouts_inputs_and_rules_find_a_bright_pulse():
    C = traces(lux=60, hr=66)
    options = [dict(reference=r, weights=w) for r in ("top2", "pairs", "raw") for w in ("energy", "hard", "soft", "sv")]
    options += [dict(layout="global", window=4.0), dict(separate="comb"), dict(input="pos"), dict(input="chrom"),
                dict(input="auto"), dict(weights="preliminary"), dict(segment=12.3, hop=1.7)]  # fmt: skip
    for one in options:
        found = lr.heart_rate(lr.SSAPulseExtractor(**one).fit_transform(C))
        assert abs(np.median(found) - 66) < 2, one


def test_a_batch_is_each_recording():
    C = np.stack([traces(seed=s) for s in range(3)])
    together = lr.SSAPulseExtractor().fit(C)
    for k in range(3):
        alone = lr.SSAPulseExtractor().fit(C[k])
        assert_close(together.reference_hr_[k], alone.reference_hr_)
        assert_close(together.transform(C)[k], alone.transform(C[k]), rtol=1e-8)


def test_the_reference_of_an_outlier_segment_is_the_median():
    f = torch.tensor([[1.2, 1.21, 2.4, 1.19, 1.44]])
    assert lr._steadied(f, 4).tolist()[0] == pytest.approx([1.2, 1.21, 1.21, 1.19, 1.44])
    holes = torch.tensor([1.2, torch.nan, 2.4, 1.2])
    assert lr._steadied(holes, 3)[[0, 2, 3]].tolist() == pytest.approx([1.2, 1.2, 1.2])


def changing(*corners) -> tuple[np.ndarray, np.ndarray]:
    "Traces in daylight of a rate that goes through (seconds, bpm), and the rate of every window"
    hr = np.interp(np.arange(corners[-1][0] * 30) / FS, *zip(*corners, strict=True))
    angle = 2 * np.pi * np.cumsum(hr) / 60 / FS
    beat = np.cos(angle) + 0.35 * np.cos(2 * angle - 0.9) + 0.12 * np.cos(3 * angle - 1.6)
    cut = lr._cut(torch.from_numpy(hr), FS, 10.0, 1.0)[0].mean(-1).numpy()
    return lr.SkinPatchSimulator(lux=100.0).traces((beat - beat.mean()) / beat.std(), seed=1), cut


@pytest.mark.parametrize("options", [{}, dict(input="auto", window=4.0), dict(reference="pairs")])
def test_a_rate_that_climbs_is_followed(options):
    C, true = changing((0, 60), (40, 60), (80, 110), (120, 110))
    one = lr.SSAPulseExtractor(**options)
    pulse = one.fit_transform(C)
    assert abs(one.reference_hr_ - true).mean() < 1.5
    assert abs(lr.heart_rate(pulse, near=one.reference_hr_) - true).mean() < 1.5
    assert abs(lr.heart_rate(lr.green(C), **lr.STEADY) - true).mean() < 1.5
    assert abs(lr.SSAPulseExtractor(**options, steady=1e4).fit(C).reference_hr_ - true).mean() > 10


def test_a_rate_that_goes_up_and_back_needs_the_rule_off():
    C, true = changing((0, 60), (30, 60), (45, 100), (60, 60), (90, 60))
    error = [abs(lr.SSAPulseExtractor(steady=s).fit(C).reference_hr_ - true).max() for s in (60.0, 0.0)]
    assert error[0] > 15 > 8 > error[1]


def test_the_band_that_was_given_is_the_band_that_is_searched():
    C, band = traces(lux=1000.0, hr=31, sway=0.0, drift=0.0), (0.45, 4.0)
    for options in ({}, dict(reference="pairs"), dict(separate="comb")):
        one = lr.SSAPulseExtractor(band=band, **options)
        pulse = one.fit_transform(C)
        assert np.abs(one.reference_hr_ - 31).max() < 2 and np.abs(lr.heart_rate(pulse, band=band) - 31).max() < 2


def test_fast_rates_need_a_higher_ceiling():
    C = traces(lux=1000.0, hr=195)
    assert lr.SSAPulseExtractor().fit(C).reference_hr_.max() < 181
    for reference in ("top2", "raw"):  # the double is outside the band: no pairs
        assert np.abs(lr.SSAPulseExtractor(highest=4.0, reference=reference).fit(C).reference_hr_ - 195).max() < 5
    narrow = lr.SSAPulseExtractor(band=(2.0, 3.0), highest=5.0).fit(traces(lux=1000.0, hr=150))
    assert np.abs(narrow.reference_hr_ - 150).max() < 5


def test_one_line_of_the_mask_leaves_the_double_out():
    C = traces(lux=100.0, hr=72)
    for separate in ("ssa", "comb"):
        size = {}
        for lines in (1, 2):
            pulse = lr.SSAPulseExtractor(harmonics=lines, separate=separate).fit_transform(C)
            freqs, power = lr.periodogram(pulse)
            size[lines] = power[abs(freqs - 2.4) < 0.2].sum() / power[abs(freqs - 1.2) < 0.2].sum()
        assert size[1] < 0.01 < 0.03 < size[2]


def test_rates_near_others_and_their_bad_input():
    x = np.cos(2 * np.pi * 1.2 * CLOCK) + 3 * np.cos(2 * np.pi * 2.4 * CLOCK)
    both = np.stack([x, np.zeros(300)])
    found = lr.heart_rate(both, near=np.full((2, 1), 75.0))
    assert abs(found[0, 0] - 72) < 1 and np.isnan(found[1, 0])
    assert abs(float(lr.heart_rate(torch.from_numpy(x), near=75.0)[0]) - 72) < 1
    # 18 bpm on each side, no more
    assert abs(lr.heart_rate(x, near=145.0)[0] - 144) < 1 and lr.heart_rate(x, near=100.0)[0] < 118.1


@pytest.mark.parametrize("y", [70.0, np.full(21, 70.0), [70.0] * 21])
def test_the_oracle_takes_a_number_or_a_rate_for_each_segment(y):
    one = lr.SSAPulseExtractor(reference="oracle").fit(traces(), y)
    assert_close(one.reference_hr_, np.full(21, 70.0), rtol=1e-9)


def test_recordings_are_scored_with_gamma_undone_and_read_alike():
    seen = []

    class Film(lr.Recording):
        def traces(self, region=None, *, gamma=1.0):
            seen.append(gamma)
            return traces(lux=60.0), FS

    one = Film("a", "a", "1", ("a",), FS, np.zeros(9), np.full(9, 72.0))
    rows = lr.score_recordings([one])
    assert [(r["method"], r["reading"]) for r in rows[:2]] == [("GREEN", "peak"), ("GREEN", "steady")]
    assert [r["reading"] for r in rows[6:]] == ["peak", "steady", "reference", "near"]
    assert max(r["mae"] for r in rows) < 2
    lr.score_recordings([one], gamma=1.0)
    assert seen == [2.2, 1.0]


def test_recordings_of_another_frame_rate_are_scored_at_theirs_by_a_copy_of_the_extractor():
    class Slow(lr.Recording):
        def traces(self, region=None, *, gamma=1.0):
            pulse, _ = lr.pulse_wave(np.array([72.0]), 30, 24.0)
            return lr.SkinPatchSimulator(24.0, 100.0).traces(pulse[0]), 24.0

    slow = Slow("a", "a", "1", ("a",), 24.0, np.zeros(9), np.full(9, 72.0))
    mine = lr.SSAPulseExtractor(30.0, input="pos", segment=12.0, hop=2.5, band=(0.6, 4.0))
    rows = lr.score_recordings([slow], extractor=mine)
    assert max(r["mae"] for r in rows if r["method"] == "SSA") < 2
    assert mine.fs == 30.0 and not hasattr(mine, "reference_hr_")
    whole = lr.SSAPulseExtractor(layout="global", window=4.0)  # one rate for all windows
    assert lr.score_recordings([slow], extractor=whole)[-1]["mae"] < 2


def test_the_extractor_keeps_scikit_learns_rules():
    from sklearn.utils import estimator_checks as ec

    one = lr.SSAPulseExtractor(window=3.0, reference="pairs")
    for name in ("check_no_attributes_set_in_init", "check_get_params_invariance", "check_set_params",
                 "check_parameters_default_constructible", "check_estimator_cloneable", "check_estimator_repr",
                 "check_estimator_tags_renamed"):  # fmt: skip
        getattr(ec, name)("SSAPulseExtractor", lr.SSAPulseExtractor())
    assert repr(clone(one).get_params()) == repr(one.get_params())
    C = traces()
    pulse = one.fit_transform(C)
    twin = pickle.loads(pickle.dumps(one))
    assert (twin.transform(C) == pulse).all() and (twin.reference_hr_ == one.reference_hr_).all()
    both = make_pipeline(FunctionTransformer(lambda X: 2 * X), lr.SSAPulseExtractor(window=3.0, reference="pairs"))
    assert_close(both.fit_transform(C), pulse, rtol=1e-8)
    with pytest.raises(Exception, match="not fitted"):
        lr.SSAPulseExtractor().transform(C)


def test_help_says_how_to_use_the_extractor():
    text = lr.SSAPulseExtractor.__doc__
    for word in ("(N, 3)", "reference_hr_", "confidence_", "segment_times_", "BELIEVE", "fs / 2048", "steady=0"):
        assert word in text


def test_whatever_holds_the_traces_gives_the_same_rates():
    import pandas as pd

    C, wanted = traces(lux=60.0), lr.SSAPulseExtractor().fit(traces(lux=60.0)).reference_hr_
    still = C.copy()
    still.setflags(write=False)
    for X in (C.tolist(), np.asfortranarray(C), C[::-1][::-1], still, pd.DataFrame(C), torch.from_numpy(C), 1e-200 * C):
        assert_close(lr.SSAPulseExtractor().fit(X).reference_hr_, wanted)
    assert_close(lr.SSAPulseExtractor().fit(C.astype(np.float32)).reference_hr_, wanted)
    one = lr.SSAPulseExtractor().fit(C)
    assert (copy.deepcopy(one).transform(C) == one.transform(C)).all()
    with pytest.raises(ValueError, match="`X`"):
        one.fit(np.ones((900, 3)))
    assert (one.reference_hr_ == wanted).all()  # a fit that fails leaves what was there


@pytest.mark.parametrize("fs", [12, 12.5, 15, 23.976, 29.97, 59.94, 120])
def test_odd_frame_rates_read_a_rate_to_a_bin(fs):
    pulse, _ = lr.pulse_wave(np.array([72.0]), 20, fs)
    found = lr.SSAPulseExtractor(fs).fit(lr.SkinPatchSimulator(fs, 200.0).traces(pulse[0])).reference_hr_
    assert abs(np.median(found) - 72) <= 60 * fs / 2048 + 0.5


def test_a_camera_that_freezes_is_doubted_there():
    C = traces(lux=60.0)
    C[300:700] = C[300]
    one = lr.SSAPulseExtractor().fit(C)
    frozen = (one.segment_times_ > 14.5) & (one.segment_times_ < 18.5)
    assert one.confidence_[frozen].max() < -10 < 0 < one.confidence_[0]


def test_automatic_input_is_green_in_the_dark_and_pos_in_light():
    dark, light = traces(lux=2.5), traces(lux=100.0)
    auto, pos, green = (lr.SSAPulseExtractor(input=k) for k in ("auto", "pos", "green"))
    assert (auto.fit_transform(dark) == green.fit_transform(dark)).all()
    assert (auto.fit_transform(light) == pos.fit_transform(light)).all()


def test_the_noise_floor_is_that_of_the_camera():
    for lux in (4.0, 100.0):
        mean = 600 * 0.82 * lux / 100
        wanted = math.sqrt(lr.SensorModel().variance(mean) / 400) / mean
        assert float(lr.noise_floor(traces(lux=lux, seconds=60))) == pytest.approx(wanted, rel=0.15)


# ---- traces from files -----------------------------------------------------------------------------------------------


def test_traces_of_an_array_are_means_under_the_mask():
    frames = np.random.default_rng(0).integers(0, 255, (5, 4, 6, 3), dtype=np.uint8)
    mask = np.zeros((4, 6), bool)
    mask[1:3, 2:5] = True
    assert_close(lr.traces_from_array(frames, mask), frames[:, 1:3, 2:5].mean((1, 2)), rtol=1e-12)
    undone = 255 * ((frames / 255.0) ** 2.2).mean((1, 2))
    assert_close(lr.traces_from_array(frames, gamma=2.2), undone, rtol=1e-12)


def test_traces_of_a_csv(tmp_path):
    path = tmp_path / "traces.csv"
    path.write_text("time,R,G,B\n" + "\n".join(f"{i / 25},{i},{2 * i + 1},{3 * i}" for i in range(40)))
    rgb, fs = lr.traces_from_csv(path)
    assert fs == pytest.approx(25) and rgb.shape == (40, 3) and rgb[2].tolist() == [2, 5, 6]
    path.write_text("Red,Green,Blue\n1,2,3\n4,5,6\n")
    assert lr.traces_from_csv(path, fs=30.0)[0].tolist() == [[1, 2, 3], [4, 5, 6]]
    for text, match in (("R,G\n1,2\n", "columns"), ("R,G,B\n1,2,3\n", "fs"), ("", "columns"), ("R,G,B\n1,x,3\n", "path"),
                        ("t,R,G,B\n0,1,1,1\n0.1,1,1,1\n0.9,1,1,1\n", "even")):  # fmt: skip
        path.write_text(text)
        with pytest.raises((ValueError, TypeError), match=match):
            lr.traces_from_csv(path)


def film(path, frames, fs=30):
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=fs)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "bgr0"
        for image in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                out.mux(packet)
        for packet in stream.encode():
            out.mux(packet)


def test_traces_of_a_video(tmp_path):
    frames = np.random.default_rng(1).integers(0, 255, (12, 32, 48, 3), dtype=np.uint8)
    film(tmp_path / "me.mkv", frames)
    rgb, fs = lr.traces_from_video(tmp_path / "me.mkv", (4, 8, 10, 20))
    assert fs == 30 and rgb.shape == (12, 3)
    assert_close(rgb, frames[:, 4:14, 8:28].mean((1, 2)), rtol=1e-6)
    by_mask = lr.traces_from_video(tmp_path / "me.mkv", lambda image: image[..., 0] >= 0)[0]
    assert_close(by_mask, frames.mean((1, 2)), rtol=1e-6)
    with pytest.raises(ValueError, match="region"):
        lr.traces_from_video(tmp_path / "me.mkv", (30, 0, 10, 10))


def uneven_film(path, levels, times):
    "Grey frames shown at `times`, seconds"
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=30)
        stream.height, stream.width, stream.pix_fmt = 16, 16, "bgr0"
        stream.codec_context.time_base = Fraction(1, 1000)
        for level, at in zip(levels, times, strict=True):
            image = av.VideoFrame.from_ndarray(np.full((16, 16, 3), level, np.uint8), format="rgb24")
            image.pts, image.time_base = round(1000 * at), Fraction(1, 1000)
            for packet in stream.encode(image):
                out.mux(packet)
        for packet in stream.encode():
            out.mux(packet)


def test_a_film_that_drops_frames_is_laid_on_even_times(tmp_path):
    times = np.delete(np.arange(120) / 30, [20, 21, 22, 50, 51, 52, 53, 80])
    uneven_film(tmp_path / "dark.mkv", 50 + 30 * times, times)
    rgb, fs = lr.traces_from_video(tmp_path / "dark.mkv")
    assert fs == pytest.approx(30, rel=0.02)
    assert np.abs(rgb[:, 1] - (50 + 30 * np.arange(len(rgb)) / fs)).max() < 2  # a ramp stays a ramp
    assert abs(len(rgb) / fs - 4) < 0.1
    uneven_film(tmp_path / "gap.mkv", [9, 9, 9, 9], [0, 0.03, 0.9, 0.93])
    with pytest.raises(ValueError, match="gaps of half a second"):
        lr.traces_from_video(tmp_path / "gap.mkv")


def test_times_that_run_backwards_are_refused_and_missing_ones_left_alone():
    rgb = noise(4, 3)
    with pytest.raises(ValueError, match="rising"):
        lr._evenly("a.mkv", rgb, [0.0, 0.1, 0.05, 0.2], 30.0)
    assert lr._evenly("a.mkv", rgb, [0.0, None, 0.1, 0.2], 30.0)[0] is rgb


def test_without_pyav_a_video_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(ImportError, match=r"weightbook\[pulse\]"):
        lr.traces_from_video(tmp_path / "me.mkv")


def test_without_heartpy_recorded_pulses_say_what_to_install(monkeypatch):
    monkeypatch.setattr(lr, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="heartpy"):
        lr.recorded_pulses()


def test_recorded_pulses_are_standardised_and_readable():
    pytest.importorskip("importlib.util").find_spec("heartpy") or pytest.skip("heartpy is not installed")
    pulse, rate = lr.recorded_pulses(15.0)
    assert pulse.shape == rate.shape and pulse.shape[1] == 450 and len(pulse) >= 10
    assert np.abs(pulse.std(1) - 1).max() < 1e-9 and 40 < rate.min() and rate.max() < 180


def mihr(root, names=("Sub 01/lux 1.0/lux1.0_AB", "Sub 01/lux 10.0/lux10.0_AB", "Sub 02/lux 2.5/lux2.5_CD")):
    "A small copy of the layout"
    pulse = lr.pulse_wave(np.array([72.0]), 12)[0][0]
    frames = lr.SkinPatchSimulator(lux=80.0).render(pulse, 32 * 32, seed=0)[0]
    for name in names:
        video = root / f"{name}.avi"
        video.parent.mkdir(parents=True)
        film(video, frames)
        (root / f"{name}_wave.csv").write_text("Wave\n" + "\n".join(f"{v:.4f}" for v in np.sin(np.arange(720) / 8)))
        (root / f"{name}.csv").write_text("TIME,PULSE\n" + "\n".join(f"{i},72" for i in range(12)))


def test_mihr_is_read_in_its_layout(tmp_path):
    mihr(tmp_path)
    found = lr.load_mihr(tmp_path)
    assert [(r.subject, r.condition) for r in found] == [("Sub 01", "1.0"), ("Sub 01", "10.0"), ("Sub 02", "2.5")]
    assert [r.condition for r in lr.load_mihr(tmp_path, levels=[2.5])] == ["2.5"]
    one = found[0]
    assert one.wave.shape == (720,) and one.hr.tolist() == [72.0] * 12 and one.wave_at(360).shape == (360,)
    assert_close(one.wave_at(1439)[::2], one.wave, rtol=1e-9)
    rows = lr.score_recordings(found[:1])
    assert [row["method"] for row in rows[::2]] == ["GREEN", "CHROM", "POS", "SSA", "SSA"] and rows[-1]["mae"] < 3
    with pytest.raises(ValueError, match="levels"):
        lr.load_mihr(tmp_path, levels=[50.0])
    (tmp_path / "Sub 02/lux 2.5/lux2.5_CD_wave.csv").unlink()
    with pytest.raises(ValueError, match="wave and a rate"):
        lr.load_mihr(tmp_path)


def test_pure_is_read_in_its_layout(tmp_path):
    from PIL import Image

    frames = np.random.default_rng(2).integers(90, 110, (330, 8, 8, 3), dtype=np.uint8)
    for name, inner in (("01-01", ""), ("01-02", "01-02")):
        folder = tmp_path / name / inner
        folder.mkdir(parents=True)
        for i, image in enumerate(frames[: 330 if inner else 2]):
            Image.fromarray(image).save(folder / f"Image{1392643993642815000 + round(i * 1e9 / 30)}.png")
        package = [dict(Timestamp=i, Value=dict(waveform=i % 7, pulseRate=70, o2saturation=97)) for i in range(60)]
        (tmp_path / name / f"{name}.json").write_text(json.dumps({"/FullPackage": package, "/Image": []}))
    found = lr.load_pure(tmp_path)
    assert [(r.subject, r.condition, len(r.video)) for r in found] == [("01", "01", 2), ("01", "02", 330)]
    assert found[0].fs == pytest.approx(30, rel=1e-3) and found[0].hr.tolist() == [70.0] * 60
    rgb, fs = found[1].traces((1, 2, 3, 4))
    assert fs == pytest.approx(30, rel=1e-3)
    assert_close(rgb, frames[:, 1:4, 2:6].mean((1, 2)), rtol=1e-12)
    assert len(lr.score_recordings(found[1:])) == 10
    (tmp_path / "01-01/01-01.json").write_text("{}")
    with pytest.raises(ValueError, match="FullPackage"):
        lr.load_pure(tmp_path)


# ---- the page --------------------------------------------------------------------------------------------------------

test_recipe = battery.recipe("lowlight_rppg", "heart rate 66 bpm (green alone: 66), true 66", "believe it")

RGB = np.ones((300, 3)) + 0.01 * noise(300, 3)
NAN = np.where(np.arange(300) == 7, np.nan, 1.0)


def extract(X=RGB, y=None, **options):
    return lr.SSAPulseExtractor(**options).fit_transform(X, y)


BAD = {
    "NaN in a series": (lambda: lr.ssa_decompose(NAN, 10), ValueError, "`x`"),
    "a short series": (lambda: lr.ssa_decompose([1.0, 2.0], 2), ValueError, "`x`"),
    "integers as a tensor": (lambda: lr.ssa_decompose(torch.arange(9), 3), TypeError, "`x`"),
    "a long window": (lambda: lr.ssa_decompose(CLOCK, 151), ValueError, "`window`"),
    "too many components": (lambda: lr.ssa_decompose(CLOCK, 10, 11), ValueError, "`n_components`"),
    "method": (lambda: lr.ssa_decompose(CLOCK, 10, method="qr"), ValueError, "`method`"),
    "a band above half the rate": (lambda: lr.band_pass(CLOCK, 7.0), ValueError, "`band`"),
    "a band upside down": (lambda: lr.band_pass(CLOCK, 30.0, (4, 1)), ValueError, "`band`"),
    "negative weights": (lambda: lr.fuse_components(RGB.T, [1, -1, 0.0]), ValueError, "`weights`"),
    "weights of other components": (lambda: lr.fuse_components(RGB.T, [1.0]), ValueError, "`weights`"),
    "a rate of zero": (lambda: lr.spectral_mask(CLOCK, 0.0), ValueError, "`f_ref`"),
    "a rate in hertz": (lambda: lr.snr_dehaan(CLOCK, 30.0, 1.2), ValueError, "`hr`"),
    "segments off the record": (lambda: lr.overlap_add(RGB.T[:2], [0, 90], 300), ValueError, "`starts`"),
    "a segment longer than the record": (lambda: lr.segment_starts(9, 10, 1), ValueError, "`length`"),
    "channels first": (lambda: lr.green(RGB.T), ValueError, "`rgb`"),
    "no mean": (lambda: lr.pos(RGB - RGB.mean(0)), ValueError, "black level"),
    "a flat signature": (lambda: lr.pbv(RGB, signature=[0, 0, 0]), ValueError, "`signature`"),
    "too short for POS": (lambda: lr.pos(RGB[:40]), ValueError, "`rgb`"),
    "errors of other shape": (lambda: lr.hr_metrics([60, 61.0], [60]), ValueError, "`ref`"),
    "NaN is no rate": (lambda: lr.hr_metrics([np.nan], [60]), ValueError, "`est`"),
    "no light": (lambda: lr.SkinPatchSimulator(lux=0), ValueError, "`lux`"),
    "a sensor by name": (lambda: lr.SkinPatchSimulator(sensor="CCD"), TypeError, "`sensor`"),
    "bits": (lambda: lr.SensorModel(bits=12), ValueError, "`bits`"),
    "skin": (lambda: lr.SceneModel(skin=(1, 0, 1)), ValueError, "`skin`"),
    "a pulse of NaN": (lambda: lr.SkinPatchSimulator().traces(NAN), ValueError, "`pulse`"),
    "a rate of 300": (lambda: lr.pulse_wave([300.0]), ValueError, "`hr`"),
    "input": (lambda: extract(input="red"), ValueError, "green"),
    "reference": (lambda: extract(reference="top3"), ValueError, "top2"),
    "weights by name": (lambda: extract(weights="energie"), ValueError, "energy"),
    "oracle without a rate": (lambda: extract(reference="oracle"), ValueError, "`y`"),
    "a rate without an oracle": (lambda: extract(y=70.0), ValueError, "`y`"),
    "rates of other segments": (lambda: extract(y=np.full(7, 70.0), reference="oracle"), ValueError, "`y`"),
    "an oracle of 0": (lambda: extract(y=0.0, reference="oracle"), ValueError, "`y`"),
    "a band above the ceiling": (lambda: extract(band=(3.2, 4.0)), ValueError, "`highest`"),
    "CHROM at 15 frames": (lambda: extract(fs=15.0, input="chrom"), ValueError, "`fs`"),
    "no line": (lambda: extract(harmonics=0), ValueError, "`harmonics`"),
    "a rule of negative length": (lambda: extract(steady=-1.0), ValueError, "`steady`"),
    "near a rate out of the band": (lambda: lr.heart_rate(CLOCK, near=300.0), ValueError, "`near`"),
    "near rates of other windows": (lambda: lr.heart_rate(CLOCK, near=[70.0, 71.0]), ValueError, "`near`"),
    "a window longer than half a segment": (lambda: extract(window=6.0), ValueError, "`window`"),
    "a segment longer than the recording": (lambda: extract(segment=11.0), ValueError, "`window`"),
    "a still trace": (lambda: extract(np.ones((300, 3))), ValueError, "`X`"),
    "two channels": (lambda: extract(RGB[:, :2]), ValueError, "`X`"),
    "frames": (lambda: lr.traces_from_array(RGB), ValueError, "`frames`"),
    "mask": (lambda: lr.traces_from_array(np.ones((2, 3, 3, 3)), np.ones((2, 2), bool)), ValueError, "`mask`"),
    "an empty mask": (
        lambda: lr.traces_from_array(np.ones((2, 3, 3, 3)), np.zeros((3, 3), bool)),
        ValueError,
        "`mask`",
    ),
    "grey levels above the scale": (lambda: lr.traces_from_array(np.full((2, 3, 3, 3), 300.0)), ValueError, "`frames`"),
    "no folder": (lambda: lr.load_mihr("nowhere"), ValueError, "`root`"),
    "no recordings": (lambda: lr.load_pure("."), ValueError, "`root`"),
    "recordings": (lambda: lr.score_recordings([1]), TypeError, "`recordings`"),
    "race": (lambda: lr.race_arms("SVD"), ValueError, "`kind`"),
    "operations of more than all": (lambda: lr.ssa_operations(300, 60, 61), ValueError, "`n_components`"),
}

test_bad_input = battery.errors(BAD)


# ---- breaks ----------------------------------------------------------------------------------------------------------

# tag of the equation -> (what the page says, what is put in its place)
BREAKS = {
    1: [
        ("light *= 1 + scene.motion * _slow(rng, pulse.shape, 1.0, fs)", "pass"),
        ("light = 1 + scene.drift * _slow", "light = 1 + scene.drift**2 * _slow"),
        ("np.cos(angle) + 0.35 * np.cos(2 * angle - 0.9) + 0.12 * np.cos(3 * angle - 1.6)", "np.cos(angle)"),
        ("(share ** (1 / sensor.gamma) * (2**sensor.bits - 1))", "(share**sensor.gamma * (2**sensor.bits - 1))"),
        (
            "(1 - scene.amplitude * signature / signature[1] * pulse[..., None])",
            "(1 + scene.amplitude * signature / signature[1] * pulse[..., None])",
        ),
        ("white = camera.sensor.electrons * camera.lux / 100", "white = camera.sensor.electrons * camera.lux / 90"),
        ("(scene.specular + sway[..., None] + inside)", "(sway[..., None] + inside)"),
    ],
    2: [
        (
            "return electrons + self.read_noise**2 + self.level_width(electrons) ** 2 / 12",
            "return electrons + self.read_noise**2",
        ),
        ("share ** (1 - 1 / self.gamma)", "share ** (1 / self.gamma)"),
        (
            "return electrons + self.read_noise**2 + self.level_width(electrons) ** 2 / 12",
            "return electrons + self.level_width(electrons) ** 2 / 12",
        ),
        (
            "return electrons + self.read_noise**2 + self.level_width(electrons) ** 2 / 12",
            "return electrons + self.read_noise + self.level_width(electrons)",
        ),
        ("caught + sensor.read_noise * read", "caught + 2 * sensor.read_noise * read"),
    ],
    3: [
        (
            "amplitude = scene.amplitude * scene.signature[c] / scene.signature[1] * scene.skin[c] / total",
            "amplitude = scene.amplitude * scene.skin[c] / total",
        ),
        ("noise = sensor.variance(electrons) / electrons**2", "noise = sensor.variance(electrons) / electrons"),
        ("total = scene.specular + scene.skin[c]", "total = scene.skin[c]"),
    ],
    4: [
        ("((w * n) ** 2).sum() / (p[1] / n[1]) ** 2", "(w**2).sum() / p[1] ** 2"),
        (
            "10 * np.log10((w @ p) ** 2 / ((w * n) ** 2).sum() / (p[1] / n[1]) ** 2)",
            "10 * np.log10((w @ p) ** 2 / ((w * n) ** 2).sum() / (p[0] / n[0]) ** 2)",
        ),
        ("((w * n) ** 2).sum() / (p[1]", "(w * n).sum() ** 2 / (p[1]"),
    ],
    5: [
        (
            'return a + tuned * b if method == "pos" else a - tuned * b',
            'return a - tuned * b if method == "pos" else a - tuned * b',
        ),
        ("tuned = np.linalg.norm(a) / np.linalg.norm(b)", "tuned = np.linalg.norm(b) / np.linalg.norm(a)"),
    ],
    6: [
        (
            "return back(series.unfold(-1, series.shape[-1] - L + 1, 1))",
            "return back(series.flip(-1).unfold(-1, series.shape[-1] - L + 1, 1))",
        ),
        ("torch.linalg.vector_norm(V, dim=-2)", "torch.linalg.vector_norm(V, dim=-2) ** 2"),
    ],
    7: [
        (
            "return torch.minimum(at + 1, n - at).clamp(max=most)",
            "return torch.minimum(at + 1, n - at + 1).clamp(max=most)",
        ),
        ("most = min(window, n - window + 1)", "most = n"),
        (
            "torch.fft.rfft(U.mT, n=n) * torch.fft.rfft(V.mT, n=n)",
            "torch.fft.rfft(U.mT, n=n) * torch.fft.rfft(V.mT.flip(-1), n=n)",
        ),
    ],
    8: [
        ("return torch.linalg.eigh(X @ X.mT).eigenvectors.flip(-1)", "return torch.linalg.eigh(X @ X.mT).eigenvectors"),
        (
            "power = torch.fft.rfft(series, n=2 * n).abs().square()",
            "power = torch.fft.rfft(series, n=n + 1).abs().square()",
        ),
    ],
    9: [
        ("math.sqrt((L - s(L)) * (K - s(K))), half", "math.sqrt((L - s(K)) * (K - s(L))), half"),
        ("abs(math.sin(m * omega) / math.sin(omega))", "abs(math.cos(m * omega) / math.sin(omega))"),
        ('half = check_real("amplitude", amplitude, low=0) / 2', 'half = check_real("amplitude", amplitude, low=0)'),
    ],
    10: [
        ("return math.sqrt(L) + math.sqrt(n - L + 1)", "return math.sqrt(L + n - L + 1)"),
        ("ratio = 2 * edge / math.sqrt(L * (n - L + 1))", "ratio = edge / math.sqrt(L * (n - L + 1))"),
        ("return 10 * math.log10(ratio**2 / 2)", "return 10 * math.log10(ratio**2)"),
    ],
    11: [
        ("gram = (series * _counts(n, _window(window, n), series)) @ series.mT", "gram = series @ series.mT"),
        ("clamp(min=torch.finfo(gram.dtype).tiny).sqrt()", "clamp(min=torch.finfo(gram.dtype).tiny)"),
    ],
    12: [
        ("best = freqs[(power * inside).argmax(-1)]", "best = freqs[power.argmax(-1)]"),
        ("argmax()]\n    return best", "argmin()]\n    return best"),
        (
            "power = torch.fft.rfft(series * hann, n=n).abs().square()",
            "power = torch.fft.rfft(series, n=n).abs().square()",
        ),
        (
            "power = torch.fft.rfft(series * hann, n=n).abs().square()",
            "power = torch.fft.rfft(series * hann, n=n).abs()",
        ),
        ("return freqs[first + power[..., first : last", "return freqs[power[..., 0 : last"),
    ],
    13: [
        ("kept = torch.where(member.any(-1, keepdim=True), member, kept)", "kept = kept"),
        ("torch.arange(rcs.shape[-2], device=rcs.device) < 2", "torch.arange(rcs.shape[-2], device=rcs.device) < 1"),
        (
            "(f[..., None, :] - 2 * f[..., :, None]).abs() <= tol",
            "(f[..., None, :] - 3 * f[..., :, None]).abs() <= tol",
        ),
        ("double &= (f <= highest)[..., :, None]", "double &= (f <= highest)[..., None, :]"),
        ("found = double.any(-1) | double.any(-2)", "found = double.any(-1)"),
    ],
    14: [
        ("torch.where((f_ref - middle).abs() > most, middle, f_ref)", "f_ref"),
        ("torch.where((f_ref - middle).abs() > most, middle, f_ref)", "middle"),
        ("f_ref[..., max(0, k - reach) : k + reach + 1]", "f_ref[..., max(0, k - reach) : k + 1]"),
        ('int(check_real("steady", steady, low=0) / 2 / hop + 1e-9)', 'int(check_real("steady", steady, low=0) / hop)'),
        ("_steadied(found, reach) if reach else found", "found"),
        (
            '_steadied(found, _reach(self.steady, self.hop)) if self.layout == "segment" else found',
            "_steadied(found, 10**6)",
        ),
    ],
    15: [
        (
            'range(1, check_integer("harmonics", harmonics, low=1) + 1)',
            'range(1, check_integer("harmonics", harmonics, low=1))',
        ),
        ("(f - k * ref[..., None]).abs() <= delta + 1e-12", "(f - k * ref[..., None]).abs() <= k * delta + 1e-12"),
    ],
    16: [
        (
            "return chosen * sigma / (chosen * sigma).sum(-1, keepdim=True).clamp(min=1e-300)",
            "return chosen * sigma**2 / (chosen * sigma**2).sum(-1, keepdim=True).clamp(min=1e-300)",
        ),
        ("for k in range(1, lines + 1)) > 0", "for k in range(1, 3)) > 0"),
        ("        return share**power\n", "        return share\n"),
        (
            "chosen = sum((own - k * f_ref[..., None]).abs() <= delta for k in range(1, lines + 1)) > 0",
            "chosen = off <= delta",
        ),
        (
            "chosen = (chosen | (none & (off == off.amin(-1, keepdim=True)))).to(P.dtype)",
            "chosen = (chosen | none).to(P.dtype)",
        ),
        ('"...r,...rn->...n"', '"...s,...rn->...n"'),
    ],
    17: [
        ("+ 0.5) / m) ** 2", "+ 0.0) / m) ** 2"),
        ("(starts + pieces.shape[-1] / 2) / one.fs", "starts / one.fs"),
        (
            "hann = torch.sin(torch.pi * (torch.arange(m, device=series.device, dtype=series.dtype) + 0.5) / m) ** 2",
            "hann = torch.ones(m, dtype=series.dtype)",
        ),
        ("total[start : start + m] += hann", "total[start : start + m] += 1"),
    ],
    18: [
        ("score = snr_dehaan(pieces, one.fs, 60 * f_ref)", "score = snr_dehaan(joined, one.fs, 60 * f_ref)"),
        ("((freqs - rate).abs() <= 0.1)", "((freqs - rate).abs() <= 0.2)"),
        ("(np.abs(error) <= 5).mean()", "(np.abs(error) <= 6.5).mean()"),
        ("((freqs - 2 * rate).abs() <= 0.2)", "((freqs - 2 * rate).abs() <= 0.1)"),
        ("inside = (freqs >= 2 / 3) & (freqs <= 4)\n    return", "inside = freqs <= 4\n    return"),
    ],
    19: [
        (
            "return back(torch.fft.irfft(torch.fft.rfft(series) * inside, n=series.shape[-1]))",
            "return back(torch.fft.irfft(torch.fft.rfft(series) * ~inside, n=series.shape[-1]))",
        ),
        (
            "inside = spectral_mask(freqs, ref.to(series), delta, harmonics)",
            "inside = spectral_mask(freqs, ref.to(series), 2 * delta, harmonics)",
        ),
    ],
    20: [
        ("law = 10 * math.log10((0.2 + 0.3) / 0.1)", "law = 10 * math.log10(0.3 / 0.1)"),
        (
            "law = 10 * math.log10((0.2 + 0.3) / 0.1) - 10 * math.log10(0.6 / (10 / 3 - 0.6))",
            "law = 10 * math.log10(3.3 / 0.6)",
        ),
    ],
    21: [
        ('"covariance": 2 * L * L * K', '"covariance": L * L * K'),
        ('"eigenvectors": 9 * L**3', '"eigenvectors": 9 * L**2'),
    ],
}

TestBreaks = battery.breaks("lowlight_rppg", BREAKS, until="### The race")
