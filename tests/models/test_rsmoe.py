"""RS-MoE: who is asked what, shared weights in one pass, stages, combination, bad input."""

from __future__ import annotations

import pytest
import torch
from model_options import build

from rsvlm.checkpoints import load, pack
from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.sample import Part, Sample, Turn
from rsvlm.encoders.language import LanguageModel
from rsvlm.errors import UserError
from rsvlm.losses.language import AnswerLoss
from rsvlm.metrics.routing import routing_statistics
from rsvlm.models.rsmoe.adapters import blocks_of
from rsvlm.models.rsmoe.combine import MixExperts, best, concatenated, summary_prompt
from rsvlm.models.rsmoe.experts import losses_of, rows_of
from rsvlm.models.rsmoe.model import RSMoE
from rsvlm.models.rsmoe.router import Router, tasks_of
from rsvlm.synthetic import Scenes
from rsvlm.synthetic.questions import questions

TEXT = (
    "The picture shows a harbour. The ground is bare soil. There are three ships. "
    "The ships are next to the pier. A house is in the middle."
)
PARTS = {
    "theme": "The picture shows a harbour. The ground is bare soil.",
    "objects": "There are three ships.",
    "relations": "The ships are next to the pier. A house is in the middle.",
}


def model(stage="second", seed=0, combine="concatenated", **options):
    torch.manual_seed(seed)
    found = build("rsmoe_tiny", stage=stage, combine=combine, **options)
    if found.experts is not None:
        with torch.no_grad():  # as after some training
            for name, parameter in found.experts.named_parameters():
                if name.endswith(".up"):
                    parameter.normal_(std=0.3)
    return found


def samples():
    image = torch.arange(3 * 56 * 56).reshape(3, 56, 56).remainder(251).to(torch.uint8)

    def of(n, question, answer, kind):
        turns = [Turn("user", question, (0,), kind=kind), Turn("assistant", answer, kind=kind)]
        return Sample([image + 20 * n], turns=turns, meta={"id": f"s{n}"})

    return [
        of(0, "Describe the picture in detail.", TEXT, "description"),
        of(1, "how many ships are there?", "three", "count"),
        of(2, "is it a rural or an urban area?", "urban", "rural_urban"),
    ]


def batch(found, training, given=None):
    given = samples() if given is None else given
    view = TransformedDataset(given, found.preprocess, training=training, caption="all")
    return found.collate(training=training)([view[0, n] for n in range(len(given))])


# Who is asked what ------------------------------------------------------------------------


def routing(kind, tasks=("theme", "objects", "relations"), **options):
    torch.manual_seed(0)
    router = Router(kind, tasks, dim=4, **options)
    given = batch(model("first"), True)
    return router(given.instructions, torch.randn(3, 4), answers=given.answers)


def told(found):
    return [(each.dialogue, each.task, each.target) for each in found.asked]


def test_a_description_goes_to_all_and_a_question_to_one():
    found = routing("template")
    assert told(found) == [
        (0, 0, PARTS["theme"]),
        (2, 0, "urban"),
        (0, 1, PARTS["objects"]),
        (1, 1, "three"),
        (0, 2, PARTS["relations"]),
    ]
    assert found.asked[0].prompt.startswith("Describe the picture in detail. Theme")
    assert found.asked[1].prompt == "is it a rural or an urban area?"
    assert torch.equal(found.updates, torch.eye(3)[[0, 0, 1, 1, 2]])


def test_without_a_router_all_get_the_bare_instruction():
    found = routing("none")
    assert [each.prompt for each in found.asked] == batch(model("first"), True).instructions * 3
    assert [t for _, _, t in told(found)][:3] == [PARTS["theme"], "three", "urban"]


def test_a_learned_router_weighs_experts_and_prompts_and_is_differentiable():
    tasks = ("theme", "objects", "relations")
    torch.manual_seed(0)
    router = Router("learned", tasks, dim=4, top_k=2)
    given = batch(model("first"), True)
    found = router(given.instructions, torch.randn(3, 4), answers=given.answers)
    assert found.updates.shape == (9, 3) and ((found.updates > 0).sum(1) == 2).all()
    assert torch.allclose(found.updates.sum(1), torch.ones(9))
    of_question = [n for n, each in enumerate(found.asked) if each.dialogue == 1]
    assert found.weights[of_question].sum().item() == pytest.approx(3)
    assert 1 <= found.balance.item() <= 3
    (found.updates[:, 0].sum() + found.weights.square().sum() + found.balance).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in router.parameters())
    asked = router(given.instructions, torch.randn(3, 4))
    assert sum(each.dialogue == 1 for each in asked.asked) == 1


