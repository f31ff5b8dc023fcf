"""k-means, mean shift, DBSCAN, HDBSCAN and nearest neighbors on tensors of any device, with scikit-learn's estimator contract.

In: NumPy arrays, lists or tensors (N, D); out: results of the same kind, on the same device, in the same dtype.
Importing the package compiles nothing and loads neither torch nor plotting: what is used is loaded when it is
used, and `clustering.animate` has the moving pictures.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from clustering.installation import check_kernels

if TYPE_CHECKING:
    from clustering.bandwidth import estimate_bandwidth as estimate_bandwidth
    from clustering.bisecting import BisectingKMeans as BisectingKMeans
    from clustering.choice import KSelection as KSelection
    from clustering.choice import choose_k as choose_k
    from clustering.dbscan import DBSCAN as DBSCAN
    from clustering.hdbscan import HDBSCAN as HDBSCAN
    from clustering.kmeans import KMeans as KMeans
    from clustering.meanshift import MeanShift as MeanShift
    from clustering.minibatch import MiniBatchKMeans as MiniBatchKMeans
    from clustering.neighbors import NearestNeighbors as NearestNeighbors
    from clustering.pairwise import distance_chunks as distance_chunks
    from clustering.pairwise import distances as distances
    from clustering.persistence import load as load
    from clustering.persistence import save as save
    from clustering.seeding import kmeans_plusplus as kmeans_plusplus
    from clustering.shards import Shards as Shards
    from clustering.silhouette import silhouette_samples as silhouette_samples
    from clustering.silhouette import silhouette_score as silhouette_score
    from clustering.stream import Chunks as Chunks

check_kernels()

_HOME = {
    "BisectingKMeans": "bisecting",
    "Chunks": "stream",
    "DBSCAN": "dbscan",
    "HDBSCAN": "hdbscan",
    "KMeans": "kmeans",
    "KSelection": "choice",
    "MeanShift": "meanshift",
    "MiniBatchKMeans": "minibatch",
    "NearestNeighbors": "neighbors",
    "Shards": "shards",
    "choose_k": "choice",
    "distance_chunks": "pairwise",
    "distances": "pairwise",
    "estimate_bandwidth": "bandwidth",
    "kmeans_plusplus": "seeding",
    "load": "persistence",
    "save": "persistence",
    "silhouette_samples": "silhouette",
    "silhouette_score": "silhouette",
}
__all__ = [
    "BisectingKMeans",
    "Chunks",
    "DBSCAN",
    "HDBSCAN",
    "KMeans",
    "KSelection",
    "MeanShift",
    "MiniBatchKMeans",
    "NearestNeighbors",
    "Shards",
    "choose_k",
    "distance_chunks",
    "distances",
    "estimate_bandwidth",
    "kmeans_plusplus",
    "load",
    "save",
    "silhouette_samples",
    "silhouette_score",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use and keep it here."""
    if name not in _HOME:
        raise AttributeError(f"module 'clustering' has no attribute {name!r}")
    value = getattr(import_module(f"clustering.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
