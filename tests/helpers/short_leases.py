"""Searches whose leases last seconds: `python -P short_leases.py CHECKOUT WORDS...` is run_study.py with such a lease.

Who tests what becomes of a lost worker waits for the lease to expire, in each test anew. All calls of one study have to
have the same lease, those in the test's own process (`short_leases`) too.
"""

import contextlib
import sys
from collections.abc import Iterator
from functools import partial

if __name__ == "__main__":
    sys.path.insert(0, sys.argv.pop(1))

import search.cli.search as command
from search.cli.main import main
from search.storage.lease_policy import LeasePolicy

# SQLite's clock has whole seconds, and a live worker has to send a heartbeat within the lease on a busy machine too.
SHORT_LEASE = LeasePolicy(lease_s=6, heartbeat_s=1)


@contextlib.contextmanager
def short_leases() -> Iterator[None]:
    """Give every search that begins in this block a short lease."""
    before = command.request_of
    command.request_of = partial(before, lease=SHORT_LEASE)
    try:
        yield
    finally:
        command.request_of = before


if __name__ == "__main__":
    with short_leases():
        sys.exit(main(sys.argv[1:]))
