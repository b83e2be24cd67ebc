"""Chat templates of families on the Hub, condensed in our own words to what tells how their models talk.

Each with the name of its tool format ("" for none) and its thinking tags (None where it does not think in tags).
"""

# ruff: noqa: E501

from typing import NamedTuple


class Template(NamedTuple):
    """`text` keeps the family's marks and its way to mention them, and little else."""

    text: str
    tool_format: str = ""
    open: str | None = None
    close: str | None = None
    answer_open: str = ""


_IN_TAGS = 'For each call write JSON between <tool_call></tool_call>:\n<tool_call>\n{"name": …}\n</tool_call>'
_ELEMENTS = "<tool_call>\\n<function=example>\\n<parameter=a>\\nvalue\\n</parameter>\\n</function>\\n</tool_call>"
_SPLIT = "{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}"
_THINK = ("<think>", "</think>")

TEMPLATES = {
    "qwen2.5": Template("{% if tools %}" + _IN_TAGS + "{% endif %}<|im_end|>", "hermes"),
    "qwen3": Template(
        "{% if tools %}" + _IN_TAGS + "{% endif %}" + _SPLIT + "{% if enable_thinking is false %}<think>\n\n</think>{% endif %}",
        "hermes", *_THINK,
    ),
    "qwen3-coder": Template("{% if tools %}" + _ELEMENTS + "{% endif %}", "qwen-coder"),
    "qwen3.5": Template("{% if tools %}" + _ELEMENTS + "{% endif %}{{ '<think>\\n' }}" + _SPLIT, "qwen-coder", *_THINK),
    "qwq": Template("{% if tools %}" + _IN_TAGS + "{% endif %}" + _SPLIT + "{{ '<|im_start|>assistant\\n<think>\\n' }}", "hermes", *_THINK),
    "llama-3.1": Template(
        "{% if tools %}{{ 'Environment: ipython' }}Respond with {\"name\": …, \"parameters\": …}{% endif %}"
        "{{ '<|python_tag|>' + call.name + '.call(' }}{{ '<|eom_id|>' }}",
        "llama-json",
    ),
    "llama-3.2": Template("{% if tools %}{\"name\": …, \"parameters\": …}{% endif %}{{ '<|eot_id|>' }}Environment: ipython", "json"),
    "llama-3.2-pythonic": Template("{% if tools %}[func_name1(a=1), func_name2(b=2)]{% endif %}<|eot_id|>", "pythonic"),
    "llama-4": Template("{% if tools %}{\"name\": …, \"parameters\": …}{% endif %}<|python_start|><|python_end|><|eom|>", "llama-4"),
    "llama-4-pythonic": Template("{% if tools %}Use [func_name1(a=b), func_name2(...)]{% endif %}<|python_start|><|eot|>", "pythonic"),
    "mistral-v3": Template("{% if tools %}[AVAILABLE_TOOLS] {% endif %}{{ '[TOOL_CALLS] [' }}{% if id|length != 9 %}{% endif %}", "mistral"),
    "mistral-v7": Template("{% if tools %}[AVAILABLE_TOOLS]{% endif %}{{ '[TOOL_CALLS][' }}", "mistral"),
    "mistral-v11": Template("{% if tools %}{% endif %}{{ '[TOOL_CALLS]' + name + '[CALL_ID]' + id + '[ARGS]' + arguments }}", "mistral"),
    "magistral": Template("{% if tools %}{% endif %}[TOOL_CALLS]{{ name }}[ARGS][THINK]{{ text }}[/THINK]", "mistral", "[THINK]", "[/THINK]"),
    "deepseek-v3": Template(
        "{{ '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' + tool['type'] + '<｜tool▁sep｜>' + tool['function']['name'] "
        "+ '\\n```json\\n' + tool['function']['arguments'] }}{{ message['tool_calls'] }}",
        "deepseek",
    ),
    "deepseek-r1": Template("{{ message['tool_calls'] }}<｜tool▁call▁begin｜>" + _SPLIT + "{{ '<｜Assistant｜><think>\\n' }}", "deepseek", *_THINK),
    "deepseek-v3.1": Template(
        "{% if thinking %}<think>{% else %}</think>{% endif %}{{ message['tool_calls'] }}<｜tool▁call▁begin｜><｜tool▁sep｜>",
        "deepseek", *_THINK,
    ),
    "deepseek-v3.2": Template("{% set dsml = '｜DSML｜' %}{% if tools %}<{{ dsml }}function_calls>{% endif %}<think></think>", "dsml", *_THINK),
    "gpt-oss": Template("{% if tools %}{% endif %}{{ reasoning_effort }}<|channel|>analysis<|message|>{{ message.thinking }}<|end|>", "harmony"),
    "gemma-3": Template("{{ '<start_of_turn>' + role }}<end_of_turn>"),
    "gemma-3-pythonic": Template("{% if tools %}[func_name1(a=1)]{% endif %}<start_of_turn>", "pythonic"),
    "gemma-4": Template(
        "{% if enable_thinking %}<|think|>{% endif %}{% if tools %}{% endif %}{{ '<|tool_call>call:' + name + '{' }}"
        "{{ '<|turn>model\\n<|channel>thought\\n<channel|>' }}",
        "gemma", "<|channel>thought\n", "<channel|>",
    ),
    "functiongemma": Template("{% if tools %}{% endif %}{{ '<start_function_call>call:' + name }}<escape>", "function-gemma"),
    "granite-3.1": Template("{% if tools %}write <|tool_call|> and then a JSON list{% endif %}", "granite"),
    "granite-3.2": Template(
        "{% if tools %}write <|tool_call|>{% endif %}{% if thinking %}use 'Here is my thought process:' and "
        "'Here is my response:'{% endif %}",
        "granite", "Here is my thought process:", "Here is my response:",
    ),
    "granite-3.3": Template(
        "{% if tools %}write <|tool_call|>{% endif %}{% if thinking %}<think></think> then <response></response>{% endif %}",
        "granite", *_THINK, "<response>",
    ),
    "granite-4": Template("{% if tools %}" + _IN_TAGS + "{% endif %}<|end_of_role|>", "hermes"),
    "phi-4-mini": Template("{% if 'tools' in message %}{{ '<|tool|>' + message['tools'] + '<|/tool|>' }}{% endif %}<|end|>", "phi"),
    "phi-4-mini-functools": Template("{% if tools %}functools[{\"name\": …}]{% endif %}<|tool|><|/tool|>", "functools"),
    "phi-4-reasoning": Template("{{ '<|im_start|>system<|im_sep|>Use <think> and </think>' }}", "", *_THINK),
    "command-r7b": Template(
        "{% if tools %}<|START_ACTION|>[{\"tool_name\": …}]<|END_ACTION|>{% endif %}<|START_THINKING|><|END_THINKING|>"
        "<|START_RESPONSE|><|END_RESPONSE|>",
        "cohere", "<|START_THINKING|>", "<|END_THINKING|>", "<|START_RESPONSE|>",
    ),
    "glm-4.5": Template(
        "{% if tools %}<tool_call>{name}\n<arg_key>{k}</arg_key>\n<arg_value>{v}</arg_value></tool_call>{% endif %}<think></think>",
        "glm", *_THINK,
    ),
    "kimi-k2": Template("{% if tools %}{{ '<|im_system|>tool_declare<|im_middle|>' }}{% endif %}", "kimi"),
    "kimi-k2-thinking": Template("{% if tools %}{% endif %}<|tool_calls_section_begin|><|tool_call_begin|><think></think>", "kimi", *_THINK),
    "minimax-m1": Template("{% if tools %}<tool_calls>\n{\"name\": …}\n...\n</tool_calls>{% endif %}", "jamba"),
    "minimax-m2": Template(
        "{% set open = '<minimax:tool_call>' %}{% if tools %}<invoke name=\"t\">{% endif %}<think></think>", "minimax", *_THINK
    ),
    "hunyuan-a13b": Template(
        "{% if tools %}<tool_calls>[{\"name\": …}]</tool_calls>{% endif %}{{ '<think>\\n\\n</think>\\n' }}<answer></answer>",
        "jamba", *_THINK, "<answer>",
    ),
    "hunyuan-7b": Template(
        "{% if tools %}{% endif %}{{ '<tool_calls><tool_call>' + type + '<tool_sep>' + name + '\\n```json\\n' + arguments }}", "hunyuan"
    ),
    "nemotron-nano-2": Template(
        "{% if '/no_think' in content %}{% endif %}{% if tools %}<TOOLCALL>[{…}]</TOOLCALL>{% endif %}{{ '<think></think>' }}",
        "nemotron", *_THINK,
    ),
    "olmo-3": Template("{% if tools %}<function_calls>\nf(a='b')\n</function_calls>{% endif %}", "olmo"),
    "smollm3": Template(
        "{% if xml_tools or python_tools or tools %}" + _IN_TAGS + "or code between <code></code>{% endif %}{{ '<think>\\n\\n</think>' }}"
        "{% if '/no_think' in system_message %}{% endif %}",
        "hermes", *_THINK,
    ),
    "xlam": Template("{% if tools %}write a JSON array: [{\"name\": …, \"arguments\": {…}}]{% endif %}", "json"),
    "jamba": Template("{% if tools %}<tool_calls>[{…}]</tool_calls>{% endif %}", "jamba"),
    "ernie-4.5-thinking": Template("{% if tools %}" + _IN_TAGS + "{% endif %}<think>\n</think>\n<response>\n</response>", "hermes", *_THINK, "<response>"),
    "seed-oss": Template(
        "{% set a = '<seed:tool_call>' %}{% if tools %}<function=f>{% endif %}<seed:think></seed:think>", "seed", "<seed:think>", "</seed:think>"
    ),
    "lfm2": Template("{% if tools %}List of tools: <|tool_list_start|>{% endif %}", "lfm"),
    "lfm2.5": Template("{% if tools %}{% endif %}{{ '<|tool_call_start|>[' }}]<|tool_call_end|><think></think>{{ message.thinking }}", "lfm", *_THINK),
    "apertus": Template(
        "{% if enable_thinking %}{% endif %}{% if tools %}{% endif %}<|inner_prefix|><|inner_suffix|><|tools_prefix|>[{\"f\": {}}]",
        "apertus", "<|inner_prefix|>", "<|inner_suffix|>",
    ),
    "apriel": Template(
        "{% if tools %}<tool_calls>[{…}]</tool_calls>{% endif %}{{ 'Here are my reasoning steps:\\n' }}[BEGIN FINAL RESPONSE]",
        "jamba", "Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]",
    ),
    "exaone-deep": Template("{{ '[|assistant|]<thought>\\n' }}{{ content.split('</thought>') }}", "", "<thought>", "</thought>"),
}  # fmt: skip
