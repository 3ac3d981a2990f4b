"""A call that has to be over by a moment: nothing of it goes out after that, also where the host stood still."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from smsapi.clock import ManualClock, SharedClock, elapsed
from smsapi.plivo.client import PlivoProvider
from smsapi.plivo.outcomes import Accepted, Outgoing, OutgoingToMany, Unavailable, Unknown, shows_life
from tests.plivo.far_side import UUID, FarSide

START = datetime(2026, 11, 30, 12, tzinfo=UTC)
ONE = Outgoing(message_id="msg_1", to="+14155552671", sender="ACME", text="Hi", not_after=START + timedelta(seconds=30))
MANY = OutgoingToMany(
    chunk_id="chk_1", numbers=("+14155552671", "+14155552672"), sender="ACME", text="Hi", not_after=ONE.not_after
)


class Host:
    """A host whose seconds jump by a minute at the n-th look at them, as where it was suspended just before."""

    def __init__(self, jumps_at=None):
        self.looks, self.jumps_at = 0, jumps_at

    def counter(self):
        self.looks += 1
        jumped = self.jumps_at is not None and self.looks >= self.jumps_at
        return 1000.0 + 60.0 * jumped


def provider_for(origin, host, clock=None):
    return PlivoProvider(
        auth_id="MA0123456789ABCDEFGH",
        auth_token="token",
        base_url=origin,
        clock=clock or ManualClock(START),
        counter=host.counter,
    )


@pytest.mark.parametrize("seconds", [30, 31, 3600])
def test_a_call_whose_time_is_over_is_not_made_and_says_nothing_of_the_far_side(seconds):
    with FarSide() as far:
        provider = provider_for(far.origin, Host(), ManualClock(START + timedelta(seconds=seconds)))
        for outcome in (provider.send(ONE), provider.send_joined(MANY)):
            assert isinstance(outcome, Unavailable)
            assert shows_life(outcome) is None
        assert (far.connections, far.requests) == (0, [])
        assert provider.send(replace(ONE, not_after=None)) == Accepted(UUID)


def test_wherever_the_host_stood_still_nothing_goes_out_once_the_time_is_over():
    with FarSide() as far:
        host = Host()
        assert provider_for(far.origin, host).send(ONE) == Accepted(UUID)
    outcomes = []
    for jumps_at in range(1, host.looks + 1):
        with FarSide() as far:
            outcome = provider_for(far.origin, Host(jumps_at)).send(ONE)
        outcomes.append(type(outcome))
        # The far side has read all that came by now.
        assert not (isinstance(outcome, Unavailable) and far.requests), jumps_at
    # At the first look the whole call begins after the jump: its seconds are all there.
    assert outcomes[0] is Accepted
    assert Unavailable in outcomes
    assert outcomes[-1] in {Unknown, Accepted}
    # Once it may have gone out, it may have gone out wherever the host stands still after that.
    later = outcomes[outcomes.index(Unavailable) :]
    assert later == sorted(later, key=[Unavailable, Unknown, Accepted].index)


def test_the_seconds_go_on_while_the_host_is_suspended():
    assert abs(elapsed() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 5


def test_the_shared_time_goes_on_while_the_host_is_suspended():
    seconds = [100.0]
    clock = SharedClock(lambda: START, counter=lambda: seconds[0])
    clock.set()
    assert clock.now() == START
    seconds[0] += 3600
    assert clock.now() == START + timedelta(hours=1)
