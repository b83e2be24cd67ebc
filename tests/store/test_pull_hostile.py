"""A Hub that means harm: nothing leaves the cache, the token goes nowhere, memory stays small."""

import gzip
import json
import resource
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hugging_llama.errors import HuggingLlamaError, InvalidRequestError, TransferError
from hugging_llama.store import hub, hub_http, layout
from hugging_llama.store.names import parse_name
from hugging_llama.store.pull import PullRequest, pull_files
from tests.hub_server import Repo, git_sha1
from tests.store import models
from tests.store.conftest import QUICK, Workplace

SHA1 = "0" * 40
TreeLook = Callable[[], set[Path]]


def _pull_told(work: Workplace, revision: Any = None, tree: Any = None, **headers: str) -> HuggingLlamaError:
    """The error of a pull from a Hub that gives these replies."""
    work.hub.repos["acme/tiny"] = Repo(models.chat_model())
    if revision is not None:
        work.hub.fault("/revision/", "body", _body(revision), times=99, **headers)
    if tree is not None:
        work.hub.fault("/tree/", "body", _body(tree), times=99, **headers)
    with pytest.raises(HuggingLlamaError) as caught:
        work.pull("acme/tiny")
    assert work.refs() == []
    assert "0x" not in caught.value.message
    return caught.value


