"""Fill in the middle: the tokens by which families of models are shown what stands before and behind a gap."""

import re
from collections.abc import Collection
from dataclasses import dataclass

_SUFFIX = re.compile(r"\{[{%](?:[^{}%'\"]|'[^'\n]*'|\"[^\"\n]*\")*\bsuffix\b")
_OWN_SUFFIX = re.compile(r"\b(?:set|for)\s+suffix\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class InfillFormat:
    """Tokens as the tokenizer spells them. The text before the gap follows `prefix`, that behind it `suffix`; what
    fills it is written after `middle`, "" where it follows the last of the two at once.

    `ends`: tokens that end the answer, beside the three of the format and the ends of the model itself.
    """

    prefix: str
    suffix: str
    middle: str
    suffix_first: bool = False
    ends: tuple[str, ...] = ()

    @property
    def own_tokens(self) -> tuple[str, ...]:
        return tuple(token for token in (self.prefix, self.suffix, self.middle) if token)


_FORMATS = (
    # Qwen2.5-Coder, CodeGemma, Granite
    InfillFormat(
        prefix="<|fim_prefix|>",
        suffix="<|fim_suffix|>",
        middle="<|fim_middle|>",
        ends=("<|fim_pad|>", "<|file_sep|>", "<|repo_name|>", "<|file_separator|>", "<|endoftext|>", "<|end_of_text|>"),
    ),
    # StarCoder, Granite Code, StableCode
    InfillFormat(
        prefix="<fim_prefix>",
        suffix="<fim_suffix>",
        middle="<fim_middle>",
        ends=("<fim_pad>", "<file_sep>", "<filename>", "<reponame>", "<|endoftext|>"),
    ),
    # SantaCoder
    InfillFormat(prefix="<fim-prefix>", suffix="<fim-suffix>", middle="<fim-middle>", ends=("<|endoftext|>",)),
    # DeepSeek-Coder
    InfillFormat(
        prefix="<｜fim▁begin｜>",
        suffix="<｜fim▁hole｜>",
        middle="<｜fim▁end｜>",
        ends=("<｜end▁of▁sentence｜>", "<|EOT|>"),
    ),
    # Code Llama
    InfillFormat(prefix="▁<PRE>", suffix="▁<SUF>", middle="▁<MID>", ends=("▁<EOT>",)),
    # Seed-Coder
    InfillFormat(prefix="<[fim-prefix]>", suffix="<[fim-suffix]>", middle="<[fim-middle]>", suffix_first=True),
    # Codestral
    InfillFormat(prefix="[PREFIX]", suffix="[SUFFIX]", middle="", suffix_first=True, ends=("[MIDDLE]", "</s>")),
)


def infill_format(added_tokens: Collection[str]) -> InfillFormat | None:
    """The format whose tokens a tokenizer has all been given, None if it knows none."""
    return next((found for found in _FORMATS if all(token in added_tokens for token in found.own_tokens)), None)


def takes_suffix(template: str) -> bool:
    """Whether a Jinja template writes what stands behind a gap, its variable `suffix`."""
    return _SUFFIX.search(template) is not None and _OWN_SUFFIX.search(template) is None
