"""The HTTP API, called as its users call it, and what it refuses."""

from __future__ import annotations

import itertools
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("gradio_client")
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from gradio_client.utils import Status

from invert.app.service import Upload

PATIENCE = 600  # seconds: machines may be busy
SETTINGS = {"tokens": 4, "max_tokens": 8, "seed": 0, "seconds": PATIENCE, "init_prompt": "", "must_include": "", "ban": ""}

META = {"_type": "gradio.FileData"}  # says that the object is a file


@pytest.fixture(scope="module")
def client(address: str, tmp_path_factory: pytest.TempPathFactory) -> Client:
    return Client(
        address, verbose=False, download_files=str(tmp_path_factory.mktemp("downloads")), httpx_kwargs={"timeout": PATIENCE}
    )


def invert(client: Client, picture: Path | str, method: str = "quick", **more: Any) -> Any:
    return client.predict(picture=handle_file(str(picture)), method=method, **{**SETTINGS, **more}, api_name="/invert")


def called(address: str, picture: Any) -> str:
    """What the endpoint answers a plain HTTP call."""
    call = httpx.post(
        f"{address}/gradio_api/call/invert", json={"data": [picture, "quick", *SETTINGS.values()]}, timeout=PATIENCE
    )
    return httpx.get(f"{address}/gradio_api/call/invert/{call.json()['event_id']}", timeout=PATIENCE).text


def test_a_picture_that_cannot_be_read_leaves_the_box_and_its_notice_stays(service, files) -> None:
    from invert.app.handlers import Handlers

    handlers = Handlers(service)
    box, notice, *_ = handlers.looked_at(Upload(str(files.bad), files.bad.name))
    assert box is None and notice.count("bad.png is not an image that can be read") == 1
    box, notice, *_ = handlers.looked_at(None)  # what the emptied box says
    assert box == notice == {"__type__": "update"}
    assert handlers.looked_at(files.upload)[0] == {"__type__": "update"} and handlers.taken_away()[0] == ""