def _body(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


BAD_COMMITS = [
    "", "main", "0" * 39, "0" * 41, "A" * 40, "../" + "0" * 37, "0" * 40 + "\n", "٠" * 40, "/" * 40, "0" * 64, 1, None,
    [], {"a": 1}, "..", "%2e" * 13 + "0",
]  # fmt: skip


@pytest.mark.parametrize("commit", BAD_COMMITS)
def test_commit_ids(work: Workplace, tree_outside: TreeLook, commit: Any) -> None:
    before = tree_outside()
    assert isinstance(_pull_told(work, {"id": "acme/tiny", "sha": commit}), TransferError)
    assert tree_outside() == before
    assert list(work.cache.iterdir()) == []


@pytest.mark.parametrize("repo", ["../../evil", "/evil", "evil/other", "acme/tiny/../../x", "ACME/TINY", "", "a\0b"])
def test_ids_of_repositories(work: Workplace, tree_outside: TreeLook, repo: str) -> None:
    before = tree_outside()
    commit = Repo(models.chat_model()).commit
    work.hub.repos["acme/tiny"] = Repo(models.chat_model())
    work.hub.fault("/revision/", "body", _body({"id": repo, "sha": commit}))
    work.pull("acme/tiny")
    assert tree_outside() == before
    assert [path.name.lower() for path in work.cache.glob("m*")] == ["models--acme--tiny"]


def test_a_pinned_commit_is_that_commit(work: Workplace) -> None:
    repo = work.hub.repos["acme/tiny"] = Repo(models.chat_model())
    work.hub.fault("/revision/", "body", _body({"id": "acme/tiny", "sha": repo.commit}), times=99)
    with pytest.raises(TransferError, match="another commit"):
        work.pull("acme/tiny:" + "1" * 40)
    assert work.refs() == []


BAD_DIGESTS = [
    "",
    "x",
    "0" * 39,
    "A" * 40,
    "../" * 13 + "a",
    "/etc/passwd",
    "0" * 40 + "\n",
    "٠" * 40,
    "0" * 64 + "/",
    "%2e%2e",
]


@pytest.mark.parametrize("digest", BAD_DIGESTS)
@pytest.mark.parametrize("is_lfs", [True, False])
def test_digests(work: Workplace, tree_outside: TreeLook, digest: str, is_lfs: bool) -> None:
    before = tree_outside()
    bad: dict[str, Any] = {"type": "file", "path": "config.json", "size": 2, "oid": SHA1 if is_lfs else digest}
    if is_lfs:
        bad["lfs"] = {"oid": digest, "size": 2}
    assert isinstance(_pull_told(work, tree=[bad]), TransferError)
    assert tree_outside() == before
    assert list(work.cache.iterdir()) == []


BAD_PATHS = [
    "../x.json", "../../x.json", "/etc/x.json", "a/../../x.json", "..", ".", "", "/", "1_a/../../../x.json",
    "1_a//x.json", "..\\x.json", "C:\\x.json", "x\0.json", "x\n.json", "1_a/./x.json", ".json", ".x.json",
    "1_../x.json", "a" * 300 + ".json",
    "\u202ex.json", "~/x.json", "1_a/.ssh/x.json", "-x.json\x1b",
]  # fmt: skip


def test_paths(work: Workplace, tree_outside: TreeLook) -> None:
    before = tree_outside()
    files = models.chat_model()
    repo = work.hub.repos["acme/tiny"] = Repo(files)
    entries = [{"type": "file", "path": path, "size": 3, "oid": git_sha1(b"bad")} for path in BAD_PATHS]
    for path in sorted(models.KEPT - {"model.safetensors"}):
        entries.append({"type": "file", "path": path, "size": len(files[path]), "oid": git_sha1(files[path])})
    weights = files["model.safetensors"]
    good: dict[str, Any] = {"type": "file", "path": "model.safetensors", "size": 1, "oid": SHA1}
    good["lfs"] = {"oid": models.sha256(weights), "size": len(weights)}
    work.hub.fault("/tree/", "body", _body([*entries, good]))
    work.pull("acme/tiny")
    assert work.files("acme/tiny").keys() == models.KEPT
    assert tree_outside() == before
    assert repo.commit in str(work.store.resolve("acme/tiny").ref.path)


def test_a_file_that_is_also_a_folder(work: Workplace, tree_outside: TreeLook) -> None:
    files = models.chat_model() | {
        "1_a": b"x",
        "1_a/config.json": b"{}",
        "1_a.json": b"{}",
        "1_a.json/config.json": b"{}",
    }
    work.hub.repos["acme/tiny"] = Repo(files)
    before = tree_outside()
    work.pull("acme/tiny")
    assert tree_outside() == before


BAD_REPLIES = [
    b"", b"null", b"[]", b"1", b'"x"', b"{", b"\xff\xfe", b"[" * 1_000_000, b'{"sha":' * 10_000, {"id": 1, "sha": SHA1},
    {"sha": SHA1, "id": None}, b"<html>login</html>",
]  # fmt: skip


@pytest.mark.parametrize("reply", BAD_REPLIES)
def test_replies_about_the_revision(work: Workplace, reply: Any) -> None:
    assert isinstance(_pull_told(work, revision=reply), TransferError)


BAD_TREES: list[Any] = [
    b"", b"null", b"{}", b"1", b"{", b"[" * 1_000_000, [1], [None], [[]], [{}], [{"type": "file"}], [],
    [{"type": "file", "path": 1, "oid": SHA1}], [{"type": "file", "path": "a", "oid": SHA1, "size": -1}],
    [{"type": "file", "path": "a", "oid": SHA1, "size": 2**60}],
    [{"type": "file", "path": "a", "oid": SHA1, "size": "1"}],
    [{"type": "file", "path": "a", "oid": SHA1, "lfs": []}],
    [{"type": "file", "path": "a", "oid": SHA1, "lfs": {"oid": 1}}],
]  # fmt: skip


@pytest.mark.parametrize("tree", BAD_TREES)
def test_replies_about_the_files(work: Workplace, tree: Any) -> None:
    assert isinstance(_pull_told(work, tree=tree), TransferError)


def test_json_bombs_stay_small(work: Workplace) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bomb = _gzip_of_spaces(100)
    for encoding in ("gzip", "x-gzip"):
        error = _pull_told(work, tree=bomb, Content_Encoding=encoding)
        assert "too big" in error.message
    for encoding in ("br", "zstd", "deflate", "gzip, gzip"):
        work.hub.faults.clear()
        error = _pull_told(work, tree=bomb, Content_Encoding=encoding)
        assert "packed" in error.message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


def _gzip_of_spaces(megabytes: int) -> bytes:
    """A reply of some kilobytes that unpacks to so many megabytes, made without holding them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = b" " * 2**20
    return b"".join(packer.compress(block) for _ in range(megabytes)) + packer.flush()


def test_long_replies_are_cut_off(work: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_http, "MAX_JSON_BYTES", 1_000_000)
    entry = {"type": "file", "path": "config.json", "size": 2, "oid": SHA1}
    assert "too big" in _pull_told(work, tree=[entry] * 20_000).message


def test_packed_replies_are_understood(work: Workplace) -> None:
    repo = work.hub.repos["acme/tiny"] = Repo(models.chat_model())
    body = gzip.compress(_body({"id": "acme/tiny", "sha": repo.commit}))
    work.hub.fault("/revision/", "body", body, Content_Encoding="gzip")
    work.pull("acme/tiny")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["file", SHA1]),
    lambda children: (
        st.lists(children)
        | st.dictionaries(st.sampled_from(["type", "path", "oid", "size", "lfs", "sha", "id"]) | st.text(), children)
    ),
    max_leaves=20,
)


@given(JSON_VALUES, st.binary(max_size=20))
def test_no_reply_gets_through_unchecked(value: Any, rubbish: bytes) -> None:
    """Whatever the Hub says, it is a list of files with clean digests, or one kind of error."""
    for body in (_body(value), _body([value]), rubbish, _body(value)[:10] + rubbish):
        try:
            files = [hub._remote_file(entry) for entry in hub._decoded(body, hub._TREE_DECODER)]
        except TransferError:
            continue
        assert all(file is None or (layout.is_digest(file.digest) and file.size_bytes >= 0) for file in files)


def test_lists_without_end(work: Workplace) -> None:
    entry = [{"type": "file", "path": "config.json", "size": 2, "oid": SHA1}]
    link = f'<{work.hub.endpoint}/api/models/acme/tiny/tree/{SHA1}?cursor=1>; rel="next"'
    assert "no end" in _endless(work, entry, link).message
    assert len(work.hub.requests("/tree/")) <= 200


def _endless(work: Workplace, entry: Any, link: str) -> HuggingLlamaError:
    work.hub.repos["acme/tiny"] = Repo(models.chat_model())
    work.hub.fault("/tree/", "body", _body(entry), times=10_000, Link=link)
    with pytest.raises(TransferError) as caught:
        work.pull("acme/tiny")
    return caught.value


@pytest.mark.parametrize(
    "url", ["http://localhost:1/x", "https://evil.example/x", "file:///etc/passwd", "//evil.example/"]
)
def test_lists_that_go_on_elsewhere(work: Workplace, url: str) -> None:
    error = _endless(work, [], f'<{url}>; rel="next"')
    assert "elsewhere" in error.message
    assert len(work.hub.seen) == 2


@pytest.mark.parametrize("where", ["/revision/", "/tree/", "/resolve/.*config.json"])
@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://x/y", "gopher://x", "http://", "//", "http://[::1", "x:y"]
)
def test_redirects_to_no_url(work: Workplace, where: str, url: str) -> None:
    work.hub.repos["acme/tiny"] = Repo(models.chat_model())
    work.hub.fault(where, "redirect", url, times=99)
    with pytest.raises(TransferError):
        work.pull("acme/tiny")
    assert work.refs() == []


def test_redirects_without_end(work: Workplace) -> None:
    work.hub.repos["acme/tiny"] = Repo(models.chat_model())
    work.hub.fault("", "redirect", "/again", times=10_000)
    with pytest.raises(TransferError, match="without end"):
        work.pull("acme/tiny")
    assert len(work.hub.seen) < 10


@pytest.mark.parametrize("where", ["/revision/", "/tree/", "/resolve/.*config.json"])
def test_the_token_follows_no_redirect(work: Workplace, where: str) -> None:
    work.token = "hf_good"
    work.hub.repos["acme/tiny"] = Repo(models.chat_model())
    elsewhere = f"http://localhost:{work.hub.port}/elsewhere"
    work.hub.fault(where, "redirect", elsewhere)
    work.hub.fault("/elsewhere", "status", 401, WWW_Authenticate=f'Bearer realm="{elsewhere}"')
    assert work.pull("acme/tiny")[-1].status == "success"  # the Hub itself is asked again
    (seen,) = work.hub.requests("/elsewhere")
    assert seen.authorization == ""
    assert all(seen.host.startswith("127.0.0.1") for seen in work.hub.seen if seen.authorization)


@pytest.mark.parametrize(
    "target", ["http://127.0.0.1:{port}/x", "http://localhost:{port}/x", "http://169.254.169.254/x", "http://[::1]/x",
               "http://0x7f000001:{port}/x", "http://127.1:{port}/x", "http://10.0.0.1/"]
)  # fmt: skip
def test_a_public_hub_can_not_point_inside(work: Workplace, target: str) -> None:
    policy = hub_http.HubHttp(hub_http.HubAccess(endpoint="http://hub.example"), QUICK)
    with pytest.raises(TransferError, match="inside of this network"):
        policy._check_redirect("http://hub.example/a", target.format(port=work.hub.port))
    policy.close()


def test_https_does_not_become_http() -> None:
    http = hub_http.HubHttp(hub_http.HubAccess(endpoint="https://hub.example"), QUICK)
    with pytest.raises(TransferError, match="from https to http"):
        http._check_redirect("https://hub.example/a", "http://cdn.example/a")
    http.close()


def test_a_file_that_comes_packed(work: Workplace) -> None:
    work.hub.repos["acme/tiny"] = Repo(models.chat_model())
    work.hub.fault("/_cdn/", "body", b"x" * 100, Content_Encoding="gzip")
    with pytest.raises(TransferError, match="packs"):
        work.pull("acme/tiny")


def test_ranges_that_lie(work: Workplace) -> None:
    files = models.chat_model(3_000_000)
    work.hub.repos["acme/tiny"] = Repo(files)
    work.hub.fault("/_cdn/", "cut", 1_000_000)
    work.hub.fault("/_cdn/", "status", 206, Content_Range="bytes 0-3/4")
    work.hub.fault("/_cdn/", "status", 206, Content_Range="nonsense")
    work.hub.fault("/_cdn/", "status", 206)
    with pytest.raises(TransferError, match="another part"):
        work.pull("acme/tiny")
    assert work.refs() == []
    work.pull("acme/tiny")
    assert work.files("acme/tiny")["model.safetensors"] == files["model.safetensors"]


def test_an_index_that_points_outside(work: Workplace, tree_outside: TreeLook) -> None:
    before = tree_outside()
    index = {"weight_map": {"a": "../../../x.safetensors"}}
    files = {"config.json": b"{}", "model.safetensors.index.json": _body(index), "a.safetensors": b"x"}
    work.hub.repos["acme/tiny"] = Repo(files)
    with pytest.raises(TransferError, match="outside"):
        work.pull("acme/tiny")
    assert tree_outside() == before
    assert work.refs() == []


def test_the_engine_room_is_not_asked(work: Workplace) -> None:
    """Names that look like hosts never lead to a request."""
    for name in ("169.254.169.254/x", "localhost:22/x", "evil.com:80/x", "http://evil.com/x/y"):
        with pytest.raises(InvalidRequestError):
            list(pull_files(PullRequest(name=parse_name(name), cache="", access=hub_http.HubAccess(endpoint=""))))
    assert work.hub.seen == []
