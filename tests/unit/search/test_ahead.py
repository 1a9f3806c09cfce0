"""Work that threads do before it is asked for."""

import contextlib
import threading

import pytest

from search.prediction.prefetch import ahead, in_order


def test_items_are_made_before_they_are_asked_for_and_their_errors_come_last() -> None:
    made = threading.Event()

    def items():
        yield 1
        made.set()
        yield 2
        raise LookupError("three")

    with contextlib.closing(ahead(items())) as found:
        assert next(found) == 1
        assert made.wait(60)
        assert next(found) == 2
        with pytest.raises(LookupError, match="three"):
            next(found)


def test_several_are_at_work_and_the_order_stays() -> None:
    both = threading.Barrier(2, timeout=60)
    second = threading.Event()

    def work(item: int) -> int:
        if item < 2:
            both.wait()  # alone, it would be broken
        if item == 0:
            assert second.wait(60)
        second.set()
        return 10 * item

    assert list(in_order(work, iter(range(7)), 2, lambda: None)) == [0, 10, 20, 30, 40, 50, 60]


def test_one_thread_does_nothing_before_it_is_asked() -> None:
    done: list[int] = []
    found = in_order(done.append, iter(range(3)), 1, lambda: None)
    next(found)
    assert done == [0]


@pytest.mark.parametrize("end", ["close", "error"])
def test_work_is_told_when_nobody_waits_for_it(end: str) -> None:
    begun, stopped = threading.Event(), threading.Event()
    ended: list[int] = []

    def work(item: int) -> int:
        if item == 0:
            return item
        if end == "error" and item == 1:
            assert begun.wait(60)
            raise LookupError("one")
        begun.set()
        assert stopped.wait(60)
        ended.append(item)
        return item

    found = in_order(work, iter(range(100)), 2, stopped.set)
    assert next(found) == 0
    if end == "close":
        assert begun.wait(60)
        found.close()
    else:
        with pytest.raises(LookupError, match="one"):
            next(found)
    assert stopped.is_set()
    assert 1 <= len(ended) <= 3  # those that had begun; the others never do
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("working ahead")]


@pytest.mark.parametrize("n_threads", [1, 2, 4])
def test_of_two_errors_that_of_the_first_item_is_raised(n_threads: int) -> None:
    def items():
        yield 0
        yield 1
        raise LookupError("the third cannot be read")

    def work(item: int) -> int:
        if item == 1:
            raise ArithmeticError("the second is wrong")
        return item

    found = in_order(work, items(), n_threads, lambda: None)
    assert next(found) == 0
    with pytest.raises(ArithmeticError, match="the second is wrong"):
        next(found)
