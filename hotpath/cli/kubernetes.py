"""The objects of `hotpath deploy k8s`: for each group a Deployment, a ScaledObject of KEDA and a disruption
budget; for the server a Deployment and a Service; no secret but by reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hotpath.cli.platform import HOME, PORT, PROBES, SLACK, USER, WORKSPACE, Document, PlatformGroup, to_yaml
from hotpath.core.scaling import commands
from hotpath.worker.signs import ALIVE, READY

SECRET = "hotpath-database"  # noqa: S105 - its name
"""Name of the Secret that somebody makes: `url`, and `scaler-url` for the role hotpath_read."""
CONFIG, ACCOUNT, SCALER = "hotpath-config", "hotpath", "hotpath-scaler"
SERVE_GRACE = 5
_OLD_SECONDS = 60
"""Seconds without a sign of life after which a worker's container is restarted."""


def manifests(groups: Sequence[PlatformGroup], image: str, namespace: str) -> dict[str, str]:
    """Files by name."""
    files = {
        "00-common.yaml": to_yaml(_common(namespace)),
        "10-serve.yaml": to_yaml(_serve(image, namespace)),
        "15-scaler-login.yaml": to_yaml([_authentication(namespace)]),
    }
    for group in groups:
        files[f"20-group-{group.label}.yaml"] = to_yaml(_group(group, image, namespace))
    return files


def _object(kind: str, api: str, name: str, namespace: str, labels: dict[str, str], **more: Any) -> Document:
    return {
        "apiVersion": api,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        **more,
    }


def _labels(component: str, group: str | None = None) -> dict[str, str]:
    labels = {"app.kubernetes.io/name": "hotpath", "app.kubernetes.io/component": component}
    return labels if group is None else labels | {"hotpath/group": group}


def _common(namespace: str) -> list[tuple[str, Document]]:
    settings = {
        "HOTPATH_WORKSPACE": WORKSPACE,
        "HOTPATH_HOME": f"{HOME}/.local/share/hotpath",
        "HOTPATH_PROBE_DIR": PROBES,
        "HOTPATH_LOG_FORMAT": "json",
        "HOTPATH_LOG_LEVEL": "info",
        "HOTPATH_SERVE_HOST": "0.0.0.0",
        "HOTPATH_SERVE_PORT": str(PORT),
        "HOME": HOME,
    }
    account = _object("ServiceAccount", "v1", ACCOUNT, namespace, _labels("account"))
    return [
        (
            (
                "Settings that are no secrets. Of the database the pods know by a Secret, which is made by\n"
                "hand, from two files with an address each, without a newline at the end:\n"
                f"kubectl -n {namespace} create secret generic {SECRET} \\\n"
                "  --from-file=url --from-file=scaler-url"
            ),
            _object("ConfigMap", "v1", CONFIG, namespace, _labels("config"), data=settings),
        ),
        (
            "Without rights: nothing in the pods asks Kubernetes.",
            account | {"automountServiceAccountToken": False},
        ),
    ]


