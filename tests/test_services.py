import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import redis

from tests.processes import freeze, is_running, thaw, wait_until
from tests.services import (
    ServiceError,
    find_tool,
    helpful_packages,
    missing_packages,
    start_postgres,
    start_redis,
)

# On a laptop the servers may be elsewhere, named by a URL; CI must have them.
in_ci = bool(os.environ.get("CI"))
needs_postgres = pytest.mark.skipif(not in_ci and find_tool("initdb") is None, reason="PostgreSQL is not installed")
needs_redis = pytest.mark.skipif(not in_ci and find_tool("redis-server") is None, reason="Redis is not installed")

ROOT = Path(__file__).parent.parent


def query(url, statement):
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True, connect_timeout=5) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else None


def has_answer(client):
    try:
        return client.ping()
    except redis.RedisError:
        return False


@pytest.fixture
def postgres():
    with start_postgres() as service:
        yield service


@pytest.fixture
def store():
    with start_redis() as service, redis.Redis.from_url(service.url, socket_timeout=0.2, retry=None) as client:
        yield service, client


@needs_postgres
def test_postgres_starts_answers_and_leaves_nothing_behind():
    with start_postgres() as service:
        assert query(service.url, "SELECT 1") == [(1,)]
        assert query(service.url, "SHOW max_connections") == [("200",)]
        family = freeze(service.pid)
        thaw(service.pid)
        assert len(family) > 1
    assert not [pid for pid in family if is_running(pid)]
    assert not service.directory.exists()


@needs_redis
def test_redis_starts_answers_and_leaves_nothing_behind():
    with start_redis() as service:
        pid = service.pid
        with redis.Redis.from_url(service.url) as client:
            assert client.ping()
    assert not is_running(pid)
    assert not service.directory.exists()


@needs_postgres
def test_a_killed_postgres_keeps_every_commit_and_its_port(postgres):
    query(postgres.url, "CREATE TABLE kept (n int)")
    query(postgres.url, "INSERT INTO kept SELECT generate_series(1, 100)")
    url = postgres.url

    postgres.kill()

    assert postgres.pid is None
    with pytest.raises(psycopg.OperationalError):
        query(url, "SELECT 1")
    postgres.start()
    assert query(url, "SELECT count(*) FROM kept") == [(100,)]


@needs_postgres
def test_a_paused_postgres_answers_no_query_until_it_is_resumed(postgres):
    with psycopg.connect(postgres.url.replace("+psycopg", ""), autocommit=True) as connection:
        wire = connection.pgconn
        postgres.pause()
        wire.send_query(b"SELECT 2")
        assert select.select([wire.socket], [], [], 0.2)[0] == []
        postgres.resume()
        assert wire.get_result().get_value(0, 0) == b"2"
        assert wire.get_result() is None


@needs_postgres
def test_fsync_stays_on_where_durability_is_asked_for():
    with start_postgres(durable=True) as service:
        assert query(service.url, "SHOW fsync") == [("on",)]


@needs_redis
def test_a_killed_redis_comes_back_empty_on_the_same_port(store):
    service, client = store
    client.set("a", "1")

    service.kill()

    assert not has_answer(client)
    service.start()
    assert client.get("a") is None


@needs_redis
def test_a_restarted_redis_is_another_process_on_the_same_port(store):
    service, client = store
    before = service.pid

    service.restart()

    assert service.pid != before
    assert client.ping()


@needs_redis
def test_a_paused_redis_says_nothing_until_it_is_resumed(store):
    service, client = store

    service.pause()
    assert not has_answer(client)

    service.resume()
    assert wait_until(lambda: has_answer(client), 5)


@needs_redis
def test_a_paused_redis_can_be_stopped():
    service = start_redis()
    pid = service.pid
    service.pause()

    service.stop()
    service.stop()

    assert not is_running(pid)


@needs_redis
def test_a_server_on_a_taken_port_is_refused_rather_than_mistaken_for_ours(store):
    service, _ = store
    with pytest.raises(ServiceError, match="ended at once"):
        start_redis(service.port)


@needs_postgres
@needs_redis
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_servers_end_with_the_process_that_started_them_however_it_ends(how):
    program = (
        "import signal; from tests.services import start_postgres, start_redis;"
        "servers = [start_postgres(), start_redis()];"
        "print(*[word for s in servers for word in (s.pid, s.directory)], flush=True); signal.pause()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        first, first_directory, second, second_directory = process.stdout.readline().split()
        process.send_signal(how)
    pids = [int(first), int(second)]
    assert wait_until(lambda: not any(map(is_running, pids)), 15)
    assert wait_until(lambda: not Path(first_directory).exists() and not Path(second_directory).exists(), 15)


def test_a_server_given_by_url_is_not_missing(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("SMSAPI_TEST_DATABASE_URL", "postgresql+psycopg://elsewhere/smsapi")
    monkeypatch.delenv("SMSAPI_TEST_REDIS_URL", raising=False)

    assert missing_packages() == ["redis-server", "wrk"]
    # Of use to a few tests, and no reason to run none.
    assert helpful_packages() == ["prometheus"]
