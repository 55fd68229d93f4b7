"""The names of the methods that make a direction."""

from __future__ import annotations

from typing import Literal, get_args

Method = Literal["projected", "mean-difference"]
METHODS: tuple[Method, ...] = get_args(Method)
