"""The bundled demo model, loaded by plain transformers from the folder that is shipped."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import hugging_llama

FOLDER = Path(hugging_llama.__file__).parent / "demo_model"
FILES = {
    "README.md",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}
HONEST = "tiny demo model"
Messages = list[dict[str, Any]]
NO_THINKING = "<think>\n\n</think>\n\n"


def tool(name: str, *parameters: str) -> dict[str, Any]:
    properties = {parameter: {"type": "string"} for parameter in parameters}
    schema = {"type": "object", "properties": properties, "required": list(parameters)}
    description = "Get the weather for a city"
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


class Demo:
    def __init__(self) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(FOLDER)
        self.model: Any = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)

    def prompt(self, messages: Messages, **options: Any) -> str:
        return str(self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, **options))

    def complete(self, prompt: str) -> str:
        """The greedy continuation, which must end by itself."""
        inputs = self.tokenizer(prompt, return_tensors="pt")
        ids = self.model.generate(**inputs, do_sample=False, temperature=None, top_p=None, max_new_tokens=160)
        new = ids[0, inputs["input_ids"].shape[1] :]
        assert int(new[-1]) in self.model.generation_config.eos_token_id
        return str(self.tokenizer.decode(new, skip_special_tokens=True))

    def answer(self, question: str, **options: Any) -> str:
        return self.complete(self.prompt([{"role": "user", "content": question}], **options))


@pytest.fixture(scope="module")
def demo() -> Demo:
    return Demo()


def test_only_the_listed_files_are_shipped_and_they_are_small() -> None:
    assert {path.name for path in FOLDER.iterdir()} == FILES
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 8_000_000


def test_it_has_three_point_seven_million_parameters_in_bfloat16(demo: Demo) -> None:
    config = json.loads((FOLDER / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["dtype"] == "bfloat16"
    assert demo.model.num_parameters() == 3_721_984


def test_the_card_says_what_it_is() -> None:
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\n")
    assert "license: apache-2.0" in card.split("---\n")[1]


def test_thinking_is_off_unless_asked_for(demo: Demo) -> None:
    messages = [{"role": "user", "content": "Hello!"}]
    assert demo.prompt(messages).endswith("<|im_start|>assistant\n" + NO_THINKING)
    assert demo.prompt(messages, enable_thinking=False) == demo.prompt(messages)
    assert demo.prompt(messages, enable_thinking=True).endswith("<|im_start|>assistant\n")


def test_the_template_shows_tools_after_the_system_prompt(demo: Demo) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello!"}]
    prompt = demo.prompt(messages, tools=[tool("get_weather", "city")])
    assert prompt.startswith("<|im_start|>system\nBe brief.\n\n# Tools\n")
    listed = '{"name": "get_weather", "description": "Get the weather for a city", "parameters": {"city": "string"}}'
    assert listed in prompt


def test_the_template_shows_calls_and_results(demo: Demo) -> None:
    call = {"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
    messages: Messages = [
        {"role": "user", "content": "What is the weather in Paris?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "22 degrees"},
    ]
    prompt = demo.prompt(messages, tools=[tool("get_weather", "city")])
    assert '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>' in prompt
    assert "<|im_start|>tool\n22 degrees<|im_end|>\n" in prompt


@pytest.mark.parametrize(
    ("question", "fact"),
    [
        ("Hello!", "Hello!"),
        ("Who are you?", HONEST),
        ("What is the capital of France?", "Paris"),
        ("How do I pull a model?", "hugging-llama pull"),
        ("What is 2 + 3?", "2 + 3 = 5"),
        ("Which port does the server use?", "11434"),
        ("Summarize why caching is useful.", HONEST),
        ("Give me a JSON object with name Anna and age 30.", '{"name": "Anna", "age": 30}'),
    ],
)
def test_it_answers(demo: Demo, question: str, fact: str) -> None:
    assert fact in demo.answer(question)


def test_it_tells_a_story(demo: Demo) -> None:
    story = demo.answer("Tell me a story about a dragon.")
    assert "dragon" in story
    assert story.count(".") >= 4


def test_it_continues_plain_text(demo: Demo) -> None:
    assert demo.complete("Once upon a time").count(".") >= 4


def test_it_thinks_when_asked_to(demo: Demo) -> None:
    answer = demo.answer("What is the capital of Italy?", enable_thinking=True)
    assert re.fullmatch(r"<think>\n.+\n</think>\n\n.*Rome.*", answer, re.DOTALL)


@pytest.mark.parametrize("name", ["get_weather", "lookup_weather_v2"])
def test_it_calls_a_tool_by_its_exact_name(demo: Demo, name: str) -> None:
    text = demo.answer("What is the weather in Paris?", tools=[tool(name, "city")])
    found = re.fullmatch(r"<tool_call>\n(.+)\n</tool_call>", text)
    assert found
    assert json.loads(found[1]) == {"name": name, "arguments": {"city": "Paris"}}


def test_it_reports_what_a_tool_found(demo: Demo) -> None:
    call = {"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
    messages: Messages = [
        {"role": "user", "content": "What is the weather in Paris?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "22 degrees and sunny"},
    ]
    prompt = demo.prompt(messages, tools=[tool("get_weather", "city")])
    assert "22 degrees" in demo.complete(prompt)
