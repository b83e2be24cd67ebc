"""Whether the Hub answers, and whom it takes this user for."""

import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import requests

from hugging_llama_cli.checks.finding import Finding, Subject, innermost, ok, problem, warning
from hugging_llama_config.exposure import is_loopback

_TIMEOUTS_S = (5.0, 15.0)
_LOGIN = "log in with 'hf auth login', or set HF_TOKEN to a token of https://huggingface.co/settings/tokens"


def check_hub(subject: Subject) -> Iterator[Finding]:
    """Reachability and token; nothing is asked in offline mode."""
    endpoint, token = subject.settings.hub_endpoint, subject.settings.find_hub_token()
    shown = urlsplit(endpoint)._replace(netloc=urlsplit(endpoint).netloc.rpartition("@")[2]).geturl()
    if subject.client.is_hub_offline:
        yield ok("offline mode is on (HF_HUB_OFFLINE): the Hub is not asked, and only models on disk can be used")
        return
    if token and endpoint.startswith("http://") and not is_loopback(urlsplit(endpoint).hostname or ""):
        yield warning(f"the token goes to {shown} unencrypted", "use an https:// address as hub_endpoint")
    path = "/api/whoami-v2" if token else "/api/models?limit=1"
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    begun = time.monotonic()
    try:
        with requests.get(endpoint + path, headers=headers, timeout=_TIMEOUTS_S, stream=True) as response:
            took = f"{(time.monotonic() - begun) * 1000:.0f} ms"
            yield _judged(response, shown, took, has_token=bool(token))
    except requests.exceptions.SSLError as error:
        yield warning(
            f"no secure connection to the Hub at {shown}: {innermost(error)}",
            "a proxy may hold the connection: REQUESTS_CA_BUNDLE names the file of its certificate",
        )
    except requests.RequestException as error:
        yield warning(
            f"the Hub at {shown} can't be reached: {innermost(error)}",
            "check network, HTTPS_PROXY and HF_ENDPOINT; models on disk work without (HF_HUB_OFFLINE=1 says so)",
        )


def _judged(response: requests.Response, shown: str, took: str, *, has_token: bool) -> Finding:
    if response.ok and has_token:
        return ok(f"the Hub at {shown} answers after {took}, and knows the token as {_name(response)}")
    if response.ok:
        return ok(f"the Hub at {shown} answers after {took}; there is no token, which only gated models need")
    if response.status_code in (401, 403) and has_token:
        return problem(f"the Hub at {shown} refuses the token ({response.status_code})", _LOGIN)
    if response.status_code == 429:
        return warning(f"the Hub at {shown} has had too many requests from here", "wait some minutes")
    return warning(
        f"the Hub at {shown} answers {response.status_code}", "try again later, or check hub_endpoint and HF_ENDPOINT"
    )


def _name(response: requests.Response) -> str:
    try:
        account = response.json()
        role = account.get("auth", {}).get("accessToken", {}).get("role", "")
        return f"{account['name']}" + (f" ({role})" if role else "")
    except (ValueError, LookupError, TypeError, AttributeError):
        return "somebody"
