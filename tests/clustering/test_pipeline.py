"""Tensors pass through a pipeline of scikit-learn as tensors."""

import os
import subprocess
import sys

CODE = """
import sklearn, torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from clustering import DBSCAN, HDBSCAN, BisectingKMeans, KMeans, MeanShift, MiniBatchKMeans
torch.manual_seed(0)
x = torch.cat([torch.randn(40, 3), torch.randn(40, 3) + 10])
truth = torch.arange(80) // 40
sklearn.set_config(array_api_dispatch=True)
for model in (KMeans(2), MiniBatchKMeans(2), BisectingKMeans(2), MeanShift(), DBSCAN(1.0), HDBSCAN()):
    line = make_pipeline(StandardScaler(), model)
    labels = line.fit_predict(x)
    assert torch.equal(labels == labels[0], truth == 0), model
    assert torch.equal(line.predict(x), labels), model
    if hasattr(model, "transform"):
        assert line.transform(x).shape == (80, 2) and line.transform(x).dtype == x.dtype
"""


def test_tensors_stay_tensors_where_scikit_learn_dispatches():
    """In a process of its own: SciPy reads the variable when it is imported."""
    done = subprocess.run(
        [sys.executable, "-c", CODE], env={**os.environ, "SCIPY_ARRAY_API": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
