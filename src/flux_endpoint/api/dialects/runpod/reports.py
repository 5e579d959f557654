"""Reads what a worker says at the end of a job (contract section 5.3)."""

import json
import logging
from collections.abc import Mapping
from typing import Any, Final

from flux_endpoint.core.errors import InvalidRequest
from flux_endpoint.core.job import Completed, Failed, Outcome, Returned
from flux_endpoint.core.raw_json import BIG_CHARS, RawJson, decode_json, raw_if_big

logger = logging.getLogger(__name__)

# All that is read of a report.
_REPORT_KEYS: Final = ("status", "output", "error", "returned", "stopPod")
_MAX_TEXT_CHARS: Final = 65_536
_MAX_ERROR_CHARS: Final = 10_000
# Where a person's words are in the error objects that handlers return, the most telling first.
_MESSAGE_KEYS: Final = ("error_message", "message", "msg", "detail", "description", "error", "reason")
_TRACEBACK_MARK: Final = "\ntraceback:"


def read_report(data: bytes) -> Mapping[str, Any]:
    """The JSON object of a report. What is big in it stays text.

    Raises:
        InvalidRequest: it is none.
    """
    report = decode_json(data)
    if not isinstance(report, Mapping):
        raise InvalidRequest("Invalid request: a result must be a JSON object")
    if len(data) <= BIG_CHARS:
        return report
    light = {key: raw_if_big(report[key]) for key in _REPORT_KEYS if key in report}
    error = light.get("error")
    if isinstance(error, RawJson):
        said = report["error"]
        light["error"] = (said if isinstance(said, str) else _words_in(said))[:_MAX_TEXT_CHARS]
    return light


def outcome_of(job_id: str, report: Mapping[str, Any]) -> Outcome:
    """What a worker makes of its job. A traceback goes to the log and not to the client."""
    if report.get("returned") is True:
        return Returned()
    error = report.get("error")
    # Runpod's SDK leaves the key out where a handler returned a falsy error; other workers may not.
    if error is None or error is False:
        return Completed(report.get("output"))
    sentence, traceback = _sentence_of(error)
    if traceback:
        details = {"details": traceback[-_MAX_ERROR_CHARS:]}
        logger.warning("job %s: the handler raised %s", job_id, sentence[:_MAX_ERROR_CHARS], extra=details)
    return Failed(sentence[:_MAX_ERROR_CHARS], output=report.get("output"))


def _sentence_of(error: Any) -> tuple[str, str]:
    """An error of a handler in words, and its traceback, empty when it has none."""
    if isinstance(error, str):
        details = _json_object(error)
        if details is not None and isinstance(details.get("error_message"), str):
            return _raised(details), str(details.get("error_traceback", ""))
        text, _, traceback = error.partition(_TRACEBACK_MARK)
        return text.strip() or "the worker reported an error without saying which", traceback.strip()
    return _words_in(error), ""


def _raised(details: Mapping[str, Any]) -> str:
    """`ValueError: bad size` from an exception as Runpod's SDK writes it down."""
    # "<class 'package.module.Name'>"
    kind = str(details.get("error_type", "")).removeprefix("<class '").removesuffix("'>").rpartition(".")[2]
    message = details["error_message"].strip()
    return ": ".join(part for part in (kind, message) if part) or "the handler raised an exception without a message"


def _words_in(error: Any) -> str:
    """An error that is no text, in words."""
    if isinstance(error, Mapping):
        for key in _MESSAGE_KEYS:
            if isinstance(error.get(key), str) and error[key].strip():
                return str(error[key]).strip()
    return json.dumps(error, ensure_ascii=False)


def _json_object(text: str) -> Mapping[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
