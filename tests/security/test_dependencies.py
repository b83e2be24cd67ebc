"""What is installed: pinned, beyond the versions with known holes, and without packages that would open one."""

import re
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LEAST = {
    "jinja2": "3.1.6",  # CVE-2025-27516: out of the sandbox
    "gunicorn": "23.0.0",  # CVE-2024-1135, CVE-2024-6827: request smuggling
    "transformers": "5.3.0",  # CVE-2026-4372: a configuration reaches code
    "werkzeug": "3.0.6",  # CVE-2024-49767: forms fill the memory
    "requests": "2.32.4",  # CVE-2024-47081: passwords of .netrc go elsewhere
    "urllib3": "2.5.0",  # CVE-2025-50181: redirects that were switched off
    "torch": "2.6.0",  # CVE-2025-32434: code in weights_only
}
NEVER = {"kernels", "xgrammar", "flask-cors", "bitsandbytes", "torchao"}
"""`kernels` runs code that a configuration names; the others were tried and left out."""


def _pins() -> dict[str, str]:
    lines = [line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    requirements = [Requirement(line) for line in lines if line]
    found = {}
    for requirement in requirements:
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", requirement
        assert requirement.url is None, requirement
        found[str(canonicalize_name(requirement.name))] = specifier.version
    return found


def test_pins_are_beyond_known_holes() -> None:
    pins = _pins()
    assert {name: pins.get(name) for name, least in LEAST.items() if Version(pins[name]) < Version(least)} == {}
    assert pins.keys() & NEVER == set()


def test_what_is_asked_for_is_pinned() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    asked = set(re.findall(r'^    "([A-Za-z0-9_-]+)(?:\[\w+\])?[<>=]=', text, re.MULTILINE))
    assert len(asked) > 20
    assert {canonicalize_name(name) for name in asked} - _pins().keys() == set()
