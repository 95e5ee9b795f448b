"""The baselines of each task, the cheapest to own first: no model at all, one without an encoder, a
frozen encoder that several tasks can share with a small head each, the same with the training rows
to be searched at every request. An encoder of its own, the fine-tuned model, comes after all.
"""

from finetune.baselines import classify, embed, tag
from finetune.baselines.fitted import Kind

CLASSIFY = {
    "majority": Kind(classify.majority, uses_encoder=False),
    "tfidf-linear": Kind(classify.tfidf, uses_encoder=False),
    "frozen-probe": Kind(classify.probe, uses_encoder=True),
    "frozen-neighbours": Kind(classify.neighbours, uses_encoder=True),
}

BASELINES: dict[str, dict[str, Kind]] = {
    "text-classification": CLASSIFY,
    "multi-label-classification": CLASSIFY,
    "token-classification": {
        "majority": Kind(tag.majority, uses_encoder=False),
        "dictionary": Kind(tag.dictionary, uses_encoder=False),
        "frozen-probe": Kind(tag.probe, uses_encoder=True),
    },
    "text-embedding": {
        "tfidf-cosine": Kind(embed.tfidf, uses_encoder=False),
        "frozen-cosine": Kind(embed.frozen, uses_encoder=True),
    },
}
