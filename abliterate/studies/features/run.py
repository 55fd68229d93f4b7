"""What rows mean: words for each, where they are active, whether the words are right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from abliterate.errors import InputError
from abliterate.models.final_norm import behind_final_norm
from abliterate.models.live_model import LiveModel
from abliterate.projection import ZERO_LENGTH
from abliterate.studies.features.activity import Activity, activity_of, aurocs
from abliterate.studies.features.corpus import Corpus
from abliterate.studies.features.method import NEAREST, PRIOR, RULES, Competition, Spread, spread_of
from abliterate.studies.features.names import Evidence
from abliterate.studies.features.rows import Rows
from abliterate.studies.features.tested import WordTest, token_counts, word_test
from abliterate.studies.features.words import Vocabulary, word_vectors

TOP_TEXTS = 3


@dataclass(frozen=True)
class Explanation:
    """Words of rows by each rule, from one vocabulary; `rule` is the one that `words` follows.

    `information` is the mutual information of all rows and all words in nats, at most the logarithm of the number of rows.
    """

    vocabulary: Vocabulary
    rule: str
    best: Mapping[str, Int[Tensor, "rows count"]]
    information: float

    def __len__(self) -> int:
        return len(self.best[self.rule])

    @property
    def words(self) -> tuple[tuple[str, ...], ...]:
        """Return the words of each row, the best first."""
        return self.by(self.rule)

    def by(self, rule: str) -> tuple[tuple[str, ...], ...]:
        """Return the words of each row by `prior`, `published` or `nearest`."""
        return self.lists[rule]

    @cached_property
    def lists(self) -> Mapping[str, tuple[tuple[str, ...], ...]]:
        """Return the words of each row by each rule, spelled out once."""
        known = self.vocabulary.words
        return {
            rule: tuple(tuple(known[one] for one in own) for own in best.tolist()) for rule, best in self.best.items()
        }

    def shared(self, first: str, second: str) -> float:
        """Return the mean share of a row's words that two rules have in common."""
        pairs = zip(self.best[first].tolist(), self.best[second].tolist(), strict=True)
        each = [len(set(one) & set(other)) / len(one) for one, other in pairs]
        return sum(each) / len(each)

    def spread(self, rule: str) -> Spread:
        """Return how the lists of a rule use the vocabulary."""
        return spread_of(self.best[rule], self.vocabulary.words)


def explain(
    live: LiveModel,
    rows: Float[Tensor, "rows d_model"],
    words: Vocabulary,
    *,
    count: int = 10,
    rule: str = PRIOR,
    temperature: float = 1.0,
) -> Explanation:
    """Say in words what rows of the residual stream mean: features, directions, centroids, whichever.

    Only the rows that are given compete for a word, so that the words are of this set; one row alone has nothing to compete
    with, and its words are the nearest ones. A row's length does not count where the model's final norm divides by it. Raises
    InputError for rows of another width, that have no direction or are not finite, and an unknown rule.

    Examples:
        >>> words = vocabulary(list(harmful.prompts) + list(harmless.prompts))
        >>> found = explain(LiveModel.of(model, tokenizer), torch.stack([directions[3], directions[5]]), words, count=4)
        >>> len(found.words), [len(one) for one in found.words]
        (2, [4, 4])
    """
    if rule not in RULES:
        raise InputError(f"--rule {rule}: unknown; choose among {', '.join(RULES)}")
    if rows.dim() != 2 or rows.shape[-1] != live.architecture.d_model or not len(rows):
        raise InputError(
            f"rows have shape {tuple(rows.shape)}; give [rows, {live.architecture.d_model}], the model's width"
        )
    if not bool(torch.isfinite(rows).all()) or not bool((rows.norm(dim=1) > ZERO_LENGTH).all()):
        raise InputError("a row is zero, NaN or infinite, and means nothing; leave it away")
    rows_behind = behind_final_norm(live.model, live.architecture, rows.float())
    found = Competition(rows_behind, word_vectors(live, words), temperature)
    best, information = found.explained(count)
    return Explanation(words, NEAREST if len(rows) == 1 else rule, best, information)


@dataclass(frozen=True)
class Features:
    """Rows explained and looked for in a corpus. `rows` are those that fire anywhere in it; `dead` are the others' names.

    `names` is a line for each row that a served model wrote, where one was asked.
    """

    rows: Rows
    dead: tuple[str, ...]
    explained: Explanation
    corpus: Corpus
    activity: Activity | None
    tested: WordTest | None
    top_tokens: tuple[tuple[str, ...], ...]
    refused: Mapping[str, Float[Tensor, " rows"]]
    trained: Mapping[str, Float[Tensor, " rows"]]
    notes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    @cached_property
    def order(self) -> list[int]:
        """Return the places of the rows, those first that part refused from answered texts best, where that is known."""
        values = self.refused.get("prompt_end")
        if values is None or bool(torch.isnan(values).all()):
            return list(range(len(self.rows)))
        return (values - 0.5).abs().nan_to_num(-1.0).argsort(descending=True, stable=True).tolist()

    def top_texts(self, place: int) -> tuple[str, ...]:
        """Return the prompts of the texts in which a row is strongest."""
        if self.activity is None:
            return ()
        own = self.strongest[:, place]
        found = own.argsort(descending=True, stable=True)[:TOP_TEXTS].tolist()
        return tuple(self.corpus.passages[one].prompt for one in found if float(own[one]) > 0)

    @property
    def evidence(self) -> list[Evidence]:
        """Return what a model that names the rows is shown of each."""
        words, tokens = self.explained.words, self.top_tokens
        return [Evidence(words[place], tokens[place], self.top_texts(place)) for place in range(len(self.rows))]

    @property
    def strongest(self) -> Float[Tensor, "texts rows"]:
        """Return the greatest value of each row in each text."""
        assert self.activity is not None
        return self.activity.strongest


