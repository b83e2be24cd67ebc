"""Classification heads: the scores of transformers and of CrossEncoder.predict, whoever shares the batch."""

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from hugging_llama.engine.classification import ClassificationHead
from hugging_llama.engine.loader import Checkpoint, Loader, ModelKind
from hugging_llama.errors import ContextLengthError, GenerationError, InvalidRequestError
from hugging_llama.ipc.facade import Answer
from hugging_llama.neutral.classification import Activation, ProblemType
from hugging_llama.neutral.events import Classified
from hugging_llama_config.settings import Settings
from tests.engine.checkpoints import edit_json
from tests.engine.classifier_files import (
    CONFIGS,
    CONTEXT,
    DECODERS,
    make_causal_reranker,
    make_classifier,
    make_cross_encoder,
)
from tests.engine.embedding_clients import EmbeddingClient, Gate

PAIRS = [
    ("a query", "doc"),
    ("q", "a document that is longer than all the others, and by far"),
    ("", "x"),
    ("Grüße", "日本語のテキスト"),
    ("short", "y" * 300),
    ("z" * 300, "short"),
    ("z" * 300, "y" * 300),
    ("a query", "cod"),
]
TEXTS = ["a", "a longer text that decides the width of the batch", "Grüße, 日本", "y" * 300]


def load(folder: Path, quantization: str = "") -> Checkpoint:
    return Loader(Settings(device="cpu")).load(str(folder), quantization)


def classified(checkpoint: Checkpoint, inputs: Any, **options: Any) -> Any:
    """The runner's scores, and those of all inputs padded into one batch, which must be the same."""
    client = EmbeddingClient(checkpoint)
    answer = client.classify(inputs, **options)
    client.runner.close()
    scores = np.array(answer.scores)
    if not options:
        head = ClassificationHead(checkpoint)
        rows = head.tokenizer.rows(inputs, limit=head.longest, truncate=True)
        with torch.inference_mode():
            assert np.abs(scores - head.forward(rows).numpy()).max() < 1e-5
        assert answer.num_prompt_tokens == sum(row.length for row in rows)
    return scores


def predicted(folder: Path, pairs: Any, limit: int) -> Any:
    """The library's logits, one pair at a time: no padding at all."""
    library = CrossEncoder(str(folder), device="cpu", max_length=limit, activation_fn=torch.nn.Identity())
    return library.predict(pairs, batch_size=1, show_progress_bar=False).reshape(len(pairs), -1)


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_pairs_equal_the_librarys(tmp_path: Path, family: str) -> None:
    folder = make_classifier(tmp_path, family)
    checkpoint = load(folder)
    assert checkpoint.kind is ModelKind.CLASSIFICATION
    if family != "xlnet":
        assert checkpoint.trained_context == CONTEXT
    # xlnet reads the last place of a row: what padding would change is computed without any
    assert ClassificationHead(checkpoint).bears_padding == (family != "xlnet")
    expected = predicted(folder, PAIRS, checkpoint.trained_context)
    assert np.abs(classified(checkpoint, PAIRS) - expected).max() < 1e-5
    assert np.std(expected) > 0.1


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_texts_equal_those_of_transformers(tmp_path: Path, family: str) -> None:
    folder = make_classifier(tmp_path, family, num_labels=3)
    checkpoint = load(folder)
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        rows = (tokenizer(t, truncation=True, max_length=CONTEXT, return_tensors="pt") for t in TEXTS)
        expected = torch.cat([model(**row).logits for row in rows]).numpy()
    found = classified(checkpoint, TEXTS, context_length=CONTEXT)
    assert found.shape == (len(TEXTS), 3)
    assert np.abs(found - expected).max() < 1e-5
    assert np.std(expected) > 0.1


@pytest.mark.parametrize("family", DECODERS)
def test_a_decoder_without_a_padding_token_reads_the_last_token(tmp_path: Path, family: str) -> None:
    folder = make_classifier(tmp_path, family, pad_token_id=None)
    checkpoint = load(folder)
    pairs = [("a", ending) for ending in ("!", '"', "#", "!!!!!!!!", "<|endoftext|>")]
    assert np.abs(classified(checkpoint, pairs) - predicted(folder, pairs, CONTEXT)).max() < 1e-5
    assert ClassificationHead(checkpoint).bears_padding


def test_a_decoders_padding_token_at_the_end_of_a_text_is_none(tmp_path: Path) -> None:
    folder = make_classifier(tmp_path, "qwen2")
    pairs = [("a", "b<|endoftext|>"), ("a", "b"), ("a", "a longer one<|endoftext|><|endoftext|>")]
    expected = predicted(folder, pairs, CONTEXT)
    assert np.abs(classified(load(folder), pairs) - expected).max() < 1e-5


