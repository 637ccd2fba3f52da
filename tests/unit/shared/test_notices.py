"""Signatures as the Standard Webhooks specification has them, and when a notice is tried again."""

import json
from datetime import timedelta

import pytest

from pixcrawler.webhooks import BadNotice, verify
from shared.notices import PAUSES, SECRET_PREFIX, headers, new_secret, pause_after

SENT_AT = 1_731_705_121
BODY = json.dumps({"type": "job.completed", "data": {"name": "Kätzchen"}}, ensure_ascii=False).encode()


def test_a_signature_is_the_one_that_other_implementations_make() -> None:
    signed = headers(
        "msg_loFOjxBNrRLzqYUf",
        1_731_705_121,
        b'{"event_type":"ping","data":{"success":true}}',
        ["whsec_plJ3nmyCDGBKInavdOK15jsl"],
    )

    assert signed["webhook-signature"] == "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0="


def test_a_receiver_accepts_what_was_signed_by_its_secret_also_while_it_changes_over() -> None:
    old, new = new_secret(), new_secret()
    signed = headers("msg_1", SENT_AT, BODY, [new, old])

    for secret in (old, new):
        assert verify(signed, BODY, secret, clock=lambda: SENT_AT + 60)["data"]["name"] == "Kätzchen"
    assert old.startswith(SECRET_PREFIX)
    assert old != new


@pytest.mark.parametrize(
    ("changes", "body", "age"),
    [
        ({}, BODY + b" ", 0),  # altered
        ({"webhook-id": "msg_2"}, BODY, 0),  # another notice's signature
        ({"webhook-timestamp": str(SENT_AT + 1)}, BODY, 0),  # made to look younger
        ({}, BODY, 301),  # sent again by somebody who overheard it
        ({}, BODY, -301),
        ({"webhook-signature": "v2,abc v1,"}, BODY, 0),
        ({"webhook-timestamp": "now"}, BODY, 0),
    ],
)
def test_a_receiver_refuses_what_is_not_so(changes: dict[str, str], body: bytes, age: int) -> None:
    secret = new_secret()
    signed = headers("msg_1", SENT_AT, BODY, [secret]) | changes

    with pytest.raises(BadNotice):
        verify(signed, body, secret, clock=lambda: SENT_AT + age)


def test_a_receiver_refuses_a_notice_without_its_headers_or_by_another_secret() -> None:
    signed = headers("msg_1", SENT_AT, BODY, [new_secret()])

    for given, secret in (({}, new_secret()), (signed, new_secret()), (signed, "whsec_not base64")):
        with pytest.raises(BadNotice):
            verify(given, BODY, secret, clock=lambda: SENT_AT)


def test_pauses_grow_with_some_jitter_until_a_notice_is_given_up() -> None:
    pauses = [pause_after(attempts, 0.0) for attempts in range(1, len(PAUSES) + 2)]

    assert pauses == [*PAUSES, None]
    assert sum(PAUSES, timedelta()) > timedelta(days=3)
    assert pause_after(1, 1.0) == timedelta(seconds=6)
