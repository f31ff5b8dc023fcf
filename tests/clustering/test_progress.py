"""Progress is shown on standard error where it is asked for, and changes no result."""

import numpy as np
import pytest

from clustering import BisectingKMeans, Chunks, KMeans, MiniBatchKMeans

X = np.random.default_rng(0).normal(size=(200, 3))


@pytest.mark.parametrize("model", [KMeans(5), KMeans(5, algorithm="balanced"), BisectingKMeans(5), MiniBatchKMeans(5)], ids=repr)
def test_progress_is_shown_when_asked_for(model, capsys):
    quiet = model.fit(X).labels_
    assert capsys.readouterr() == ("", "")
    assert np.array_equal(model.set_params(verbose=1).fit(X).labels_, quiet)
    shown = capsys.readouterr()
    assert shown.out == "" and type(model).__name__ in shown.err


def test_a_stream_shows_its_progress(capsys):
    KMeans(5, verbose=True).fit(Chunks(X))
    assert "movement" in capsys.readouterr().err


@pytest.mark.parametrize("verbose", [-1, "yes", 0.5])
@pytest.mark.parametrize("kind", [KMeans, BisectingKMeans, MiniBatchKMeans])
def test_other_values_are_refused(kind, verbose):
    with pytest.raises(ValueError, match=f"The 'verbose' parameter of {kind.__name__} must be an int in the range"):
        kind(2, verbose=verbose).fit(X)
