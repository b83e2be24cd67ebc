"""What is read from the stand-in Hub: information, trees, files, searches."""

import re
import urllib.parse
from typing import Any

from tests.hub_server.exchange import Exchange
from tests.hub_server.repository import commit_of, digest_of, is_lfs, model_info, tree_entry

Query = dict[str, list[str]]


class Reads(Exchange):
    """GET and HEAD."""

    def read(self, path: str, query: Query) -> None:
        if path == "/api/whoami-v2":
            return self.whoami()
        if path == "/api/models":
            return self.search(query)
        if match := re.fullmatch(r"/api/models/(.+?)/revision/(.+)", path):
            return self.info(match[1], match[2], query)
        if match := re.fullmatch(r"/api/models/(.+?)/tree/([^/]+)", path):
            return self.tree(match[1], match[2], query)
        if match := re.fullmatch(r"/api/models/(.+?)/refs", path):
            return self.refs(match[1])
        if match := re.fullmatch(r"/api/models/([^/]+(?:/[^/]+)?)", path):
            return self.info(match[1], "main", query)
        if match := re.fullmatch(r"/(_cdn/)?(.+?)/resolve/([^/]+)/(.+)", path):
            return self.file(match[2], match[3], match[4], is_cdn=bool(match[1]))
        return self.refuse(404, "", "no such page")

    def whoami(self) -> None:
        if account := self.account():
            role = "write" if account.can_write else "read"
            orgs = [{"type": "org", "name": org, "roleInOrg": role} for org in account.orgs]
            token = {"accessToken": {"displayName": "test", "role": role}}
            self.json({"type": "user", "name": account.name, "orgs": orgs, "auth": {"type": "access_token", **token}})

    def search(self, query: Query) -> None:
        """`search` in the name, `filter` among the tags, `author`, `sort` (downloads, lastModified) and `limit`."""

        def first(key: str, default: str = "") -> str:
            return query.get(key, [default])[0]

        found = [
            (name, repo)
            for name, repo in self.hub.repos.items()
            if first("search").lower() in name.lower()
            and name.startswith(f"{first('author')}/" if "author" in query else "")
            and all(tag in repo.tags for tag in query.get("filter", []))
            and (repo.access != "private" or self.token in self.hub.accounts)
        ]
        key = first("sort")
        if key == "lastModified":
            found.sort(key=lambda item: item[1].last_modified, reverse=True)
        elif key:
            found.sort(key=lambda item: item[1].downloads, reverse=True)
        start, count = int(first("cursor", "0")), int(first("limit", str(self.hub.page_size)))
        page = [model_info(name, repo, "main") for name, repo in found[start : start + count]]
        self.json(page, self.following(query, start + count, len(found)))

    def following(self, query: Query, start: int, total: int) -> dict[str, str]:
        """The header that names the next page, if there is one."""
        if start >= total:
            return {}
        path = urllib.parse.urlsplit(self.path).path
        more = urllib.parse.urlencode({**query, "cursor": [str(start)]}, doseq=True)
        return {"Link": f'<{self.hub.endpoint}{path}?{more}>; rel="next"'}

    def info(self, name: str, revision: str, query: Query) -> None:
        if not (repo := self.repo(name)):
            return None
        if repo.tree(revision) is None:
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        stored = next(id for id in self.hub.repos if id.lower() == name.lower())
        return self.json(model_info(stored, repo, revision, with_blobs=query.get("blobs") == ["true"]))

    def tree(self, name: str, revision: str, query: Query) -> None:
        if not (repo := self.repo(name)):
            return None
        files = repo.tree(revision)
        if files is None:
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        entries = [tree_entry(path, data) for path, data in sorted(files.items())]
        start, end = int(query.get("cursor", ["0"])[0]), self.hub.page_size
        return self.json(entries[start : start + end], self.following(query, start + end, len(entries)))

    def refs(self, name: str) -> None:
        if repo := self.repo(name):
            branches = dict.fromkeys(repo.revisions, repo.files) | repo.branches
            shown: list[dict[str, Any]] = [
                {"name": branch, "ref": f"refs/heads/{branch}", "targetCommit": commit_of(files)}
                for branch, files in branches.items()
            ]
            self.json({"branches": shown, "tags": [], "converts": []})

    def file(self, name: str, revision: str, path: str, *, is_cdn: bool) -> None:
        found = self.hub.find(name)
        repo = (found[1] if found else None) if is_cdn else self.repo(name)
        if not repo:
            return None
        files = repo.tree(revision)
        if files is None:
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if path not in files:
            return self.refuse(404, "EntryNotFound", "Entry not found")
        data = files[path]
        headers = {"X-Repo-Commit": commit_of(files), "ETag": f'"{digest_of(path, data)}"'}
        if is_lfs(path) and not is_cdn:
            headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(len(data))}
            url = f"{self.hub.other_host}/_cdn/{name}/resolve/{revision}/{urllib.parse.quote(path)}"
            return self.reply(302, b"", {**headers, "Location": url})
        return self.content(data, headers)