def test_one_expert_for_all_questions_is_a_collapse_that_the_balance_counts():
    even = routing("learned")
    torch.manual_seed(0)
    router = Router("learned", ("theme", "objects", "relations"), dim=4)
    with torch.no_grad():
        router.net[-1].bias[9 + 1] = 30.0  # behind the nine of the updates
    given = batch(model("first"), True)
    found = router(given.instructions, torch.randn(3, 4), answers=given.answers)
    assert found.balance > even.balance + 0.5 and found.most_used > 0.99 > even.most_used
    described = router(given.instructions[:1], torch.randn(1, 4), answers=given.answers[:1])
    assert torch.isfinite(described.balance) and described.most_used < 0.9


def test_a_draft_stands_in_the_prompt_and_braces_stay():
    router = Router("template", ["theme", "objects"], {"theme": "{instruction} | {draft}"}, dim=4)
    assert router.prompt("theme", "Say {draft}", "a port") == "Say {draft} | a port"
    assert router.prompt("objects", "Say", "a port").endswith("A first answer: a port")


@pytest.mark.parametrize(("count", "names"), [(1, ["whole"]), (2, ["theme", "objects+relations"])])
def test_fewer_experts_have_more_to_say(count, names):
    assert tasks_of(count, None, {}) == names
    found = routing("template", names)
    mine = [each.target for each in found.asked if each.dialogue == 0]
    assert sorted(" ".join(mine).split()) == sorted(TEXT.split())


# One set of weights -----------------------------------------------------------------------


def test_experts_in_one_pass_equal_each_alone():
    found = model().eval()
    lora = found.experts.groups[0].adapters
    visual = torch.randn(3, 4, found.lm.dim)
    prompts, targets = ["how many ?", "where ?", "which scene is it ?"], ["two", "left", "a park"]
    together = rows_of(found.lm, visual, prompts, targets)
    with torch.no_grad(), lora.speaking(found.lm.model, torch.eye(3)):
        losses, _, row = losses_of(found.lm, together)
    for n in range(3):
        alone = rows_of(found.lm, visual[n : n + 1], prompts[n : n + 1], targets[n : n + 1])
        with torch.no_grad(), lora.speaking(found.lm.model, torch.eye(3)[n : n + 1]):
            one, _, _ = losses_of(found.lm, alone)
        assert torch.allclose(losses[row == n], one, atol=1e-5)
    with torch.no_grad():
        silent, _, _ = losses_of(found.lm, together)
    assert not torch.allclose(losses, silent, atol=1e-3)


@pytest.mark.parametrize("order", [[0, 0, 1, 1, 2, 2], [2, 0], [0, 1, 0, 2, 2, 1], [1]])
def test_without_gradients_blocks_and_mixed_rows_give_the_same(order):
    found = model().eval()
    lora = found.experts.groups[0].adapters
    rows = rows_of(found.lm, torch.randn(len(order), 4, found.lm.dim), ["many"] * len(order))
    weights = torch.eye(3)[order]
    if len(order) == 6:
        assert (blocks_of(weights) == [0, 1, 2]) == (order[1] == 0)
    for given in (weights, 0.5 * weights + 0.5 * torch.eye(3)[1]):
        with lora.speaking(found.lm.model, given):
            learning = found.lm.hidden(rows.embeds, rows.mask)
        with torch.no_grad(), lora.speaking(found.lm.model, given):
            writing = found.lm.hidden(rows.embeds, rows.mask)
            twice = found.lm.hidden(*(v.repeat_interleave(2, 0) for v in (rows.embeds, rows.mask)))
        assert torch.allclose(learning, writing, atol=1e-5)
        assert torch.allclose(twice[::2], writing, atol=1e-5)


def test_the_llm_block_is_the_same_weights_without_updates():
    found, plain = model(), model("first")
    plain.load_state_dict({n: v for n, v in found.state_dict().items() if n in plain.state_dict()})
    rows = rows_of(found.lm, torch.randn(1, 4, found.lm.dim), ["how many ?"], ["two"])
    found(batch(found, True))["token_losses"].sum().backward()  # leaves the updates for this pass
    found.experts.silence()
    with torch.no_grad():
        assert torch.equal(losses_of(found.lm, rows)[0], losses_of(plain.lm, rows)[0])
    added = sum(p.numel() for p in found.parameters()) - sum(p.numel() for p in plain.parameters())
    assert added == sum(p.numel() for p in found.experts.parameters())


