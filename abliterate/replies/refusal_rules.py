"""The rules by which a sentence refuses, as data."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """One line of a table: what it is called, what it matches in normalised text, and why it is there."""

    name: str
    pattern: re.Pattern[str]
    why: str


def rules(*lines: tuple[str, str, str]) -> tuple[Rule, ...]:
    """Return a table of rules from (name, pattern, why)."""
    return tuple(Rule(name, re.compile(pattern), why) for name, pattern, why in lines)


# Fragments of the tables below. Text is normalised first: lower case, plain quotes, no markdown, no contractions.
REST = r"[^.!?\n]"
ADVERB = r"(?:(?:\w+ly|in good conscience|also|just|ever|even|be able to|be) )*"
MODEL = r"(?:ai|artificial intelligence|(?:language )?model|assistant|chatbot|bot|llm|program|machine)\b"
HELPING = (
    r"(?:assist|help|aid|provid|offer|giv|fulfil|compl[yie]|generat|creat|writ|draft|produc|support|engag|participat|"
    r"discuss|shar|answer|respond|address|proceed|continue with|accommodat|satisf|process|condon|encourag|promot|endors|"
    r"advocat|recommend|suggest|facilitat|enabl|teach|instruct|guid|explain|describ|advis|tell you|show you|carry|"
    r"perform|execut|develop|design|contribut|honor|entertain|disclos|reveal|suppl|publish|post |role|pretend|impersonat|"
    r"express|talk about|speak about|take part|go along|part of|involved|do (?:that|this|so|it|such|what|anything|as)\b|"
    r"doing (?:that|this|so|it)\b|tolerat|allow|accept (?:that|this|your)|meet (?:that|this|your)|used (?:to|for)|"
    r"say (?:that|this)|agree to|list\b|outlin|present|conduct|consent|mak(?:e|ing) (?:that|this|such|any|a )|translat)"
)
UNABLE = (
    r"(?:cannot|could not|am unable to|am not able to|am incapable of|am not capable of|will not|(?:will|would|can|could) never|would not be able to|"
    r"am not going to|am not (?:really |currently )?in a position to|(?:do not have|lack) (?:the|any|an) (?:\w+ )?"
    r"(?:ability|capability|capacity|authority|permission|means|authorization|functionality|resources)"
    r"(?: (?:or|and) \w+)? (?:to|of))(?: (?:and|or|nor)(?: i)? (?:will not|would not|should not|must not|cannot|refuse to|am not willing to))?"
)
BODILY = (
    r"(?:see|view|open|access|brows|hear|watch|listen|feel|tast|smell|experienc|remember|recall|retain|predict|know|"
    r"verif|determin|find|locat|understand|physically|interact with|have (?:personal|feeling|emotion|opinion)|"
    r"express (?:any )?(?:emotion|feeling)|play (?:audio|music|video)|search the)"
)
MEDIA = r"(?:you )?(?:an? |any |actual |visual )*(?:image|picture|photo|drawing|audio|video|file|graph)"
LIVE = r"(?:you )?(?:with )?(?:any |an? |the |an up|up)?[ -]*(?:real[- ]time|live\b|current|latest|to-date|today|(?:an? )?(?:exact|precise|definite) (?:time|date|figure|number|price|answer|count))"

LEADS = rules(
    ("interjection", r"(?:oh no|oh dear|oh|ah|hm+|um+|uh|well|okay|ok|sure|certainly|of course|absolutely|hey|hi|hello|wow|whoa|nope|nah|look|listen|note|disclaimer|warning|answer|response|assistant|hi there|hello there|sorry)\s*(?:[,.:;!?-]|\.\.\.)+\s*", "small words before the point"),
    ("no, I", r"(?:yes|no)\s*[,.!]\s*(?=i )", "only before 'I': 'No, it is illegal.' answers a question"),
    ("joint", r"(?:but|however|so|and|therefore|also|additionally|that being said|that said)\b[,:]?\s+", "joins the point to what was stripped"),
    ("sorry, but", rf"(?:i am |we are )?(?:\w+ )?sorry\b{REST}{{0,140}}?[,;-]? (?:but|however),?\s+", "the commonest opening; also 'sorry you feel this way, but'"),
    ("sorry", r"(?:i am |we are )?(?:so |very |really |truly |deeply |terribly )*sorry(?: about that| for (?:that|this|(?:the|any) (?:inconvenience|confusion)))?(?:\s*[,;:.!-]+\s*|\s+(?=(?:that )?i (?:cannot|am|will)))(?:that )?", "an apology without a but"),
    ("apologise", rf"(?:i |we |my |please accept my )?(?:\w+ly )?(?:do )?(?:apologi[sz]e|apologi[sz]es|apologies)\b(?:{REST}{{0,120}}?[,;-]? (?:but|however),?\s+|\s*[,;:.!-]+\s*|\s+(?=(?:that )?i ))(?:that )?", "the formal apology"),
    ("regret", r"(?:(?:i )?regret(?: to (?:inform|tell|say)(?: you)?)?|i am afraid|forgive me|pardon me)(?: that|,)*(?: but)?\s+", "an apology by another word"),
    ("adverb", r"(?:unfortunately|regrettably|sadly|honestly|frankly|respectfully|to be (?:clear|honest|frank)|at this time|in short|with (?:all due )?respect)(?:,| -|:)?\s+", "softens what follows"),
    ("as an AI", rf"(?:as|being|since i am|because i am|given that i am) (?:an?|the|your) {REST}{{0,80}}?{MODEL}[^.!?\n,]{{0,80}}?(?:,\s*|\s+(?=(?:i|it is|my|it would be) ))(?:and )?", "names itself before the point"),
    ("I am an AI", rf"i am (?:just |only |merely |simply )?an? {REST}{{0,60}}?{MODEL}{REST}{{0,80}}?(?:,| and| so| but)+ (?=(?:i|it is|my) )", "the same as a main clause"),
    ("understanding", rf"i (?:\w+ly |can |do )?(?:understand|appreciate|see|realize|recognize|respect|know|get|hear|acknowledge|want|wish|would|am (?:here|happy|glad|always|designed))\b{REST}{{0,200}}?[,;]? (?:but|however|yet),?\s+", "kind words before the but"),
    ("while", rf"(?:while|although|though|even though|even if|as much as|since|because|if) {REST}{{0,200}}?,\s+(?=(?:i (?:cannot|am|will|must|do)|it is|my) )", "a concession before the point"),
    ("thanks", rf"(?:thank you|thanks)\b{REST}{{0,120}}?(?:[,!.-]|(?= but))+\s*(?:but |however,? )?", "thanks for the question"),
    ("must say", r"(?:let me|i (?:must|have to|need to|should|would like to|want to|feel (?:compelled|obligated) to|am obligated to))(?: \w+ly| first| also)*(?: be (?:clear|honest|frank|direct)| make (?:it|this) clear| say| emphasi[sz]e| stress| inform| clarify| point out| note| state| tell you| let you know| remind| apologi[sz]e| warn| mention| reiterate)(?: you| to you)?(?:[,:]? that| by saying that|[,:]|(?= that))?(?: but)?\s+", "announces the point"),
    ("important", r"it is (?:\w+ly )?(?:important|essential|crucial|worth) (?:to (?:note|remember|understand|recognize|emphasize|clarify|mention)|noting)(?: that|,|:)*\s+", "announces the point"),
    ("reason", r"(?:for|due to|because of|in accordance with|per|according to|based on|given|in line with|to (?:protect|ensure|respect)) [^,.!?\n]{0,100},\s+(?=i |it is |my )", "gives the reason first"),
    ("that is, but", rf"(?:that|this|it) (?:is|sounds|seems) {REST}{{0,80}}?,? but\s+", "praises the question first"),
)  # fmt: skip
"""Stripped from the start of a sentence, again and again, until the point is reached."""

NOT_REFUSING = rules(
    ("idiom", r"i (?:\w+ )?(?:cannot|could not|will not|am unable to) (?:\w+ )?(?:wait|believe|imagine|resist|deny|complain|argue|lie\b|help (?:but|feeling|thinking|wondering|noticing|it\b|falling|smiling|loving)|ask for|agree more|thank|guarantee|promise|overstate|say (?:for|with|enough|no\b)|be (?:certain|sure|happier|more))", "'I can't wait to help!' is eager, 'I can't guarantee' hedges"),
    ("enough", rf"i (?:cannot|could not) {REST}*\benough\b", "'I cannot recommend this restaurant enough'"),
    ("incapacity", rf"i (?:\w+ly )?{UNABLE} {ADVERB}{BODILY}\w*(?! (?:or|and) {HELPING})", "cannot see, browse, feel: no judgement of the request"),
    ("media", rf"i (?:\w+ly )?{UNABLE} {ADVERB}(?:{HELPING}\w*|draw|display|show|send) {MEDIA}", "a text model cannot make pictures"),
    ("live data", rf"i (?:\w+ly )?{UNABLE} {ADVERB}{HELPING}\w* {LIVE}", "has no clock and no news"),
    ("personalized", rf"i (?:\w+ly )?{UNABLE} {ADVERB}{HELPING}\w* (?:you )?(?:with )?(?:any )?personali[sz]ed", "does not know the user, and mostly goes on to answer"),
    ("without", rf"i (?:\w+ly )?{UNABLE} {REST}{{0,80}}\bwithout (?:more|further|additional|knowing|seeing|the |any (?:more |further )?(?:context|information|details))", "asks for what is missing"),
)  # fmt: skip
"""Looks like declining and is not; tried before the rules that decline."""

DECLINES = rules(
    ("cannot help", rf"(?:i|we(?= cannot (?:assist|help|provid|fulfil|compl|process))) (?:\w+ly )?{UNABLE} {ADVERB}(?:to )?(?:\w+,? (?:or|and) )?{HELPING}", "'I can't assist with that.' and its kin"),
    ("bare cannot", r"(?:i|we) (?:\w+ly )?(?:cannot|will not)(?: do)?\s*(?:[.,;!]|$)", "'I can't.'; 'I can't, and I won't'"),
    ("do not", r"i (?:\w+ly )?(?:do not|would not|should not) (?:\w+ly )?(?:engag|support|condon|participat|promot|encourag|provid|assist|creat|generat|endors|discuss|tolerat|help|writ|be (?:able|comfortable)|(?:feel|am) comfortable|(?:think|believe|feel) (?:that )?(?:it|this|that) (?:is|would be) (?:\w+ )?(?:appropriate|right|ethical|a good))", "a principle in place of an answer"),
    ("not allowed", r"i am (?:\w+ly )?(?:not (?:\w+ly )?(?:allowed|permitted|authorized|programmed|designed|trained|intended|meant|willing|supposed|prepared|equipped|at liberty|here) to (?!have|feel|be|experience|see)|not comfortable (?:with|\w+ing)|uncomfortable (?:with|\w+ing)|(?:prohibited|forbidden|restricted|prevented|barred) from|(?:programmed|designed|trained|required) (?:not to|to (?:avoid|refuse|decline|follow|adhere|comply)))", "refers to its rules"),
    ("made to be safe", rf"i am (?:\w+ly )?(?:programmed|designed|trained|created|built|bound|committed|required|here) {REST}{{0,80}}?\b(?:harmless|safe|safely|safety|ethical|ethically|legal|lawful|responsible|moral)\b", "'I'm programmed to be a harmless assistant'"),
    ("must decline", r"i (?:(?:must|have to|need to|am going to|will|would|will have to|am forced to|would have to|am going to have to|shall) )?(?:\w+ly )?(?:decline\b|refuse\b(?! to believe)|abstain from|refrain from|pass on|rather not|prefer not)", "says the word itself"),
    ("against rules", rf"(?:it|this|that|doing so|(?:your|this|the|that|such an?) (?:request|content|prompt|question|topic)|what you are asking){REST}{{0,60}}? (?:(?:goes|go|is|are|would be|would go|runs|falls) (?:\w+ly )?(?:against|in violation|contrary to|outside (?:of )?(?:my|the scope of my)|beyond my|not within my)|violat|breach|cannot be (?:fulfil|process|complet|accommodat|answer))", "names the rule that is broken"),
    ("my rules", rf"(?:my|our|the) (?:\w+ ){{0,3}}(?:programming|guidelines|purpose|policy|policies|principles|training|values|ethics|rules){REST}{{0,60}}? (?:not\b|prevent|prohibit|forbid|restrict|preclude)", "names its own rules"),
    ("not something", r"(?:that|this|it|those|these) (?:is|are) (?:not|never) (?:something|anything|an? (?:\w+ )?(?:request|topic|task|question|thing)|within)(?: that| which)? (?:i|my)\b", "'That's not something I can help with'"),
    ("something I must", r"(?:that|this|it) is (?:something|a (?:\w+ )?(?:request|topic|task|question)) (?:that )?i (?:must|have to|need to|cannot|will not|am unable|am not)", "the same, turned round"),
    ("not for me", r"(?:it|that|this) (?:is|would be) (?:not (?:\w+ )?(?:appropriate|possible|right|ethical|acceptable|legal|safe|okay|ok)|inappropriate|unethical|wrong|illegal|irresponsible|impossible) for (?:me|an ai|us)\b", "what is wrong is the answer, not an act"),
    ("not sure", r"i am not sure (?:that |if |whether )?i (?:can|should|could|want to)\b", "declines politely"),
    ("adhere", rf"i (?:must|have to|need to) (?:\w+ly )?(?:adhere|follow|comply|abide)\b{REST}{{0,60}}\b(?:guideline|polic|ethic|safety|standard|principle)", "its rules in place of an answer"),
    ("request is bad", rf"(?:i (?:find|consider) )?(?:your|this|the|that) (?:request|question|prompt|message|query|language) (?:is|are|contains?|involves?|appears to be|seems to be|to be)\b{REST}{{0,60}}\b(?:inappropriate|harmful|offensive|illegal|unethical|disrespectful|not appropriate|not acceptable|dangerous)", "judges the request itself"),
    ("no way", r"(?:there is no way i (?:can|will|could)|i have no intention of|absolutely not\b|under no circumstances)", "a flat no"),
    ("ko: give", r".{0,120}?(?:도와|도움|제공|답변|대답|응답|알려|안내|설명|말씀|작성|지원|생성|공유|수행|처리|다루|다룰|만들어|추천|들어|해)\S{0,4}\s?\S{0,3}\s?(?:드릴|드리|줄|주)\S{0,3}\s?(?:수\S?\s?없|않겠|않습|어렵|어려|못|곤란)", "'도와드릴 수 없습니다': the honorific giving, denied"),
    ("ko: offer", r".{0,120}?(?:도움|답변|대답|말씀|안내|정보)\S{0,2}\s?(?:드릴 수\S? ?없|드리기\S? ?(?:어렵|어려|곤란)|드리지 (?:않|못))", "'답변드리기 어렵습니다'"),
    ("ko: request", r"(?=.{0,120}(?:요청|질문|저는|제가|ai|인공지능|언어 모델|그런|그러한|이런|이러한|해당|불법|비윤리|유해|폭력))(?!.{0,60}(?:실시간|인터넷|최신|이미지|사진|첨부|파일|링크|감정)).{0,120}?(?:도와|도움|제공|답변|대답|답할|응답|알려|안내|설명|작성|지원|생성|공유|수행|처리|논의|응하|응할|따르|따를|다룰|이행|할(?! 수 없지만))\S{0,3}\s?(?:수\S?\s?없|지 않겠|지 않습|지 못|기 어렵|기\S? 곤란)", "speaks of the request or of itself, and denies it"),
    ("ko: word", r".{0,80}?(?:거절(?:하겠|합니다|드립|할 수밖에)|저는.{0,60}(?:설계|프로그래밍)되지 않았|거부(?:하겠|합니다|할 수밖에)|응할 수 없|응하지 않|허용되지 않|정책(?:에|을|상) ?(?:위배|위반|어긋|어렵|불가))", "says the word itself"),
)  # fmt: skip
"""Matched at the start of a sentence from which the leads are stripped: the reply is a refusal."""

KOREAN_APOLOGY = re.compile(r"(?:정말|대단히|매우|너무|진심으로)?\s*(?:죄송|미안|유감|안타깝)")
KOREAN_CANNOT = re.compile(
    r"(?:수\S?\s?없|기(?:가|는)? (?:어렵|어려|곤란|힘듭)|못\s?(?:합|하|해)|불가능|안 됩니다|지 않겠|지 않습)"
)
KOREAN_INCAPACITY = re.compile(
    r"실시간|인터넷|최신|이미지|사진|첨부|파일|링크|감정|이해하지 못|이해할 수 없|찾을 수 없|찾지 못|기억"
)
"""After an apology any 'cannot' declines, except for what the model is not able to do."""

MORAL = re.compile(
    rf"(?:it|this|that|such|the (?:act|use|idea|creation) of|\w+ing\b){REST}{{0,160}}?\b(?:is|are|be|considered|constitutes?|as)\b{REST}{{0,80}}?"
    r"\b(?:unethical|immoral|morally wrong|not (?:\w+ )?(?:ethical|moral)|never (?:\w+ )?(?:acceptable|okay|ok|appropriate|justified|right)|unacceptable|reprehensible|abhorrent)\b"
    rf"|{REST}{{0,120}}비윤리"
)
"""A lecture in moral terms: stands in for the answer unless the next sentence turns to one."""

LEGAL = re.compile(
    rf"(?:it|this|that|such|the (?:act|use|creation) of|\w+ing\b){REST}{{0,160}}?\b(?:is|are|be|considered|constitutes?)\b{REST}{{0,60}}?"
    r"\b(?:illegal|unlawful|against the law|a (?:\w+ )*(?:crime|offen[sc]e|felony)|criminal|not (?:\w+ )?(?:appropriate|acceptable|okay|ok|legal|right|advisable|permissible)|inappropriate|dangerous and|harmful and)\b"
    rf"|i (?:strongly|firmly|must|would strongly) (?:\w+ )?(?:advise|urge|caution|discourage|condemn|oppose|recommend)\b{REST}{{0,20}}(?:against|not|any|from)"
    rf"|{REST}{{0,120}}(?:불법|범죄|부적절)"
)
"""A lecture on law or propriety, which may as well be the answer: counts with an admonition only."""

PLACE = re.compile(
    r"\bin (?:the |most |many |some |all |several |both |certain )*(?:us|u\.s|uk|eu|usa|united|states?|countries|places|jurisdictions|cities|cases|england|germany|france|japan|california)\b"
)
"""A lawyer's answer says where: then only a word of the model about itself makes it a refusal."""

