"""Import the package before any of its files: pytest would put a file in place of what it exports.

``refsde.exact.law`` is a function; collecting refsde/exact/law.py first would make it the module.
"""

import refsde  # noqa: F401
