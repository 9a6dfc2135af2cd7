"""`hotpath deploy k8s` and `compose`: what they write the platforms take, and it is safe to run."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import yaml
from platform_schemas import compose_refusals, refusals
from warm import run_hotpath

from hotpath import asyncpg_trio
from hotpath.cli.app import COMMANDS, app
from hotpath.cli.platform import PlatformGroup, dockerfile
from hotpath.store.scaling import set_scale

Documents = list[dict[str, Any]]


@attrs.frozen
class Written:
    """What a command wrote."""

    directory: Path
    said: dict[str, Any]

    @property
    def documents(self) -> Documents:
        """All objects in the YAML files."""
        files = sorted(self.directory.glob("*.yaml"))
        return [each for file in files for each in yaml.safe_load_all(file.read_text())]

    def of(self, kind: str, name: str | None = None) -> Documents:
        """Objects of a kind."""
        found = [each for each in self.documents if each["kind"] == kind]
        return [each for each in found if name in (None, each["metadata"]["name"])]

    @property
    def text(self) -> str:
        """All that was written."""
        return "\n".join(file.read_text() for file in self.directory.iterdir())


def run(tmp_path: Path, *arguments: str, url: str = "") -> subprocess.CompletedProcess[str]:
    """Run `hotpath deploy ARGUMENTS`."""
    env = {key: value for key, value in os.environ.items() if "DATABASE_URL" not in key}
    env["HOTPATH_DATABASE_URL"] = url
    return run_hotpath("deploy", *arguments, env=env, cwd=tmp_path)


def write(tmp_path: Path, *arguments: str, url: str = "") -> Written:
    """The same, to a good end."""
    done = run(tmp_path, *arguments, "--json", url=url)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    return Written(tmp_path / Path(said["files"][0]).parent, said)


def pods(written: Written) -> Documents:
    """The pods' specs."""
    return [each["spec"]["template"]["spec"] for each in written.of("Deployment")]


def containers(written: Written) -> Documents:
    """All containers."""
    return [each for pod in pods(written) for each in (*pod.get("initContainers", ()), *pod["containers"])]


@pytest.fixture
def k8s(tmp_path: Path) -> Written:
    """Manifests of two groups."""
    return write(tmp_path, "k8s", "--group", "default", "--group", "Odd_Group", "--namespace", "prod")


def test_kubernetes_takes_them(k8s: Written):
    """Each object fits its schema strictly, is of one namespace, and no two have one name."""
    kinds = {each["kind"] for each in k8s.documents}
    assert kinds == {
        "Deployment", "Service", "ConfigMap", "ServiceAccount", "PodDisruptionBudget", "ScaledObject",
        "TriggerAuthentication",
    }  # fmt: skip
    for document in k8s.documents:
        assert refusals(document) == [], document["metadata"]["name"]
        assert document["metadata"]["namespace"] == "prod"
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", document["metadata"]["name"])
    names = [(each["kind"], each["metadata"]["name"]) for each in k8s.documents]
    assert len(set(names)) == len(names)


def _misspell(document: dict[str, Any]) -> None:
    document["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}


def _retype(document: dict[str, Any]) -> None:
    document["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = "45s"


def _forget(document: dict[str, Any]) -> None:
    del document["spec"]["selector"]


def _old(document: dict[str, Any]) -> None:
    document["apiVersion"] = "extensions/v1beta1"


@pytest.mark.parametrize("wrong", [_misspell, _retype, _forget, _old])
def test_what_is_wrong_is_refused(k8s: Written, wrong: Callable[[dict[str, Any]], None]):
    """A field that is misspelt, of another type, or missing; an API that is no more."""
    document = copy.deepcopy(k8s.of("Deployment")[0])
    assert refusals(document) == []
    wrong(document)
    assert refusals(document) != []


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("ScaledObject", {"minReplicas": 1}),
        ("ScaledObject", {"maxReplicaCount": "10"}),
        ("ScaledObject", {"triggers": [{"type": "postgresql", "metadata": {"targetQueryValue": 1}}]}),
        ("TriggerAuthentication", {"secretTargetRef": [{"parameter": "connection"}]}),
        ("PodDisruptionBudget", {"maxUnavailble": 1}),
        ("Service", {"ports": [{"port": "http"}]}),
    ],
)
def test_what_is_wrong_elsewhere_is_refused(k8s: Written, kind: str, change: dict[str, Any]):
    """The schemas of the other kinds are as strict."""
    document = copy.deepcopy(k8s.of(kind)[0])
    document["spec"] |= change
    assert refusals(document) != []


