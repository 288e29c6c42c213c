"""Dialogues become ids with labels on answers; the window never costs a question in silence."""

import pickle

import numpy as np
import pytest
import torch

from rsvlm.data.collate.chat import ChatBatch, ChatCollate
from rsvlm.data.geometry import identity
from rsvlm.data.item import Skipped, TransformedSample
from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.sample import Instance, Sample, SampleError, Turn
from rsvlm.data.text.dialogue_encoder import blip_text
from rsvlm.data.text.prompt_formats import dialogues, formats, prompt_format
from rsvlm.data.text.tokenization import Encoder
from rsvlm.data.transforms import Squash
from rsvlm.errors import UserError
from rsvlm.synthetic import Scenes

WORDS = (
    "user assistant : q a what is this an airport where yes no how many planes two describe in "
    "detail image roads buildings the of please briefly changes these images inst / [ ] ? . < > img"
)


def backend():
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    marks = ["<pad>", "<unk>", "<s>", "</s>", "<image>", "[CLS]", "[SEP]"]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(marks + WORDS.split()))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
    )
    tokenizer.add_special_tokens(marks)
    return tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=backend(),
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )


def image(value=0, size=4):
    return torch.full((3, size, size), value, dtype=torch.uint8)


def item(*turns, index=0, images=1, **more):
    layout = {1: "single"}.get(images, "interleaved")
    meta = {"id": f"{index}.png", "dataset": "made"}
    sample = Sample([image(i) for i in range(images)], layout, turns=list(turns), meta=meta, **more)
    return TransformedSample(index, sample)


def ask(text, images=(0,), kind="vqa", **more):
    return Turn("user", text, images, kind=kind, **more)


def say(text, kind="vqa", **more):
    return Turn("assistant", text, kind=kind, **more)


TALK = (
    ask("what is this ?"),
    say("an airport"),
    ask("how many planes ?", ()),
    say("two planes"),
)
# ChangeChat's later questions.
COUNT = "If changes have occurred, count the number of road and building changes separately."
DESCRIBE = "Based on the above analysis, please describe the changes of these two images in detail."


def learnt(batch, row, tokenizer):
    labels = batch.labels[row]
    return tokenizer.decode(labels[labels != -100])


def test_every_format_is_whole_and_known():
    assert len(formats()) >= 8
    for form in formats().values():
        assert form.source and "{text}" in form.user and "{text}" in form.next
        assert "{system}" in form.first and "{text}" in form.answer
    with pytest.raises(UserError, match="Did you mean vicuna_v1"):
        prompt_format("vicuna_v2")


def test_labels_stand_on_answers_alone(tokenizer):
    collate = ChatCollate(tokenizer, image_token_id=4, image_tokens=3, system="")
    batch = collate([item(*TALK)])
    ids = batch.input_ids[0].tolist()
    assert tokenizer.decode(ids) == (
        "<s> user : <image> <image> <image> what is this ? assistant : an airport </s> "
        "user : how many planes ? assistant : two planes </s>"
    )
    assert learnt(batch, 0, tokenizer) == "an airport </s> two planes </s>"
    assert batch.attention_mask.min() == 1
    assert batch.answers == ["two planes"] and batch.instructions == ["how many planes ?"]
    assert (batch.input_ids == 4).sum() == 3 and batch.image_rows == [(0,)]
    labelled = batch.labels[batch.labels != -100]
    assert torch.equal(labelled, batch.input_ids[batch.labels != -100])


def test_generation_leaves_the_answer_open_and_pads_left(tokenizer):
    collate = ChatCollate(tokenizer, image_token_id=4, generation=True, system="")
    short = item(ask("what is this ?"), say("an airport"), index=3)
    batch = collate([item(*TALK, index=2), short])
    assert batch.index.tolist() == [2, 3] and batch.answers == ["two planes", "an airport"]
    assert batch.references == [["two planes"], ["an airport"]]
    assert (batch.labels == -100).all()
    row, mask = batch.input_ids[1], batch.attention_mask[1]
    assert mask.tolist() == sorted(mask.tolist()) and mask[0] == 0 and row[0] == 0
    assert tokenizer.decode(row[mask == 1]) == "<s> user : <image> what is this ? assistant :"
    assert "two planes" not in tokenizer.decode(batch.input_ids[0])
    assert "an airport </s>" in tokenizer.decode(batch.input_ids[0])  # the history stays


