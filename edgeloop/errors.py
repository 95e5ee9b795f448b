"""What edgeloop raises.

    EdgeloopError
    ├── RecipeError      the recipe or a command-line value is wrong        exit code 2
    ├── DatasetError     the rows are wrong                                 exit code 2
    ├── TrainingError    training cannot start or go on
    ├── MergeError       the merge cannot prove itself
    ├── ExportError      the model does not become an ONNX file, or not the same one
    ├── BundleError      a bundle is damaged, incomplete or too new         exit code 2
    ├── EngineError      a model file does not load or answer
    ├── TextTooLong      a text has more tokens than its model reads, and may not be cut
    ├── LedgerError      the ledger cannot be read, written or leased
    └── MonitorError     the drift monitor cannot be fitted or restored

A message says what is wrong, which value, where, and what to do next. A failed gate, an
infeasible budget and a model that forgot too much are results, not exceptions.
"""


class EdgeloopError(Exception):
    """Base of every error that a user can mend; the command line prints it without a traceback."""


class RecipeError(EdgeloopError):
    """The recipe or a command-line value is wrong."""


class DatasetError(EdgeloopError):
    """The rows are wrong."""


class TrainingError(EdgeloopError):
    """Training cannot start or go on."""


class MergeError(EdgeloopError):
    """The merge cannot prove itself."""


class ExportError(EdgeloopError):
    """The model does not become an ONNX file, or not the same model."""


class BundleError(EdgeloopError):
    """A bundle is damaged, incomplete or too new."""


class EngineError(EdgeloopError):
    """A model file does not load or answer."""


class TextTooLong(EdgeloopError):
    """A text has more tokens than its model reads, and may not be cut."""


class LedgerError(EdgeloopError):
    """The ledger cannot be read, written or leased."""


class MonitorError(EdgeloopError):
    """The drift monitor cannot be fitted or restored."""
