"""A grammar beside everything else that a request may ask for, in each runner."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from transformers import PreTrainedModel

from hugging_llama.engine.fallback import GenerateRunner
from hugging_llama.engine.grammars.bits import all_bits, allows
from hugging_llama.engine.grammars.compiler import GrammarCompiler
from hugging_llama.engine.grammars.formats import grammar_of
from hugging_llama.engine.grammars.mask import GrammarMask
from hugging_llama.engine.logit_bias import make_logit_bias
from hugging_llama.engine.output import AnswerProcessor
from hugging_llama.engine.sequence import Sequence
from hugging_llama.engine.token_bytes import TokenBytes
from hugging_llama.neutral.events import FinishReason, TextDelta
from hugging_llama.neutral.formats import Choice, JsonSchema, OutputFormat, Regex
from hugging_llama.neutral.requests import SamplingParams
from tests.engine.checkpoints import byte_tokenizer
from tests.engine.harness import Inbox, make_loop, make_prompts, make_sequence, run_until
from tests.engine.tiny_models import VOCAB_SIZE, make_mamba, make_model

HOT: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "seed": 5, "max_tokens": 400}
ITEM = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 6}, "kind": {"enum": ["first", "second"]}},
    "required": ["name", "kind"],
    "additionalProperties": False,
}
LIST = JsonSchema(json.dumps({"type": "array", "items": ITEM, "minItems": 3, "maxItems": 3}))


@pytest.fixture(scope="module")
def compiler() -> Iterator[GrammarCompiler]:
    tokenizer = byte_tokenizer()
    found = GrammarCompiler(tokenizer, width=VOCAB_SIZE, eos_token_ids={tokenizer.eos_token_id})
    yield found
    found.close()


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return make_model("llama")


class Unforced(GrammarMask):
    """The same grammar, and nothing is drafted."""

    def forced(self) -> list[int]:
        return []


def asked(
    compiler: GrammarCompiler,
    number: int,
    format: OutputFormat | None,
    *,
    mask: type[GrammarMask] = GrammarMask,
    prompt: list[int] | None = None,
    context_length: int = 1024,
    shift: bool = False,
    **sampling: Any,
) -> Sequence:
    eos = compiler.tokenizer.eos_token_id
    params = SamplingParams(**(HOT | sampling))
    return make_sequence(
        number,
        prompt or make_prompts(8, seed=2, shortest=20)[number],
        params,
        context_length=context_length,
        shift=shift,
        grammar=mask(compiler, grammar_of(format)) if format else None,
        eos_token_ids=frozenset({eos}),
        bias=make_logit_bias(params, compiler.tokenizer.encode, vocab_size=VOCAB_SIZE, eos_token_ids=frozenset({eos})),
        output=AnswerProcessor(compiler.tokenizer, hidden_ids=frozenset({eos}), stops=params.stop),
    )


def run(model: PreTrainedModel, *sequences: Sequence, **options: Any) -> tuple[list[str], list[FinishReason], int]:
    """Texts, ends and how often a sequence was preempted."""
    inbox = Inbox()
    loop = make_loop(model, inbox, **options)
    for sequence in sequences:
        loop.submit(sequence)
    run_until(loop, inbox, len(sequences))
    loop.close()
    reasons = []
    for sequence in sequences:
        (end,) = inbox.ends(sequence.key)
        reasons.append(end.reason)
    return [inbox.text(sequence.key) for sequence in sequences], reasons, loop.stats().preempted_total


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def check(text: str) -> None:
    value = json.loads(text)
    assert len(value) == 3
    assert all(item["kind"] in ("first", "second") and len(item["name"]) <= 6 for item in value)


def test_alone_in_company_with_forced_tokens_and_without(compiler: GrammarCompiler, model: PreTrainedModel) -> None:
    alone = [run(model, asked(compiler, number, LIST))[0][0] for number in range(4)]
    for text in alone:
        check(text)
    assert len(set(alone)) > 1
    together, reasons, _ = run(model, *(asked(compiler, number, LIST) for number in range(4)))
    assert together == alone
    assert set(reasons) == {FinishReason.STOP}
    assert run(model, *(asked(compiler, number, LIST, mask=Unforced) for number in range(4)))[0] == alone


def test_forced_tokens_save_steps(compiler: GrammarCompiler, model: PreTrainedModel) -> None:
    steps = []
    for mask in (Unforced, GrammarMask):
        inbox = Inbox()
        loop = make_loop(model, inbox)
        loop.submit(asked(compiler, 0, LIST, mask=mask))
        run_until(loop, inbox, 1)
        steps.append(loop.stats().steps_total)
        loop.close()
    assert steps[1] < 0.7 * steps[0]


def test_free_answers_beside_bound_ones_stay_as_they_are(compiler: GrammarCompiler, model: PreTrainedModel) -> None:
    free = run(model, *(asked(compiler, number, None, max_tokens=60) for number in (0, 2)))[0]
    company = [
        asked(compiler, number, LIST if number % 2 else None, max_tokens=400 if number % 2 else 60)
        for number in range(4)
    ]
    mixed = run(model, *company)[0]
    assert mixed[0::2] == free
    for text in mixed[1::2]:
        check(text)


@pytest.mark.parametrize("num_draft_tokens", [0, 4])
def test_preempted_and_computed_anew(compiler: GrammarCompiler, model: PreTrainedModel, num_draft_tokens: int) -> None:
    """Nothing is told to the grammar twice."""
    prompts = make_prompts(5, shortest=100, longest=180)

    def all_of_them() -> list[Sequence]:
        return [
            asked(compiler, number, LIST, prompt=prompt, num_draft_tokens=num_draft_tokens)
            for number, prompt in enumerate(prompts)
        ]

    plenty, _, none = run(model, *all_of_them(), max_num_batched_tokens=64)
    scarce, _, some = run(model, *all_of_them(), max_num_batched_tokens=64, capacity_tokens=1024, max_prefixes=0)
    assert none == 0
    assert some > 0
    assert scarce == plenty
    for text in plenty:
        check(text)


def test_guesses_change_nothing(compiler: GrammarCompiler, model: PreTrainedModel) -> None:
    numbers = range(3)
    plain = run(model, *(asked(compiler, number, LIST) for number in numbers))[0]
    assert run(model, *(asked(compiler, number, LIST, num_draft_tokens=6) for number in numbers))[0] == plain


def test_a_context_that_shifts_stays_within_the_grammar(compiler: GrammarCompiler, model: PreTrainedModel) -> None:
    """What slides out of the context the grammar still knows."""
    sequence = asked(compiler, 0, LIST, prompt=list(range(20, 32)), context_length=48, shift=True)
    (text,), (reason,), _ = run(model, sequence)
    check(text)
    assert reason is FinishReason.STOP
    assert sequence.num_truncated_tokens > 0


def test_what_ends_early_is_told_so(compiler: GrammarCompiler, model: PreTrainedModel) -> None:
    (text,), (reason,), _ = run(model, asked(compiler, 0, LIST, max_tokens=20))
    assert reason is FinishReason.LENGTH
    assert text.startswith("[")
    assert not is_json(text)
    (text,), (reason,), _ = run(model, asked(compiler, 0, LIST, context_length=100))
    assert reason is FinishReason.LENGTH


def test_a_stop_string_ends_it_too(compiler: GrammarCompiler, model: PreTrainedModel) -> None:
    (text,), (reason,), _ = run(model, asked(compiler, 0, LIST, stop=('"kind"',)))
    assert reason is FinishReason.STOP
    assert text.startswith("[")
    assert '"kind"' not in text


def test_fewest_tokens_give_way_to_what_is_complete(compiler: GrammarCompiler, model: PreTrainedModel) -> None:
    texts, reasons, _ = run(
        model,
        asked(compiler, 0, Choice(("yes",)), min_tokens=50),
        asked(compiler, 1, Regex("a{1,60}"), min_tokens=50),
    )
    assert texts[0] == "yes"
    assert 50 <= len(texts[1]) <= 60
    assert set(reasons) == {FinishReason.STOP}


def test_log_probabilities_are_the_models_own(compiler: GrammarCompiler, model: PreTrainedModel) -> None:
    inbox = Inbox()
    loop = make_loop(model, inbox)
    sequence = asked(compiler, 0, LIST, top_logprobs=2)
    sequence.token_bytes = TokenBytes(compiler.tokenizer)
    loop.submit(sequence)
    run_until(loop, inbox, 1)
    loop.close()
    deltas = [event for event in inbox.events(sequence.key) if isinstance(event, TextDelta)]
    entries = [entry for delta in deltas for entry in delta.logprobs]
    check("".join(delta.text for delta in deltas))
    assert b"".join(entry.token for entry in entries).decode() == "".join(delta.text for delta in deltas)
    assert all(len(entry.top) == 2 and entry.logprob <= 0 for entry in entries)
    # raw ones: what the model would have liked better is among the alternatives
    assert any(entry.token not in [other.token for other in entry.top] for entry in entries)


@pytest.mark.parametrize("batched", [True, False])
def test_models_with_states_and_those_that_only_generate(compiler: GrammarCompiler, batched: bool) -> None:
    sequences = [asked(compiler, number, LIST) for number in range(2)]
    if batched:
        texts = run(make_mamba(), *sequences)[0]
    else:
        inbox = Inbox()
        runner = GenerateRunner(make_mamba(), max_queue=9, emit=inbox.emit, on_finished=inbox.on_finished, name="test")
        for sequence in sequences:
            runner.submit(sequence)
        runner.start()
        inbox.wait_finished(2)
        runner.close()
        texts = [inbox.text(sequence.key) for sequence in sequences]
    for text in texts:
        check(text)


def test_any_end_of_a_template_ends_an_answer(compiler: GrammarCompiler) -> None:
    tokenizer = compiler.tokenizer
    eos, other = tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|endoftext|>")
    mask = GrammarMask(compiler, grammar_of(Regex("a+")), end_ids={other})
    for may_end in (False, True, True):
        bits = all_bits(1, VOCAB_SIZE)[0]
        mask.fill(bits)
        assert (allows(bits, eos), allows(bits, other)) == (may_end, may_end)
        mask.accept(tokenizer.encode("a")[0])
    assert not mask.finished


@pytest.mark.parametrize(
    "format",
    [
        JsonSchema('{"enum": ["<|im_end|>", "<|im_end|> and on"]}'),
        JsonSchema('{"const": "<|im_end|>"}'),
        Choice(("<|im_start|>assistant",)),
        Regex(r"<\|im_end\|>x"),
        JsonSchema('{"type": "object", "properties": {"<|im_end|>": {"const": 1}}, "required": ["<|im_end|>"]}'),
    ],
)
def test_text_that_looks_like_a_control_token_is_text(
    compiler: GrammarCompiler, model: PreTrainedModel, format: OutputFormat
) -> None:
    sequence = asked(compiler, 0, format, max_tokens=300)
    (text,), (reason,), _ = run(model, sequence)
    assert "<|im_" in text
    assert all(token_id < 256 or token_id == compiler.tokenizer.eos_token_id for token_id in sequence.output_token_ids)
    if isinstance(format, JsonSchema) and reason is FinishReason.STOP:
        json.loads(text)
