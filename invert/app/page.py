"""The page: a picture on the left, what can be found of it in tabs on the right; on a phone one below the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from invert.app.api import MODEL, Inputs, offer
from invert.app.components import Blocks, PictureInput, PicturesInput
from invert.app.examples import example_paths
from invert.app.handlers import Handlers
from invert.app.service import Service
from invert.config import ANALYSIS_TOP, InvertConfig
from invert.images import ENDINGS
from invert.images.addresses import shown

DEFAULT = InvertConfig()
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}
TITLE = """# Invert
Give it a picture, get the prompt that makes a text-to-image model draw it again."""


@dataclass(frozen=True)
class Shared:
    """What the tabs have in common."""

    handlers: Handlers
    picture: PictureInput
    settings: list[Any]


def page(service: Service) -> gr.Blocks:
    """The whole page with its API."""
    handlers = Handlers(service)
    with Blocks(title="Invert", analytics_enabled=False, delete_cache=(3600, 3600)) as blocks:
        gr.Markdown(f"{TITLE} Model: `{service.inverter.clip.name}`.", elem_id="title")
        with gr.Row():
            with gr.Column(scale=2, min_width=280, elem_id="left"):
                picture = PictureInput(
                    type="filepath",
                    sources=["upload", "clipboard"],
                    buttons=["fullscreen"],
                    label="Picture",
                    height=340,
                    elem_id="picture",
                )
                notice = gr.HTML(elem_id="notice")
                if examples := example_paths(service.inverter.bundle):
                    gr.Examples(examples, picture, label="Try one of these", api_visibility="private")
                settings = settings_of(service)
            with gr.Column(scale=3, min_width=280, elem_id="right"), gr.Tabs():
                shared = Shared(handlers, picture, settings)
                prompt = prompt_tab(shared)
                methods = compare_tab(shared, service)
                pictures = batch_tab(shared)
                top = analyze_tab(shared)
                drawing = draw_tab(shared, service, prompt)
                embedded = embedded_tab()
        hidden: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        picture.change(handlers.looked_at, picture, [picture, notice, *embedded], **hidden)
        picture.clear(handlers.taken_away, None, [notice, *embedded], **hidden)
        offer(handlers, Inputs(picture, pictures, settings, methods, top, *drawing))
        blocks.unload(handlers.leave)
    blocks.queue(max_size=service.limits.queue, default_concurrency_limit=4)
    return blocks


def settings_of(service: Service) -> list[Any]:
    """The settings of every search, in the order of SETTINGS."""
    most = int(service.limits.seconds)
    with gr.Accordion("Settings", open=False, elem_id="settings"):
        method = gr.Dropdown(list(service.methods), value=DEFAULT.method, label="Method", filterable=False)
        with gr.Row():
            tokens = gr.Number(DEFAULT.tokens, label="Soft tokens", precision=0, minimum=1, min_width=100)
            max_tokens = gr.Number(DEFAULT.max_tokens, label="Longest prompt, in tokens", precision=0, minimum=1, min_width=100)
        with gr.Row():
            seed = gr.Number(DEFAULT.seed, label="Seed", precision=0, min_width=100)
            seconds = gr.Number(most, label=f"Seconds at most, up to {most}", minimum=0.1, maximum=most, min_width=100)
        init_prompt = gr.Textbox("", label="Start from this prompt", max_lines=3)
        must_include = gr.Textbox("", label="Words it has to hold, separated by commas", max_lines=1)
        ban = gr.Textbox("", label="Words it may not hold, separated by commas", max_lines=1)
    return [method, tokens, max_tokens, seed, seconds, init_prompt, must_include, ban]


def buttons(shared: Shared, action: str, name: str) -> gr.Button:
    """The tab's button, with one beside it that stops what it began."""
    with gr.Row():
        go = gr.Button(action, variant="primary", scale=3, min_width=140, elem_id=name)
        stop = gr.Button("Stop", scale=1, min_width=80, elem_id=f"stop-{name}")
    stop.click(shared.handlers.leave, None, None, queue=False, api_visibility="private", api_name=f"page_stop_{name}")
    return go


