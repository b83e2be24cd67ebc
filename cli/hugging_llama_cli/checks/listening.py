"""The port: free, ours already, or somebody else's."""

from collections.abc import Iterator

from hugging_llama_cli.checks.finding import Finding, Subject, ok, problem
from hugging_llama_cli.errors import CliError
from hugging_llama_cli.port import OLLAMA, OURS, PortTakenError, check_port


def check_listening(subject: Subject) -> Iterator[Finding]:
    """Whether a server could listen where the settings say."""
    host, port = subject.settings.host, subject.settings.port
    try:
        check_port(host, port)
    except PortTakenError as error:
        if error.kind == OURS:
            yield ok(f"a Hugging Llama server listens on port {port} of {host} already")
        elif error.kind == OLLAMA:
            yield problem(
                f"port {port} of {host} is taken by {error.holder}",
                "stop it (systemctl stop ollama), or set another port",
            )
        else:
            yield problem(f"port {port} of {host} is taken by {error.holder}", "stop it, or set another port")
    except CliError as error:
        yield problem(str(error), "set host and port to an address of this machine, and a port from 1024 on")
    else:
        yield ok(f"port {port} of {host} is free")
