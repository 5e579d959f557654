"""No job is lost, run to completion twice or charged twice, whatever dies."""

import concurrent.futures
import signal

import psutil

from tests.servers import DEADLINE_S, wait_until

# 50 steps. Of a second each, it is still drawn however late this process looks; of a tenth, it can be waited for.
LONG = {"num_inference_steps": 50}
SLOW, MODEL = "fake:1", "fake:0.1"


def has_ended(process):
    try:
        # An orphan stays a zombie where the first process of a container does not clean up.
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_killed_worker_is_replaced_and_its_job_done_once(servers):
    server = servers.start(model=MODEL)
    job_id = server.submit(**LONG)
    server.wait_status(job_id, "IN_PROGRESS")
    first = server.wait_worker()
    first.kill()
    job = server.wait_status(job_id, "COMPLETED")
    assert server.process.poll() is None
    assert job["retries"] == 1
    assert [worker.pid for worker in server.workers()] != [first.pid]
    assert server.charges() == [job_id]
    assert "signal SIGKILL" in server.log.read_text()


def test_a_job_whose_worker_dies_twice_fails_and_costs_nothing(servers):
    server = servers.start(model="fake:1")
    job_id = server.submit(**LONG)
    first = server.wait_status(job_id, "IN_PROGRESS")["workerId"]
    server.wait_worker().kill()
    wait_until(lambda: server.status(job_id).get("workerId") not in (first, None), "another worker has the job")
    server.wait_status(job_id, "IN_PROGRESS")
    server.wait_worker().kill()
    job = server.wait_status(job_id, "FAILED")
    assert job["retries"] == 1
    assert server.charges() == []


def test_a_job_survives_the_kill_of_gateway_and_worker(servers):
    server = servers.start(model=SLOW)
    jobs = [server.submit(**LONG), server.submit(num_inference_steps=2)]
    server.wait_status(jobs[0], "IN_PROGRESS")
    worker = server.wait_worker()
    server.process.kill()
    worker.kill()
    server.wait_exit()
    again = servers.restart(server, model="fake")
    for job_id in jobs:
        job = again.wait_status(job_id, "COMPLETED")
        # The gateway's death is no fault of the job's.
        assert "retries" not in job
    assert sorted(again.charges()) == sorted(jobs)


def test_a_worker_goes_when_its_gateway_is_killed(servers):
    server = servers.start(model=SLOW)
    job_id = server.submit(**LONG)
    server.wait_status(job_id, "IN_PROGRESS")
    worker = server.wait_worker()
    server.process.kill()
    server.wait_exit()
    wait_until(lambda: has_ended(worker), "the worker has gone by itself")
    again = servers.restart(server, model="fake")
    again.wait_status(job_id, "COMPLETED")
    assert again.charges() == [job_id]


def test_ctrl_c_ends_everything_before_its_job_is_done_and_loses_no_job(servers):
    server = servers.start(model=SLOW)
    job_id = server.submit(**LONG)
    waiting = server.submit(num_inference_steps=1)
    server.wait_status(job_id, "IN_PROGRESS")
    workers = server.workers()
    server.signal(signal.SIGINT)
    assert server.wait_exit(deadline_s=30) == 0
    assert all(has_ended(worker) for worker in workers)
    again = servers.restart(server, model="fake")
    for name in (job_id, waiting):
        assert "retries" not in again.wait_status(name, "COMPLETED")
    assert sorted(again.charges()) == sorted([job_id, waiting])


def test_ctrl_c_does_not_wait_for_a_step_that_takes_minutes(servers):
    server = servers.start(model="fake:600")
    job_id = server.submit(num_inference_steps=1)
    server.wait_status(job_id, "IN_PROGRESS")
    server.signal(signal.SIGTERM)
    assert server.wait_exit() == 0
    again = servers.restart(server, model="fake")
    again.wait_status(job_id, "COMPLETED")


