"""What a webhook is told at each end of a job, when, and signed by what."""

import json
from datetime import UTC, datetime

import pytest
import standardwebhooks

from flux_endpoint.core.errors import Conflict, NotFound, OutboundFailed, OutboundRefused
from flux_endpoint.core.webhook import ROTATION_MS, DeliveryState
from flux_endpoint.service.webhooks import LEASE_MS
from tests.api.conftest import DEV, Gateway, HandWorker, Sent

pytestmark = pytest.mark.anyio

HOOK = "https://user:pass@hooks.example/flux?token=geheim"
SHOWN = "https://hooks.example/flux"


async def submit(gateway: Gateway, **extra: object) -> str:
    reply = await gateway.post(f"{DEV}/run", {"input": {"prompt": "a lake", "seed": 7}, "webhook": HOOK} | extra)
    assert reply.status_code == 200, reply.text
    return reply.json()["id"]


async def deliver(gateway: Gateway) -> list[Sent]:
    """Send what is due; returns what went out."""
    before = len(gateway.sender.sent)
    await gateway.send_due()
    return gateway.sender.sent[before:]


async def finish(worker: HandWorker) -> None:
    job = await worker.take()
    assert job is not None
    await worker.finish(job)


async def log(gateway: Gateway, **options):
    return await gateway.stores.webhooks.deliveries(limit=10, **options)


async def test_a_completed_job_is_told_as_status_shows_it_with_input_and_webhook(
    gateway: Gateway, worker: HandWorker
) -> None:
    job_id = await submit(gateway)
    assert await deliver(gateway) == []
    await finish(worker)
    (sent,) = await deliver(gateway)
    assert (sent.method, sent.url) == ("POST", HOOK)
    assert sent.headers["Content-Type"] == "application/json"
    status = (await gateway.get(f"{DEV}/status/{job_id}")).json()
    assert status["status"] == "COMPLETED"
    assert {name: sent.json[name] for name in status} == status
    assert sent.json.keys() - status.keys() == {"input", "webhook"}
    assert sent.json["webhook"] == HOOK
    assert (sent.json["input"]["prompt"], sent.json["input"]["seed"]) == ("a lake", 7)
    assert await deliver(gateway) == []
    (record,) = await log(gateway)
    assert (record.state, record.attempts, record.code, record.shown_url) == (DeliveryState.DELIVERED, 1, 200, SHOWN)


async def test_every_other_end_is_told_too(gateway: Gateway, worker: HandWorker) -> None:
    cancelled, failed, timed_out, purged = [await submit(gateway) for _ in range(3)] + [
        await submit(gateway, policy={"ttl": 3_600_000})
    ]
    await gateway.post(f"{DEV}/cancel/{cancelled}")
    job = await worker.take()
    assert job is not None
    await worker.done(job, {"error": "no memory"})
    await worker.take()
    await gateway.post(f"{DEV}/purge-queue")
    gateway.clock.advance(s=600)
    await gateway.janitor.sweep()
    told = {sent.json["id"]: sent.json for sent in await deliver(gateway)}
    assert {job_id: body["status"] for job_id, body in told.items()} == {
        cancelled: "CANCELLED",
        failed: "FAILED",
        timed_out: "TIMED_OUT",
        purged: "CANCELLED",
    }
    assert told[failed]["error"] == "no memory"
    assert "output" not in told[failed]
    assert None not in told[failed].values()


async def test_a_job_without_a_webhook_and_a_refused_one_tell_nobody(gateway: Gateway, worker: HandWorker) -> None:
    await gateway.submit()
    await finish(worker)
    reply = await gateway.post(f"{DEV}/run", {"input": {}, "webhook": HOOK, "webhookV2": HOOK})
    assert reply.status_code == 400
    assert await deliver(gateway) == []


async def test_the_signature_is_what_the_reference_verifies(gateway: Gateway, worker: HandWorker) -> None:
    await submit(gateway)
    await finish(worker)
    (sent,) = await deliver(gateway)
    (key,) = await gateway.services.accounts.list()
    secret = (await gateway.stores.webhooks.webhook_secret(key.id)).secret
    assert sent.headers["webhook-id"].startswith("msg_")
    assert int(sent.headers["webhook-timestamp"]) == gateway.clock.now_ms() // 1_000
    reference = standardwebhooks.Webhook(secret)
    sent_at = datetime.fromtimestamp(int(sent.headers["webhook-timestamp"]), UTC)
    assert sent.headers["webhook-signature"] == reference.sign(sent.headers["webhook-id"], sent_at, sent.body.decode())
    assert reference.verify(sent.body, dict(sent.headers)) == sent.json


