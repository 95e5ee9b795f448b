"""The methods by the recipe's name. A new one is one file and one line here."""

from finetune.methods.full import FullMethod, HeadMethod
from finetune.methods.lora import LoraMethod
from finetune.methods.method import Method

METHODS: dict[str, Method] = {
    "lora": LoraMethod(),
    "full": FullMethod(),
    "head": HeadMethod(),
}
