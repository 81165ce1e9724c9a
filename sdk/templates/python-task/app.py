"""Counts the lines of the files that a step works on."""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.plugin import Capability, Description
from wit_world.exports.task import Outputs, Request
from wit_world.imports import events, state
from wit_world.imports.trees import FileKind, Origin, Tree
from wit_world.imports.types import Error, ErrorKind

# Bytes per call of the host: large enough that the call itself does not count.
CHUNK = 256 * 1024

# What `with:` of the step takes. The host checks it before the plugin runs, and fills in the defaults.
PARAMETERS = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "directory": {"type": "string", "default": "/", "description": "Directory of the input to count in."},
        "suffix": {
            "type": "string",
            "default": "",
            "description": "Only files whose name ends so; all files by default.",
        },
    },
}


class Plugin(exports.Plugin):
    def describe(self) -> Description:
        reason = "to tell by how many lines the input has grown since the last run"
        return Description(
            name="my-plugin",
            version="0.1.0",
            summary="Counts the lines of files",
            parameters=[("task", json.dumps(PARAMETERS))],
            capabilities=[Capability(class_="state", request="true", reason=reason)],
            provides=[],
            annotations=[("org.opencontainers.image.licenses", "Apache-2.0")],
        )


class Task(exports.Task):
    def run(self, request: Request) -> Outputs:
        parameters = json.loads(request.parameters)
        directory = parameters["directory"]
        suffix = parameters["suffix"]
        # The empty name is the step's `in`.
        source = dict(request.inputs).get("")
        if source is None:
            raise fault(ErrorKind.INVALID_INPUT, "the step has no input", "name the step it works on with `in:`")
        paths = files(source, directory, suffix)

        total = 0
        counted = []
        with events.Step("count") as step:
            for done, path in enumerate(paths, start=1):
                if events.cancelled():
                    raise fault(ErrorKind.CANCELLED, "the call was cancelled")
                lines = count(source, path)
                counted.append(f"{lines} {path}\n")
                total += lines
                step.progress(done, len(paths), events.Unit.ITEMS)
        events.log(events.Level.INFO, f"{total} lines in {len(paths)} files")

        text = "".join(counted).encode()
        # `name` is shown while it runs, `created_by` in the history of an image; `location` is not needed.
        origin = Origin(name="write lines.txt", created_by="write lines.txt", location=None)
        tree = Tree.scratch().write_file("/lines.txt", text, 0o644, None, origin)
        values = {"files": len(paths), "lines": total, "growth": growth(f"{directory} {suffix}", total)}
        return Outputs(values=[(name, json.dumps(value)) for name, value in values.items()], tree=tree)


def files(source: Tree, directory: str, suffix: str) -> list[str]:
    """The paths of the files below a directory whose names end so."""
    try:
        found = source.walk(directory)
    except Err as error:
        # The host says what is wrong; what to do about it is known here.
        error.value.hint = error.value.hint or "name a directory of the step's input in `directory`"
        raise
    paths = [info.path for info, _ in found if info.kind == FileKind.REGULAR and info.path.endswith(suffix)]
    if not paths:
        message = f'no file below {directory} has a name that ends in "{suffix}"'
        raise fault(ErrorKind.NOT_FOUND, message, "mend `directory` or `suffix`")
    return paths


def count(source: Tree, path: str) -> int:
    lines = 0
    # A handle of the host is given back at the end of `with`; otherwise it is kept until the call ends.
    with source.open(path) as reader:
        while chunk := reader.read(CHUNK):
            lines += chunk.count(b"\n")
    return lines


def growth(key: str, lines: int) -> int:
    """By how much the number under a key has grown. What is kept may be lost at any time: then it has not grown."""
    before = state.get(key)
    state.set(key, str(lines).encode(), None)
    return lines - int(before) if before else 0


def fault(kind: ErrorKind, message: str, hint: str | None = None) -> Err[Error]:
    """An error for the user. Any other exception is a crash of the plugin, and the user sees its traceback."""
    return Err(Error(kind=kind, message=message, context=[], hint=hint, location=None, retry_after=None))
