"""Whatever users have is clustered alike, and what cannot be is refused in one sentence."""

import pickle

import numpy as np
import pytest
import sklearn.cluster
import torch
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score

from clustering import (
    DBSCAN,
    HDBSCAN,
    BisectingKMeans,
    Chunks,
    KMeans,
    MeanShift,
    MiniBatchKMeans,
    NearestNeighbors,
    estimate_bandwidth,
    kmeans_plusplus,
)

RNG = np.random.default_rng(0)
BASE = np.concatenate([RNG.normal(0, 1, (40, 3)), RNG.normal(10, 1, (40, 3))])
TRUTH = np.arange(80) // 40
READ_ONLY = BASE.copy()
READ_ONLY.flags.writeable = False
KINDS = {
    "float32": BASE.astype("f4"),
    "float16": BASE.astype("f2"),
    "integers": (BASE * 10).astype(int),
    "bytes": (BASE * 10 + 40).astype("u1"),
    "big-endian": BASE.astype(">f4"),
    "big-endian integers": (BASE * 10).astype(">i4"),
    "reversed": BASE[::-1, ::-1][::-1],
    "Fortran order": np.asfortranarray(BASE),
    "strided": np.repeat(BASE, 2, 1)[:, ::2],
    "read-only": READ_ONLY,
    "list": BASE.tolist(),
    "huge": (BASE * 1e30).astype("f4"),
    "tiny": (BASE * 1e-30).astype("f4"),
    "long double": BASE.astype(np.longdouble),
    "bfloat16": torch.tensor(BASE).bfloat16(),
    "large integers": torch.tensor(BASE * 1e9).long(),
    "transposed tensor": torch.tensor(BASE).T.contiguous().T,
    "huge tensor": torch.tensor(BASE * 1e30).float(),
    "gradient": torch.tensor(BASE, requires_grad=True),
}
FITS = {
    "KMeans": lambda x, scale: KMeans(2),
    "given start": lambda x, scale: KMeans(2, init=[x[0], x[50]] if isinstance(x, list) else x[[0, 50]]),
    "random": lambda x, scale: KMeans(2, init="random", n_init="auto"),
    "MiniBatchKMeans": lambda x, scale: MiniBatchKMeans(2),
    "MeanShift": lambda x, scale: MeanShift(),
    "DBSCAN": lambda x, scale: DBSCAN(4.0 * scale),
    "HDBSCAN": lambda x, scale: HDBSCAN(),
    "BisectingKMeans": lambda x, scale: BisectingKMeans(2),
}


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("error")
def test_every_kind_of_points_is_clustered_and_predicted(kind, fit):
    x = KINDS[kind]
    values = np.asarray(x.detach().double() if isinstance(x, torch.Tensor) else x, dtype=np.float64)
    scale = float(np.ptp(values) / np.ptp(BASE))
    model = FITS[fit](x, scale).fit(x)
    assert adjusted_rand_score(TRUTH, model.labels_) > 0.9
    assert np.array_equal(model.predict(x), model.labels_)
    assert isinstance(model.labels_, torch.Tensor) == isinstance(x, torch.Tensor)


