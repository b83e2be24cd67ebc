"""Grammars made to be expensive: each gets its 400 or its answer, and whoever else is served notices nothing."""

import itertools
import json
import string
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from transformers import AutoTokenizer

from hugging_llama.engine.grammars import compiler as compiler_module
from hugging_llama.engine.grammars.compiler import GrammarCompiler
from hugging_llama.engine.grammars.formats import grammar_of
from hugging_llama.engine.grammars.mask import GrammarMask
from hugging_llama.engine.grammars.trial_process import TrialProcess
from hugging_llama.errors import EngineShutdownError, GenerationError, GrammarError, HuggingLlamaError
from hugging_llama.neutral.events import Finished
from hugging_llama.neutral.formats import Choice, JsonSchema, Lark, OutputFormat, Regex
from tests.engine.checkpoints import DEMO
from tests.engine.clients import Clients

WORDS = ["".join(letters) for letters in itertools.islice(itertools.product(string.ascii_lowercase, repeat=4), 5000)]


def schema(**keywords: Any) -> JsonSchema:
    return JsonSchema(json.dumps(keywords))


ANY = {"type": "integer"}
TOO_MUCH: dict[str, OutputFormat] = {
    "a sequence of loops": Lark("start: " + " ".join(["/a+/"] * 1000)),
    "patterns of names": schema(type="object", patternProperties={f"^{w}.*{w[::-1]}$": ANY for w in WORDS[::10]}),
    "a large multiple": schema(type="integer", multipleOf=999_983),
    "patterns at once": schema(type="string", allOf=[{"pattern": word} for word in WORDS[:200]]),
    "terminals that double": Lark("start: T0\nT40: /a/\n" + "\n".join(f"T{i}: T{i + 1} T{i + 1}" for i in range(40))),
    "parentheses": Regex("(" * 30_000),
    "branches of branches": schema(
        allOf=[{"anyOf": [{"properties": {f"p{i}{j}": {"const": j}}} for j in range(4)]} for i in range(8)]
    ),
    "itself": JsonSchema('{"$ref": "#"}'),
    "nested brackets": Lark("root ::= " + "(" * 20_000 + '"a"' + ")" * 20_000),
    "a huge number": schema(type="integer", maximum=10**4000),
}  # fmt: skip
BEARABLE: dict[str, OutputFormat] = {
    "repetitions": Regex("((a{1,1000}){1,1000}){1,1000}"),
    "ambiguity": Lark('start: e\ne: e e | "a" | ""'),
    "states": Regex("[ab]*a[ab]{30}"),
    "letters": Regex(r"\w{5000}"),
    "length": schema(type="string", maxLength=10**7),
    "items": schema(type="array", minItems=10**9),
    "a choice": Choice(tuple(WORDS[:4096])),
    "optional properties": schema(type="object", properties={w: {} for w in WORDS[:600]}),
    "an enumeration": schema(enum=WORDS),
    "formats": schema(type="object", properties={word: {"format": "date-time"} for word in WORDS[:200]}),
}  # fmt: skip


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    found = Clients()
    yield found
    found.engine.close()


def test_bombs_beside_a_running_stream(clients: Clients) -> None:
    """The error of each, or some of its text; the stream beside them says what it says alone."""
    sampling = {"max_tokens": 400, "temperature": 1.0, "seed": 3}
    alone = clients.text(clients.send("a long story", sampling=sampling))
    running = clients.send("a long story", sampling=sampling)
    keys = {
        name: clients.send("x", format=format, sampling={"max_tokens": 5})
        for name, format in {**TOO_MUCH, **BEARABLE}.items()
    }
    ends = {name: clients.answers(key)[-1] for name, key in keys.items()}
    assert clients.text(running) == alone
    refused = {name for name, end in ends.items() if isinstance(end, GrammarError)}
    assert refused == set(TOO_MUCH)
    assert {name: ends[name] for name in BEARABLE if not isinstance(ends[name], Finished)} == {}
    assert all(len(str(ends[name])) < 600 for name in TOO_MUCH)
    assert clients.text(clients.send("x", format=Choice(("still there",)))) == "still there"


