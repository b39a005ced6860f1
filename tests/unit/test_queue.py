import operator

import pytest
from fakes import ticket

from headrace.batching.fairness import FlowOrder, shares
from headrace.batching.queue import MOST_EMPTY, RequestQueue
from headrace.batching.ticket import State
from headrace.messages import Group

LIKE_ROWS = operator.attrgetter("rows")
SHORT, MIDDLE, LONG = (Group(edge, (edge,), ((-1,),)) for edge in (10, 40, 50))


def queue_of(*tickets):
    queue = RequestQueue()
    for each in tickets:
        queue.add(each)
    return queue


def take(queue, max_rows=100):
    """One batch, as the pipeline takes it."""
    candidates = queue.candidates(LIKE_ROWS)
    if candidates is None:
        return []
    taken = queue.take(candidates, max_rows)
    for each in taken:
        each.state = State.RUNNING
    return taken


def test_an_empty_queue_offers_nothing():
    queue = RequestQueue()
    assert queue.candidates(LIKE_ROWS) is None
    assert queue.next_deadline() is None
    assert queue.expire(1e9) == []


def test_the_earliest_deadline_comes_first():
    late, early, middle = (ticket(deadline=at) for at in (3, 1, 2))
    queue = queue_of(late, early, middle)
    assert queue.next_deadline() == 1
    assert take(queue) == [early, middle, late]


def test_equal_deadlines_keep_their_order_of_arrival():
    tickets = [ticket() for _ in range(5)]
    assert take(queue_of(*tickets)) == tickets


def test_groups_travel_apart():
    one, other, same = ticket(group=SHORT), ticket(group=LONG), ticket(group=SHORT)
    queue = queue_of(one, other, same)
    assert take(queue) == [one, same]
    assert take(queue) == [other]


def test_rows_fit_the_cap_and_the_first_always_does():
    large, small = ticket(rows=9, deadline=1), ticket(rows=2, deadline=2)
    queue = queue_of(large, small)
    assert take(queue, 4) == [large]
    assert take(queue, 4) == [small]


def test_a_ticket_that_does_not_fit_is_not_overtaken():
    first, second, third = ticket(rows=2), ticket(rows=3), ticket(rows=1)
    queue = queue_of(first, second, third)
    assert take(queue, 4) == [first]
    assert take(queue, 4) == [second, third]


def test_a_dropped_ticket_is_forgotten_in_the_totals_and_never_taken():
    gone, stays = ticket(deadline=1), ticket(deadline=2)
    queue = queue_of(gone, stays)
    gone.drop()
    queue.forget(gone)
    assert (len(queue), queue.nbytes) == (1, stays.request.nbytes)
    assert queue.next_deadline() == 2
    assert take(queue) == [stays]
    assert (queue.waiting, queue.nbytes, queue.candidates(LIKE_ROWS)) == (0, 0, None)


def test_a_retry_travels_alone():
    again, other = ticket(deadline=1), ticket(deadline=2)
    again.try_again()
    queue = queue_of(again, other)
    assert queue.candidates(LIKE_ROWS).is_alone
    assert take(queue) == [again]
    assert take(queue) == [other]


def test_a_request_that_may_not_share_travels_alone():
    alone, other = ticket(is_alone=True, deadline=1), ticket(deadline=2)
    queue = queue_of(alone, other)
    assert take(queue) == [alone]
    assert take(queue) == [other]


def test_shorter_groups_fill_a_batch_up_after_its_own_tickets():
    long, middle, short = ticket(group=LONG, deadline=1), ticket(group=MIDDLE), ticket(group=SHORT)
    own = ticket(group=LONG, deadline=9)
    queue = queue_of(middle, long, short, own)
    assert queue.waiting_rows(queue.candidates(LIKE_ROWS), 64) == 3
    assert take(queue) == [long, own, middle]
    assert take(queue) == [short]


def test_filling_up_stops_at_the_cap():
    long = ticket(group=LONG, rows=2, deadline=1)
    middles = [ticket(group=MIDDLE, deadline=2) for _ in range(4)]
    queue = queue_of(long, *middles)
    assert take(queue, 4) == [long, *middles[:2]]
    assert queue.waiting == 2


def test_expired_tickets_are_taken_out_by_deadline():
    tickets = [ticket(deadline=at, group=group) for at, group in ((1, LONG), (2, SHORT), (3, LONG))]
    queue = queue_of(*tickets)
    assert queue.expire(2) == tickets[:2]
    assert (queue.waiting, queue.nbytes) == (1, tickets[2].request.nbytes)


def test_isolated_tickets_travel_one_by_one_by_deadline():
    tickets = [ticket(deadline=at) for at in (3, 1, 2)]
    queue = queue_of(*tickets)
    queue.isolate()
    assert [take(queue) for _ in range(3)] == [[tickets[1]], [tickets[2]], [tickets[0]]]
    assert queue.waiting == 0


