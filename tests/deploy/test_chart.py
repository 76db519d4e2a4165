"""The chart for Kubernetes: it renders, its manifests are valid, and they say what the service needs."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from sts_trio import __version__
from sts_trio import settings as document
from sts_trio.call.handler import Registry
from sts_trio.metrics import Metrics
from sts_trio.providers import SETTINGS
from sts_trio.settings import parsers
from tests.deploy.chart import CHART, Manifest, image, one, render, values_table

VARIABLES = {variable.name: variable for topic in document.topics(SETTINGS) for variable in topic.variables}
KEY = {"OPENAI_API_KEY": {"name": "sts-trio", "key": "openai"}}
EVERYTHING: dict[str, Any] = {
    "image": {"digest": "sha256:" + 64 * "0"},
    "imagePullSecrets": [{"name": "registry"}],
    "settings": {
        "STS_PROVIDER": "openai",
        "MAX_CALLS": 60,
        "EMOTIONS": True,
        "OPENAI_INSTRUCTIONS": 'Say "hi",\n{{ no }}',
    },
    "secrets": KEY | {"STS_TOKEN": {"name": "sts-trio", "key": "token"}},
    "toolsConfigMap": "tools",
    "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca"}],
    "ingress": {"enabled": True, "tlsSecret": "certificate"},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "runbookUrl": "https://wiki.example/runbook"},
    "podAnnotations": {"a": "b"},
    "podLabels": {"team": "phones"},
    "priorityClassName": "phones",
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "phones", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
}
SETS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "everything, keda": EVERYTHING | {"autoscaling": {"kind": "keda"}},
    "everything, hpa": EVERYTHING | {"autoscaling": {"kind": "hpa"}},
}
FOREIGN = {"ScaledObject", "ServiceMonitor", "PrometheusRule"}  # their schemas come with KEDA and the operator


def pod(manifests: list[Manifest]) -> dict[str, Any]:
    spec: dict[str, Any] = one(manifests, "Deployment")["spec"]["template"]["spec"]
    return spec


def environment(manifests: list[Manifest]) -> dict[str, Any]:
    """What the container is given: values, or for a secret where it is."""
    given = pod(manifests)["containers"][0]["env"]
    assert len({each["name"] for each in given}) == len(given)
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in given}


@pytest.mark.parametrize("values", SETS.values(), ids=SETS)
def test_helm_finds_nothing(values: dict[str, Any]) -> None:
    helm = pytest.importorskip("helm_python", reason="Helm's library is not here: pip install -e '.[deploy]'")
    report = helm.lint(CHART, values, strict=True)
    assert report["errors"] == []
    assert [each["error"] for each in report["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("version", ["1.25", "1.29", "1.33", "1.37"])
@pytest.mark.parametrize("values", SETS.values(), ids=SETS)
def test_what_it_makes_is_what_kubernetes_takes(values: dict[str, Any], version: str) -> None:
    schemas = pytest.importorskip("kubernetes_validate", reason="no schemas here: pip install -e '.[deploy]'")
    manifests = render(values)
    assert {"Deployment", "Service", "ServiceAccount", "PodDisruptionBudget"} <= {each["kind"] for each in manifests}
    for manifest in manifests:
        if manifest["kind"] not in FOREIGN:
            schemas.validate(manifest, version, strict=True)
        assert manifest["metadata"]["name"] == "line-sts-trio"


def test_a_pod_is_one_process_that_may_write_nothing_and_may_finish_its_calls() -> None:
    manifests = render({"drainSeconds": 900, "secrets": KEY})
    spec, container = pod(manifests), pod(manifests)["containers"][0]
    given = environment(manifests)
    assert (given["WORKERS"], given["PORT"]) == ("1", str(VARIABLES["PORT"].default))
    assert spec["terminationGracePeriodSeconds"] == int(given["DRAIN_SECONDS"]) + 30 == 930
    # Before the drain it goes on; after it, calls get 5 s to say good-bye and the server 5 s to close.
    assert int(container["lifecycle"]["preStop"]["exec"]["command"][1]) + 10 < 30
    assert f"{spec['securityContext']['runAsUser']}:{spec['securityContext']['runAsGroup']}" == image("USER")
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is spec["enableServiceLinks"] is False
    assert container["image"] == f"dsai-sts-humeai:{__version__}"
    assert container["ports"] == [{"name": "calls", "containerPort": int(image("EXPOSE"))}]
    assert {probe: container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")} == {
        "startup": "/health",
        "liveness": "/health",
        "readiness": "/ready",
    }


def test_settings_come_as_they_are_and_secrets_by_reference() -> None:
    manifests = render(EVERYTHING)
    given = environment(manifests)
    assert given["OPENAI_INSTRUCTIONS"] == EVERYTHING["settings"]["OPENAI_INSTRUCTIONS"]
    assert (given["MAX_CALLS"], given["EMOTIONS"]) == ("60", "true")
    assert environment(render({"settings": {"MAX_CALL_SECONDS": 1_000_000}}))["MAX_CALL_SECONDS"] == "1000000"
    assert given["STS_TOKEN"] == {"secretKeyRef": {"name": "sts-trio", "key": "token"}}
    assert "Secret" not in {each["kind"] for each in manifests}
    mounts = {mount["mountPath"]: mount.get("readOnly") for mount in pod(manifests)["containers"][0]["volumeMounts"]}
    assert mounts == {"/tmp": None, f"{image('WORKDIR')}/{VARIABLES['TOOLS_DIR'].default}": True, "/ca": True}


@pytest.mark.parametrize(
    "values",
    [
        {"settings": {"OPENAI_API_KEY": "sk-1"}},
        {"settings": {"STS_TOKEN": "secret"}},
        {"settings": {"WORKERS": 4}},
        {"settings": {"max_calls": 4}},
        {"secrets": {"STS_TOKEN": "secret"}},
        {"drainseconds": 60},
        {"autoscaling": {"kind": "vpa"}},
        {"preStopSeconds": 25},
    ],
    ids=json.dumps,
)
def test_a_value_that_cannot_be_meant_is_refused(values: dict[str, Any]) -> None:
    helm = pytest.importorskip("helm_python", reason="Helm's library is not here: pip install -e '.[deploy]'")
    with pytest.raises(helm.HelmError):
        render(values)


def test_every_secret_of_the_service_is_one_for_the_chart_too() -> None:
    refused = json.loads((CHART / "values.schema.json").read_text())["properties"]["settings"]["propertyNames"]["not"]
    secret = {name for name, variable in VARIABLES.items() if variable.parse in (parsers.secret, parsers.access_token)}
    assert {"STS_TOKEN", "OPENAI_API_KEY"} <= secret
    for name in VARIABLES:
        assert (name in secret) == bool(re.search(refused["anyOf"][1]["pattern"], name)), name
    assert set(refused["anyOf"][0]["enum"]) <= set(VARIABLES)


def test_who_scales_goes_up_at_once_and_down_by_one_pod_a_minute() -> None:
    by_keda, by_adapter = render({"autoscaling": {"kind": "keda"}}), render({"autoscaling": {"kind": "hpa"}})
    assert "replicas" not in one(by_keda, "Deployment")["spec"]
    assert one(render(), "Deployment")["spec"]["replicas"] == 2
    scaled, adapted = one(by_keda, "ScaledObject")["spec"], one(by_adapter, "HorizontalPodAutoscaler")["spec"]
    behavior = adapted["behavior"]
    assert scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == behavior
    assert behavior["scaleUp"]["stabilizationWindowSeconds"] == 0
    assert behavior["scaleDown"]["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 60}]
    [trigger] = scaled["triggers"]
    assert trigger["metadata"]["query"] == (
        'sum(sts_calls_active{job="sts", namespace="phones", service="line-sts-trio"})'
    )
    assert trigger["metadata"]["threshold"] == "40"
    [metric] = adapted["metrics"]
    assert metric["pods"]["metric"]["name"] == "sts_calls_active"


async def test_what_scales_is_exported() -> None:
    assert b"\nsts_calls_active{" in Metrics(Registry(), "0").scrape()[0]


def test_prometheus_gets_the_token_the_job_and_the_alerts() -> None:
    manifests = render(EVERYTHING)
    [endpoint] = one(manifests, "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["port"] == one(manifests, "Service")["spec"]["ports"][0]["name"]
    assert endpoint["authorization"]["credentials"] == {"name": "sts-trio", "key": "token"}
    assert {"targetLabel": "job", "replacement": "sts"} in endpoint["relabelings"]
    assert (
        "authorization"
        not in one(render({"serviceMonitor": {"enabled": True}}), "ServiceMonitor")["spec"]["endpoints"][0]
    )
    selected = one(manifests, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
    assert selected.items() <= one(manifests, "Service")["metadata"]["labels"].items()
    rules = one(manifests, "PrometheusRule")["spec"]["groups"][0]["rules"]
    assert all(rule["annotations"]["runbook_url"].startswith("https://wiki.example/runbook#") for rule in rules)


def test_the_alerts_of_the_chart_are_those_of_prometheus() -> None:
    assert (CHART / "files/rules.yml").read_text() == (CHART.parents[1] / "prometheus/rules.yml").read_text(), (
        "cp deploy/prometheus/rules.yml deploy/helm/sts-trio/files/"
    )


def test_session_traffic_goes_where_the_fewest_calls_are() -> None:
    ingress = one(render(EVERYTHING), "Ingress")
    assert ingress["metadata"]["annotations"]["haproxy.org/load-balance"] == "leastconn"
    assert ingress["metadata"]["annotations"]["haproxy.org/check-http"] == "/ready"
    assert ingress["spec"]["tls"] == [{"hosts": ["sts.example"], "secretName": "certificate"}]


def test_the_chart_has_the_version_of_the_service_and_names_every_value() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__
    readme = (CHART / "README.md").read_text(encoding="utf-8")
    table = readme.partition("<!-- values -->")[2].partition("<!-- /values -->")[0].strip()
    assert table == values_table(), f"put this table into {CHART.name}/README.md:\n\n{values_table()}\n"
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]
    assert set(schema) - {"global"} == set(values)
    documented = set(re.findall(r"^\| `([\w.]+)` \|", table, re.MULTILINE))
    for name, part in schema.items():
        inner = {f"{name}.{each}" for each in part.get("properties", ())} or {name}
        assert name == "global" or inner <= documented, name


def test_the_readmes_example_can_be_installed() -> None:
    readme = (CHART / "README.md").read_text(encoding="utf-8")
    [example] = [block for block in re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL) if "secrets:" in block]
    given = environment(render(yaml.safe_load(example)))
    assert given["STS_PROVIDER"] == "openai"
    assert set(given) <= set(VARIABLES)
