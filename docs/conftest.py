"""The examples in these pages are doctests; the settings and the copied notebooks are not."""

collect_ignore_glob = ["_build/*", "_ext/*", "jupyter_execute/*", "notebooks/*", "conf.py"]