def test_isolation_keeps_what_travelled_alone_already():
    again, other = ticket(deadline=2), ticket(deadline=1)
    again.try_again()
    queue = queue_of(again, other)
    queue.isolate()
    assert [take(queue), take(queue), take(queue)] == [[other], [again], []]


def test_taking_everything_leaves_out_the_dropped():
    gone, stays = ticket(), ticket()
    queue = queue_of(gone, stays)
    gone.drop()
    queue.forget(gone)
    assert queue.take_all() == [stays]
    assert (queue.waiting, queue.nbytes) == (0, 0)


def test_groups_that_ran_empty_do_not_pile_up():
    queue = RequestQueue()
    for edge in range(4 * MOST_EMPTY):
        queue.add(ticket(group=Group(edge)))
        take(queue)
    assert len(queue._lanes) <= MOST_EMPTY + 1


@pytest.mark.parametrize("rows", [1, 3])
def test_totals_count_tickets_and_their_bytes(rows):
    queue = queue_of(ticket(rows=rows), ticket(rows=rows))
    assert (queue.waiting, queue.nbytes) == (2, 2 * ticket(rows=rows).request.nbytes)
    take(queue)
    assert (queue.waiting, queue.nbytes) == (0, 0)


def test_waiting_rows_are_counted_and_not_tickets_and_not_the_dropped():
    gone = ticket(rows=4, deadline=2)
    queue = queue_of(ticket(rows=4, deadline=1), gone, ticket(rows=4, deadline=3))
    gone.drop()
    queue.forget(gone)
    assert queue.waiting_rows(queue.candidates(LIKE_ROWS), 64) == 8
    assert queue.waiting_rows(queue.candidates(LIKE_ROWS), 5) == 5


def test_a_ticket_that_travels_alone_fills_its_batch():
    queue = queue_of(ticket(is_alone=True))
    assert queue.waiting_rows(queue.candidates(LIKE_ROWS), 64) == 64


def levelled(*tickets):
    queue = RequestQueue(FlowOrder(shares({1, 2}, {}), {}))
    for each in tickets:
        queue.add(each)
    return queue


def at_level(level, **more):
    made = ticket(**more)
    made.level = level
    return made


def test_a_lower_level_goes_first_whatever_the_deadlines_and_is_filled_up_from_the_next():
    urgent, normal, early = at_level(1, deadline=9), at_level(2, deadline=3), at_level(2, deadline=1)
    assert take(levelled(normal, urgent, early)) == [urgent, early, normal]


def test_what_expires_is_found_behind_a_lower_level_that_does_not():
    urgent, normal = at_level(1, deadline=9), at_level(2, deadline=1)
    queue = levelled(urgent, normal)
    assert queue.next_deadline() == 1
    assert queue.expire(2) == [normal]
    normal.state = State.ANSWERED
    assert queue.next_deadline() == 9
    assert (queue.waiting, queue.waiting_at(1), queue.waiting_at(2)) == (1, 1, 0)
    assert take(queue) == [urgent]


def test_what_is_put_last_is_served_after_everything_else_and_expires_once_more():
    late, other, third = at_level(1, deadline=1), at_level(2, deadline=5), at_level(2, deadline=6)
    queue = levelled(late, other, third)
    assert queue.expire(1) == [late]
    queue.put_last(late, 8)
    assert (queue.waiting, queue.waiting_at(1)) == (3, 1)
    assert take(queue, 1) == [other]
    assert queue.expire(6) == [third]
    assert queue.next_deadline() == 8
    assert queue.expire(8) == [late]
    assert queue.waiting == 0


def test_expired_tickets_deep_in_a_heap_are_let_go():
    urgent = [at_level(1, deadline=99) for _ in range(3)]
    normal = [at_level(2, deadline=1) for _ in range(100)]
    queue = levelled(*urgent, *normal)
    for each in queue.expire(1):
        each.state = State.ANSWERED
    queue.expire(1)
    assert sum(len(lane.entries) for lane in queue._lanes.values()) == 3


def test_a_retry_expires_once():
    again = at_level(1, deadline=1)
    queue = levelled(again)
    assert take(queue) == [again]
    again.state = State.WAITING
    again.try_again()
    queue.add(again)
    assert queue.expire(1) == [again]
    assert queue.expire(1) == []
    assert (queue.waiting, queue.waiting_at(1)) == (0, 0)


def test_everything_can_be_taken_from_all_levels():
    tickets = [at_level(level) for level in (2, 1, 3)]
    queue = levelled(*tickets)
    assert set(queue.take_all()) == set(tickets)
    assert (queue.waiting, queue.waiting_at(1), queue.next_deadline()) == (0, 0, None)