@pytest.mark.parametrize(
    ("stage", "combine"), [("second", "concatenated"), ("joint", "summarised")]
)
def test_checkpointed_layers_give_the_same_gradients(stage, combine):
    grads = []
    for twice in (False, True):
        found = model(stage, combine=combine, lm={"grad_checkpointing": twice}).train()
        AnswerLoss()(found(batch(found, True)), None)["answer"].backward()
        grads.append({n: p.grad for n, p in found.experts.named_parameters()})
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[0].items():
        assert grad.abs().sum() > 0 and torch.allclose(grad, grads[1][name], atol=1e-6), name


def test_mixed_logits_are_made_in_chunks_with_the_same_losses_and_gradients():
    grads, losses = [], []
    for chunk in (None, 4):
        found = model(combine="logits", router="learned", lm={"head_chunk": chunk}).train()
        widths: list[int] = []
        head = found.lm.model.get_output_embeddings()
        head.register_forward_hook(lambda _, __, out, w=widths: w.append(out.shape[-2]))
        outputs = found(batch(found, True))
        assert (max(widths) <= 4) == (chunk is not None)
        losses.append(outputs["token_losses"])
        AnswerLoss()(outputs, None)["answer"].backward()
        named = [*found.experts.named_parameters(), *found.router.named_parameters()]
        grads.append({n: p.grad for n, p in named if p.grad is not None})
    torch.testing.assert_close(losses[1], losses[0])
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, atol=1e-6, rtol=1e-4, msg=name)


def test_experts_of_other_models_meet_in_texts_alone():
    torch.manual_seed(3)
    words = ["one", "two", "three", "ships", "many", "how", "there", "are", "where"]
    other = LanguageModel("tiny_opt", words=words)
    found = model(expert_lms=[None, other, None])
    assert len(found.experts.groups) == 2 and found.lms[1] is other
    outputs = found(batch(found, True))
    outputs["token_losses"][:, 0].mean().backward()
    trained = {n for n, p in found.named_parameters() if p.requires_grad}
    assert all(n.startswith("experts.") for n in trained)
    assert all(p.grad is not None for n, p in found.named_parameters() if n in trained)
    assert {"experts.groups.1.proj.weight"} <= trained
    answer = found.generate(batch(found, False), max_new_tokens=4)[0]
    assert [part.expert for part in answer.parts] == ["theme", "objects", "relations"]


def test_a_batch_that_asks_no_expert_of_a_model_still_has_gradients_for_it():
    found = model(expert_lms=[None, LanguageModel("tiny", words=["a", "b"]), None])
    outputs = found(batch(found, True, samples()[2:]))
    outputs["token_losses"].sum().backward()
    assert all(p.grad is not None for p in found.experts.parameters())


# Stages -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "router", "parts"),
    [
        ("first", "learned", {"vision", "bridge", "lm"}),
        ("second", "template", {"experts"}),
        ("second", "learned", {"experts", "router"}),
        ("joint", "learned", {"vision", "bridge", "lm", "experts", "router"}),
    ],
)
def test_each_stage_trains_its_parts_and_nothing_else(stage, router, parts):
    found = model(stage, router=router).train()
    given = batch(found, True)
    before = {n: p.detach().clone() for n, p in found.named_parameters()}
    optimizer = torch.optim.SGD([p for p in found.parameters() if p.requires_grad], 0.1)
    sum(AnswerLoss()(found(given), given).values()).backward()
    optimizer.step()
    moved = {
        n.partition(".")[0] for n, p in found.named_parameters() if not torch.equal(p, before[n])
    }
    assert moved == parts
    trained = {n.partition(".")[0] for n, p in found.named_parameters() if p.requires_grad}
    assert trained == parts
    if stage == "second":
        assert not any(getattr(found, part).training for part in found.frozen_parts)


