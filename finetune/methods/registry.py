"""The methods by the recipe's name. A new one is one file and one line here."""

from finetune.methods.adapter import AdapterMethod
from finetune.methods.full import FullMethod, HeadMethod
from finetune.methods.ia3 import Ia3Method
from finetune.methods.lora import LoraMethod
from finetune.methods.method import Method
from finetune.methods.prefix import PrefixMethod
from finetune.methods.prompt import PromptMethod
from finetune.methods.qlora import QloraMethod

METHODS: dict[str, Method] = {
    "lora": LoraMethod(),
    "qlora": QloraMethod(),
    "full": FullMethod(),
    "adapter": AdapterMethod(),
    "ia3": Ia3Method(),
    "head": HeadMethod(),
    "prefix": PrefixMethod(),
    "prompt": PromptMethod(),
}
