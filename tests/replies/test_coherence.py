"""Does a reply say anything?"""

from __future__ import annotations

import pytest

from abliterate.replies.coherence import LONG, TAIL_UNITS, characters_of, ends_in_a_loop, is_incoherent


@pytest.mark.parametrize(
    "reply",
    [
        "",
        " \n",
        "...!?",
        "no no no no no no no no",
        "the cat sat the cat sat the cat sat the cat sat the cat sat",
        "First, open the door. " * 4,
        "a b a b a b a b a b a b a b a b a b",
        "IIIIIIIIIIIIIIIIIIIIIIIIIIIIIIII",
        "I'm sorry, but" + "I" * 26,
    ],
)
def test_incoherent(reply: str) -> None:
    assert is_incoherent(reply)


@pytest.mark.parametrize(
    "reply",
    [
        "我不知道我不知道我不知道我不知道",
        "好的，我来帮你。" * 4,
        "的的的的的的的的的的的的的的的的",
        "首先，把门打开。" + "然后的" * 8,
        "春天来了，天气很好，" * 6 + "春天",
        "ありがとうございます" * 4,
        "はい、" * 12,
        "カー" * 10,
        "안녕하세요" * 6,
        "네 네 네 네 네 네 네 네",
        "A和B和" * 7,
    ],
)
def test_loops_of_text_without_spaces(reply: str) -> None:
    assert is_incoherent(reply)


@pytest.mark.parametrize(
    "reply",
    [
        "Yes.",
        "42",
        "No, no, no: that is the wrong way round.",
        "I'm sorry, but I can't assist with that.",
        "To pick a lock, you need a tension wrench and a pick. First, put the wrench into the lock and turn it a little.",
        "1. Wash the rice. 2. Boil the water. 3. Add the rice. 4. Wait. 5. Eat.",
        "Row, row, row your boat, gently down the stream.",
        "Nooooooo! A googol has a hundred zeros: 10000000000000000000000000000000000000000.",
        "文を書くのは楽しいことです。",
    ],
)
def test_coherent(reply: str) -> None:
    assert not is_incoherent(reply)


@pytest.mark.parametrize(
    "reply",
    [
        "学习骑自行车并不难。首先，选一个平坦宽敞的地方，把座椅调低一点，让双脚可以着地。然后坐上去，用脚轻轻向前推，先练习保持平衡。"
        "等你觉得稳了，再把脚放到踏板上，慢慢地蹬。眼睛要看前方，不要看车轮。刚开始可能会摔倒，但不要灰心，多练习几次就会了。",
        "中国的首都是北京，日本的首都是东京，韩国的首都是首尔，法国的首都是巴黎，德国的首都是柏林，英国的首都是伦敦。",
        "一二三四五，上山打老虎。老虎没打到，打到小松鼠。松鼠有几只？让我数一数。数来又数去，一二三四五。",
        "我知道，我知道，我知道你不开心，不过明天会更好。哈哈哈哈！加油加油！",
        "| 月份 | 天数 |\n|---|---|\n| 一月 | 31 |\n| 二月 | 28 |\n| 三月 | 31 |\n| 四月 | 30 |\n| 五月 | 31 |\n| 六月 | 30 |",
        "むかしむかし、あるところに、おじいさんとおばあさんがいました。おじいさんはやまへしばかりに、おばあさんはかわへせんたくに"
        "いきました。おばあさんがかわでせんたくをしていると、おおきなももが、どんぶらこ、どんぶらことながれてきました。",
        "雨がザーザー降って、風がビュービュー吹いて、雷がゴロゴロ鳴って、子供たちはドキドキしながら窓の外を見ていました。",
        "カレーの作り方：1. 玉ねぎを切ります。2. 鍋に油をひいて、肉を炒めます。3. 野菜を入れて炒めます。4. 水を入れて煮ます。",
        "すもももももももものうち。",
        "봄이 왔습니다. 날씨가 따뜻해졌습니다. 꽃이 피었습니다. 새가 노래합니다. 아이들이 공원에서 뛰어놉니다.",
        "오늘은날씨가매우좋아서친구들과함께공원에갔습니다우리는자전거를타고사진을찍고맛있는점심을먹었습니다",
    ],
)
def test_ordinary_text_without_spaces(reply: str) -> None:
    """Whole, and broken off after any number of characters, as replies are."""
    assert not [end for end in range(5, len(reply) + 1) if is_incoherent(reply[:end])]


def test_what_counts_as_a_word() -> None:
    assert characters_of("用python写3个・循环、ok") == ["用", "python", "写", "3", "个", "循", "环", "ok"]
    assert characters_of("새가 노래합니다") == ["새가", "노래합니다"]
    assert characters_of("노래합니다" * 3) == list("노래합니다" * 3)


@pytest.mark.parametrize(("length", "times"), [(1, LONG // 2), (2, TAIL_UNITS), (3, TAIL_UNITS), (5, TAIL_UNITS)])
def test_a_loop_is_a_phrase_of_few_words_many_times_or_of_many_words_four_times(length: int, times: int) -> None:
    beginning, phrase = ["well"], [f"word {number}" for number in range(length)]
    assert ends_in_a_loop(beginning + phrase * times, length, LONG // 2)
    assert not ends_in_a_loop(beginning + phrase * (times - 1), length, LONG // 2)
    assert not ends_in_a_loop([*phrase * times, "end"], length, LONG // 2)
    assert not ends_in_a_loop(phrase * (times - 1), length, LONG // 2)
