"""Name a model of your own: made as a Modelfile says, or from a model with other weights, parameters or system text.

FROM and ADAPTER name a model, or a folder or file beside the Modelfile, which is sent to the server. The weights of a
named model are not copied; `--quantize` quantises them whenever the model is loaded. A name that `create` has given
before gets the new meaning. The flags --parameter and --system win over the Modelfile.
"""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from hugging_llama_cli.api import Json, Server
from hugging_llama_cli.errors import CliError, ServerError, UsageError
from hugging_llama_cli.model_files import adapter_files, model_files
from hugging_llama_cli.modelfile import Instruction, Modelfile, ModelfileError, parse_modelfile
from hugging_llama_cli.models import did_you_mean
from hugging_llama_cli.parameters import DEPRECATED, typed_parameters
from hugging_llama_cli.progress import JsonLines, PullProgress, pull_progress
from hugging_llama_cli.refused_flags import refuse
from hugging_llama_cli.upload import upload_files
from hugging_llama_config.client import load_client_settings

_DEFAULT_FILE = "Modelfile"
_STDIN = "-"
_SHOWN_CHARACTERS = 200
_MAX_BYTES = 16 * 2**20
_WEIGHTS = (".gguf", ".safetensors", ".bin")
_PATH_STARTS = ("./", "../", "~")
_ENCODINGS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("name", metavar="NAME", help="the new name, such as my-model or my-model:int4")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "-f", "--file", metavar="FILE", help=f"the Modelfile, - for what is piped in (default: ./{_DEFAULT_FILE})"
    )
    source.add_argument("--from", dest="base", metavar="MODEL", help="a model as `list` prints it, or of the Hub")
    parser.add_argument(
        "-q", "--quantize", metavar="TYPE", help="int8 or int4 weights (q8_0, q4_K_M, … work, too), none for exact ones"
    )
    parser.add_argument(
        "--parameter", action="append", default=[], metavar="NAME=VALUE",
        help="a parameter such as temperature=0.2; may be repeated, stop also with several values",
    )  # fmt: skip
    refuse(parser, ["--draft-quantize"], "PARAMETER draft_num_predict guesses tokens without a second model")
    refuse(parser, ["--experimental"], "there is one way to make models here, leave it out")
    parser.add_argument("--system", metavar="TEXT", help="the system text of chats that have none")
    parser.add_argument("--json", action="store_true", help="print the progress as JSON, an object a line")


def run(args: argparse.Namespace) -> int:
    """Have the server make the model; files go there first."""
    server = Server(load_client_settings(args.url))
    flags: Json = {"parameters": parameters(args.parameter)}
    flags |= {key: value for key in ("quantize", "system") if (value := getattr(args, key))}
    if args.base:
        body: Json = {"from": args.base}
    else:
        modelfile, folder = _read(args.file)
        body = described(modelfile) | _sources(server, modelfile, folder)
        flags["parameters"] = body["parameters"] | flags["parameters"]
    with did_you_mean(server, str(body.get("from", ""))):
        progress = JsonLines(sys.stdout) if args.json else pull_progress(sys.stderr)
        create(server, {"model": args.name} | body | flags, progress)
    if not args.json:
        print(f"created '{args.name}'")
    return 0


def create(server: Server, body: Json, progress: PullProgress | None = None) -> None:
    """Have a model made; it goes on as `progress` shows. Raises ServerError."""
    status = ""
    with contextlib.ExitStack() as stack:
        if progress:
            stack.enter_context(contextlib.closing(progress))
        for event in stack.enter_context(contextlib.closing(server.stream("/api/create", body))):
            status = str(event.get("status") or "")
            if progress:
                progress.show(_labelled(event))
    if status != "success":
        raise ServerError("the server ended the creation before it was complete")


def parameters(texts: Iterable[str]) -> Json:
    """`NAME=VALUE` texts as an object, the values typed. Raises UsageError."""
    pairs = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise UsageError(f"--parameter takes NAME=VALUE, not '{text}'")
        pairs.append((name, value))
    return typed_parameters(pairs)


def _read(file: str | None) -> tuple[Modelfile, Path]:
    """The Modelfile, and the folder that its paths start from. Raises CliError."""
    try:
        if file == _STDIN:
            content = sys.stdin.buffer.read(_MAX_BYTES + 1)
        else:
            with open(file or _DEFAULT_FILE, "rb") as opened:
                content = opened.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        where = f"there is no '{file or _DEFAULT_FILE}'"
        hint = "" if file else " here; name one with -f, or a model with --from"
        raise CliError(f"specified Modelfile wasn't found: {where}{hint}") from None
    except OSError as error:
        raise CliError(f"'{file or _DEFAULT_FILE}' can't be read: {error.strerror}") from None
    encoding = next((name for mark, name in _ENCODINGS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        text = "\0"
    if len(content) > _MAX_BYTES or "\0" in text:
        raise CliError(f"'{file or _DEFAULT_FILE}' is no Modelfile: it is not text, or too long")
    return parse_modelfile(text), Path() if file in (None, _STDIN) else Path(file or "").parent


def described(modelfile: Modelfile) -> Json:
    """What the Modelfile says besides files and names, as the request has it."""
    for name in sorted({name for name, _ in modelfile.parameters} & DEPRECATED):
        print(f"Warning: parameter {name} is deprecated and was left out", file=sys.stderr)
    texts: Json = {key: getattr(modelfile, key) for key in ("template", "system", "requires")}
    texts["license"] = list(modelfile.licenses)
    texts["messages"] = [{"role": role, "content": content} for role, content in modelfile.messages]
    kept = typed_parameters(pair for pair in modelfile.parameters if pair[0] not in DEPRECATED)
    return {key: value for key, value in texts.items() if value} | {"parameters": kept}


def _sources(server: Server, modelfile: Modelfile, folder: Path) -> Json:
    """What the model is made from: names as they are, files by their digests once the server has them."""
    found: Json = {}
    for line, by_name, by_files, choose in (
        (modelfile.base, "from", "files", model_files),
        (modelfile.adapter, "adapters", "adapters", adapter_files),
    ):
        if line is None:
            continue
        files = _chosen(line, folder, choose)
        found |= {by_files: upload_files(server, files, sys.stderr)} if files else {by_name: line.value}
    return found


def _chosen(line: Instruction, folder: Path, choose: Callable[[Path], Mapping[str, Path]]) -> Mapping[str, Path]:
    """The files that a FROM or ADAPTER means; none if it is a name. Raises ModelfileError."""
    # any other path that begins with / may be a folder of the server's
    is_path = line.value.startswith(_PATH_STARTS) or line.value in (".", "..") or _is_weights(line.value)
    try:
        path = folder / Path(line.value).expanduser()
        if path.exists():
            return choose(path)
    except CliError as error:
        hint = f"; if the model of that name is meant, write '{line.value}:latest'"
        is_named = not is_path and not line.value.startswith("/")
        raise ModelfileError(line.line, f"{error}{hint if is_named else ''}") from None
    except (OSError, ValueError, RuntimeError):  # too long for a path, a NUL, no such user
        pass
    if is_path:
        raise ModelfileError(line.line, f"there is no file or folder '{line.value[:_SHOWN_CHARACTERS]}'")
    return {}


def _is_weights(text: str) -> bool:
    return text.startswith("/") and text.lower().endswith(_WEIGHTS)


def _labelled(event: Json) -> Json:
    """A creation counts the bytes of steps that have a status, not the name of a file."""
    if event.get("file") or event.get("path"):
        return event
    plain = {key: value for key, value in event.items() if key != "digest"}
    return plain | {"file": event.get("status")} if event.get("total") else plain
