"""Python, the packages that we need and their versions, and whether the application can be imported."""

import platform
import re
import sys
from collections.abc import Iterator
from importlib import metadata

from hugging_llama_cli.checks.finding import Finding, Subject, ok, problem, try_out, warning

_DISTRIBUTION = "hugging-llama"
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)\s*(\[[^]]*\])?\s*([^;]*)(;.*)?")
_BOUND = re.compile(r"(>=|<=|==|<|>|!=)\s*([0-9][0-9.]*)")
_INSTALL = "pip install --upgrade hugging-llama"
_IMPORT_TIMEOUT_S = 120.0
_IMPORT = "from hugging_llama.web.app import create_app"


def check_python(subject: Subject) -> Iterator[Finding]:
    """The interpreter."""
    version = platform.python_version()
    wanted = _own_metadata("requires_python")
    if platform.python_implementation() != "CPython":
        yield problem(f"{platform.python_implementation()} {version}", "use CPython: torch is not made for others")
    elif wanted and not satisfies(version, wanted):
        yield problem(f"{version} at {sys.executable}", f"install Python {wanted} and Hugging Llama with it")
    else:
        yield ok(f"{version} at {sys.executable}")


def check_packages(subject: Subject) -> Iterator[Finding]:
    """Versions of what we depend on."""
    try:
        needed = metadata.requires(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        yield warning("Hugging Llama is not installed here, its packages can't be compared", "pip install .")
        return
    wrong = [reason for requirement in needed if (reason := _what_is_wrong(requirement))]
    for reason in wrong:
        yield problem(reason, _INSTALL)
    if not wrong:
        yield ok(f"hugging-llama {metadata.version(_DISTRIBUTION)} with {_shown_versions()}")


def check_app(subject: Subject) -> Iterator[Finding]:
    """Whether a web worker could import the application."""
    ended = try_out([sys.executable, "-P", "-c", _IMPORT], subject.environ, _IMPORT_TIMEOUT_S)
    if ended.reason:
        yield problem(f"the application can't be imported: {ended.reason}", f"{_INSTALL} --force-reinstall")
    else:
        yield ok("the application can be imported")


def satisfies(version: str, bounds: str) -> bool:
    """Whether a version is within `>=3.11,<4`; what is no number in it does not count."""
    found = _numbers(version)
    for sign, text in _BOUND.findall(bounds):
        bound = _numbers(text)
        length = max(len(found), len(bound))
        left, right = (part + (0,) * (length - len(part)) for part in (found, bound))
        holds = {
            ">=": left >= right, "<=": left <= right, "==": left == right, "!=": left != right, "<": left < right,
            ">": left > right,
        }  # fmt: skip
        if not holds[sign]:
            return False
    return True


def _what_is_wrong(requirement: str) -> str:
    match = _REQUIREMENT.match(requirement)
    if not match or "extra" in (match[4] or ""):
        return ""
    name, bounds = match[1], match[3].strip()
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return f"{name} is not installed"
    return "" if satisfies(version, bounds) else f"{name} {version} is installed, and {name} {bounds} is needed"


def _shown_versions() -> str:
    names = ("torch", "transformers", "huggingface_hub", "gunicorn", "gevent", "flask")
    return ", ".join(f"{name} {metadata.version(name)}" for name in names)


def _own_metadata(key: str) -> str:
    try:
        return str(metadata.metadata(_DISTRIBUTION).json.get(key, ""))
    except metadata.PackageNotFoundError:
        return ""


def _numbers(version: str) -> tuple[int, ...]:
    """`2.13.0+cpu` as (2, 13, 0), `3.14.0rc1` as (3, 14, 0)."""
    release = re.match(r"[0-9]+(\.[0-9]+)*", version)
    return tuple(int(part) for part in release[0].split(".")) if release else ()
