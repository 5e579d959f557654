"""A picture for a bucket that its client named."""

import pytest

from flux_endpoint.core.errors import OutboundFailed, OutboundRefused
from flux_endpoint.outbound.protocol import Answer
from tests.api.conftest import DEV, PNG_BYTES, Gateway, HandWorker

pytestmark = pytest.mark.anyio

BUCKET = {
    "accessId": "their-id",
    "accessSecret": "their-secret",
    "bucketName": "pictures",
    "endpointUrl": "https://s3.eu-west-1.example.com",
}


async def submit(gateway: Gateway, **extra: str) -> str:
    body = {"input": {"prompt": "a lake", "image_format": "png", "seed": 7}, "s3Config": BUCKET | extra}
    reply = await gateway.post(f"{DEV}/run", body)
    assert reply.status_code == 200, reply.text
    return reply.json()["id"]


async def take(worker: HandWorker) -> dict:
    job = await worker.take()
    assert job is not None
    return job


async def test_the_picture_goes_there_and_the_client_gets_a_signed_link(gateway: Gateway, worker: HandWorker) -> None:
    job_id = await submit(gateway)
    await worker.finish(await take(worker))
    await gateway.settle()
    (sent,) = gateway.sender.sent
    assert (sent.method, sent.body) == ("PUT", PNG_BYTES)
    assert sent.url.startswith(f"https://s3.eu-west-1.example.com/pictures/{job_id}.png?X-Amz-Algorithm=")
    assert sent.headers == {"Content-Type": "image/png"}
    status = (await gateway.get(f"{DEV}/status/{job_id}")).json()
    assert status["status"] == "COMPLETED"
    output = status["output"]
    assert output["image_url"].startswith(f"https://s3.eu-west-1.example.com/pictures/{job_id}.png?")
    assert "X-Amz-Expires=604800" in output["image_url"]
    assert "X-Amz-Credential=their-id%2F" in output["image_url"]
    assert "their-secret" not in str(status)
    assert (output["result"], output["seed"]) == (output["image_url"], 7)
    assert [entry.job_id for entry in await gateway.stores.accounts.entries()] == [job_id]
    assert await gateway.services.images.sweep() == 0


async def test_object_path_is_a_prefix(gateway: Gateway, worker: HandWorker) -> None:
    job_id = await submit(gateway, objectPath="/2026/my cats/")
    await worker.finish(await take(worker))
    await gateway.settle()
    assert f"/pictures/2026/my%20cats/{job_id}.png?" in gateway.sender.sent[0].url


@pytest.mark.parametrize(
    ("answers", "tries", "error"),
    [
        (
            [403],
            1,
            "s3Config: the picture could not be stored in the bucket 'pictures': HTTP 403 AccessDenied",
        ),
        ([503, 503, 503], 3, "s3Config: the picture could not be stored in the bucket 'pictures': HTTP 503"),
        (
            [OutboundFailed("no answer within 8 s")] * 3,
            3,
            "s3Config: the picture could not be stored in the bucket 'pictures': no answer within 8 s",
        ),
        ([OutboundRefused("no")], 1, "s3Config.endpointUrl cannot be called: no"),
    ],
    ids=["refused", "broken", "silent", "forbidden"],
)
async def test_a_bucket_that_does_not_take_it_fails_the_job_and_nothing_is_charged(
    gateway: Gateway, worker: HandWorker, answers, tries, error
) -> None:
    job_id = await submit(gateway)
    gateway.sender.answers = list(answers)
    job = await take(worker)
    # Twice, as when the answer was lost on its way to the worker.
    for _ in range(2):
        assert (await worker.deliver(job)).status_code == 200
        await gateway.settle()
    status = (await gateway.get(f"{DEV}/status/{job_id}")).json()
    assert (status["status"], status["error"]) == ("FAILED", error)
    assert len(gateway.sender.sent) == tries
    assert await gateway.stores.accounts.entries() == []


async def test_a_bucket_that_is_busy_for_a_moment_is_asked_again(gateway: Gateway, worker: HandWorker) -> None:
    job_id = await submit(gateway)
    gateway.sender.answers = [503]
    await worker.finish(await take(worker))
    await gateway.settle()
    assert (await gateway.get(f"{DEV}/status/{job_id}")).json()["status"] == "COMPLETED"
    assert len(gateway.sender.sent) == 2


async def test_the_operators_own_credentials_never_sign_for_a_client(
    gateway: Gateway, worker: HandWorker, monkeypatch
) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "operator-id",
        "AWS_SECRET_ACCESS_KEY": "operator-secret",
        "AWS_SESSION_TOKEN": "operator-token",
        "AWS_ENDPOINT_URL": "http://operator.example",
        "AWS_REGION": "operator-region",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_REQUEST_PAYER": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
    }.items():
        monkeypatch.setenv(name, value)
    job_id = await submit(gateway)
    await worker.finish(await take(worker))
    await gateway.settle()
    (sent,) = gateway.sender.sent
    assert "operator" not in sent.url
    assert sent.url.startswith(f"https://s3.eu-west-1.example.com/pictures/{job_id}.png?")
    assert "X-Amz-Signature=" in sent.url