def test_a_second_stage_starts_from_a_first_one(tmp_path):
    first = model("first")
    torch.save(pack(first), tmp_path / "first.ckpt")
    second = model("second", seed=1, router="learned")
    report = load(second, tmp_path / "first.ckpt", new=second.adapter_parts)
    assert {n.partition(".")[0] for n in report.fresh} == {"experts", "router"}
    assert any("no cross_attention" in note for note in report.notes)
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name
    torch.save(pack(second), tmp_path / "second.ckpt")
    with pytest.raises(UserError, match=r"second stage: say model\.stage=second"):
        load(model("first"), tmp_path / "second.ckpt")
    with pytest.raises(
        UserError, match=r"trained with 3 experts, this model has 2: say model\.exp"
    ):
        load(model(experts={"count": 2}, router="learned"), tmp_path / "second.ckpt")
    with pytest.raises(
        UserError, match=r"experts of theme, objects, relations, this model of theme"
    ):
        tasks = ["theme", "objects", "positions"]
        load(
            model(experts={"count": 3, "tasks": tasks}, router="learned"), tmp_path / "second.ckpt"
        )
    torch.save(pack(build("blip2_tiny")), tmp_path / "blip2.ckpt")
    with pytest.raises(UserError, match="does not fit the model"):
        load(second, tmp_path / "blip2.ckpt", new=second.adapter_parts)


def test_the_second_stage_of_a_block_tuned_by_lora(tmp_path):
    lora = {"tuning": "lora"}
    first = model("first", lm=lora)
    torch.save(pack(first), tmp_path / "first.ckpt")
    second = model("second", lm=lora, seed=2)
    load(second, tmp_path / "first.ckpt", new=second.adapter_parts)
    assert not any(p.requires_grad for p in second.lm.parameters())
    assert any(".base_layer" in name for name in second.experts.groups[0].adapters.names)
    second(batch(second, True))


# Combination ------------------------------------------------------------------------------


def test_parts_become_a_text():
    assert (
        concatenated(["A port. Two ships.", "", "two ships. A pier."])
        == "A port. Two ships. A pier."
    )
    parts = [Part("theme", "", "", score=-0.1), Part("objects", "", "two", score=-0.5)]
    assert best(parts).text == "two"
    assert summary_prompt("Describe.", [("theme", "a port"), ("objects", "")]) == (
        "Describe. theme: a port"
    )


def test_answers_carry_each_experts_prompt_and_part():
    found = model()
    described, counted, _ = found.generate(batch(found, False), max_new_tokens=5)
    assert [part.expert for part in described.parts] == ["theme", "objects", "relations"]
    assert all(part.prompt.startswith("Describe the picture") for part in described.parts)
    assert described.text == concatenated([part.text for part in described.parts])
    assert [part.expert for part in counted.parts] == ["objects"]
    assert counted.text == counted.parts[0].text and not described.finished
    small = found.generate(batch(found, False), max_new_tokens=5, rows=1)
    assert [a.text for a in small] == [a.text for a in (described, counted, _)]


def test_an_expert_that_says_nothing_is_left_out(monkeypatch):
    found = model()
    said = iter(["a port.", "", "near a pier."])
    monkeypatch.setattr("rsvlm.models.rsmoe.model.text_of", lambda lm, text: next(said))
    (answer,) = found.generate(batch(found, False, samples()[:1]), max_new_tokens=2)
    assert answer.text == "a port. near a pier."
    assert [part.text for part in answer.parts] == ["a port.", "", "near a pier."]


def test_mixed_probabilities_write_one_text():
    logits = torch.randn(3, 7).log_softmax(-1)
    weights = torch.tensor([0.5, 0.3, 0.2])
    mixed = MixExperts(weights, 3)(torch.zeros(3, 1), logits)
    assert torch.allclose(mixed[0].exp(), (weights[:, None] * logits.exp()).sum(0), atol=1e-6)
    assert torch.equal(mixed[0], mixed[2])
    for beams in (1, 2):
        found = model(combine="logits", generation={"num_beams": beams})
        for answer in found.generate(batch(found, False), max_new_tokens=5):
            assert {part.text for part in answer.parts} == {answer.text}
            assert sum(part.weight for part in answer.parts) == pytest.approx(1)
    given = batch(found, True)
    found(given)["token_losses"][:, 0].sum().backward()
    grads = [p.grad for p in found.experts.parameters()]
    assert all(torch.isfinite(grad).all() for grad in grads)


@pytest.mark.parametrize(("kind", "shares"), [("template", [0, 1, 0]), ("none", [1 / 3] * 3)])
def test_of_one_text_a_template_lets_one_expert_answer_a_question(kind, shares):
    router = Router(kind, ("theme", "objects", "relations"), dim=4)
    given = batch(model("first"), True)
    found = router(given.instructions, torch.zeros(3, 4), answers=given.answers, together=True)
    weights = found.weights.view(3, 3)  # [tasks, dialogues]
    assert weights[:, 0].tolist() == pytest.approx([1 / 3] * 3)
    assert weights[:, 1].tolist() == pytest.approx(shares)
    assert all(each.target == given.answers[each.dialogue] for each in found.asked)


