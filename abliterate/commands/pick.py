"""`abliterate pick`: another point of the front that a run has found, written and proved without searching again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from abliterate.directions.files import read_directions, write_rows
from abliterate.errors import InputError
from abliterate.pipeline.contradictions import check_search
from abliterate.pipeline.open_edit import EditFiles, open_edit, with_original
from abliterate.pipeline.open_model import open_source
from abliterate.pipeline.options import Options
from abliterate.pipeline.write_edit import Taken, WrittenEdit, write_edit
from abliterate.progress import SILENT, Progress
from abliterate.records.manifest import check_source, part, read_manifest
from abliterate.search.found_file import load_found
from abliterate.search.stages import SearchResult
from abliterate.storage.names import DIRECTIONS, RECIPE, SEARCH
from abliterate.storage.staging import check_destination, check_free
from abliterate.storage.temporary import temporary_folder


@dataclass(frozen=True)
class Picked:
    """The front with the point that was taken, and what was written."""

    found: SearchResult
    written: WrittenEdit


def pick(folder: Path, options: Options, progress: Progress = SILENT) -> Picked:
    """Write the point of a finished search that `options` choose (`max_kl`, `target_refusals`, `pick`, `max_lost`) to `options.out`.

    `options.model` is the original, or empty for the manifest's. The result is proved as that of a run; its figures are those of the
    select split alone, on which the search has judged it: `evaluate` measures it. Raises InputError for a folder without a
    search, where no point will do, for another original, and as `apply` does.
    """
    check_search(replace(options, optimize=True))
    check_free(options.out, options.force)
    manifest = read_manifest(folder)
    found = load_found(folder / SEARCH)
    if options.max_lost is not None:
        if not found.front.original.kept_prompts:
            raise InputError(f"{folder}: its search kept no refusals that --max-lost could be of; leave it away")
        found = replace(found, front=replace(found.front, max_lost=options.max_lost))
    chosen = found.front.choose(options.target_refusals, options.max_kl, options.pick)
    found = replace(found, chosen=chosen)
    options = with_original(options, manifest)
    source = open_source(options, progress)
    check_destination(source.folder, options.out)
    source.checkpoint.files()  # a link that cannot be copied is named before there is work to lose
    check_source(folder, part(manifest, "source"), source, progress)
    rows, record = read_directions(folder / DIRECTIONS)
    with temporary_folder() as temporary:
        directions = temporary / DIRECTIONS
        write_rows(directions, rows | chosen.edit.rows(), record)
        files = EditFiles(folder, chosen.edit.recipe(), directions)
        opened = open_edit(options, files, progress, source, manifest.get("edited_dtype"))
        words = ["abliterate", "apply", source.shown_name, "--directions", DIRECTIONS, "--recipe", RECIPE]
        words += ["--edited-dtype", opened.plan.edited_dtype] if opened.plan.edited_dtype else []
        return Picked(found, write_edit(opened, options, words, progress, Taken(folder, found)))
