"""Writes docs/settings.md: every setting, as it is described beside its field in config/…/settings.py."""

from pathlib import Path

from hugging_llama_config.described import Setting
from hugging_llama_config.settings import GROUPS, SETTINGS

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "settings.md"
HEAD = """# Settings

A setting is a flag of `hugging-llama serve`, a variable, or a key of a TOML file. What is said first wins:

1. the flag, such as `--keep-alive-s 1h`
2. our variable: `HUGGING_LLAMA_KEEP_ALIVE_S=1h`
3. Ollama's variable, where it means the same: `OLLAMA_KEEP_ALIVE=1h`
4. the files, a later one over the ones before it: `/etc/hugging-llama/config.toml`,
   `~/.config/hugging-llama/config.toml` (below `XDG_CONFIG_HOME` if that is set), `config.toml` in the home; or in
   place of them all the one that `--config` or `HUGGING_LLAMA_CONFIG` names
5. the default. Where Hugging Face's own variables are given as the default, they stand here.

```toml
# ~/.config/hugging-llama/config.toml
port = 8000
keep_alive_s = "1h"
preload = ["demo"]
```

gunicorn started directly (`gunicorn -c python:hugging_llama_config.gunicorn wsgi:app`) and a mounted application read
variables and files, too. HUP makes gunicorn read the files anew; it goes on with what it has if they can't be used, or
if the new port is taken or would be open to others without keys. Where a setting changes that the engine reads, the
next workers get a new engine.

- An empty variable is one that is not set; an empty text or list in a file takes back what an earlier file says.
- A duration is a number of seconds or Go's (`300ms`, `5m`, `1h30m`), a negative one is for ever. A size is a number of
  bytes or has a unit (`8GB`, `512MiB`).
- In a variable, items of a list are separated by commas, folders by `:`. A flag of a list may be repeated. The flag of
  a switch needs no value to switch it on.
- What can't be used stops the start with one line that names the flag, the variable, or the file and its key. A bad
  value of Ollama's variables is ignored with a warning, as Ollama does, and so is a variable that is no setting. A 0
  of `OLLAMA_MAX_LOADED_MODELS`, `OLLAMA_CONTEXT_LENGTH` or `OLLAMA_NUM_PARALLEL` is Ollama's "automatic" and sets
  nothing; of `OLLAMA_MAX_QUEUE` it means no queue, as ours does.
- `hugging-llama config show` says each value and where it comes from, `config path` which files are read,
  `config check FILE` what is wrong with one, `hugging-llama doctor` also which settings don't go together.

"Read by": `gunicorn` is the master process, `web` its workers, `engine` the process with the models, `cli` the command
line. Written by `python tools/settings.py`; a test compares.
"""
ROW_HEAD = "| key | flag, variables | values | default | read by | meaning |\n|---|---|---|---|---|---|\n"


def document() -> str:
    """The whole document."""
    parts = [HEAD]
    for name, setting in SETTINGS.items():
        if name in GROUPS:
            parts.append(f"\n## {GROUPS[name]}\n\n{ROW_HEAD}")
        parts.append(_row(setting))
    return "".join(parts)


def _row(setting: Setting) -> str:
    names = [*([setting.flag] if setting.flag else []), *setting.flags, setting.variable, *setting.ollama]
    default = f"`{setting.default_text}`" if setting.default_text and not setting.origin else setting.origin
    cells = [
        f"`{setting.name}`", ", ".join(f"`{name}`" for name in names), setting.values, default,
        ", ".join(setting.read_by), setting.meaning,
    ]  # fmt: skip
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


if __name__ == "__main__":
    DOCUMENT.write_text(document())
