"""The audit of labelled rows; see checks.py."""

from finetune.audit.checks import audit_rows, refuse_errors
from finetune.audit.fix import FOLDER, fix_rows, refuse_folder

__all__ = ["FOLDER", "audit_rows", "fix_rows", "refuse_errors", "refuse_folder"]
