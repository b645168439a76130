"""Decorators: one mirrored pair a file, an `encoder` for topics and a `decoder` for receivers."""
