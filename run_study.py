"""Search, train, verify and inspect: `python run_study.py --help`."""

import os
import sys

if sys.version_info < (3, 11):
    sys.exit("flipsearch needs Python 3.11 or newer, this is %d.%d: run `make study`." % sys.version_info[:2])

if __name__ == "__main__":
    # Nothing else is imported before this has said where from.
    own_imports = os.path.join(os.path.dirname(os.path.realpath(__file__)), "search", "machine", "own_imports.py")
    with open(own_imports, "rb") as file:
        exec(compile(file.read(), own_imports, "exec"), {"__file__": own_imports})

    from search.machine.standard_streams import prepare_streams
    from search.storage.hide_url import hide_storage

    hide_storage()  # before anything that takes time
    prepare_streams()

    import gc
    import signal

    from search.cli.main import main

    status = main(sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is written: the status alone is left to be told
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    gc.freeze()  # Python would look for garbage among thousands of trials once more, as long as reading them took
    sys.exit(status)
