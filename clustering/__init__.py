"""k-means on tensors of any device: scikit-learn's estimator contract, fitted where the data lies."""

from clustering.distances import distance_chunks, distances
from clustering.kmeans import KMeans
from clustering.minibatch import MiniBatchKMeans
from clustering.neighbors import NearestNeighbors
from clustering.seeding import kmeans_plusplus
from clustering.stream import Chunks

__all__ = ["Chunks", "KMeans", "MiniBatchKMeans", "NearestNeighbors", "distance_chunks", "distances", "kmeans_plusplus"]
