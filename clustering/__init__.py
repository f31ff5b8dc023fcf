"""k-means, mean shift, DBSCAN and nearest neighbours on tensors of any device, with scikit-learn's estimator contract.

In: NumPy arrays, lists or tensors (N, D); out: results of the same kind, on the same device, in the same dtype.
Importing the package compiles nothing and loads no plotting: `clustering.animate` has the moving pictures.
"""

from clustering.bandwidth import estimate_bandwidth
from clustering.dbscan import DBSCAN
from clustering.distances import distance_chunks, distances
from clustering.kmeans import KMeans
from clustering.meanshift import MeanShift
from clustering.minibatch import MiniBatchKMeans
from clustering.neighbors import NearestNeighbors
from clustering.seeding import kmeans_plusplus
from clustering.stream import Chunks

__all__ = [
    "Chunks",
    "DBSCAN",
    "KMeans",
    "MeanShift",
    "MiniBatchKMeans",
    "NearestNeighbors",
    "distance_chunks",
    "distances",
    "estimate_bandwidth",
    "kmeans_plusplus",
]