def study(
    live: LiveModel,
    rows: Rows,
    corpus: Corpus,
    words: Vocabulary,
    *,
    count: int = 10,
    rule: str = PRIOR,
    temperature: float = 1.0,
    seed: int = 0,
) -> Features:
    """Explain rows, and look for them in a corpus. Raises InputError as `explain`, and where no row fires at all."""
    notes = []
    if None in rows.layers:
        notes.append(
            f"{sum(one is None for one in rows.layers)} rows are of no layer: words alone, nothing was looked for; "
            "--layer says where to look"
        )
        explained = explain(live, rows.vectors, words, count=count, rule=rule, temperature=temperature)
        return Features(rows, (), explained, corpus, None, None, ((),) * len(rows), {}, {}, (*notes, *alone(rows)))
    activity = activity_of(live, corpus, rows)
    fires = activity.rates > 0
    if not bool(fires.any()):
        raise InputError(
            f"{rows.source}: none of its {len(rows)} rows fires in {len(corpus)} texts; give other texts with --corpus"
        )
    alive = fires.nonzero()[:, 0].tolist()
    dead = tuple(name for name, one in zip(rows.names, fires.tolist(), strict=True) if not one)
    if dead:
        shown = ", ".join(dead[:8]) + (" ..." if len(dead) > 8 else "")
        notes.append(f"{len(dead)} of {len(rows)} rows never fire in these texts, and have no words: {shown}")
        rows, activity = rows.some(alive), activity_of_some(activity, alive)
    explained = explain(live, rows.vectors, words, count=count, rule=rule, temperature=temperature)
    parts = {
        name: torch.tensor([one.part == name for one in corpus.passages]) for name in ("train", "select", "report")
    }
    refused = torch.tensor([one.refused for one in corpus.passages])
    lists = activity.top_tokens(count, ~parts["report"])
    return Features(
        rows, dead, explained, corpus, activity, tested_on(corpus, explained, activity, lists, parts["report"], seed),
        tuple(tuple(shown_token(live, one) for one in own) for own in lists),
        {name: parted(values, refused, ~parts["train"]) for name, values in activity.ends.items()},
        {name: parted(values, refused, parts["train"]) for name, values in activity.ends.items()},
        (*notes, *alone(rows), *unparted(refused)),
    )  # fmt: skip


def alone(rows: Rows) -> tuple[str, ...]:
    """Return a note where there is one row only."""
    if len(rows) > 1:
        return ()
    return ("one row has none to compete with, so that its words by mutual information are undecided: nearest words",)


def unparted(refused: Bool[Tensor, " texts"]) -> tuple[str, ...]:
    """Return a note where refused and answered texts cannot be parted."""
    if bool(refused.any()) and not bool(refused.all()):
        return ()
    return (f"{int(refused.sum())} of {len(refused)} texts are refused: nothing to part refused from answered ones by",)


def activity_of_some(activity: Activity, places: Sequence[int]) -> Activity:
    """Return the activity of some of the rows, all of whose entries are of them."""
    number = torch.full((activity.rows,), -1)
    number[list(places)] = torch.arange(len(places))
    entries = activity.entries
    kept = type(entries)(entries.token, number[entries.row], entries.value)
    ends = {name: one[:, list(places)] for name, one in activity.ends.items()}
    return Activity(kept, activity.text, activity.token_id, activity.texts, len(places), ends)


def tested_on(
    corpus: Corpus,
    explained: Explanation,
    activity: Activity,
    lists: Sequence[Sequence[int]],
    held_out: Bool[Tensor, " texts"],
    seed: int,
) -> WordTest:
    """Return whether words tell where rows fire, on the texts of the report side."""
    places = held_out.nonzero()[:, 0].tolist()
    texts = [corpus.passages[one] for one in places]
    return word_test(
        activity.strongest[places] > 0,
        explained.vocabulary.held([one.text for one in texts]),
        explained.best[explained.rule],
        explained.best[NEAREST],
        token_counts([[one.span.tokens[at] for at in one.span.places] for one in texts], lists),
        seed,
    )


def parted(
    values: Float[Tensor, "texts rows"], refused: Bool[Tensor, " texts"], inside: Bool[Tensor, " texts"]
) -> Float[Tensor, " rows"]:
    """Return how well each row parts refused from answered texts, among those inside."""
    return aurocs(values[inside], refused[inside])


def shown_token(live: LiveModel, token: int) -> str:
    """Return a token as it is shown."""
    return str(live.tokenizer.decode([token])).strip() or repr(str(live.tokenizer.decode([token])))
