"""Invert as a custom node of ComfyUI: an image, or a batch of them, becomes prompts."""

from __future__ import annotations

from .nodes import InvertPrompt

NODE_CLASS_MAPPINGS = {"InvertPrompt": InvertPrompt}
NODE_DISPLAY_NAME_MAPPINGS = {"InvertPrompt": "Invert: image to prompt"}

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
