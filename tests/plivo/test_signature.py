"""Our signer and verifier, against digests made by openssl over hand-written texts and against Plivo's own SDK."""

from urllib.parse import urlencode

import plivo.utils
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plivo.utils import signature_v3 as plivos

from smsapi.plivo.signature import is_signed_by_plivo, sign_v2, sign_v3, verify_v2, verify_v3

TOKEN = "token-of-the-account"
NONCE = "nonce-1"
URL = "https://sms.example.com/plivo/status/msg_1"
FORM = {"To": ["14151111111"], "From": ["14150000000"], "Status": ["delivered"]}
# printf '%s' "$signed_text" | openssl dgst -sha256 -hmac "$TOKEN" -binary | base64
MADE_BY_OPENSSL = "ZsLVJ1cs1mXZf7CXVdbZrWx7jZ8KUj8fzrl7MeUhntM="


def base64_flipped(signature: str) -> str:
    return ("A" if signature[0] != "A" else "B") + signature[1:]


@pytest.mark.parametrize(
    ("method", "url", "params", "signature"),
    [
        # …/msg_1?From14150000000StatusdeliveredTo14151111111.nonce-1
        ("POST", URL, FORM, MADE_BY_OPENSSL),
        # …/status?a=1&b=2.Statussent.nonce-1
        (
            "POST",
            "https://sms.example.com/plivo/status?b=2&a=1#top",
            {"Status": ["sent"]},
            "Xi1sBQCqX8VQp6J9WMw2GPEjU5/i7u3+CFQ1aAShG10=",
        ),
        # …/status?a=1&b=2.nonce-1
        ("POST", "https://sms.example.com/plivo/status?b=2&a=1", {}, "o1D46EtLResuujV3h7p8pUOyTCYG73D8alrr+T3eTwU="),
        ("GET", "https://sms.example.com/plivo/status?b=2&a=1", {}, "o1D46EtLResuujV3h7p8pUOyTCYG73D8alrr+T3eTwU="),
        # …/status.nonce-1
        ("GET", "https://sms.example.com/plivo/status", {}, "jfMeNEfDHhPkJFh/idDwSqiSuPLLca99tL7lNVAmEfg="),
        ("POST", "https://sms.example.com/plivo/status", {}, "jfMeNEfDHhPkJFh/idDwSqiSuPLLca99tL7lNVAmEfg="),
        # …/in?Text=é ü 😀&To=1.nonce-1
        (
            "GET",
            "https://sms.example.com/in?To=1&Text=%C3%A9+%C3%BC%20%F0%9F%98%80",
            {},
            "ifjudEaragATymCbXHLldT/D3dditWSmb8Qw0zbVuAY=",
        ),
        # …/in?TextGrüße 😀.nonce-1
        (
            "POST",
            "https://sms.example.com/in",
            {"Text": ["Grüße 😀"]},
            "toc4y7RGo0eVSkofWIkfs8II0z/lYuuAtGffJVZnveM=",
        ),
        # …/in?q=1&q=2.MediaaMediabTextx.nonce-1
        (
            "POST",
            "https://sms.example.com/in?q=2&q=1",
            {"Text": ["x"], "Media": ["b", "a"]},
            "a3vp2haSk/UOqoTVQ/xM/m7MvSEqABObmoKv5sHxCDw=",
        ),
        # …/in?x=<the byte ff>.nonce-1
        ("GET", "https://sms.example.com/in?x=%FF", {}, "d2tkNSha/Xz61oDBMAzPMpijX7PjyvFYLYx5w2VLEBA="),
    ],
)
def test_a_v3_signature_is_that_of_the_text_that_plivo_signs(method, url, params, signature):
    assert sign_v3(method=method, url=url, nonce=NONCE, token=TOKEN, params=params) == signature
    assert verify_v3(method=method, url=url, nonce=NONCE, token=TOKEN, params=params, header_value=signature)


def test_a_v2_signature_covers_scheme_host_and_path_only():
    # https://sms.example.com:8443/plivo/statusnonce-1
    signature = "FWEaAILsRx3QejEXjO8V8ALW6PSQ/w8AjImywOBlRck="

    assert sign_v2(url="https://sms.example.com:8443/plivo/status", nonce=NONCE, token=TOKEN) == signature
    assert sign_v2(url="https://sms.example.com:8443/plivo/status?a=1#top", nonce=NONCE, token=TOKEN) == signature


