"""What was fitted comes back from a file as it was, without pickle, and moves between devices."""

import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import clustering
from clustering import DBSCAN, HDBSCAN, BisectingKMeans, KMeans, MeanShift, MiniBatchKMeans, NearestNeighbors, load, save

RNG = np.random.default_rng(0)
X = np.concatenate([RNG.normal(0, 1, (40, 3)), RNG.normal(10, 1, (40, 3))]).astype("f4")
MODELS = [
    KMeans(2, init=X[[0, 50]]),
    MiniBatchKMeans(2, spherical=True),
    BisectingKMeans(3),
    MeanShift(neighbors=("nearest", 9)),
    DBSCAN(4.0),
    HDBSCAN(),
    NearestNeighbors(3),
    *[NearestNeighbors(3, algorithm=name) for name in ("kd_tree", "ball_tree", "grid", "lsh", "faiss-ivf", "faiss-hnsw")],
]


def same(one, other):
    if isinstance(one, torch.Tensor | np.ndarray):
        return type(one) is type(other) and one.dtype == other.dtype and bool((one == other).all())
    if isinstance(one, list | tuple):
        return type(one) is type(other) and all(map(same, one, other))
    return one == other


def answers(model, x):
    return model.kneighbors(x) if isinstance(model, NearestNeighbors) else model.predict(x)


@pytest.mark.parametrize(
    "kind", [np.asarray, torch.tensor, lambda x: torch.tensor(x).bfloat16()], ids=["array", "tensor", "half"]
)
@pytest.mark.parametrize("model", MODELS, ids=lambda model: f"{type(model).__name__}-{getattr(model, 'algorithm', '')}")
def test_everything_that_was_fitted_comes_back(model, kind, tmp_path):
    x = kind(X)
    model.fit(x)
    model.feature_names_in_ = np.array(["a", "b", "c"], dtype=object)
    back = load(model.save(tmp_path / "model.safetensors"))
    assert type(back) is type(model) and vars(back).keys() == vars(model).keys()
    for name, value in vars(model).items():
        assert name == "_index" or same(value, getattr(back, name)), name
    del model.feature_names_in_, back.feature_names_in_
    assert same(answers(model, x), answers(back, x))
    assert same(answers(model, x), answers(pickle.loads(pickle.dumps(model)), x))
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("model", MODELS[:7], ids=lambda model: type(model).__name__)
def test_a_moved_model_has_its_tensors_there(model):
    moved = model.fit(X).to("cpu")
    assert moved is model
    results = [value for name, value in vars(model).items() if name.endswith("_") and not np.isscalar(value)]
    assert all(isinstance(value, torch.Tensor) for value in results)
    assert (torch.as_tensor(answers(model, torch.tensor(X))[0]) >= 0).all()
    if not isinstance(model, NearestNeighbors):
        assert {value.device.type for value in vars(model.to("meta")).values() if isinstance(value, torch.Tensor)} == {"meta"}


def test_a_search_that_cannot_move_stays_as_it_is():
    model = NearestNeighbors(3, algorithm="kd_tree").fit(X)
    before = model.kneighbors(X)
    with pytest.raises(ValueError, match="kd_tree"):
        model.to("meta")
    assert same(model.kneighbors(X), before)


def test_a_class_reads_its_own_files_only(tmp_path):
    path = save(KMeans(2).fit(X), tmp_path / "k")
    assert KMeans.load(path, device="cpu").n_clusters == 2
    with pytest.raises(ValueError, match=r"holds a KMeans, not a MeanShift: read it with KMeans\.load"):
        MeanShift.load(path)
    assert load(save(KMeans(3), path)).n_clusters == 3


def test_other_files_and_versions_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "file"
    with pytest.raises(FileNotFoundError, match="is not a file"):
        load(path)
    path.write_bytes(pickle.dumps(KMeans(2)))
    with pytest.raises(ValueError, match="not a model that clustering saved"):
        load(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="not a model that clustering saved"):
        load(path)
    content = save(KMeans(2).fit(X), path).read_bytes()
    path.write_bytes(content[:-5])
    with pytest.raises(ValueError, match="damaged"):
        load(path)
    path.write_bytes(content.replace(b"n_clusters", b"n_centroids"[:10]))
    with pytest.raises(ValueError, match="of another version"):
        load(path)
    path.write_bytes(content.replace(b"clustering/1", b"clustering/9"))
    with pytest.raises(ValueError, match="format 9"):
        load(path)


def test_what_needs_pickle_is_named(tmp_path):
    with pytest.raises(ValueError, match="init of KMeans is a function"):
        save(KMeans(2, init=lambda x, k, random_state: x[:k]), tmp_path / "k")
    with pytest.raises(ValueError, match="random_state of KMeans is a RandomState"):
        save(KMeans(2, random_state=np.random.RandomState(0)), tmp_path / "k")
    with pytest.raises(ValueError, match="a dict cannot be saved"):
        save({}, tmp_path / "k")
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        save(KMeans(2), tmp_path / "no" / "k")
    assert not list(tmp_path.iterdir())


def test_every_estimator_can_be_saved():
    estimators = {name for name in clustering.__all__ if hasattr(getattr(clustering, name), "fit")}
    assert estimators == set(clustering.persistence.CLASSES)
