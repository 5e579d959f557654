"""Compares answers with files in `golden/`, byte for byte once what is random has a name. See `test_golden.py`."""

import json
import os
import re
from pathlib import Path
from typing import Any

import httpx

GOLDEN = Path(__file__).parent / "golden"
# `UPDATE_GOLDEN=1 pytest tests/api/test_golden*.py` writes the files anew: read the difference before you commit it.
IS_UPDATE = os.environ.get("UPDATE_GOLDEN") == "1"

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
# What is drawn anew each time, by its form: what has another form stays as it is, and differs from the file.
_RANDOM = {
    "sync-job": rf"\bsync-{_UUID}-u1\b",
    "batch": rf"\bbatch_{_UUID}(?![\w-])",
    "request": rf"\breq_{_UUID}(?![\w-])",
    "job": rf"(?<![\w-]){_UUID}-u1\b",
    "picture": r"(?<=/images/)[A-Za-z0-9_-]{43}(?=\.[a-z]+\b)",
    "message": r"\bmsg_[0-9a-f]{24}\b",
    "signature": r"\bv1,[A-Za-z0-9+/]{43}=",
}
_PATTERN = re.compile("|".join(f"(?P<{kind.replace('-', '_')}>{form})" for kind, form in _RANDOM.items()))
_HEADERS = ("content-type", "retry-after", "allow")


class GoldenFiles:
    """The same random text has the same name in all files of one test, `<job:1>` the first job that was seen."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def check(self, name: str, reply: httpx.Response) -> None:
        """Compare status code, headers and body with `golden/<name>.json`; the order of the keys counts."""
        headers = {header: reply.headers[header] for header in _HEADERS if header in reply.headers}
        path = reply.request.url.raw_path.decode()
        record = {"request": f"{reply.request.method} {path}", "status": reply.status_code, "headers": headers}
        self.compare(name, record | {"body": reply.json()})

    def compare(self, name: str, record: dict[str, Any]) -> None:
        """Compare anything that JSON can say."""
        assert_no_null(record)
        text = _PATTERN.sub(self._name, json.dumps(record, indent=2, ensure_ascii=False)) + "\n"
        path = GOLDEN / f"{name}.json"
        if IS_UPDATE:
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"{path} is missing; UPDATE_GOLDEN=1 writes it"
        assert text == path.read_text(encoding="utf-8")

    def _name(self, found: re.Match[str]) -> str:
        if found[0] not in self._names:
            kind = str(found.lastgroup)
            number = 1 + sum(name.startswith(f"<{kind}:") for name in self._names.values())
            self._names[found[0]] = f"<{kind}:{number}>"
        return self._names[found[0]]


def assert_no_null(value: Any, place: str = "$") -> None:
    """Official clients choke on null: no answer may hold one, however deep."""
    assert value is not None, f"null at {place}"
    if isinstance(value, dict):
        for key, item in value.items():
            assert_no_null(item, f"{place}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            assert_no_null(item, f"{place}[{index}]")
