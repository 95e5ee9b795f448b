"""What prompt and prefix tuning share: one matrix of learned virtual tokens, in PEFT's format."""

from pathlib import Path

import torch
from peft import PromptLearningConfig
from transformers import PreTrainedModel

from edgeloop.errors import MergeError
from edgeloop.recipe import Finetune
from finetune.methods import method
from finetune.methods.method import Merged
from finetune.model import TaskModel

EMBEDDINGS = "prompt_embeddings"  # PEFT's name of the tensor


class WithVirtualTokens(torch.nn.Module):  # type: ignore[misc]
    """A frozen encoder and the matrix; a subclass brings the two together in `forward`."""

    def __init__(self, encoder: torch.nn.Module, embeddings: torch.Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.config = encoder.config
        self.prompt_embeddings = torch.nn.Parameter(embeddings)


class VirtualTokensMethod(method.OnStoredBase):
    """Saving, restoring, refusing to merge; a subclass says what is learned and where it goes."""

    def initial(self, encoder: torch.nn.Module, settings: Finetune) -> torch.Tensor:
        """The matrix before training, (num_virtual_tokens, its width)."""
        raise NotImplementedError

    def wrap(self, model: TaskModel, embeddings: torch.Tensor) -> None:
        """Put the matrix on the model, in place."""
        raise NotImplementedError

    def attach(self, model: TaskModel, settings: Finetune, base_name: str) -> None:
        method.train_only_head(model)
        embeddings = self.initial(model.encoder, settings)
        config = self.described(model.encoder, len(embeddings))
        config.base_model_name_or_path = base_name
        self.wrap(model, embeddings)
        model.encoder.edgeloop_config = config

    def described(self, encoder: torch.nn.Module, tokens: int) -> PromptLearningConfig:
        """PEFT's config of such an adapter."""
        raise NotImplementedError

    def save(self, model: TaskModel, folder: Path) -> None:
        method.save_config(model.encoder.edgeloop_config, folder)
        tensors = {EMBEDDINGS: model.encoder.prompt_embeddings}
        method.save_tensors(tensors, folder / method.ADAPTER_WEIGHTS)

    def restore(self, model: TaskModel, folder: Path) -> None:
        document = method.read_document(folder)
        tensors = method.read_tensors(folder / method.ADAPTER_WEIGHTS)
        tokens = int(document.get("num_virtual_tokens") or 0)
        width = self.width(model.encoder)
        method.account({EMBEDDINGS: (tokens, width)}, tensors)
        self.wrap(model, tensors[EMBEDDINGS])

    def width(self, encoder: torch.nn.Module) -> int:
        """Numbers per virtual token."""
        raise NotImplementedError

    def merge(self, base: PreTrainedModel, folder: Path) -> Merged:
        raise MergeError(f"{folder}: {self.unmergeable}")
