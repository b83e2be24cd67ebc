"""What is written to the stand-in Hub: new repositories and branches, big files, commits."""

import base64
import hashlib
import json
import math
import re
from typing import Any

from tests.hub_server.exchange import Exchange
from tests.hub_server.repository import Repo, commit_of, digest_of, is_lfs

_INITIAL = {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}


class Uploads(Exchange):
    """POST and PUT."""

    def write(self, path: str) -> None:
        if path == "/api/repos/create":
            return self.create(self.read_json())
        if path == "/api/validate-yaml":
            return self.validate_card(self.read_json())
        if match := re.fullmatch(r"/api/models/(.+?)/preupload/(.+)", path):
            return self.preupload(match[1], match[2], self.read_json())
        if match := re.fullmatch(r"/api/models/(.+?)/commit/(.+)", path):
            return self.commit(match[1], match[2], self.read_body())
        if match := re.fullmatch(r"/api/models/(.+?)/branch/(.+)", path):
            return self.branch(match[1], match[2], self.read_json())
        if match := re.fullmatch(r"/(.+?)\.git/info/lfs/objects/batch", path):
            return self.batch(match[1], self.read_json())
        if match := re.fullmatch(r"/(.+?)\.git/info/lfs/verify", path):
            return self.verify(match[1], self.read_json())
        if match := re.fullmatch(r"/_upload/([0-9a-f]{64})(?:/(\d+|done))?", path):
            return self.upload(match[1], match[2] or "")
        return self.refuse(404, "", "no such page")

    def writable(self, name: str) -> Repo | None:
        """The repository if who asks may write to it, or None after a refusal was sent."""
        account = self.account()
        repo = self.repo(name) if account else None
        if not account or not repo:
            return None
        stored = next(id for id in self.hub.repos if id.lower() == name.lower())
        if account.may_write(stored):
            return repo
        self.refuse(403, "", f"You don't have write access to {stored}")
        return None

    def create(self, body: dict[str, Any]) -> None:
        if not (account := self.account()):
            return None
        name = f"{body.get('organization') or account.name}/{body['name']}"
        if not account.may_write(name):
            namespace = name.partition("/")[0]
            text = f'You don\'t have the rights to create a model under the namespace "{namespace}"'
            return self.refuse(403, "", text)
        with self.hub.lock:
            found = self.hub.find(name)
            if not found:
                is_private = body.get("visibility") == "private" or body.get("private") is True
                self.hub.repos[name] = Repo(dict(_INITIAL), access="private" if is_private else "public")
        reply = {"url": f"{self.hub.endpoint}/{found[0] if found else name}", "id": "0"}
        if found:
            reply["error"] = "You already created this model repo"
        return self.json(reply, status=409 if found else 200)

    def branch(self, name: str, branch: str, body: dict[str, Any]) -> None:
        if not (repo := self.writable(name)):
            return None
        if repo.tree(branch) is not None:
            return self.refuse(409, "", f"Reference refs/heads/{branch} already exists")
        start = repo.tree(body.get("startingPoint", "main"))
        if start is None:
            return self.refuse(404, "RevisionNotFound", "Invalid rev id")
        repo.branches[branch] = dict(start)
        return self.json({})

    def validate_card(self, body: dict[str, Any]) -> None:
        """Front matter that begins must end; that it is YAML is not looked at."""
        text = str(body["content"])
        is_open = text.startswith("---\n") and "\n---\n" not in text[3:]
        errors = [{"message": "the front matter has no end"}] if is_open else []
        self.json({"errors": errors, "warnings": []}, status=400 if errors else 200)

    def preupload(self, name: str, revision: str, body: dict[str, Any]) -> None:
        if not (repo := self.writable(name)):
            return None
        files = repo.tree(revision)
        if files is None:
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        shown = []
        for file in body["files"]:
            path = file["path"]
            entry = {"path": path, "uploadMode": "lfs" if is_lfs(path) else "regular", "shouldIgnore": False}
            if path in files:
                entry["oid"] = digest_of(path, files[path])
            shown.append(entry)
        return self.json({"files": shown, "commitOid": commit_of(files)})

    def has(self, repo: Repo, oid: str) -> bool:
        return oid in self.hub.objects or any(digest_of(path, data) == oid for path, data in repo.files.items())

    def batch(self, name: str, body: dict[str, Any]) -> None:
        if not (repo := self.writable(name)):
            return None
        objects: list[dict[str, Any]] = []
        for item in body["objects"]:
            entry: dict[str, Any] = {"oid": item["oid"], "size": item["size"]}
            if not self.has(repo, item["oid"]):
                verify = f"{self.hub.endpoint}/{name}.git/info/lfs/verify"
                entry["actions"] = {"upload": self.upload_action(item), "verify": {"href": verify}}
            objects.append(entry)
        transfer = "multipart" if self.hub.part_size else "basic"
        headers = {"Content-Type": "application/vnd.git-lfs+json"}
        return self.json({"transfer": transfer, "objects": objects, "hash_algo": "sha256"}, headers)

    def upload_action(self, item: dict[str, Any]) -> dict[str, Any]:
        url, size = f"{self.hub.other_host}/_upload/{item['oid']}", self.hub.part_size
        if not size or item["size"] <= size:
            return {"href": url}
        parts = {str(n): f"{url}/{n}" for n in range(1, math.ceil(item["size"] / size) + 1)}
        # the list of parts is put together at the Hub itself
        return {"href": f"{self.hub.endpoint}/_upload/{item['oid']}/done", "header": {"chunk_size": str(size), **parts}}

    def upload(self, oid: str, part: str) -> None:
        """A whole file, a part of one, or the word that all parts are there."""
        data = self.read_body()
        if part and part != "done":
            self.hub.parts[oid, int(part)] = data
            return self.reply(200, b"", {"ETag": f'"{hashlib.md5(data).hexdigest()}"'})
        if part:
            count = len(json.loads(data)["parts"])
            data = b"".join(self.hub.parts[oid, n] for n in range(1, count + 1))
        if hashlib.sha256(data).hexdigest() != oid:
            return self.reply(400, b"<Error><Code>BadDigest</Code></Error>")
        self.hub.objects[oid] = data
        return self.reply(200, b"{}", {"ETag": f'"{oid}"'})

    def verify(self, name: str, body: dict[str, Any]) -> None:
        if self.writable(name):
            if len(self.hub.objects.get(body["oid"], b"")) != body["size"]:
                return self.refuse(404, "", "The object was not uploaded")
            return self.json({})
        return None

    def commit(self, name: str, branch: str, body: bytes) -> None:
        if not (repo := self.writable(name)):
            return None
        operations = [json.loads(line) for line in body.splitlines() if line]
        header = next(item["value"] for item in operations if item["key"] == "header")
        with self.hub.lock:
            before = repo.tree(branch)
            if before is None:
                return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {branch}")
            if header.get("parentCommit", commit_of(before)) != commit_of(before):
                return self.refuse(412, "", "A commit has happened since. Please refresh and try again.")
            after = self.changed(repo, before, operations)
            if after is None:
                return self.refuse(400, "", "a file of the commit was not uploaded or is not there")
            commit = repo.put(branch, after)
        return self.json(
            {"success": True, "commitOid": commit, "commitUrl": f"{self.hub.endpoint}/{name}/commit/{commit}"}
        )

    def changed(
        self, repo: Repo, before: dict[str, bytes], operations: list[dict[str, Any]]
    ) -> dict[str, bytes] | None:
        """The files after a commit; None if it can't be made."""
        after = dict(before)
        for item in operations:
            key, value = item["key"], item["value"]
            if key == "file":
                after[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                stored = {digest_of(path, data): data for path, data in repo.files.items()} | self.hub.objects
                if value["oid"] not in stored:
                    return None
                after[value["path"]] = stored[value["oid"]]
            elif key == "deletedFile":
                if after.pop(value["path"], None) is None:
                    return None
            elif key == "deletedFolder":
                after = {path: data for path, data in after.items() if not path.startswith(value["path"])}
        return after
