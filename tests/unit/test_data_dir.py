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


def mode_of(path):
    return path.stat().st_mode & 0o777


def test_a_data_folder_is_private_with_all_of_ours_that_is_there(tmp_path):
    folder = tmp_path / "data"
    with hold_data_dir(folder):
        assert [mode_of(path) for path in (folder, folder / "lock")] == [0o700, 0o600]
    # As an earlier version left it.
    (folder / "images").mkdir()
    files = [folder / name for name in ("lock", "api-key", "worker-token", "flux-endpoint.db", "flux-endpoint.db-wal")]
    for file in files:
        file.touch()
        file.chmod(0o644)
    folder.chmod(0o755)
    with hold_data_dir(folder):
        assert {mode_of(file) for file in files} == {0o600}
        assert (mode_of(folder), mode_of(folder / "images")) == (0o700, 0o700)


def test_a_folder_of_others_too_stays_open_for_them(tmp_path):
    tmp_path.chmod(0o755)
    others = tmp_path / "notes.txt"
    others.touch(0o644)
    with hold_data_dir(tmp_path):
        assert [mode_of(path) for path in (tmp_path, others, tmp_path / "lock")] == [0o755, 0o644, 0o600]


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
