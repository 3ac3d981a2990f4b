"""The store lost in the middle of an upload, and a piece that meets a row of COPY's own signs."""

import pytest
from sqlalchemy import text

from smsapi.batches import staging
from smsapi.batches.checking import Good
from smsapi.db import Database
from smsapi.errors import StoreUnavailable
from smsapi.ids import new_id
from tests.support.uploading import left_behind, numbers, texts, upload

KEY = {"Idempotency-Key": "k"}
BODY = "to\n" + "".join(f"{number}\n" for number in numbers(5_500))
OTHERS = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname IS NOT NULL"
)


def cut_all(url):
    """End all connections to the store, as its restart does."""
    apart = Database(url, pool_size=1)
    with apart.read() as connection:
        connection.execute(OTHERS).all()
    apart.close()


def test_an_upload_whose_store_is_lost_leaves_nothing_and_its_key_is_free(make_app, make_caller, postgres_url):
    struck = []

    def lose(name):
        if name == "upload.staged" and not struck:
            struck.append(name)
            cut_all(postgres_url)

    app = make_app({"checkpoint": lose})
    caller = make_caller(app)
    answer = upload(caller, BODY, headers=KEY)
    assert (answer.status_code, answer.get_json()["code"]) == (503, "store_unavailable")
    assert left_behind(app.extensions["smsapi"].database) == {}
    assert upload(caller, BODY, headers=KEY).get_json()["accepted"] == 5_500


@pytest.fixture
def database_url(postgres_url):
    """COPY is PostgreSQL's."""
    return postgres_url


def good(row, words):
    return Good(row, new_id(), numbers(1, row)[0], "US", words, "gsm7", 1, None, None)


def test_a_store_that_is_lost_within_a_copy_is_one_that_does_not_answer(postgres_url):
    database = Database(postgres_url)
    with database.engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        cut_all(postgres_url)
        with pytest.raises(StoreUnavailable):
            staging.stage_rows(connection, new_id(), [good(1, "Hi")], joined=None)
    # The connection that was lost is not given to the next one.
    assert left_behind(database) == {}
    database.close()


def test_texts_with_the_signs_of_copy_arrive_as_they_are(caller):
    odd = ["\\N", "\\.", "a\\tb", "back\\slash", "two\nlines", "re\r\nturn", "\\", "ü☺"]
    cells = "".join(
        f'{number},"{words}","{index}\\"\n' for index, (number, words) in enumerate(zip(numbers(8), odd, strict=True))
    )
    batch = upload(caller, "to,n,reference\n" + cells, text="{{n}}").get_json()
    assert batch["accepted"] == 8
    assert sorted(texts(caller, batch["id"]).values()) == sorted(odd)
    found = caller.get(f"/v1/batches/{batch['id']}/messages").get_json()["data"]
    assert sorted(each["reference"] for each in found) == [f"{index}\\" for index in range(8)]
