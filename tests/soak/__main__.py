"""`python -m tests.soak --minutes 20 --clients 200`: prints one table; status 1 on a breach."""

import argparse
import faulthandler
import signal
import sys
from pathlib import Path

from tests.soak.report import breaches, table
from tests.soak.run import Plan, soak


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--kill-every", type=float, default=20.0, metavar="SECONDS", help="0: nobody")
    parser.add_argument("--measure-every", type=float, default=300.0, metavar="SECONDS")
    aged = "how long a new engine serves before each measure; nobody is killed meanwhile"
    parser.add_argument("--aged", type=float, default=60.0, metavar="SECONDS", help=aged)
    looked = "how long each measure looks at the memory: its mean counts"
    parser.add_argument("--looked", type=float, default=60.0, metavar="SECONDS", help=looked)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep-log", type=Path, metavar="FILE", help="where the server's log goes at the end")
    given = parser.parse_args()
    faulthandler.register(signal.SIGUSR1)  # where it is, for who waits for it
    every = given.kill_every, given.measure_every
    plan = Plan(given.minutes * 60, given.clients, *every, given.seed, given.aged, given.looked)
    record = soak(plan, given.keep_log)
    problems = breaches(plan, record)
    print(table(plan, record, problems), flush=True)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
