"""Two helps for the API pages.

The directive ``public-names`` makes a linked summary table of what a module's ``__all__`` holds. It
asks the module while the pages are built, so a page stays complete when a name is added.

Docstrings write shapes as code has them, ``(B, *D)``, and absolute values as ``|s - t|``; to
reStructuredText these open emphasis and substitutions, so they are escaped on the way in.
"""

import importlib
import re

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.ext.autosummary import Autosummary

# a literal or a role's text (kept), or the star of a shape, or the bar of an absolute value
SPECIAL = re.compile(r"(``.*?``|`.*?`)|(?<=[ (])\*(?=[A-Za-z_]\w*[,)])|(?<!\\)\|")


class PublicNames(Autosummary):
    """``.. public-names:: refsde.solvers``."""

    required_arguments = 1
    has_content = False

    def run(self) -> list[nodes.Node]:
        module = importlib.import_module(self.arguments[0])
        names = [f"~{module.__name__}.{name}" for name in module.__all__]
        self.content = StringList(names, source=self.env.docname)
        return super().run()


def escape(app, what, name, obj, options, lines) -> None:
    """Escape stars and bars in prose; mathematics, literal blocks and examples stay as they are."""
    block = None  # the indent of the directive or paragraph that opened a block
    for i, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if block is not None and line.strip() and indent <= block:
            block = None
        if block is None and not line.lstrip().startswith((">>>", "...", "| ", "+-")):
            if line.rstrip().endswith("::") or line.lstrip().startswith(".. math::"):
                block = indent
            else:
                lines[i] = SPECIAL.sub(lambda m: m[1] or "\\" + m[0], line)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register both."""
    app.add_directive("public-names", PublicNames)
    app.connect("autodoc-process-docstring", escape, priority=900)  # after numpydoc
    return {"parallel_read_safe": True, "parallel_write_safe": True}
