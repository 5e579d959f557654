"""The manifests of deploy/kubernetes, by schemas: no cluster is at hand to try them on."""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema_rs
import kubernetes_validate
import pytest
import yaml

from flux_endpoint.api.app import ROUTES
from flux_endpoint.settings import Settings, WorkerSettings
from flux_endpoint.settings.fields import PREFIX
from flux_endpoint.settings.reader import load_settings
from tests.docs.test_deploy import ROOT, wrong_words

FOLDER = ROOT / "deploy" / "kubernetes"
SCHEMAS = ROOT / "deploy" / "schemas"
# Of `kubectl apply -k`, each with the base that it builds on.
ROOTS = ("gateway", "workers", "ray")
# What names the items of a list, so that a patch finds the one that it changes.
KEYS = ("name", "mountPath")
QUANTITY = re.compile(r"[0-9]+(m|[KMGT]i)?")
SECRETS = [*yaml.safe_load_all((FOLDER / "secrets.example.yaml").read_text())]
OURS = {"ScaledObject": "scaledobject.json", "RayCluster": "raycluster.json"}
UNFIT = (kubernetes_validate.ValidationError, jsonschema_rs.ValidationError)

Manifest = dict[str, Any]


def merged(base: Any, patch: Any) -> Any:
    """A strategic merge, as far as our patches need it."""
    if isinstance(base, dict) and isinstance(patch, dict):
        return base | {name: merged(base.get(name), value) for name, value in patch.items()}
    if isinstance(base, list) and isinstance(patch, list):
        key = next(key for key in KEYS if key in patch[0] and all(key in item for item in base))
        found = {item[key]: item for item in base}
        return [*(found | {item[key]: merged(found.get(item[key]), item) for item in patch}).values()]
    return patch


def identity(manifest: Manifest) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]


def built(folder: Path) -> dict[tuple[str, str], Manifest]:
    """What `kubectl apply -k` sends."""
    plan = yaml.safe_load((folder / "kustomization.yaml").read_text())
    sent: dict[tuple[str, str], Manifest] = {}
    for name in plan["resources"]:
        path = folder / name
        found = built(path) if path.is_dir() else {identity(one): one for one in yaml.safe_load_all(path.read_text())}
        assert not found.keys() & sent.keys()
        sent |= found
    for patch in plan.get("patches", ()):
        change = yaml.safe_load((folder / patch["path"]).read_text())
        sent[identity(change)] = merged(sent[identity(change)], change)
    images = {image["name"]: f"{image['newName']}:{image['newTag']}" for image in plan.get("images", ())}
    return {which: renamed(manifest, images) for which, manifest in sent.items()}


def renamed(value: Any, images: Mapping[str, str]) -> Any:
    """With the images of containers called otherwise."""
    if isinstance(value, list):
        return [renamed(item, images) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: images.get(inner.rpartition(":")[0] or inner, inner) if key == "image" else renamed(inner, images)
        for key, inner in value.items()
    }


BUILT = {name: built(FOLDER / name) for name in ROOTS}
# What a root has as its base has it, once.
ALL = [
    pytest.param(one, id=f"{root}-{kind}-{name}")
    for root in ROOTS
    for (kind, name), one in BUILT[root].items()
    if root == "gateway" or BUILT["gateway"].get((kind, name)) != one
]


def templates(manifest: Manifest) -> Iterator[Manifest]:
    """The pods that a manifest makes."""
    spec = manifest.get("spec", {})
    if manifest["kind"] == "RayCluster":
        yield from (group["template"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]))
    elif "template" in spec:
        yield spec["template"]


def validate(manifest: Manifest) -> None:
    if manifest["kind"] in OURS:
        jsonschema_rs.validate(json.loads((SCHEMAS / OURS[manifest["kind"]]).read_text()), manifest)
        for template in templates(manifest):
            validate({"apiVersion": "v1", "kind": "Pod", "metadata": {}} | template)
        if manifest["kind"] == "ScaledObject":
            behavior = manifest["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
            target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "worker"}
            spec = {"scaleTargetRef": target, "maxReplicas": 1, "behavior": behavior}
            validate({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "spec": spec})
    else:
        # Of a kind without a schema it raises, where its command only warns.
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("manifest", [*ALL, *(pytest.param(one, id=one["metadata"]["name"]) for one in SECRETS)])
def test_a_manifest_fits_its_schema(manifest: Manifest) -> None:
    validate(manifest)


