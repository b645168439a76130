"""Backends: one messaging system a file, made by `msgviz.connect`."""
