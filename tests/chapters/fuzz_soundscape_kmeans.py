"""Right calls of the public names of `weightbook.estimation.soundscape_kmeans`, see tests/fuzz.py."""

import numpy as np
import torch
from fuzz import RACE, RECORD, Free, Wide, a, place, settings, t, table

table(
    "estimation.soundscape_kmeans",
    Survey=RECORD,
    simulate_survey=lambda m: dict(random_state=0, participants=3),
    load_survey=lambda m: dict(settings=settings()),
    iso_coordinates=lambda m: dict(responses=np.full((3, 8), 3.0), value_range=(1, 5)),
    reliability_weight=lambda m: dict(freq_code=np.array([1.0, 2.0]), minutes=np.array([10.0, 60.0])),
    haversine=lambda m: dict(a=place(3), b=place(4), radius=1.0),
    unit_vectors=lambda m: dict(latlng=Free(place(3))),
    project_km=lambda m: dict(latlng=place(3), latitude=1.0),
    weighted_inertia=lambda m: dict(
        X=a(6, 2), centers=a(2, 2), labels=np.arange(6) % 2, sample_weight=np.ones(6), metric="euclidean"
    ),
    assign=lambda m: dict(E=a(6, 2), V=a(3, 2, 2), counts=np.array([1, 2, 2])),
    weighted_means=lambda m: dict(labels=np.zeros((1, 6), int), payload=a(6, 2), weight=np.ones(6), old=a(1, 2, 2)),
    Runs=RECORD,
    lloyd=lambda m: dict(
        points=a(6, 2), weight=np.ones(6), centers=a(1, 2, 2), metric="euclidean", mean="planar", max_iter=3, tol=0.0
    ),
    kmeans_plusplus=lambda m: dict(
        rows=lambda i: np.ones((len(i), 6)), uniforms=Wide(np.full((2, 2), 0.5)), mass=np.ones(6)
    ),
    spanning_edges=lambda m: dict(distances=m.haversine(place(4), place(4))),
    PairOrder=lambda m: dict(distances=m.haversine(place(4), place(4))),
    dunn_index=lambda m: dict(X=Free(a(6, 2)), labels=np.arange(6) % 2, metric="euclidean"),
    expected_best=lambda m: dict(values=Wide(a(5)), m=2),
    characteristic_points=lambda m: dict(X=place(6), centers=place(2, 1), metric="haversine"),
    run_reference=lambda m: dict(points=place(12), weight=np.ones(12), k=2, seed=0, max_iter=3),
    run_restarts=lambda m: dict(
        points=a(6, 2),
        weight=np.ones(6),
        squared=((a(6, 2)[:, None] - a(6, 2)) ** 2).sum(-1),
        counts=[2, 2],
        seeds=[0, 1],
        metric="euclidean",
        mean="planar",
        max_iter=3,
    ),
    Selection=RECORD,
    select_by_dunn=lambda m: dict(
        X=Wide(a(8, 2)), sample_weight=np.ones(8), ks=[2, 3], n_runs=2, seed0=0, metric="euclidean"
    ),
    WeightedKMeans=RECORD + "; scikit-learn's rule: an estimator checks in `fit` (test_soundscape_kmeans)",
    lloyd_step_bytes=lambda m: dict(n=5, width=2, payload=0, itemsize=4),
    lloyd_step_reference=lambda m: dict(E=t(6, 2), payload=Wide(t(6, 2)), weight=torch.ones(6), V=t(3, 2)),
    lloyd_step=lambda m: dict(E=t(6, 2), payload=Wide(t(6, 2)), weight=torch.ones(6), V=t(3, 2)),
    candidates=lambda m: dict(V=a(3, 2), middle=a(2, 4), half=np.ones((2, 4))),
    PrunedStep=lambda m: dict(E=Wide(a(6, 2)), payload=Wide(a(6, 2)), weight=np.ones(6), block=2),
    fit_arms=RACE,
    benchmark=RACE,
    plot_clusters=lambda m: dict(
        points=place(6), labels=np.arange(6) % 2, sites=Wide(np.array([0, 1])), weight=np.ones(6)
    ),
)
