"""Builds an image of a Python project: its own package, the wheels beside it and a script to start it with. No
Dockerfile, no process, no network. The same as the builder in ../rust, to the bit."""

# Names of files in zip archives. Modules are found while the component is made, and not when it runs.
import encodings.cp437  # noqa: F401
import io
import json
import tarfile
import tomllib
import zipfile

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.builder import Image, Request
from wit_world.exports.plugin import Description
from wit_world.imports import content, events, images
from wit_world.imports.trees import CopyOptions, FileKind, Origin, Selection, Tree
from wit_world.imports.types import Error, ErrorKind

PARAMETERS = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "base": {"type": "string", "description": "Image with a Python; without one the image has only the project."},
        "wheels": {
            "type": "string",
            "default": "wheels",
            "description": "Directory of the context with the wheels of what the project needs.",
        },
    },
}
PROJECT = "/pyproject.toml"
CHUNK = 256 * 1024
# A wheel is read whole: its table of contents is at its end.
LARGEST = 64 << 20


class Plugin(exports.Plugin):
    def describe(self) -> Description:
        return Description(
            name="wheels",
            version="1.0.0",
            summary="Builds images of Python projects and their wheels",
            parameters=[("builder", json.dumps(PARAMETERS))],
            capabilities=[],
            provides=[],
            annotations=[],
        )


class Builder(exports.Builder):
    def detect(self) -> int:
        return 60 if context().stat(PROJECT, True) else 0

    def build(self, request: Request) -> list[Image]:
        parameters = json.loads(request.parameters)
        source = context()
        project = Project(source)
        return [build(source, project, parameters, platform) for platform in request.platforms]


def build(source, project, parameters, platform) -> Image:
    tree, config = Tree.scratch(), {}
    if "base" in parameters:
        base = resolve(parameters["base"], platform)
        tree, config = Tree.image(base), json.loads(base.config())
    for path in wheels(source, "/" + parameters.get("wheels", "wheels").strip("/")):
        tree = copy(tree, unpack(source, path), "/", "/app/lib/", f"add {path.rsplit('/')[-1]}")
    path, destination = project.package(source)
    tree = copy(tree, source, path, destination, f"add {project.name} {project.version}")
    script = f"/app/bin/{project.name}"
    tree = tree.write_file(script, project.script().encode(), 0o755, None, origin(f"write {script}"))
    return Image(tree=tree, platform=platform, config=json.dumps(project.config(config)), annotations=[])


class Project:
    """`pyproject.toml`: what the project is called, and how it is started."""

    def __init__(self, source: Tree):
        if source.stat(PROJECT, True) is None:
            raise fault(
                ErrorKind.NOT_FOUND, "the context has no pyproject.toml", "build the directory of the project"
            )
        try:
            document = tomllib.loads(bytes(source.read_file(PROJECT, 1 << 20)).decode(errors="replace"))
        except tomllib.TOMLDecodeError as error:
            raise fault(ErrorKind.INVALID_INPUT, f"pyproject.toml cannot be read: {error}") from None
        table = document.get("project")
        if table is None:
            raise fault(ErrorKind.INVALID_INPUT, "pyproject.toml has no table `project`")
        self.name, self.version = table["name"], table["version"]
        scripts = table.get("scripts", {})
        # A script with the name of the project, else the only one.
        script = scripts.get(self.name) or (next(iter(scripts.values())) if len(scripts) == 1 else "")
        self.module, separator, self.function = script.partition(":")
        if not separator:
            raise fault(
                ErrorKind.INVALID_INPUT,
                f"pyproject.toml has no script {self.name} in `project.scripts`",
                f'write for instance `{self.name} = "module:function"`',
            )

    def package(self, source: Tree) -> tuple[str, str]:
        """The project's own modules, all of `src` or the directory called like the project, and where they go."""
        if source.stat("/src", True):
            return "/src", "/app/lib/"
        module = self.name.replace("-", "_")
        if source.stat(f"/{module}", True):
            return f"/{module}", f"/app/lib/{module}/"
        raise fault(
            ErrorKind.NOT_FOUND,
            f"the project {self.name} has neither a directory src nor {module}",
            "put its modules into one of them",
        )

    def script(self) -> str:
        return (
            "#!/usr/bin/env python3\nimport sys\n"
            f"from {self.module} import {self.function}\nsys.exit({self.function}())\n"
        )

    def config(self, base: dict) -> dict:
        """The configuration of the base with what the project adds."""
        config = base.setdefault("config", {})
        variables = [one for one in config.get("Env") or [] if not one.startswith("PYTHONPATH=")]
        config["Env"] = [*variables, "PYTHONPATH=/app/lib"]
        config["Entrypoint"] = [f"/app/bin/{self.name}"]
        config["WorkingDir"] = "/app"
        config["Labels"] = {
            **(config.get("Labels") or {}),
            "org.opencontainers.image.title": self.name,
            "org.opencontainers.image.version": self.version,
        }
        return base


