"""Right calls of the public names of `weightbook.estimation.lowlight_rppg`, see tests/fuzz.py."""

import numpy as np
from fuzz import RECORD, Free, Wide, a, table

WAVE = np.cos(2 * np.pi * 1.2 * np.arange(300) / 30)
RGB = np.array([3.0, 2.0, 1.5]) * (1 - 0.01 * WAVE[:, None]) + a(300, 3) * 1e-4
PARTS = np.stack([WAVE, WAVE])

table(
    "estimation.lowlight_rppg",
    band_pass=lambda m: dict(x=Free(WAVE), fs=30.0, band=(0.7, 4.0)),
    SceneModel=lambda m: dict(amplitude=0.006),
    SensorModel=lambda m: dict(electrons=600.0),
    pulse_wave=lambda m: dict(hr=Free(np.array([70.0])), seconds=5.0, fs=30.0, seed=0),
    SkinPatchSimulator=lambda m: dict(fs=30.0, lux=10.0),
    patch_snr=lambda m: dict(lux=Free(np.array([4.0])), n_pixels=400, channel=1),
    projection_gain=lambda m: dict(weights=[0.0, 1.0, 0.0], signature=[0.3, 0.8, 0.5], noise=[1.0, 1.0, 1.0]),
    noise_driven_weights=lambda m: dict(method="pos"),
    trajectory_matrix=lambda m: dict(x=Free(WAVE), window=60),
    ssa_decompose=lambda m: dict(x=Free(WAVE), window=60, n_components=3, method="eigh"),
    pair_bounds=lambda m: dict(frequency=1.2, n=300, window=60, fs=30.0, amplitude=1.0),
    noise_edge=lambda m: dict(n=300, window=60),
    detection_limit=lambda m: dict(n=300, window=60, edge=23.0),
    w_correlation=lambda m: dict(rcs=Free(PARTS), window=60),
    periodogram=lambda m: dict(x=Free(WAVE), fs=30.0, n_fft=512),
    dominant_frequency=lambda m: dict(x=Free(WAVE), fs=30.0, band=(0.7, 4.0)),
    harmonic_pairs=lambda m: dict(freqs=Free(np.array([1.2, 2.4])), tol=0.2, highest=3.0),
    spectral_mask=lambda m: dict(freqs=Wide(np.linspace(0, 5, 9)), f_ref=1.2, delta=0.15, harmonics=2),
    fuse_components=lambda m: dict(rcs=Wide(PARTS), weights=np.array([0.5, 1.0])),
    segment_starts=lambda m: dict(n=90, length=30, hop=10),
    overlap_add=lambda m: dict(segments=Free(np.ones((2, 20))), starts=[0, 10], n=60),
    snr_dehaan=lambda m: dict(pulse=Free(WAVE), fs=30.0, hr=72.0),
    comb_filter=lambda m: dict(x=Free(WAVE), f_ref=1.2, fs=30.0, delta=0.15, harmonics=2),
    green=lambda m: dict(rgb=Free(RGB), fs=30.0, band=(0.7, 4.0)),
    lgi=lambda m: dict(rgb=Free(RGB), fs=30.0),
    pbv=lambda m: dict(rgb=Free(RGB), fs=30.0, signature=[0.3, 0.8, 0.5]),
    pos=lambda m: dict(rgb=Free(RGB), fs=30.0),
    chrom=lambda m: dict(rgb=Free(RGB), fs=30.0),
    ica=lambda m: dict(rgb=Free(RGB), fs=30.0, random_state=0),
    detrend=lambda m: dict(x=Free(WAVE), strength=10.0),
    heart_rate=lambda m: dict(pulse=Free(WAVE), fs=30.0, window=5.0, hop=1.0, band=(0.7, 4.0), steady=9.0, near=72.0),
    hr_metrics=lambda m: dict(est=Free(np.array([60.0, 70.0])), ref=Free(np.array([61.0, 72.0]))),
    noise_floor=lambda m: dict(rgb=Free(RGB), fs=30.0),
    SSAPulseExtractor="scikit-learn's rule: an estimator checks in `fit` (test_lowlight_rppg)",
    traces_from_array=lambda m: dict(frames=Free(np.full((3, 4, 4, 3), 9.0)), gamma=1.0, full_scale=255.0),
    traces_from_csv="reads a file: test_lowlight_rppg spoils some",
    traces_from_video="reads a file: test_lowlight_rppg spoils some",
    Recording=RECORD,
    load_mihr="reads a folder: test_lowlight_rppg spoils some",
    load_pure="reads a folder: test_lowlight_rppg spoils some",
    score_recordings="reads recordings: test_lowlight_rppg",
    recorded_pulses=lambda m: dict(seconds=15.0, fs=30.0),
    ssa_operations=lambda m: dict(n=300, window=60, n_components=10),
    plain_ssa=lambda m: dict(x=Wide(WAVE[:60]), window=12, n_components=3),
)
