"""The positive prompt of a ComfyUI graph: from the sampler back along its "positive" input to the texts that feed it.

Two forms are written into pictures: `prompt`, nodes by id with their inputs, and `workflow`, the editor's nodes and
links with the values of their widgets.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

Inputs = dict[str, Any]  # name → a value, or [id of the node that gives it, slot]
TEXTS = ("text", "text_g", "text_l", "t5xxl", "clip_l", "prompt", "positive", "string", "value", "text_positive")
FIRST, LAST = ("positive", "guider", "conditioning"), ("negative", "model", "clip", "vae", "latent_image", "image", "noise")


def positive_prompt(text: str) -> str:
    """The prompt in the JSON of either form; "" where none is found.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is no such graph.
    """
    graph = json.loads(text)
    nodes = of_workflow(graph) if isinstance(graph.get("nodes"), list) else of_prompt(graph)
    samplers = [id for id, (_, inputs) in nodes.items() if linked(inputs.get("positive")) or linked(inputs.get("guider"))]
    for id in samplers:
        found = list(dict.fromkeys(texts_behind(nodes, id, "positive", set())))
        if found:
            return ", ".join(found)
    encoders = [inputs.get("text") for kind, inputs in nodes.values() if "TextEncode" in kind]
    return next((value for value in encoders if isinstance(value, str) and value.strip()), "")


def of_prompt(graph: dict[str, Any]) -> dict[str, tuple[str, Inputs]]:
    """Id → kind and inputs."""
    return {id: (str(node.get("class_type", "")), dict(node["inputs"])) for id, node in graph.items()}


def of_workflow(graph: dict[str, Any]) -> dict[str, tuple[str, Inputs]]:
    """The same of the editor's form, where links are rows (id, from, slot, to, slot, type) and widgets have no names."""
    origins = {link[0]: str(link[1]) for link in graph.get("links") or ()}
    nodes = {}
    for node in graph["nodes"]:
        values = node.get("widgets_values")
        inputs: Inputs = {TEXTS[i]: value for i, value in enumerate(values[:2]) if isinstance(value, str)} if values else {}
        if "TextEncode" not in str(node.get("type")) and "String" not in str(node.get("type")):
            inputs = {}  # another node's widgets are file names and samplers
        for plug in node.get("inputs") or ():
            if plug.get("link") in origins:
                inputs[plug["name"]] = [origins[plug["link"]], 0]
        nodes[str(node["id"])] = str(node.get("type", "")), inputs
    return nodes


def linked(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2


def texts_behind(nodes: dict[str, tuple[str, Inputs]], id: str, through: str, seen: set[str]) -> Iterator[str]:
    """The texts that reach a node by the input `through`, or by any of its inputs that carry conditioning."""
    if id in seen or id not in nodes:
        return
    seen.add(id)
    inputs = nodes[id][1]
    if through in inputs and linked(inputs[through]):
        yield from texts_at(nodes, str(inputs[through][0]), seen)
    elif "guider" in inputs and linked(inputs["guider"]):
        yield from texts_at(nodes, str(inputs["guider"][0]), seen)


def texts_at(nodes: dict[str, tuple[str, Inputs]], id: str, seen: set[str]) -> Iterator[str]:
    """The texts of a node, else those of the nodes that feed it."""
    if id in seen or id not in nodes:
        return
    seen.add(id)
    inputs = nodes[id][1]
    own = [inputs[name] for name in TEXTS if isinstance(inputs.get(name), str) and inputs[name].strip()]
    if own:
        yield from own
        return
    behind = [name for name in inputs if linked(inputs[name]) and name not in LAST]
    for name in sorted(behind, key=lambda name: (name not in FIRST, name not in TEXTS)):
        yield from texts_at(nodes, str(inputs[name][0]), seen)