@pytest.mark.parametrize("algorithm", ["brute", "kd_tree", "ball_tree", "grid"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("error")
def test_every_kind_of_points_has_its_neighbors(kind, algorithm):
    x = KINDS[kind]
    values = np.asarray(x.detach().double() if isinstance(x, torch.Tensor) else x, dtype=np.float64)
    squares = ((values[:, None] - values) ** 2).sum(2)
    np.fill_diagonal(squares, np.inf)
    expected = squares.argsort(1, kind="stable")[:, :3]
    found = NearestNeighbors(3, algorithm=algorithm).fit(x).kneighbors(return_distance=False)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_frames_are_read_and_their_names_remembered_and_forgotten(kind):
    frames = pytest.importorskip(kind)
    frame = frames.DataFrame({name: BASE[:, column] for column, name in enumerate("abc")})
    model = KMeans(2).fit(frame)
    assert list(model.feature_names_in_) == ["a", "b", "c"]
    assert adjusted_rand_score(TRUTH, model.predict(frame)) == 1
    assert not hasattr(model.fit(torch.tensor(BASE)), "feature_names_in_")


def test_a_refit_without_names_forgets_them():
    for again in (torch.tensor(BASE), BASE, Chunks(BASE)):
        model = KMeans(2).fit(BASE)
        model.feature_names_in_ = np.array(["a", "b", "c"], dtype=object)
        assert not hasattr(model.fit(again), "feature_names_in_")


@pytest.mark.parametrize("weights", [[1] * 80, np.ones(80, ">f4")[::-1], np.full(80, 1e300), np.full(80, 1e-300), 1.0])
@pytest.mark.parametrize("model", [KMeans(2), MiniBatchKMeans(2)], ids=repr)
def test_weights_of_every_kind_and_size(model, weights):
    fitted = model.fit(BASE, sample_weight=weights)
    np.testing.assert_allclose(fitted.cluster_centers_, clone(model).fit(BASE).cluster_centers_)
    assert np.isfinite(fitted.inertia_)


def test_a_stream_takes_weights():
    weights = RNG.integers(0, 3, 80)
    whole = KMeans(2, init=BASE[[0, 50]]).fit(BASE, sample_weight=weights)
    stream = KMeans(2, init=BASE[[0, 50]]).fit(Chunks(BASE, rows=33), sample_weight=weights)
    np.testing.assert_allclose(stream.cluster_centers_, whole.cluster_centers_)
    assert stream.inertia_ == pytest.approx(whole.inertia_)
    assert np.array_equal(stream.predict(Chunks(BASE, rows=7)), whole.predict(BASE))
    assert stream.score(Chunks(BASE, rows=7), sample_weight=weights) == pytest.approx(-whole.inertia_)


class OneCenter:
    """An `init` that gives one center, whatever is asked for; named so that the test's name is always the same."""

    def __call__(self, x, k, random_state):
        return x[:1]

    def __repr__(self) -> str:
        return "one center"


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (KMeans(2.5), "must be an int in the range"),
        (KMeans(np.nan), "must be an int in the range"),
        (KMeans(2, n_init=0), "n_init"),
        (KMeans(2, tol=-1), "tol"),
        (KMeans(2, random_state=1.5), "cannot be used to seed"),
        (KMeans(2, random_state=-1), "cannot be used to seed"),
        (KMeans(2, init=np.full((2, 3), np.nan)), "NaN"),
        (KMeans(2, init=torch.full((2, 3), torch.inf)), "infinity"),
        (KMeans(2, init=np.full((2, 3), 1e300)), "too large"),
        (KMeans(2, init=None), "init"),
        (KMeans(2, copy_x="no"), "copy_x"),
        (KMeans(2, init=OneCenter()), "shape of the initial centers"),
        (MiniBatchKMeans(2, max_epochs=0), "max_epochs"),
        (DBSCAN(np.inf), "eps"),
        (DBSCAN(np.nan), "eps"),
        (MeanShift(np.inf), "bandwidth"),
        (MeanShift(1e-300), "bandwidth"),
        (MeanShift(1.0, lr=np.nan), "lr"),
        (NearestNeighbors(n_jobs=0), "n_jobs"),
        (NearestNeighbors(1.5), "n_neighbors"),
        (NearestNeighbors(algorithm="kdtree"), "kd_tree"),
    ],
    ids=str,
)
def test_parameters_out_of_range_are_named(model, sentence):
    with pytest.raises(ValueError, match=sentence):
        model.fit(BASE)


@pytest.mark.parametrize(
    ("estimator", "old", "new"),
    [
        (KMeans, "seed", "random_state"),
        (MiniBatchKMeans, "seed", "random_state"),
        (MeanShift, "neighbours", "neighbors"),
        (MeanShift, "method", "algorithm"),
        (DBSCAN, "method", "algorithm"),
        (NearestNeighbors, "method", "algorithm"),
        (NearestNeighbors, "seed", "random_state"),
    ],
)
def test_a_former_name_says_the_new_one(estimator, old, new):
    with pytest.raises(TypeError, match=f"{old!r}: it is called {new!r}"):
        estimator(**{old: "auto"})


@pytest.mark.parametrize(
    "state", [np.int64(3), np.random.RandomState(0), np.random.default_rng(0), torch.Generator().manual_seed(0), None], ids=type
)
def test_every_kind_of_random_state_seeds(state):
    assert adjusted_rand_score(TRUTH, KMeans(2, random_state=state).fit(BASE).labels_) == 1
    assert len(kmeans_plusplus(BASE, 2, random_state=state)[1]) == 2
    assert estimate_bandwidth(BASE, n_samples=50, random_state=state) > 0