ascii_word = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=6)
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
path = st.text("abz019/-_.~%", max_size=12).map("/{}".format)
query = st.lists(st.tuples(ascii_word, ascii_word), max_size=4).map(urlencode)
urls = st.builds(
    lambda scheme, port, rest, pairs: f"{scheme}://sms.example.com{port}{rest}{pairs and '?' + pairs}",
    st.sampled_from(["http", "https"]),
    st.sampled_from(["", ":8443"]),
    path,
    query,
)
forms = st.dictionaries(any_text, st.lists(any_text, min_size=1, max_size=3), max_size=4)
word = st.text("abcdefghij0123456789", min_size=1, max_size=20)


@given(method=st.sampled_from(["GET", "POST"]), url=urls, params=forms, nonce=word, token=word)
def test_v3_agrees_with_plivos_own_sdk_where_that_one_works(method, url, params, nonce, token):
    ours = sign_v3(method=method, url=url, nonce=nonce, token=token, params=params)

    theirs = plivos.construct_get_url if method == "GET" else plivos.construct_post_url
    signed_text = theirs(url, {key: list(values) for key, values in params.items()}).decode()
    assert ours == plivos.get_signature_v3(token, signed_text, nonce).decode()


@given(url=urls, nonce=word, token=word)
def test_v2_agrees_with_plivos_own_sdk(url, nonce, token):
    assert plivo.utils.validate_signature(url, nonce, sign_v2(url=url, nonce=nonce, token=token), token)


@pytest.mark.parametrize(
    "change",
    [
        {"method": "GET"},
        {"url": URL + "/"},
        {"url": URL.replace("https", "http")},
        {"url": URL + "?a=1"},
        {"nonce": "nonce-2"},
        {"token": "another"},
        {"params": FORM | {"Status": ["failed"]}},
        {"params": FORM | {"Extra": [""]}},
        {"header_value": base64_flipped(MADE_BY_OPENSSL)},
        {"header_value": MADE_BY_OPENSSL[:-1]},
    ],
)
def test_whatever_v3_covers_cannot_be_changed(change):
    request = {
        "method": "POST",
        "url": URL,
        "nonce": NONCE,
        "token": TOKEN,
        "params": FORM,
        "header_value": MADE_BY_OPENSSL,
    }

    assert verify_v3(**request)
    assert not verify_v3(**(request | change))


@pytest.mark.parametrize("listed", ["x,{}", "x, {}", " {} ,x", "{},{}", ",,{}", "x\t,\t{}"])
def test_any_signature_of_a_comma_list_counts_whatever_the_spaces(listed):
    v3 = listed.replace("{}", MADE_BY_OPENSSL)
    v2 = listed.replace("{}", sign_v2(url=URL, nonce=NONCE, token=TOKEN))

    assert verify_v3(method="POST", url=URL, nonce=NONCE, token=TOKEN, params=FORM, header_value=v3)
    assert verify_v2(url=URL, nonce=NONCE, token=TOKEN, header_value=v2)


@pytest.mark.parametrize("header_value", [None, "", " ", ",", "é", "\udcff", "x\ud800y", "AAAA", "x" * 100_000])
@pytest.mark.parametrize("nonce", [None, "", NONCE, "é", "\ud800"])
def test_nothing_that_a_stranger_sends_raises(header_value, nonce):
    assert not verify_v3(
        method="POST", url=URL, nonce=nonce, token=TOKEN, params={"\ud800": [""]}, header_value=header_value
    )
    assert not verify_v2(url=URL, nonce=nonce, token=TOKEN, header_value=header_value)


@pytest.mark.parametrize(
    ("method", "url"), [("DELETE", URL), ("", URL), ("POST", "http://[broken"), ("POST", "\ud800")]
)
def test_an_unknown_method_or_a_broken_url_is_not_signed(method, url):
    assert not verify_v3(method=method, url=url, nonce=NONCE, token=TOKEN, params=FORM, header_value=MADE_BY_OPENSSL)
    assert not verify_v2(url="http://[broken", nonce=NONCE, token=TOKEN, header_value=MADE_BY_OPENSSL)


def test_an_empty_token_signs_nothing():
    by_nobody_v3 = sign_v3(method="POST", url=URL, nonce=NONCE, token="", params=FORM)
    by_nobody_v2 = sign_v2(url=URL, nonce=NONCE, token="")

    assert not verify_v3(method="POST", url=URL, nonce=NONCE, token="", params=FORM, header_value=by_nobody_v3)
    assert not verify_v2(url=URL, nonce=NONCE, token="", header_value=by_nobody_v2)


def test_a_lone_string_is_one_value_and_not_its_letters():
    assert (
        sign_v3(
            method="post", url=URL, nonce=NONCE, token=TOKEN, params={key: values[0] for key, values in FORM.items()}
        )
        == MADE_BY_OPENSSL
    )


