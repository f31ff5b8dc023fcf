"""English for every model that brings none: words, phrase tables, a corpus of prompts and the language learned from it."""
