import os
from ipaddress import ip_network

import pytest

from flux_endpoint.core.catalog import CATALOG, FLUX_DEV
from flux_endpoint.core.errors import SettingsError
from flux_endpoint.core.front import Front
from flux_endpoint.core.scaling import ScaleBy, ScalingRules
from flux_endpoint.settings import Settings, WorkerSettings
from flux_endpoint.settings.fields import PREFIX
from flux_endpoint.settings.reader import list_settings, load_settings

LOOPBACK = [ip_network("127.0.0.0/8"), ip_network("::1")]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in list(os.environ):
        if name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)


def refusal(kind=Settings, **options):
    with pytest.raises(SettingsError) as caught:
        load_settings(kind, options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_defaults_are_those_of_the_issue(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = load_settings(Settings)
    assert (settings.host, settings.port, settings.fleet, settings.model) == ("127.0.0.1", 8000, "local", "demo")
    assert settings.lease_s == 30
    assert settings.image_retention_days == 7
    assert settings.resolved_database_url == f"sqlite:///{tmp_path}/data/flux-endpoint.db"
    assert settings.resolved_image_store_url == f"file://{tmp_path}/data/images"
    assert settings.front(8000) == Front("http://127.0.0.1:8000", trusted_proxies=LOOPBACK, cors_origins=[])


def test_a_variable_sets_and_an_option_wins(monkeypatch):
    monkeypatch.setenv("FLUX_ENDPOINT_PORT", "9000")
    monkeypatch.setenv("FLUX_ENDPOINT_WORKERS", "3")
    settings = load_settings(Settings, {"port": "9001", "workers": None})
    assert (settings.port, settings.workers) == (9001, 3)


@pytest.mark.parametrize(
    ("options", "gpus", "least", "most"),
    [
        ({}, 0, 1, 1),
        ({}, 4, 4, 4),
        ({"workers": "2"}, 4, 2, 2),
        ({"workers": "0"}, 4, 0, 0),
        ({"fleet": "none"}, 4, 0, 0),
        ({"fleet": "NONE", "min_workers": "0", "max_workers": "0"}, 4, 0, 0),
        ({"min_workers": "0"}, 0, 0, 1),
        ({"min_workers": "0"}, 4, 0, 4),
        ({"min_workers": "2"}, 0, 2, 2),
        ({"max_workers": "3"}, 4, 1, 3),
        ({"max_workers": "0"}, 4, 0, 0),
        ({"min_workers": "0", "max_workers": "9"}, 4, 0, 9),
        ({"min_workers": "1", "workers": "3"}, 4, 1, 3),
        ({"max_workers": "5", "workers": "3"}, 4, 3, 5),
        ({"min_workers": "0", "max_workers": "5", "workers": "3"}, 4, 0, 5),
    ],
)
def test_so_many_workers_are_kept(options, gpus, least, most):
    settings = load_settings(Settings, options)
    rules = settings.scaling(gpus)
    assert (rules.min_workers, rules.max_workers) == (least, most)
    assert rules.is_elastic == (least < most)
    assert settings.keeps_workers == (most > 0)


def test_scaling_is_told_like_runpods():
    rules = load_settings(Settings, {"max_workers": "2", "scale_by": "Request-Count"}).scaling(0)
    assert rules == ScalingRules(1, 2, idle_timeout_s=60, by=ScaleBy.REQUEST_COUNT, threshold=4)


@pytest.mark.parametrize(
    ("options", "named", "allowed"),
    [
        ({"min_workers": "3", "max_workers": "2"}, "MIN_WORKERS", "at most 2, which is MAX_WORKERS"),
        ({"min_workers": "3", "workers": "1"}, "MIN_WORKERS", "at most 1, which is WORKERS"),
        ({"max_workers": "1", "workers": "3"}, "MAX_WORKERS", "at least 3, which is WORKERS"),
        ({"fleet": "none", "workers": "3"}, "WORKERS", "0, because FLEET is none"),
        ({"fleet": "none", "max_workers": "3"}, "MAX_WORKERS", "0, because FLEET is none"),
        ({"scale_threshold": "0"}, "SCALE_THRESHOLD", "a number from 1 to 3600"),
        ({"idle_timeout_s": "0.5"}, "IDLE_TIMEOUT_S", "a number from 1 to 86400"),
    ],
)
def test_numbers_of_workers_that_contradict_each_other_are_refused(options, named, allowed):
    text = refusal(**options)
    assert text.startswith(f"setting FLUX_ENDPOINT_{named} (option ")
    assert text.endswith(f"allowed: {allowed}")


def test_an_empty_variable_counts_as_unset(monkeypatch):
    monkeypatch.setenv("FLUX_ENDPOINT_API_KEY", "")
    assert load_settings(Settings).api_key is None


def test_an_unknown_name_is_refused_with_the_nearest_known_one(monkeypatch):
    monkeypatch.setenv("FLUX_ENDPOINT_DATADIR", "x")
    assert refusal() == "unknown setting FLUX_ENDPOINT_DATADIR: did you mean FLUX_ENDPOINT_DATA_DIR?"


def test_an_unknown_name_near_to_none_is_refused_with_all_known_ones(monkeypatch):
    monkeypatch.setenv("FLUX_ENDPOINT_ZZZZZZZZZZZZ", "x")
    assert "PUBLIC_URL" in refusal()


def test_worker_variables_do_not_disturb_the_gateway(monkeypatch):
    monkeypatch.setenv("FLUX_ENDPOINT_GATEWAY", "http://example.org")
    load_settings(Settings)
    monkeypatch.setenv("FLUX_ENDPOINT_PORT", "9000")
    assert load_settings(WorkerSettings).gateway == "http://example.org"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "70000"),
        ("port", "-1"),
        ("port", "eighty"),
        ("workers", "-1"),
        ("workers", "1.5"),
        ("lease_s", "0"),
        ("lease_s", "nan"),
        ("image_retention_days", "0"),
        ("image_retention_days", "inf"),
        ("log_level", "loud"),
        ("device", "gpu"),
        ("public_url", "example.org"),
        ("model", ""),
    ],
)
def test_a_bad_value_is_refused_with_name_value_and_what_is_allowed(name, value):
    text = refusal(**{name: value})
    info = next(info for info in list_settings() if info.name.lower() == name)
    assert info.variable in text
    assert info.option in text
    assert repr(value) in text
    assert text.endswith(f"allowed: {info.allowed}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("api_key", "geheim"),
        ("api_key", "two words of it"),
        ("worker_token", "tökentökentöken"),
        ("database_url", "mysql://root:geheim@host/db"),
    ],
)
def test_a_bad_secret_is_refused_without_showing_it(name, value):
    text = refusal(**{name: value})
    assert value not in text
    assert "geheim" not in text
    assert f"FLUX_ENDPOINT_{name.upper()}" in text


