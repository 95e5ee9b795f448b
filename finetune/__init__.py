import logging

# transformers and PEFT import bitsandbytes wherever it is installed, and that warns on import that
# a faster kernel for 4-bit inference, which nothing here uses, is not installed.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
