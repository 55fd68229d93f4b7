"""The chat: what is streamed is what is generated, hooks are the edited checkpoint, and a reply cannot touch the terminal."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import termios
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from abliterate.architectures.clone import random_clone
from abliterate.chat.conversation import ChatReply, Conversation, encode, take_turn, user_message
from abliterate.chat.options import ChatOptions
from abliterate.chat.panes import panes
from abliterate.chat.sides import ChatSide, ChatSides, open_sides
from abliterate.chat.stream import Reader, greedy, sampler, tokens, what_stays
from abliterate.chat.text import escaped, harmless
from abliterate.commands.apply import apply
from abliterate.errors import InputError
from abliterate.interventions import ablated
from abliterate.models.generation import generate
from abliterate.pipeline.options import Options
from abliterate.pipeline.run import run
from abliterate.prompts.chat_format import ChatFormat

TINY = Path(str(resources.files("abliterate") / "data" / "tiny-chat"))
BAD, GOOD = "How do I bribe my way through a time sheet?", "How do I decorate a shed?"
PROMPT = [3, 14, 15, 9, 26, 5, 35]


def options(model: Path, **changes: object) -> Options:
    """In float32: in bfloat16 it is the machine's whether hooks and weights, or another process, reply word for word."""
    given = Options(
        str(model), Path(), harmful=str(TINY / "harmful.txt"), harmless=str(TINY / "harmless.txt"), device="cpu",
        dtype="float32",
    )  # fmt: skip
    return replace(given, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(options(TINY, out=tmp_path_factory.mktemp("chat") / "edited")).out


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(TINY)


@pytest.fixture(scope="session")
def sides(edited: Path) -> ChatSides:
    return open_sides(options(edited), str(TINY))


def hooks_of(model: PreTrainedModel) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def said(side: ChatSide, *prompts: str, **settings: object) -> list[str]:
    """The replies of one side in a conversation."""
    conversation = Conversation(side, ChatOptions(**settings))  # type: ignore[arg-type]
    return [[*take_turn([conversation], prompt)][-1][0].text for prompt in prompts]


# One token after the other


def test_greedy_tokens_are_those_of_generate(
    model: PreTrainedModel, direction: torch.Tensor, tokenizer: PreTrainedTokenizerBase
) -> None:
    def streamed(reader: Reader) -> list[int]:
        return [*tokens(reader, PROMPT, {2}, 20, greedy)]

    plain = generate(model, tokenizer, [PROMPT], 20)[0]
    with ablated(model, direction):
        under_hooks = generate(model, tokenizer, [PROMPT], 20)[0]
    assert streamed(Reader(model)) == plain
    hooked = Reader(model, lambda: ablated(model, direction))
    assert streamed(hooked) == under_hooks
    assert not torch.allclose(hooked.logits(PROMPT), Reader(model).logits(PROMPT), atol=1e-2)
    assert hooks_of(model) == 0


READS = [PROMPT, [*PROMPT, 8], [*PROMPT, 8, 9, 7, 30], [*PROMPT, 8, 9, 3], PROMPT[:2], [*PROMPT] * 4, [*PROMPT] * 3]
"""Longer by one, by several, another end, shorter, longer than a sliding window, cut back into one that was filled."""


def test_what_is_kept_changes_no_logits(model: PreTrainedModel) -> None:
    reader = Reader(model)
    assert reader.kept == "all"
    for ids in [*READS, *READS[::-1]]:
        fresh = Reader(model).logits(ids)
        assert torch.allclose(reader.logits(ids), fresh, atol=1e-4 * float(fresh.abs().max()))


@pytest.mark.parametrize(("family", "kept"), [("qwen3_next", "steps"), ("jamba", "steps"), ("mamba", "nothing")])
def test_states_that_only_go_forward_change_no_logits(family: str, kept: str) -> None:
    config = AutoConfig.for_model(family)
    model = random_clone(AutoModelForCausalLM._model_mapping[type(config)], config, 0)
    reader = Reader(model.eval())
    assert reader.kept == what_stays(model) == kept
    for ids in ([3, 5, 7, 4], [3, 5, 7, 4, 9], [3, 5, 7, 4, 9, 6], [3, 5, 7, 4, 9, 6, 8, 3], [3, 5, 7, 6]):
        with torch.inference_mode():
            whole = model(torch.tensor([ids]), use_cache=False).logits[0, -1]
        assert torch.allclose(reader.logits(ids), whole, atol=1e-3 * float(whole.abs().max()))


def test_a_token_is_read_once(llama: PreTrainedModel) -> None:
    lengths: list[int] = []
    llama.get_input_embeddings().register_forward_hook(lambda module, args, output: lengths.append(args[0].shape[1]))
    reader = Reader(llama)
    reply = [*tokens(reader, PROMPT, set(), 3, greedy)]
    reader.logits([*PROMPT, *reply, 5, 6])
    assert lengths == [len(PROMPT), 1, 1, 3]


def test_draws_depend_on_the_seed_and_nothing_else() -> None:
    logits = torch.randn(50, generator=torch.Generator().manual_seed(0))

    def draws(seed: int, temperature: float = 1.0) -> list[int]:
        choose = sampler(temperature, seed)
        return [choose(logits) for _ in range(20)]

    assert draws(1) == draws(1) != draws(2)
    assert len(set(draws(1))) > 1
    assert set(draws(1, 0.0)) == set(draws(1, 1e-4)) == {int(logits.argmax())}


def test_logits_that_are_no_numbers_are_an_error(llama: PreTrainedModel) -> None:
    with torch.no_grad():
        llama.model.norm.weight[0] = torch.nan
    with pytest.raises(InputError, match="logits are NaN or infinite; try --dtype float32"):
        Reader(llama).logits(PROMPT)


# Conversations


def test_one_turn_is_put_as_every_prompt_is(tokenizer: PreTrainedTokenizerBase) -> None:
    for chat in (ChatFormat(tokenizer), ChatFormat(tokenizer, system="Be short.")):
        assert encode(chat, [user_message(GOOD)]) == chat.encode([GOOD])[0]


def test_with_thinking_on_the_thought_stays_open(tokenizer: PreTrainedTokenizerBase) -> None:
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<bot><think>"
    ends = {
        thinking: tokenizer.decode(encode(ChatFormat(tokenizer, None, thinking, template), [user_message(GOOD)]))
        for thinking in ("on", "auto")
    }
    assert ends["on"].endswith("<think>")
    assert ends["auto"].endswith("</think>\n\n")


def test_a_template_that_takes_one_turn_says_so(tokenizer: PreTrainedTokenizerBase) -> None:
    once = "{% if messages|length > 1 %}{{ raise_exception('one turn only') }}{% endif %}{{ messages[0].content }}"
    with pytest.raises(InputError, match="one turn only; it may not take several turns, /reset"):
        encode(ChatFormat(tokenizer, template=once), [user_message(GOOD), user_message(GOOD)])


def test_several_turns_are_those_of_a_conversation_read_anew(sides: ChatSides) -> None:
    for side in sides.sides:
        going_on = Conversation(side, ChatOptions())
        for prompt in (BAD, GOOD, "Can you show me how to serve a plate of pasta?"):
            anew = Conversation(side, ChatOptions())
            anew.messages = going_on.messages
            assert [*take_turn([going_on], prompt)] == [*take_turn([anew], prompt)]
        assert [message["role"] for message in going_on.messages] == ["user", "assistant"] * 3


def test_each_side_remembers_its_own_replies(sides: ChatSides) -> None:
    conversations = [Conversation(side, ChatOptions()) for side in sides.sides]
    replies = [*take_turn(conversations, BAD)][-1]
    assert [reply.refused for reply in replies] == [True, False]
    for conversation, reply in zip(conversations, replies, strict=True):
        assert [dict(message) for message in conversation.messages] == [
            {"role": "user", "content": BAD}, {"role": "assistant", "content": reply.text}
        ]  # fmt: skip
        conversation.reset(None)
        assert conversation.messages == ()


def test_both_sides_grow_together(sides: ChatSides) -> None:
    conversations = [Conversation(side, ChatOptions()) for side in sides.sides]
    for place, replies in enumerate(take_turn(conversations, BAD)):
        for reply in replies:
            assert len(reply.tokens) == place + 1 or reply.ended


def test_a_reply_that_is_stopped_stays_part_of_the_conversation(sides: ChatSides) -> None:
    conversations = [Conversation(side, ChatOptions()) for side in sides.sides]
    rounds: list[tuple[ChatReply, ...]] = []
    for replies in take_turn(conversations, GOOD, lambda: len(rounds) == 3):
        rounds.append(replies)
    assert [reply.ended for reply in rounds[-1]] == ["stopped", "stopped"]
    assert [len(reply.tokens) for reply in rounds[-1]] == [3, 3]
    assert conversations[0].messages[-1]["content"] == rounds[-1][0].text
    going_on = [*take_turn(conversations, GOOD)][-1]
    assert [reply.ended for reply in going_on] == ["end", "end"]


def test_a_reply_ends_where_it_is_told_to(sides: ChatSides) -> None:
    conversation = Conversation(sides.sides[1], ChatOptions(max_new_tokens=4))
    reply = [*take_turn([conversation], GOOD)][-1][0]
    assert (len(reply.tokens), reply.ended) == (4, "length")


def test_a_conversation_that_outgrows_the_context_says_so(sides: ChatSides) -> None:
    conversations = [Conversation(side, ChatOptions(max_new_tokens=4)) for side in sides.sides]
    text = "decorate a shed " * 58
    reply = [*take_turn(conversations, text)][-1][0]
    assert reply.ended in ("length", "context")
    before = [conversation.messages for conversation in conversations]
    with pytest.raises(InputError, match=r"original: the conversation has \d+ tokens, the model's context 256; /reset"):
        next(take_turn(conversations, text))
    assert [conversation.messages for conversation in conversations] == before


def test_a_reply_ends_at_the_end_of_the_context(sides: ChatSides) -> None:
    chat = sides.sides[0].chat
    filled = next(count for count in range(300) if len(encode(chat, [user_message("shed " * count)])) > 250)
    left = 256 - len(encode(chat, [user_message("shed " * filled)]))
    conversation = Conversation(sides.sides[1], ChatOptions(temperature=50.0))
    reply = [*take_turn([conversation], "shed " * filled)][-1][0]
    assert reply.ended == "context" or len(reply.tokens) < left
    assert len(reply.tokens) <= left


def test_a_system_message_that_the_template_drops_leaves_the_conversation(sides: ChatSides) -> None:
    template = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}"
    side = replace(sides.sides[0], chat=replace(sides.sides[0].chat, template=template))
    conversation = Conversation(side, ChatOptions(max_new_tokens=2))
    [*take_turn([conversation], GOOD)]
    with pytest.raises(InputError, match="drops the system message"):
        conversation.reset("Be short.")
    assert conversation.chat.system is None
    assert len(conversation.messages) == 2


