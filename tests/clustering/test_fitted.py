"""What a fitted model keeps: parameters set later, `steps`, pickles and files leave it as it was fitted."""

import copy
import pickle

import numpy as np
import pytest
import torch

from clustering import DBSCAN, HDBSCAN, BisectingKMeans, KMeans, MeanShift, MiniBatchKMeans, NearestNeighbors, load

X = torch.randn(60, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float32) + 1
QUERIES = X[:9] * 3 + 0.1
RESULTS = {
    "neighbors": (
        lambda: NearestNeighbors(3).fit(X),
        {"metric": "cosine", "algorithm": "lsh", "random_state": 5},
        lambda m: m.kneighbors(QUERIES),
    ),
    "cosine neighbors": (
        lambda: NearestNeighbors(3, radius=0.2, metric="cosine", algorithm="kd_tree").fit(X),
        {"metric": "euclidean", "algorithm": "grid"},
        lambda m: (*m.kneighbors(QUERIES), *m.radius_neighbors(QUERIES)[1]),
    ),
    "products": (
        lambda: NearestNeighbors(3, metric="inner_product").fit(X),
        {"metric": "euclidean"},
        lambda m: (*m.kneighbors(QUERIES), *m.kneighbors()),
    ),
    "batch": (
        lambda: NearestNeighbors(3, metric="cosine").fit(X.reshape(3, 20, 3)),
        {"metric": "euclidean", "algorithm": "kd_tree"},
        lambda m: (*m.kneighbors(QUERIES.reshape(3, 3, 3)), *m.radius_neighbors(QUERIES.reshape(3, 3, 3), 0.3)[1][0]),
    ),
    "hashes": (
        lambda: NearestNeighbors(3, algorithm="lsh", random_state=1).fit(X),
        {"random_state": 2, "n_neighbors": 3},
        lambda m: m.kneighbors(QUERIES),
    ),
    "dbscan": (
        lambda: DBSCAN(0.8, min_samples=3).fit(X),
        {"eps": 0.01, "metric": "cosine", "algorithm": "brute"},
        lambda m: (m.predict(X),),
    ),
    "hdbscan": (
        lambda: HDBSCAN(3, allow_single_cluster=True).fit(X),
        {"metric": "cosine", "cluster_selection_epsilon": 5.0},
        lambda m: m.approximate_predict(QUERIES),
    ),
    "k-means": (lambda: KMeans(4).fit(X), {"spherical": True}, lambda m: (m.predict(QUERIES), m.transform(QUERIES))),
    "batch of k-means": (
        lambda: KMeans(4, spherical=True).fit(X.reshape(3, 20, 3)),
        {"spherical": False},
        lambda m: (m.predict(QUERIES.reshape(3, 3, 3)),),
    ),
    "bisecting": (lambda: BisectingKMeans(4).fit(X), {"spherical": True}, lambda m: (m.predict(QUERIES),)),
    "mini-batches": (
        lambda: MiniBatchKMeans(4).fit(X),
        {"spherical": True},
        lambda m: (m.predict(QUERIES), copy.deepcopy(m).partial_fit(QUERIES).cluster_centers_),
    ),
}


@pytest.mark.parametrize("name", RESULTS)
def test_parameters_set_after_fit_change_no_fitted_model(name, tmp_path):
    make, parameters, results = RESULTS[name]
    model = make()
    expected = results(model)
    model.set_params(**parameters)
    others = (model, pickle.loads(pickle.dumps(model)), load(model.save(tmp_path / "model.safetensors")), copy.deepcopy(model))
    for other in others:
        for new, old in zip(results(other), expected, strict=True):
            assert torch.equal(new, old)


def test_a_file_without_remembered_parameters_goes_by_its_own():
    model = NearestNeighbors(3, metric="cosine").fit(X)
    expected = model.kneighbors(QUERIES)
    del model._fitted
    model._restore()
    assert torch.equal(model.kneighbors(QUERIES)[0], expected[0])


@pytest.mark.parametrize("algorithm", ["brute", "kd_tree", "grid", "lsh"])
def test_a_pickle_holds_the_points_once_and_not_what_they_are_a_view_of(algorithm):
    base = torch.randn(200_000, 3, generator=torch.Generator().manual_seed(0))
    view = base[:50]
    for model in (NearestNeighbors(3, algorithm=algorithm), HDBSCAN(5)):
        model.fit(view)
        state = pickle.dumps(model)
        assert len(state) < 100_000  # the base has 2.4 MB
        other = pickle.loads(state)
    neighbors = NearestNeighbors(3, algorithm=algorithm).fit(view)
    assert neighbors._points.data_ptr() == view.data_ptr()  # the model itself copies nothing
    other = pickle.loads(pickle.dumps(neighbors))
    assert torch.equal(other.kneighbors(view)[1], neighbors.kneighbors(view)[1])
    if algorithm in ("brute", "lsh"):  # the others widen or reorder the points
        assert other._points.data_ptr() == other._index.points.data_ptr()


def test_steps_leave_a_fitted_model_as_it_is():
    for model in (KMeans(3), MeanShift(), MeanShift(1.0, neighbors=("nearest", 5))):
        model.fit(X)
        before = dict(vars(model))
        for _ in model.steps(X[:, :2] * 100):
            pass
        assert vars(model).keys() == before.keys() and all(vars(model)[name] is before[name] for name in before)


@pytest.mark.parametrize(
    "parameters", [{"max_iter": 0}, {"tol": -1.0}, {"algorithm": "fast"}, {"n_clusters": 61}, {"n_init": 0}, {"spherical": 1}]
)
def test_steps_refuse_what_fit_refuses(parameters):
    for call in (lambda: KMeans(**parameters).fit(X), lambda: next(KMeans(**parameters).steps(X))):
        with pytest.raises(ValueError, match=r"parameter|n_samples=60"):
            call()


def test_steps_of_k_means_end_where_fit_does():
    *_, last = KMeans(3, init=X[:3].clone()).steps(X)
    np.testing.assert_allclose(last, KMeans(3, init=X[:3].clone()).fit(X).cluster_centers_, rtol=1e-6)