@pytest.mark.parametrize("name", sorted(formats()))
def test_training_begins_with_what_generation_gives(tokenizer, name):
    options = {"format": name, "image_token_id": 4, "image_tokens": 2}
    learn = ChatCollate(tokenizer, **options)([item(*TALK)])
    write = ChatCollate(tokenizer, generation=True, **options)([item(*TALK)])
    prompt = write.input_ids[0].tolist()
    whole = learn.input_ids[0].tolist()
    assert whole[: len(prompt)] == prompt
    assert "two planes" in tokenizer.decode(whole[len(prompt) :])
    said = learnt(learn, 0, tokenizer)
    assert said.endswith("two planes </s>") or name == "chatml"
    assert ("an airport" in said) is (formats()[name].supervise == "all")


def test_padding_is_on_the_right_in_training(tokenizer):
    collate = ChatCollate(tokenizer, system="")
    batch = collate([item(*TALK), item(ask("what ?"), say("yes"), index=1)])
    mask = batch.attention_mask[1].tolist()
    assert mask == sorted(mask, reverse=True) and mask[-1] == 0
    assert (batch.labels[1][batch.attention_mask[1] == 0] == -100).all()
    assert (batch.input_ids[1][batch.attention_mask[1] == 0] == 0).all()


def test_several_images_have_places_in_order_and_are_held_once(tokenizer):
    both = (ask("what changes ?", (1, 0)), say("roads"), ask("where ?", (1,)), say("the roads"))
    collate = ChatCollate(tokenizer, image_token_id=4, which="all", system="")
    batch = collate([item(*both, images=2), item(ask("what ?"), say("yes"), index=1)])
    # The second sample's picture is the same as one of the first's.
    assert len(batch) == 3 and batch.images.shape == (2, 3, 4, 4)
    assert batch.image_rows == [(0, 1), (0,), (1,)]
    assert batch.images[:, 0, 0, 0].tolist() == [1, 0]
    assert (batch.input_ids == 4).sum(1).tolist() == [2, 1, 1]
    with pytest.raises(SampleError, match="dialogues of 1, 2 images"):
        _ = batch.grouped
    pair = collate([item(ask("what ?", (0, 1)), say("yes"), images=2)] * 3)
    assert pair.grouped.shape == (3, 2, 3, 4, 4)
    numbered = ChatCollate(tokenizer, format="teochat", image_token_id=4, generation=True)
    assert (
        "Image 1: Image 2: what ?" in numbered([item(ask("what ?", (0, 1)), images=2)]).prompts[0]
    )


def test_a_number_of_image_tokens_may_depend_on_the_image(tokenizer):
    def count(picture):
        return int(picture.shape[1]) // 2

    batch = ChatCollate(tokenizer, image_token_id=4, image_tokens=count)([item(*TALK)])
    assert (batch.input_ids == 4).sum() == 2


def test_a_prefix_leaves_no_trace_in_the_text(tokenizer):
    batch = ChatCollate(tokenizer, format="qa")([item(*TALK)])
    assert not (batch.input_ids == 4).any() and batch.image_rows == [(0,)]
    assert batch.prompts == ["q: what is this ? a: an airport q: how many planes ?"]
    assert batch.instructions == batch.prompts
    assert learnt(batch, 0, tokenizer) == "two planes </s>"
    other = ChatCollate(tokenizer, format="minigpt")([item(*TALK)])
    assert "Img" not in other.prompts[0]


def test_a_q_formers_ids_lose_their_left_side(tokenizer):
    collate = ChatCollate(tokenizer, format="instruct", qformer=tokenizer, max_instruction=5)
    batch = collate(
        [item(ask("please describe in detail the image"), say("an airport")), item(*TALK)]
    )
    assert batch.instruction_ids.shape == (2, 5)
    text = tokenizer.decode(batch.instruction_ids[0])
    assert text == "[CLS] detail the image [SEP]"
    assert batch.instruction_mask.tolist() == [[1] * 5] * 2