def wheels(source: Tree, directory: str) -> list[str]:
    """The wheels of a directory, by name; none if there is no such directory."""
    if source.stat(directory, True) is None:
        return []
    found = []
    for info in source.entries(directory):
        path = f"{directory}/{info.path}"
        if info.kind != FileKind.REGULAR or not path.endswith(".whl"):
            events.log(events.Level.WARN, f"{path} is no wheel and is left out")
        elif path.endswith("-none-any.whl"):
            found.append(path)
        else:
            raise fault(
                ErrorKind.UNSUPPORTED,
                f"{path} is for one kind of machine, and only wheels for any are taken",
                "get it with `pip download --platform any --only-binary :all:`",
            )
    return sorted(found)


def unpack(source: Tree, path: str) -> Tree:
    """The files of a wheel, a zip archive whose files belong on Python's path, as a tree."""
    writer = content.Writer()
    try:
        wheel = zipfile.ZipFile(io.BytesIO(source.read_file(path, LARGEST)))
        with tarfile.open(fileobj=Output(writer), mode="w|", format=tarfile.PAX_FORMAT, bufsize=CHUNK) as archive:
            for member in wheel.infolist():
                if member.is_dir():
                    continue
                if member.filename.startswith("/") or ".." in member.filename.split("/"):
                    raise fault(ErrorKind.INVALID_INPUT, f"{path} has a file {member.filename!r} outside of it")
                entry = tarfile.TarInfo(member.filename)
                entry.mode = 0o755 if member.external_attr >> 16 & 0o111 else 0o644
                entry.size = member.file_size
                archive.addfile(entry, wheel.open(member))
    except zipfile.BadZipFile as error:
        raise fault(ErrorKind.INVALID_INPUT, f"{path} is no wheel: {error}") from None
    return Tree.layers([content.Writer.commit(writer, "application/vnd.oci.image.layer.v1.tar", None)])


class Output:
    """A writer of the host as Python's libraries want it."""

    def __init__(self, writer):
        self.writer = writer

    def write(self, data: bytes) -> int:
        self.writer.write(data)
        return len(data)


def resolve(reference: str, platform):
    """One image, pinned by digest."""
    result = images.resolve([images.Request(reference=reference, platform=platform)])[0]
    if isinstance(result, Err):
        raise result
    return result.value


def copy(tree: Tree, source: Tree, path: str, destination: str, name: str) -> Tree:
    options = CopyOptions(owner=None, mode=None, exclude=[], parents=False, link=False, unpack=False, options=[])
    return tree.copy(source, [path], destination, options, origin(name))


def origin(name: str) -> Origin:
    return Origin(name=name, created_by=name, location=None)


def context() -> Tree:
    """The main context, all of it."""
    return Tree.context("", Selection(include=[], exclude=[]))


def fault(kind: ErrorKind, message: str, hint: str | None = None) -> Err[Error]:
    """An error for the user. Any other exception is a crash of the plugin, and the user sees its traceback."""
    return Err(Error(kind=kind, message=message, context=[], hint=hint, location=None, retry_after=None))
