"""The serve command: a Postgres of one's own for the studies, until Ctrl-C; and its dump and restore."""

import argparse
import contextlib
import shlex
import signal

from search.machine.standard_streams import announcer, printable
from search.server.account import find_account
from search.server.folder import ServerFolder
from search.server.serving import dump, restore, serving
from search.storage.url import without_secrets
from search.study.run_names import SERVER
from search.workers.signals import sigterm_raised


def run_serve(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM, or dump, or restore."""
    folder = ServerFolder(arguments.folder or arguments.runs_dir / SERVER, find_account(arguments.run_as))
    if arguments.dump or arguments.restore:
        return _copy(folder, arguments)
    announce = announcer(is_quiet=False)
    host = arguments.host or "127.0.0.1"
    ended = contextlib.suppress(KeyboardInterrupt)
    with (
        ended,
        sigterm_raised(KeyboardInterrupt),
        serving(folder, host=host, port=arguments.port, url_file=arguments.url_file, announce=announce) as server,
    ):
        print(printable(f"Serving {without_secrets(server.url)} from {folder.path} (Ctrl-C ends it)"))
        file = shlex.quote(str(server.files[-1].absolute()))
        print(printable(f"For workers: export FLIPSEARCH_STORAGE=$(cat {file})"), flush=True)
        server.postmaster.wait()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C finds nothing left to end
    print("The server has stopped; the same command starts it again.")
    return 0


def _copy(folder: ServerFolder, arguments: argparse.Namespace) -> int:
    announce = announcer(is_quiet=False)
    with sigterm_raised(KeyboardInterrupt):
        if arguments.dump:
            dump(folder, arguments.dump, announce)
            print(printable(f"The studies of {folder.path} are in {arguments.dump}."))
        else:
            n = restore(folder, arguments.restore, announce)
            studies = "1 study" if n == 1 else f"{n} studies"
            print(printable(f"{folder.path} has the {studies} of {arguments.restore}: serve it."))
    return 0
