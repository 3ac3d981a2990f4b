"""Whoever asks to stop is heard: by a regulator's or carrier's word at once, by any other by a person who is told."""

import re
from datetime import date

import pytest

from smsapi.events.models import events
from smsapi.optouts.keywords import WORD_LISTS
from smsapi.optouts.words import plain_words, read_text
from tests.support.api import TO
from tests.support.dispatching import world_of
from tests.support.inbound import text_us
from tests.support.plivo_calls import PUBLIC_URL
from tests.support.providers import Scripted, taken


@pytest.fixture
def app(make_app):
    return make_app({"provider": Scripted(taken())}, public_url=PUBLIC_URL)


@pytest.fixture
def caller(app, make_caller):
    made = make_caller(app)
    assert made.send().status_code == 201
    return made


def reviewed(app):
    with world_of(app).database.read() as connection:
        found = connection.execute(events.select().where(events.c.type == "optout.review").order_by(events.c.id))
        return [row.data["text"] for row in found]


@pytest.mark.parametrize(
    "text",
    [
        *("REVOKE", "Opt-Out", "quit", "END.", "cancel", "Unsubscribe", "STOP ALL", "OPTOUT", "Remove"),
        *("ARRÊT", "Stopp!", "baja", "SAIR", "Widerruf", "darme de baja", "desabonnement", "Cancellami", "afmelding"),
    ],
)
def test_the_words_of_regulators_and_carriers_opt_out(app, caller, text):
    text_us(app, text)
    refusal = caller.send()
    assert (refusal.status_code, refusal.get_json()["code"]) == (422, "recipient_opted_out")
    (line,) = caller.get(f"/v1/opt-outs/{TO}/history").get_json()["data"]
    assert (line["source"], line["evidence"]["text"]) == ("keyword", text)
    assert reviewed(app) == []


def test_what_nearly_is_such_a_word_is_told_to_a_person_and_not_obeyed(app, caller):
    texts = [
        *(
            "Please revoke",
            "🛑",
            "S T O P",
            "S.T.O.P",
            "s-t-o-p please",
            "unsubcribe",
            "Unsuscribe pls",
            "Stop. Thank you",
        ),
        *("STOP 12345", "sotp", "St0p", "STOOOP", "un subscribe", "cancel, thanks", "revoked", "remove me from this"),
        *("СТОП", "停止", "退订", "TD", "הסר", "रोकें", "توقف", "desabone", "uitschijven", "no me envíen más", "Basta!"),
        *("$top", "5TOP it", "stahp", "cease and desist", "I withdraw my consent", "No thanks", "I don't want these"),
        *("Quiero darme de baja", "ya no quiero", "lass mich in ruhe", "Ne m'envoyez plus", "me tire da lista"),
        *("T", "Enough!", "取消", "不要再发了", "やめて", "не пишите мне", "RET", "बंद करो", "👎"),
        *("Quit sending me this", "opt me out", "🚫🚫", "leave us alone", "Can we stop by tomorrow?", "cancel my 3pm"),
    ]
    for text in texts:
        text_us(app, text)
    assert reviewed(app) == texts
    assert caller.send().status_code == 201


def test_what_means_something_else_is_neither(app, caller):
    for text in (
        "See you at 5",
        "Where is my parcel?",
        "the end is near",
        "Ok, thanks!",
        "Shop",
        "👍",
        "$5 top up",
        "Tuesday, 7pm",
        "red or blue",
        "Quando chega?",
        "Apartment 3, block B",
        "I subscribe",
        "12345",
    ):
        text_us(app, text)
    assert reviewed(app) == []
    assert caller.send().status_code == 201


def test_every_list_of_words_names_its_source_and_date_and_is_written_as_it_is_compared():
    for each in WORD_LISTS:
        assert len(each.source) > 10
        assert date.fromisoformat(each.date) <= date(2026, 11, 30)
        assert re.fullmatch("en|fr|es|de|pt|it|nl", each.language)
        assert [plain_words(word) for word in each.words] == list(each.words)


def test_the_words_of_the_united_states_rule_are_all_there():
    # 47 CFR 64.1200(a)(10), in force since 11 April 2025.
    for word in ("stop", "quit", "end", "revoke", "opt out", "cancel", "unsubscribe"):
        assert read_text(word).wish == "optout"