def test_labels_lead_to_the_pods(k8s: Written):
    """Selectors of Deployments, budgets, the Service and the ScaledObject find the pods that they mean."""
    for deployment in k8s.of("Deployment"):
        name, spec = deployment["metadata"]["name"], deployment["spec"]
        labels = spec["template"]["metadata"]["labels"]
        assert spec["selector"]["matchLabels"] == labels
        (budget,) = k8s.of("PodDisruptionBudget", name)
        assert budget["spec"]["selector"]["matchLabels"] == labels
    assert len({json.dumps(each["spec"]["selector"]) for each in k8s.of("Deployment")}) == 3
    (service,) = k8s.of("Service")
    (serve,) = k8s.of("Deployment", "hotpath-serve")
    assert service["spec"]["selector"] == serve["spec"]["selector"]["matchLabels"]
    targets = {each["spec"]["scaleTargetRef"]["name"] for each in k8s.of("ScaledObject")}
    assert targets == {each["metadata"]["name"] for each in k8s.of("Deployment")} - {"hotpath-serve"}
    (login,) = k8s.of("TriggerAuthentication")
    for each in k8s.of("ScaledObject"):
        assert each["spec"]["triggers"][0]["authenticationRef"]["name"] == login["metadata"]["name"]


def test_pods_are_confined(k8s: Written):
    """No root, no rights, nothing to write but what is theirs, no names of services as settings."""
    for pod in pods(k8s):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["automountServiceAccountToken"] is False
        # HOTPATH_SERVE_PORT=tcp://10.0.0.1:80 is what it would get from the Service hotpath-serve.
        assert pod["enableServiceLinks"] is False
        volumes = {each["name"] for each in pod["volumes"]}
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            context = container["securityContext"]
            assert (context["readOnlyRootFilesystem"], context["allowPrivilegeEscalation"]) == (True, False)
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert {each["name"] for each in container["volumeMounts"]} == volumes
            assert container["resources"]["limits"]["memory"]
    assert all(each["topologySpreadConstraints"] for each in pods(k8s))


def test_the_settings_are_settings(k8s: Written, tmp_path: Path):
    """What the ConfigMap says the program takes: `serve` reads each of its variables."""
    (settings,) = k8s.of("ConfigMap")
    serve = app.get_command(None, "serve")  # type: ignore[arg-type]
    data = settings["data"]
    values = {key: data[key] for key in data if key.startswith("HOTPATH_SERVE_")}
    assert set(values) == {"HOTPATH_SERVE_HOST", "HOTPATH_SERVE_PORT"}
    context = serve.make_context("serve", ["--help"], resilient_parsing=True)  # type: ignore[union-attr]
    assert {"host", "port"} <= context.params.keys()
    (container,) = k8s.of("Deployment", "hotpath-serve")[0]["spec"]["template"]["spec"]["containers"]
    assert container["ports"][0]["containerPort"] == int(values["HOTPATH_SERVE_PORT"])


def test_commands_are_commands(k8s: Written):
    """What containers run is there, takes these arguments, and is probed."""
    for container in containers(k8s):
        program, name, *arguments = container["command"]
        assert program == "hotpath"
        assert name in COMMANDS
        command = app.get_command(None, name)  # type: ignore[arg-type]
        command.make_context(name, list(arguments))  # type: ignore[union-attr]
    for pod in pods(k8s):
        (container,) = pod["containers"]
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()


def test_the_grace_fits(tmp_path: Path):
    """Kubernetes and Compose kill later than the grace of the group ends."""
    for grace in (0.0, 30.0, 599.5):
        group = PlatformGroup("g", grace=grace)
        assert group.stop_seconds >= grace + 10


