"""What becomes of every field of every request, found out by sending it.

A field is `refused` if the answer is an error that names it, `ignored` if the header says so, `honoured` if what
reaches the engine, or the answer, is another one than without it. Anything else would be a field that is dropped in
silence.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient
from marshmallow import Schema

import hugging_llama
from hugging_llama import create_app
from hugging_llama.dialects.anthropic import body as anthropic
from hugging_llama.dialects.body_fields import BodyField, Ignored, Refused
from hugging_llama.dialects.ollama import (
    chat,
    copy,
    create,
    delete,
    detokenize,
    embed,
    embeddings,
    generate,
    options,
    pull,
    push,
    rerank,
    show,
    tokenize,
)
from hugging_llama.dialects.openai import chat as openai_chat
from hugging_llama.dialects.openai import classify as openai_classify
from hugging_llama.dialects.openai import completions as openai_completions
from hugging_llama.dialects.openai import embeddings as openai_embeddings
from hugging_llama.dialects.openai import rerank as openai_rerank
from hugging_llama.dialects.openai.responses.schema import ResponsesSchema
from hugging_llama.neutral.events import Finished, FinishReason, GenerateEvent, TextDelta, TokenLogprob, Usage
from hugging_llama.neutral.requests import GenerateRequest
from hugging_llama.testing import ScriptedEngine
from hugging_llama_config.env import load_settings
from tests.engine.classifier_files import make_classifier
from tests.hub_cache import MINILM, add_to_hub_cache, minilm_files
from tests.hub_server import GOOD_TOKEN, Repo, StandInHub

DEMO = "hugging-llama/demo"
DEMO_FILES = Path(hugging_llama.__file__).parent / "demo_model"
HI = [{"role": "user", "content": "Hi"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
FLAT_TOOL = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}
ANTHROPIC_TOOL = {"name": "f", "input_schema": {"type": "object", "properties": {}}}
ON_THE_HUB = "acme/tiny"
PUSHED = "acme/pushed"
FILLER = "filler"
RERANKER = "acme/reranker"

STREAM = {"stream": False}
SILENT = "dropped in silence"
DECIDING = frozenset(
    {"model", "name", "source", "destination", "trust_remote_code", "requires", "previous_response_id"}
)
"""Fields that are honoured by an error, too: that there is no such model, or that the operator does not allow it."""
REFUSALS: Mapping[str, str] = {"images": "does not support vision"}


@dataclass(frozen=True)
class Endpoint:
    """A request that is fine, and values by field that differ from what is meant without them.

    `with_` is what else a field needs to have an effect.
    """

    dialect: str
    path: str
    schema: type[Schema]
    base: Mapping[str, Any]
    values: Mapping[str, Any]
    with_: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    method: str = "POST"

    @property
    def fields(self) -> dict[str, BodyField]:
        """Those of the schema, as they are sent."""
        return {f.data_key or name: f for name, f in self.schema().fields.items() if isinstance(f, BodyField)}


@dataclass(frozen=True)
class Fate:
    """What became of a field, and why if it was not honoured."""

    name: str
    verdict: str
    why: str = ""


def scripted_engine() -> ScriptedEngine:
    def answer(request: GenerateRequest) -> Iterator[GenerateEvent]:
        asked = request.sampling.top_logprobs
        entries = () if asked is None else (TokenLogprob(b"a", -0.5, (TokenLogprob(b"b", -1.0),) * asked),)
        yield TextDelta("Hello", entries)
        yield Finished(reason=FinishReason.STOP, usage=Usage(num_prompt_tokens=1, num_output_tokens=1))

    return ScriptedEngine(generate=answer)


@dataclass(frozen=True)
class World:
    """The application, the engine behind it, and the Hub."""

    client: FlaskClient
    engine: ScriptedEngine
    hub: StandInHub


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """An application with the demo model and MiniLM, beside a Hub that has one repository."""
    cache = folder / "hub"
    add_to_hub_cache(cache, MINILM, minilm_files())
    add_to_hub_cache(cache, RERANKER, make_classifier(folder / "reranker"))
    with StandInHub() as hub:
        files = {
            path.name: path.read_bytes() for path in DEMO_FILES.iterdir() if path.suffix in (".json", ".safetensors")
        }
        hub.repos[ON_THE_HUB] = Repo(files)
        environ = {
            "HOME": str(folder),
            "HF_HUB_CACHE": str(cache),
            "HF_ENDPOINT": hub.endpoint,
            "HF_TOKEN": GOOD_TOKEN,
            "HUGGING_LLAMA_RUN_DIR": str(folder / "run"),
        }
        engine = scripted_engine()
        client = create_app(load_settings(environ=environ), engine=engine).test_client()
        client.post("/api/create", json={"model": PUSHED, "from": DEMO, **STREAM})
        template = "{{ .Prompt }} [fill] {{ .Suffix }}"
        client.post("/api/create", json={"model": FILLER, "from": DEMO, "template": template, **STREAM})
        yield World(client, engine, hub)


def fates(world: World, endpoint: Endpoint) -> list[Fate]:
    """Of every field of an endpoint."""
    return [fate(world, endpoint, name, known) for name, known in endpoint.fields.items()]


def fate(world: World, endpoint: Endpoint, name: str, known: BodyField) -> Fate:
    """Of one field."""
    more = endpoint.with_.get(name, {})
    without = {key: value for key, value in {**endpoint.base, **more}.items() if key != name}
    plain = seen(world, endpoint, without)
    given = seen(world, endpoint, {**without, name: endpoint.values[name]})
    if name in given.ignored:
        return Fate(name, "ignored", known.why if isinstance(known, Ignored) else "")
    if name in DECIDING and given != plain:
        return Fate(name, "honoured")
    says = REFUSALS.get(name, rf"\b{re.escape(name)}\b")
    if given.error and not plain.error and re.search(says, given.error + given.param):
        return Fate(name, "refused", known.why if isinstance(known, Refused) else given.error)
    if replace(given, ignored=plain.ignored) != plain and not given.error:
        return Fate(name, "honoured")
    if any(said.startswith(f"{name}.") for said in given.ignored):
        return Fate(name, "ignored", "nothing that it may hold has an effect")
    return Fate(name, SILENT, given.error)


@dataclass(frozen=True)
class Seen:
    """What a request did, without what differs each time."""

    error: str
    param: str
    body: str
    asked: tuple[str, ...]
    made: str
    ignored: frozenset[str]


def seen(world: World, endpoint: Endpoint, body: Mapping[str, Any]) -> Seen:
    world.engine.requests.clear()
    response = world.client.open(endpoint.path, method=endpoint.method, json=dict(body))
    asked = tuple(map(repr, world.engine.requests))
    error = response.get_json()["error"] if response.status_code >= 400 else ""
    message, param = (error["message"], error.get("param") or "") if isinstance(error, dict) else (error, "")
    ignored = response.headers.get("X-Ignored-Fields", "")
    made = ""
    if endpoint.path == "/api/create":
        made = world.client.post("/api/show", json={"model": "mine"}).text
        world.client.delete("/api/delete", json={"model": "mine"})
    elif endpoint.path == "/api/push":
        made = str(getattr(world.hub.repos.pop(PUSHED, None), "access", None))
    return Seen(
        message, param, _settled(response.text), asked, _settled(made), frozenset(filter(None, ignored.split(", ")))
    )


_CHANGING = re.compile(
    r'"(?:id|request_id|created_at|completed_at|created|created_at|modified_at|total_duration|load_duration|eval_duration|prompt_eval_duration)"'
    r":(?:\"[^\"]*\"|[0-9.e+-]+)"
)


def _settled(text: str) -> str:
    return _CHANGING.sub("", text)


OPTION_VALUES: Mapping[str, Any] = {
    "logit_bias": {"1": 2.0}, "bad_words": ["no"], "bad_words_ids": [[1]], "suppress_tokens": [1],
    "begin_suppress_tokens": [1], "stop": ["x"], "stop_strings": ["x"], "do_sample": False, "early_stopping": True,
    "use_mmap": True, "use_cache": True, "min_p": 0.5, "top_h": 0.5, "epsilon_cutoff": 0.5, "eta_cutoff": 0.5,
    "temperature": 0.5, "top_p": 0.5, "typical_p": 0.5,
}  # fmt: skip


def option_fates(world: World) -> list[Fate]:
    """Of every option of /api/generate."""
    found = []
    for name in (*options.OPTIONS, *options.WITHOUT_EFFECT, *options.REFUSED):
        value = OPTION_VALUES.get(name, [[7]] if name in options.REFUSED else 7)
        endpoint = GENERATE
        plain = seen(world, endpoint, endpoint.base)
        given = seen(world, endpoint, {**endpoint.base, "options": {name: value}})
        if f"options.{name}" in given.ignored:
            found.append(Fate(name, "ignored", "where and how a model runs is the server's choice"))
        elif given.error and f'"{name}"' in given.error:
            found.append(Fate(name, "refused", given.error))
        else:
            found.append(Fate(name, "honoured" if given != plain and not given.error else SILENT, given.error))
    return found


GENERATE = Endpoint(
    "Ollama", "/api/generate", generate.GenerateSchema, {"model": DEMO, "prompt": "Hi", **STREAM},
    {
        "model": MINILM, "prompt": "Ho", "suffix": "b", "system": "s", "template": "{{ .Prompt }}", "context": [1],
        "stream": False, "raw": True, "format": "json", "structured_outputs": {"regex": "a"}, "keep_alive": "1m",
        "images": ["aGk="], "options": {"seed": 1}, "think": False, "truncate": False, "shift": False, "logprobs": True,
        "top_logprobs": 2, "_debug_render_only": True, "progress": True, "width": 1, "height": 1, "steps": 1,
    },
    {"suffix": {"model": FILLER}, "progress": {"stream": True}},
)  # fmt: skip
NEEDS_TOOL = {"tools": [TOOL]}
OPENAI_SAMPLING = {
    "model": MINILM, "temperature": 0.5, "top_p": 0.5, "max_tokens": 5, "n": 2, "stop": "x", "seed": 1,
    "presence_penalty": 0.5, "frequency_penalty": 0.5, "logit_bias": {"1": 2}, "stream": True,
    "stream_options": {"include_usage": True}, "user": "me", "top_k": 5, "min_p": 0.5, "repetition_penalty": 1.5,
    "min_tokens": 2, "structured_outputs": {"regex": "a"}, "thinking_budget": 5, "progress": True,
}  # fmt: skip
ANTHROPIC = {
    "model": MINILM, "messages": [{"role": "user", "content": "Ho"}], "system": "s", "tools": [ANTHROPIC_TOOL],
    "tool_choice": {"type": "none"}, "thinking": {"type": "disabled"}, "output_config": {"effort": "low"},
    "output_format": {"type": "json_schema", "schema": {"type": "object"}},
    "cache_control": {"type": "ephemeral"}, "context_management": {"edits": []}, "mcp_servers": [{"url": "x"}],
    "speed": "fast", "betas": ["x"], "user_profile_id": "x", "workspace_id": "x",
}  # fmt: skip
ENDPOINTS = (
    GENERATE,
    Endpoint(
        "Ollama", "/api/chat", chat.ChatSchema, {"model": DEMO, "messages": HI, **STREAM},
        {
            "model": MINILM, "messages": [{"role": "user", "content": "Ho"}], "tools": [TOOL],
            "tool_choice": "required", "parallel_tool_calls": False,
            "stream": False, "format": "json", "structured_outputs": {"regex": "a"},
            "keep_alive": "1m", "options": {"seed": 1}, "think": False, "truncate": False, "shift": False,
            "logprobs": True, "top_logprobs": 2, "_debug_render_only": True, "progress": True,
        },
        with_={"tool_choice": NEEDS_TOOL, "parallel_tool_calls": NEEDS_TOOL, "progress": {"stream": True}},
    ),
    Endpoint(
        "Ollama", "/api/embed", embed.EmbedSchema, {"model": MINILM, "input": "Hi"},
        {
            "model": DEMO, "input": "Ho", "truncate": False, "dimensions": 1, "keep_alive": "1m",
            "options": {"num_ctx": 5},
        },
    ),
    Endpoint(
        "Ollama", "/api/embeddings", embeddings.EmbeddingsSchema, {"model": MINILM, "prompt": "Hi"},
        {"model": DEMO, "prompt": "Ho", "keep_alive": "1m", "options": {"num_ctx": 5}},
    ),
    Endpoint(
        "Ollama", "/api/rerank", rerank.RerankSchema, {"model": RERANKER, "query": "q", "documents": ["a", "b"]},
        {
            "model": DEMO, "query": "r", "documents": ["a"], "top_n": 1, "truncate": False, "keep_alive": "1m",
            "options": {"num_ctx": 5},
        },
    ),
    Endpoint(
        "Ollama", "/api/tokenize", tokenize.TokenizeSchema, {"model": DEMO, "content": "Hi"},
        {
            "model": MINILM, "content": "Ho", "prompt": "Ho", "add_special_tokens": False, "keep_alive": "1m",
            "messages": HI, "tools": [TOOL], "think": False, "template": "{{ .Prompt }}",
        },
        with_={name: {"messages": HI, "content": None} for name in ("tools", "think", "template")}
        | {name: {"content": None} for name in ("prompt", "messages")},
    ),
    Endpoint(
        "Ollama", "/api/detokenize", detokenize.DetokenizeSchema, {"model": DEMO, "tokens": [65]},
        {"model": MINILM, "tokens": [66], "keep_alive": "1m"},
    ),
    Endpoint(
        "Ollama", "/api/show", show.ShowSchema, {"model": DEMO},
        {
            "model": MINILM, "name": MINILM, "verbose": True, "system": "s", "template": "t",
            "options": {"num_ctx": 50}, "remote": True,
        },
        with_={"name": {"model": ""}, "remote": {"model": ON_THE_HUB}},
    ),
    Endpoint(
        "Ollama", "/api/create", create.CreateSchema, {"model": "mine", "from": DEMO, **STREAM},
        {
            "model": "other", "name": "mine", "from": MINILM, "files": {"a": "b"}, "adapters": 5, "quantize": "int8",
            "quantization": "int8", "parameters": {"seed": 1}, "template": "{{ .Prompt }}", "system": "s",
            "license": "l",
            "messages": HI, "requires": "99.0.0", "stream": False, "renderer": "x", "parser": "x", "info": {"a": 1},
            "draft_files": {"a": "b"}, "draft_quantize": "x", "remote_host": "x", "modelfile": "FROM x", "path": "x",
        },
        with_={"name": {"model": ""}},
    ),
    Endpoint(
        "Ollama", "/api/copy", copy.CopySchema, {"source": DEMO, "destination": "other"},
        {"source": "nobody/none", "destination": "/"},
    ),
    Endpoint(
        "Ollama", "/api/delete", delete.DeleteSchema, {"model": "nobody/none"},
        {"model": "nobody/other", "name": "nobody/other"}, with_={"name": {"model": ""}},
        method="DELETE",
    ),
    Endpoint(
        "Ollama", "/api/pull", pull.PullSchema, {"model": ON_THE_HUB, **STREAM},
        {
            "model": "acme/none", "name": ON_THE_HUB, "revision": "nowhere", "trust_remote_code": True,
            "insecure": True, "stream": False, "username": "x", "password": "x",
        }, {"name": {"model": ""}},
    ),
    Endpoint(
        "Ollama", "/api/push", push.PushSchema, {"model": PUSHED, **STREAM},
        {
            "model": "nobody/other", "name": PUSHED, "insecure": True, "stream": False, "private": True,
            "username": "x", "password": "x",
        }, {"name": {"model": ""}},
    ),
    Endpoint(
        "OpenAI", "/v1/chat/completions", openai_chat.ChatSchema, {"model": DEMO, "messages": HI},
        {
            **OPENAI_SAMPLING, "messages": [{"role": "user", "content": "Ho"}], "tools": [TOOL],
            "tool_choice": "required", "parallel_tool_calls": False, "response_format": {"type": "json_object"},
            "max_completion_tokens": 5, "logprobs": True, "top_logprobs": 2, "reasoning_effort": "none",
            "reasoning": {"effort": "none"}, "modalities": ["audio"], "continue_final_message": True,
            "audio": {"voice": "x"}, "functions": [{}],
            "function_call": "auto", "web_search_options": {"a": 1}, "moderation": {"a": 1}, "prediction": {"a": 1},
            "verbosity": "low", "store": True, "metadata": {"a": "b"}, "service_tier": "flex", "prompt_cache_key": "x",
            "prompt_cache_retention": "24h", "prompt_cache_options": {"a": 1}, "safety_identifier": "x",
        },
        with_={
            "tool_choice": NEEDS_TOOL, "parallel_tool_calls": NEEDS_TOOL, "top_logprobs": {"logprobs": True},
            "continue_final_message": {"messages": [*HI, {"role": "assistant", "content": "Well"}]},
            "stream_options": {"stream": True}, "progress": {"stream": True},
        },
    ),
    Endpoint(
        "OpenAI", "/v1/completions", openai_completions.CompletionSchema, {"model": DEMO, "prompt": "Hi"},
        {**OPENAI_SAMPLING, "prompt": "Ho", "suffix": "b", "echo": True, "logprobs": 2, "best_of": 2},
        with_={"stream_options": {"stream": True}, "progress": {"stream": True}, "suffix": {"model": FILLER}},
    ),
    Endpoint(
        "OpenAI", "/v1/responses", ResponsesSchema, {"model": DEMO, "input": "Hi"},
        {
            **OPENAI_SAMPLING, "input": "Ho", "instructions": "s", "max_output_tokens": 5, "max_tool_calls": 1,
            "top_logprobs": 2, "include": ["message.output_text.logprobs"], "reasoning": {"effort": "none"},
            "text": {"format": {"type": "json_object"}}, "tools": [FLAT_TOOL], "tool_choice": "required",
            "parallel_tool_calls": False, "truncation": "auto", "store": False, "previous_response_id": "resp_none",
            "metadata": {"a": "b"}, "safety_identifier": "x", "prompt_cache_key": "x", "prompt_cache_options": {"a": 1},
            "prompt_cache_retention": "24h", "service_tier": "flex", "background": True, "conversation": "x",
            "prompt": {"id": "x"}, "context_management": [{"a": 1}], "moderation": {"a": 1},
            "stream_options": {"include_obfuscation": True}, "background_options": {"a": 1},
            "access_programs": {"a": 1}, "image": {"a": 1},
        },
        with_={
            "tool_choice": {"tools": [FLAT_TOOL]}, "parallel_tool_calls": {"tools": [FLAT_TOOL]},
            "stream_options": {"stream": True}, "progress": {"stream": True},
        },
    ),
    Endpoint(
        "OpenAI", "/v1/embeddings", openai_embeddings.EmbeddingsSchema, {"model": MINILM, "input": "Hi"},
        {"model": DEMO, "input": "Ho", "encoding_format": "base64", "dimensions": 1, "user": "me"},
    ),
    Endpoint(
        "OpenAI", "/v1/rerank", openai_rerank.RerankSchema, {"model": RERANKER, "query": "q", "documents": ["a", "b"]},
        {
            "model": DEMO, "query": "r", "documents": ["a"], "top_n": 1, "return_documents": True, "truncate": False,
            "truncate_prompt_tokens": 5, "max_tokens_per_doc": 5, "max_chunks_per_doc": 1, "rank_fields": ["text"],
            "priority": 1, "user": "me",
        },
    ),
    Endpoint(
        "OpenAI", "/v1/classify", openai_classify.ClassifySchema, {"model": RERANKER, "input": "a"},
        {"model": DEMO, "input": "b", "truncate_prompt_tokens": 5, "priority": 1, "user": "me"},
    ),
    Endpoint(
        "Anthropic", "/v1/messages", anthropic.MessagesSchema, {"model": DEMO, "messages": HI, "max_tokens": 9},
        {
            **ANTHROPIC, "max_tokens": 5, "temperature": 0.5, "top_p": 0.5, "top_k": 5, "stop_sequences": ["x"],
            "stream": True, "metadata": {"user_id": "x"}, "service_tier": "auto", "inference_geo": "eu",
            "diagnostics": {"a": 1}, "billing_policy": "x", "container": "x", "compaction": {"a": 1}, "thread": "x",
            "fallbacks": [{"model": "x"}], "fallback_credit_token": "x", "progress": True,
        },
        with_={"tool_choice": {"tools": [ANTHROPIC_TOOL]}, "progress": {"stream": True}},
    ),
    Endpoint(
        "Anthropic", "/v1/messages/count_tokens", anthropic.CountSchema, {"model": DEMO, "messages": HI}, ANTHROPIC,
        with_={"tool_choice": {"tools": [ANTHROPIC_TOOL]}},
    ),
)  # fmt: skip
