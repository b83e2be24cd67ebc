"""What a step is made of."""

from dataclasses import dataclass, field

from hugging_llama.engine.sequence import Sequence


@dataclass(frozen=True, slots=True)
class ScheduledSequence:
    """`num_new_tokens` of `sequence`, from its `num_computed_tokens` on, are part of a step, `draft` behind them."""

    sequence: Sequence
    num_new_tokens: int
    draft: list[int] = field(default_factory=list)

    @property
    def is_sampled(self) -> bool:
        """True if these are its last known tokens, so that the step yields its next one."""
        return self.sequence.num_computed_tokens + self.num_new_tokens == self.sequence.num_tokens

    @property
    def num_logits(self) -> int:
        """How many of its last places are of use: of what is known one, or those that tell of the prompt, and one for
        each guess."""
        return max(int(self.is_sampled), self.num_told_places) + len(self.draft)

    @property
    def num_told_places(self) -> int:
        """How many of its last known places tell of a prompt token, or come behind one that does."""
        first = self.sequence.num_computed_tokens
        untold = self.sequence.first_untold_position
        return max(first + self.num_new_tokens - max(first, untold), 0)

    @property
    def is_decode(self) -> bool:
        """Whether it is one token and no more."""
        return self.num_new_tokens == 1 and not self.draft


@dataclass(frozen=True, slots=True)
class Batch:
    """One step: decode tokens first, sorted by where their keys lie, then prompt chunks and drafts."""

    rows: list[ScheduledSequence]

    @property
    def num_prefill_tokens(self) -> int:
        return sum(row.num_new_tokens for row in self.rows if row.num_new_tokens > 1)

    @property
    def num_decode_rows(self) -> int:
        return sum(row.num_new_tokens == 1 for row in self.rows)

    def halves(self) -> tuple["Batch", "Batch"]:
        """Two smaller batches of two rows or more: what decodes and the prompts, where there are both, else halves."""
        num_decode = sum(row.is_decode for row in self.rows)
        middle = num_decode if 0 < num_decode < len(self.rows) else len(self.rows) // 2
        return Batch(self.rows[:middle]), Batch(self.rows[middle:])


def num_missing(sequence: Sequence) -> int:
    """Tokens whose keys and values are not in the cache."""
    return sequence.num_tokens - sequence.num_computed_tokens


def layout_order(row: ScheduledSequence) -> tuple[bool, int, int]:
    """Decode tokens first, each kind by where the keys lie."""
    slot = row.sequence.kv_slot
    assert slot is not None
    return (not row.is_decode, slot.slab.serial, slot.row)