async def test_what_the_database_knows_is_heeded(tmp_path: Path, database_url: str):
    """Groups, bounds, processes and grace come from there; its address and password nowhere into a file."""
    connection = await asyncpg_trio.connect(database_url)
    try:
        await set_scale(
            connection, "größe_1",
            lambda old: attrs.evolve(old, min_workers=0, max_workers=10, processes=4, cooldown_seconds=300.0),
        )  # fmt: skip
        await connection.execute(
            """insert into hotpath.worker_group (name, config) values ('slow', '{"grace": 600}')"""
        )
        url = database_url + ("&" if "?" in database_url else "?") + "application_name=hunter2hunter2"
        written = write(tmp_path, "k8s", url=url)
        assert written.said["groups"] == ["größe_1", "slow"]
        (one, _) = written.of("ScaledObject")
        assert (one["spec"]["minReplicaCount"], one["spec"]["maxReplicaCount"]) == (
            0,
            2,
        )  # 3 would be 12 workers
        assert one["spec"]["cooldownPeriod"] == 300
        metadata = one["spec"]["triggers"][0]["metadata"]
        assert metadata["targetQueryValue"] == "4"
        # The query is one that the database answers.
        assert await connection.fetchval(metadata["query"]) == 0
        slow = [each for each in pods(written) if "slow" in json.dumps(each["containers"][0]["command"])]
        assert slow[0]["terminationGracePeriodSeconds"] >= 610
        assert all(refusals(each) == [] for each in written.documents)
        assert "hunter2" not in written.text
        assert "postgresql://" not in written.text
    finally:
        await connection.close()


def test_secrets_are_referred_to(k8s: Written):
    """Whatever sounds like one has its value from a Secret."""
    for container in containers(k8s):
        for variable in container["env"]:
            assert "value" not in variable
            assert set(variable["valueFrom"]) == {"secretKeyRef"}
    (settings,) = k8s.of("ConfigMap")
    assert not [key for key in settings["data"] if re.search("URL|PASSWORD|TOKEN|SECRET|KEY", key)]


def test_compose_takes_it(tmp_path: Path):
    """The file fits the Compose schema; a misspelt word in it does not."""
    written = write(tmp_path, "compose", "--group", "default", "--group", "etl", "--image", "r.example/h:1")
    document = yaml.safe_load((written.directory / "docker-compose.yaml").read_text())
    assert compose_refusals(document) == []
    services = document["services"]
    assert set(services) == {"postgres", "migrate", "serve", "worker-default", "worker-etl"}
    for name, service in services.items():
        assert "environment" not in service or name == "postgres"
        if name != "postgres":
            assert service["env_file"] == ["hotpath.env"]
            assert (service["read_only"], service["cap_drop"], service["image"]) == (
                True,
                ["ALL"],
                "r.example/h:1",
            )
        if name != "migrate":
            assert service["healthcheck"]["test"]
    assert "-t r.example/h:1 ." in (written.directory / "Dockerfile").read_text()
    assert services["worker-etl"]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    dockerfiles = {
        (written.directory / each["build"]["context"] / each["build"]["dockerfile"]).resolve()
        for each in services.values() if "build" in each
    }  # fmt: skip
    assert dockerfiles == {(written.directory / "Dockerfile").resolve()}
    wrong = copy.deepcopy(document)
    wrong["services"]["serve"]["healtcheck"] = {}
    assert compose_refusals(wrong) != []
    assert not (written.directory / "hotpath.env").exists()


@pytest.mark.parametrize(
    "name", ["y", "N", "1e3", "0o17", "on", "null", "12", "1.5", "0x1f", "007", "1_0", "é"]
)
def test_names_stay_texts(tmp_path: Path, name: str):
    """For whoever reads the files, by YAML 1.1 or 1.2: what could be a truth or a number is quoted."""
    files = write(tmp_path, "k8s", "--group", name), write(tmp_path, "compose", "--group", name)
    for file in [path for each in files for path in each.directory.glob("*.yaml")]:
        for token in yaml.scan(file.read_text()):
            if isinstance(token, yaml.ScalarToken) and token.plain:
                assert not re.fullmatch(r"[ynYN]|\d+e\d+|0o[0-7]+", token.value), file.name
    assert all(refusals(each) == [] for each in files[0].documents)
    (command,) = [each["command"] for each in containers(files[0]) if "worker" in each["command"]]
    assert command[-1] == name


