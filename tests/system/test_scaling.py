"""Workers that come with the jobs and leave after them, as processes."""

from tests.servers import Servers, wait_until


def test_a_server_scales_to_zero_and_back(servers: Servers) -> None:
    server = servers.start(model="fake:0.05", min_workers=0, max_workers=2, idle_timeout_s=1)
    assert "a worker starts with the first job" in server.output.read_text()
    assert server.workers() == []
    low = server.client.post("/run", json={"input": {"prompt": "a lake"}, "policy": {"lowPriority": True}}).json()["id"]

    # A job arrives, a worker starts, the job is done; the other one goes along.
    job = server.submit()
    first = server.wait_status(job, "COMPLETED")
    assert server.wait_status(low, "COMPLETED")["workerId"] == first["workerId"]
    assert server.health()["workers"]["idle"] == 1

    # Nothing is left to do: it leaves, and counts no longer, without a word of alarm.
    wait_until(lambda: not server.workers(), "the worker leaves")
    wait_until(lambda: not any(server.health()["workers"].values()), "nobody counts")
    assert "died" not in server.log.read_text()

    # Nobody is started for what has time. The looks that follow the one at the job are those that could.
    low = server.client.post("/run", json={"input": {"prompt": "a lake"}, "policy": {"lowPriority": True}}).json()["id"]
    job = server.submit(num_inference_steps=50)
    wait_until(lambda: server.status(job)["status"] == "IN_PROGRESS", "it is drawn")
    assert len(server.workers()) == 1
    server.client.post(f"/cancel/{job}")
    second = server.wait_status(low, "COMPLETED")
    assert second["workerId"] != first["workerId"]