def test_history_is_cut_before_the_question(tokenizer):
    long = []
    for _ in range(6):
        long += [ask("how many planes ?", () if long else (0,)), say("two planes")]
    long += [ask("where is the airport ?", ()), say("in the image")]
    whole = ChatCollate(tokenizer, image_token_id=4, system="")([item(*long)])
    assert whole.truncated == 0
    collate = ChatCollate(tokenizer, image_token_id=4, system="", max_length=30)
    batch = collate([item(*long)])
    assert batch.truncated == 1 and batch.input_ids.shape[1] <= 30
    text = tokenizer.decode(batch.input_ids[0])
    assert text.endswith("where is the airport ? assistant : in the image </s>")
    assert "<image>" in text  # moves to the first question that is left
    tight = ChatCollate(tokenizer, image_token_id=4, system="", max_length=13)
    batch = tight([item(*long)])
    assert batch.truncated == 1
    assert learnt(batch, 0, tokenizer) == "in the"  # the end of the answer goes next
    with pytest.raises(SampleError, match="the question alone has"):
        ChatCollate(tokenizer, image_token_id=4, system="", max_length=8)([item(*long)])
    some = ChatCollate(tokenizer, image_token_id=4, system="", max_length=12)
    batch = some([item(*long), item(ask("what ?"), say("yes"), index=1), Skipped(4, "gone.png")])
    assert len(batch) == 2 or "'0.png'" in batch.skipped[0]
    assert batch.skipped[-1] == "gone.png"


def test_the_published_cut_of_deltavlm_loses_the_question(tokenizer):
    long = []
    for _ in range(8):
        long += [ask("How many planes?", () if long else (0,)), say("Two planes.")]
    long += [ask("Where is the airport?", ()), say("In the image.")]
    options = {"format": "qa", "clean": "blip", "max_words": 20}
    batch = ChatCollate(tokenizer, truncation="published", **options)([item(*long)])
    words = batch.prompts[0].split()
    assert len(words) == 20 and words[:4] == ["q", "how", "many", "planes?"]
    assert "where" not in words and batch.truncated == 1
    assert batch.answers == ["In the image."]
    assert learnt(batch, 0, tokenizer) == "in the image </s>"
    ours = ChatCollate(tokenizer, **options)([item(*long)])
    assert ours.prompts[0].endswith("q where is the airport?")
    assert len(ours.prompts[0].split()) <= 20 and ours.truncated == 1
    left = ChatCollate(tokenizer, format="qa", truncation="published", max_prompt=6, max_answer=2)
    batch = left([item(*long)])
    assert batch.input_ids.shape == (1, 8) and batch.labels[0].tolist()[:6] == [-100] * 6


def test_the_released_dialogue_loses_its_last_six_words_as_published(tokenizer):
    # Of hanlinwu/DeltaVLM's template, 56 words: measured on the published processor.
    talk = (
        ask("Please judge whether these two images have changed. Please answer yes or no."),
        say("Yes"),
        ask(COUNT, ()),
        say("No roads has changed, and no buildings has changed."),
        ask(DESCRIBE, ()),
        say("A road is built."),
    )
    options = {"format": "qa", "clean": "blip"}
    whole = ChatCollate(tokenizer, **options)([item(*talk)])
    assert len(whole.prompts[0].split()) == 56 and whole.truncated == 0
    cut = ChatCollate(tokenizer, truncation="published", max_words=50, **options)([item(*talk)])
    assert whole.prompts[0] == cut.prompts[0] + " of these two images in detail"
    ours = ChatCollate(tokenizer, max_words=50, **options)([item(*talk)])
    assert ours.prompts[0].endswith("of these two images in detail") and ours.truncated == 1


def test_blip_cleaning_is_the_published_one():
    said = "Roads: ['top-left'] Buildings: []."
    assert blip_text(said) == "roads ['top-left'] buildings []"
    assert blip_text("Is it (very) LARGE? #1; yes!") == "is it very large? 1 yes"


def test_minigpts_words_are_cut_turn_by_turn(tokenizer):
    turns = (ask("what is this " * 4), say("an airport " * 4))
    options = {"format": "minigpt", "max_words": 3, "truncation": "published"}
    batch = ChatCollate(tokenizer, image_token_id=4, **options)([item(*turns)])
    assert batch.prompts == ["[INST] <Img></Img> what is this [/INST]"] and batch.truncated == 1
    assert learnt(batch, 0, tokenizer) == "an airport an </s>"


def test_tokenizers_of_three_kinds_agree(tokenizer):
    class Plain:
        pad_token_id, bos_token_id, eos_token_id = 0, 2, 3

        def encode(self, text):
            return tokenizer(text, add_special_tokens=False)["input_ids"]

        def decode(self, ids):
            return tokenizer.decode(ids)

    rust = {"pad_id": 0, "bos_id": 2, "eos_id": 3}
    wanted = ChatCollate(tokenizer, image_token_id=4)([item(*TALK)])
    for other, marks in ((backend(), rust), (Plain(), {})):
        got = ChatCollate(other, image_token_id=4, **marks)([item(*TALK)])
        assert torch.equal(got.input_ids, wanted.input_ids)
        assert torch.equal(got.labels, wanted.labels)
    with pytest.raises(UserError, match="pad_id="):
        Encoder(backend())


