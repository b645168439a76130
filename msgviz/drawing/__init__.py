"""Drawings of what a log recorded, as SVG: on a page without a kernel, in a widget, or in a file."""
