"""The recipe's `data`: which files and columns, how rows are split, checked and augmented."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from edgeloop.section import Section

Pii = Literal["email", "phone", "card", "iban"]


class Columns(Section):
    """The names of the columns to read; `id` may be absent from the files.

    text-classification reads text, label and, where it is named, text_pair.
    multi-label-classification: `label` holds a list, or text divided by data.label_separator.
    token-classification reads `tokens` and `ner_tags` where the files have them, else `text` and
    `spans` ([{"start", "end", "label"}], characters, end exclusive); text_pair is context.
    text-embedding reads text (the anchor), `positive` and, where the files have it, `negative`.
    """

    text: str = "text"
    label: str = "label"
    id: str = "id"
    text_pair: str | None = None
    tokens: str = "tokens"
    ner_tags: str = "ner_tags"
    spans: str = "spans"
    positive: str = "positive"
    negative: str = "negative"
    slices: tuple[str, ...] = ()


class Split(Section):
    """Shares of the rows per split; they sum to 1.

    `reference` rows are never trained on: drift is measured against them and confidence is
    calibrated on them. Where it is null, the test rows serve for that as well.
    """

    train: float = Field(0.8, gt=0.0, le=1.0)
    validation: float = Field(0.1, gt=0.0, le=1.0)
    reference: float | None = Field(None, gt=0.0, le=1.0)
    test: float = Field(0.1, gt=0.0, le=1.0)
    stratify: bool = True
    group: str | None = None
    time: str | None = None

    def shares(self) -> dict[str, float]:
        """Split name to share, without a reference that has none of its own."""
        shares = {"train": self.train, "validation": self.validation, "test": self.test}
        return shares if self.reference is None else {**shares, "reference": self.reference}

    @model_validator(mode="after")
    def _possible(self) -> Self:
        total = sum(self.shares().values())
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"the shares of {', '.join(self.shares())} sum to {total:g}, not to 1")
        if self.group is not None and self.time is not None:
            raise ValueError("group and time cannot both decide the split; set one to null")
        return self


class SplitFiles(Section):
    """Files that are split already; without reference files the test rows serve as reference."""

    train: tuple[Path, ...] = Field(min_length=1)
    validation: tuple[Path, ...] = Field(min_length=1)
    reference: tuple[Path, ...] | None = Field(None, min_length=1)
    test: tuple[Path, ...] = Field(min_length=1)


class Audit(Section):
    """What `edgeloop check` looks for in the rows, and from where on it speaks. Telephone numbers
    without a country code are found for the countries of `phone_regions` (GB, DE, ...)."""

    near_duplicate_ratio: float = Field(0.9, gt=0.5, le=1.0)
    max_class_ratio: float = Field(20.0, ge=1.0)
    label_errors: bool = True
    pii: tuple[Pii, ...] = ("email", "phone", "card", "iban")
    phone_regions: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    template_ratio: float = Field(0.2, gt=0.0, le=1.0)


class Augment(Section):
    """Noise on the training rows alone, drawn anew every epoch: the share of words that get a
    typing error, the share of rows whose casing changes, the share of words left out."""

    typo_ratio: float = Field(0.0, ge=0.0, le=0.5)
    casing_ratio: float = Field(0.0, ge=0.0, le=1.0)
    word_dropout_ratio: float = Field(0.0, ge=0.0, le=0.5)

    @property
    def is_on(self) -> bool:
        """Is there any noise at all?"""
        return any((self.typo_ratio, self.casing_ratio, self.word_dropout_ratio))


class Data(Section):
    """The team's own labelled rows: csv, tsv, jsonl, parquet, or the folder of a Hugging Face
    dataset. `encoding` null: UTF-8, or what the bytes look like, which `edgeloop check` names.
    `unlabelled` files hold texts that nobody has labelled: small models are taught on them too."""

    files: tuple[Path, ...] | SplitFiles
    unlabelled: tuple[Path, ...] = ()
    columns: Columns = Columns()
    encoding: str | None = None
    label_separator: str = Field("|", min_length=1)
    excess_length: Literal["error", "truncate"] = "error"
    split: Split = Split()
    audit: Audit = Audit()
    augment: Augment = Augment()

    @model_validator(mode="after")
    def _some_file(self) -> Self:
        if isinstance(self.files, tuple) and not self.files:
            raise ValueError("files is empty; name at least one csv, jsonl or parquet file")
        if isinstance(self.files, SplitFiles) and "split" in self.model_fields_set:
            raise ValueError("files are split already (files.train ...); remove data.split")
        return self
