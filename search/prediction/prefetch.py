"""Do the next piece of work while the last one is used."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar, cast

_S = TypeVar("_S")
_T = TypeVar("_T")


_NOTHING = object()


def ahead(items: Iterator[_T], n: int = 2) -> Generator[_T, None, None]:
    """Yield the items, up to `n` of which a thread has made before they are asked for; its errors are raised here."""
    with ThreadPoolExecutor(1, thread_name_prefix="reading ahead") as thread:
        made = deque(thread.submit(next, items, _NOTHING) for _ in range(n))
        try:
            while (found := made.popleft().result()) is not _NOTHING:
                made.append(thread.submit(next, items, _NOTHING))
                yield cast(_T, found)
        finally:
            for one in made:
                one.cancel()


def in_order(
    work: Callable[[_S], _T], items: Iterator[_S], n_threads: int, stop: Callable[[], None]
) -> Generator[_T, None, None]:
    """Yield what `work` makes of each item, in their order, made by threads; with one, here and not before it is asked.

    `stop` is called when nobody asks for more: work that lasts long should end by it, because its end is waited for.
    """
    if n_threads == 1:
        yield from map(work, items)
        return
    made: deque[Future[_T]] = deque()
    with ThreadPoolExecutor(n_threads, thread_name_prefix="working ahead") as threads:
        try:
            error: Exception | None = None
            while True:
                try:
                    made.append(threads.submit(work, next(items)))
                except StopIteration:
                    break
                except Exception as raised:  # what went wrong with an item before it comes first
                    error = raised
                    break
                if len(made) > n_threads:
                    yield made.popleft().result()
            while made:
                yield made.popleft().result()
            if error is not None:
                raise error
        except BaseException:
            for one in made:
                one.cancel()
            stop()
            raise
