"""The environment of the child processes that move files from and to the Hub."""

import os

_SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGING_LLAMA_HUB_TOKEN")
_HUB_SWITCHES = {
    # the token comes with the request: none is looked for
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    # its own HTTP stack would neither count bytes nor keep to our rules for redirects
    "HF_HUB_DISABLE_XET": "1",
    # its warnings hold the signed addresses of uploads
    "HF_HUB_VERBOSITY": "error",
}


def transfer_environment() -> dict[str, str]:
    """This process's environment without the tokens in it, and with huggingface_hub kept quiet."""
    kept = {name: value for name, value in os.environ.items() if name not in (*_SECRETS, "HF_DEBUG")}
    return kept | _HUB_SWITCHES
