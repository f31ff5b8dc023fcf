"""Animations: a frame a step, in the format that the name asks for, dots or density."""

import base64
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from clustering import KMeans, MeanShift
from clustering.animate import animate_kmeans, animate_meanshift, box_of, colors_of, raster


def points(n=300):
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
    return x + torch.arange(3).repeat_interleave(n // 3)[:, None] * 8


def frames_of(path):
    with Image.open(path) as picture:
        return picture.n_frames


def test_a_gif_has_the_start_every_step_and_two_seconds_at_the_end(tmp_path):
    model = KMeans(3, random_state=1)
    steps = len(list(model.steps(points())))
    path = animate_kmeans(model, points(), tmp_path / "k.gif", fps=2, size=(200, 160))
    assert frames_of(path) in (steps, steps + 1, steps + 4)  # a GIF may join frames that are alike
    with Image.open(path) as picture:
        assert picture.size == (200, 160)
        assert picture.info["duration"] >= 500


def test_a_lower_learning_rate_takes_more_frames():
    x = points()
    assert len(list(KMeans(3, init=x[:3]).steps(x, lr=0.3))) > len(list(KMeans(3, init=x[:3]).steps(x)))


def test_steps_end_where_fit_ends():
    x = points()
    *_, last = KMeans(3, init=x[:3]).steps(x)
    assert torch.equal(last, KMeans(3, init=x[:3]).fit(x).cluster_centers_)


def test_a_page_holds_its_frames_and_needs_nothing_else(tmp_path):
    path = animate_meanshift(MeanShift(1.5, max_iter=4), points(), tmp_path / "m.html", fps=3, size=(160, 120))
    page = path.read_text()
    frames = re.search(r"frames=\[(.*?)\]", page).group(1).split(",")
    assert len(frames) >= 4
    assert base64.b64decode(frames[0].strip(" '")).startswith(b"\x89PNG")
    assert "http" not in page


@pytest.mark.parametrize("present", [True, False])
def test_an_mp4_is_written_by_ffmpeg_or_its_absence_is_named(tmp_path, monkeypatch, present):
    if not present:
        monkeypatch.setattr(shutil, "which", lambda name: None)
        with pytest.raises(RuntimeError, match="needs ffmpeg"):
            animate_kmeans(KMeans(3, max_iter=2), points(), tmp_path / "k.mp4", size=(160, 121))
        return
    fake = tmp_path / "ffmpeg"  # stands in for the encoder: keeps what it is told and given
    fake.write_text('#!/bin/sh\nfor last; do :; done\necho "$@" > "$last"\nwc -c >> "$last"\n')
    fake.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(fake))
    path = animate_kmeans(KMeans(3, max_iter=2, tol=0), points(), tmp_path / "k.mp4", size=(160, 121))
    command, size = path.read_text().splitlines()
    assert "-s 160x120" in command
    assert int(size) % (160 * 120 * 3) == 0


def test_many_points_become_a_raster_that_counts_them():
    x, labels = torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]]), torch.tensor([0, 1, 1])
    picture = raster(x, labels, np.array([[1.0, 0, 0], [0, 0, 1.0]]), (0, 1, 0, 1), (10, 10))
    assert picture.shape == (10, 10, 3)
    assert picture[0, 0, 0] > picture[0, 0, 2], "the first cluster is red, at the bottom left"
    assert picture[9, 9, 2] > picture[9, 9, 0], "the second is blue, at the top right"
    assert picture[9, 9, 0] < picture[0, 0, 2], "two points are stronger than one"
    assert (picture[5, 5] == 1).all(), "nothing is white"


def test_a_raster_is_drawn_where_there_are_too_many_dots(tmp_path):
    path = animate_kmeans(KMeans(3, max_iter=2), points(30_000), tmp_path / "many.gif", size=(160, 120))
    assert frames_of(path) >= 2


def test_colors_differ_and_the_box_holds_all_points():
    assert len(np.unique(colors_of(24), axis=0)) == 24
    left, right, bottom, top = box_of(torch.tensor([[0.0, 5.0], [2.0, 5.0]]))
    assert left < 0 < 2 < right
    assert bottom < 5 < top


def test_what_cannot_be_drawn_is_named(tmp_path):
    with pytest.raises(ValueError, match="points in the plane"):
        animate_kmeans(KMeans(2), torch.rand(9, 3), tmp_path / "k.gif")
    with pytest.raises(ValueError, match=r"ends in \.gif"):
        animate_kmeans(KMeans(2), points(), tmp_path / "k.avi")
    with pytest.raises(ValueError, match="fps"):
        animate_kmeans(KMeans(2), points(), tmp_path / "k.gif", fps=0)


@pytest.mark.parametrize("kind", [torch.int64, torch.uint8, torch.uint16, torch.bool, "list", "i4"])
def test_whole_numbers_are_drawn_as_k_means_reads_them(tmp_path, kind):
    x = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1]])
    x = x.tolist() if kind == "list" else x.numpy().astype(kind) if isinstance(kind, str) else x.to(kind)
    assert frames_of(animate_kmeans(KMeans(2), x, tmp_path / "k.gif", size=(200, 160))) >= 1
    assert frames_of(animate_meanshift(MeanShift(0.5), x, tmp_path / "m.gif", size=(200, 160))) >= 1
