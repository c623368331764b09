"""The API of a real server, as clients use it."""

import asyncio
import base64
import json
import re

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

import resnetlab
from resnetlab.inference.predictor import Predictor

from .conftest import FakeNetwork
from .inprocess import served


@pytest.fixture(scope="module")
def expected(pictures):
    return list(Predictor("resnet20-cifar10").predict(pictures[:4], topk=3))


def assert_predicted(images, expected):
    for image, prediction in zip(images, expected, strict=True):
        found = [(each["class"], each["probability"]) for each in image["predictions"]]
        assert [name for name, _ in found] == [name for name, _ in prediction.top]
        # the server's batches are of other sizes, and bf16 sums in another order
        assert [p for _, p in found] == pytest.approx([p for _, p in prediction.top], abs=0.5)
        assert image["error"] is None
        assert image["none_of_these"] is prediction.none_of_these


def test_images_as_files_of_a_form(server, pictures, expected):
    files = [("image", (f"{n}.png", data, "image/png")) for n, data in enumerate(pictures[:4])]
    answer = server.client.post("/predict?topk=3", files=files)
    assert answer.status_code == 200
    assert [image["image"] for image in answer.json()["images"]] == [
        "0.png",
        "1.png",
        "2.png",
        "3.png",
    ]
    assert_predicted(answer.json()["images"], expected)


@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream", "image/jpeg; x=y"])
def test_an_image_as_the_body(server, pictures, expected, kind):
    answer = server.client.post(
        "/predict?topk=3", content=pictures[0], headers={"content-type": kind}
    )
    assert_predicted(answer.json()["images"], expected[:1])


def test_images_in_json(server, pictures, expected):
    images = [base64.b64encode(data).decode() for data in pictures[:4]]
    images[0] = f"data:image/png;base64,{images[0]}"
    answer = server.client.post("/predict?topk=3", json={"images": images})
    assert_predicted(answer.json()["images"], expected)


def test_topk_may_exceed_the_classes(server, pictures):
    answer = server.client.post("/predict?topk=1000", files={"image": pictures[0]})
    probabilities = [each["probability"] for each in answer.json()["images"][0]["predictions"]]
    assert len(probabilities) == 10
    assert sum(probabilities) == pytest.approx(100, abs=0.01)
    assert probabilities == sorted(probabilities, reverse=True)


def test_a_heat_map_on_request(server, pictures):
    asked = server.client.post("/predict?heat_map=true", files={"image": pictures[0]}).json()
    heat_map = asked["images"][0]["heat_map"]
    assert (len(heat_map["values"]), len(heat_map["values"][0])) == (8, 8)
    assert max(map(max, heat_map["values"])) == 1
    assert heat_map["box"] == [0, 0, 1, 1]
    unasked = server.client.post("/predict", files={"image": pictures[0]}).json()
    assert unasked["images"][0]["heat_map"] is None


def test_one_bad_image_fails_alone(server, pictures, expected):
    files = [("image", pictures[0]), ("image", b"no image"), ("image", pictures[1][:-200])]
    answer = server.client.post("/predict?topk=3", files=[*files, ("image", pictures[1])])
    good, bad, cut, other = answer.json()["images"]
    assert answer.status_code == 200
    assert_predicted([good, other], expected[:2])
    assert bad["error"] == "cannot read the image: not an image, or of an unknown format"
    assert cut["error"].startswith("cannot read the image: ")
    assert bad["predictions"] == cut["predictions"] == []


def test_where_no_image_can_be_read_the_status_says_it(server):
    answer = server.client.post("/predict", files=[("image", b"no"), ("image", b"none")])
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("cannot read the image")
    assert len(answer.json()["images"]) == 2


