"""The audit of labelled rows; see checks.py."""

from finetune.audit.checks import audit_rows, refuse_errors
from finetune.audit.fix import fix_rows, refuse_folder

__all__ = ["audit_rows", "fix_rows", "refuse_errors", "refuse_folder"]
