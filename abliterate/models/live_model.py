"""A live model as one value: what every measurement on it needs."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from abliterate.architectures.architecture import Architecture, find_architecture
from abliterate.models.batches import BatchSize, check_batch_size
from abliterate.models.decoding import GREEDY, Decoding
from abliterate.progress import SILENT, Progress
from abliterate.prompts.chat_format import ChatFormat


@dataclass(frozen=True)
class LiveModel:
    """A loaded model, how prompts are put to it, its writers, how many prompts it takes at once, how it replies, who watches.

    Raises InputError for a batch size below 1.

    Examples:
        >>> live = LiveModel.of(model, tokenizer)
        >>> live.architecture.depth == len(model.model.layers)
        True
    """

    model: PreTrainedModel
    chat: ChatFormat
    architecture: Architecture
    batch_size: BatchSize = "auto"
    decoding: Decoding = GREEDY
    progress: Progress = SILENT

    def __post_init__(self) -> None:
        check_batch_size(self.batch_size)

    @classmethod
    def of(cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | ChatFormat) -> LiveModel:
        """Return a model of the caller's own, with its writers found. Raises InputError without a chat template."""
        chat = tokenizer if isinstance(tokenizer, ChatFormat) else ChatFormat(tokenizer)
        return cls(model, chat, find_architecture(model))

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the tokenizer that the chat format works with."""
        return self.chat.tokenizer
