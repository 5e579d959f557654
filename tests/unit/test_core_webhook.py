"""The signature of webhooks, against the example of the specification."""

import pytest

from flux_endpoint.core.ids import new_webhook_id, new_webhook_secret
from flux_endpoint.core.webhook import signature_header

# Of the specification of Standard Webhooks.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIMESTAMP_S = 1_614_265_330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_example_of_the_specification():
    assert signature_header([SECRET], MESSAGE_ID, TIMESTAMP_S, BODY) == SIGNATURE


def test_several_secrets_sign_side_by_side():
    first, second = signature_header([new_webhook_secret(), SECRET], MESSAGE_ID, TIMESTAMP_S, BODY).split(" ")
    assert second == SIGNATURE
    assert first != SIGNATURE


def test_ids_and_secrets_have_the_form_of_the_scheme():
    assert new_webhook_id().startswith("msg_")
    assert new_webhook_id() != new_webhook_id()
    assert new_webhook_secret().startswith("whsec_")


def test_a_secret_of_another_form_is_not_taken_for_a_key():
    with pytest.raises(ValueError, match="whsec_"):
        signature_header(["whsec_not base64"], MESSAGE_ID, TIMESTAMP_S, BODY)
