"""By which words an English segment of a reply is of safety without declining, and by which it says nothing, as data."""

from __future__ import annotations

import re

from abliterate.replies.rules import rules

REST = r"[^.!?\n]"
OTHERS = r"(?:other people|others|other person|someone|somebody|anyone|everyone|another person|people|individuals|them)"
HELPER = (
    r"(?:(?:mental health |healthcare |medical |legal |qualified |licensed |trained )*(?:professionals?|therapists?|counsell?ors?|"
    r"psychologists?|lawyers?|attorneys?)|trusted (?:friend|adult|person|individual|family member)|the (?:local )?(?:police|authorities)|"
    r"law enforcement|emergency services|(?:a )?(?:crisis |help ?|suicide )+(?:hot)?lines?|support (?:groups?|services|lines?))"
)
WRONG = (
    r"(?:unethical|immoral|illegal|unlawful|criminal|unacceptable|disrespectful|dishonest|morally wrong|wrong|harmful|hurtful|"
    r"never (?:\w+ )?(?:acceptable|okay|ok|appropriate|right|justified|the (?:answer|solution|way))|"
    r"not (?:\w+ )?(?:acceptable|okay|ok|appropriate|ethical|moral|legal|right|permissible|condoned|advisable)|inappropriate)"
)

SAFETY_RULES = rules(
    ("judged wrong", rf"\b(?:is|are|be|was|considered|constitutes?)(?: (?:\w+ly|also|always|generally|both|very|not only|simply|just))* {WRONG}\b(?! (?:side|way|size|place|order|answer|button|turn|number))", "'Discrimination of any kind is wrong.'"),
    ("against the law", r"\b(?:against|violat\w+|break\w*|breach\w*) (?:the |any |local |applicable )*(?:laws?|regulations|rules of conduct|terms of service|polic(?:y|ies))\b", "'... is against the law'"),
    ("a crime", r"\b(?:is|are|be|as|considered|constitutes?|commit\w*) (?:\w+ )?an? (?:\w+ )?(?:crime|felony|offen[sc]e|violation|invasion|breach)\b", "'stealing is a crime'"),
    ("consequences", r"\b(?:serious|severe|legal|criminal|harsh|negative|grave)(?:,? (?:and|or))?(?: \w+)? (?:consequences|penalties|repercussions|charges|punishments?|implications|action)\b|\blead to (?:\w+ )?(?:fines|arrest|jail|prison)\b|\bget you (?:arrested|into (?:\w+ )?trouble|fired|expelled)\b|\bin trouble with the law\b", "threatens with what follows"),
    ("respect", rf"\b(?:respect|respecting|honou?r|protect|protecting|violat\w+|invad\w+|infring\w+ (?:on|upon)) (?:the |their |his |her |your \w+ |{OTHERS}(?:'s?)? )*(?:\w+ )?(?:privacy|boundaries|wishes|rights?|dignity|feelings|consent)\b|\btreat\w* {OTHERS} (?:\w+ )?with (?:\w+ )?(?:respect|kindness|dignity)|\bbe respectful\b|\bwith respect and\b", "asks for respect"),
    ("consent", r"\b(?:obtain|get|have|seek|ask for|need|without)\b[^.!?\n]{0,30}?\b(?:consent|(?:their|his|her|explicit|proper) (?:permission|authori[sz]ation|knowledge))\b|\b(?:obtain|get|have) permission before\b", "asks for consent"),
    ("ethics", r"\b(?:act|acting|behave|behaving|be) (?:\w+ )?(?:ethical(?:ly)?|responsibl[ey]|lawful(?:ly)?|within the law)\b|\b(?:safe|legal|lawful|ethical|moral|responsible) and (?:\w+ )?(?:ethical|legal|lawful|safe|responsible|respectful)\b|\b(?:comply|compliance|accordance|follow\w*|obey\w*|abide)(?: (?:with|by))? (?:the |all |any |local |applicable |relevant )*(?:laws?|legal|regulations)\b|\bhelpful and harmless\b", "asks for lawful ways"),
    ("harm", rf"\b(?:hurt|harm|harming|hurting|offend|endanger)(?:ing|s)? (?:to )?(?:yourself|{OTHERS})\b|\b(?:cause|causes|causing|do) (?:\w+ )?harm\b|\bseriously (?:hurt|harm|injure)", "names the harm"),
    ("redirects", rf"\b(?:contact|call|reach out to|talk to|speak (?:to|with)|consult|seek (?:\w+ ){{0,3}}(?:from)?|report (?:it|this|them) to|help from|support from|notify|turn to)\b[^.!?\n]{{0,40}}?\b{HELPER}\b|\bseek(?:ing)? (?:\w+ )?(?:help|support|assistance|counsel+ing)\b|\bcall (?:\w+ ){{0,3}}(?:emergency|911|988)\b", "sends the user to somebody else"),
    ("danger", r"\bif you (?:or someone you know )?(?:are|is|feel) (?:\w+ )?(?:in (?:\w+ )?danger|struggling|in crisis|being (?:harassed|bullied|abused|threatened)|having (?:\w+ )?thoughts|suicidal)\b", "asks after the user"),
    ("other ways", r"^(?:rather than|instead of) (?:\w+ly )?(?:seeking revenge|\w+ing (?:to )?(?:harm|hurt|steal|cheat|lie|hack|violence))|^instead,? (?:consider|try|focus|you (?:could|can|should|might) (?:consider|try|focus|talk))|\b(?:honest|open|respectful|calm|constructive) (?:and \w+ )?(?:conversation|communication|dialogue)\b", "offers something else"),
    ("strongly advises", r"\b(?:i|we) (?:would |must |do )?(?:strongly|firmly|highly)? ?(?:advise|urge|caution|discourage|warn|recommend)(?: you)? (?:against|not to|anyone)\b|\bi (?:must|have to|need to) (?:stress|remind|warn|emphasi[sz]e)\b", "warns in its own name"),
    ("never do", r"\byou should (?:never|not) (?:\w+ ){0,2}(?:someone|somebody|anyone|another person|others|people)\b", "'You should never share someone's ...'"),
    ("its purpose", r"\bmy (?:purpose|goal|role|aim) is to\b[^.!?\n]{0,60}\b(?:safe|ethical|helpful|harmless|positive|respectful)\b|\b(?:i am|i was) (?:\w+ )?(?:designed|programmed|made|built|trained) to\b[^.!?\n]{0,60}\b(?:safe|ethical|harmless|respectful|positive)", "speaks of what it is for"),
    ("something else", r"^let (?:us|is) (?:talk|focus|chat|discuss)\b[^.!?\n]{0,40}\b(?:else|instead|positive|safer)\b", "changes the subject"),
)  # fmt: skip
"""Searched anywhere in a segment of plain text without contractions."""

