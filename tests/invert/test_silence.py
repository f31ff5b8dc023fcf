"""Warnings are hidden while threads ask for it, and the filters are as they were when the last has left."""

import warnings
from threading import Event, Thread

import pytest

from invert.silence import no_warnings


def test_threads_that_overlap_leave_the_filters_as_they_were() -> None:
    before = list(warnings.filters)
    inside, go_on = Event(), Event()

    def wait() -> None:
        with no_warnings():
            inside.set()
            go_on.wait()

    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        thread = Thread(target=wait)
        thread.start()
        inside.wait()
        with no_warnings():  # enters second, and leaves first
            warnings.warn("hidden", UserWarning, stacklevel=1)
        warnings.warn("hidden for the other thread, too", UserWarning, stacklevel=1)
        go_on.set()
        thread.join()
        warnings.warn("shown", UserWarning, stacklevel=1)
    assert [str(one.message) for one in shown] == ["shown"]
    assert list(warnings.filters) == before


def test_an_error_does_not_keep_them_hidden() -> None:
    before = list(warnings.filters)
    with pytest.raises(ValueError, match="no"), no_warnings():
        raise ValueError("no")
    assert list(warnings.filters) == before
