"""The store: SQLAlchemy Core on SQLite or PostgreSQL, and the only place that begins and ends transactions.

Lock order. Whoever locks several rows in one transaction on PostgreSQL, by FOR UPDATE, by a change, or by an insert
that meets an equal row, does so in this order, and within a table in the order that stands behind it:

1. advisory locks, which are only tried, never waited for
2. ``clients`` (all of them, where their senders are compared), ``api_keys`` (id)
3. ``idempotency_keys`` (client, route, key), when a request begins
4. ``batches`` (id), and of one its rows, counts and changes
5. ``messages`` (id), and of one its attempts
6. ``receipts`` (message, fingerprint)
7. ``opt_outs`` (number, ``holds_for``), and their trail
8. ``gates``: the paces (key), then ``account``, then ``circuit``
9. ``webhook_endpoints`` (id), then ``webhook_deliveries`` (endpoint, message, ``seq``)

Rows that are taken with SKIP LOCKED are waited for by nobody's fault: those may come in any order, and before others.
``events`` and ``inbound_messages`` are inserted and, apart from erasing, not locked; ``workers`` is changed by single
statements. A deadlock that happens all the same is :class:`~smsapi.errors.StoreUnavailable`: nothing of it was done,
and the request or the step is made again.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    Connection,
    DateTime,
    Dialect,
    MetaData,
    String,
    Table,
    and_,
    create_engine,
    event,
    func,
    select,
    text,
    true,
    tuple_,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Engine, ExceptionContext, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.types import TypeDecorator, TypeEngine

from smsapi.errors import StoreUnavailable

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_BUSY_TIMEOUT_MS = 10_000
_CONNECT_TIMEOUT_SECONDS = 3
_POOL_TIMEOUT_SECONDS = 5
_STATEMENT_TIMEOUT_MS = 15_000
# Of each connection, whatever role, database or server say: what is decided here is decided by statements that see what
# was committed before them, also where each is its own transaction.
_SESSION = (
    f"-c statement_timeout={_STATEMENT_TIMEOUT_MS} -c idle_in_transaction_session_timeout=60000 "
    r"-c default_transaction_isolation=read\ committed"
)
_READ_ONLY_TRANSACTION = "25006"
_READ_ONLY = "smsapi_read"
_AFTER = "smsapi_after"

# A JSON column that PostgreSQL keeps in its binary form.
Json = JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


class UtcDateTime(TypeDecorator[datetime]):
    """An aware moment in UTC on both stores (SQLite keeps no zone of its own)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment as the driver wants it."""
        if value is None:
            return None
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Return the moment as it was given, in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class DueMoment(UtcDateTime):
    """A moment of :class:`UtcDateTime` that is read whatever SQLite holds in its place: what is no moment is long past.

    For one statement about the rows of many, of which one that cannot be read is to stop nobody. Only read with it.
    """

    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return text where the store is SQLite."""
        kind: TypeEngine[Any] = String() if dialect.name == "sqlite" else DateTime(timezone=True)
        return dialect.type_descriptor(kind)

    def process_result_value(self, value: object, dialect: Dialect) -> datetime | None:
        """Return the moment in UTC."""
        if value is None or isinstance(value, datetime):
            return super().process_result_value(value, dialect)
        try:
            return datetime.fromisoformat(str(value)).replace(tzinfo=UTC)
        except ValueError:
            return datetime.fromtimestamp(0, UTC)


@dataclass(slots=True)
class _After:
    """What one transaction asked to have done once it is committed."""

    is_news: bool = False
    acts: list[Callable[[], object]] = field(default_factory=list)


class Database:
    """One store. Nothing is connected before the first use, so it may be built before a fork.

    ``transaction`` and ``read`` raise :class:`StoreUnavailable` where the store cannot be reached or is lost on
    the way; of a transaction that was not acknowledged it is then not known whether it was done.
    """

    def __init__(self, url: str, *, pool_size: int = 20) -> None:
        self.url = make_url(url)
        self.is_postgresql = self.url.get_backend_name() == "postgresql"
        self.engine = _postgresql(self.url, pool_size) if self.is_postgresql else _sqlite(self.url, pool_size)
        # Reads take no transaction: on PostgreSQL that saves two round trips, on SQLite the write lock.
        options = {"isolation_level": "AUTOCOMMIT"} if self.is_postgresql else {_READ_ONLY: True}
        self._reader = self.engine.execution_options(**options)
        self._listeners: list[Callable[[], None]] = []

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Open a transaction that commits at the end of the block and rolls back when it raises."""
        with _translated(), self.engine.begin() as connection:
            after = connection.info[_AFTER] = _After()
            yield connection
        self._finish(after)

    @contextmanager
    def statement(self) -> Iterator[Connection]:
        """Open a connection for a single statement that writes, and is its own transaction."""
        with _translated(), self._reader.connect() as connection:
            after = connection.info[_AFTER] = _After()
            yield connection
        self._finish(after)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a connection for reading; each statement sees what was committed before it."""
        with _translated(), self._reader.connect() as connection:
            yield connection

    @contextmanager
    def exclusive(self, lock: int) -> Iterator[bool]:
        """Give True where no other process is within a block of this lock, and keep others out for the block.

        For work of many transactions. It takes a connection of the pool, and is over where that is lost. On SQLite,
        whose processes are on one machine and write one at a time, it is always given.
        """
        if not self.is_postgresql:
            yield True
            return
        with self.read() as connection:
            is_ours = bool(connection.execute(select(func.pg_try_advisory_lock(lock))).scalar_one())
            try:
                yield is_ours
            finally:
                # Where the connection is lost, so is the lock; and a connection that kept it must not be used again.
                if is_ours and not connection.invalidated:
                    connection.execute(select(func.pg_advisory_unlock(lock)))

    def insert(self, table: Table) -> postgresql.Insert | sqlite.Insert:
        """Return an INSERT that knows ``on_conflict_do_nothing`` and ``on_conflict_do_update`` on this store."""
        return insert_into(self.engine, table)

    def _finish(self, after: _After) -> None:
        # The connection, and what hangs on it, is another thread's by now. Committed is committed, whatever fails here.
        for act in after.acts:
            with suppress(Exception):
                act()
        if after.is_news:
            for listener in self._listeners:
                with suppress(Exception):
                    listener()

    def tell_news_to(self, listener: Callable[[], None]) -> None:
        """Call the listener after each transaction of this process that was news, in its thread; it must be quick."""
        self._listeners.append(listener)

    def time(self) -> datetime:
        """Return the present moment by PostgreSQL's own clock, which all hosts share, in UTC. Not on SQLite."""
        with self.read() as connection:
            moment: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
        return moment.astimezone(UTC)

    def close(self) -> None:
        """Close the pooled connections."""
        self.engine.dispose()