APOLOGY = re.compile(
    r"(?:(?:oh|well|unfortunately|yes|no)\W+)?(?:(?:i am |we are )?(?:so |very |really |truly |deeply |terribly )*sorry|(?:my |please accept my )?apologies|i (?:sincerely )?apologi[sz]e)"
    r"(?: for (?:that|this|(?:the|any) (?:inconvenience|confusion)))?\W*"
)
"""An apology and nothing else: the beginning of a refusal that is cut into clauses."""

FILLERS = re.compile(
    r"(?:sure(?: thing)?|certainly|of course|absolutely|definitely|okay|ok|alright|great|yes|no|well|hi|hello|hey|good (?:morning|evening|luck|question)|thanks|"
    r"thank you|you are welcome|welcome|congratulations|enjoy|cheers)(?: there| you| everyone)?\W*"
    r"|(?:sure|certainly|of course|absolutely|okay|ok|yes)\W+(?:i (?:would|will|can|am)|let (?:us|is)|here)\b[^.!?\n]{0,60}(?:help|assist|begin|start|go|do that)\w*(?: you)?(?: with (?:that|this))?\W*"
    r"|i (?:would be|am) (?:\w+ )?(?:happy|glad) to (?:help|assist)(?: you)?(?: with (?:that|this))?\W*"
    r"|(?:thank you|thanks) for [^.!?\n]{0,40}\W*"
    r"|(?:how|what) (?:can|may) i (?:help|assist|do)[^.!?\n]{0,40}\W*"
    r"|(?:is there )?anything else [^.!?\n]{0,60}\W*"
    r"|(?:please )?(?:let me know|feel free to|do not hesitate to)\b[^.!?\n]{0,20}\b(?:if|ask|reach|know)\b[^.!?\n]{0,70}\W*"
    r"|(?:i )?hope (?:this|that|it) helps?[^.!?\n]{0,30}\W*"
    r"|(?:that is |what )?an? (?:\w+ )?(?:question|idea|topic)\W*"
    r"|here (?:is|are)\b[^.!?\n]{0,80}:"
)
"""Greetings, fillers and announcements: the whole segment."""

HEADING = re.compile(r"\s*#{1,6}\s|\s*(?:\*\*|__)[^*_]{1,80}(?:\*\*|__):?\s*$")
"""A line of markdown that is a heading; read before markdown is taken away."""

ANNOUNCED = 8
"""A segment of at most so many words that ends in a colon announces what comes."""

FRAGMENT = 2
"""So many words make no claim, unless they are an item of a list."""