def test_questions_side_by_side_are_dialogues_of_their_own(tokenizer):
    turns = [ask("what ?"), say("an airport"), ask("how many ?"), say("two"), *TALK]
    parts = dialogues(item(*turns).sample)
    assert [len(part) for part in parts] == [2, 2, 4]
    leading = dialogues(item(say("no question yet"), *TALK).sample)
    assert [len(part) for part in leading] == [4]
    system = dialogues(item(Turn("system", "please"), *TALK).sample)
    assert [part[0].role for part in system] == ["system"]
    one = ChatCollate(tokenizer, image_token_id=4)
    seen = set()
    for epoch in range(30):
        made = item(*turns)
        made.key = (0, epoch, 0)
        batch = one([made])
        assert len(batch) == 1
        again = one([made])
        assert torch.equal(batch.input_ids, again.input_ids)
        seen.add(batch.prompts[0])
    assert len(seen) == 3
    two = ChatCollate(tokenizer, image_token_id=4, which=2)
    drawn = [
        two([TransformedSample(0, made.sample, key=(0, epoch, 0))]).prompts for epoch in range(20)
    ]
    assert {len(prompts) for prompts in drawn} == {2} and len({*map(tuple, drawn)}) == 3
    assert len(ChatCollate(tokenizer, image_token_id=4, which=9)([made])) == 3
    every = ChatCollate(tokenizer, image_token_id=4, generation=True)([item(*turns)])
    assert len(every) == 3 and every.images.shape[0] == 1
    kinds = ChatCollate(tokenizer, generation=True, kinds=["caption"])
    batch = kinds([item(*turns, ask("describe", kind="caption"), say("yes"), texts=["a", "b"])])
    assert batch.kinds == ["caption"] and batch.references == [["a", "b"]]


def test_questions_on_objects_outside_of_the_crop_are_left_out_and_counted(tokenizer):
    turns = [ask("what ?"), say("yes"), ask("where ?"), say("two", instance_ids=(7,))]
    made = item(*turns, instances=[])
    made.lost = (7,)
    batch = ChatCollate(tokenizer, which="all")([made])
    assert batch.lost == 1 and batch.answers == ["yes"]
    made = item(ask("where ?"), say("two", instance_ids=(7,)))
    made.lost = (7,)
    with pytest.raises(SampleError, match="1 lost their objects"):
        ChatCollate(tokenizer)([made])
    made.stored = [Instance(7, "plane", box=(0, 0, 2, 2), mask=np.ones((4, 4), bool))]
    asked = ChatCollate(tokenizer, generation=True)([made])
    assert len(asked) == 1 and asked.lost == 0
    ((target,),) = asked.targets
    assert target.box == (0, 0, 2, 2) and target.mask is None


def test_one_unusable_sample_is_skipped_and_counted(tokenizer):
    good, bad = item(*TALK), item(ask("what ?"), ask("why ?", ()), index=8)
    batch = ChatCollate(tokenizer)([good, bad, item(index=9)])
    assert len(batch) == 1 and len(batch.skipped) == 2
    assert "'8.png' of 'made'" in batch.skipped[0] and "two questions" in batch.skipped[0]
    assert "'9.png' of 'made': it has no turns" in batch.skipped[1]