def test_a_callable_start_gets_points_of_the_users_kind():
    def first(x, n_clusters, random_state):
        assert isinstance(x, np.ndarray)
        assert isinstance(random_state, np.random.RandomState)
        return x[:n_clusters]

    np.testing.assert_array_equal(
        KMeans(3, init=first).fit(BASE).cluster_centers_, KMeans(3, init=BASE[:3]).fit(BASE).cluster_centers_
    )


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        (-np.ones(80), "Negative values"),
        (np.full(80, 1e308), "sum"),
        (np.full(80, np.nan), "finite"),
        (np.zeros(80), "zero"),
        (np.ones(79), r"expected \(80,\)"),
        (np.ones(80, complex), "Complex"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(weights, sentence):
    for model in (KMeans(2), MiniBatchKMeans(2)):
        with pytest.raises(ValueError, match=sentence):
            model.fit(BASE, sample_weight=weights)


def test_points_beyond_every_float_are_refused():
    with pytest.raises(ValueError, match="scale them down"):
        KMeans(2).fit(BASE * 1e200)


def test_models_are_cloned_and_pickled():
    for model in (KMeans(2), MiniBatchKMeans(2), MeanShift(), DBSCAN(4.0)):
        fitted = clone(model).fit(BASE)
        assert np.array_equal(pickle.loads(pickle.dumps(fitted)).predict(BASE), fitted.labels_)


def test_the_stopping_rule_is_scikit_learns():
    for tol in (1e-2, 1e-4, 0.0):
        options = {"n_clusters": 5, "init": BASE[:5], "n_init": 1, "tol": tol}
        assert KMeans(**options).fit(BASE).n_iter_ == sklearn.cluster.KMeans(**options).fit(BASE).n_iter_


@pytest.mark.parametrize(
    "model",
    [KMeans(2), MiniBatchKMeans(2), BisectingKMeans(2), MeanShift(), DBSCAN(), HDBSCAN(), NearestNeighbors()],
    ids=str,
)
@pytest.mark.parametrize("text", [BASE.astype("U8"), BASE.astype("S8"), [["1", "2"], ["3", "4"]]], ids=["str", "bytes", "list"])
def test_text_that_looks_like_numbers_is_refused(model, text):
    with pytest.raises(ValueError, match="bytes/strings"):
        model.fit(text)


@pytest.mark.parametrize("n_clusters", [2.5, "3", None, True, 0, -1, 81, float("nan")])
def test_seeding_takes_whole_numbers_only(n_clusters):
    with pytest.raises(ValueError, match="n_clusters"):
        kmeans_plusplus(BASE, n_clusters)


def test_expanded_negated_and_wide_unsigned_tensors_are_read_as_their_copies() -> None:
    row = torch.randn(1, 3, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(MeanShift(bandwidth=2.0).fit(row.expand(50, 3)).cluster_centers_, row)
    for seed in range(12):
        same = np.broadcast_to(np.random.default_rng(seed).standard_normal((1, 3)), (50, 3))
        np.testing.assert_allclose(MeanShift(bandwidth=2.0).fit(same).cluster_centers_, same[:1])
    negated = torch.complex(torch.zeros(40, 2), torch.randn(40, 2, generator=torch.Generator().manual_seed(1))).conj().imag
    assert negated.is_neg() and DBSCAN(eps=0.3).fit(negated).labels_.equal(
        DBSCAN(eps=0.3).fit(negated.clone().resolve_neg()).labels_
    )
    whole = torch.tensor([0, 1, 2, 60_000, 60_001])[:, None]
    for kind in (torch.uint16, torch.uint32, torch.uint64):
        assert KMeans(2, random_state=0).fit(whole.to(kind)).inertia_ == pytest.approx(2.5)
        assert KMeans(2, random_state=0).fit(Chunks(whole.to(kind))).inertia_ == pytest.approx(2.5)


@pytest.mark.parametrize("model", [KMeans(2), DBSCAN(4.0), HDBSCAN(), NearestNeighbors()], ids=str)
def test_masked_points_are_refused_and_a_mask_of_nothing_is_none(model):
    with pytest.raises(ValueError, match="some of the points are masked"):
        model.fit(np.ma.masked_greater(BASE, np.median(BASE)))
    model.fit(np.ma.masked_greater(BASE, np.inf))
