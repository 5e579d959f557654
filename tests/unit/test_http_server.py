"""Where a server listens."""

import pytest

from flux_endpoint.core.errors import SettingsError
from flux_endpoint.settings import Settings
from flux_endpoint.wiring.http_server import listen_all


@pytest.mark.parametrize(("text", "words"), [(None, "No such file"), ("no certificate", "TLS_CERT and TLS_KEY")])
def test_a_certificate_that_is_none_is_told_before_anything_starts(tmp_path, text, words):
    file = tmp_path / "tls.pem"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SettingsError, match=words), listen_all(Settings(port=0, tls_cert=file)):
        pass


def test_without_a_certificate_there_is_one_port():
    with listen_all(Settings(port=0)) as listeners:
        assert [one.cert for one in listeners] == [None]
