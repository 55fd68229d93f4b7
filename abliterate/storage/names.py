"""The names of the files that stay beside a checkpoint on this machine."""

OBSERVATIONS = "observations.json"
EVALUATION = "evaluation.json"
PAGE = "report.html"

LOCAL = (OBSERVATIONS, EVALUATION, PAGE)
"""Not published: they quote prompts and the model's replies to them."""