def test_a_group_called_serve_is_not_the_server(tmp_path: Path):
    """Its objects have names of their own, so that neither is applied over the other."""
    k8s = write(tmp_path, "k8s", "--group", "serve")
    names = [(each["kind"], each["metadata"]["name"]) for each in k8s.documents]
    assert len(set(names)) == len(names)
    (scaled,) = k8s.of("ScaledObject")
    (deployment,) = k8s.of("Deployment", scaled["spec"]["scaleTargetRef"]["name"])
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["hotpath", "worker", "--group", "serve"]


async def test_a_group_that_is_not_configured_is_told(tmp_path: Path, database_url: str):
    """Its workers would not start; `default` needs no configuration."""
    for platform in ("k8s", "compose"):
        assert run(tmp_path, platform, "--group", "default").stderr == ""
        assert (
            "to be configured first, or no worker of it starts: etl;"
            in run(tmp_path, platform, "--group", "etl").stderr
        )
        told = run(tmp_path, platform, "--group", "etl", "--group", "default", url=database_url).stderr
        assert "not configured, or no worker of it starts: etl; hotpath group set etl --tags A,B" in told
    connection = await asyncpg_trio.connect(database_url)
    try:
        await connection.execute("insert into hotpath.worker_group (name, config) values ('etl', '{}')")
    finally:
        await connection.close()
    assert run(tmp_path, "k8s", "--group", "etl", url=database_url).stderr == ""


def test_the_image_is_nobodys(tmp_path: Path):
    """It does not run as root, by number so that Kubernetes can tell, and takes what the scripts require."""
    text = dockerfile("k8s/Dockerfile", tmp_path)
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", text, re.MULTILINE)
    assert "requirements" not in text
    (tmp_path / "requirements.txt").write_text("httpx\n")
    (tmp_path / "hotpath_runtime-9.9.9-py3-none-any.whl").touch()
    text = dockerfile("k8s/Dockerfile", tmp_path)
    assert "COPY hotpath_runtime-9.9.9-py3-none-any.whl requirements.txt ./" in text
    assert text.index("COPY hotpath") < text.index("RUN pip") < text.index("COPY . .")
    assert "ARG HOTPATH=./hotpath_runtime-9.9.9-py3-none-any.whl" in text


def test_written_again_but_not_over_others(tmp_path: Path):
    """What it wrote it writes anew; a file of somebody else's stays, and is named."""
    write(tmp_path, "k8s", "-o", "there")
    write(tmp_path, "k8s", "-o", "there", "--namespace", "other")
    mine = tmp_path / "there" / "Dockerfile"
    mine.write_text("FROM mine\n")
    done = run(tmp_path, "k8s", "-o", "there")
    assert done.returncode == 2
    assert "Dockerfile was not written by `hotpath deploy`" in done.stderr
    assert mine.read_text() == "FROM mine\n"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["k8s", "--image", "no good"], "--image"),
        (["k8s", "--image", "-x"], "--image"),
        (["k8s", "--namespace", "Prod_1"], "--namespace"),
        (["compose", "--group", ""], "GROUP"),
        (["compose", "--namespace", "x"], "--namespace"),
    ],
)
def test_bad_input_is_refused(tmp_path: Path, arguments: list[str], named: str):
    """With the option's name, and nothing is written."""
    done = run(tmp_path, *arguments)
    assert done.returncode == 2
    assert named in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["default", "Default", "under_score", "a" * 60, "ünïcode", "a.b", "a--b", "'", "1"]
)
def test_any_group_has_a_label(name: str):
    """A DNS label short enough for what is put in front of it; another name has another one."""
    label = PlatformGroup(name).label
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?", label)
    assert PlatformGroup(name + "_").label != label


def test_deploy_is_still_deploy(tmp_path: Path):
    """Its other argument is a directory: one called k8s is given as ./k8s."""
    done = run(tmp_path, "nowhere")
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    help_text = run(tmp_path, "k8s", "--help").stdout
    assert help_text.startswith("Usage: hotpath deploy k8s")
