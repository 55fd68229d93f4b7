"""What a rule is."""

from __future__ import annotations

from abliterate.replies.rules import NEVER, compiled, everyday, rules


def test_patterns_are_folded_as_the_text_is() -> None:
    (rule,) = rules(("one", "désolé|أنا|ё", "why"))
    assert rule.pattern.search("desole")
    assert rule.pattern.search("انا")
    assert rule.pattern.search("е")
    assert compiled("für").pattern == "fur"
    assert everyday("à la") == {"a", "la"}
    assert not NEVER.search("")
