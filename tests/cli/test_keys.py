"""`hugging-llama keys`: the file is changed, and nothing secret is shown twice."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from hugging_llama_config.keys import KeyFileError, add_key, hash_of, new_key, read_keys
from tests.cli.conftest import Invoke

FILE = Path(".cache", "hugging-llama", "keys.json")
SERVICE, GROUP = 64_321, 64_322
"""A user and a group that have no names."""


def test_a_keys_life(invoke: Invoke, tmp_path: Path) -> None:
    assert invoke("keys", "list")[1].startswith("No keys: there is no file ")
    code, secret, err = invoke(
        "keys", "add", "ci", "--role", "use", "--role", "metrics", "--model", "qwen/*", "--requests-per-minute", "60",
        "--tokens-per-minute", "1000", "--priority", "2",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert secret.startswith("hl-")
    (key,) = read_keys(str(tmp_path / FILE))
    assert key.sha256 == hash_of(secret.strip())
    assert (key.name, key.roles, key.models, key.priority) == ("ci", ("use", "metrics"), ("qwen/*",), 2)
    assert (key.requests_per_minute, key.tokens_per_minute) == (60, 1000)
    assert secret.strip() not in (tmp_path / FILE).read_text()
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    listed = invoke("keys", "list")[1]
    assert listed.splitlines()[0].split() == ["NAME", "ID", "ROLES", "MODELS", "LIMITS", "CREATED"]
    assert "60 requests/min, 1000 tokens/min, priority 2" in listed
    assert secret.strip() not in listed
    assert invoke("keys", "revoke", key.id) == (0, "revoked 'ci'\n", "")
    assert read_keys(str(tmp_path / FILE)) == ()


def test_a_key_that_could_not_be_printed_is_none(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    command = [sys.executable, "-m", "hugging_llama_cli", "keys", "add", "me", "--file", str(file)]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "No space left" in ended.stderr
    assert read_keys(str(file)) == ()


def test_a_key_may_use_models_and_nothing_else_by_default(invoke: Invoke, tmp_path: Path) -> None:
    assert invoke("keys", "add", "me")[0] == 0
    (key,) = read_keys(str(tmp_path / FILE))
    assert (key.roles, key.models, key.requests_per_minute) == (("use",), (), 0)


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["add"], 2, "a key's name is made of letters"),
        (["add", "a b"], 2, "a key's name is made of letters"),
        (["add", "me"], 1, "there is a key 'me' already"),
        (["add", "x", "--role", "god"], 2, "invalid choice: 'god'"),
        (["add", "x", "--tokens-per-minute", "-1"], 2, "'-1' is not a number"),
        (["revoke", "nobody"], 1, "there is no key 'nobody'"),
        (["revoke", "hl-" + "a" * 32], 1, "there is no key 'hl-***'"),
        (["revoke"], 2, "which key?"),
        (["forget", "me"], 2, "invalid choice: 'forget'"),
        (["add", "x", "--priority", "99999999999999999999"], 2, "is not a number from -1000000000 to 1000000000"),
        (["add", "x", "--priority", "9" * 5000], 2, "is not a number from -1000000000 to 1000000000"),
        (["add", "x", "--tokens-per-minute", "²"], 2, "'²' is not a number"),
        (["add", "x", "--role", "admin", "--model", "demo"], 2, "a key with the role admin may use all models"),
        (["add", "x", "--file", ""], 2, "--file needs a path"),
        (["list", "--file="], 2, "--file needs a path"),
        (["list", "nope"], 2, "'keys list' takes no name"),
        (["list", "--role", "admin"], 2, "--role is for 'keys add'"),
        (["list", "--priority", "0"], 2, "--priority is for 'keys add'"),
        (["revoke", "me", "--role", "use", "--model", "y"], 2, "--role is for 'keys add'"),
        (["revoke", "me", "--requests-per-minute", "0"], 2, "--requests-per-minute is for 'keys add'"),
    ],
)
def test_what_can_not_be(invoke: Invoke, argv: list[str], code: int, message: str) -> None:
    invoke("keys", "add", "me")
    found = invoke("keys", *argv)
    assert (found[0], found[1]) == (code, "")
    assert message in found[2]
    assert found[2].count("\n") == 1


DAMAGED = [
    ("", "is damaged: it is empty"),
    ("{", "is damaged: it is no JSON from line 1, column 2 on"),
    ("\xff", "is damaged: it is no JSON"),
    ("[" * 100_000, "is damaged: it is no JSON"),
    ("[]", "is damaged: it must be an object, such as"),
    ('{"keys": []}', "is damaged: it must be an object, such as"),
    ('{"format": 2, "keys": []}', "has format 2, and this version knows 1"),
    ('{"format": 1}', "is damaged: it has no list of 'keys'"),
    ('{"format": 1, "keys": {"a": 1}}', "is damaged: it has no list of 'keys'"),
    ('{"format": 1, "keys": [[]]}', "is damaged: key 1: it must be an object, such as"),
    ('{"format": 1, "keys": [{"id": "x"}]}', "is damaged: key 1: it has no 'name'"),
]
ROW = {"id": "aa", "name": "ann", "sha256": "0" * 64, "roles": ["use"]}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"secret": "x"}, "nobody knows its field 'secret'"),
        ({"id": "../x"}, "its 'id' must be a text of 1 to 64 characters without '/'"),
        ({"roles": "use"}, "its 'roles' must be a list of roles: use, manage, metrics, admin"),
        ({"roles": ["god"]}, "its 'roles' must be a list of roles: use, manage, metrics, admin"),
        ({"models": "demo"}, "its 'models' must be a list of texts"),
        ({"models": [None]}, "its 'models' must be a list of texts"),
        ({"requests_per_minute": "60"}, "its 'requests_per_minute' must be a whole number from 0 to 1000000000"),
        ({"tokens_per_minute": -1}, "its 'tokens_per_minute' must be a whole number from 0 to 1000000000"),
        ({"priority": 10**20}, "its 'priority' must be a whole number from -1000000000 to 1000000000"),
        ({"priority": True}, "its 'priority' must be a whole number from -1000000000 to 1000000000"),
        ({"created_at_s": 1e300}, "its 'created_at_s' must be a time in seconds since 1970"),
    ],
)
def test_what_is_wrong_in_a_row_is_told(invoke: Invoke, tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"format": 1, "keys": [{**ROW, **fields}]}))
    said = f"Error: {path} is damaged: key 1 ('ann'): {words}\n"
    for argv in (["list"], ["add", "x"], ["revoke", "ann"]):
        assert invoke("keys", *argv, "--file", str(path)) == (1, "", said)


@pytest.mark.parametrize(("text", "words"), DAMAGED)
def test_a_damaged_file_is_told_and_left_alone(invoke: Invoke, tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(text, "latin-1")
    for argv in (["list"], ["add", "x"], ["revoke", "x"]):
        code, out, err = invoke("keys", *argv, "--file", str(path))
        assert (code, out) == (1, "")
        assert err.startswith(f"Error: {path} {words}")
    assert path.read_text("latin-1") == text
    with pytest.raises(KeyFileError):
        read_keys(str(path))


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_no_file_is_refused_at_once(invoke: Invoke, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "keys.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    for argv in (["list"], ["add", "x"], ["revoke", "x"]):
        assert invoke("keys", *argv, "--file", str(path)) == (1, "", f"Error: {path} is no regular file\n")


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("", "it is empty"), ("hf.co/", "names are NAME or ORG/NAME"), ("[", "its [ has no ] after it"),
        ("a b", "no model's name has ' ' in it; give each pattern by itself"),
        ("qwen/*,demo", "no model's name has ',' in it; give each pattern by itself"),
        ("a\nb", "it has a character that can't be printed"), ("../x", "names are NAME or ORG/NAME"),
        ("a/b/*", "names are NAME or ORG/NAME"), ("a/b/c", "names are NAME or ORG/NAME"),
        ("http://example.com/*", "names are NAME or ORG/NAME"), ("x:cloud", "there are no cloud models here"),
        ("/models/../x", "a model's path has no empty parts"), ("/", "a model's path has no empty parts"),
    ],
)  # fmt: skip
def test_patterns_that_are_for_no_model(invoke: Invoke, tmp_path: Path, pattern: str, words: str) -> None:
    code, out, err = invoke("keys", "add", "me", f"--model={pattern}")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"argument --model: no model is covered by {pattern!r}: {words}" in err
    assert not (tmp_path / FILE).exists()


def test_patterns_that_are_for_models(invoke: Invoke, tmp_path: Path) -> None:
    patterns = ("*", "demo", "Qwen/*", "*/demo", "hf.co/org/name:main", "org/name-[ab]", "org/name:*", "/models/My Own")
    assert invoke("keys", "add", "me", *(f"--model={pattern}" for pattern in (*patterns, "demo")))[0] == 0
    assert read_keys(str(tmp_path / FILE))[0].models == patterns


def test_no_key_seems_to_have_more_than_it_has(invoke: Invoke, tmp_path: Path) -> None:
    """An earlier version took any text for a pattern."""
    path = tmp_path / "keys.json"
    rows = [ROW | {"models": [""]}, ROW | {"name": "bob", "id": "bb", "models": ["a b", "demo"]}]
    path.write_text(json.dumps({"format": 1, "keys": rows}))
    listed = invoke("keys", "list", "--file", str(path))[1]
    assert "all" not in listed
    assert [line.split()[3] for line in listed.splitlines()[1:]] == ["''", "'a"]


def test_a_file_without_keys_lets_nobody_in(invoke: Invoke, tmp_path: Path) -> None:
    invoke("keys", "add", "me")
    invoke("keys", "revoke", "me")
    code, out, err = invoke("keys", "list")
    assert (code, err) == (0, "")
    assert f"{tmp_path / FILE} holds none, and nobody may come in until" in out
    assert invoke("keys", "list", "--json") == (0, "[]\n", "")


def test_an_id_is_no_name_of_another_key(invoke: Invoke, tmp_path: Path) -> None:
    invoke("keys", "add", "me")
    (key,) = read_keys(str(tmp_path / FILE))
    assert invoke("keys", "add", key.id) == (
        1,
        "",
        f"Error: '{key.id}' is the id of another key; choose another name\n",
    )
    # by hand such files can be made
    table = json.loads((tmp_path / FILE).read_text())
    table["keys"].append(ROW | {"name": key.id})
    (tmp_path / FILE).write_text(json.dumps(table))
    code, _, err = invoke("keys", "revoke", key.id)
    assert (code, f"'{key.id}' is the name or the id of 2 keys (their ids: {key.id}, aa)" in err) == (1, True)
    assert len(read_keys(str(tmp_path / FILE))) == 2
    assert invoke("keys", "revoke", "aa")[0] == 0


def test_a_link_stays_and_leads_to_what_has_changed(invoke: Invoke, tmp_path: Path) -> None:
    real, link = tmp_path / "real" / "keys.json", tmp_path / "link.json"
    assert invoke("keys", "add", "me", "--file", str(real))[0] == 0
    link.symlink_to(real)
    assert invoke("keys", "add", "you", "--file", str(link))[0] == 0
    assert invoke("keys", "revoke", "me", "--file", str(link))[0] == 0
    assert link.is_symlink()
    assert [key.name for key in read_keys(str(real))] == ["you"]
    assert sorted(os.listdir(real.parent)) == [".keys.json.lock", "keys.json"]
    real.unlink()
    code, _, err = invoke("keys", "add", "me", "--file", str(link))
    assert (code, err) == (1, f"Error: {link} leads to nothing\n")


@pytest.mark.parametrize("name", [".keys.json.lock", pytest.param(f".keys.json.{os.getpid()}", id="temporary")])
def test_no_planted_link_is_followed(invoke: Invoke, tmp_path: Path, name: str) -> None:
    """Whoever may write to the folder must not lead root elsewhere."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    victim.chmod(0o644)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / name).symlink_to(victim)
    invoke("keys", "add", "me", "--file", str(folder / "keys.json"))
    assert (victim.read_text(), victim.stat().st_mode & 0o777) == ("precious", 0o644)


