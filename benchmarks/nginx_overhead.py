"""How much later the first token comes through nginx, with the site of deploy/ and the bundled demo model.

python -m benchmarks.nginx_overhead
"""

import argparse
import contextlib
import http.client
import json
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.deploy.nginx_proxy import PROGRAM, nginx
from tests.live_server import live_server

from benchmarks.measure import CpuWatch, adopt_orphans
from benchmarks.report import Ratio, Report, Row, medians

CASE, MEASURE = "demo model, 1 stream", "first token, ms"
DIRECT, BEHIND, BEHIND_NEW = "direct", "nginx, open TLS connection", "nginx, new TLS connection"
AT_MOST_MS = 50.0
BODY = json.dumps({"model": "demo", "prompt": "Once upon a time", "options": {"num_predict": 16, "min_new_tokens": 16}})

Connect = Callable[[], http.client.HTTPConnection]


def first_token_ms(connect: Connect) -> float:
    """From the request, or from the connection where `connect` makes one, to the first line of the stream."""
    started_s = time.perf_counter()
    connection = connect()
    connection.request("POST", "/api/generate", BODY)
    with connection.getresponse() as response:
        assert json.loads(response.readline())["done"] is False
        first_s = time.perf_counter()
        response.read()
    return 1000 * (first_s - started_s)


@contextmanager
def peers() -> Iterator[Mapping[str, Connect]]:
    """One server, asked in three ways."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        server = stack.enter_context(live_server(Path(name), Path(name, "hub"), standby_engine="false"))
        port = int(server.url.rpartition(":")[2])
        proxy = stack.enter_context(nginx(port))
        kept = stack.enter_context(contextlib.closing(proxy.connect()))

        def once(connection: http.client.HTTPConnection) -> http.client.HTTPConnection:
            return stack.enter_context(contextlib.closing(connection))

        yield {
            DIRECT: lambda: once(http.client.HTTPConnection("127.0.0.1", port, timeout=60)),
            BEHIND: lambda: kept,
            BEHIND_NEW: lambda: once(proxy.connect()),
        }


def main() -> None:
    """Print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results", help="folder of JSON files")
    arguments = parser.parse_args()
    assert PROGRAM, "nginx is not installed: apt-get install nginx-light"
    adopt_orphans()
    times: dict[str, list[float]] = {DIRECT: [], BEHIND: [], BEHIND_NEW: []}
    with peers() as asked:
        for connect in asked.values():
            first_token_ms(connect)
        watch = CpuWatch()
        for _ in range(arguments.rounds):
            # in turn, and in another order each time
            for who in random.sample(sorted(asked), len(asked)):
                times[who].append(first_token_ms(asked[who]))
        foreign = watch.foreign_cores()
    rows = [Row(case=CASE, who=who, measure=MEASURE, values=tuple(found)) for who, found in times.items()]
    found = medians(rows, CASE, MEASURE)
    ratios = [
        Ratio(what=f"{who}, ms later than {DIRECT}", value=found[who] - found[DIRECT], at_most=AT_MOST_MS)
        for who in (BEHIND, BEHIND_NEW)
    ]
    told = subprocess.run([PROGRAM, "-v"], capture_output=True, text=True, check=True).stderr
    Report(
        name="nginx_overhead",
        title="The first token through nginx",
        rows=rows,
        ratios=ratios,
        arguments={"rounds": arguments.rounds},
        versions={"nginx": told.strip().rpartition("/")[2]},
        foreign_cores=foreign,
    ).publish(arguments.results)


if __name__ == "__main__":
    main()