def test_the_endpoints_are_those_of_the_reference(client: Client) -> None:
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(named) == {"/invert", "/compare", "/batch", "/analyze", "/draw", "/embedded", "/stop", "/methods"}
    parameters = {name: [one["parameter_name"] for one in end["parameters"]] for name, end in named.items()}
    assert parameters["/invert"] == ["picture", "method", *SETTINGS]
    assert parameters["/draw"] == ["prompt", "images", "seed", "picture"]
    reference = (Path(__file__).parents[3] / "docs" / "app.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in reference for name in [*named, *itertools.chain(*parameters.values())])


def test_all_of_a_search_but_its_picture_has_a_default(client: Client, files) -> None:
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert [one["parameter_name"] for one in named["/invert"]["parameters"] if not one["parameter_has_default"]] == ["picture"]
    assert client.predict(picture=handle_file(str(files.good)), method="quick", api_name="/invert")["prompt"]


def test_a_prompt_is_found_over_http(client: Client, files) -> None:
    found = invert(client, files.good)
    assert found["prompt"] == "w33" and found["method"] == "quick" and not found["interrupted"]


def test_stop_answers_the_running_call_with_the_best_so_far(client: Client, files) -> None:
    job = client.submit(picture=handle_file(str(files.good)), method="endless", **SETTINGS, api_name="/invert")
    # gradio_client loses a call that it makes while the stream of another one ends, so only a running one is stopped.
    while job.status().code is not Status.PROCESSING:
        assert not job.done()
        time.sleep(0.01)
    while not client.predict(api_name="/stop")["stopped"]:
        pass
    found = job.result(timeout=PATIENCE)
    assert found["prompt"] == "w7 w8" and found["interrupted"]


def test_methods_are_compared_and_pictures_analyzed(client: Client, files) -> None:
    rows = client.predict(handle_file(str(files.good)), ["quick", "broken"], 0, PATIENCE, api_name="/compare")
    assert rows[0]["prompt"] == "w33" and "judge" in rows[0] and "problem" in rows[1]
    assert {"quick", "invert"} <= set(client.predict(api_name="/methods"))
    found = client.predict(picture=handle_file(str(files.good)), top=2, api_name="/analyze")["analysis"]
    assert len(found["first"]) == 2 and found["second"][0]["phrase"] == "w4"


def test_a_batch_gives_rows_and_a_zip(client: Client, files) -> None:
    pictures = [handle_file(str(path)) for path in (files.good, files.bad)]
    rows, archive = client.predict(pictures, "quick", 0, PATIENCE, api_name="/batch")
    assert rows[0]["prompt"] == "w33" and "not an image" in rows[1]["problem"]
    assert set(zipfile.ZipFile(archive).namelist()) == {"good.txt", "good.json", "problems.txt"}


def test_the_prompt_in_a_file_is_found(client: Client, files) -> None:
    found = client.predict(picture=handle_file(str(files.carrying)), api_name="/embedded")
    assert found["prompt"] == "a fox in the snow" and found["source"]
    assert client.predict(picture=handle_file(str(files.good)), api_name="/embedded") == {}


def test_prompts_are_drawn(client: Client) -> None:
    drawn = client.predict(prompt="w1", images=2, seed=3, picture=None, api_name="/draw")
    assert [one["caption"] for one in drawn] == ["seed 3", "seed 4"] and Path(drawn[0]["image"]).exists()


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ({"method": "nothing"}, "not in the list of choices|unknown `method`"),
        ({"method": "broken"}, r"internal error \(RuntimeError\)"),
        ({"must_include": "w1", "ban": "w1"}, "both required and banned"),
        ({"ban": "w1"}, "cannot follow `ban`"),
        ({"tokens": "many"}, "a value is not of the kind that its parameter takes: "),
        ({"tokens": -1}, "[Mm]inimum value|less than"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    client: Client, files, call: dict[str, Any], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(AppError, match=sentence) as error:
        invert(client, files.good, **{"method": "quick", **call})
    assert "Traceback" not in str(error.value) and "secret" not in str(error.value)
    assert "Traceback" not in "".join(capsys.readouterr())


def test_a_bad_file_is_one_sentence_and_so_is_none(client: Client, files) -> None:
    with pytest.raises(AppError, match=r"bad\.png is not an image that can be read"):
        invert(client, files.bad)
    with pytest.raises(AppError, match="no picture yet"):
        client.predict(picture=None, method="quick", **SETTINGS, api_name="/invert")


def test_twenty_uploads_at_once_all_have_their_prompt(address: str, files) -> None:
    def one(_: int) -> str:
        path = httpx.post(f"{address}/gradio_api/upload", files={"files": files.good.open("rb")}, timeout=PATIENCE).json()[0]
        return called(address, {"path": path, "orig_name": "a.png", "meta": META})

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(one, range(20)))
    assert all("event: complete" in answer and '"prompt": "w33"' in answer for answer in answers)


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=../../../../../../etc/passwd",
        "/gradio_api/file=/proc/self/environ",
        "/gradio_api/file=%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/gradio_api/file//etc/passwd",
        "/file=/etc/passwd",
        "/gradio_api/file=pyproject.toml",
        "/gradio_api/file=http://127.0.0.1:1/",
        "/gradio_api/file=https://example.com/a.png",
        "/gradio_api/proxy=https://example.com/",
        "/static/../../../../../../etc/passwd",
        "/assets/..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    ],
)
def test_no_path_and_no_address_is_served(address: str, path: str) -> None:
    answer = httpx.get(address + path, timeout=PATIENCE)
    assert answer.status_code in (403, 404) and "root:" not in answer.text


@pytest.mark.parametrize("path", ["/etc/passwd", "../../etc/passwd", "http://127.0.0.1:1/a.png", "https://example.com/a.png"])
@pytest.mark.parametrize("meta", [META, None])
def test_a_picture_is_an_upload_and_nothing_else(address: str, path: str, meta: Any) -> None:
    picture = {"path": path, "orig_name": "a.png"} | ({"meta": meta} if meta else {})
    answer = called(address, picture)
    assert "event: error" in answer and "root:" not in answer and "w33" not in answer


def test_a_file_over_the_limit_is_refused(address: str) -> None:
    picture = ("a.png", b"0" * (1 << 20) + b"0")
    answer = httpx.post(f"{address}/gradio_api/upload", files={"files": picture}, timeout=PATIENCE)
    assert answer.status_code == 413


def test_the_page_asks_nothing_of_others(address: str) -> None:
    config = httpx.get(f"{address}/config", timeout=PATIENCE).json()
    assert not config["analytics_enabled"]
    assert "googleapis" not in httpx.get(f"{address}/theme.css", timeout=PATIENCE).text