def test_what_becomes_too_complex_ends_alone(clients: Clients) -> None:
    """Each token of such an answer has more readings than the one before."""
    sampling = {"max_tokens": 400, "temperature": 0.0}
    other = clients.send("x", format=Choice(("fine",)))
    key = clients.send("x", format=Lark('start: (("a"{1,1000}){1,1000}){1,1000}'), sampling=sampling)
    end = clients.answers(key)[-1]
    assert isinstance(end, GrammarError), "it is what was asked for that is at fault"
    assert "too complex" in str(end)
    assert clients.text(other) == "fine"


def test_a_trial_survives_what_it_tries() -> None:
    trial = TrialProcess(300, {"<end>": 299})
    fine = grammar_of(Lark('start: "a" <[299]>'))
    assert trial.run(fine) > 0
    with pytest.raises(GrammarError, match="too long"):
        trial.run(grammar_of(TOO_MUCH["a sequence of loops"]))
    with pytest.raises(GrammarError, match=r"memory|too long"):  # which comes first is the machine's to say
        trial.run(grammar_of(TOO_MUCH["a large multiple"]))
    assert trial.run(fine) > 0
    assert trial.run("no grammar at all") > 0, "what makes no sense is the compiler's to tell"
    trial.close()
    with pytest.raises(EngineShutdownError):
        trial.run(fine)


def test_a_trial_ends_for_its_memory() -> None:
    """Of a process of its own, as the limit is for all that it maps; its clock is no matter here."""
    program = (
        "import sys\n"
        "from hugging_llama.engine.grammars import trial_worker\n"
        "trial_worker.LONGEST_COMPILATION_S = 300.0\n"
        "print(trial_worker.tried(trial_worker.vocabulary_of(300, {'<end>': 299}), sys.argv[1]))\n"
    )
    grammar = grammar_of(TOO_MUCH["a large multiple"])
    answer = subprocess.run([sys.executable, "-c", program, grammar], capture_output=True, text=True, check=True)
    assert "too much memory" in answer.stdout


def test_a_trial_that_was_killed_is_started_again() -> None:
    trial = TrialProcess(300, {})
    fine = grammar_of(Regex("a"))
    trial.run(fine)
    assert trial._process is not None
    trial._process.kill()
    trial._process.wait()
    assert trial.run(fine) > 0
    trial.close()


def test_what_is_kept_is_bounded_by_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = GrammarCompiler(AutoTokenizer.from_pretrained(DEMO), width=2048, eos_token_ids={2})
    monkeypatch.setattr(compiler_module, "_MAX_COMPILED", 4)
    for number in range(6):
        compiler.matcher(grammar_of(Regex(f"{number}")))
    assert len(compiler._compiled) == 4
    large = grammar_of(schema(type="integer", multipleOf=9973))
    compiler.matcher(large)
    most = compiler._compiled[large][1]
    assert most > 10 * compiler._compiled[grammar_of(Regex("5"))][1]
    monkeypatch.setattr(compiler_module, "MOST_CACHED_BYTES", most + 1000)
    compiler.matcher(grammar_of(Regex("x")))
    assert large not in compiler._compiled
    assert compiler._cached_bytes() <= most
    compiler.close()


def test_a_mask_that_fails_is_one_answers_error() -> None:
    compiler = GrammarCompiler(AutoTokenizer.from_pretrained(DEMO), width=2048, eos_token_ids={2})
    mask = GrammarMask(compiler, grammar_of(Choice(("yes",))))
    with pytest.raises(GenerationError, match="left its grammar"):
        mask.accept(compiler.tokenizer.encode("no")[0])
    compiler.close()
    assert issubclass(GenerationError, HuggingLlamaError)


@pytest.mark.parametrize(
    ("format", "fault"),
    [
        (Lark("root ::= " + "(" * 5000 + '"a"' + ")" * 5000), "it is nested too deep"),
        (Lark('root ::= "\\'), "it ends in the middle of an escape"),
        (Lark('root ::= "a'), "Unexpected end of input at line 1"),
        (schema(type="integer", minimum=-(10**300)), "it holds a whole number of more than 64 bits"),
        (schema(enum=[{"a": [2**64]}]), "it holds a whole number of more than 64 bits"),
    ],
    ids=["depth", "escape", "end", "bound", "value"],
)
def test_what_is_wrong_is_said_in_words_of_the_format(format: OutputFormat, fault: str) -> None:
    with pytest.raises(GrammarError, match=fault):
        grammar_of(format)
