"""Full fine-tuning: every weight of the encoder; saved as a plain Hugging Face folder."""

from pathlib import Path

from transformers import PreTrainedModel

from edgeloop.recipe import Finetune
from finetune.methods import method
from finetune.methods.method import Merged
from finetune.model import TaskModel

WEIGHTS = "model.safetensors"


class FullMethod(method.OnStoredBase):
    """Everything is trained; there is nothing to merge but the new weights themselves."""

    def attach(self, model: TaskModel, settings: Finetune, base_name: str) -> None:
        model.encoder.requires_grad_(True)

    def save(self, model: TaskModel, folder: Path) -> None:
        model.encoder.config.save_pretrained(folder)
        method.save_tensors(model.encoder.state_dict(), folder / WEIGHTS)

    def restore(self, model: TaskModel, folder: Path) -> None:
        model.encoder.load_state_dict(method.read_tensors(folder / WEIGHTS))

    def merge(self, base: PreTrainedModel, folder: Path) -> Merged:
        state = base.state_dict()
        trained = method.read_tensors(folder / WEIGHTS)
        method.account({name: tuple(tensor.shape) for name, tensor in state.items()}, trained)
        tensors = {name: trained[name].to(tensor.dtype) for name, tensor in state.items()}
        return Merged(tensors, len(trained), len(trained), 0)


class HeadMethod(method.OnStoredBase):
    """Feature extraction: the encoder stays as it is, only the head is trained."""

    def attach(self, model: TaskModel, settings: Finetune, base_name: str) -> None:
        method.train_only_head(model)

    def save(self, model: TaskModel, folder: Path) -> None:
        """The head is all there is, and the stage saves it."""

    def restore(self, model: TaskModel, folder: Path) -> None:
        """Nothing was changed."""

    def merge(self, base: PreTrainedModel, folder: Path) -> Merged:
        state = dict(base.state_dict())
        return Merged(state, 0, 0, len(state))
