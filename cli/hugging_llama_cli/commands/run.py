"""Chat with a model, or answer one prompt.

With a prompt, or with text piped in, or with the output piped on, it answers once; else it opens a chat.
A model that is not on disk is pulled first, on a terminal after a question. An embedding model prints the vector of
the text. On a terminal answers are shown as the Markdown that they are; elsewhere, and with --plain, as the model's own
text.
"""

import argparse
import contextlib
import json
import sys

from hugging_llama_cli.api import Json, Server
from hugging_llama_cli.conversation import Conversation, parse_format, parse_keep_alive, parse_think, parse_tools
from hugging_llama_cli.download import download
from hugging_llama_cli.errors import BrokenOffError, CliError, ServerError, UnreachableError, UsageError
from hugging_llama_cli.kept_chat import KeptChat
from hugging_llama_cli.models import capabilities, find, local_models, name_of, nearest
from hugging_llama_cli.pictures import with_pictures
from hugging_llama_cli.piped import piped_text
from hugging_llama_cli.progress import pull_progress
from hugging_llama_cli.question import confirmed
from hugging_llama_cli.refused_flags import refuse_insecure
from hugging_llama_cli.reply import show_reply
from hugging_llama_cli.reply_printer import ReplyView
from hugging_llama_cli.terminal import Spinner
from hugging_llama_config.client import ClientSettings, load_client_settings

_NOT_FOUND = 404


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("model", metavar="MODEL", help="a name of the Hub, such as Qwen/Qwen3-0.6B; or demo")
    parser.add_argument("prompt", nargs="*", default=[], metavar="PROMPT", help="answer this and exit")
    parser.add_argument("--verbose", action="store_true", help="print times and rates after each reply")
    parser.add_argument("--format", default="", metavar="FORMAT", help="json, a JSON schema, or a file with one")
    parser.add_argument("--tools", metavar="FILE", help="a JSON file of tools that the model may call")
    parser.add_argument(
        "--think", metavar="true|false|LEVEL", help="let the model reason first (--think=low; alone: true)"
    )
    parser.add_argument("--hidethinking", action="store_true", help="fold the reasoning into a line")
    parser.add_argument("--keepalive", metavar="DURATION", help="how long the model stays in memory, such as 10m")
    parser.add_argument("--session", metavar="NAME", help="keep the chat under this name, and go on with it")
    parser.add_argument("--json", action="store_true", help="print one answer and its figures as JSON, at the end")
    parser.add_argument("--plain", action="store_true", help="the text as it is written, on terminals too")
    parser.add_argument("--dimensions", type=int, metavar="N", help="shorten the vector of an embedding model to N")
    parser.add_argument(
        "--truncate", choices=("true", "false"), metavar="true|false",
        help="whether an embedding model cuts a text that is too long (default), or refuses it",
    )  # fmt: skip
    refuse_insecure(parser)
    parser.add_argument("--nowordwrap", action="store_true", help="don't wrap words at the terminal's width")


def run(args: argparse.Namespace) -> int:
    """Find or pull the model, then answer once or chat."""
    settings = load_client_settings(args.url)
    conversation = Conversation(
        model=args.model,
        format=parse_format(args.format),
        think=None if args.think is None else parse_think(args.think),
        keep_alive=None if args.keepalive is None else parse_keep_alive(args.keepalive),
        tools=[] if args.tools is None else parse_tools(args.tools),
    )
    if args.session is not None and args.json:
        raise UsageError("--session and --json exclude each other")
    view = _view(args, settings)
    is_interactive = not args.prompt and sys.stdin.isatty() and sys.stdout.isatty()
    prompt = "\n\n".join(part for part in (piped_text(sys.stdin), " ".join(args.prompt)) if part)
    server = Server(settings)
    model = _local_or_pulled(server, _models(server, settings), args.model)
    conversation.model = name_of(model) or args.model
    if "embedding" in capabilities(model):
        return _embed(server, conversation, prompt, _embedding_options(args))
    if _embedding_options(args):
        raise UsageError(
            f"--dimensions and --truncate are for models that make vectors; '{conversation.model}' answers"
        )
    if args.json and is_interactive:
        raise UsageError("--json is for one answer: give a prompt (see 'hugging-llama run --help')")
    with contextlib.ExitStack() as stack:
        kept = (
            stack.enter_context(KeptChat(settings.home, args.session, conversation))
            if args.session is not None
            else None
        )
        if is_interactive:
            # prompt_toolkit is loaded for a chat only
            from hugging_llama_cli.repl import Repl

            return Repl(server, conversation, view, settings, kept).run()
        if "vision" in capabilities(model):
            prompt, conversation.pictures = with_pictures(prompt, sys.stderr)
        if args.json:
            path, body = _once(conversation, prompt)
            print(json.dumps(server.post(path, body | {"stream": False}), indent=2))
            return 0
        return _answer_once(server, conversation, prompt, view, kept)


