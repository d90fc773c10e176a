"""Errors that speak to the user: one sentence, exit code 2, no traceback."""

from __future__ import annotations


class UserError(Exception):
    """Input that cannot be used; the message names the file or key, what was found and what is accepted."""


class VerificationError(Exception):
    """Two executions that must be equal are not; the message says which, and where."""
