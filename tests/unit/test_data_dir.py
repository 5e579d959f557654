import os

import pytest

from flux_endpoint.core.errors import SettingsError
from flux_endpoint.wiring.data_dir import hold_data_dir, keep_secret


def test_a_data_folder_has_one_server_at_a_time(tmp_path):
    folder = tmp_path / "new" / "data"
    taken = rf"another server \(pid {os.getpid()}\) already uses DATA_DIR"
    with hold_data_dir(folder), pytest.raises(SettingsError, match=taken), hold_data_dir(folder):
        pass
    with hold_data_dir(folder):
        pass


def test_a_data_folder_that_is_a_file_is_refused(tmp_path):
    file = tmp_path / "data"
    file.write_text("not a folder")
    with pytest.raises(SettingsError, match="cannot be written"), hold_data_dir(file):
        pass


def test_a_secret_is_drawn_once_and_only_its_owner_can_read_it(tmp_path):
    file = tmp_path / "api-key"
    assert keep_secret(file, lambda: "first") == ("first", True)
    assert keep_secret(file, lambda: "second") == ("first", False)
    assert file.stat().st_mode & 0o777 == 0o600


def test_an_empty_secret_file_is_filled_again(tmp_path):
    file = tmp_path / "api-key"
    file.write_text("\n")
    assert keep_secret(file, lambda: "drawn") == ("drawn", True)


def test_an_unreadable_secret_is_one_line(tmp_path):
    with pytest.raises(SettingsError, match="cannot be read or written"):
        keep_secret(tmp_path / "nowhere" / "api-key", lambda: "drawn")
