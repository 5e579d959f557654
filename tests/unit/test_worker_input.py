import pytest

from flux_endpoint.core.catalog import CATALOG, FLUX_DEV, FLUX_SCHNELL
from flux_endpoint.core.errors import InvalidRequest
from flux_endpoint.core.generation import GenerationRequest, parse_input
from flux_endpoint.core.source_picture import SourcePicture


@pytest.mark.parametrize("spec", CATALOG.values(), ids=lambda spec: spec.family.value)
def test_a_job_input_reads_back_as_the_request_it_was_made_of(spec):
    pictures = {"image": SourcePicture("k", "a", 64, 64), "mask": SourcePicture("m", "b", 64, 64)}
    if spec.family.reads_map:
        pictures = {"control_image": SourcePicture("c", "c", 64, 64)}
    for sent in ({}, pictures) if spec in (FLUX_DEV, FLUX_SCHNELL) else (pictures,):
        request = parse_input({"prompt": "a lake", "seed": 7, "width": 512, "image_format": "png"} | sent, spec)
        assert GenerationRequest.from_input(request.to_input()) == request


@pytest.mark.parametrize("change", [{"width": None}, {"image_format": "gif"}, {"image_format": None}, {"more": 1}])
def test_an_input_of_another_kind_is_refused(change):
    fields = parse_input({"prompt": "a lake"}, next(iter(CATALOG.values()))).to_input() | change
    if change == {"width": None}:
        del fields["width"]
    with pytest.raises(InvalidRequest, match="not a complete FLUX job"):
        GenerationRequest.from_input(fields)
