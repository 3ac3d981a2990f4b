import pytest

from smsapi.sms.sender import InvalidSender, Sender, check_sender_for_country, classify_sender


@pytest.mark.parametrize(
    ("value", "kind", "country"),
    [
        ("+14155550100", "long_code", "US"),
        ("+14165550100", "long_code", "CA"),
        ("+447400123456", "long_code", "GB"),
        ("+18005550100", "toll_free", "US"),
        ("911", "short_code", None),
        ("55512", "short_code", None),
        ("12345678", "short_code", None),
        ("PLIVO", "alphanumeric", None),
        ("a", "alphanumeric", None),
        ("1234567890a", "alphanumeric", None),
        ("4Sale", "alphanumeric", None),
    ],
)
def test_a_sender_is_of_one_kind(value, kind, country):
    assert classify_sender(value) == Sender(value, kind, country)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("", "none of these"),
        ("ABCDEFGHIJKL", "none of these"),
        ("VM-PLVS", "none of these"),
        ("My Shop", "none of these"),
        ("Café", "none of these"),
        ("SHOP\n", "none of these"),
        ("55512\n", "none of these"),
        ("٥٥٥١٢", "none of these"),
        ("12", "neither the 3 to 8 digits"),
        ("123456789", "neither the 3 to 8 digits"),
        ("14155550100", "neither the 3 to 8 digits"),
        ("+1415555010", "too short for its country (US)"),
        ("+1 415 555 0100", "not in E.164 form"),
        ("+SHOP", "not in E.164 form"),
        ("+", "not in E.164 form"),
    ],
)
def test_anything_else_is_no_sender_and_the_sentence_says_why(value, sentence):
    with pytest.raises(InvalidSender) as refused:
        classify_sender(value)

    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("sender", "country", "sentence"),
    [
        ("SHOP", "US", "can't be used in the United States"),
        ("SHOP", "CA", "can't be used in Canada"),
        ("SHOP", "BR", "can't be used in Brazil"),
        ("+14165550100", "US", "Canadian long codes can't text the United States"),
        ("SHOPS", "IN", "exactly 6 letters"),
        ("SHOPPER", "IN", "exactly 6 letters"),
        ("SHOP24", "IN", "exactly 6 letters"),
        ("55512", "IN", "exactly 6 digits"),
    ],
)
def test_a_sender_is_refused_where_plivo_says_so(sender, country, sentence):
    refusal = check_sender_for_country(classify_sender(sender), country)

    assert refusal is not None
    assert sentence in refusal


@pytest.mark.parametrize(
    ("sender", "country"),
    [
        ("SHOP", "DE"),
        ("SHOP", "GB"),
        ("SHOP", None),
        ("SHOPIN", "IN"),
        ("shopIn", "IN"),
        ("650012", "IN"),
        ("+14155550100", "US"),
        ("+14155550100", "CA"),
        ("+14155550100", "GB"),
        ("+14155550100", "IN"),
        ("+14165550100", "CA"),
        ("+18005550100", "US"),
        ("+18005550100", "CA"),
        ("55512", "US"),
        ("55512", "FR"),
    ],
)
def test_a_sender_is_allowed_where_nothing_known_forbids_it(sender, country):
    assert check_sender_for_country(classify_sender(sender), country) is None
