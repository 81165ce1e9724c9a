"""Packs a directory of web pages into an image that has nothing else."""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.builder import Image, Request
from wit_world.exports.plugin import Description
from wit_world.imports import events
from wit_world.imports.trees import CopyOptions, FileKind, Origin, Selection, Tree
from wit_world.imports.types import Error, ErrorKind

INDEX = "index.html"

# What the user can set. The host checks it before the plugin runs, and fills in the defaults.
PARAMETERS = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "pages": {"type": "string", "default": "/", "description": "Directory of the context with the pages."},
        "to": {"type": "string", "default": "/www", "description": "Where the image has them."},
    },
}


class Plugin(exports.Plugin):
    def describe(self) -> Description:
        return Description(
            name="my-plugin",
            version="0.1.0",
            summary="Builds images of web pages",
            parameters=[("builder", json.dumps(PARAMETERS))],
            # The context and operations on trees need no permission. Whatever else does is asked for here:
            # Capability(class_="http", request='["https://api.example"]', reason="to ...")
            capabilities=[],
            provides=[],
            annotations=[("org.opencontainers.image.licenses", "Apache-2.0")],
        )


class Builder(exports.Builder):
    def detect(self) -> int:
        """How well this builder fits the context, up to 100."""
        return 50 if context().stat(f"/{INDEX}", True) else 0

    def build(self, request: Request) -> list[Image]:
        parameters = json.loads(request.parameters)
        pages = parameters["pages"].rstrip("/")
        to = parameters["to"]
        source = context()
        if source.stat(f"{pages}/{INDEX}", True) is None:
            raise fault(
                ErrorKind.NOT_FOUND,
                f"the context has no {pages}/{INDEX}",
                "name the directory of the pages in `pages`",
            )
        number = sum(1 for info, _ in source.walk(pages or "/") if info.kind == FileKind.REGULAR)
        events.log(events.Level.INFO, f"{number} files for {to}")

        # Only described: the host copies when it makes the image, unless it has the same from before.
        name = f"copy {number} files to {to}"
        # `name` is shown while it runs, `created_by` in the history of the image; `location` is not needed.
        origin = Origin(name=name, created_by=name, location=None)
        # Without `owner` ("user:group") and `mode` ("644", "u+x") files belong to root and keep their permissions. The
        # `options` within are room for later versions.
        options = CopyOptions(
            owner=None, mode=None, exclude=[], parents=False, link=False, unpack=False, options=[]
        )
        images = []
        for platform in request.platforms:
            tree = Tree.scratch().copy(source, [pages or "/"], f"{to}/", options, origin)
            config = {"config": {"WorkingDir": to, "Labels": dict(request.labels)}}
            images.append(Image(tree=tree, platform=platform, config=json.dumps(config), annotations=[]))
        return images


def context() -> Tree:
    """The main context, all of it."""
    return Tree.context("", Selection(include=[], exclude=[]))


def fault(kind: ErrorKind, message: str, hint: str | None = None) -> Err[Error]:
    """An error for the user. Any other exception is a crash of the plugin, and the user sees its traceback."""
    return Err(Error(kind=kind, message=message, context=[], hint=hint, location=None, retry_after=None))