@pytest.mark.parametrize(
    "make", [make_cross_encoder, make_causal_reranker, lambda folder: make_causal_reranker(folder, template=None)]
)
def test_what_the_library_has_saved(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    folder = make(tmp_path)
    checkpoint = load(folder)
    expected = predicted(folder, PAIRS, checkpoint.trained_context)
    assert ClassificationHead(checkpoint).bears_padding
    assert np.abs(classified(checkpoint, PAIRS) - expected).max() < 2e-5
    assert np.std(expected) > 0.1


def test_settings_of_its_own_for_the_tokenizer(tmp_path: Path) -> None:
    folder = make_cross_encoder(tmp_path)
    own = {"text": {"truncation": "only_second", "max_length": 48}}
    edit_json(folder / "sentence_bert_config.json", processing_kwargs=own)
    checkpoint = load(folder)
    assert checkpoint.trained_context == 48
    pairs = PAIRS[:5]
    library = CrossEncoder(str(folder), device="cpu", activation_fn=torch.nn.Identity())
    expected = library.predict(pairs, batch_size=1, show_progress_bar=False).reshape(-1, 1)
    assert np.abs(classified(checkpoint, pairs) - expected).max() < 1e-5
    client = EmbeddingClient(checkpoint)
    assert client.classify(pairs[:1]).num_truncated_tokens == 0
    assert client.classify([("short", "y" * 300)]).num_truncated_tokens == 308 - 48
    with pytest.raises(InvalidRequestError, match="cannot be truncated further"):
        client.send_inputs(1, [("z" * 300, "short")])
    client.runner.close()


def test_the_default_prompt_stands_before_the_query(tmp_path: Path) -> None:
    options: dict[str, Any] = {"prompts": {"search": "find: "}, "default_prompt_name": "search"}
    folder = make_cross_encoder(tmp_path, **options)
    checkpoint = load(folder)
    expected = predicted(folder, PAIRS[:2], CONTEXT)
    assert np.abs(classified(checkpoint, PAIRS[:2]) - expected).max() < 1e-5
    prompted = [(f"find: {query}", document) for query, document in PAIRS[:2]]
    bare = predicted(tmp_path / "source", prompted, CONTEXT)
    assert np.abs(expected - bare).max() < 1e-5


def test_truncation(tmp_path: Path) -> None:
    checkpoint = load(make_classifier(tmp_path))
    client = EmbeddingClient(checkpoint)
    long: Any = [("z" * 300, "y" * 300)]
    assert client.classify(long).num_prompt_tokens == CONTEXT
    assert client.classify(["short", *long, "x" * 300]).num_truncated_tokens == 603 - CONTEXT
    assert client.classify(["short", ("z", "y")]).num_truncated_tokens == 0
    assert client.classify(long, context_length=20).num_prompt_tokens == 20
    assert client.classify(long, context_length=20).num_truncated_tokens == 583
    assert client.classify(long, context_length=10**9).num_prompt_tokens == CONTEXT
    for inputs, count in ((long, 603), (["x" * 300], 302)):
        with pytest.raises(ContextLengthError) as caught:
            client.send_inputs(1, ["ok", *inputs], truncate=False)
        assert caught.value.facts == {"num_prompt_tokens": count, "limit": CONTEXT}
    for inputs in (long, ["x" * 300]):
        with pytest.raises(InvalidRequestError, match="cannot be truncated further"):
            client.send_inputs(1, inputs, context_length=1)
    client.runner.close()


def test_what_is_no_text(tmp_path: Path) -> None:
    client = EmbeddingClient(load(make_classifier(tmp_path, "llama")))
    cases: list[tuple[Any, str]] = [
        ([("a", "\ud800")], "Unicode"), ([("", "")], "empty text"), ([], "no text to classify"),
    ]  # fmt: skip
    for inputs, text in cases:
        with pytest.raises(InvalidRequestError, match=text):
            client.send_inputs(1, inputs)
    client.runner.close()


def test_tokens_that_the_model_has_no_row_for(tmp_path: Path) -> None:
    """On a GPU they would be the end of the engine."""
    client = EmbeddingClient(load(make_classifier(tmp_path, "llama", vocab_size=256)))
    assert client.classify(["a", ("a", "b")]).labels == ("LABEL_0",)
    inputs: list[Any] = ["a<|im_end|>", ("a", "<|im_end|>"), (256,)]
    for value in inputs:
        with pytest.raises(InvalidRequestError, match="this model does not have"):
            client.send_inputs(1, [value])
    client.runner.close()


def test_texts_and_pairs_of_all_clients_share_batches(tmp_path: Path) -> None:
    folder = make_classifier(tmp_path)
    checkpoint = load(folder)
    inputs: list[Any] = [*PAIRS, *TEXTS, *(("query", f"number {n} {'x ' * (n % 7)}") for n in range(33))]
    expected = [classified(checkpoint, [value])[0] for value in inputs]
    gate = Gate()
    client = EmbeddingClient(checkpoint, gate, max_batched_tokens=2048)
    first = client.send_inputs(len(inputs), ["taken alone"])
    assert gate.reached.wait(60)
    keys = [client.send_inputs(number, [value, inputs[0]]) for number, value in enumerate(inputs)]
    gate.opened.set()
    answers = client.receive(len(keys) + 1)
    stats = client.runner.stats()
    client.runner.close()
    for number, key in enumerate(keys):
        answer = answers[key]
        assert isinstance(answer, Classified)
        assert np.abs(np.array(answer.scores) - [expected[number], expected[0]]).max() < 1e-5
    assert sorted(client.finished) == [*keys, first]
    assert stats.max_batch_size > 16
    assert stats.steps_total < len(inputs) / 2


def test_a_cancelled_request_is_dropped_between_batches(tmp_path: Path) -> None:
    gate = Gate()
    client = EmbeddingClient(load(make_classifier(tmp_path)), gate, max_batched_tokens=96)
    dropped = client.send_inputs(1, [("query", "document")] * 640)
    kept = client.send_inputs(2, [("query", "document")])
    client.runner.cancel(dropped)
    assert client.finished == [dropped]
    gate.opened.set()
    assert client.answers.get(timeout=60)[0] == kept
    client.runner.close()
    assert client.answers.empty()
    assert client.runner.stats().cancelled_total == 1
    assert client.runner.stats().steps_total <= 3


def _one_bad_among_good(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Any, Any], None]
) -> tuple[Answer, list[Answer]]:
    """The answers to a request that `harm` is done to, and to two that share its batch."""
    model = checkpoint.model.model
    forward, gate = model.forward, Gate()
    client = EmbeddingClient(checkpoint, gate)  # before the harm: it computes a little, too
    code = checkpoint.tokenizer("%", add_special_tokens=False).input_ids[0]

    def poisoned(input_ids: Any, **options: Any) -> Any:
        out = forward(input_ids=input_ids, **options)
        rows = (input_ids == code).any(dim=1)
        if rows.any():
            harm(out.logits, rows)
        return out

    poisoned.__signature__ = inspect.signature(forward)  # type: ignore[attr-defined]
    monkeypatch.setattr(model, "forward", poisoned)
    client.send_inputs(9, ["taken alone"])
    assert gate.reached.wait(60)
    requests: list[Any] = [["hello"] * 5, [("a", "%")], ["world"] * 4]
    keys = [client.send_inputs(number, inputs) for number, inputs in enumerate(requests)]
    gate.opened.set()
    answers = client.receive(4)
    client.runner.close()
    assert len(client.finished) == 4
    return answers[keys[1]], [answers[keys[0]], answers[keys[2]]]


