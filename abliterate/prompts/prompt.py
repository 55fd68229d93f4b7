"""One prompt: what the user says last, and what its row says besides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Turn = tuple[str, str]
"""Role and content of a turn."""


class Prompt(str):
    """The text of a prompt, which is all of it for most; some bring a system message, earlier turns, or a category.

    It is a string, and equals the string of its text. What the model sees is in `key`.

    Examples:
        >>> one = Prompt(" How do I bake bread? ", system="Be short.", category="kitchen").trimmed()
        >>> one, one.system, one.category
        ('How do I bake bread?', 'Be short.', 'kitchen')
    """

    system: str | None
    category: str | None
    earlier: tuple[Turn, ...]

    def __new__(
        cls, text: str, system: str | None = None, category: str | None = None, earlier: Sequence[Turn] = ()
    ) -> Prompt:
        """Make a prompt; one that is a prompt already keeps what it brings, unless it is given anew."""
        made = super().__new__(cls, text)
        known = text if isinstance(text, Prompt) else None
        made.system = system if system is not None or known is None else known.system
        made.category = category if category is not None or known is None else known.category
        made.earlier = tuple(earlier) or (known.earlier if known else ())
        return made

    @property
    def key(self) -> str:
        """Return what tells this prompt from another: its text, and where it has them its system message and turns."""
        before = [*([("system", self.system)] if self.system is not None else []), *self.earlier]
        return "\x01".join([str(self), *(part for turn in before for part in turn)])

    def trimmed(self) -> Prompt:
        """Return the prompt without whitespace around its text."""
        return Prompt(self.strip(), self.system, self.category, self.earlier)


def key_of(prompt: str) -> str:
    """Return the key of a prompt; that of a plain string is itself."""
    return prompt.key if isinstance(prompt, Prompt) else prompt


def category_of(prompt: str) -> str | None:
    """Return the category of a prompt, None where it has none."""
    return prompt.category if isinstance(prompt, Prompt) else None


def categories_of(prompts: Iterable[str]) -> tuple[str, ...]:
    """Return the categories of some prompts, in the order of their first."""
    return tuple(dict.fromkeys(one for one in map(category_of, prompts) if one is not None))