async def test_after_a_rotation_both_secrets_sign_for_a_day(gateway: Gateway, worker: HandWorker) -> None:
    (key,) = await gateway.services.accounts.list()
    old = (await gateway.stores.webhooks.webhook_secret(key.id)).secret
    rotated = await gateway.stores.webhooks.rotate_webhook_secret(key.id)
    assert (rotated.previous, rotated.previous_until_ms) == (old, gateway.clock.now_ms() + ROTATION_MS)
    assert rotated.secret != old

    def verifies(sent: Sent, secret: str) -> bool:
        # Not `verify`: it compares the time with that of the machine.
        sent_at = datetime.fromtimestamp(int(sent.headers["webhook-timestamp"]), UTC)
        signature = standardwebhooks.Webhook(secret).sign(sent.headers["webhook-id"], sent_at, sent.body.decode())
        return signature in sent.headers["webhook-signature"].split(" ")

    for hours, signed_by in ((0, {old, rotated.secret}), (24, {rotated.secret})):
        gateway.clock.advance(s=3_600 * hours)
        await submit(gateway)
        await finish(worker)
        (sent,) = await deliver(gateway)
        assert {secret for secret in (old, rotated.secret) if verifies(sent, secret)} == signed_by
        assert len(sent.headers["webhook-signature"].split(" ")) == len(signed_by)


async def test_only_200_counts_and_three_attempts_ten_seconds_apart_are_made(
    gateway: Gateway, worker: HandWorker
) -> None:
    await submit(gateway)
    await finish(worker)
    gateway.sender.answers = [500, 204, 302]
    ids = set()
    for answer in ("HTTP 500", "HTTP 204", "HTTP 302; redirects are not followed"):
        (sent,) = await deliver(gateway)
        ids.add(sent.headers["webhook-id"])
        (record,) = await log(gateway)
        assert record.error is not None
        assert record.error.startswith(answer)
        gateway.clock.advance(s=10, ms=-1)
        assert await deliver(gateway) == []
        gateway.clock.advance(ms=1)
    assert await deliver(gateway) == []
    assert len(ids) == 1
    (record,) = await log(gateway, failed=True)
    assert (record.state, record.attempts, record.code) == (DeliveryState.FAILED, 3, 302)


async def test_a_receiver_that_comes_back_is_told(gateway: Gateway, worker: HandWorker) -> None:
    await submit(gateway)
    await finish(worker)
    gateway.sender.answers = [OutboundFailed("hooks.example cannot be reached: Connection refused")]
    await deliver(gateway)
    (record,) = await log(gateway)
    assert (record.state, record.code) == (DeliveryState.WAITING, None)
    gateway.clock.advance(s=10)
    assert len(await deliver(gateway)) == 1
    (record,) = await log(gateway)
    assert (record.state, record.attempts, record.error) == (DeliveryState.DELIVERED, 2, None)


async def test_a_refused_address_is_logged_and_not_tried_again(gateway: Gateway, worker: HandWorker) -> None:
    await submit(gateway)
    await finish(worker)
    gateway.sender.answers = [OutboundRefused("10.0.0.1 is a private address")]
    await deliver(gateway)
    gateway.clock.advance(s=60)
    assert await deliver(gateway) == []
    (record,) = await log(gateway, failed=True)
    assert (record.state, record.error) == (DeliveryState.REFUSED, "10.0.0.1 is a private address")


async def test_a_bug_in_the_rendering_is_a_failed_attempt(gateway: Gateway, worker: HandWorker, monkeypatch) -> None:
    await submit(gateway)
    await finish(worker)
    monkeypatch.setattr(gateway.deliverer, "_render", lambda job: {}["missing"])
    assert await deliver(gateway) == []
    (record,) = await log(gateway)
    assert (record.state, record.error) == (DeliveryState.WAITING, "internal error: the server's log has the details")


async def test_what_failed_can_be_sent_again_under_its_id(gateway: Gateway, worker: HandWorker) -> None:
    job_id = await submit(gateway)
    await finish(worker)
    gateway.sender.answers = [OutboundRefused("no")]
    (first,) = await deliver(gateway)
    # Long after the job is gone.
    gateway.clock.advance(days=2)
    await gateway.janitor.sweep()
    assert (await gateway.get(f"{DEV}/status/{job_id}")).status_code == 404
    assert await gateway.stores.webhooks.replay_failed() == 1
    (again,) = await deliver(gateway)
    assert again.headers["webhook-id"] == first.headers["webhook-id"]
    assert again.headers["webhook-timestamp"] != first.headers["webhook-timestamp"]
    assert again.body == first.body
    assert await gateway.stores.webhooks.replay_failed() == 0


