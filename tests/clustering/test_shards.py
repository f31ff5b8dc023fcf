"""k-means over files and over processes is k-means over the array that they hold."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from clustering import Chunks, KMeans, Shards

RNG = np.random.default_rng(5)
X = np.concatenate([RNG.normal(0, 1, (400, 3)), RNG.normal(8, 1, (300, 3)), RNG.normal(-8, 1, (200, 3))]).astype("f4")
X = X[RNG.permutation(len(X))]
WEIGHTS = RNG.integers(0, 4, len(X)) * 0.5
FAR = torch.full((3, 3), 1e3) + torch.arange(3)[:, None]  # as a start: all but one cluster are empty


@pytest.fixture
def folder(tmp_path):
    """Three .npy files, one of them in Fortran order, and two Parquet files: numbers in columns."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for number, part in enumerate(np.split(X[:500], [100, 350])):
        np.save(tmp_path / f"{number}.npy", np.asfortranarray(part) if number == 1 else part)
    for number, part in enumerate(np.split(X[500:], [150])):
        pq.write_table(pa.table({name: part[:, column] for column, name in enumerate("abc")}), tmp_path / f"{number + 3}.parquet")
    return tmp_path


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["unweighted", "weighted"])
def test_files_are_clustered_as_the_array_that_they_hold(folder, weights):
    whole = KMeans(3).fit(Chunks(X, rows=999), sample_weight=weights)
    model = KMeans(3).fit(Shards(folder, rows=64), sample_weight=weights)
    np.testing.assert_array_equal(model.labels_, whole.labels_)
    np.testing.assert_allclose(model.cluster_centers_, whole.cluster_centers_, rtol=1e-5)
    assert model.inertia_ == pytest.approx(whole.inertia_)
    assert torch.equal(model.predict(Shards(sorted(map(str, folder.iterdir())))), model.labels_)


def test_parquet_columns_are_numbers_or_lists(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    lists = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), 3)
    table = pa.table(
        {"name": ["x"] * len(X), "vector": lists, "ragged": pa.array(X.tolist()), "hole": [None, *X[1:, 0].tolist()]}
    )
    pq.write_table(table, tmp_path / "x.parquet")
    whole = KMeans(3).fit(Chunks(X)).labels_
    for column in ("vector", "ragged"):
        assert torch.equal(KMeans(3).fit(Shards(tmp_path, columns=[column])).labels_, whole)
    for columns, sentence in ((None, "'name' holds string"), (["hole"], "without a value"), (["z"], "no column 'z'")):
        with pytest.raises(ValueError, match=sentence):
            KMeans(3).fit(Shards(tmp_path, columns=columns))


def test_what_is_no_shard_is_named(tmp_path):
    with pytest.raises(ValueError, match="no shards"):
        Shards(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"none\.npy"):
        Shards(tmp_path / "none.npy")
    with pytest.raises(ValueError, match=r"a\.csv is no shard"):
        Shards([tmp_path / "a.csv"])
    np.save(tmp_path / "a.npy", X)
    np.save(tmp_path / "b.npy", X[:, :2])
    with pytest.raises(ValueError, match=r"b\.npy has 2 features"):
        KMeans(3).fit(Shards(tmp_path))
    np.save(tmp_path / "b.npy", X[0])
    with pytest.raises(ValueError, match=r"b\.npy has shape"):
        KMeans(3).fit(Shards(tmp_path))
    (tmp_path / "b.npy").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"b\.npy is no array"):
        KMeans(3).fit(Shards(tmp_path))
    (tmp_path / "b.npy").unlink()
    (tmp_path / "c.parquet").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"c\.parquet is no whole Parquet file"):
        KMeans(3).fit(Shards(tmp_path))
    with pytest.raises(ValueError, match="init_process_group"):
        Shards(tmp_path, group="world")


WORKER = """
import os
import sys
import torch
from tests.clustering.test_shards import fitted_by
torch.set_num_threads(1)
torch.save(fitted_by(1, sys.argv[1]), f"{sys.argv[1]}/1.pt")
os._exit(0)  # gloo's threads may outlive its group, and an interpreter that ends the usual way then aborts, once in many runs
"""


def fitted_by(rank, folder):
    """What one of two processes finds."""
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2, timeout=timedelta(minutes=10)
    )
    try:
        shards = Shards(f"{folder}/shards", rows=77, group="world")
        own = WEIGHTS[:350] if rank == 0 else WEIGHTS[350:]
        out = {}
        for name, model, weights in (
            ("plain", KMeans(3), None),
            ("weighted", KMeans(3), own),
            ("far", KMeans(3, init=FAR), None),
        ):
            model.fit(shards, sample_weight=weights)
            out[name] = model.cluster_centers_, model.labels_, model.inertia_, model.n_iter_
    finally:
        dist.destroy_process_group()
    return out


def test_two_processes_find_the_centers_of_one(tmp_path):
    (tmp_path / "shards").mkdir()
    for number, part in enumerate(np.split(X, [100, 350, 600])):
        np.save(tmp_path / "shards" / f"{number}.npy", part)
    command = [sys.executable, "-c", WORKER, str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as other:
        first = fitted_by(0, tmp_path)  # the other one is this process
        said = other.communicate()[1]
    assert other.returncode == 0, said
    second = torch.load(tmp_path / "1.pt")
    for name, model, weights in (
        ("plain", KMeans(3), None),
        ("weighted", KMeans(3), WEIGHTS),
        ("far", KMeans(3, init=FAR), None),
    ):
        model.fit(Shards(tmp_path / "shards"), sample_weight=weights)
        assert torch.equal(first[name][0], second[name][0])
        torch.testing.assert_close(first[name][0], model.cluster_centers_)
        assert torch.equal(torch.cat([first[name][1], second[name][1]]), model.labels_)
        assert first[name][2] == second[name][2] == pytest.approx(model.inertia_)
        assert first[name][3] == second[name][3] == model.n_iter_
