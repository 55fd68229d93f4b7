"""How a push is put on the Hub, declared once. Imports nothing that takes time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from abliterate.errors import InputError
from abliterate.hub.names import is_path
from abliterate.records.option import Declaration, Panel, option


@dataclass(frozen=True, kw_only=True)
class PushOptions:
    """Who may see a new repository, and as which commit of which branch the folder gets there."""

    PANEL: ClassVar[Panel] = "hub"

    public: bool = option(False, Declaration("Make a new repository public; private otherwise.", kind=bool))
    commit_message: str | None = option(
        None, Declaration("Message of the commit. \\[default: what is uploaded, with abliterate]")
    )
    create_pr: bool = option(
        False, Declaration("Open a pull request with the commit, in the place of a commit to the branch.", kind=bool)
    )
    revision: str | None = option(
        None, Declaration("Branch to commit to, made if it is not there. \\[default: main]", metavar="BRANCH")
    )

    def check(self) -> None:
        """Raise InputError for an empty message, and for what can be no branch."""
        if self.commit_message is not None and not self.commit_message.strip():
            raise InputError("--commit-message: is empty; say what the commit is, or leave it away")
        if self.revision is not None and (not self.revision.strip("/") or is_path(self.revision)):
            raise InputError(f"--revision {self.revision}: is no branch; give a name")
