"""The Hub: a finished checkpoint becomes one commit of a repository; what can be known before a long run fails before it.

huggingface_hub speaks to the Hub. Here is what it leaves open: only whole results are sent, all of one result in
one commit, never on top of another model's weights, and every failure is one line that says what to do.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from logging import ERROR
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # public, but exported out of mypy's sight
    disable_progress_bars,
    enable_progress_bars,
    logging,
    validate_repo_id,
)
from safetensors import SafetensorError, safe_open

from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.checkpoints.other_files import leads_out
from abliterate.errors import CheckpointError, HubError, InputError
from abliterate.hub.errors import LOGIN, TOKEN_PAGE, hub_errors
from abliterate.progress import SILENT, Progress
from abliterate.storage.foreign_files import read_json
from abliterate.storage.journal import JOURNAL
from abliterate.storage.names import ADAPTER, ADAPTER_WEIGHTS, CARD, CONFIG, HARDENED, HEALED, LOCAL, MANIFEST, SETTINGS

PUSHED_RECORDS: Mapping[str, str] = {HEALED: "a healed model", HARDENED: "a hardening adapter", MANIFEST: "an edit"}
"""What tells that abliterate wrote a folder or a repository, and which kind of result it holds."""

REQUIRED = (CONFIG, CARD)
"""What a finished checkpoint holds beside its weights and its record."""

ADAPTER_REQUIRED = (ADAPTER, ADAPTER_WEIGHTS, CARD)
"""What a finished adapter holds beside its record."""

WEIGHT_FILES = re.compile(r"((pytorch_)?model[^/]*|adapter_model)\.(safetensors|bin)(\.index\.json)?")
"""Files at the top of a repository that transformers loads as the model's weights, or that list them."""

UNFINISHED = (".partial", ".replaced")


def push(
    folder: Path,
    repository: str,
    *,
    public: bool = False,
    token: str | None = None,
    message: str | None = None,
    create_pr: bool = False,
    revision: str | None = None,
    progress: Progress = SILENT,
) -> str:
    """Upload a finished checkpoint or adapter in one commit, and return the address of its page.

    A repository that is not there is made, private unless `public`; one that is there keeps its visibility. The commit is
    one to the branch `revision`, which is made if it is not there (main if None), or with `create_pr` a pull request to
    that branch, whose address is returned. Weights and
    records that an earlier push left there and this one does not bring are removed in the same commit. Raises InputError
    for a folder that is not a finished result, a bad name and a repository that holds another model,
    CheckpointError for damaged shards, HubError for all that the Hub refuses; the folder stays as it is.
    """
    folder = Path(folder)
    sizes = finished_files(folder)
    check_name(repository)
    key = find_token(token)
    retry = retry_command(folder, repository, public, message, create_pr, revision)
    with hub_errors(repository, f"the local result in {folder} is whole; retry with: {retry}", key), quiet_hub():
        api = HfApi(token=key, library_name="abliterate")
        page = api.create_repo(repository, private=not public, exist_ok=True)
        if revision is not None:
            require_branch(api, repository, revision, make=not create_pr)
        old = old_result(repository, remote_files(api, repository, revision))
        with progress.step(f"upload to {repository}", sum(sizes.values()), "B") as advance:
            additions = [CommitOperationAdd(name, folder / name) for name in sizes]
            for addition in additions:
                if addition.path_in_repo.endswith(".safetensors"):
                    api.preupload_lfs_files(repository, [addition], revision=revision, create_pr=create_pr)
                    advance(sizes[addition.path_in_repo])
            removals = [CommitOperationDelete(name) for name in sorted(old - set(sizes))]
            what = next(what for name, what in PUSHED_RECORDS.items() if name in sizes)
            commit = api.create_commit(
                repository,
                [*removals, *additions],
                commit_message=message or f"Upload {what} with abliterate",
                create_pr=create_pr,
                revision=revision,
            )
            advance(sum(size for name, size in sizes.items() if not name.endswith(".safetensors")))
        check_arrived(repository, sizes, remote_files(api, repository, commit.pr_revision or commit.oid))
    return str(commit.pr_url or (page if revision is None else f"{page}/tree/{revision}"))


def retry_command(
    folder: Path, repository: str, public: bool, message: str | None, create_pr: bool, revision: str | None
) -> str:
    """Return the command that does the same push again."""
    words = ["abliterate", "push", str(folder), repository, *(["--public"] if public else [])]
    words += [*(["--commit-message", message] if message else []), *(["--create-pr"] if create_pr else [])]
    return shlex.join([*words, *(["--revision", revision] if revision else [])])


def require_branch(api: HfApi, repository: str, branch: str, make: bool) -> None:
    """Make a branch that is not there, if that may be. Raises InputError where it may not."""
    try:
        api.repo_info(repository, revision=branch)
    except RevisionNotFoundError:
        if not make:
            raise InputError(
                f"{repository}: has no branch {branch} to open a pull request to; leave --revision or --create-pr away"
            ) from None
        api.create_branch(repository, branch=branch, exist_ok=True)


def check_push(repository: str, token: str | None = None) -> None:
    """Raise what a push of a finished checkpoint would raise, as far as it can be known before there is one.

    Nothing is made on the Hub. Raises InputError for a bad name and a repository that holds another model, HubError
    when there is no token, the Hub refuses it, or it may not write there.
    """
    check_name(repository)
    key = find_token(token)
    with hub_errors(repository, "or leave --push out and push the result later", key), quiet_hub():
        api = HfApi(token=key, library_name="abliterate")
        check_rights(repository, api.whoami())
        try:
            old_result(repository, remote_files(api, repository))
        except GatedRepoError:
            raise
        except RepositoryNotFoundError:
            pass  # the push will make it


