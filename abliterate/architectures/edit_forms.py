"""What becomes of the vectors that a writer writes when they lose a direction. Imports nothing that takes time."""

from __future__ import annotations

from typing import Literal, get_args

EditForm = Literal["projection", "columns"]
EDIT_FORMS: tuple[EditForm, ...] = get_args(EditForm)
"""What is left stays as it is; or each input's write vector, a column of a linear map, becomes as long as it was."""
