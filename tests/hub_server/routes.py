"""Where a request goes."""

import urllib.parse

from tests.hub_server.hub import Seen
from tests.hub_server.reads import Reads
from tests.hub_server.uploads import Uploads


class HubRequest(Reads, Uploads):
    """Notes the request and meets its fault, then answers."""

    def serve(self) -> None:
        parts = urllib.parse.urlsplit(self.path)
        header = self.headers.get
        self.body_left = int(header("Content-Length", "0"))
        self.record = Seen(
            self.command, self.path, header("Host", ""), header("Range", ""), header("Authorization", "")
        )
        self.hub.seen.append(self.record)
        self.fault = self.hub.take_fault(f"{self.command} {self.path}")
        if self.mode in ("drop", "mute"):
            self.hub.stopping.wait(600 if self.mode == "mute" else 0)
            return self.hang_up()
        if self.mode == "reset":
            return self.lose_connection()
        if self.fault and self.mode in ("status", "body", "redirect"):
            self.read_body()
        if self.fault and self.mode == "status":
            return self.reply(self.fault.arg, b"boom", self.fault.headers)
        if self.fault and self.mode == "body":
            return self.reply(200, self.fault.arg, self.fault.headers)
        if self.fault and self.mode == "redirect":
            return self.reply(302, b"", {"Location": self.fault.arg})
        path = urllib.parse.unquote(parts.path)
        if self.command in ("GET", "HEAD"):
            return self.read(path, urllib.parse.parse_qs(parts.query))
        return self.write(path)

    do_GET = do_HEAD = do_POST = do_PUT = serve  # noqa: N815 - the names of http.server
