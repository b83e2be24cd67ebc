"""The whole application over an engine that plays a script, for servers that are killed."""

from hugging_llama import create_app
from hugging_llama.testing import ScriptedEngine

app = create_app(engine=ScriptedEngine())
