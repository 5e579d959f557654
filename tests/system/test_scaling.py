"""Workers that come with the jobs and leave after them, as processes."""

from pathlib import Path

from tests.servers import Servers, wait_until

LOW = {"input": {"prompt": "a lake", "num_inference_steps": 4}, "policy": {"lowPriority": True}}


def test_a_server_scales_to_zero_and_back(servers: Servers) -> None:
    server = servers.start(model="fake:0.2", min_workers=0, max_workers=2, idle_timeout_s=1, scale_threshold=600)
    assert "a worker starts with the first job" in server.output.read_text()
    assert server.workers() == []
    low = server.client.post("/run", json=LOW).json()["id"]

    # A job arrives, a worker starts, the job is done; the other one goes along.
    job = server.submit(num_inference_steps=4)
    first = server.wait_status(job, "COMPLETED")
    assert server.wait_status(low, "COMPLETED")["workerId"] == first["workerId"]

    # Nothing is left to do: it leaves, and counts no longer, without a word of alarm.
    wait_until(lambda: not server.workers(), "the worker leaves")
    wait_until(lambda: not any(server.health()["workers"].values()), "nobody counts")
    assert "died" not in server.log.read_text()

    # Nobody is started for what has time. The looks that follow the one at the job are those that could.
    low = server.client.post("/run", json=LOW).json()["id"]
    job = server.submit(num_inference_steps=50)
    wait_until(lambda: server.status(job)["status"] == "IN_PROGRESS", "it is drawn")
    assert len(server.workers()) == 1
    server.client.post(f"/cancel/{job}")
    second = server.wait_status(low, "COMPLETED")
    assert second["workerId"] != first["workerId"]


def test_servers_share_what_one_decides_and_another_takes_over_when_it_is_killed(
    servers: Servers, postgres_url: str, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    settings = {
        "database_url": postgres_url,
        "image_store_url": f"file://{tmp_path}/images",
        "api_key": "one-key-for-both",
        "model": "fake:0.3",
        "jobs_per_worker": 1,
        "min_workers": 0,
        "max_workers": 1,
        "idle_timeout_s": 1,
        "scale_by": "request-count",
        "scale_threshold": 1,
        "lease_s": 5,
    }
    one, two = [servers.start(tmp_path / name, **settings) for name in ("one", "two")]
    wait_until(lambda: "this server decides" in one.log.read_text() + two.log.read_text(), "somebody decides")
    decides, follows = (one, two) if "this server decides" in one.log.read_text() else (two, one)

    # Two jobs need two workers, and each server may have one.
    jobs = [follows.submit(num_inference_steps=12) for _ in range(2)]
    wait_until(lambda: one.workers() and two.workers(), "each has started one")
    assert "this server decides" not in follows.log.read_text()

    # Who decided dies, and its worker with it. What that drew is drawn by the other one.
    decides.process.kill()
    for job in jobs:
        follows.wait_status(job, "COMPLETED")
    wait_until(lambda: "this server decides" in follows.log.read_text(), "the other one decides")
    wait_until(lambda: not follows.workers(), "its worker leaves")
