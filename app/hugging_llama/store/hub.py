"""What the Hub says about a repository, checked before anything believes it."""

import urllib.parse
from dataclasses import dataclass
from typing import Annotated, TypeVar

import huggingface_hub.constants as hub_constants
import msgspec
import requests

from hugging_llama.errors import (
    GatedModelError,
    HuggingLlamaError,
    InvalidRequestError,
    KeyRejectedError,
    ModelNotFoundError,
    TransferError,
)
from hugging_llama.store import hub_http, layout, names
from hugging_llama.store.hub_http import HubAccess, HubHttp
from hugging_llama.store.names import ModelName
from hugging_llama.store.retry import RetryPolicy, TransientError

OFFLINE = "HF_HUB_OFFLINE is set"

_MAX_PAGES = 200
_MAX_FILES = 100_000
_Size = Annotated[int, msgspec.Meta(ge=0, le=2**50)]


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a commit. `digest` is the sha256 of a big file, else git's sha1; it has passed `layout.is_digest`."""

    path: str
    size_bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class RemoteCommit:
    """What a revision is now. `repo` is the id in the Hub's own letters, `commit` has 40 hex characters."""

    repo: str
    commit: str


class _RevisionReply(msgspec.Struct):
    sha: str
    id: str = ""


class _Lfs(msgspec.Struct):
    oid: str
    size: _Size


class _TreeEntry(msgspec.Struct):
    type: str
    path: str
    size: _Size = 0
    oid: str = ""
    lfs: _Lfs | None = None


_REVISION_DECODER = msgspec.json.Decoder(_RevisionReply)
_TREE_DECODER = msgspec.json.Decoder(list[_TreeEntry])
_Reply = TypeVar("_Reply")


class Hub:
    """One Hub. Methods raise the typed errors of `hugging_llama.errors`; what may go away is a TransientError."""

    def __init__(self, access: HubAccess, policy: RetryPolicy) -> None:
        if hub_constants.HF_HUB_OFFLINE:
            raise TransferError(f"offline mode is on ({OFFLINE}): {access.host} is not contacted", cause=OFFLINE)
        self._access = access
        self._http = HubHttp(access, policy)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def commit(self, name: ModelName) -> RemoteCommit:
        """The commit that a revision means."""
        revision = urllib.parse.quote(name.revision, safe="")
        url = f"{self._access.endpoint}/api/models/{name.repo}/revision/{revision}"
        response = self._get(url, name)
        reply = _decoded(hub_http.read_json_bytes(response), _REVISION_DECODER)
        if not names.is_commit(reply.sha):
            raise _bad_reply("its commit id is none")
        if name.is_commit and reply.sha != name.revision:
            raise _bad_reply("it is about another commit than was asked for")
        # Legacy single-part names keep theirs: it is what users will ask for again.
        repo = reply.id if reply.id.lower() == name.repo.lower() else name.repo
        return RemoteCommit(repo, reply.sha)

    def files(self, name: ModelName, commit: str) -> list[RemoteFile]:
        """The files of a commit. What is no plain file with a usable path and digest is left out."""
        found: list[RemoteFile] = []
        url = f"{self._access.endpoint}/api/models/{name.repo}/tree/{commit}?recursive=true&expand=false"
        first = url
        for _ in range(_MAX_PAGES):
            response = self._get(url, name)
            entries = _decoded(hub_http.read_json_bytes(response), _TREE_DECODER)
            found += [file for entry in entries if (file := _remote_file(entry))]
            if len(found) > _MAX_FILES:
                raise _bad_reply("it lists too many files")
            following = response.links.get("next", {}).get("url")
            if not following:
                return found
            url = urllib.parse.urljoin(url, following)
            if urllib.parse.urlsplit(url)[:2] != urllib.parse.urlsplit(first)[:2]:
                raise _bad_reply("its list of files goes on elsewhere")
        raise _bad_reply("its list of files has no end")

    def open_file(self, name: ModelName, commit: str, path: str, start: int) -> requests.Response:
        """A file's content from byte `start` on (206), or all of it (200) where the Hub does not do ranges."""
        url = f"{self._access.endpoint}/{name.repo}/resolve/{commit}/{urllib.parse.quote(path)}"
        response = self._get(url, name, {"Range": f"bytes={start}-"} if start else None, file=path)
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            response.close()
            raise TransferError("the Hub packs a file that must come as it is", repo=name.repo, cause="encoding")
        return response

    def _get(
        self, url: str, name: ModelName, headers: dict[str, str] | None = None, file: str = ""
    ) -> requests.Response:
        response = self._http.get(url, headers)
        if response.status_code in (200, 206):
            return response
        response.close()
        if response.status_code == 416 and headers:
            raise TransientError("the Hub has less of a file than it said")
        if not self._http.is_own(response):  # where it redirects to knows no token; its signed addresses expire
            raise TransientError(f"a host that {self._access.host} redirects to answered {response.status_code}")
        if response.status_code == 404 and file and "Repo" not in response.headers.get("X-Error-Code", ""):
            raise TransferError(f"the Hub lists {file} but does not have it", repo=name.repo, cause="file is missing")
        raise self._refusal(response, name)

    def _refusal(self, response: requests.Response, name: ModelName) -> HuggingLlamaError:
        status, code = response.status_code, response.headers.get("X-Error-Code", "")
        host, token = self._access.host, self._access.token
        if code == "GatedRepo":
            page = f"{self._access.public_endpoint}/{name.repo}"
            text = f"access to {name.repo} must be granted first: see {page}"
            if not token:
                text += ", and set a token"
            return GatedModelError(text, repo=name.repo, url=page)
        if code == "RevisionNotFound":
            return InvalidRequestError(f"{name.repo} has no revision {name.revision}", param="revision")
        if code != "RepoNotFound" and (status == 403 or (status == 401 and token)):
            text = f"{host} rejects the token" if token else f"{host} refuses access: set HUGGING_LLAMA_HUB_TOKEN"
            return KeyRejectedError(text, realm=host)
        if code == "RepoNotFound" or status in (401, 404):
            # The Hub says the same of a private repository to somebody who may not see it.
            return ModelNotFoundError(name.display, name.display)
        return TransferError(f"{host} answered {status}", repo=name.repo, cause=f"status {status}")


def _remote_file(entry: _TreeEntry) -> RemoteFile | None:
    if entry.type != "file" or not layout.is_safe_file(entry.path):
        return None
    digest, size = (entry.lfs.oid, entry.lfs.size) if entry.lfs else (entry.oid, entry.size)
    if len(digest) != (64 if entry.lfs else 40) or not layout.is_digest(digest):
        raise _bad_reply("one of its digests is none")
    return RemoteFile(entry.path, size, digest)


def _decoded(body: bytes, decoder: msgspec.json.Decoder[_Reply]) -> _Reply:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad_reply("it is not what was asked for") from error


def _bad_reply(cause: str) -> TransferError:
    return TransferError(f"the Hub's reply can't be used: {cause}", cause=cause)