async def test_what_arrived_can_be_sent_again_for_as_long_as_its_job_is_kept(
    gateway: Gateway, worker: HandWorker
) -> None:
    await submit(gateway)
    await finish(worker)
    (first,) = await deliver(gateway)
    delivery_id = first.headers["webhook-id"]
    await gateway.stores.webhooks.replay(delivery_id)
    with pytest.raises(Conflict, match="on its way"):
        await gateway.stores.webhooks.replay(delivery_id)
    assert (await deliver(gateway))[0].body == first.body
    gateway.clock.advance(s=1_800)
    await gateway.janitor.sweep()
    with pytest.raises(Conflict, match="erased together with its job"):
        await gateway.stores.webhooks.replay(delivery_id)
    with pytest.raises(NotFound, match="no webhook delivery with the id 'msg_x'"):
        await gateway.stores.webhooks.replay("msg_x")
    (record,) = await log(gateway)
    assert (record.state, record.can_replay) == (DeliveryState.DELIVERED, False)


async def test_the_log_is_kept_for_thirty_days(gateway: Gateway, worker: HandWorker) -> None:
    await submit(gateway)
    await finish(worker)
    gateway.sender.answers = [OutboundRefused("no")]
    await deliver(gateway)
    gateway.clock.advance(days=29.9)
    await gateway.janitor.sweep()
    assert len(await log(gateway)) == 1
    gateway.clock.advance(days=0.2)
    await gateway.janitor.sweep()
    assert await log(gateway) == []


async def test_a_retried_job_tells_both_of_its_ends(gateway: Gateway, worker: HandWorker) -> None:
    job_id = await submit(gateway)
    job = await worker.take()
    assert job is not None
    await worker.done(job, {"error": "no memory"})
    await gateway.post(f"{DEV}/retry/{job_id}")
    await finish(worker)
    sent = await deliver(gateway)
    assert [each.json["status"] for each in sent] == ["FAILED", "COMPLETED"]
    assert len({each.headers["webhook-id"] for each in sent}) == 2
    assert len(await log(gateway, job_id=job_id)) == 2
    assert await log(gateway, job_id="other") == []


async def test_a_delivery_of_a_dead_gateway_is_sent_by_another(gateway: Gateway, worker: HandWorker) -> None:
    await submit(gateway)
    await finish(worker)
    (lost,) = await gateway.stores.webhooks.claim_due("gateway-2", 8, 8, LEASE_MS)
    assert await deliver(gateway) == []
    gateway.clock.advance(ms=LEASE_MS)
    (sent,) = await deliver(gateway)
    assert sent.headers["webhook-id"] == lost.id


@pytest.mark.parametrize(
    ("extra", "field"),
    [
        ({"webhook": "http://127.0.0.1/"}, "webhook"),
        ({"webhook": "http://[::1]:8080/hook"}, "webhook"),
        ({"webhook": "http://2130706433/"}, "webhook"),
        ({"webhook": "https://169.254.169.254/latest/meta-data"}, "webhook"),
        (
            {
                "s3Config": {
                    "accessId": "id",
                    "accessSecret": "s",
                    "bucketName": "b",
                    "endpointUrl": "http://192.168.1.2:9000",
                }
            },
            "s3Config.endpointUrl",
        ),
    ],
)
async def test_an_address_of_the_servers_own_network_is_refused_at_the_door(gateway: Gateway, extra, field) -> None:
    reply = await gateway.post(f"{DEV}/run", {"input": {"prompt": "a lake"}} | extra)
    assert reply.status_code == 400
    assert reply.json()["error"].startswith(f"Invalid parameter: {field} cannot be called: ")
    assert "OUTBOUND_ALLOW" in reply.json()["error"]


async def test_text_that_utf_8_cannot_hold_is_told_as_the_api_tells_it(gateway: Gateway, worker: HandWorker) -> None:
    await submit(gateway)
    job = await worker.take()
    assert job is not None
    await gateway.client.post(
        f"{DEV}/job-done/{worker.id}/{job['id']}?claimToken={job['claimToken']}",
        content=json.dumps({"output": {"image_url": "x", "note": "\ud800"}}),
        headers=worker.headers,
    )
    (sent,) = await deliver(gateway)
    assert json.loads(sent.body)["output"]["note"] == "\ud800"