@pytest.mark.parametrize(
    ("root", "which", "right", "wrong"),
    [
        ("gateway", ("Deployment", "gateway"), '"readOnlyRootFilesystem"', '"readOnlyRootFileSystem"'),
        ("gateway", ("HorizontalPodAutoscaler", "gateway"), '"maxReplicas": 6', '"maxReplicas": "many"'),
        ("workers", ("ScaledObject", "worker"), '"pollingInterval"', '"pollInterval"'),
        ("workers", ("ScaledObject", "worker"), '"stabilizationWindowSeconds"', '"stabilisationWindowSeconds"'),
        ("ray", ("RayCluster", "ray"), '"workerGroupSpecs"', '"workerGroupSpec"'),
        ("ray", ("RayCluster", "ray"), '"volumeMounts"', '"volumesMounts"'),
        ("ray", ("RayCluster", "ray"), '"num-cpus": "0"', '"num-cpus": 0'),
    ],
)
def test_a_mistake_in_a_manifest_is_found(root: str, which: tuple[str, str], right: str, wrong: str) -> None:
    text = json.dumps(BUILT[root][which])
    assert right in text
    with pytest.raises(UNFIT):
        validate(json.loads(text.replace(right, wrong)))


def test_a_kind_without_a_schema_is_no_warning_but_an_error() -> None:
    with pytest.raises(kubernetes_validate.utils.SchemaNotFoundError):
        validate({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledJob", "metadata": {"name": "worker"}})


def softness(template: Manifest) -> list[str]:
    """Where a pod is less hardened than it might be."""
    spec = template["spec"]
    context = spec.get("securityContext", {})
    found = [
        *["not a user of its own"] * (context.get("runAsNonRoot") is not True or context.get("runAsUser") != 10001),
        *["seccomp"] * (context.get("seccompProfile") != {"type": "RuntimeDefault"}),
        *["token"] * (spec.get("automountServiceAccountToken") is not False),
        # They would be taken for settings that there are not, and refused.
        *["links"] * (spec.get("enableServiceLinks") is not False),
    ]
    wanted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    for container in spec["containers"]:
        resources = container["resources"]
        found += ["container"] * (container.get("securityContext") != wanted)
        for amounts in (resources["requests"], resources["limits"]):
            assert {"cpu", "memory"} <= amounts.keys()
            assert all(QUANTITY.fullmatch(amount) for amount in amounts.values())
    return found


@pytest.mark.parametrize("manifest", ALL)
def test_every_pod_is_hardened(manifest: Manifest) -> None:
    for template in templates(manifest):
        assert softness(template) == []


def test_a_soft_pod_is_found() -> None:
    (template,) = templates(BUILT["gateway"]["Deployment", "gateway"])
    changes: tuple[tuple[str, object], ...] = (
        ("automountServiceAccountToken", True),
        ("enableServiceLinks", True),
        ("securityContext", {}),
        ("containers", [template["spec"]["containers"][0] | {"securityContext": {"readOnlyRootFilesystem": False}}]),
    )
    for name, value in changes:
        assert softness({"spec": template["spec"] | {name: value}})


@pytest.mark.parametrize(
    ("root", "names"), [("gateway", {"gateway"}), ("workers", {"gateway", "worker"}), ("ray", {"ray"})]
)
def test_images_are_those_of_the_registry(root: str, names: set[str]) -> None:
    used = {
        container["image"]
        for one in BUILT[root].values()
        for pod in templates(one)
        for container in pod["spec"]["containers"]
    }
    assert used == {f"registry.example.org/flux-endpoint-{name}:0.1.0" for name in names}


def test_an_outage_ends_no_worker() -> None:
    spec = BUILT["workers"]["ScaledObject", "worker"]["spec"]
    # Without it KEDA takes what Prometheus does not know for 0.
    assert spec["triggers"][0]["metadata"]["ignoreNullValues"] == "false"
    assert spec["fallback"]["behavior"] == "currentReplicasIfHigher"


# What names another manifest, and of which kind that is.
REFERENCES = {
    "configMapRef": "ConfigMap",
    "secretRef": "Secret",
    "persistentVolumeClaim": "PersistentVolumeClaim",
    "scaleTargetRef": "Deployment",
}


@pytest.mark.parametrize("root", ROOTS)
def test_names_lead_to_what_is_sent_or_is_in_the_example_of_secrets(root: str) -> None:
    known = {*BUILT[root], *map(identity, SECRETS)}
    for manifest in BUILT[root].values():
        assert manifest["metadata"].get("namespace", manifest["metadata"]["name"]) == "flux-endpoint"
        for key, value in walk(manifest):
            if key in REFERENCES:
                assert (REFERENCES[key], value.get("name") or value["claimName"]) in known
            if key == "httpGet":
                assert value["path"] in {route.path for route in ROUTES if "GET" in route.methods}


@pytest.mark.parametrize("root", ROOTS)
def test_selectors_find_pods(root: str) -> None:
    sent = BUILT[root]
    pods = [template for one in sent.values() for template in templates(one)]
    labels = [pod["metadata"]["labels"] for pod in pods if "metadata" in pod]
    # Those that the operator gives, and those of workers, which a policy for the gateway speaks of wherever they are.
    labels += [{"ray.io/cluster": name} for kind, name in sent if kind == "RayCluster"] + [{"app": "worker"}]
    for manifest in sent.values():
        if manifest["kind"] == "Deployment":
            spec = manifest["spec"]
            assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
        for key, value in walk(manifest):
            is_selector = key == "matchLabels" or (manifest["kind"], key) == ("Service", "selector")
            wanted = value if is_selector else {}
            if "kubernetes.io/metadata.name" not in wanted:
                assert any(wanted.items() <= found.items() for found in labels), wanted


@pytest.mark.parametrize("manifest", ALL)
def test_containers_mount_what_their_pods_have_and_run_what_there_is(manifest: Manifest) -> None:
    for template in templates(manifest):
        volumes = {volume["name"] for volume in template["spec"].get("volumes", [])}
        for container in template["spec"]["containers"]:
            assert {mount["name"] for mount in container.get("volumeMounts", [])} == volumes
            assert not wrong_words(container.get("args", []))


def walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key of nested JSON with what it holds."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from walk(inner)


def variables(sent: Mapping[tuple[str, str], Manifest], container: Manifest) -> dict[str, str]:
    """The environment that a container gets."""
    secrets = {one["metadata"]["name"]: one["stringData"] for one in SECRETS}
    found = {entry["name"]: entry.get("value", "name-of-the-pod") for entry in container.get("env", [])}
    for source in container.get("envFrom", []):
        if "configMapRef" in source:
            found |= sent["ConfigMap", source["configMapRef"]["name"]]["data"]
        else:
            found |= secrets[source["secretRef"]["name"]]
    return found


@pytest.mark.parametrize(
    ("root", "name", "kind"),
    [
        ("gateway", "gateway", Settings),
        ("ray", "gateway", Settings),
        ("workers", "worker", WorkerSettings),
    ],
)
def test_the_settings_are_ones_that_are_accepted(
    root: str, name: str, kind: type[Settings | WorkerSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    (container,) = BUILT[root]["Deployment", name]["spec"]["template"]["spec"]["containers"]
    environment = variables(BUILT[root], container)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    settings = load_settings(kind)
    for variable in environment:
        if variable.startswith(PREFIX):
            assert variable.removeprefix(PREFIX).lower() in kind.model_fields
    assert settings.worker_token is not None


def test_gateways_and_their_connections_fit_a_postgresql_as_it_comes() -> None:
    for root, more in (("gateway", 0), ("ray", 1)):
        gateways = BUILT[root]["HorizontalPodAutoscaler", "gateway"]["spec"]["maxReplicas"]
        data = BUILT[root]["ConfigMap", "gateway-settings"]["data"]
        assert gateways * (int(data[f"{PREFIX}DATABASE_CONNECTIONS"]) + more) + 7 <= 100


def test_ray_is_the_pinned_one_and_has_a_gpu_for_each_worker() -> None:
    cluster = BUILT["ray"]["RayCluster", "ray"]["spec"]
    assert f"ray=={cluster['rayVersion']}\n" in (ROOT / "constraints.txt").read_text()
    (group,) = cluster["workerGroupSpecs"]
    most = BUILT["ray"]["ConfigMap", "gateway-settings"]["data"][f"{PREFIX}MAX_WORKERS"]
    assert group["replicas"] == group["minReplicas"] == group["maxReplicas"] == int(most)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert "ray" in extras


def test_every_file_is_sent_and_no_secret_is() -> None:
    named = {"secrets.example.yaml"}
    for root in ROOTS:
        plan = yaml.safe_load((FOLDER / root / "kustomization.yaml").read_text())
        named.add(f"{root}/kustomization.yaml")
        named |= {f"{root}/{name}" for name in plan["resources"] if not name.startswith("..")}
        named |= {f"{root}/{patch['path']}" for patch in plan.get("patches", ())}
        assert not any(kind == "Secret" for kind, _ in BUILT[root])
    assert named == {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.yaml")}
    for secret in SECRETS:
        for value in secret["stringData"].values():
            assert "CHANGE-ME" in value
