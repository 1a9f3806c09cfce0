"""Search, train, verify and inspect: `python run_study.py --help`."""

import signal
import sys

if sys.version_info < (3, 11):
    sys.exit("flipsearch needs Python 3.11 or newer, this is %d.%d: run `make study`." % sys.version_info[:2])

if __name__ == "__main__":
    from search.process_list import hide_storage
    from search.standard_streams import prepare_streams

    hide_storage()  # before anything that takes time
    prepare_streams()

from search.cli import main

if __name__ == "__main__":
    status = main(sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is written: the status alone is left to be told
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(status)
