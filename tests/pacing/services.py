"""Two services that share a store and a far side, turned by hand, one message at a time."""

from itertools import count

from sqlalchemy import func, select

from smsapi.messages.models import message_attempts
from smsapi.pacing.models import gates
from smsapi.plivo.outcomes import Outcome, Outgoing
from smsapi.send.deliver import run
from tests.conftest import new_caller
from tests.support.dispatching import ASYNC, claim, world_of
from tests.support.providers import Scripted, taken


class Answering(Scripted):
    """Gives ``answer`` to whatever it is asked, whatever that is at the moment; without one it takes the message."""

    def __init__(self) -> None:
        super().__init__()
        self.answer: Outcome | None = None

    def send(self, message: Outgoing) -> Outcome:
        self.asked.append(message)
        return taken() if self.answer is None else self.answer


class Services:
    def __init__(self, apps, plivo) -> None:
        self.worlds = [world_of(app) for app in apps]
        self.callers = [new_caller(app) for app in apps]
        self.apps, self.plivo = apps, plivo
        self._numbers = count(2000)
        self._turn = count()

    def queue(self, messages=1, caller=None, **body):
        """Put so many messages in the queue; return them."""
        caller = caller or self.callers[0]
        sent = [caller.send(to=f"+1415555{next(self._numbers)}", headers=ASYNC, **body) for _ in range(messages)]
        assert {answer.status_code for answer in sent} == {202}
        return [answer.get_json() for answer in sent]

    def begin(self, limit=1):
        """Begin up to so many attempts, in the one service and the other in turn."""
        return claim(self.worlds[next(self._turn) % 2], limit=limit)

    def make(self, begun, answer=None):
        """Make the attempt that was begun, and let the far side answer it so."""
        self.plivo.answer = answer
        world = self.worlds[next(self._turn) % 2]
        run(world, begun, wait_until=world.clock.now())

    def send(self, *answers):
        """Send a message that is due for each answer; return how many there were to send."""
        found = 0
        for answer in answers:
            for begun in self.begin():
                self.make(begun, answer)
                found += 1
        return found

    def are_stopped(self):
        """Say whether neither service may begin anything."""
        return not any(claim(world) for world in self.worlds)

    def message(self, message):
        return self.callers[0].message(message["id"])

    def events(self, message):
        return [(event["type"], event["data"]) for event in self.callers[0].events(message["id"])]

    def stops(self):
        """Return what is noted of each gate but the paces, also of a circuit that only counts as yet."""
        query = select(gates).where(gates.c.key.not_like("pace:%"))
        with self.worlds[0].database.read() as connection:
            return {gate.key: gate.detail for gate in connection.execute(query)}

    def attempts(self):
        with self.worlds[0].database.read() as connection:
            return connection.execute(select(func.count()).select_from(message_attempts)).scalar_one()
