"""The clustering experiments' own arithmetic: data, exponents, and the plain versions that ours are compared with."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn.cluster
import torch
from sklearn.datasets import make_moons
from typer.testing import CliRunner

from experiments import clustering_gallery, density_vs_sklearn, kmeans_100m, kmeans_gpu
from experiments.__main__ import app
from experiments.harness.kept import Kept
from experiments.harness.lesson import lesson
from experiments.harness.runner import Context
from experiments.harness.timing import Cost, costs_in_turns, growth_exponent, one_thread
from experiments.homework import K, plain_dbscan, plain_lsh, recall
from experiments.kmeans_vs_sklearn import Problem, faiss_kmeans, ours, scikit_learn
from experiments.meanshift_nearest import BANDWIDTH, all_pairs_step, extrapolate, mask_step


def test_the_lessons_data_is_250_points_around_each_of_6_centroids():
    data = lesson()
    assert data.points.shape == (1500, 2)
    assert torch.bincount(data.labels).tolist() == [250] * 6
    spread = (data.points - data.centroids[data.labels]).var(0)
    assert bool(((spread - 5).abs() < 0.5).all())
    assert torch.equal(data.points, lesson().points)
    assert data.error(data.centroids[data.labels]) == 0
    assert torch.bincount(lesson(sizes=(5, 3, 1, 1, 1, 1)).labels).tolist() == [5, 3, 1, 1, 1, 1]


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_is_the_power(power):
    sizes = [10, 100, 1000]
    assert growth_exponent(sizes, [3 * n**power for n in sizes]) == pytest.approx(power)
    assert growth_exponent([10], [1.0]) is None


def test_extrapolation_never_assumes_less_than_proportional_growth():
    assert extrapolate({"seconds": [1.0, 4.0], "sizes": [10, 20], "exponent": 2.0}, 40) == pytest.approx(16)
    assert extrapolate({"seconds": [1.0, 1.0], "sizes": [10, 20], "exponent": 0.0}, 40) == pytest.approx(2)


def test_the_plain_dbscan_is_scikit_learns():
    x, _ = make_moons(300, noise=0.08, random_state=0)
    theirs = sklearn.cluster.DBSCAN(eps=0.15, min_samples=6).fit(x).labels_
    np.testing.assert_array_equal(plain_dbscan(list(map(tuple, x.tolist())), 0.15, 6), theirs)


def test_the_plain_lsh_finds_a_point_itself_and_recall_counts_what_is_shared():
    x = np.random.default_rng(0).normal(size=(200, 16))
    found = plain_lsh(x.tolist(), x[:5].tolist(), 8.0, 0)
    assert [row[0] for row in found] == [0, 1, 2, 3, 4]
    assert recall([list(range(K)), list(range(K))], np.array([range(K), range(K // 2, K + K // 2)])) == 0.75


def test_a_mask_wide_enough_leaves_nothing_out():
    x = torch.randn(60, 2, generator=torch.Generator().manual_seed(0)) * BANDWIDTH / 4
    torch.testing.assert_close(mask_step(x), all_pairs_step(x), rtol=1e-3, atol=1e-3)


def test_all_three_k_means_are_compared_on_the_same_start_and_agree():
    x = Problem(3000, 8, 12).points(0)
    inertias = [fit(x, x[:12].copy()) for fit in (ours, scikit_learn, faiss_kmeans)]
    assert max(inertias) / min(inertias) < 1.02


def test_k_means_on_a_card_starts_from_points_and_refuses_a_processor():
    problem = kmeans_gpu.Problem(400, 3, 5)
    x = problem.points(0, torch.device("cpu"))
    start = problem.start(x, 1)
    assert bool((start[:, None] == x).all(2).any(1).all()) and len(start.unique(dim=0)) == 5
    centers, iterations = kmeans_gpu.ours(x, start)(3)
    assert centers.shape == (5, 3) and iterations == 3
    ran = CliRunner().invoke(app, ["run", "kmeans-gpu", "--device", "cpu"])
    assert ran.exit_code == 2 and "--device cuda" in ran.stderr
    twice = CliRunner().invoke(app, ["run", "kmeans-gpu", "--seed", "1", "--seed", "2"])
    assert twice.exit_code == 2 and "--seed is given twice" in twice.stderr


@pytest.mark.parametrize("name", ["DBSCAN", "HDBSCAN", "KMeans", "MeanShift"])
def test_the_gallery_compares_estimators_that_agree_on_blobs(name):
    toy = clustering_gallery.toy_sets(150, 0)["blobs"]
    own, reference = (make(toy, 0.5, 0).fit(toy.x) for make in clustering_gallery.PAIRS[name])
    found = clustering_gallery.compare(own, reference)
    assert found["adjusted_rand_index"] == pytest.approx(1)
    assert clustering_gallery.note(found) == "1.00"


def test_the_gallery_colors_the_same_cluster_alike_and_leaves_noise_noise():
    labels, like = np.array([0, 0, 1, 1, 2, -1]), np.array([1, 1, 0, 0, -1, -1])
    assert clustering_gallery.named_alike(labels, like).tolist() == [1, 1, 0, 0, 2, -1]
    assert clustering_gallery.note({"adjusted_rand_index": 0.5, "inertia_ratio": 0.9}) == "0.50, inertia × 0.900"


def test_a_hundred_million_points_are_written_shard_by_shard_where_there_is_room(tmp_path, monkeypatch):
    monkeypatch.setattr(kmeans_100m, "SHARD_ROWS", 400)
    kmeans_100m.write_shards(tmp_path, 1000, 0)
    parts = [np.load(file) for file in sorted(tmp_path.iterdir())]
    assert [part.shape for part in parts] == [(400, 16), (400, 16), (200, 16)] and parts[0].dtype == np.float32
    assert not np.array_equal(parts[0], parts[1])
    monkeypatch.setattr(kmeans_100m.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    ran = CliRunner().invoke(app, ["run", "kmeans-100m", "--quick", "--results", str(tmp_path / "results")])
    assert ran.exit_code == 2 and "TMPDIR" in ran.stderr


def test_who_would_not_end_in_time_is_run_on_parts_and_extrapolated():
    asked = []

    def fit(n):
        asked.append(n)
        return Cost(2e-6 * n**2, 1e-6 * n**2)

    parts = density_vs_sklearn.grow(fit, 64_000, 100.0)
    assert asked == list(parts) == [1000, 2000, 4000, 8000]
    assert density_vs_sklearn.expected(parts, 64_000, "processor_seconds") == pytest.approx(64_000**2 * 1e-6)
    assert density_vs_sklearn.expected(parts, 8000, "seconds") == pytest.approx(128)
    assert list(density_vs_sklearn.grow(fit, 4000, 100.0)) == [1000, 2000, 4000]


@pytest.mark.parametrize("name", ["DBSCAN", "HDBSCAN"])
def test_density_estimators_are_compared_on_the_same_clusters(name):
    with one_thread():
        assert torch.get_num_threads() == 1
        row = density_vs_sklearn.compare(name, 1000, 3, 0)
    assert {"scikit-learn"} <= set(row["times_faster"]) <= {"scikit-learn", "hdbscan"}
    assert row["repeats"] == 5 and not row["extrapolated_from"]
    assert min(row["agreement"].values()) > 0.9


def test_a_broken_off_experiment_goes_on_where_it_was(tmp_path):
    context = Context("long", tmp_path, seed=1)
    asked = []

    def measure():
        asked.append(len(asked))
        return {"found": asked[-1]}

    assert [Kept(context).row(name, measure)["found"] for name in ("a", "b", "a")] == [0, 1, 0]
    assert Kept(Context("long", tmp_path, seed=2)).rows == {}
    Kept(context).finish()
    assert list(tmp_path.iterdir()) == []


def test_costs_are_medians_of_wall_and_processor_seconds():
    found = costs_in_turns({"sleeping": lambda: time.sleep(0.02), "nothing": lambda: None}, 3)
    assert found["sleeping"].seconds >= 0.02 > found["sleeping"].processor_seconds
