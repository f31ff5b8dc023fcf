"""How the page looks: the system's own fonts, so that nothing is fetched from elsewhere, light and dark."""

from __future__ import annotations

import gradio as gr

SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
MONO = ("ui-monospace", "Menlo", "Consolas", "monospace")

CSS = """
.gradio-container { width: 100%; max-width: 76rem !important; margin: 0 auto !important; --stage-0: #0e7490; --stage-1: #c2410c;
  --stage-2: #6d28d9; --stage-3: #4d7c0f }
.dark.gradio-container, .dark .gradio-container { --stage-0: #22d3ee; --stage-1: #fb923c; --stage-2: #c4b5fd; --stage-3: #a3e635 }
#title h1 { margin: 0 0 .15rem } #title p { margin: 0; color: var(--body-text-color-subdued) }
#prompt textarea { font-size: 1.3rem; line-height: 1.45 }
.note { color: var(--body-text-color-subdued); font-variant-numeric: tabular-nums; margin: 0; min-height: 1.5em }
.notice { border-left: 3px solid var(--stage-0); padding: .4rem .8rem; margin: 0; overflow-wrap: anywhere }
.notice.problem { border-color: var(--stage-1) }
.curve svg { width: 100%; height: auto; display: block }
.curve polyline { fill: none; stroke: currentColor; stroke-width: 2.5; stroke-linejoin: round; vector-effect: non-scaling-stroke }
.curve line { stroke: currentColor; opacity: .35 } .curve text { fill: currentColor; opacity: .75; font-size: 15px }
.curve p { display: flex; flex-wrap: wrap; gap: 1rem; margin: .2rem 0 0; font-size: .85rem }
.stage-0 { color: var(--stage-0) } .stage-1 { color: var(--stage-1) }
.stage-2 { color: var(--stage-2) } .stage-3 { color: var(--stage-3) }
h3 { margin: 1rem 0 .35rem; font-size: .95rem } h3 small { font-weight: normal; opacity: .7 }
.none { opacity: .55; text-decoration: line-through }
table.found, table.found :is(thead, tbody, tr) { border: 0 }
table.found { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums }
table.found th, table.found td { text-align: left; padding: .45rem .7rem .45rem 0; vertical-align: top; border: 0;
  border-bottom: 1px solid var(--border-color-primary); overflow-wrap: break-word }
table.found td:first-child, table.found td.number { white-space: nowrap }
table.found tr.best td { font-weight: 600 } table.found tr.problem td { color: var(--stage-1) }
.analysis { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 0 1.5rem }
.analysis ol { list-style: none; margin: 0; padding: 0 }
.analysis li { display: flex; justify-content: space-between; gap: 1rem; margin: 0 0 .3rem; padding: .1rem 0 .3rem;
  background: linear-gradient(var(--stage-0), var(--stage-0)) left bottom / calc(var(--share) * 100%) 3px no-repeat }
.analysis b { font-weight: normal; opacity: .8; font-variant-numeric: tabular-nums }
@media (max-width: 40rem) {
  .gradio-container { padding: .5rem !important }
  table.found thead { display: none } table.found tr { display: block; padding: .5rem 0 }
  table.found td { display: block; white-space: normal !important; border: 0; padding: .1rem 0 }
  table.found tr { border-bottom: 1px solid var(--border-color-primary) }
  table.found td.number { display: inline-block; margin-right: 1rem; opacity: .8 }
  table.found td.number::before { content: attr(data-of) " " }
  #left, #right { display: contents } #settings { order: 9 }
}
"""


def theme() -> gr.themes.Base:
    """Gradio's plain theme in cyan and slate."""
    return gr.themes.Default(
        primary_hue="cyan",
        neutral_hue="slate",
        font=list(SANS),
        font_mono=list(MONO),
        radius_size="md",
    )
