"""What was proved, tensor by tensor and on the stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abliterate.report import format as text
from abliterate.report.load import Gathered


def words(records: Gathered) -> dict[str, Any]:
    """Return what the template fills in."""
    manifest = records.manifest
    line = proof_section(manifest["proof"])
    return {
        "proof": {**manifest["proof"], "line": line, "tensors": len(manifest["tensors"])},
        "left_alone": manifest["left_alone"],
    }


def numbers(records: Gathered) -> dict[str, Any]:
    """Return what the script draws."""
    return {"proof": records.manifest["proof"], "tensors": records.manifest["tensors"]}


def proof_section(proof: Mapping[str, Any]) -> str:
    """Return what the proof found on the residual stream, in one sentence."""
    found, allowed = text.number_html(proof["largest"]), text.number_html(proof["limit"])
    if proof["kind"] == "silence":
        before = f", {text.number_html(proof['before'])} before" if proof["before"] is not None else ""
        return f"along the direction at most {found} of the residual stream at any layer{before}; {allowed} allowed"
    return f"at most {found} of the residual stream away from the hook form at any layer; {allowed} allowed"