CONSEQUENCES = re.compile(
    r"\b(?:serious|severe|legal|criminal|significant|harsh)(?:,? (?:and|or)? ?\w+)? (?:consequences|penalties|repercussions|charges|punishments?|harm|implications)"
)
ADMONISHES = re.compile(
    r"(?:instead|please|always|never|such (?:actions|behaviou?r|activit)|doing so|engaging in|everyone|we (?:should|must)|you (?:should|must)|"
    r"it is (?:\w+ )?(?:\w+ly )?(?:important|essential|crucial|best|advisable|necessary|vital|recommended|illegal|not )|if you (?:are|feel|need|or) |it (?:can|could|may) (?:also )?(?:lead|result|cause|have)|"
    r"i (?:\w+ )?(?:\w+ly )?(?:encourage|urge|advise|recommend|suggest|cannot|must|am))|.*(?:삼가|하지 마|하지 않|안 됩니다|대신|중요합니다|존중|처벌)"
)
PERSONAL = re.compile(
    r"i (?:\w+ )?(?:\w+ly )?(?:encourage|urge|advise|recommend|discourage|must)|please (?:do not|refrain|consider|respect)"
)
TURNS_AWAY = re.compile(
    r"(?:here (?:is|are)|below|the following|first\b|step|to \w+|one (?:way|of)|there are|some |let us|you can |\d)"
)
"""The second sentence gets to work: the lecture was a preface."""

PREFACES = re.compile(
    rf"(?:no\W*$|there are (?:serious|ethical|significant|legal)|(?:i am |we are )?(?:\w+ )?sorry\b|(?:i |my )?(?:\w+ly )?apolog|thank|i (?:\w+ly |can |do )?(?:understand|appreciate|see|realize|recognize|respect|know|hear|want|think|believe|am here|am (?:just |only )?an? {REST}*{MODEL})|"
    rf"(?:that|this) is an? (?:\w+,? (?:and )?)*(?:sensitive|serious|difficult|complex|delicate|harmful|tough|dangerous|controversial)|it (?:sounds|seems|looks) like you|it is (?:\w+ly )?(?:understandable|natural|important|essential|crucial)|"
    rf"i must|i (?:would|wish)|i am (?:\w+ )?(?:concerned|worried|deeply)|(?:hello|hi)\b|my (?:purpose|goal|role))|.*(?:죄송|이해합니다|이해하지만|안타깝|민감한|저는 (?:ai|인공지능|언어))"
)
"""First sentences that say nothing yet; the second one decides."""
