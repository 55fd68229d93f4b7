"""What the library's values have in common with a model of transformers: `save_pretrained`, `from_pretrained`, `push_to_hub`.

huggingface_hub's own mixin does the work. Here is what it leaves open: repositories are private unless asked, no model's
files are written over, and every failure is one line.
"""

from __future__ import annotations

from abc import abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from huggingface_hub import HfApi, ModelHubMixin, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError

from abliterate.errors import InputError
from abliterate.hub.errors import hub_errors
from abliterate.hub.names import hub_name
from abliterate.hub.push import WEIGHT_FILES, check_name, find_token, quiet_hub, remote_files

CARD_TEMPLATE = """\
---
{{ card_data }}
---

Saved by abliterate:

```python
from abliterate import {{ kind }}

{{ kind.lower() }} = {{ kind }}.from_pretrained("org/name")
```
"""


T = TypeVar("T", bound="OnHub")


class OnHub(
    ModelHubMixin,
    library_name="abliterate",
    tags=["interpretability", "residual-stream"],
    model_card_template=CARD_TEMPLATE,
):  # type: ignore[misc]
    """A value that is kept in one file, `_file`, in a folder or a repository of the Hub."""

    _file: ClassVar[str]

    @abstractmethod
    def save(self, path: Path | str) -> None:
        """Write the file."""

    @classmethod
    @abstractmethod
    def load(cls: type[T], path: Path | str) -> T:
        """Read the file, or the one in a folder."""

    @classmethod
    def file_in(cls, path: Path) -> Path:
        """Return the path of the file itself, where a folder may be given."""
        return path / cls._file if path.is_dir() else path

    @classmethod
    def from_pretrained(cls: type[T], pretrained_model_name_or_path: str | Path, **options: Any) -> T:
        """Return what is in a folder, a file or a repository of the Hub (org/name, org/name@revision).

        `options` are those of huggingface_hub's mixin: `revision`, `token`, `cache_dir`, `force_download`,
        `local_files_only`. Raises InputError for a name or a file that is not there, HubError when the Hub refuses or
        cannot be reached.
        """
        name = str(pretrained_model_name_or_path)
        if Path(name).exists():
            return cls.load(name)
        if named := hub_name(name):
            name, options["revision"] = named.repository, named.at(options.get("revision"))
        with hub_errors(name), quiet_hub():
            found: T = super().from_pretrained(name, **options)  # type: ignore[misc]
        return found

    @classmethod
    def _from_pretrained(cls: type[T], *, model_id: str, token: Any = None, **options: Any) -> T:
        download: dict[str, Any] = {
            name: options.get(name) for name in ("revision", "cache_dir", "force_download", "local_files_only")
        }
        try:
            path = hf_hub_download(model_id, cls._file, token=token, **download)
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError as error:
            raise InputError(
                f"{model_id}: has no {cls._file}; give a repository that abliterate wrote one to"
            ) from error
        return cls.load(path)

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Write the file, a config and a card into a folder. Raises InputError for a folder that holds a model.

        `options` are those of huggingface_hub's mixin: `push_to_hub`, `repo_id` and what `push_to_hub` takes.
        """
        folder = Path(save_directory)
        names = [one.name for one in folder.iterdir()] if folder.is_dir() else []
        refuse_weights(str(folder), names)
        options["model_card_kwargs"] = {"kind": type(self).__name__, **(options.get("model_card_kwargs") or {})}
        pushed: str | None = super().save_pretrained(folder, **options)
        return pushed

    def _save_pretrained(self, save_directory: Path) -> None:
        self.save(save_directory / self._file)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload the file, a config and a card in one commit, and return the commit's address.

        A repository that is not there is made, private unless `private=False`. `options` are those of huggingface_hub's
        mixin: `token`, `branch`, `create_pr`, `commit_message` and more. Raises InputError for a bad name and a repository
        that holds a model, HubError for all that the Hub refuses.
        """
        check_name(repo_id)
        token = find_token(options.pop("token", None))
        given = {"private": True, "commit_message": f"Upload {self._file} with abliterate", **options}
        with hub_errors(repo_id, "nothing here is lost; push again", token), quiet_hub():
            with suppress(RepositoryNotFoundError):  # the push makes it
                refuse_weights(repo_id, remote_files(HfApi(token=token), repo_id))
            return str(super().push_to_hub(repo_id, token=token, **given))


def refuse_weights(place: str, names: Any) -> None:
    """Raise InputError where a model's weights are among the names: its config and card would be written over."""
    if weights := sorted(name for name in names if WEIGHT_FILES.fullmatch(name)):
        raise InputError(
            f"{place}: holds a model ({weights[0]}), whose config and card would be lost; choose another place"
        )
