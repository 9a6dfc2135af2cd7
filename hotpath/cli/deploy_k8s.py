"""`hotpath deploy k8s` and `hotpath deploy compose`: manifests that run the server and the workers.

They are commands of their own behind the name `deploy`, which otherwise takes a directory: one that is called
k8s is given as ./k8s.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hotpath.cli.options import Given, common

if TYPE_CHECKING:
    from hotpath.cli.platform import PlatformGroup

_DIRECTORY = click.Path(file_okay=False, path_type=Path)


class WithPlatforms(click.Command):
    """A command whose first word may be the name of a platform: then it is that one's command."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """As click does it, of whichever command it is."""
        if args and args[0] in PLATFORMS:
            platform = PLATFORMS[args[0]]
            return platform.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command("k8s")
@click.option("--image", metavar="IMAGE", help="Image of the program and the scripts. [hotpath:VERSION]")
@click.option("--namespace", default="hotpath", metavar="N", help="Namespace of all objects. [hotpath]")
@click.option(
    "--group",
    "-g",
    "groups",
    multiple=True,
    metavar="G",
    help="Worker group; may be repeated. [all that the database knows, else default]",
)
@click.option(
    "--output", "-o", type=_DIRECTORY, default="k8s", metavar="DIR", help="Where to write them. [k8s]"
)
@common
def k8s(given: Given, *, image: str | None, namespace: str, groups: tuple[str, ...], output: Path) -> int:
    """Write manifests for Kubernetes with KEDA, and a Dockerfile.

    For each worker group a Deployment, a ScaledObject and a PodDisruptionBudget; for `hotpath serve` a
    Deployment, a Service and a PodDisruptionBudget. What a group is to have comes from `hotpath autoscale
    set` and `hotpath group set`, if HOTPATH_DATABASE_URL names a database. Secrets are referred to and never
    written. A file of the same name that was not written by this command is left alone, and an error.
    """
    return given.run(_k8s, given, image, namespace, groups, output)


@click.command("compose")
@click.option("--image", metavar="IMAGE", help="Image of the program and the scripts. [hotpath:VERSION]")
@click.option(
    "--group",
    "-g",
    "groups",
    multiple=True,
    metavar="G",
    help="Worker group; may be repeated. [all that the database knows, else default]",
)
@click.option(
    "--output",
    "-o",
    type=_DIRECTORY,
    default="compose",
    metavar="DIR",
    help="Where to write them: below the directory of the scripts. [compose]",
)
@common
def compose(given: Given, *, image: str | None, groups: tuple[str, ...], output: Path) -> int:
    """Write a docker-compose.yaml and a Dockerfile.

    PostgreSQL, the schema, `hotpath serve` and a service for each worker group. Secrets come from files that
    are referred to and never written.
    """
    return given.run(_compose, given, image, groups, output)


PLATFORMS = {"k8s": k8s, "compose": compose}


async def _k8s(given: Given, image: str | None, namespace: str, names: tuple[str, ...], output: Path) -> int:
    from hotpath.cli import platform
    from hotpath.cli.kubernetes import manifests

    image = platform.check_image(image or platform.default_image())
    namespace = platform.check_namespace(namespace)
    groups = await platform.find_groups(given.config, names)
    return _write(given, output, manifests(groups, image, namespace), groups, image)


async def _compose(given: Given, image: str | None, names: tuple[str, ...], output: Path) -> int:
    from hotpath.cli import platform
    from hotpath.cli.compose import compose as files_of

    image = platform.check_image(image or platform.default_image())
    groups = await platform.find_groups(given.config, names)
    files = files_of(groups, image, *_places(given, output))
    return _write(given, output, files, groups, image)


def _places(given: Given, output: Path) -> tuple[str, str]:
    """The directory of the scripts, seen from where the files go, and the Dockerfile, seen from there."""
    workspace = given.config.workspace
    return os.path.relpath(workspace, output), os.path.relpath(output / "Dockerfile", workspace)


def _write(
    given: Given, output: Path, files: dict[str, str], groups: Sequence[PlatformGroup], image: str
) -> int:
    from hotpath.cli.output import print_json, printable
    from hotpath.cli.platform import dockerfile, dockerignore, note_unconfigured, write_files

    workspace = given.config.workspace
    more = {
        "Dockerfile": dockerfile(_places(given, output)[1], workspace, image),
        "Dockerfile.dockerignore": dockerignore(),
    }
    written = write_files(output, {**files, **more})
    if given.json:
        print_json({"groups": [group.name for group in groups], "files": [str(path) for path in written]})
    else:
        for path in written:
            print(printable(str(path)))
    if note := note_unconfigured(groups):
        click.echo(f"hotpath: note: {note}", err=True)
    return 0
