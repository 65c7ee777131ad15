"""Mailboxes: what is kept, what is dropped, who waits."""

from __future__ import annotations

import threading
from queue import SimpleQueue

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_vision.ros.mailbox import EMPTY, Every, Latest


def drain(events: SimpleQueue) -> list:
    """What a worker would be given now, in order."""
    items = []
    while not events.empty():
        mailbox = events.get()
        item = mailbox.take()
        if item is not EMPTY:
            items.append(item)
            mailbox.done()
    return items


def test_latest_keeps_the_newest_and_counts_what_it_replaced() -> None:
    events: SimpleQueue = SimpleQueue()
    mailbox = Latest(events, print)
    for item in range(5):
        mailbox.offer(item)
    assert len(mailbox) == 1
    assert drain(events) == [4]
    assert mailbox.dropped == 4
    mailbox.offer(5)
    assert drain(events) == [5]
    assert mailbox.dropped == 4


@given(st.lists(st.booleans(), max_size=60))
def test_latest_neither_loses_nor_repeats(steps: list[bool]) -> None:
    """Whatever the order of offers (True) and takes: each item is taken once, or counted, or still there."""
    events: SimpleQueue = SimpleQueue()
    mailbox = Latest(events, print)
    offered, taken = 0, []
    for offer in steps:
        if offer:
            mailbox.offer(offered)
            offered += 1
        elif not events.empty():
            taken.append(events.get().take())
    assert taken == sorted(set(taken))
    assert EMPTY not in taken
    assert len(taken) + mailbox.dropped + len(mailbox) == offered


def test_every_keeps_the_order_and_drops_the_newest_when_it_must_not_wait() -> None:
    events: SimpleQueue = SimpleQueue()
    mailbox = Every(events, print, depth=3)
    for item in range(12):
        mailbox.offer(item, wait=False)
    assert mailbox.dropped == 2, "a burst as deep as DDS's own queue is kept, the rest is counted"
    assert len(mailbox) == 10
    assert drain(events) == list(range(10))
    mailbox.offer(12, wait=False)
    assert drain(events) == [12]
    assert mailbox.dropped == 2


def test_a_burst_does_not_widen_what_a_source_that_waits_may_have_on_its_way() -> None:
    events: SimpleQueue = SimpleQueue()
    mailbox = Every(events, print, depth=1)
    for item in range(10):
        mailbox.offer(item, wait=False)
    drain(events)
    mailbox.offer("within")
    source = threading.Thread(target=mailbox.offer, args=("beyond",), daemon=True)
    source.start()
    source.join(0.2)
    assert source.is_alive(), "the second must wait for the first"
    assert drain(events)[0] == "within"
    source.join(20)
    assert not source.is_alive()


def test_every_makes_the_source_wait_until_the_work_is_done() -> None:
    events: SimpleQueue = SimpleQueue()
    mailbox = Every(events, print, depth=2)
    offered: SimpleQueue = SimpleQueue()

    def offer_all() -> None:
        for item in range(20):
            mailbox.offer(item)
            offered.put(item)

    source = threading.Thread(target=offer_all, daemon=True)
    source.start()
    got = []
    for _ in range(20):
        assert events.get(timeout=20) is mailbox
        got.append(mailbox.take())
        # Not one more than the depth is on its way before this one is done.
        assert offered.qsize() <= len(got) + 1
        mailbox.done()
    source.join(20)
    assert got == list(range(20))
    assert mailbox.dropped == 0


@pytest.mark.parametrize("waiting", [1, 3])
def test_closing_lets_go_of_whoever_waits(waiting: int) -> None:
    events: SimpleQueue = SimpleQueue()
    mailbox = Every(events, print, depth=1)
    mailbox.offer("first")
    threads = [threading.Thread(target=mailbox.offer, args=(n,), daemon=True) for n in range(waiting)]
    for thread in threads:
        thread.start()
    mailbox.close()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert drain(events) == []
    mailbox.offer("late")  # nobody takes it any more, and nobody waits
    assert drain(events) == []


@pytest.mark.parametrize("kind", [Latest, Every])
def test_a_mailbox_opens_empty_with_all_its_room(kind: type) -> None:
    events: SimpleQueue = SimpleQueue()
    mailbox = kind(events, print)
    mailbox.offer("old")
    mailbox.close()
    if kind is Latest:
        mailbox.offer("by a publisher that was just about to")
    mailbox.open()
    assert len(mailbox) == 0
    for item in range(3):
        mailbox.offer(item)
    assert drain(events) == ([2] if kind is Latest else [0, 1, 2])


def test_a_patient_mailbox_keeps_a_row_until_it_is_worked_off() -> None:
    events: SimpleQueue = SimpleQueue()
    mailbox = Latest(events, lambda item: None)
    mailbox.hold(3)
    for item in range(5):
        mailbox.offer(item)
    assert (len(mailbox), mailbox.dropped, events.qsize()) == (3, 2, 3)
    mailbox.release()
    mailbox.offer(5)  # there is a backlog still: one goes, one comes
    assert [mailbox.take() for _ in range(4)] == [3, 4, 5, EMPTY]
    mailbox.offer(6)
    mailbox.offer(7)
    assert (mailbox.take(), mailbox.take(), mailbox.dropped) == (7, EMPTY, 4)
