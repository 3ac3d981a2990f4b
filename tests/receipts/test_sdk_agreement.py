"""A thousand requests, and Plivo's own SDK and our verifier agree on each, wherever the SDK's is not broken."""

from random import Random
from urllib.parse import urlencode

from plivo.utils import validate_v3_signature

from smsapi.plivo.signature import MA_V3, V3, V3_NONCE, is_signed_by_plivo, sign_v3

TOKEN, OTHER = "the-token", "the-main-accounts-token"
WORDS = ("Status", "delivered", "To", "14155550123", "", "a b", "a+b", "&=", "?", "%41", "msg_1", "é", "Grüße 😀", "٣")
PLAIN = tuple(word for word in WORDS if word.isascii())


def generated(chance):
    """Return a request as Plivo may make it, and its form by key."""
    method = chance.choice(["GET", "POST"])
    # Plivo's SDK fails on a query that is not ASCII (plivo-facts 1.8); on a form that is not it works.
    query = [(chance.choice(PLAIN) or "k", chance.choice(PLAIN)) for _ in range(chance.randrange(4))]
    form = {chance.choice(WORDS) or "k": [chance.choice(WORDS) for _ in range(chance.randint(1, 3))] for _ in range(4)}
    port, path = chance.choice(["", ":8443"]), chance.choice(["/plivo/status/msg_1", "/", "/a/b/"])
    url = f"{chance.choice(['http', 'https'])}://sms.example.com{port}{path}{'?' if query else ''}{urlencode(query)}"
    return method, url, form if method == "POST" else {}


def spoilt(chance, signature, url, form):
    """Return the signature, the URL and the form with one of them changed."""
    match chance.randrange(3):
        case 0:
            return signature[:-2] + ("A" if signature[-2] != "A" else "B") + "=", url, form
        case 1:
            return signature, url.replace("sms.", "smz."), form
        case _:
            return signature, url, {**form, "Extra": ["1"]}


def test_a_thousand_requests_good_and_spoilt_are_judged_as_plivos_sdk_does():
    chance = Random(20260101)
    verdicts = []
    for number in range(1000):
        method, url, form = generated(chance)
        nonce = str(number)
        signature = sign_v3(method=method, url=url, nonce=nonce, token=TOKEN, params=form)
        if chance.random() < 0.5:
            signature, url, form = spoilt(chance, signature, url, form)
        theirs = validate_v3_signature(
            method, url, nonce, TOKEN, signature, {key: list(values) for key, values in form.items()}
        )
        headers = {chance.choice([V3, MA_V3]): signature, V3_NONCE: nonce}
        ours = is_signed_by_plivo(
            method=method, url=url, headers=headers, params=form, tokens=(OTHER, TOKEN), allow_v2=True
        )
        assert ours == theirs, (method, url, form)
        verdicts.append(ours)
    assert 300 < sum(verdicts) < 700


def test_where_the_sdk_fails_ours_does_not():
    chance = Random(7)
    for number in range(200):
        query = urlencode({"Text": chance.choice(("é", "Grüße 😀", "٣")), "To": str(number)})
        url, nonce = f"https://sms.example.com/plivo/status/msg_1?{query}", str(number)
        good = sign_v3(method="GET", url=url, nonce=nonce, token=TOKEN, params={})
        listed = chance.choice([f"AAAA, {good}", f"{good} ,AAAA", f" {good}", f"A,\t{good},B"])
        for headers, verdict in (
            ({MA_V3: listed, V3_NONCE: nonce}, True),
            ({MA_V3: "AAAA, B", V3_NONCE: nonce}, False),
        ):
            judged = is_signed_by_plivo(
                method="GET", url=url, headers=headers, params={}, tokens=(TOKEN,), allow_v2=False
            )
            assert judged is verdict
