"""Prompts: where they come from, sets and splits of them, how they are put to a chat model."""
