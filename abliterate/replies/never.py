"""Why does a model never refuse? Six states look the same to whoever only counts refusals."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from abliterate.prompts.think_blocks import THINK_BLOCKS
from abliterate.replies.labels import scripts
from abliterate.replies.languages import IN_SCRIPT, LANGUAGES, WORDS
from abliterate.replies.text import fold
from abliterate.replies.thinking import visible_reply

MOST = 0.5
"""From this share of the replies on a state explains why none of them is a refusal."""

ALIKE = 0.1
"""Where fewer of the replies differ, the model says the same whatever is asked."""

FEW_WORDS = 0.2
"""Share of everyday words below which Latin text is in none of the languages that the rules read."""

SAMPLE = 100
"""Characters of the reply that is shown."""

HEADER = re.compile(
    r"(?:<\|?(?:im_start|start|start_header_id|start_of_role|role)\|?>|<start_of_turn>|<\|?(?:assistant|user|model|bot|system)\|?>|\[/?INST\]|"
    r"<｜(?:Assistant|User)｜>|(?:#+ *)?(?:assistant|model|bot|ai|response|answer)\s*(?::|\n|<\|end_header_id\|>))",
    re.I,
)
"""A role header, which the template should have put before the reply."""


def never_refuses(replies: Sequence[str], prompts: Sequence[str], harmful: int | None = None) -> str:
    """Return the line that says that a model never refuses, which of six states that is, and what it said.

    `replies` are those to harmful prompts, `prompts` the texts that the model saw; `harmful` is how many replies were
    looked at where that is more.
    """
    cause, sample = why_never(replies, prompts)
    count = len(replies) if harmful is None else harmful
    return (
        f"the model never refuses: none of its {count} replies is a refusal, so there is no direction to find; "
        f'{cause}; it says, for instance, "{shown(sample)}"'
    )


def why_never(replies: Sequence[str], prompts: Sequence[str]) -> tuple[str, str]:
    """Return the likeliest cause why none of the `replies` is a refusal, with the way out, and a reply that shows it.

    The causes are asked from the surest on: the prompt was dropped, the role header comes first, only thoughts, all
    replies alike, another language; where none of them holds, the model really answers.
    """
    for cause, shows in causes(replies, prompts):
        if len(shows) > MOST * len(replies):
            return cause, Counter(shows).most_common(1)[0][0]
    return (
        "it seems to answer all that is asked: give prompts that it declines with --harmful, or choose another model",
        next(iter(replies), ""),
    )


def causes(replies: Sequence[str], prompts: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return each cause with the replies that show it."""
    visible = {reply: visible_reply(reply) for reply in replies}
    dropped = len(prompts) > 1 and len(set(prompts)) == 1
    alike = len(replies) > 1 and len(set(visible.values())) <= max(1, ALIKE * len(replies))
    pairs = list(zip(prompts, replies, strict=True)) if len(prompts) == len(replies) else []
    return [
        (
            "all prompts look the same to it, since the chat template leaves out what is asked: give another with "
            "--chat-template",
            list(replies) if dropped else [],
        ),
        (
            "its replies begin with the header of a role, so the chat template does not open the reply "
            "(add_generation_prompt): give one that does with --chat-template",
            [reply for reply in replies if HEADER.match(reply.lstrip())],
        ),
        (
            "its replies are thoughts that have not ended within the tokens of a reply: leave thinking out with "
            "--thinking off, or choose a model whose template can",
            [reply for reply in replies if reply.strip() and not visible[reply] and opens_a_thought(reply)],
        ),
        (
            "its replies are all alike, whatever it is asked: the model or its chat template may be damaged, or the "
            "template may not be its own",
            list(replies) if alike else [],
        ),
        (
            "its replies are in a language, or a mixture, that the refusal rules do not read "
            f"(they read English, {', '.join(sorted(language.name for language in LANGUAGES))}): "
            "give prompts in one of these",
            [reply for prompt, reply in pairs if unread(visible[reply], prompt)],
        ),
    ]


def opens_a_thought(reply: str) -> bool:
    """Return whether a thought is opened at the beginning of a reply, behind markdown or a header."""
    start = reply[:200].casefold()
    return any(opening.casefold() in start for opening, _ in THINK_BLOCKS)


def unread(visible: str, prompt: str) -> bool:
    """Return whether a reply is in a script that its prompt does not use, or in a language that no rules read."""
    found = scripts(visible)
    if not found:
        return False
    if set(found) - set(scripts(prompt)):
        return True
    read = sum(len(pattern.findall(visible.casefold())) for pattern in IN_SCRIPT.values())
    if read < MOST * sum(letter.isalpha() for letter in visible):
        return True
    said = re.findall(r"[a-z]+", fold(visible.casefold()))
    most = max(sum(word in words for word in said) for words in WORDS.values())
    return len(said) >= 5 and max(found, key=lambda script: found[script]) == "LATIN" and most < FEW_WORDS * len(said)


def shown(reply: str) -> str:
    """Return a reply as one cropped line without signs that a terminal would obey."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in reply[: 4 * SAMPLE]).split())
    return (line[: SAMPLE - 3] + "..." if len(line) > SAMPLE else line) or "(nothing)"
