"""pandas and polars frames go into every estimator, and come out of those that transform."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

import clustering
from clustering import (
    DBSCAN,
    HDBSCAN,
    BisectingKMeans,
    KMeans,
    MeanShift,
    MiniBatchKMeans,
    NearestNeighbors,
)

RNG = np.random.default_rng(0)
X = np.concatenate([RNG.normal(0, 1, (40, 3)), RNG.normal(10, 1, (40, 3))])
FRAMES = {"pandas": pd.DataFrame, "polars": pl.DataFrame}
CENTERED = [KMeans(2), KMeans(2, algorithm="balanced"), MiniBatchKMeans(2), BisectingKMeans(2)]
LABELERS = [*CENTERED, MeanShift(5.0), DBSCAN(4.0), HDBSCAN()]


@pytest.fixture(params=FRAMES)
def library(request):
    return request.param


@pytest.fixture
def frame(library):
    return FRAMES[library]({name: X[:, column] for column, name in enumerate("abc")})


@pytest.mark.parametrize("model", LABELERS, ids=repr)
def test_frames_are_clustered_as_the_arrays_that_they_hold(frame, model):
    labels = model.fit(X).labels_
    assert np.array_equal(model.fit(frame).labels_, labels) and isinstance(model.labels_, np.ndarray)
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    assert np.array_equal(model.predict(frame), labels)
    renamed = type(frame)({name: X[:, column] for column, name in enumerate("abz")})
    with pytest.raises(ValueError, match="feature names"):
        model.predict(renamed)
    assert not hasattr(model.fit(torch.tensor(X)), "feature_names_in_")


@pytest.mark.parametrize("model", CENTERED, ids=repr)
def test_distances_come_as_the_frames_that_set_output_asks_for(library, frame, model):
    plain = model.fit(frame).transform(frame)
    assert isinstance(plain, np.ndarray)
    out = model.set_output(transform=library).fit(frame).transform(frame)
    assert type(out) is type(frame)
    assert list(out.columns) == [f"{type(model).__name__.lower()}{number}" for number in range(2)]
    np.testing.assert_allclose(out.to_numpy(), plain)
    assert type(model.fit_transform(frame)) is type(frame)
    if library == "pandas":
        shuffled = frame.set_index(frame.index[::-1])
        assert model.transform(shuffled).index.equals(shuffled.index)
    model.set_output(transform="default")


def test_neighbors_are_found_in_frames(frame):
    far, index = NearestNeighbors(3).fit(X).kneighbors(X[:5])
    model = NearestNeighbors(3).fit(frame)
    ours = model.kneighbors(frame[:5])
    np.testing.assert_array_equal(ours[1], index)
    np.testing.assert_allclose(ours[0], far)
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(model.kneighbors()[1], NearestNeighbors(3).fit(X).kneighbors()[1])
    assert model.kneighbors_graph(frame).shape == (80, 80)
    assert len(model.radius_neighbors(frame)[0]) == 80


def test_functions_and_weights_take_frames_and_series(library, frame):
    weights = np.arange(80.0)
    series = {"pandas": pd.Series, "polars": pl.Series}[library](weights)
    expected = KMeans(2).fit(X, sample_weight=weights)
    model = KMeans(2).fit(frame, sample_weight=series)
    np.testing.assert_allclose(model.cluster_centers_, expected.cluster_centers_)
    assert model.score(frame, sample_weight=series) == pytest.approx(expected.score(X, sample_weight=weights))
    assert np.array_equal(DBSCAN(4.0).fit(frame, sample_weight=series).labels_, DBSCAN(4.0).fit(X, sample_weight=weights).labels_)
    labels = {"pandas": pd.Series, "polars": pl.Series}[library](expected.labels_)
    assert clustering.silhouette_score(frame, labels) == pytest.approx(clustering.silhouette_score(X, expected.labels_))
    assert clustering.choose_k(frame, range(1, 4)).k == 2
    assert clustering.estimate_bandwidth(frame) == pytest.approx(clustering.estimate_bandwidth(X))
    np.testing.assert_array_equal(clustering.kmeans_plusplus(frame, 2)[1], clustering.kmeans_plusplus(X, 2)[1])
    started = KMeans(2, init=frame[:2]).fit(frame)
    np.testing.assert_allclose(started.cluster_centers_, KMeans(2, init=X[:2]).fit(X).cluster_centers_)


def test_columns_that_hold_no_numbers_are_refused(frame):
    with_text = type(frame)({"a": X[:, 0], "b": ["x"] * 80})
    for model in (KMeans(2), DBSCAN(), NearestNeighbors()):
        with pytest.raises(ValueError, match=r"could not convert string to float|bytes/strings"):
            model.fit(with_text)
