"""The real gunicorn configuration with the scripted engine in the place of the one with torch."""

import sys
from pathlib import Path

from hugging_llama_config import launch

launch.ENGINE_COMMAND = (sys.executable, str(Path(__file__).with_name("scripted_engine.py")))

from hugging_llama_config.gunicorn import *  # noqa: E402, F403
