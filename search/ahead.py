"""Do the next piece of work while the last one is used."""

import queue
import threading
from collections.abc import Generator, Iterator
from typing import TypeVar

_T = TypeVar("_T")


class _Ended:
    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def ahead(items: Iterator[_T], n: int = 2) -> Generator[_T, None, None]:
    """Yield the items, up to `n` of which a thread has made before they are asked for; its errors are raised here."""
    made: queue.Queue[_T | _Ended] = queue.Queue(n)
    is_over = threading.Event()

    def put(item: _T | _Ended) -> bool:
        while not is_over.is_set():
            try:
                made.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def make() -> None:
        try:
            for item in items:
                if not put(item):
                    return
            put(_Ended(None))
        except BaseException as error:
            put(_Ended(error))

    thread = threading.Thread(target=make, daemon=True, name="reading ahead")
    thread.start()
    try:
        while not isinstance(found := made.get(), _Ended):
            yield found
        if found.error is not None:
            raise found.error
    finally:
        is_over.set()
        thread.join()