def test_a_group_that_may_read_the_file_still_may(invoke: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    invoke("keys", "add", "me", "--file", str(path))
    path.chmod(0o644)
    invoke("keys", "add", "you", "--file", str(path))
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_leaves_the_file_to_whom_it_belongs(invoke: Invoke, tmp_path: Path) -> None:
    def owners() -> set[tuple[int, int]]:
        return {(found.stat().st_uid, found.stat().st_gid) for found in path.parent.iterdir()}

    path = tmp_path / "home" / "keys.json"
    path.parent.mkdir()
    os.chown(path.parent, SERVICE, GROUP)
    # a new one is for whom the folder belongs to: the server
    assert invoke("keys", "add", "me", "--file", str(path))[0] == 0
    assert owners() == {(SERVICE, GROUP)}
    os.chown(path.parent, 0, 0)
    assert invoke("keys", "add", "you", "--file", str(path))[0] == 0
    assert invoke("keys", "revoke", "me", "--file", str(path))[0] == 0
    assert owners() == {(SERVICE, GROUP)}
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_nobody_else_takes_the_file_away() -> None:
    with tempfile.TemporaryDirectory() as folder:  # those of pytest are for their user alone
        path = Path(folder) / "keys.json"
        add_key(str(path), new_key("me", roles=("use",))[0])
        os.chmod(folder, 0o777)
        path.chmod(0o660)
        os.chown(path, SERVICE, GROUP)
        (path.parent / ".keys.json.lock").unlink()
        before = path.read_text()
        os.setegid(GROUP)
        os.seteuid(SERVICE + 1)
        try:
            with pytest.raises(KeyFileError) as refused:
                add_key(str(path), new_key("you", roles=("use",))[0])
        finally:
            os.seteuid(0)
            os.setegid(0)
        whose = f"{path} belongs to {SERVICE}:{GROUP}"
        assert str(refused.value) == f"{whose}, who would lose it: change it as them, or as root"
        assert (path.read_text(), path.stat().st_uid) == (before, SERVICE)
        assert sorted(os.listdir(folder)) == [".keys.json.lock", "keys.json"]


def test_the_command_line_sends_its_key(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    from hugging_llama_config.client import load_client_settings

    monkeypatch.setenv("OLLAMA_API_KEY", "theirs")
    assert load_client_settings().api_key == "theirs"
    monkeypatch.setenv("HUGGING_LLAMA_API_KEY", "ours")
    assert load_client_settings().api_key == "ours"


def test_the_file_is_json_that_people_can_read(invoke: Invoke, tmp_path: Path) -> None:
    invoke("keys", "add", "me")
    table = json.loads((tmp_path / FILE).read_text())
    assert (table["format"], table["keys"][0]["name"]) == (1, "me")