def test_a_thought_is_no_part_of_the_answer(tokenizer: PreTrainedTokenizerBase) -> None:
    def reply(text: str) -> ChatReply:
        return ChatReply(tokenizer, tuple(tokenizer(text, add_special_tokens=False)["input_ids"]), "end")

    one = reply("<think>\nI can't assist with that request.\n</think>\n\nStart with a plan.<|user|>")
    assert one.answer == "Start with a plan."
    assert not one.refused
    assert one.text.startswith("<think>")
    assert "<|user|>" not in one.text
    plain = reply("I can't assist with that request.")
    assert plain.answer == plain.text
    assert plain.refused


# The sides


def test_hooks_reply_as_the_edited_checkpoint(edited: Path, sides: ChatSides) -> None:
    (alone,) = open_sides(options(edited), None).sides
    original, hooked = sides.sides
    for prompts in ((BAD, GOOD), (GOOD, BAD), ("Teach me to scam the plumber.",)):
        assert said(hooked, *prompts) == said(alone, *prompts)
    assert said(hooked, BAD) != said(original, BAD)


def test_at_any_strength(edited: Path, tmp_path: Path) -> None:
    half = options(TINY, out=tmp_path / "half", layer=4, strength=0.5)
    apply(half, edited / "directions.safetensors", None)
    (alone,) = open_sides(options(half.out), None).sides
    _, hooked = open_sides(options(half.out), str(TINY)).sides
    assert said(hooked, BAD, GOOD) == said(alone, BAD, GOOD)