WRONG = {
    "no body": ({"content": b""}, 415),
    "text": ({"content": b"x", "headers": {"content-type": "text/plain"}}, 415),
    "no file in the form": ({"data": {"a": "b"}, "files": {}}, 415),
    "a field for a file": ({"files": {"image": (None, b"x")}}, 400),
    "not JSON": ({"content": b"{", "headers": {"content-type": "application/json"}}, 400),
    "deep JSON": ({"content": b"[" * 10**5, "headers": {"content-type": "application/json"}}, 400),
    "other fields": ({"json": {"urls": ["http://example.com/cat.png"]}}, 400),
    "no images": ({"json": {"images": []}}, 400),
    "not base64": ({"json": {"images": ["§"]}}, 400),
    "an address": ({"json": {"images": ["http://127.0.0.1/cat.png"]}}, 400),
    "too many": ({"json": {"images": ["aGk="] * 9}}, 413),
    "topk of 0": ({"params": {"topk": 0}, "files": {"image": b"x"}}, 422),
    "deadline of NaN": ({"params": {"deadline": "nan"}, "files": {"image": b"x"}}, 422),
    "no boundary": ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_request_is_refused_in_a_sentence(server, what):
    options, status = WRONG[what]
    answer = server.client.post("/predict", **options)
    assert answer.status_code == status, answer.text
    assert re.fullmatch(r"[^\n]{10,200}[.}]", answer.json()["error"]), answer.text


def test_a_deadline_that_cannot_be_met():
    with served(FakeNetwork(seconds=0.5)) as server:
        headers = {"content-type": "image/png"}
        answer = server.client.post("/predict?deadline=0.05", content=b"a", headers=headers)
        assert answer.status_code == 504
        assert answer.json()["error"] == "there was no answer within 0.05 s."


@pytest.mark.parametrize(
    ("own", "asked", "threshold", "none_of_these"),
    [
        (0.6, None, 60, True),
        (0.6, 50.0, 50, False),
        (0.6, 0.0, None, None),
        (None, 60.0, 60, True),
    ],
)
def test_a_threshold_of_the_network_or_of_whoever_serves_it(own, asked, threshold, none_of_these):
    network = FakeNetwork()
    network.threshold = own
    with served(network, min_confidence=asked) as server:
        headers = {"content-type": "image/png"}
        answer = server.client.post("/predict", content=bytes([10]), headers=headers)
        (image,) = answer.json()["images"]
        assert image["predictions"][0]["probability"] == pytest.approx(52.5, abs=0.1)
        assert image["none_of_these"] is none_of_these
        assert server.client.get("/model").json()["threshold"] == threshold


def test_the_card(server):
    card = server.client.get("/model").json()
    assert card["name"] == "resnet20-cifar10"
    assert card["classes"][:2] == ["airplane", "automobile"]
    assert (card["image_size"], card["channels"], card["max_images"]) == (32, 3, 8)
    assert card["version"] == resnetlab.__version__
    assert card["heat_maps"] is True
    for address in card["examples"]:
        answer = server.client.get(address)
        assert answer.headers["content-type"] == "image/png"
        assert server.client.post("/predict", files={"image": answer.content}).status_code == 200


def test_metrics_count_what_was_done(server, pictures):
    def counted():
        text = server.client.get("/metrics").text
        return {
            (sample.name, *sorted(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    before = counted()
    server.client.post("/predict", files=[("image", pictures[0]), ("image", b"no")])
    server.client.get("/unknown/4711")
    after = counted()

    def more(*name):
        return after.get(name, 0) - before.get(name, 0)

    assert more("resnetlab_requests_total", "/predict", "200") == 1
    assert more("resnetlab_requests_total", "404", "other") == 1
    assert more("resnetlab_images_total", "predicted") == 1
    assert more("resnetlab_images_total", "unreadable") == 1
    assert more("resnetlab_batch_images_count") == 1
    assert more("resnetlab_request_seconds_count", "/predict") == 1
    assert after["resnetlab_queue_images",] == 0
    assert not any("4711" in name for key in after for name in key)


def test_health_and_readiness(server):
    for path in ("/health", "/ready"):
        answer = server.client.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_the_reference_shows_every_operation_and_loads_nothing_from_elsewhere(server):
    reference = server.client.get("/docs").text
    document = server.client.get("/openapi.json").json()
    for path in document["paths"]:
        assert f" {path}</code>" in reference
    for name in document["components"]["schemas"]:
        assert f"<code>{name}</code>" in reference
    loaded = re.findall(r'(?:src|href)="([^"]*)"', reference)
    assert loaded
    assert all(address.startswith("/") and not address.startswith("//") for address in loaded)
    assert "ValidationError" not in json.dumps(document)


def test_requests_of_many_clients_are_computed_together(server, pictures):
    async def ask(client, n):
        answer = await client.post("/predict?topk=1", files={"image": pictures[n % 20]})
        return answer.status_code, answer.json()["images"][0]["predictions"][0]["class"]

    async def all_of_them():
        limits = httpx2.Limits(max_connections=64)
        async with httpx2.AsyncClient(base_url=server.url, timeout=60, limits=limits) as client:
            return await asyncio.gather(*(ask(client, n) for n in range(128)))

    def batches():
        text = server.client.get("/metrics").text
        return [
            float(re.search(rf"^resnetlab_batch_images_{what} (\S+)$", text, re.M)[1])
            for what in ("sum", "count")
        ]

    before = batches()
    answers = asyncio.run(all_of_them())
    images, count = (a - b for a, b in zip(batches(), before, strict=True))
    assert {status for status, _ in answers} == {200}
    assert images == 128
    assert count < 100
    for n in range(20):  # the same image has the same answer, whoever else asks
        assert len({name for _, name in answers[n::20]}) == 1