async def test_a_worker_that_lost_the_job_reaches_no_bucket(gateway: Gateway, worker: HandWorker) -> None:
    await submit(gateway)
    job = await take(worker)
    gateway.clock.advance(s=60)
    await gateway.janitor.sweep()
    assert (await worker.deliver(job)).status_code == 409
    assert gateway.sender.sent == []


@pytest.mark.parametrize(
    ("endpoint", "start", "region"),
    [
        ("https://s3.eu-west-1.amazonaws.com", "https://s3.eu-west-1.amazonaws.com/pictures/", "eu-west-1"),
        ("https://pictures.s3.eu-west-1.amazonaws.com", "https://pictures.s3.eu-west-1.amazonaws.com/", "eu-west-1"),
        ("https://s3.amazonaws.com", "https://s3.amazonaws.com/pictures/", "us-east-1"),
        ("https://s3.dualstack.us-west-2.amazonaws.com", "https://s3.dualstack.us-west-2.amazonaws.com/", "us-west-2"),
        (
            "https://s3-ap-southeast-4.amazonaws.com",
            "https://s3-ap-southeast-4.amazonaws.com/pictures/",
            "ap-southeast-4",
        ),
        ("https://s3.us-gov-west-1.amazonaws.com", "https://s3.us-gov-west-1.amazonaws.com/", "us-gov-west-1"),
        ("https://s3.cn-north-1.amazonaws.com.cn", "https://s3.cn-north-1.amazonaws.com.cn/", "cn-north-1"),
        (
            "https://s3-accelerate.dualstack.amazonaws.com",
            "https://s3-accelerate.dualstack.amazonaws.com/",
            "us-east-1",
        ),
        ("https://s3.eu-central-003.backblazeb2.com", "https://s3.eu-central-003.backblazeb2.com/", "eu-central-003"),
        ("https://s3.storage.mycompany.com", "https://s3.storage.mycompany.com/pictures/", "us-east-1"),
        (
            "https://s3.eu-west-1.amazonaws.com.evil.example",
            "https://s3.eu-west-1.amazonaws.com.evil.example/",
            "us-east-1",
        ),
        ("https://fra1.digitaloceanspaces.com", "https://fra1.digitaloceanspaces.com/pictures/", "fra1"),
        ("https://a1.r2.cloudflarestorage.com", "https://a1.r2.cloudflarestorage.com/pictures/", "auto"),
        ("http://minio.example:9000/", "http://minio.example:9000/pictures/", "us-east-1"),
    ],
)
async def test_the_region_is_read_from_the_endpoint(
    gateway: Gateway, worker: HandWorker, endpoint, start, region
) -> None:
    job_id = await submit(gateway, endpointUrl=endpoint)
    await worker.finish(await take(worker))
    await gateway.settle()
    (sent,) = gateway.sender.sent
    assert sent.url.startswith(start)
    assert f"/{job_id}.png?" in sent.url
    assert f"%2F{region}%2Fs3%2Faws4_request" in sent.url


async def test_the_client_may_name_the_region(gateway: Gateway, worker: HandWorker) -> None:
    await submit(gateway, endpointUrl="https://s3.eu-west-1.amazonaws.com", region="garage")
    await worker.finish(await take(worker))
    await gateway.settle()
    assert "%2Fgarage%2Fs3%2Faws4_request" in gateway.sender.sent[0].url


@pytest.mark.parametrize(
    "refusal",
    [
        Answer(400, b"<Error><Code>AuthorizationQueryParametersError</Code><Region>us-west-2</Region></Error>"),
        Answer(403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>", {"x-amz-bucket-region": "us-west-2"}),
        Answer(301, b"", {"x-amz-bucket-region": "us-west-2"}),
    ],
    ids=["body", "header", "redirect"],
)
async def test_a_region_that_the_bucket_names_is_tried_once(
    gateway: Gateway, worker: HandWorker, refusal: Answer
) -> None:
    job_id = await submit(gateway)
    gateway.sender.answers = [refusal]
    await worker.finish(await take(worker))
    await gateway.settle()
    status = (await gateway.get(f"{DEV}/status/{job_id}")).json()
    assert status["status"] == "COMPLETED"
    assert "%2Fus-west-2%2Fs3%2F" in status["output"]["image_url"]
    regions = [sent.url.partition("X-Amz-Credential=")[2].split("%2F")[2] for sent in gateway.sender.sent]
    assert regions == ["us-east-1", "us-west-2"]
    # Not for ever: one that sends us round and round has failed.
    second = await submit(gateway)
    gateway.sender.answers = [refusal, refusal]
    await worker.deliver(await take(worker))
    await gateway.settle()
    assert (await gateway.get(f"{DEV}/status/{second}")).json()["status"] == "FAILED"
    assert len(gateway.sender.sent) == 4


@pytest.mark.parametrize("named", ["../x", "a b", "", "ü", "x" * 65, "us-east-1&X=1"])
async def test_a_region_that_is_none_is_not_tried(gateway: Gateway, worker: HandWorker, named: str) -> None:
    job_id = await submit(gateway)
    gateway.sender.answers = [
        Answer(400, f"<Error><Region>{named}</Region></Error>".encode(), {"x-amz-bucket-region": named})
    ]
    await worker.deliver(await take(worker))
    await gateway.settle()
    assert (await gateway.get(f"{DEV}/status/{job_id}")).json()["status"] == "FAILED"
    assert len(gateway.sender.sent) == 1
