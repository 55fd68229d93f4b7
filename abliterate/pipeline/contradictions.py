"""Options of a run that contradict each other, refused before anything is looked at."""

from __future__ import annotations

import math

from abliterate.architectures.sites import SITES
from abliterate.errors import InputError
from abliterate.exports.forms import EXPORT_FORMS, LEAVING_OUT
from abliterate.pipeline.form_options import LATER_PLACES, FormOptions
from abliterate.pipeline.keep_options import KeepOptions
from abliterate.pipeline.options import BUILTIN_HARMFUL, Options
from abliterate.replies.behaviours import REFUSAL


def check_options(options: Options) -> None:
    """Raise InputError for flags that contradict each other, and for forms that cannot be written."""
    if options.mode == "harden":
        raise InputError("--mode harden trains an adapter and finds no edit: call commands.harden.harden_model")
    check_form(options)
    check_search(options)
    check_kept(options)
    check_target(options)
    check_thought(options)
    options.check_judge(options.searches)
    check_induce(options)
    check_save(options)
    check_edit_form(options)


def check_form(options: Options) -> None:
    """Raise InputError for flags of --form without it, and for a place that has no mean of harmless prompts to project out."""
    usual = FormOptions()
    if options.form is None:
        for name in ("place", "phrases", "forms"):
            if getattr(options, name) != getattr(usual, name):
                raise InputError(f"--{name} says what --form is made of; add --form, or leave --{name} away")
    elif options.place in LATER_PLACES and options.direction == "projected":
        raise InputError(
            f"--place {options.place}: harmless prompts have no mean there that could be projected out; add --direction "
            "mean-difference"
        )


def check_search(options: Options) -> None:
    """Raise InputError for flags that contradict each other."""
    if options.pick == "knee" and not options.searches:
        raise InputError("--pick knee chooses among the edits of a search; add --optimize")
    if options.searches and options.strength is not None:
        raise InputError("--strength and --optimize: the search finds the strengths; leave one of them away")
    if options.edit_rank != 1 and not options.searches:
        raise InputError(
            f"--edit-rank {options.edit_rank}: several directions are found by a search; add --optimize, or edit along given ones "
            "with abliterate apply --row"
        )
    if options.edit_rank < 1:
        raise InputError(f"--edit-rank {options.edit_rank}: give 1 or more")
    for flag, value in (("--target-refusals", options.target_refusals), ("--max-kl", options.max_kl)):
        if value is not None and not options.searches:
            raise InputError(f"{flag} chooses among the edits of a search; add --optimize")
        if value is not None and options.pick == "knee":
            raise InputError(f"{flag} and --pick knee choose in two ways; leave one of them away")
        if value is not None and not 0 <= value < math.inf:
            raise InputError(f"{flag} {value}: give a number from 0 up")
    if options.max_lost is not None and not 0 <= options.max_lost <= 1:
        raise InputError(f"--max-lost {options.max_lost}: give a share from 0 to 1")


def check_kept(options: Options) -> None:
    """Raise InputError for flags of a search that keeps refusals, where none does."""
    if options.keep is not None and not options.searches:
        raise InputError("--keep is kept by a search; add --optimize, or leave it away")
    if options.max_lost is not None and options.keep is None and options.mode != "calm":
        raise InputError(
            "--max-lost is of refusals that shall stay; name them with --keep, add --mode calm, or leave it away"
        )
    if options.mode == "calm":
        taken = {
            "--no-optimize": not options.searches,
            "--form": options.form is not None,
            "--edit-form": options.edit_form != "projection",
        }
        for flag, given in taken.items():
            if given:
                raise InputError(f"{flag} and --mode calm: its edit is found by a search; leave one of them away")
        return
    usual = KeepOptions()
    for name in ("look_alikes", "report_look_alikes"):
        if getattr(options, name) != getattr(usual, name):
            raise InputError(f"--{name.replace('_', '-')} is for --mode calm; add that, or leave it away")


def check_target(options: Options) -> None:
    """Raise InputError for another behaviour than refusal with prompts of refusals, or with what knows refusals alone."""
    if options.target == REFUSAL:
        return
    if options.harmful == BUILTIN_HARMFUL:
        raise InputError(
            f"--target {options.target}: say with --harmful which prompts show it, such as builtin:slop, and with --harmless "
            "which do not"
        )
    taken = {
        f"--mode {options.mode}": options.mode != "ablate",
        "--form": options.form is not None,
        "--keep": options.keep is not None,
        "--judge": options.judged,
    }
    for flag, given in taken.items():
        if given:
            raise InputError(f"{flag} knows refusals alone; leave it or --target {options.target} away")


def check_thought(options: Options) -> None:
    """Raise InputError for a thought that is switched off, or with what is taken without one."""
    if options.thought is None:
        return
    taken = {
        "--thinking off": options.thinking == "off",
        "--form": options.form is not None,
        "--mode calm": options.mode == "calm",
        "--mode induce": options.mode == "induce",
        "--judge": options.judged,
    }
    for flag, given in taken.items():
        if given:
            raise InputError(f"{flag} does not go with --thought; leave one of them away")


def check_induce(options: Options) -> None:
    """Raise InputError for flags that say how something is removed, where something is added."""
    if options.mode != "induce":
        return
    taken = {"--optimize": options.searches, "--sites": options.sites != SITES, "--edited-dtype": options.edited_dtype}
    for flag, given in taken.items():
        if given:
            raise InputError(f"{flag} says how the direction is removed; --mode induce adds it: leave one of them away")
    if options.strength is not None and not (options.strength and math.isfinite(options.strength)):
        raise InputError(f"--strength {options.strength:g} adds nothing that makes sense; give another number")
    if options.save not in (("checkpoint",), ("adapter",)):
        raise InputError(
            f"--save {','.join(options.save)}: --mode induce writes one form, checkpoint or adapter; for llama.cpp, "
            "export the result --to control-vector"
        )


def check_edit_form(options: Options) -> None:
    """Raise InputError for flags that do not go with a form of the edit that keeps lengths."""
    if options.edit_form == "projection":
        return
    taken = {
        "--optimize": options.searches,
        "--mode induce": options.mode == "induce",
        "--strength": options.removal != 1,
        "--sites": set(options.sites) != set(SITES),
        "--edited-dtype": options.edited_dtype,
        "--save": options.save != ("checkpoint",),
    }
    for flag, given in taken.items():
        if given:
            raise InputError(
                f"{flag} does not go with --edit-form {options.edit_form}, which removes all of the direction, in a checkpoint: "
                "leave one of them away"
            )


def check_save(options: Options) -> None:
    """Raise InputError for forms that cannot be written."""
    if not {"checkpoint", "adapter"} & set(options.save):
        raise InputError(
            f"--save {','.join(options.save)}: what is measured is a checkpoint or an adapter; add one of them"
        )
    for name, form in EXPORT_FORMS.items():
        if name in options.save:
            form.require(f"--save {name}")
    if options.leave_out and LEAVING_OUT not in options.save:
        raise InputError(
            f"--leave-out {','.join(options.leave_out)} is for a GGUF adapter; add {LEAVING_OUT} to --save, or leave it away"
        )
    if options.edited_dtype and "checkpoint" not in options.save:
        raise InputError("--edited-dtype says how a checkpoint is written; add checkpoint to --save, or leave it away")