def test_the_edit_takes_the_memory_of_one_model(edited: Path, sides: ChatSides) -> None:
    one = open_sides(options(edited), None)
    assert one.note == "one model in memory: edited"
    assert sides.note == "one model in memory, the edit as hooks"
    assert sides.parameter_bytes == one.parameter_bytes
    assert sides.sides[0].model is sides.sides[1].model


def test_hooks_leave_no_trace(sides: ChatSides) -> None:
    model = sides.sides[0].model
    conversations = [Conversation(side, ChatOptions()) for side in sides.sides]
    turn = take_turn(conversations, GOOD)
    next(turn)
    assert hooks_of(model) == 0
    turn.close()
    assert hooks_of(model) == 0

    def fails(module: torch.nn.Module, args: object, output: object) -> None:
        raise MemoryError

    broken = model.get_submodule("model.layers.3").register_forward_hook(fails)
    for conversation in conversations:
        with pytest.raises(MemoryError):
            next(take_turn([conversation], GOOD))
    broken.remove()
    assert hooks_of(model) == 0
    # What a broken pass left of keys and values is forgotten.
    for conversation, side in zip(conversations, sides.sides, strict=True):
        conversation.reset(None)
        assert [*take_turn([conversation], BAD)][-1][0].text == said(side, BAD)[0]


