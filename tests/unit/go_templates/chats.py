"""The chats that `expected.json` was made with, by Go's own text/template on Ollama's data."""

from hugging_llama.neutral.messages import Message, Tool, ToolCall

TOOLS = (
    Tool(
        name="get_weather",
        description="The weather <now> & here",
        parameters={
            "type": "object",
            "required": ["city"],
            "properties": {
                "city": {"type": "string", "description": "a city"},
                "unit": {"type": ["string", "null"], "enum": ["C", "F", 5, None, True]},
            },
        },
    ),
    Tool(name="ping", description="", parameters={"type": "object", "properties": {}}),
)


def _user(text: str) -> Message:
    return Message(role="user", content=text)


def _assistant(text: str, *, thinking: str = "", calls: tuple[ToolCall, ...] = ()) -> Message:
    return Message(role="assistant", content=text, thinking=thinking, tool_calls=calls)


def _system(text: str) -> Message:
    return Message(role="system", content=text)


def _result(text: str) -> Message:
    return Message(role="tool", content=text, tool_name="get_weather", tool_call_id="call_1")


_CALL = ToolCall(id="call_1", name="get_weather", arguments={"city": "Oslo <x>"})

CHATS = {
    "one": (_user("Hi é"),),
    "turns": (_system("Be brief."), _user("Hi"), _assistant("Hello!"), _user("More")),
    "prefill": (_user("Hi"), _assistant("Hel")),
    "tools": (_system("Help."), _user("Oslo?"), _assistant("", calls=(_CALL,)), _result("rain"), _result("wind")),
    "thoughts": (_user("Hi"), _assistant("Yo", thinking="hm"), _user("x"), _assistant("so", thinking="deep")),
    "doubled": (
        *(_system("a"), _system("b"), _user("1"), _user("2"), _assistant("3"), _assistant("4")),
        *(_user("5"), _system("late"), _user("6")),
    ),
    "system": (_system("alone"),),
}
