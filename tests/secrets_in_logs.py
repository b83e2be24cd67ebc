"""What no log of any server may hold: every secret that the tests give to one. Looked for whenever a server stops."""

from pathlib import Path

PLANTED = "planted-secret"
"""Part of every key and token that is made up for this."""
SECRETS = (PLANTED, "hf_good", "hf_read", "hf_bad", "hf_secret_token")


def check_no_secrets(log: Path) -> None:
    """Raises AssertionError if a server's log holds one."""
    content = log.read_bytes() if log.exists() else b""
    found = [secret for secret in SECRETS if secret.encode() in content]
    assert not found, f"{log} holds the secrets {found}"