@pytest.mark.parametrize("kind", ["metaspace", "bytes"])
def test_answers_are_found_in_every_kind_of_tokenizer(kind):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE(unk_token="<unk>"))
    marks = ["<unk>", "<s>", "</s>", "<image>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet() if kind == "bytes" else []
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=marks, show_progress=False, initial_alphabet=alphabet
    )
    if kind == "bytes":
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
    else:
        inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
        inner.decoder = decoders.Metaspace(prepend_scheme="always")
    said = ["two planes are near a pond", "an airport with runways", "USER: ASSISTANT: what is it"]
    inner.train_from_iterator(said * 20, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    turns = (ask("what is it"), say(said[0]), ask("what is near", ()), say(said[1]))
    for form in ("vicuna_v1", "llama2", "plain"):
        options = {"format": form, "image_token_id": 3, "system": "", "pad_id": 0}
        batch = ChatCollate(tokenizer, **options)([item(*turns)])
        learnt_ids = batch.labels[0][batch.labels[0] != -100].tolist()
        ends = [k for k, i in enumerate(learnt_ids) if i == 2]
        assert len(ends) == 2 and ends[-1] == len(learnt_ids) - 1
        parts = [learnt_ids[: ends[0]], learnt_ids[ends[0] + 1 : ends[1]]]
        assert [tokenizer.decode(part).strip() for part in parts] == said[:2]
        prompt = ChatCollate(tokenizer, generation=True, **options)([item(*turns)])
        start = prompt.input_ids.shape[1]
        assert batch.input_ids[0, :start].tolist() == prompt.input_ids[0].tolist()


@pytest.mark.parametrize(
    ("turns", "words"),
    [
        ([], "it has no turns"),
        ([ask("what ?"), ask("why ?", ())], "two questions"),
        ([ask("what ?")], "no answer"),
        ([ask("what ?"), say("yes"), say("no")], "without its question"),
        ([ask(" "), say("yes")], "question is empty"),
        ([ask("what is <image> ?"), say("yes")], "image placeholder"),
    ],
)
def test_unusable_dialogues_say_why(tokenizer, turns, words):
    with pytest.raises(SampleError, match=words):
        ChatCollate(tokenizer, image_token_id=4)([item(*turns)])


def test_places_of_mirrored_images_are_refused(tokenizer):
    made = item(ask("where ?", kind="location"), say("in the image"))
    start = identity(4, 4)
    for moved in (start.hflip(), start.vflip(), start.turn(1), start.rotate(3.0)):
        made.geometry = (moved,)
        with pytest.raises(UserError, match="hflip=false"):
            ChatCollate(tokenizer)([made])
        assert len(ChatCollate(tokenizer, generation=True)([made])) == 1
    made.geometry = (start.crop(1, 1, 2, 2).resize(4, 4),)
    assert len(ChatCollate(tokenizer)([made])) == 1
    other = item(*TALK)
    other.geometry = (start.hflip(),)
    assert len(ChatCollate(tokenizer)([other])) == 1


def test_captions_without_a_wording_say_so(tokenizer):
    with pytest.raises(SampleError, match="instructions make questions"):
        ChatCollate(tokenizer)([item(texts=["a pond"])])


@pytest.mark.parametrize("which", ["some", 0, True])
def test_a_number_of_dialogues_is_one_or_more(tokenizer, which):
    with pytest.raises(UserError, match="which="):
        ChatCollate(tokenizer, which=which)


def test_options_are_checked(tokenizer):
    with pytest.raises(UserError, match="Did you mean question"):
        ChatCollate(tokenizer, truncation="questions")
    with pytest.raises(UserError, match="Did you mean blip"):
        ChatCollate(tokenizer, clean="blib")
    with pytest.raises(UserError, match="image_token_id="):
        ChatCollate(tokenizer, image_tokens=5)


def test_images_of_two_sizes_are_an_error(tokenizer):
    one, two = item(*TALK), item(*TALK, index=1)
    two.sample.images[0] = image(size=5)
    with pytest.raises(SampleError, match=r"1\.png.*does not go into one batch"):
        ChatCollate(tokenizer)([one, two])


def test_a_batch_travels(tokenizer):
    batch = ChatCollate(tokenizer)([item(*TALK)])
    again = pickle.loads(pickle.dumps(batch.to("cpu")))
    assert isinstance(again, ChatBatch) and torch.equal(again.labels, batch.labels)
    assert len(again) == 1


def test_scenes_of_both_kinds_go_through(tokenizer):
    for layout, shown in (("single", 1), ("before_after", 2)):
        data = Scenes(n=3, size=48, parts=("captions", "turns", "references"), layout=layout)
        view = TransformedDataset(data, Squash(32), training=False, caption="all")
        collate = ChatCollate(tokenizer, generation=True, image_token_id=4)
        batch = collate([view[0, i] for i in range(3)])
        assert len(batch) > 10 and len(batch.images) == 3 * shown
        assert {len(rows) for rows in batch.image_rows} <= {1, shown}
        assert all(batch.prompts) and all(batch.answers)
        assert batch.geometry[0][0].source == (48, 48)
        if layout == "before_after":
            three = [p for p in batch.prompts if p.count("ASSISTANT:") == 3]
            assert len(three) == 3  # one dialogue of three questions for each pair


def test_instances_of_answers_are_kept_in_order(tokenizer):
    box = Instance(5, "plane", box=(0, 0, 2, 2))
    made = item(ask("where ?"), say("yes", instance_ids=(5,)), instances=[box])
    rows, _, _ = ChatCollate(tokenizer).rows([made])
    assert rows[0].instances == (5,)
    assert np.array_equal(rows[0].shown, [0])