def insert_into(store: Connection | Engine, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT that knows ``on_conflict_do_nothing`` and ``on_conflict_do_update`` on this store."""
    return postgresql.insert(table) if store.dialect.name == "postgresql" else sqlite.insert(table)


def try_lock(connection: Connection, lock: int) -> bool:
    """Say whether no other process holds this lock, and hold it until the transaction has become visible.

    On SQLite always: there only one writes at a time.
    """
    if connection.dialect.name != "postgresql":
        return True
    return bool(connection.execute(select(func.pg_try_advisory_xact_lock(lock))).scalar_one())


def hold_table(connection: Connection, table: Table) -> None:
    """Let nobody else change this table's rows until the end of the transaction; reading and locking rows goes on.

    On SQLite only one writes at a time anyway.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"LOCK TABLE {table.name} IN SHARE ROW EXCLUSIVE MODE"))


def part_after(
    connection: Connection, key: Sequence[Column[Any]], place: Sequence[Any] | None, size: int
) -> tuple[ColumnElement[bool], Sequence[Any] | None]:
    """Return the condition of the next ``size`` rows of a table behind ``place``, and the place of its last row.

    ``key`` is what the rows are in order of, by an index. A place of None is the start, and one that is returned says
    that this is the last part: a walk over a large table of any size is many short statements.
    """
    columns = tuple_(*key)
    behind: ColumnElement[bool] = true() if place is None else columns > tuple_(*place)
    query = select(*key).where(behind).order_by(*key).offset(size - 1).limit(1)
    last = connection.execute(query).one_or_none()
    if last is None:
        return behind, None
    return and_(behind, columns <= tuple_(*last)), tuple(last)


def call_it_news(connection: Connection) -> None:
    """Have whoever asked for it told once this transaction, or single statement, is committed."""
    _after(connection).is_news = True


def after_commit(connection: Connection, act: Callable[[], object]) -> None:
    """Do this once the transaction, or single statement, is committed, and not at all where it is rolled back.

    For what is logged and counted: in the transaction it could make it fail, and tell of what never came to be. It is
    done in this thread, in the order in which it was asked for, and what it raises is dropped.
    """
    _after(connection).acts.append(act)


def _after(connection: Connection) -> _After:
    after: _After = connection.info.setdefault(_AFTER, _After())
    return after


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeoutError) as error:
        raise StoreUnavailable("The database does not answer; try again.", retry_after_seconds=1) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise StoreUnavailable("The database does not answer; try again.", retry_after_seconds=1) from error
        raise


def _dump_json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _postgresql(url: Any, pool_size: int) -> Engine:
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=_POOL_TIMEOUT_SECONDS,
        hide_parameters=True,
        json_serializer=_dump_json,
        json_deserializer=orjson.loads,
        connect_args={
            "connect_timeout": _CONNECT_TIMEOUT_SECONDS,
            "application_name": "smsapi",
            # A host that went away without a word is noticed, and a statement that hangs holds no thread for ever.
            "tcp_user_timeout": _STATEMENT_TIMEOUT_MS,
            "options": _SESSION,
        },
    )

    @event.listens_for(engine, "handle_error")
    def demoted(context: ExceptionContext) -> None:
        # 25006: the server only reads now, as after a failover. Its connections would go on failing for ever.
        if getattr(context.original_exception, "sqlstate", None) == _READ_ONLY_TRANSACTION:
            context.is_disconnect = True

    return engine


def _sqlite(url: Any, pool_size: int) -> Engine:
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=_POOL_TIMEOUT_SECONDS,
        hide_parameters=True,
        json_serializer=_dump_json,
        json_deserializer=orjson.loads,
        connect_args={"check_same_thread": False, "timeout": _BUSY_TIMEOUT_MS / 1000},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        # The driver's own transactions would read first and lock later, and lose concurrent updates silently.
        connection.isolation_level = None
        for pragma in _pragmas():
            connection.execute(pragma)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if not connection.get_execution_options().get(_READ_ONLY):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _pragmas() -> Sequence[str]:
    return (
        f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}",
        "PRAGMA journal_mode=WAL",
        # FULL: what was acknowledged must survive a power cut.
        "PRAGMA synchronous=FULL",
        "PRAGMA foreign_keys=ON",
    )
