"""Frozen CLIP models: one `Clip` for every library, its text side always our own `TextTower`."""
