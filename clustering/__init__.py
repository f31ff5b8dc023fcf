"""k-means on tensors of any device: scikit-learn's estimator contract, fitted where the data lies."""

from clustering.kmeans import KMeans, kmeans_plusplus

__all__ = ["KMeans", "kmeans_plusplus"]