def test_the_block_learns_to_summarise_in_the_first_stage():
    plain, found = model("first"), model("first", combine="summarised")
    words = [len(m(batch(m, True))["targets"]) for m in (plain, found)]
    described = batch(found, True, samples()[:1])
    assert words[1] - words[0] == len(plain(described)["targets"])
    second = model(combine="summarised", draft=True)
    answer = second.generate(batch(second, False), max_new_tokens=4)[0]
    assert len(answer.parts) == 3 and "A first answer" in answer.parts[0].prompt


def test_drafts_are_kept_in_the_second_stage_alone(monkeypatch):
    asked = []
    write = RSMoE.write
    monkeypatch.setattr(RSMoE, "write", lambda *a, **k: asked.append(1) or write(*a, **k))
    for stage, calls in (("second", 1), ("joint", 2)):
        asked.clear()
        found = model(stage, draft=True, generation={"max_new_tokens": 3})
        given = batch(found, True)
        found(given)
        found(given)
        assert len(asked) == calls


# Bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"experts": {"count": 5}}, r"count=5 needs as many tasks with prompts"),
        (
            {"experts": {"count": 2, "tasks": ["theme"]}},
            r"a task, with its prompt, for each expert",
        ),
        ({"experts": {"count": 1, "tasks": ["mood"]}}, r"'mood' is made of aspects"),
        (
            {"experts": {"count": 1, "tasks": ["theme+positions"]}},
            r"theme\+positions has no prompt",
        ),
        (
            {"experts": {"count": 3}, "prompts": {"theme": " "}},
            r"the expert of theme has no prompt",
        ),
        ({"experts": {"kount": 3}}, r"Did you mean count"),
        (
            {"experts": {"lora": {"targets": ["q_proj", "c_attn"]}}},
            r"no layer 'c_attn'\. Its linear",
        ),
        ({"experts": {"lora": {"targets": ["cross_attention"]}}}, r"name no layer of"),
        ({"experts": {"lora": {"r": 0}}}, r"r=0: it must be 1 or more"),
        ({"router": "softmax"}, r"router='softmax' is not known"),
        ({"combine": "vote"}, r"combine='vote' is not known"),
        ({"stage": "third"}, r"stage='third' is not known"),
        ({"routing": {"top_k": 0}}, r"top_k=0"),
    ],
)
def test_bad_options_are_told(options, message):
    with pytest.raises(UserError, match=message):
        model(**options)


def test_what_several_language_models_cannot_do():
    other = LanguageModel("tiny", words=["a"])
    for options in ({"router": "learned"}, {"combine": "logits"}):
        with pytest.raises(UserError, match="mixes experts within one language model"):
            model(expert_lms=[other], **options)
    with pytest.raises(UserError, match="2 language models for 3 experts"):
        model(expert_lms=[other, None])
    found = model(combine="logits")
    with pytest.raises(UserError, match="cannot write one text"):
        found.generate(batch(found, False), do_sample=True)


def test_a_prompt_longer_than_the_window():
    found = model(
        lm={
            "size": {
                "model_type": "llama",
                "hidden_size": 64,
                "num_hidden_layers": 1,
                "num_attention_heads": 4,
                "intermediate_size": 64,
                "max_position_embeddings": 24,
            }
        }
    )
    with pytest.raises(UserError, match=r"do not fit its language model's window of 24"):
        found(batch(found, True))


def test_shuffled_instructions_change_the_routing():
    """The kind of a question says which expert is asked, as long as it is its own question."""
    kinds, asked = [], []
    scenes = Scenes("train", n=40, size=64)
    for number in range(len(scenes)):
        for question in questions(scenes.scene(number)):
            kinds.append(question.kind)
            asked.append(question.text)
    router = Router("template", ("theme", "objects", "relations"), dim=4)

    def information(instructions):
        found = router(instructions, torch.zeros(len(instructions), 4))
        routed = [(kinds[each.dialogue], router.tasks[each.task], 1.0) for each in found.asked]
        return routing_statistics(routed, router.tasks)

    own = information(asked)
    shuffled = information(asked[7:] + asked[:7])
    assert own["information"] > 1 and not own["collapsed"]
    assert shuffled["information"] < 0.3 * own["information"]
