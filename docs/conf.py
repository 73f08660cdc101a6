"""Sphinx settings.  The build needs no network and, by default, runs no notebook.

Environment variables: REFSDE_DOCS_EXECUTE = off | cache | force runs the notebooks (default off);
REFSDE_DOCS_INTERSPHINX = 1 links to the documentation of Python, NumPy and SciPy (needs a network).
"""

import os
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

import refsde  # noqa: E402

project = "refsde"
author = "the refsde developers"
copyright = "2026, the refsde developers"
version = release = refsde.__version__

extensions = [
    "myst_nb",
    "numpydoc",
    "public_names",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "jupyter_execute", "**.ipynb_checkpoints", "conftest.py"]
nitpicky = False

# Markdown and notebooks
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = os.environ.get("REFSDE_DOCS_EXECUTE", "off")
nb_execution_timeout = 120
nb_execution_raise_on_error = True

# The API pages
autosummary_generate = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc's parameter lists say more (shapes, units)
autodoc_class_signature = "mixed"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

# No network
intersphinx_mapping = {}
if os.environ.get("REFSDE_DOCS_INTERSPHINX") == "1":
    intersphinx_mapping = {
        "numpy": ("https://numpy.org/doc/stable", None),
        "python": ("https://docs.python.org/3", None),
        "scipy": ("https://docs.scipy.org/doc/scipy", None),
    }
mathjax_path = "mathjax/tex-svg.js"  # MathJax 3.2.2, its licence (Apache 2.0) beside it

# Looks
html_theme = "pydata_sphinx_theme"
html_title = f"refsde {release}"
html_static_path = ["_static"]
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "show_nav_level": 1,
}
html_sidebars = {"index": []}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True


def copy_notebooks() -> None:
    """Show the notebooks of ../notebooks, their only source: Sphinx reads nothing above docs."""
    target = HERE / "notebooks"
    target.mkdir(exist_ok=True)
    sources = {path.name: path for path in (HERE.parent / "notebooks").glob("*.ipynb")}
    for stale in target.glob("*.ipynb"):
        if stale.name not in sources:
            stale.unlink()
    for name, path in sources.items():
        copy = target / name
        if not copy.exists() or copy.read_bytes() != path.read_bytes():
            shutil.copyfile(path, copy)


copy_notebooks()