def _serve(image: str, namespace: str) -> list[tuple[str, Document]]:
    name, labels = "hotpath-serve", _labels("serve")
    container = _container("serve", image, ["hotpath", "serve"], "100m", "128Mi", "512Mi") | {
        "ports": [{"name": "http", "containerPort": PORT}],
        "startupProbe": _http("/healthz", period=2, failures=30),
        "readinessProbe": _http("/readyz", period=5, failures=2),
        "livenessProbe": _http("/healthz", period=10, failures=3),
    }
    # The schema is brought up to date before a server of a new version starts; several at once do no harm.
    migrate = _container("migrate", image, ["hotpath", "migrate"], "100m", "128Mi", "512Mi")
    return [
        (
            "The API, the page, the metrics. Callers need a token: hotpath token create NAME --scope read",
            _deployment(
                name, namespace, labels, container, SERVE_GRACE + SLACK, replicas=2, before=[migrate]
            ),
        ),
        (
            "",
            _object(
                "Service", "v1", name, namespace, labels,
                spec={"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
            ),
        ),
        ("", _budget(name, namespace, labels, {"minAvailable": 1})),
    ]  # fmt: skip


def _group(group: PlatformGroup, image: str, namespace: str) -> list[tuple[str, Document]]:
    name, labels = f"hotpath-{group.label}", _labels("worker", group.label)
    alive, ready = f"{PROBES}/{ALIVE}", f"{PROBES}/{READY}"
    container = _container("worker", image, group.command(), "500m", "256Mi", "1Gi") | {
        "startupProbe": _exec(["test", "-e", ready], period=2, failures=300),
        "readinessProbe": _exec(["test", "-e", ready], period=5, failures=2),
        "livenessProbe": _exec(
            ["sh", "-c", f'test -n "$(find {alive} -mmin -{_OLD_SECONDS / 60:g})"'], period=20, failures=3
        ),
    }
    return [
        (
            (
                f"Workers of the group {group.name!r}. At SIGTERM they claim no more, finish what runs\n"
                f"within {group.grace:g} s, give back the rest and exit 0. How many is KEDA's: no replicas."
            ),
            _deployment(name, namespace, labels, container, group.stop_seconds),
        ),
        ("", _budget(name, namespace, labels, {"maxUnavailable": "25%"})),
        (
            (
                "As many as `hotpath autoscale --dry-run` says. Min, max and cool-down are from `hotpath "
                "autoscale set`:\nafter a change, write this anew."
            ),
            _scaled_object(name, namespace, labels, group),
        ),
    ]


def _deployment(
    name: str,
    namespace: str,
    labels: dict[str, str],
    container: Document,
    stop_seconds: int,
    *,
    replicas: int | None = None,
    before: Sequence[Document] = (),
) -> Document:
    spread = [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": labels},
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
    pod: Document = {
        "serviceAccountName": ACCOUNT,
        "automountServiceAccountToken": False,
        # Kubernetes would set HOTPATH_SERVE_PORT to the address of the Service.
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": stop_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": spread,
    }
    if before:
        pod["initContainers"] = list(before)
    pod["containers"] = [container]
    pod["volumes"] = [
        {"name": "home", "emptyDir": {"sizeLimit": "2Gi"}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
        {"name": "signs", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    ]
    spec: Document = {} if replicas is None else {"replicas": replicas}
    spec |= {
        "selector": {"matchLabels": labels},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    return _object("Deployment", "apps/v1", name, namespace, labels, spec=spec)


def _container(name: str, image: str, command: list[str], cpu: str, memory: str, most: str) -> Document:
    return {
        "name": name,
        "image": image,
        "command": command,
        "envFrom": [{"configMapRef": {"name": CONFIG}}],
        "env": [
            {
                "name": "HOTPATH_DATABASE_URL",
                "valueFrom": {"secretKeyRef": {"name": SECRET, "key": "url"}},
            }
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": most}},
        "volumeMounts": [
            {"name": "home", "mountPath": HOME},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own
            {"name": "signs", "mountPath": PROBES},
        ],
    }


def _http(path: str, *, period: int, failures: int) -> Document:
    get = {"path": path, "port": "http"}
    return {"httpGet": get, "periodSeconds": period, "timeoutSeconds": 5, "failureThreshold": failures}


def _exec(command: list[str], *, period: int, failures: int) -> Document:
    return {
        "exec": {"command": command},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _budget(name: str, namespace: str, labels: dict[str, str], bound: Document) -> Document:
    spec = {**bound, "selector": {"matchLabels": labels}, "unhealthyPodEvictionPolicy": "AlwaysAllow"}
    return _object("PodDisruptionBudget", "policy/v1", name, namespace, labels, spec=spec)


def _authentication(namespace: str) -> tuple[str, Document]:
    spec = {"secretTargetRef": [{"parameter": "connection", "name": SECRET, "key": "scaler-url"}]}
    return (
        "How KEDA logs in to ask how many workers are wanted: a login with the role hotpath_read is enough.",
        _object("TriggerAuthentication", "keda.sh/v1alpha1", SCALER, namespace, _labels("scaler"), spec=spec),
    )


def _scaled_object(name: str, namespace: str, labels: dict[str, str], group: PlatformGroup) -> Document:
    scale = group.scale
    literal = "'" + group.name.replace("'", "''") + "'"
    cooldown = round(scale.cooldown_seconds)
    behavior = {
        "scaleUp": {
            "stabilizationWindowSeconds": 0,
            "policies": [
                {"type": "Percent", "value": 100, "periodSeconds": 15},
                {"type": "Pods", "value": 10, "periodSeconds": 15},
            ],
            "selectPolicy": "Max",
        },
        "scaleDown": {
            "stabilizationWindowSeconds": cooldown,
            "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}],
        },
    }
    trigger = {
        "type": "postgresql",
        "metricType": "AverageValue",
        "metadata": {
            "query": f"select hotpath.workers_wanted({literal})",
            "targetQueryValue": str(scale.processes or 1),  # workers of one pod
            "activationTargetQueryValue": "0",
        },
        "authenticationRef": {"name": SCALER},
    }
    spec = {
        "scaleTargetRef": {"name": name},
        "pollingInterval": 15,
        "cooldownPeriod": cooldown,
        "minReplicaCount": commands(scale.min_workers, scale),
        "maxReplicaCount": commands(scale.max_workers, scale),
        # No fallback: while the database cannot be asked, as many stay as there are.
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behavior}},
        "triggers": [trigger],
    }
    return _object("ScaledObject", "keda.sh/v1alpha1", name, namespace, labels, spec=spec)