def test_ctrl_c_tells_a_waiting_client_where_its_job_stands(servers):
    server = servers.start(model=SLOW)
    body = {"input": {"prompt": "a lake", "num_inference_steps": 50}}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        waiting = pool.submit(server.client.post, "/runsync", json=body)
        wait_until(lambda: server.health()["jobs"]["inProgress"], "the job runs")
        server.signal(signal.SIGINT)
        reply = waiting.result(DEADLINE_S)
    assert reply.status_code == 200
    # The worker has given the job back; the client can ask for it after the restart.
    assert reply.json() == {"id": reply.json()["id"], "status": "IN_QUEUE"}
    server.wait_exit()
    said = [line.partition("gateway: ")[2] for line in server.log.read_text().splitlines()]
    expected = "workers (1), requests of clients (1), uploads (0) and webhooks (0), 5 s at most"
    begun = said.index(f"stopping: waits for {expected}")
    assert "stopped" in said[begun:]
    again = servers.restart(server, model="fake")
    again.wait_status(reply.json()["id"], "COMPLETED")


def test_a_worker_elsewhere_outlives_a_restart_of_the_gateway(servers):
    server = servers.start(workers=0)
    worker = servers.start_worker(server, model="fake:0.2", worker_id="far-away")
    job_id = server.submit(num_inference_steps=40)
    # Claimed is not enough: a gateway that is killed before it has answered leaves a worker that knows of no job.
    wait_until(lambda: server.status(job_id).get("progress"), "the worker draws")
    server.process.kill()
    server.wait_exit()
    again = servers.restart(server)
    job = again.wait_status(job_id, "COMPLETED")
    assert worker.poll() is None
    # The same attempt of the same worker: nothing was drawn twice.
    assert job["workerId"] == "far-away"
    assert "retries" not in job
    assert again.charges() == [job_id]


def test_a_worker_elsewhere_gives_its_job_back_when_told_to_go(servers):
    server = servers.start(workers=0)
    worker = servers.start_worker(server, model="fake:0.2", worker_id="first")
    job_id = server.submit(num_inference_steps=50)
    # Claimed is not enough, as above: the answer may still be on its way to the worker.
    wait_until(lambda: server.status(job_id).get("progress"), "the worker draws")
    worker.terminate()
    assert worker.wait(DEADLINE_S) == 0
    assert server.status(job_id)["status"] == "IN_QUEUE"
    servers.start_worker(server, model="fake", worker_id="second")
    job = server.wait_status(job_id, "COMPLETED")
    assert job["workerId"] == "second"
    assert "retries" not in job


def test_cancel_ends_a_running_job_within_a_step(servers):
    # 50 such steps would hold the next job up for longer than anything here is waited for.
    server = servers.start(model="fake:4")
    job_id = server.submit(num_inference_steps=50)
    server.wait_status(job_id, "IN_PROGRESS")
    reply = server.client.post(f"/cancel/{job_id}")
    assert reply.json()["status"] == "CANCELLED"
    next_id = server.submit(num_inference_steps=1)
    server.wait_status(next_id, "COMPLETED")
    assert server.status(job_id)["status"] == "CANCELLED"
    assert server.charges() == [next_id]


def test_two_workers_share_the_queue(servers):
    server = servers.start(model="fake:0.2", workers=2)
    # The first to come would take all of them.
    wait_until(lambda: server.health()["workers"]["idle"] == 2, "both are there")
    jobs = [server.submit(num_inference_steps=10) for _ in range(4)]
    ended = [server.wait_status(job_id, "COMPLETED") for job_id in jobs]
    assert len({job["workerId"] for job in ended}) == 2
    assert sorted(server.charges()) == sorted(jobs)


def test_a_worker_that_is_stopped_is_replaced_and_its_job_done(servers):
    # A lease that a busy machine renews in time.
    server = servers.start(model="fake:0.2", lease_s=5)
    job_id = server.submit()
    server.wait_status(job_id, "IN_PROGRESS")
    worker = server.wait_worker()
    worker.send_signal(signal.SIGSTOP)
    job = server.wait_status(job_id, "COMPLETED")
    assert job["retries"] == 1
    assert has_ended(worker)
    assert "is ended: it lost the lease of job" in server.log.read_text()


def test_a_worker_whose_step_does_not_end_is_replaced(servers):
    server = servers.start(model="fake:600", stop_grace_s=1)
    first = server.submit(num_inference_steps=1)
    server.wait_status(first, "IN_PROGRESS")
    worker = server.wait_worker()
    server.client.post(f"/cancel/{first}")
    assert server.health()["workers"]["idle"] == 0
    wait_until(lambda: has_ended(worker), "the worker is gone")
    second = server.submit(num_inference_steps=1)
    assert server.wait_status(second, "IN_PROGRESS")["workerId"] != server.status(first).get("workerId")
    assert "its job is over, and it has not asked for another" in server.log.read_text()