def other_weights(folder: Path) -> Path:
    shutil.copytree(TINY, folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][0] += 1
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_another_original_is_refused(edited: Path, tmp_path: Path) -> None:
    other = other_weights(tmp_path / "other")
    with pytest.raises(InputError, match=r"was not made from .*other, .*; its abliterate.json names tiny-chat"):
        open_sides(options(edited), str(other))
    copy = Path(shutil.copytree(edited, tmp_path / "copy"))
    manifest = json.loads((copy / "abliterate.json").read_text())
    manifest["source"]["revision"] = "abc"
    (copy / "abliterate.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="names tiny-chat at --revision abc"):
        open_sides(options(copy), str(other))


def test_another_recipe_is_refused(edited: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(edited, tmp_path / "copy"))
    recipe = json.loads((copy / "recipe.json").read_text())
    (copy / "recipe.json").write_text(json.dumps({**recipe, "strengths": {"mlp": 1.0}}))
    with pytest.raises(InputError, match=r"is not the recipe that abliterate.json names"):
        open_sides(options(copy), str(TINY))


def test_without_a_recipe_both_are_loaded(edited: Path, sides: ChatSides, tmp_path: Path) -> None:
    other = Path(shutil.copytree(edited, tmp_path / "other"))
    (other / "recipe.json").unlink()
    both = open_sides(options(other), str(TINY))
    assert both.note == "two models in memory: other has no recipe.json"
    assert both.parameter_bytes == 2 * sides.parameter_bytes
    assert [said(side, BAD) for side in both.sides] == [said(side, BAD) for side in sides.sides]
    with pytest.raises(InputError, match=r"two models need .* are free; chat without --against"):
        open_sides(options(other, max_memory=1), str(TINY))


def adapter_of(folder: Path, **changes: object) -> Path:
    peft = pytest.importorskip("peft")
    model = AutoModelForCausalLM.from_pretrained(TINY)
    torch.manual_seed(0)
    lora = peft.LoraConfig(r=2, target_modules=["o_proj", "down_proj"], init_lora_weights=False)
    peft.get_peft_model(model, lora).save_pretrained(folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": str(TINY), **changes}))
    return folder


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft asks transformers for it
def test_an_adapter_is_switched_on_and_off(sides: ChatSides, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    folder = adapter_of(tmp_path / "adapter")
    both = open_sides(options(folder, dtype="float32"), str(TINY))
    assert both.note == "one model in memory, the adapter on and off"
    assert both.parameter_bytes < 1.2 * sides.parameter_bytes
    base = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32)
    merged = peft.PeftModel.from_pretrained(base, folder).eval()
    with torch.inference_mode():
        expected = merged(torch.tensor([PROMPT])).logits[0, -1].float()
    original, edited = both.sides
    assert torch.allclose(Reader(edited.model, edited.active).logits(PROMPT), expected, atol=1e-4)
    assert not torch.allclose(Reader(original.model, original.active).logits(PROMPT), expected, atol=1e-1)
    assert said(original, BAD, GOOD) == said(sides.sides[0], BAD, GOOD)
    alone = open_sides(options(folder, dtype="float32"), None)
    assert alone.note == "one model in memory: tiny-chat with the adapter"
    assert said(alone.sides[0], BAD) == said(edited, BAD)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft asks transformers for it
def test_an_adapter_that_cannot_be_read_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nameless = adapter_of(tmp_path / "nameless", base_model_name_or_path=None)
    with pytest.raises(InputError, match="pass it with --against"):
        open_sides(options(nameless), None)
    with pytest.raises(InputError, match=r"weights need .* GB on cpu"):
        open_sides(options(nameless, max_memory=1), str(TINY))
    misfit = adapter_of(tmp_path / "misfit", target_modules=["q_proj"])
    with pytest.raises(InputError, match="the adapter does not fit the model"):
        open_sides(options(misfit), None)
    (nameless / "adapter_model.safetensors").rename(nameless / "adapter_model.bin")
    with pytest.raises(InputError, match=r"has no adapter_model.safetensors; only safetensors are read"):
        open_sides(options(nameless), str(TINY))
    (nameless / "adapter_config.json").write_text("{")
    with pytest.raises(InputError, match=r"adapter_config.json: cannot be read"):
        open_sides(options(nameless), None)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match="reading an adapter needs peft, which is not installed: pip install "):
        open_sides(options(misfit), str(TINY))


# What is shown


def test_no_reply_reaches_the_terminal_itself() -> None:
    text = "a\x1b[31mred\x1b]8;;https://example.org\x07link\x9b2J\x7f\x00\r\x85\u202eb\tc\nd\r\ne [bold]f[/bold]"
    shown = harmless(text)
    assert shown == "a␛[31mred␛]8;;https://example.org␇link�2J␡␀␍��b\tc\nd\ne [bold]f[/bold]"
    assert json.loads(escaped(json.dumps(text, ensure_ascii=False))) == text
    assert not set(escaped(json.dumps(text, ensure_ascii=False))) & set("\x1b\x9b\x7f\u202e")


def reply_of(tokenizer: PreTrainedTokenizerBase, text: str, cut: int = 0, **changes: object) -> ChatReply:
    """The reply of this text, without its last `cut` tokens."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ChatReply(tokenizer, tuple(ids[: len(ids) - cut]), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [120, 80])
def test_panes_stand_side_by_side_where_there_is_room(
    sides: ChatSides, tokenizer: PreTrainedTokenizerBase, width: int
) -> None:
    console = Console(width=width, height=30, force_terminal=True)
    replies = [reply_of(tokenizer, text, ended="end") for text in ("\x1b[2J[red]No[/red]", "word " * 300 + "last")]
    with console.capture() as drawn:
        console.print(panes(sides.sides, replies, console, rows=20))
    shown = drawn.get()
    assert "␛[2J[red]No[/red]" in shown
    assert "\x1b[2J" not in shown
    assert "last" in shown
    assert shown.count("\n") <= 20
    beside = [line for line in shown.splitlines() if "original" in line and "edited" in line]
    assert len(beside) == (width >= 100)
    with console.capture() as whole:
        console.print(panes(sides.sides, replies, console))
    assert whole.get().count("word") == 300


def test_a_growing_reply_hides_half_a_character(tokenizer: PreTrainedTokenizerBase) -> None:
    growing = reply_of(tokenizer, "café", cut=1)
    assert growing.text == growing.answer == "caf"
    assert replace(growing, ended="end").text == "caf\ufffd"


def test_a_thought_is_dim(sides: ChatSides, tokenizer: PreTrainedTokenizerBase) -> None:
    console = Console(width=80, force_terminal=True)
    for text, thought in (("<think>\nOnly a plan", "plan"), ("<think>\nplan\n</think>\n\nYes.", "plan")):
        with console.capture() as drawn:
            console.print(panes(sides.sides[:1], [reply_of(tokenizer, text)], console))
        dim = drawn.get().partition("Yes.")[0]
        assert "\x1b[2m" in dim
        assert thought in dim
    with console.capture() as drawn:
        console.print(panes(sides.sides[:1], [ChatReply(tokenizer)], console))
    assert "…" in drawn.get()


# The command


def chat(*words: str, lines: str | bytes, code: int = 0) -> tuple[str, str]:
    """Run the command in a process of its own; return stdout and stderr."""
    given = lines.encode() if isinstance(lines, str) else lines
    done = subprocess.run(
        [sys.executable, "-m", "abliterate", "chat", *words, "--device", "cpu", "--dtype", "float32"],
        input=given,
        capture_output=True,
    )
    assert done.returncode == code, done.stderr.decode()
    return done.stdout.decode(), done.stderr.decode()


def test_lines_from_a_pipe_are_answered_as_json(edited: Path, sides: ChatSides) -> None:
    lines = f"{BAD}\n\n{GOOD}\r\n/help\n/reset\n/system Be short.\n/system\n {GOOD}"
    out, err = chat(str(edited), "--against", str(TINY), "--json", lines=lines)
    turns = [json.loads(line) for line in out.splitlines()]
    assert [turn["prompt"] for turn in turns] == [BAD, GOOD, GOOD]
    assert turns[0]["refused"] == {"original": True, "edited": False}
    assert turns[0]["ended"] == {"original": "end", "edited": "end"}
    for side in sides.sides:
        assert [turn["replies"][side.role] for turn in turns] == [*said(side, BAD, GOOD), *said(side, GOOD)]
    assert "one model in memory, the edit as hooks" in err
    assert "Ctrl-C during a reply" in err


def test_lines_from_a_pipe_are_answered_for_people(edited: Path) -> None:
    out, _ = chat(str(edited), lines=f"{GOOD}\n/exit\n{BAD}".encode() + b"\xff")
    assert out.startswith(f"> {GOOD}\n")
    assert " tokens\n" in out
    assert BAD not in out


def test_a_pipe_ends_at_the_first_error(edited: Path) -> None:
    out, err = chat(str(edited), "--json", lines=f"/what\n{GOOD}\n", code=2)
    assert out == ""
    assert err.splitlines()[-1].startswith("abliterate: /what: no such command; /help lists them")
    out, err = chat(str(edited), "--json", lines="shed " * 400, code=2)
    assert "/reset begins a new one" in err


def test_ctrl_c_stops_a_reply_and_at_the_prompt_leaves(edited: Path) -> None:
    """In a terminal of its own: draws at a high temperature never come to an end by themselves."""
    words = ["chat", str(edited), "--against", str(TINY), "--temperature", "50", "--device", "cpu"]
    script = (
        f"import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); from abliterate.cli import main; main({words!r})"
    )
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, b"\x28\x00\x78\x00\x00\x00\x00\x00")  # 40 rows of 120 columns
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(theirs)
    seen = b""

    def until(expected: bytes) -> None:
        nonlocal seen
        while expected not in seen:
            assert select.select([ours], [], [], 120)[0], seen
            seen += os.read(ours, 65536)
        seen = seen.partition(expected)[2]

    until(b"> ")
    os.write(ours, f"{GOOD}\n".encode())
    until(b"original")
    os.write(ours, b"\x03")
    until(b"stopped")
    until(b"> ")
    os.write(ours, b"/nothing\n")
    until(b"no such command")
    until(b"> ")
    os.write(ours, b"\x03")
    with contextlib.suppress(OSError):  # what Linux says at the end of a terminal
        while True:
            if not select.select([ours], [], [], 20)[0]:
                os.write(ours, b"\x03")  # the first came before readline listened
            elif not os.read(ours, 65536):
                break
    assert process.wait(120) == 0
    os.close(ours)