def test_secrets_do_not_show_when_settings_are_printed():
    settings = load_settings(Settings, {"api_key": "fxe_very-secret", "worker_token": "fxw_very-secret"})
    assert "very-secret" not in repr(settings)


def test_levels_and_devices_may_be_written_in_capitals():
    settings = load_settings(Settings, {"log_level": "DEBUG", "device": "CUDA:1"})
    assert (settings.log_level, settings.device) == ("debug", "cuda:1")


@pytest.mark.parametrize(
    ("model", "schnell_model", "source"),
    [
        ("demo", None, "demo"),
        ("fake", None, "fake"),
        ("fake:0.02", None, "fake:0.02"),
        ("black-forest-labs/FLUX.1-dev", None, None),
        ("./demo", None, None),
        ("black-forest-labs/FLUX.1-dev", "black-forest-labs/FLUX.1-schnell", "black-forest-labs/FLUX.1-schnell"),
        ("black-forest-labs/FLUX.1-dev", "demo", "demo"),
    ],
)
def test_schnell_is_never_silently_the_embedded_model(model, schnell_model, source):
    assert load_settings(Settings, {"model": model, "schnell_model": schnell_model}).schnell_source == source


def test_models_that_read_pictures_are_offered_where_they_are_named_and_only_there():
    assert [endpoint_id[25:] for endpoint_id in load_settings(Settings, {}).sources] == ["dev", "schnell"]
    named = load_settings(Settings, {"model": "fake", "kontext_model": "./kontext", "fill_model": "fake"}).sources
    assert [*named.values()] == ["fake", "fake", "./kontext", "fake"]
    with pytest.raises(SettingsError, match="KONTEXT_MODEL"):
        load_settings(Settings, {"kontext_model": "demo"})


def test_redux_stands_beside_flux_own_weights_and_only_there():
    models = {"model": "fake", "schnell_model": "demo"}
    models |= dict.fromkeys(("kontext_model", "fill_model", "canny_model", "depth_model"), "fake")
    beside = load_settings(Settings, models | {"redux_model": "fake"})
    assert [beside.has_redux(spec) for spec in CATALOG.values()] == [True, *[False] * 5]
    assert not any(load_settings(Settings, models).has_redux(spec) for spec in CATALOG.values())
    with pytest.raises(SettingsError, match=r"REDUX_MODEL.*not where MODEL is 'demo'"):
        load_settings(Settings, {"redux_model": "black-forest-labs/FLUX.1-Redux-dev"})


def test_a_controlnet_stands_beside_flux_dev_and_says_its_kind():
    models = {"model": "fake", "schnell_model": "fake", "canny_model": "fake"}
    for text, place, kind in (("a/b", "a/b", "single"), ("my nets/x  kind=union", "my nets/x", "union")):
        beside = load_settings(Settings, models | {"controlnet_model": text})
        assert (beside.controlnet.place, beside.controlnet.kind) == (place, kind)
        assert [beside.controlnet_of(spec) for spec in CATALOG.values()] == [kind, *[None] * 5]
    assert load_settings(Settings, models).controlnet_of(FLUX_DEV) is None
    for wrong in (models | {"controlnet_model": "a/b kind=canny"}, {"controlnet_model": "a/b"}):
        with pytest.raises(SettingsError, match=r"CONTROLNET_MODEL.*not where MODEL is 'demo'"):
            load_settings(Settings, wrong)


@pytest.mark.parametrize(
    ("host", "public_url", "expected"),
    [
        ("0.0.0.0", None, "http://127.0.0.1:80"),
        ("::", None, "http://127.0.0.1:80"),
        ("::1", None, "http://[::1]:80"),
        ("box.lan", None, "http://box.lan:80"),
        ("0.0.0.0", "https://pictures.example.org/", "https://pictures.example.org"),
    ],
)
def test_links_without_a_request_can_be_opened(host, public_url, expected):
    assert load_settings(Settings, {"host": host, "public_url": public_url}).front(80).base_url_of(None) == expected


def test_every_setting_is_described():
    for kind in (Settings, WorkerSettings):
        for info in list_settings(kind):
            assert info.description.endswith("."), info.name
            assert info.allowed, info.name
    names = {info.name for info in list_settings()}
    assert {"HOST", "PORT", "DATA_DIR", "DATABASE_URL", "IMAGE_STORE_URL", "PUBLIC_URL", "MODEL"} <= names
    assert {"SCHNELL_MODEL", "API_KEY", "WORKERS", "WORKER_TOKEN", "LEASE_S", "LOG_LEVEL", "DEVICE"} <= names
