"""Worn phrases of generated prose, of our own gathering: a reply that holds one shows slop."""

from __future__ import annotations

import re

WORN = (
    r"rich tapestry", r"tapestry of", r"testament to", r"delv(?:e|es|ed|ing) (?:in)?to", r"in the realm of", r"ever[- ](?:evolving|changing)",
    r"bustling", r"nestled", r"a beacon of", r"embark(?:s|ed|ing)? (?:up)?on", r"unlock(?:s|ing)? the (?:secret|power|potential)",
    r"shivers? (?:down|up|through)", r"dance of (?:light|shadow|colou?r)", r"symphony of", r"kaleidoscope of", r"whisper(?:s|ed|ing)? (?:secrets|through|of)",
    r"the gentle (?:hum|rustle|lapping|breeze)", r"a sense of (?:wonder|purpose|peace|calm|belonging|adventure)", r"heart (?:pounding|racing|swelled)",
    r"bathed in", r"painted the sky", r"golden (?:glow|hues?|light)", r"hidden gems?", r"game[- ]changer", r"elevate your", r"seamless(?:ly)?",
    r"navigat(?:e|es|ing) the (?:complex|world|challenge|landscape)", r"it(?:'s| is) (?:important|worth) (?:to note|noting)", r"little did (?:he|she|they|i) know",
    r"couldn't help but", r"time seemed to stand still", r"weav(?:e|es|ing) (?:a|together)", r"a journey of", r"not just an? [\w ]{1,30}, (?:but|it's)",
    r"stand(?:s|ing)? as a", r"ethereal", r"vibrant", r"once upon a time", r"in (?:today's|a) (?:fast-paced|digital|world where)",
)  # fmt: skip
"""Regular expressions, matched between word boundaries, in small letters."""

SLOP = re.compile(rf"\b(?:{'|'.join(WORN)})\b")
