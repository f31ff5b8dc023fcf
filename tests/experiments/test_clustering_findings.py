"""The clustering experiments' own arithmetic: data, exponents, and the plain versions that ours are compared with."""

from types import SimpleNamespace

import numpy as np
import pytest
import sklearn.cluster
import torch
from sklearn.datasets import make_moons
from typer.testing import CliRunner

from experiments import clustering_gallery, kmeans_100m, kmeans_gpu
from experiments.__main__ import app
from experiments.harness.lesson import lesson
from experiments.harness.timing import growth_exponent
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
