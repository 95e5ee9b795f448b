"""Finds the base model that a recipe names: a folder, a folder inside an installed package, or a
hub id. Only safetensors are taken; a pickle can run code when it is opened.
"""

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from edgeloop.errors import RecipeError, TrainingError
from edgeloop.rundir import digest_file, digest_of

PACKAGE = "package:"
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
TOKENIZER = "tokenizer.json"
VOCABULARIES = (
    TOKENIZER,
    "vocab.txt",
    "vocab.json",
    "sentencepiece.bpe.model",
    "spiece.model",
)
TOKENIZER_FILES = (
    *VOCABULARIES,
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
HUB_FILES = [CONFIG, WEIGHTS, WEIGHTS_INDEX, "model-*.safetensors", *TOKENIZER_FILES]


@dataclass(frozen=True)
class Base:
    """A base model: the recipe's name for it, its folder, one digest over the files it uses."""

    name: str
    folder: Path
    digest: str


def resolve_base(name: str) -> Base:
    """Find the folder and digest its config, weights and tokenizer.

    Raises RecipeError that says what is missing and where, TrainingError for a download that fails.
    """
    folder = _folder(name)
    files = [CONFIG, *_weights(name, folder)]
    files += [file for file in TOKENIZER_FILES if (folder / file).is_file()]
    missing = [file for file in files if not (folder / file).is_file()]
    if not any(file in files for file in VOCABULARIES):
        missing.append("a tokenizer (tokenizer.json)")
    if missing:
        raise RecipeError(f"base {name!r}: {folder} lacks {', '.join(missing)}")
    return Base(name, folder, digest_of({file: digest_file(folder / file) for file in files}))


def tokenizer_path(name: str) -> Path | None:
    """The base's tokenizer.json, or None where it has none; of a hub model no weights are fetched.

    Raises RecipeError or TrainingError where the base cannot be found.
    """
    path = _folder(name, [TOKENIZER]) / TOKENIZER
    return path if path.is_file() else None


def _folder(name: str, hub_files: list[str] = HUB_FILES) -> Path:
    if name.startswith(PACKAGE):
        return _package_folder(name)
    # The recipe made a folder's path absolute; any other name is the hub's, whatever lies here.
    if Path(name).is_absolute() and Path(name).is_dir():
        return Path(name)
    if name.startswith((".", "/", "~")):
        raise RecipeError(f"base {name!r}: there is no such folder")
    return _hub_folder(name, hub_files)


def _package_folder(name: str) -> Path:
    """The subfolder of an installed package. A top-level package is found without importing it."""
    package, _, subfolder = name.removeprefix(PACKAGE).partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise RecipeError(
            f"base {name!r}: no package {package!r} is installed; install it, or name a hub id or "
            "a folder"
        )
    folder = Path(next(iter(spec.submodule_search_locations))) / subfolder
    if not folder.is_dir():
        raise RecipeError(f"base {name!r}: the package has no folder {subfolder!r} ({folder})")
    return folder


def _hub_folder(name: str, wanted: list[str]) -> Path:
    try:
        return Path(snapshot_download(name, allow_patterns=wanted))
    except HFValidationError:
        raise RecipeError(f"base {name!r}: neither a folder nor a hub id") from None
    except LocalEntryNotFoundError:
        raise RecipeError(
            f"base {name!r}: no such folder, it is not in the local Hugging Face cache, and the "
            "hub cannot be reached (offline, or HF_HUB_OFFLINE is set); download it once with "
            "`hf download`, or name a folder or package:NAME/SUBFOLDER"
        ) from None
    except RepositoryNotFoundError:
        raise RecipeError(
            f"base {name!r}: the hub has no such model that may be read; check the id, and log in "
            "with `hf auth login` where it is private"
        ) from None
    except (HfHubHTTPError, OSError) as problem:
        raise TrainingError(f"base {name!r}: cannot be downloaded ({problem})") from problem


def _weights(name: str, folder: Path) -> list[str]:
    """The files that hold the weights: one, or the shards of an index."""
    if (folder / WEIGHTS).is_file():
        return [WEIGHTS]
    index = folder / WEIGHTS_INDEX
    if index.is_file():
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            raise RecipeError(
                f"base {name!r}: {index} is not an index of safetensors ({problem!r})"
            ) from None
        return [WEIGHTS_INDEX, *sorted(shards)]
    pickles = sorted(path.name for path in folder.glob("*.bin"))
    hint = f" ({', '.join(pickles)} is a pickle and is not opened)" if pickles else ""
    raise RecipeError(
        f"base {name!r}: {folder} has no weights: no {WEIGHTS}{hint}; save the model as safetensors"
    )
