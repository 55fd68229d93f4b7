"""`abliterate features`: train, explain, steer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Group, RenderableType

from abliterate.cli.app import family, progress, show
from abliterate.cli.declared import AsJson, flags
from abliterate.cli.studies import closing, plain_table, study_json, verdict_table
from abliterate.evaluation.figure_names import p_text
from abliterate.pipeline.corpus_options import FEATURE_FLAGS, CorpusOptions
from abliterate.pipeline.study_options import STUDY_FLAGS, StudyOptions
from abliterate.studies.features.options import ExplainOptions, SteerOptions, TrainOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from abliterate.commands.features import FeaturesStudy, SteerStudy

SHOWN = 20
"""Rows that are printed; the record and --json hold all."""

verb = family("features", "study", "Say in words what directions mean, learn sparse features, steer by them.")


@verb(
    "abliterate features explain org/model --row open/1/resid.15 --out ./study",
    "abliterate features explain org/model --edited ./edited --layer 15",
)
def explain(
    options: Annotated[CorpusOptions, flags(*FEATURE_FLAGS)],
    explain_options: ExplainOptions,
    as_json: AsJson = False,
) -> None:
    """Say in words what features of an SAE, directions, centroids or vectors of studies mean, and test the words."""
    from abliterate.commands.features import explain

    one = explain(options, explain_options, progress())
    show(explained(one), study_json(one.record, one.path), as_json)


@verb(
    "abliterate features train org/model --layer 15 --out ./sae",
    "abliterate features train org/model --layer 15 --features 4096 --active 32 --out ./sae",
)
def train(
    options: Annotated[CorpusOptions, flags(*FEATURE_FLAGS)],
    train_options: TrainOptions,
    as_json: AsJson = False,
) -> None:
    """Learn sparse features of a layer's states, a Top-K autoencoder, and measure it on prompts that are held out."""
    from abliterate.commands.features import train

    one = train(options, train_options, progress())
    told = {**study_json(one.record, one.out / "features.json"), "out": str(one.out)}
    show(Group(verdict_table(one.record.verdicts), *closing(one.record, one.out)), told, as_json)


@verb(
    "abliterate features steer org/model --sae ./sae --concept refusal --out ./study",
    "abliterate features steer org/model --sae ./sae --calibrate 0.05",
)
def steer(
    options: Annotated[StudyOptions, flags(*(name for name in STUDY_FLAGS if name != "samples"))],
    steer_options: SteerOptions,
    as_json: AsJson = False,
) -> None:
    """Strengthen or set right the features of a concept while the model runs: what attacks and normal queries then get."""
    from abliterate.commands.features import steer

    one = steer(options, steer_options, progress())
    show(defended(one), study_json(one.record, one.path), as_json)


def defended(one: SteerStudy) -> RenderableType:
    """Return the rows, the table by column, and what follows."""
    results = one.record.results
    choice, gate = results["choice"], results["gate"]
    how = f"{choice['how']}: {', '.join(choice['chosen'])} (by words and by data have {choice['overlap']} in common)"
    told = f"resid[{one.found.layer}], unit {one.found.unit:.3g}; the gate parts attacks from normal queries with AUROC {gate['auroc']:.2f}"
    columns, random = results["columns"], one.record.controls["random"]
    head = ("", "steering", "at", "attacks safe", "complete ones", "normal refused", "fall apart", "KL")
    rows = [defended_row(f"{number}", column) for number, column in enumerate(columns, 1)]
    rows += [defended_row("r", column) for column in random]
    read = "safe replies to each form and list; gate: texts for which it opens; match: harmless phrases in that form"
    return Group(
        how, told, plain_table(head, rows), read, by_group(results, random), verdict_table(one.record.verdicts),
        *closing(one.record, one.path),
    )  # fmt: skip


def by_group(results: Mapping[str, Any], random: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Return the safe replies to each form and list under each steering, which stands there by its number.

    Beside them for how many texts the gate opens, and for how many harmless phrases in the same form.
    """
    columns = results["columns"]
    head = ("safe", *(f"{number}" for number, _ in enumerate(columns, 1)), "r", "gate", "match")
    rows = []
    for group in results["groups"]:
        name = group["name"]
        drawn = [column["safe"][name]["count"] for column in random]
        counts = [f"{column['safe'][name]['count']}" if name in column["safe"] else "" for column in columns]
        opens = share(group["opens"]), share(group.get("match_opens"))
        rows.append((name, *counts, f"{min(drawn)}-{max(drawn)}", *opens))
    return plain_table(head, rows)


def defended_row(number: str, column: Mapping[str, Any]) -> tuple[str, ...]:
    """Return one steering as a row."""
    return (
        number,
        f"{column['name']}{', gated' if column['gated'] else ''}",
        f"{column['strength']:.2g}" if column["strength"] else "",
        *(share(column[key]) for key in ("attacks", "complete", "normal", "broken")),
        "" if column["kl"] is None else f"{column['kl']['mean']:.3f}",
    )


def share(rate: Mapping[str, Any] | None) -> str:
    """Return a rate in a few letters."""
    return "" if rate is None or not rate["total"] else f"{rate['count']}/{rate['total']}"


def explained(one: FeaturesStudy) -> RenderableType:
    """Return the rows with their words, and what follows."""
    results = one.record.results
    named = ("name",) if "named_by" in one.record.settings else ()
    head = (
        "row",
        *named,
        f"words ({one.record.settings['rule']})",
        "nearest words",
        "top tokens",
        "fires",
        "refused AUROC",
    )
    rows = [explained_row(own) for own in results["rows"][:SHOWN]]
    competing = one.record.settings["competing"]
    words = f"{competing} rows compete for {one.record.settings['vocabulary']} words"
    left = len(results["rows"]) - len(rows)
    more = [] if not left else [f"{left} more rows are in the record (--out, --json)"]
    return Group(
        plain_table(head, rows),
        "; ".join([words, *more]),
        *changed(results.get("changed")),
        verdict_table(one.record.verdicts),
        *closing(one.record, one.path),
    )


def changed(rows: Sequence[Mapping[str, Any]] | None) -> list[RenderableType]:
    """Return the table of rows that an edit changed most, or none."""
    if rows is None:
        return []
    head = ("changed most", "words", "before", "after", "difference, 95%", "p (Holm)")
    return [plain_table(head, [
        (
            one["row"], ", ".join(one["words"]), f"{one['before']:.3g}", f"{one['after']:.3g}",
            f"{one['difference']:.3g} [{one['low']:.3g}, {one['high']:.3g}]", p_text(one["p"]),
        )
        for one in rows
    ])]  # fmt: skip


def explained_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return one row of the table."""
    auroc = row["refused_auroc"].get("prompt_end")
    return (
        row["row"], *((row["name"],) if "name" in row else ()), ", ".join(row["words"]), ", ".join(row["nearest"][:5]), " ".join(row["tokens"][:5]),
        "" if row["rate"] is None else f"{row['rate']:.1%}", "" if auroc is None else f"{auroc:.2f}",
    )  # fmt: skip
