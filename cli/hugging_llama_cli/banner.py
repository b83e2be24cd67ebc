"""How a server is started, and what is said before: the address, what it will use, how to try it."""

import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from hugging_llama_cli.machine_memory import machine_memory
from hugging_llama_config.exposure import is_loopback
from hugging_llama_config.host import DEFAULT_PORT, HostUrl
from hugging_llama_config.settings import Settings
from hugging_llama_config.units import format_bytes

GUNICORN = ("-m", "gunicorn", "-c", "python:hugging_llama_config.gunicorn", "hugging_llama:create_app()")
"""What the interpreter is given to become the server."""


def welcome(settings: Settings) -> str:
    """Several lines; what is unsafe comes last."""
    url = HostUrl(host=settings.host, port=settings.port).url
    target = "" if settings.port == DEFAULT_PORT else f"--url {url} "
    lines = [
        f"Starting Hugging Llama on {url}",
        f"  device   {_device(settings)}",
        f"  models   {_models(settings)}",
        "Try it from another terminal:",
        f"  {program()} {target}run demo",
        f"""  curl {url}/api/generate -d '{{"model": "demo", "prompt": "Hello"}}'""",
    ]
    return "\n".join([*lines, *warnings(settings)])


def program() -> str:
    """What to type for this program: its name where that is found, else the path by which it was started."""
    if shutil.which("hugging-llama"):
        return "hugging-llama"
    return "python -m hugging_llama_cli" if sys.argv[0].endswith("__main__.py") else shlex.quote(sys.argv[0])


def _device(settings: Settings) -> str:
    memory = machine_memory()
    kind = settings.device
    if kind == "auto" and memory is not None and sys.platform != "darwin":  # there torch may find Apple's GPU
        kind = memory.device
    if memory is None or kind not in ("auto", memory.device):
        return kind
    return f"{kind} ({memory.owner}, {format_bytes(memory.num_bytes)})"


def _models(settings: Settings) -> str:
    count = sum(1 for _ in _repositories(Path(settings.hub_cache)))
    shown = f"{count} in {settings.hub_cache}, and the demo"
    return f"{shown}; loads {', '.join(settings.preload)} at once" if settings.preload else shown


def _repositories(cache: Path) -> Iterator[Path]:
    """The Hub's cache has a folder for each."""
    try:
        yield from cache.glob("models--*")
    except OSError:
        return


def warnings(settings: Settings) -> Iterator[str]:
    """What an operator should know to be unsafe."""
    if settings.insecure_no_auth and not is_loopback(settings.host):
        yield f"Warning: whoever reaches port {settings.port} of this machine may use, change and delete its models."
    if settings.trust_remote_code:
        yield "Warning: pulls may fetch the code of repositories (HUGGING_LLAMA_TRUST_REMOTE_CODE)."
    if settings.allow_pickle:
        yield "Warning: pickled weights are converted (HUGGING_LLAMA_ALLOW_PICKLE)."
