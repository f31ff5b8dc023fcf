"""An image endpoint on this machine: what is asked of it and what comes back, in the library and on the command line."""

from __future__ import annotations

import ast
import base64
import inspect
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

from invert.diffusion import drawing, endpoint, images_api, options, roundtrip
from invert.diffusion.drawing import WITHHELD
from invert.diffusion.endpoint import ImageEndpoint
from invert.diffusion.images_api import KEY, endpoint_url
from invert.errors import InputError
from invert.inverter import Inverter
from invert.methods import denoiser
from tests.invert.diffusion.conftest import run
from tests.invert.diffusion.image_server import PATIENT, Handler, Server, draw, image_answer, png, send


@pytest.mark.parametrize(
    ("address", "route"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1/images/generations"),
        ("https://api.example.com/v1/", "https://api.example.com/v1/images/generations"),
        ("https://example.com/x/images/generations?api-version=1", "https://example.com/x/images/generations?api-version=1"),
    ],
)
def test_a_server_its_version_or_the_whole_route_may_be_given(address: str, route: str) -> None:
    assert endpoint_url(address) == route


def test_an_image_is_asked_for_as_the_api_says(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "sk-secret")
    (drawn,) = draw(server, size="512x256", generator_model="paint-1")
    wanted = {"prompt": "a fox", "n": 1, "model": "paint-1", "size": "512x256", "seed": 7, "path": "/v1/images/generations"}
    assert server.asked == [wanted]
    assert server.headers["Authorization"] == "Bearer sk-secret" and server.headers["Content-Type"] == "application/json"
    assert drawn.image.shape == (3, 6, 8) and drawn.problem == ""
    torch.testing.assert_close(drawn.image[:, 0, 0], torch.tensor([0, 128, 128]) / 255)


def test_an_image_may_be_linked_to_and_is_fetched_without_the_key(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "sk-secret")
    for link in (f"{server.url}/made/1.png", "/made/1.png"):
        server.answer = lambda handler, link=link: send(handler, {"data": [{"url": link}]})
        (drawn,) = draw(server)
        assert drawn.image[0].min() == 1 and server.got[-1] == "/made/1.png" and "Authorization" not in server.headers
    encoded = "data:image/png;base64," + base64.b64encode(png("red")).decode()
    server.answer = lambda handler: send(handler, {"data": [{"url": encoded}]})
    assert draw(server)[0].image[0].min() == 1


def test_a_link_of_a_public_server_to_this_machine_is_not_followed(server: Server) -> None:
    api = images_api.ImagesApi("https://images.example.com", PATIENT)
    with pytest.raises(InputError, match=r"does not come: it leads to 127\.0\.0\.1, which is not public"):
        api.linked(f"{server.url}/made/1.png", from_private=False)
    assert server.got == []


def test_a_server_without_seeds_is_asked_without(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    def answer(handler: Handler) -> None:
        if "seed" in server.asked[-1]:
            send(handler, {"error": {"message": "Unknown parameter: 'seed'."}}, 400)
        else:
            send(handler, image_answer())

    server.answer = answer
    assert len(list(ImageEndpoint(server.url, PATIENT).draw(["a fox"], [0, 1]))) == 2
    assert ["seed" in body for body in server.asked] == [True, False, False]
    assert [record.getMessage() for record in caplog.records] == [
        f"the image endpoint {server.url} takes no seeds: the same prompt will draw other images"
    ]


def test_a_prompt_that_is_refused_on_principle_is_a_picture_withheld(server: Server) -> None:
    error = {"code": "moderation_blocked", "message": "Your request was rejected by the safety system."}
    server.answer = lambda handler: send(handler, {"error": error}, 400)
    assert draw(server)[0].problem == WITHHELD


def test_a_busy_server_is_asked_again(server: Server) -> None:
    def answer(handler: Handler) -> None:
        busy = len(server.asked) < 3
        send(handler, {} if busy else image_answer(), 429 if busy else 200, Retry_After="0")

    server.answer = answer
    assert draw(server)[0].problem == "" and len(server.asked) == 3


# The command --------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def loaded_once(monkeypatch: pytest.MonkeyPatch, inverter: Inverter) -> None:
    """The command takes the model that other tests have loaded; generators are really loaded."""
    monkeypatch.setattr(Inverter, "load", lambda *_, **__: inverter)


def test_the_command_draws_by_an_endpoint_and_keeps_what_came_before_a_refusal(
    monkeypatch: pytest.MonkeyPatch, server: Server, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    server.answer = lambda handler: send(handler, *((image_answer(),) if len(server.asked) < 3 else (b"", 500)))
    words = ("--generate", 4, "--generator", server.url, "--report", page, "--json", "--method", "retrieve")
    assert run(monkeypatch, picture, *words) == 2
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert len(result["drawn"]) == 2 and [body["prompt"] for body in server.asked] == [result["prompt"]] * 3
    assert err.splitlines() == [f"invert: the image endpoint {server.url} fails (500): try again later"]
    assert page.read_text().count("<figure>") == 2


def test_the_command_chooses_by_an_endpoint(
    monkeypatch: pytest.MonkeyPatch, server: Server, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(handler: Handler) -> None:
        prompts = list(dict.fromkeys(body["prompt"] for body in server.asked))
        send(handler, image_answer(png("teal" if len(prompts) == 6 else "red", (64, 64))))

    server.answer = answer
    words = ("--select", "generator", "--generator", server.url, "--method", "retrieve")
    assert run(monkeypatch, picture, *words) == 0
    prompts = list(dict.fromkeys(body["prompt"] for body in server.asked))
    assert len(prompts) == 8 and capsys.readouterr().out.splitlines() == [prompts[5]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--generator", "ftp://example.com", "--generate", 1, "--json"), "is no web address"),
        (("--generator", "http://user:word@example.com", "--generate", 1, "--json"), "holds a user name"),
        (("--generator", "http://127.0.0.1:1", "--method", "ph2p"), "the method 'ph2p' learns through CLIP and the U-Net"),
        (("--generator", "http://127.0.0.1:1", "--compare", "textual-inversion"), "the method 'textual-inversion' learns"),
        (("--generator", "http://127.0.0.1:1", "--generate", 1, "--json", "--steps", 3), "takes no --steps"),
    ],
)
def test_what_an_endpoint_cannot_do_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, picture: Path, words: tuple[object, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, picture, *words) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and message in err and "word@" not in err


@pytest.mark.parametrize(
    "module", [drawing, endpoint, images_api, options, roundtrip, denoiser], ids=lambda module: module.__name__
)
def test_an_endpoint_needs_no_diffusers(module: ModuleType) -> None:
    tops = [node for node in ast.parse(inspect.getsource(module)).body if isinstance(node, ast.Import | ast.ImportFrom)]
    named = {node.module or "" for node in tops if isinstance(node, ast.ImportFrom)}
    named |= {alias.name for node in tops if isinstance(node, ast.Import) for alias in node.names}
    with_diffusers = {"invert.diffusion.generator", "invert.diffusion.loading", "invert.diffusion.pipelines"}
    assert named and not {name for name in named if name.startswith("diffusers") or name in with_diffusers}