def prompt_tab(shared: Shared) -> gr.Textbox:
    with gr.Tab("Prompt"):
        go = buttons(shared, "Find the prompt", "find")
        prompt = gr.Textbox(
            label="Prompt",
            lines=3,
            max_lines=8,
            interactive=False,
            buttons=["copy"],
            elem_id="prompt",
            placeholder="The best prompt so far stands here while the search goes on.",
        )
        note = gr.HTML(elem_id="progress")
        curve = gr.HTML(elem_id="curve")
        with gr.Accordion("More of what was found", open=False):
            details = gr.HTML(elem_id="details")
        go.click(
            shared.handlers.search,
            [shared.picture, *shared.settings],
            [prompt, note, curve, details],
            show_progress_on=note,
            api_name="page_invert",
            **QUIET,
            **MODEL,
        )
    return prompt


def compare_tab(shared: Shared, service: Service) -> gr.CheckboxGroup:
    with gr.Tab("Compare"):
        usual = [name for name in ("invert", "interrogator-lite", "pez") if name in service.methods]
        methods = gr.CheckboxGroup(list(service.methods), value=usual, label="Methods")
        go = buttons(shared, "Compare", "compare")
        note, table = gr.HTML(), gr.HTML(elem_id="comparison")
        inputs = [shared.picture, methods, *shared.settings]
        go.click(shared.handlers.compare, inputs, [note, table], show_progress_on=note, api_name="page_compare", **QUIET, **MODEL)
    return methods


def batch_tab(shared: Shared) -> PicturesInput:
    with gr.Tab("Batch"):
        pictures = PicturesInput(
            file_count="multiple", label="Pictures", file_types=sorted(ENDINGS), height=160, elem_id="pictures"
        )
        go = buttons(shared, "Find all prompts", "batch")
        archive = gr.DownloadButton("Download the prompts (zip)", interactive=False, elem_id="zip")
        table = gr.HTML(elem_id="prompts")
        inputs = [pictures, *shared.settings]
        go.click(shared.handlers.batch, inputs, [table, archive], show_progress_on=table, api_name="page_batch", **QUIET, **MODEL)
    return pictures


def analyze_tab(shared: Shared) -> gr.Slider:
    with gr.Tab("Analyze"):
        top = gr.Slider(1, 20, value=ANALYSIS_TOP, step=1, label="Phrases of each category")
        go = gr.Button("Analyze", variant="primary", elem_id="analyze")
        found = gr.HTML(elem_id="analysis")
        go.click(shared.handlers.analyze, [shared.picture, top], found, api_name="page_analyze", **QUIET, **MODEL)
    return top


def draw_tab(shared: Shared, service: Service, found: gr.Textbox) -> tuple[Any, Any, Any]:
    """Its prompt, number of images and seed."""
    able = service.generator_name is not None
    with gr.Tab("Draw again", visible=able):
        prompt = gr.Textbox(label="Prompt", lines=2, max_lines=6, max_length=2000, elem_id="drawn-prompt")
        with gr.Row():
            images = gr.Slider(1, service.limits.drawn, value=min(4, service.limits.drawn), step=1, label="Images")
            seed = gr.Number(0, label="First seed", precision=0)
        go = gr.Button("Draw", variant="primary", elem_id="draw")
        gallery = gr.Gallery(label=f"Drawn by {shown(service.generator_name or '')}", columns=2, format="png", elem_id="drawn")
        go.click(shared.handlers.draw, [prompt, images, seed, shared.picture], gallery, api_name="page_draw", **QUIET, **MODEL)
        found.change(lambda text: text, found, prompt, queue=False, api_visibility="private", show_progress="hidden")
    return prompt, images, seed


def embedded_tab() -> tuple[gr.Textbox, gr.HTML]:
    """The prompt that the picture's file carries, and where it was found."""
    with gr.Tab("In the file"):
        prompt = gr.Textbox(label="Prompt in the file", lines=3, interactive=False, buttons=["copy"], elem_id="embedded")
        source = gr.HTML(elem_id="embedded-source")
    return prompt, source