def finished_files(folder: Path) -> dict[str, int]:
    """Return the files of a finished checkpoint or adapter with their sizes, but hidden ones and those that stay here.

    Raises InputError for any other folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the folder of a finished run")
    if folder.resolve().name.endswith(UNFINISHED) or (folder / JOURNAL).exists():
        raise InputError(f"{folder}: is what an unfinished run left; repeat that run to finish it, then push")
    adapter = (folder / ADAPTER).is_file()
    missing = [name for name in (ADAPTER_REQUIRED if adapter else REQUIRED) if not (folder / name).is_file()]
    if not any((folder / name).is_file() for name in PUSHED_RECORDS):
        missing.append(" or ".join(sorted(PUSHED_RECORDS)))
    if not any(folder.glob("*.safetensors")):
        missing.append("*.safetensors")
    if missing:
        what = "adapter" if adapter else "checkpoint"
        raise InputError(f"{folder}: is not a finished {what}: {', '.join(missing)} missing; give a run's --out")
    if adapter:
        check_pushed_adapter(folder / ADAPTER_WEIGHTS)
    else:
        Checkpoint.open(folder)
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in LOCAL)
    names = {path.relative_to(folder): path.stat().st_size for path in paths}
    sent = {name: size for name, size in names.items() if not any(p.startswith(".") for p in name.parts)}
    if out := [name.as_posix() for name in sent if leads_out(folder, name)]:
        raise InputError(
            f"{folder}: {', '.join(out[:5])} {'are links' if len(out) > 1 else 'is a link'} out of the folder; put there "
            "what shall be sent, or remove it"
        )
    return {name.as_posix(): size for name, size in sent.items()}


def check_pushed_adapter(path: Path) -> None:
    """Raise CheckpointError for an adapter that cannot be read, InputError where its config holds a path of this machine."""
    try:
        with safe_open(path, framework="np"):
            pass
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); export it again") from error
    try:
        config = read_json(path.with_name(ADAPTER))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path.with_name(ADAPTER)}: cannot be read ({error}); export it again") from error
    base = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    if isinstance(base, str) and (PurePosixPath(base).is_absolute() or PureWindowsPath(base).is_absolute()):
        raise InputError(
            f"{path.with_name(ADAPTER)}: names its model by a path of this machine; write it without --keep-paths, or name "
            "there the model on the Hub"
        )


def check_name(repository: str) -> None:
    """Raise InputError for a name that is not of the form org/name, or that the Hub does not allow."""
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise InputError(f"{repository!r}: not a name that the Hub allows; give one of the form org/name") from error
    if repository.count("/") != 1:
        raise InputError(f"{repository!r}: not a full name; give one of the form org/name")


def find_token(token: str | None) -> str:
    """Return the given token, or that of the environment or the login. Raises HubError when there is none."""
    key = (token or get_token() or "").strip()
    if not key:
        raise HubError(f"no Hub token; {LOGIN}")
    if not re.fullmatch(r"[!-~]+", key):  # the HTTP library would quote it in its complaint
        raise HubError(f"the Hub token holds characters that no token has; copy it again from {TOKEN_PAGE}")
    return key


def check_rights(repository: str, identity: Mapping[str, Any]) -> None:
    """Raise HubError when what the Hub says of a token rules out that it may write to the repository."""
    key = (identity.get("auth") or {}).get("accessToken") or {}
    role = key.get("role")
    if role == "read":
        raise HubError(f"{repository}: the token may only read; make one that may write at {TOKEN_PAGE}, then {LOGIN}")
    names = [identity.get("name", ""), *(one.get("name", "") for one in identity.get("orgs", []))]
    namespace = repository.split("/")[0]
    # A fine-grained token may be shown fewer organisations than it can write to: only a classic one is judged.
    if role == "write" and namespace.lower() not in (name.lower() for name in names):
        raise HubError(f"{repository}: the token writes to {' and '.join(names)}, not to {namespace}; check the name")


def remote_files(api: HfApi, repository: str, revision: str | None = None) -> dict[str, int]:
    """Return the files of a repository with their sizes."""
    entries = api.list_repo_tree(repository, recursive=True, revision=revision)
    return {entry.path: entry.size for entry in entries if isinstance(entry, RepoFile)}


def old_result(repository: str, files: Mapping[str, int]) -> set[str]:
    """Return weights and records that an earlier push left. Raises InputError for weights of another model."""
    weights, records = (
        {name for name in files if WEIGHT_FILES.fullmatch(name)},
        {name for name in PUSHED_RECORDS if name in files},
    )
    if weights and not records:
        raise InputError(
            f"{repository}: holds weights that abliterate did not write ({min(weights)}); choose another name, "
            "or delete that repository first"
        )
    # The options of a run say nothing of the result that takes its place.
    return weights | records | ({SETTINGS} & set(files) if records else set())


def check_arrived(repository: str, sizes: Mapping[str, int], files: Mapping[str, int]) -> None:
    """Raise HubError when a file did not reach the repository: a .gitignore there keeps files out in silence."""
    lost = sorted(name for name, size in sizes.items() if files.get(name) != size)
    if lost:
        raise HubError(f"{repository}: {', '.join(lost)} did not arrive; see if its .gitignore keeps files out")


@contextmanager
def quiet_hub() -> Iterator[None]:
    """Keep huggingface_hub's bars and its notes on every retry to itself, unless its user asked for the bars."""
    level = logging.get_verbosity()
    silenced = constants.HF_HUB_DISABLE_PROGRESS_BARS is None
    if silenced:
        disable_progress_bars()
    logging.set_verbosity(ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if silenced:
            enable_progress_bars()
