"""Students of tiny real teachers: smaller, nearer to the teacher than an untaught cut, the same
model once exported, the same bytes again; every task, every architecture."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress.export import export_merged
from compress.merged import Merged
from compress.parity import TOLERANCE, Expected, check_parity
from compress.students.depth import half_depth, third_depth
from compress.students.importance import importance
from compress.students.kinds import STUDENTS
from compress.students.layers import encoder_layers, keep_layers
from compress.students.lesson import Lesson
from compress.students.material import run
from compress.students.narrow import cut_hidden, narrow
from compress.students.parts import keep_heads, parts_of
from compress.students.pruning import cut, pruned
from compress.students.static import static
from edgeloop.errors import ExportError
from edgeloop.recipe import TaskName
from edgeloop.rows import TextInput
from edgeloop.runtime import EMBEDDING, LOGITS, OnnxModel
from tests import tiny
from tests.merged_run import MAX_TOKENS, PLAIN
from tests.students_run import (
    CONFIGS,
    HEADS,
    HIDDEN,
    INNER,
    LAYERS,
    QUICK,
    changed,
    lesson_of,
    make_architecture,
    make_lesson,
)

TASKS: tuple[TaskName, ...] = (
    "text-classification",
    "multi-label-classification",
    "token-classification",
    "text-embedding",
)
UNTAUGHT = changed(QUICK, num_train_epochs=0, narrow_epochs=0, pruned_epochs=0, static_epochs=0)
UNLABELLED: list[TextInput] = [text for text, _ in tiny.sentences(48, seed=77)]


@pytest.fixture(scope="module")
def lessons(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Lesson]:
    return {task: make_lesson(tiny_bert, tmp_path_factory.mktemp("lesson"), task) for task in TASKS}


@pytest.fixture(scope="module")
def teachers(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Merged]:
    return {
        name: make_architecture(tiny_bert, tmp_path_factory.mktemp("teacher"), name)
        for name in CONFIGS
    }


def weights(model: Merged) -> int:
    return sum(p.numel() for p in model.module.parameters())


def answers(model: Merged, texts: Sequence[TextInput]) -> dict[str, np.ndarray]:
    """By output; of a tagger the logits of all tokens."""
    rows = model.answer([model.encode(text, MAX_TOKENS) for text in texts], lambda done: None)
    return {
        LOGITS: np.concatenate([np.atleast_2d(row.logits) for row in rows]),
        EMBEDDING: np.stack([row.embedding for row in rows]),
    }


def agreement(student: Merged, teacher: Merged, texts: Sequence[TextInput]) -> float:
    """The share of decisions that are the same; where there are none, the vectors' mean cosine, or
    of vectors of another width how much alike their cosines with each other are."""
    found, expected = answers(student, texts), answers(teacher, texts)
    if not expected[LOGITS].size and found[EMBEDDING].shape == expected[EMBEDDING].shape:
        return float((found[EMBEDDING] * expected[EMBEDDING]).sum(axis=1).mean())
    if not expected[LOGITS].size:
        cosines = [vectors[EMBEDDING] @ vectors[EMBEDDING].T for vectors in (found, expected)]
        return 1.0 - float(np.abs(cosines[0] - cosines[1]).mean())
    return float((found[LOGITS].argmax(axis=1) == expected[LOGITS].argmax(axis=1)).mean())


def prove(student: Merged, texts: list[TextInput], tokenizer: Path, folder: Path) -> float:
    export_merged(student, folder / "model.onnx")
    encoded = [student.encode(text, MAX_TOKENS) for text in texts]
    expected = Expected(texts, encoded, student.answer(encoded, lambda done: None))
    runtime = OnnxModel(folder / "model.onnx", tokenizer, MAX_TOKENS)
    return check_parity(student, runtime, expected, folder).max_abs_difference


def held_out() -> list[TextInput]:
    return [text for text, _ in tiny.sentences(40, seed=99)]


# -- what they learn ---------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", [k for k in STUDENTS if k != "student-third"])
def test_a_student_is_smaller_and_learns_to_answer_like_the_teacher(
    lessons: dict[str, Lesson], task: str, kind: str
) -> None:
    lesson = lessons[task]
    if (kind, task) == ("static", "token-classification"):
        with pytest.raises(ExportError, match="would not read a token's context"):
            STUDENTS[kind](lesson)
        return
    lines: list[str] = []
    taught = STUDENTS[kind](replace(lesson, progress=lines.append))
    untaught = STUDENTS[kind](replace(lesson, settings=UNTAUGHT))
    assert weights(taught) == weights(untaught) < weights(lesson.teacher)
    texts = [row.input for row in lesson.rows]
    before, after = (agreement(s, lesson.teacher, texts) for s in (untaught, taught))
    if (kind, task) != ("student-narrow", "text-embedding"):  # a slice of a vector has others
        assert after >= before if kind == "static" else after > before
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in lines]
    assert len(losses) == 6
    assert losses[-1] < losses[0]
    assert lines[0].startswith(f"{kind}: epoch 1/6, loss ")
    assert lines[0].endswith(" rows/s")


def test_the_teacher_is_left_as_it_was(lessons: dict[str, Lesson]) -> None:
    lesson = lessons[PLAIN]
    before = {name: p.clone() for name, p in lesson.teacher.module.state_dict().items()}
    for kind in ("student-half", "student-narrow", "pruned", "static"):
        STUDENTS[kind](lesson)
    after = lesson.teacher.module.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert lesson.teacher.module.model.config.num_hidden_layers == 2


@pytest.mark.parametrize("kind", ["student-half", "pruned", "static"])
def test_the_same_lesson_gives_the_same_bits(lessons: dict[str, Lesson], kind: str) -> None:
    first, second = (STUDENTS[kind](lessons[PLAIN]).module.state_dict() for _ in range(2))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = STUDENTS[kind](replace(lessons[PLAIN], settings=changed(QUICK, seed=1)))
    assert not all(torch.equal(first[n], p) for n, p in other.module.state_dict().items())


@pytest.mark.parametrize("kind", ["student-half", "static"])
def test_texts_without_labels_teach_how_the_teacher_answers_them(
    lessons: dict[str, Lesson], kind: str
) -> None:
    few = replace(lessons[PLAIN], rows=lessons[PLAIN].rows[:8])
    more = replace(few, unlabelled=UNLABELLED)
    without, taught = (
        agreement(STUDENTS[kind](lesson), few.teacher, UNLABELLED) for lesson in (few, more)
    )
    assert taught > without


def test_texts_alone_can_teach(lessons: dict[str, Lesson]) -> None:
    lesson = replace(lessons[PLAIN], rows=[], unlabelled=UNLABELLED)
    untaught = half_depth(replace(lesson, settings=UNTAUGHT))
    taught = half_depth(lesson)
    assert agreement(taught, lesson.teacher, UNLABELLED) > agreement(
        untaught, lesson.teacher, UNLABELLED
    )


# -- what they are refused for -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "key"), [("student-half", "learning_rate"), ("static", "static_learning_rate")]
)
def test_a_lesson_that_diverges_says_what_to_lower(
    lessons: dict[str, Lesson], kind: str, key: str
) -> None:
    settings = changed(QUICK, learning_rate=1e30, static_learning_rate=1e30)
    with pytest.raises(
        ExportError, match=rf"{kind}: the loss is .* lower compress\.distill\.{key}"
    ):
        STUDENTS[kind](replace(lessons[PLAIN], settings=settings))


def test_no_text_at_all_is_refused(lessons: dict[str, Lesson]) -> None:
    with pytest.raises(ExportError, match="no text to teach a student with"):
        half_depth(replace(lessons[PLAIN], rows=[]))


def test_a_teacher_of_two_layers_has_no_third(lessons: dict[str, Lesson]) -> None:
    with pytest.raises(ExportError, match="student-third: the teacher has 2 layers"):
        third_depth(lessons[PLAIN])


def test_an_unknown_architecture_is_not_pruned(lessons: dict[str, Lesson]) -> None:
    class Strange(torch.nn.Module):  # type: ignore[misc]
        class config:
            model_type = "strange"

    with pytest.raises(ExportError, match="pruned: heads and FFN of strange are not known"):
        parts_of(type("Fake", (), {"model": Strange()})(), "pruned")


def test_a_model_whose_layers_cannot_be_found_is_refused(teachers: dict[str, Merged]) -> None:
    module = keep_layers(teachers["bert"].module, [0, 1])
    module.model.config.num_hidden_layers = 3
    with pytest.raises(ExportError, match="bert: 0 lists of 3 layers were found"):
        encoder_layers(module)


# -- every architecture ------------------------------------------------------------------------


def same(one: Any, other: Any, teacher: Merged, tolerance: float = 1e-4) -> bool:
    """Do two modules answer alike, in fp32, on texts with padding?"""
    ids = torch.randint(1, 20, (3, 9), generator=torch.manual_seed(0))
    mask = (torch.arange(9) < torch.tensor([[9], [4], [1]])).long()
    feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    with torch.inference_mode():
        outputs = [m(**teacher.feed(feed)) for m in (one, other)]
    return all(torch.allclose(a, b, atol=tolerance) for a, b in zip(*outputs, strict=True))


class LastState(torch.nn.Module):  # type: ignore[misc]
    """The module with an embedding made of the encoder's last hidden state, not of a list of all:
    transformers collects that list by hooks, which a copy of a model has as well."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module

    def forward(self, **feed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        states = self.module.model.base_model(**feed).last_hidden_state
        mask = feed["attention_mask"].unsqueeze(-1)
        mean = (states * mask).sum(dim=1) / mask.sum(dim=1)
        return self.module(**feed)[0], torch.nn.functional.normalize(mean, dim=-1)


@pytest.mark.parametrize("name", CONFIGS)
def test_all_layers_kept_are_the_teacher_and_fewer_are_really_fewer(
    teachers: dict[str, Merged], name: str
) -> None:
    teacher = teachers[name]
    assert same(keep_layers(teacher.module, range(LAYERS)), teacher.module, teacher)
    student = keep_layers(teacher.module, (0, 3))
    assert same(student, LastState(student), teacher)
    assert len(encoder_layers(student)) == student.model.config.num_hidden_layers == 2
    assert not same(student, teacher.module, teacher)
    assert len(encoder_layers(teacher.module)) == LAYERS
    for ours, theirs in zip(encoder_layers(student), (0, 3), strict=True):
        own = encoder_layers(teacher.module)[theirs].state_dict()
        assert all(torch.equal(p, own[key]) for key, p in ours.state_dict().items())


@pytest.mark.parametrize("name", CONFIGS)
def test_a_removed_head_or_unit_is_as_if_it_were_silent(
    teachers: dict[str, Merged], name: str
) -> None:
    teacher = teachers[name]
    silent, smaller = (keep_layers(teacher.module, range(LAYERS)) for _ in range(2))
    kept_heads, kept_units = [0, 2], [3, 5, 60]
    with torch.no_grad():
        for own in parts_of(silent, "pruned"):
            size = own.head_size
            for head in set(range(HEADS)) - set(kept_heads):
                own.output.weight[:, head * size : (head + 1) * size] = 0.0
            others = [i for i in range(INNER) if i not in kept_units]
            own.outer.weight[:, others] = 0.0
    keep_heads(smaller, "pruned", [kept_heads] * LAYERS)
    for own in parts_of(smaller, "pruned"):
        own.keep_units(kept_units)
        assert (own.heads, own.outer.in_features) == (2, 3)
    assert same(smaller, silent, teacher)
    assert not same(smaller, teacher.module, teacher)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_hidden_state_in_another_order_is_the_same_model(
    teachers: dict[str, Merged], name: str
) -> None:
    """Keeping all components in another order is a narrow student that has lost nothing: it shows
    that every matrix which reads or writes the hidden state is cut alike."""
    teacher = teachers[name]
    student = keep_layers(teacher.module, range(LAYERS))
    order = torch.randperm(HIDDEN, generator=torch.manual_seed(1))
    cut_hidden(student, order)
    ids = torch.randint(1, 20, (3, 9), generator=torch.manual_seed(0))
    feed = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    feed["token_type_ids"] = torch.zeros_like(ids)
    with torch.inference_mode():
        found, expected = student(**teacher.feed(feed)), teacher.module(**teacher.feed(feed))
    torch.testing.assert_close(found[0], expected[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found[1], expected[1][:, order], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_architecture_is_taught(teachers: dict[str, Merged], name: str) -> None:
    settings = changed(QUICK, num_train_epochs=2, narrow_epochs=2, pruned_epochs=2, static_epochs=2)
    lesson = lesson_of(teachers[name], tiny.rows(PLAIN, 32, 1), settings=settings)
    sizes = [weights(STUDENTS[kind](lesson)) for kind in STUDENTS]
    assert all(size < weights(teachers[name]) for size in sizes)
    third, half = sizes[1], sizes[0]
    assert third < half


def test_what_matters_least_is_removed(teachers: dict[str, Merged]) -> None:
    teacher = teachers["bert"]
    module = keep_layers(teacher.module, range(LAYERS))
    with torch.no_grad():
        for own in parts_of(module, "pruned"):
            own.output.weight[:, : own.head_size] = 0.0  # the first head
            own.outer.weight[:, ::2] = 0.0
    lesson = lesson_of(replace(teacher, module=module), tiny.rows(PLAIN, 32, 1))
    found = importance(lesson, "pruned")
    assert found.heads.shape == (LAYERS, HEADS)
    assert (found.heads[:, 0] == 0.0).all()
    assert (found.heads[:, 1:] > 0.0).all()
    assert (found.units[:, ::2] == 0.0).all()
    smaller = keep_layers(module, range(LAYERS))
    cut(smaller, "pruned", found, 0.75)
    assert same(smaller, module, teacher)


# -- what ships --------------------------------------------------------------------------------

Make = Callable[[Lesson], Merged]


@pytest.mark.parametrize(
    ("task", "make"),
    [
        ("text-classification", half_depth),
        ("token-classification", narrow),
        ("text-embedding", static),
        ("multi-label-classification", static),
    ],
)
def test_a_student_is_exported_and_proven_like_the_teacher(
    lessons: dict[str, Lesson], tmp_path: Path, task: str, make: Make
) -> None:
    student = make(lessons[task])
    student.tokenizer.save_pretrained(tmp_path)
    assert prove(student, held_out(), tmp_path / "tokenizer.json", tmp_path) <= TOLERANCE


def test_a_pruned_encoder_whose_layers_share_a_bias_is_exported_and_proven(
    teachers: dict[str, Merged], tmp_path: Path
) -> None:
    lesson = lesson_of(
        teachers["mpnet"], tiny.rows(PLAIN, 16, 1), settings=changed(QUICK, pruned_epochs=1)
    )
    student = pruned(lesson)
    student.tokenizer.save_pretrained(tmp_path)
    assert prove(student, held_out(), tmp_path / "tokenizer.json", tmp_path) <= TOLERANCE


def test_a_student_is_written_as_the_same_bytes_again(
    lessons: dict[str, Lesson], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        export_merged(static(lessons[PLAIN]), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_static_student_reads_pairs(tiny_bert: Path, tmp_path: Path) -> None:
    rows = tiny.rows(PLAIN, 48, 3, text_pair=True)
    lesson = make_lesson(tiny_bert, tmp_path)
    student = static(replace(lesson, rows=rows))
    pairs = [row.input for row in rows[:4]]
    assert prove(student, pairs, tmp_path / "tokenizer.json", tmp_path) <= TOLERANCE


def test_words_of_a_large_vocabulary_that_no_text_has_are_fitted(
    lessons: dict[str, Lesson], monkeypatch: pytest.MonkeyPatch
) -> None:
    import compress.students.static as module

    lesson = lessons[PLAIN]
    asked = module.token_vectors(lesson.teacher, lesson.material)
    monkeypatch.setattr(module, "ASKED_TOKENS", 30)
    fitted = module.token_vectors(lesson.teacher, lesson.material)
    assert fitted.shape == asked.shape
    seen = np.unique(lesson.material.token_ids())
    torch.testing.assert_close(fitted[seen], asked[seen], atol=0.05, rtol=0)
    assert fitted.isfinite().all()
    assert (fitted[1:].abs().sum(dim=1) > 0.0).all()  # the pad's own vector is zero


def test_a_lesson_asks_the_teacher_once_whatever_students_it_has(
    lessons: dict[str, Lesson],
) -> None:
    lesson = replace(lessons[PLAIN], settings=UNTAUGHT)
    material = lesson.material
    half_depth(lesson)
    static(lesson)
    assert lesson.material is material
    batch = material.batch([0, 1])
    outputs = run(lesson.teacher.module, lesson.teacher.inputs, batch.feed)
    torch.testing.assert_close(outputs[LOGITS], batch.logits, atol=0.1, rtol=0.05)
    torch.testing.assert_close(outputs[EMBEDDING], batch.embedding, atol=0.01, rtol=0)
