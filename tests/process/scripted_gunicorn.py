"""The real gunicorn configuration with the scripted engine in the place of the one with torch.

Between the end of a drain and that of the workers there are half of the graceful seconds: a machine that stands still
for a moment must not cut an answer off.
"""

import os
import sys
from pathlib import Path

from hugging_llama_config import accepting, launch, successors

launch.ENGINE_COMMAND = (sys.executable, str(Path(__file__).with_name("scripted_engine.py")))
accepting.ClientSocket.stalled_s = float(os.environ.get("TEST_UNREAD_S", accepting.STALLED_S))
successors.LOADING_TIMEOUT_S = float(os.environ.get("TEST_LOADING_S", "600"))

from hugging_llama_config import gunicorn  # noqa: E402

gunicorn._DRAIN_MARGIN_S = 60.0

from hugging_llama_config.gunicorn import *  # noqa: E402, F403
