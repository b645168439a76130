"""Tests of the decorators, one file each."""