DIGITS = "51830475629138470562"
SIGNED_V3 = sign_v3(method="POST", url=URL, nonce=DIGITS, token=TOKEN, params=FORM)
GOOD_V2 = {
    "X-Plivo-Signature-V2": sign_v2(url=URL, nonce=DIGITS, token=TOKEN),
    "X-Plivo-Signature-V2-Nonce": DIGITS,
}
GOOD_V3 = {"X-Plivo-Signature-V3": SIGNED_V3, "X-Plivo-Signature-V3-Nonce": DIGITS}


def accepted(headers: dict[str, str], *, tokens=(TOKEN,), allow_v2=True) -> bool:
    return is_signed_by_plivo(method="POST", url=URL, headers=headers, params=FORM, tokens=tokens, allow_v2=allow_v2)


@pytest.mark.parametrize(
    "headers",
    [
        GOOD_V3,
        {"X-Plivo-Signature-Ma-V3": SIGNED_V3, "X-Plivo-Signature-V3-Nonce": DIGITS},
        GOOD_V3 | {"X-Plivo-Signature-Ma-V3": "other"},
        GOOD_V3 | {"X-Plivo-Signature-V3": "other", "X-Plivo-Signature-Ma-V3": SIGNED_V3},
        {name.lower(): value for name, value in GOOD_V3.items()},
        {name.upper(): value for name, value in GOOD_V3.items()},
        GOOD_V3 | {"X-Plivo-Signature-V2": "other"},
    ],
)
def test_a_good_v3_signature_is_enough_on_either_header(headers):
    assert accepted(headers)
    assert accepted(headers, allow_v2=False)
    assert accepted(headers, tokens=["another", TOKEN])
    assert not accepted(headers, tokens=["another"])
    assert not accepted(headers, tokens=[])


@pytest.mark.parametrize(
    "spoiled",
    [
        {"X-Plivo-Signature-V3": "other"},
        {"X-Plivo-Signature-V3": ""},
        {"X-Plivo-Signature-Ma-V3": "other", "X-Plivo-Signature-V3-Nonce": DIGITS},
        {"X-Plivo-Signature-V3-Nonce": DIGITS},
        {"x-plivo-signature-v3-nonce": ""},
        {"X-Plivo-Signature-V3": SIGNED_V3},
    ],
)
def test_any_trace_of_v3_forbids_falling_back_to_v2(spoiled):
    assert accepted(GOOD_V2)
    assert not accepted(GOOD_V2 | spoiled)


def test_v2_counts_only_where_it_is_allowed():
    ma_only = {
        "X-Plivo-Signature-Ma-V2": GOOD_V2["X-Plivo-Signature-V2"],
        "X-Plivo-Signature-V2-Nonce": DIGITS,
    }

    assert accepted(GOOD_V2)
    assert accepted(ma_only)
    assert not accepted(GOOD_V2, allow_v2=False)
    assert not accepted(GOOD_V2, tokens=["another", ""])


def test_a_request_without_signatures_is_refused():
    assert not accepted({})
    assert not accepted({"X-Plivo-Signature-V2": GOOD_V2["X-Plivo-Signature-V2"]})


@pytest.mark.parametrize("kept", ["9", "9.", "", "9.9", "9.00"])
def test_the_end_of_a_form_cannot_be_moved_into_the_nonce(kept):
    whole = {"Status": ["delivered"], "TotalAmount": ["9.99"]}
    signature = sign_v3(method="POST", url=URL, nonce=DIGITS, token=TOKEN, params=whole)
    signed = f"9.99.{DIGITS}"
    cut = {**whole, "TotalAmount": [kept]}
    nonce = signed.removeprefix(kept).removeprefix(".")
    headers = {"X-Plivo-Signature-V3": signature, "X-Plivo-Signature-V3-Nonce": nonce}
    assert not is_signed_by_plivo(method="POST", url=URL, headers=headers, params=cut, tokens=[TOKEN], allow_v2=True)


def test_only_digits_at_most_thirty_two_are_a_nonce():
    for nonce, good in (
        ("1" * 32, True),
        ("1" * 33, False),
        ("1a", False),
        ("", False),
        ("\u0661", False),
        ("1\n", False),
    ):
        signature = sign_v3(method="POST", url=URL, nonce=nonce, token=TOKEN, params=FORM)
        headers = {"X-Plivo-Signature-V3": signature, "X-Plivo-Signature-V3-Nonce": nonce}
        assert accepted(headers) is good, nonce
        headers = {
            "X-Plivo-Signature-V2": sign_v2(url=URL, nonce=nonce, token=TOKEN),
            "X-Plivo-Signature-V2-Nonce": nonce,
        }
        assert accepted(headers) is good, nonce
