"""What a person looks at: a page that needs nothing else, and the trace as a picture."""

from __future__ import annotations

import base64
import html
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from invert.analysis import Analysis
from invert.app import views
from invert.errors import InputError
from invert.history import HistoryEntry
from invert.report import Entry, write_report, write_trace
from invert.result import ConceptWords, SoftToken

NASTY = '<script>alert("&")</script> costs $5 or $x_{$ "quoted"'


@pytest.fixture
def picture() -> Image.Image:
    return Image.new("RGB", (40, 20), "red")


def page(tmp_path: Path, entries: list[Entry]) -> str:
    write_report(entries, tmp_path / "page.html")
    return (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_page_needs_nothing_but_itself(tmp_path, picture, found):
    text = page(tmp_path, [Entry("a.png", [picture], [found])])
    assert "http://" not in text and "https://" not in text and "<link" not in text and "url(" not in text
    sources = re.findall(r'src="([^"]*)"', text)
    assert len(sources) == 2 and all(source.startswith("data:image/png;base64,") for source in sources)
    assert str(tmp_path) not in text


def test_its_pictures_are_the_image_and_the_curve(tmp_path, picture, found):
    text = page(tmp_path, [Entry("a.png", [picture], [found])])
    images = [Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall(r'src="data:image/png;base64,([^"]*)"', text)]
    assert images[0].size == (40, 20) and images[0].getpixel((0, 0)) == (255, 0, 0)
    assert images[1].width > 400


def test_a_picture_that_the_model_may_not_know_says_so_once(tmp_path, picture, found):
    doubted = replace(found, doubt="unlike <all>")
    assert page(tmp_path, [Entry("a.png", [picture], [doubted, found])]).count("unlike &lt;all&gt;") == 1
    assert views.details(doubted).count("unlike &lt;all&gt;") == 1 and "unlike" not in views.details(found)


def test_every_prompt_of_every_method_and_image_is_on_it(tmp_path, picture, found):
    pez = replace(found, method="pez", prompt="zebra", alternatives=[("zebra", 0.3), ("yak", 0.2)])
    other = replace(found, prompt="a house", alternatives=[("a house", 0.7)])
    text = page(tmp_path, [Entry("a.png", [picture], [found, pez]), Entry("a.png", [picture], [other])])
    for prompt in ("a fox", "two owls", "zebra", "yak", "a house"):
        assert f"<td>{prompt}<" in text
    assert text.count("<section>") == 2 and "<td>pez<" in text and ">0.550<" in text
    assert "fox, wolf" in text and "50%" in text


def test_what_has_no_word_is_struck_out(tmp_path, picture, found):
    text = page(tmp_path, [Entry("a.png", [picture], [found])])
    assert re.search(r'class="word"[^>]*>fox-owl<', text) and re.search(r'class="none"[^>]*>umbrella<', text)


def test_prompts_are_escaped(tmp_path, picture, found):
    result = replace(
        found,
        prompt=NASTY,
        alternatives=[(NASTY, 0.5)],
        method="<b>",
        soft_tokens=[SoftToken("<i>", 0.1, True)],
        concepts=[ConceptWords(("<u>",), 1.0)],
        history=[HistoryEntry("search", 0, 0.5, NASTY)],
    )
    text = page(tmp_path, [Entry("a.png", [picture], [result])])
    assert text.count(html.escape(NASTY)) == 2
    assert not re.search(r"<(script|b|i|u)>", text)


def test_every_picture_is_named(tmp_path, picture, found):
    text = page(tmp_path, [Entry("<b>&\n.png", [picture], [found]), Entry("b.png", [picture], [found])])
    assert re.findall(r'class="name">([^<]*)<', text) == [r"&lt;b&gt;&amp;\n.png", "b.png"]


def test_several_images_of_one_prompt_are_all_shown(tmp_path, picture, found):
    assert page(tmp_path, [Entry("a.png", [picture, picture], [found])]).count("<img ") == 3


def test_a_large_picture_is_shown_small(tmp_path, found):
    text = page(tmp_path, [Entry("a.png", [Image.new("RGB", (3000, 1500))], [found])])
    shown = re.findall(r'src="data:image/png;base64,([^"]*)"', text)[0]
    assert Image.open(io.BytesIO(base64.b64decode(shown))).size == (512, 256)


def test_a_shortened_text_has_a_page_without_pictures(tmp_path, found):
    assert page(tmp_path, [Entry("a.png", [], [found])]).count("<img") == 1


@pytest.mark.parametrize(
    "changes", [{}, {"history": []}, {"history": [HistoryEntry("search", 0, 0.5, NASTY)]}], ids=["whole", "none", "dollar signs"]
)
def test_a_trace_is_a_png(tmp_path, changes, found):
    write_trace(replace(found, prompt=NASTY, **changes), tmp_path / "trace.png")
    with Image.open(tmp_path / "trace.png") as image:
        assert image.format == "PNG" and image.width > 400 and image.height > 400
        assert len(image.convert("RGB").getcolors(1 << 24) or []) > 2  # something is drawn on it


@pytest.mark.parametrize("write", [lambda found, path: write_trace(found, path), lambda found, path: write_report([], path)])
def test_a_path_that_cannot_be_written_is_one_sentence(tmp_path, write, found):
    with pytest.raises(InputError, match=r"cannot write .*nowhere.*: .*; choose a writable path"):
        write(found, tmp_path / "nowhere" / "file")


def test_an_analysis_is_on_the_page_alone_or_beside_the_prompts(tmp_path, picture, found):
    analysis = Analysis({"<b>": [("a fox", 0.4), (NASTY, 0.3)], "colors": [("red", 0.25)]}, "picturebook")
    text = page(tmp_path, [Entry("a.png", [picture], [], analysis), Entry("b.png", [picture], [found], analysis)])
    assert text.count("<td>&lt;b&gt;<td>a fox<td>0.400<tr><td><td>") == 2 == text.count("<td>colors<td>red<td>0.250")
    assert html.escape(NASTY) in text and text.count('class="prompt"') == 1