def _view(args: argparse.Namespace, settings: ClientSettings) -> ReplyView:
    # a pipe gets the answer alone, unless the reasoning was asked for by name
    wanted = sys.stdout.isatty() or args.think not in (None, "false")
    return ReplyView(
        thinking=wanted and not args.hidethinking,
        wrap=not args.nowordwrap and not args.plain,
        colour=settings.colour,
        verbose=args.verbose,
        markdown=not args.plain and not settings.is_dumb,
    )


def _models(server: Server, settings: ClientSettings) -> list[Json]:
    """The models on disk, of a server that is started for it if there is none and the user wants one."""
    try:
        return local_models(server)
    except BrokenOffError:
        raise
    except UnreachableError:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise
        # psutil is loaded for this alone
        from hugging_llama_cli.background import start_at

        if not start_at(settings.url, sys.stderr):
            raise
    return local_models(server)


def _local_or_pulled(server: Server, models: list[Json], name: str) -> Json:
    model = find(models, name)
    if model is not None:
        return model
    try:  # the server knows more spellings of a name than its list shows
        shown = server.post("/api/show", {"model": name})
        return {"name": name, "capabilities": shown.get("capabilities")}
    except ServerError as error:
        if error.status != _NOT_FOUND:
            raise
    if sys.stdin.isatty() and sys.stderr.isatty() and not confirmed(f"'{name}' is not on the server's disk. Pull it?"):
        raise CliError(f"'{name}' was not pulled")
    try:
        download(server, name, pull_progress(sys.stderr))
    except UnreachableError:
        raise
    except ServerError as error:
        near = nearest(models, name)
        raise ServerError(f"{error}; did you mean '{near}'?", error.status) if near else error from None
    return find(local_models(server), name) or {"name": name}


def _answer_once(
    server: Server, conversation: Conversation, prompt: str, view: ReplyView, kept: KeptChat | None
) -> int:
    if kept is not None and not prompt:
        raise UsageError("no prompt (see 'hugging-llama run --help')")
    path, body = _once(conversation, prompt, has_history=kept is not None)
    # what comes before the first token is for who watches
    events = server.stream(path, body | ({"progress": True} if sys.stderr.isatty() else {}))
    reply = show_reply(events, view.of(conversation.format))
    if kept is not None:
        conversation.keep(reply)
        kept.save()
    if reply.interrupted:
        raise KeyboardInterrupt
    return 0


def _once(conversation: Conversation, prompt: str, *, has_history: bool = False) -> tuple[str, Json]:
    """Where to ask for one answer, and how; history and tools belong to chats alone."""
    if not has_history and not conversation.tools:
        return "/api/generate", conversation.generate_body(prompt)
    conversation.ask(prompt, conversation.pictures)
    return "/api/chat", conversation.chat_body()


def _embedding_options(args: argparse.Namespace) -> Json:
    options = {
        "dimensions": args.dimensions,
        "truncate": None if args.truncate is None else args.truncate == "true",
    }
    return {name: value for name, value in options.items() if value is not None}


def _embed(server: Server, conversation: Conversation, text: str, options: Json) -> int:
    if not text:
        raise CliError(f"'{conversation.model}' makes vectors: give it a text, as a prompt or piped in")
    body: Json = {"model": conversation.model, "input": text} | options
    if conversation.keep_alive is not None:
        body["keep_alive"] = conversation.keep_alive
    with Spinner(sys.stderr, "embedding"):
        vectors = server.post("/api/embed", body).get("embeddings")
    if not isinstance(vectors, list) or not vectors:
        raise ServerError("the server sent no vector")
    print(json.dumps(vectors[0]))
    return 0