def test_numbers_that_are_none_fail_their_request_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def harm(logits: Any, rows: Any) -> None:
        logits[rows] = float("nan")

    bad, good = _one_bad_among_good(load(make_classifier(tmp_path)), monkeypatch, harm)
    assert isinstance(bad, InvalidRequestError)
    assert bad.message == "the scores contain NaN or Inf values"
    assert all(isinstance(answer, Classified) for answer in good)


def test_one_request_that_fails_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def harm(logits: Any, rows: Any) -> None:
        raise RuntimeError("secret")

    bad, good = _one_bad_among_good(load(make_classifier(tmp_path)), monkeypatch, harm)
    assert isinstance(bad, GenerationError)
    assert "secret" not in bad.message
    assert all(isinstance(answer, Classified) for answer in good)


def test_labels_activation_and_problem_type(tmp_path: Path) -> None:
    labels = {0: "sad", 1: "happy", 2: "Grüße"}
    folder = make_classifier(tmp_path / "plain", id2label=labels, problem_type="multi_label_classification")
    client = EmbeddingClient(load(folder))
    answer = client.classify(["a"])
    client.runner.close()
    assert answer.labels == ("sad", "happy", "Grüße")
    assert (answer.activation, answer.problem_type) == (None, ProblemType.MULTI_LABEL)
    edit_json(folder / "config.json", sentence_transformers={"activation_fn": "torch.nn.modules.linear.Identity"})
    assert load(folder).model.activation is Activation.IDENTITY
    saved = make_cross_encoder(tmp_path / "saved", activation_fn=torch.nn.Tanh())
    assert load(saved).model.activation is Activation.TANH


def test_a_quantised_classifier(tmp_path: Path) -> None:
    folder = make_classifier(tmp_path)
    small = load(folder, "int8")
    assert small.quantization == "int8"
    exact, rounded = (classified(checkpoint, PAIRS, context_length=CONTEXT) for checkpoint in (load(folder), small))
    assert 0 < np.abs(exact - rounded).max() < 1


def test_the_activation_that_files_name_is_never_called(tmp_path: Path) -> None:
    """This one would raise: the library calls whatever in torch has this name."""
    folder = make_cross_encoder(tmp_path)
    file = folder / "config_sentence_transformers.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"activation_fn": "torch.distributed.get_rank"}))
    with pytest.raises(ValueError, match="process group"):
        CrossEncoder(str(folder), device="cpu")
    assert load(folder).model.activation is None
