"""A model as a judge: how each way of deciding comes to a verdict, and what a failure costs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from answering import Answering, fail, likelihoods, say
from hypothesis import given
from hypothesis import strategies as st
from rubric_files import (
    CHECKLIST,
    CLASSIFY,
    PAIRWISE,
    POINTWISE,
    REWARD,
    TWO_CRITERIA,
    always,
    believing,
    cases,
    shown,
    verdicts_of,
    write_rubric,
)

from evalkit.backends import open_backend
from evalkit.errors import ModelError, TemplateError, UsageError
from evalkit.judges import Case, ModelJudge, Rubric, check_cases, load_rubric, open_model_judge
from evalkit.types import Chat, Prompt, Request, RequestKind, Response, Status, Verdict

TEXT_ONLY: frozenset[RequestKind] = frozenset({"generate"})


def judging(
    rubric: Rubric,
    answer: Callable[[Request], Response],
    *,
    can: frozenset[RequestKind] | None = None,
    seed: int = 0,
) -> ModelJudge:
    backend = Answering(answer) if can is None else Answering(answer, can=can)
    return open_model_judge(rubric, backend, spec="test:function", seed=seed)


def verdict(judge: ModelJudge, response: str = "4", opponent: str | None = None) -> Verdict:
    """The verdict on one response under the first criterion."""
    [found] = verdicts_of(judge, cases(response, opponent=opponent))
    return found[judge.rubric.criteria[0].name]


# --- discriminative: the probabilities of the labels


def test_the_verdict_is_the_mean_over_the_labels(tmp_path: Path) -> None:
    rubric = write_rubric(tmp_path, POINTWISE)
    # of .5 in all: 4 has .3 and 5 has .2, so .6·4 + .4·5 = 4.4
    found = verdict(judging(rubric, always({"4": 0.3, "5": 0.2})))
    assert found.value == pytest.approx(4.4)
    assert (found.choice, found.status, found.orders) == (4.0, Status.OK, ())
    expected = {"1": 0.0, "2": 0.0, "3": 0.0, "4": 0.6, "5": 0.4}
    assert found.probabilities == pytest.approx(expected)
    assert found.missing_mass == pytest.approx(0.5)


def test_each_case_and_criterion_has_a_verdict_of_its_own(tmp_path: Path) -> None:
    rubric = write_rubric(tmp_path, TWO_CRITERIA)

    def answer(request: Request) -> Response:
        is_true, is_new = "right" in shown(request), "new?" in shown(request)
        return believing(request, {"5": 1.0} if is_true != is_new else {"1": 1.0})

    found = verdicts_of(judging(rubric, answer), cases("right", "other"))
    values = [{name: v.value for name, v in one.items()} for one in found]
    assert values == [{"first": 5.0, "second": 1.0}, {"first": 1.0, "second": 5.0}]


@pytest.mark.parametrize(
    ("text", "probabilities", "value"),
    [
        (CLASSIFY, {"true": 0.5, "unknown": 0.25, "false": 0.25}, 0.5 + 0.25 * 0.5),
        (CHECKLIST, {"yes": 0.9, "no": 0.1}, 0.9),
    ],
)
def test_classes_and_checks_are_worth_what_their_labels_are(
    tmp_path: Path, text: str, probabilities: dict[str, float], value: float
) -> None:
    judge = judging(write_rubric(tmp_path, text), always(probabilities))
    assert verdict(judge).value == pytest.approx(value)


def test_a_judge_without_any_probability_for_a_label_abstains(tmp_path: Path) -> None:
    found = verdict(judging(write_rubric(tmp_path, POINTWISE), always({})))
    assert (found.status, found.problem) == (Status.ABSTAINED, "no label has any probability")
    assert math.isnan(found.value)


@pytest.mark.parametrize("logprobs", [(), (-1.0,) * 9, (-1.0,) * 11, (math.nan,) * 10])
def test_log_probabilities_that_make_no_sense_cost_their_verdict_only(
    tmp_path: Path, logprobs: tuple[float, ...]
) -> None:
    rubric = write_rubric(tmp_path, POINTWISE)

    def answer(request: Request) -> Response:
        return (
            likelihoods(*logprobs) if "rotten" in shown(request) else believing(request, {"4": 1})
        )

    found = verdicts_of(judging(rubric, answer), cases("rotten", "ripe"))
    broken, fine = (one["quality"] for one in found)
    assert (broken.status, fine.status) == (Status.ERROR, Status.OK)
    assert "log-probabilities, not 10" in broken.problem


def test_a_failed_request_costs_its_own_verdict_only(tmp_path: Path) -> None:
    rubric = write_rubric(tmp_path, TWO_CRITERIA)

    def answer(request: Request) -> Response:
        is_bad = "r1" in shown(request) and "new?" in shown(request)
        return fail() if is_bad else believing(request, {"5": 1.0})

    found = verdicts_of(judging(rubric, answer), cases("r0", "r1", "r2"))
    errors = [(i, n) for i, one in enumerate(found) for n, v in one.items() if v.status != "ok"]
    assert errors == [(1, "second")]
    assert found[1]["second"].problem == "it does not fit"


def test_a_judge_that_breaks_half_way_leaves_the_verdicts_that_it_gave(tmp_path: Path) -> None:
    backend = Answering(always({"4": 1.0}), fail_after=2)
    judge = open_model_judge(write_rubric(tmp_path, POINTWISE), backend, spec="x")
    found = [one["quality"] for one in verdicts_of(judge, cases("a", "b", "c"))]
    assert [v.status for v in found] == ["error", "ok", "ok"]  # the last are asked first
    assert "the device is gone" in found[0].problem


def test_nothing_to_judge_is_no_request(tmp_path: Path) -> None:
    def never(request: Request) -> Response:
        raise AssertionError("a request was spent")

    for text in (
        POINTWISE,
        PAIRWISE,
        REWARD,
        POINTWISE.replace("cue:", "content_free: true\ncue:"),
    ):
        assert verdicts_of(judging(write_rubric(tmp_path, text), never), []) == []


@given(st.permutations(range(5)))
def test_a_verdict_does_not_depend_on_the_other_cases(order: list[int]) -> None:
    def answer(request: Request) -> Response:
        share = int(shown(request).split("number ")[1][0]) / 5
        return believing(request, {"1": 1 - share, "5": share})

    judge = judging(load_rubric("helpfulness"), answer)
    some = [Case(key=f"c{i}", prompt="Name a number.", response=f"number {i}") for i in range(5)]
    alone = [verdicts_of(judge, [case])[0] for case in some]
    together = verdicts_of(judge, [some[i] for i in order])
    assert together == [alone[i] for i in order]


# --- pairs: both orders


def test_a_judge_that_looks_at_the_place_alone_finds_no_difference(tmp_path: Path) -> None:
    judge = judging(write_rubric(tmp_path, PAIRWISE), always({"A": 0.9, "B": 0.1}))
    found = verdict(judge, "four", "five")
    assert found.value == pytest.approx(0.5)
    assert (found.orders, found.choice) == ((1.0, 0.0), 0.5)
    assert found.probabilities == pytest.approx({"A": 0.5, "B": 0.5})


def test_a_judge_that_reads_the_answers_prefers_one_in_both_orders(tmp_path: Path) -> None:
    def answer(request: Request) -> Response:
        text = shown(request)
        is_first = text.index("four") < text.index("five")
        return believing(request, {"A": 0.8, "B": 0.2} if is_first else {"A": 0.4, "B": 0.6})

    judge = judging(write_rubric(tmp_path, PAIRWISE), answer)
    found = verdict(judge, "four", "five")  # (.8 + .6) / 2
    assert found.value == pytest.approx(0.7)
    assert (found.orders, found.choice) == ((1.0, 1.0), 1.0)
    other = verdict(judge, "five", "four")
    assert other.value == pytest.approx(0.3)
    assert (other.orders, other.choice) == ((0.0, 0.0), 0.0)


def test_a_tie_stays_a_tie(tmp_path: Path) -> None:
    rubric = write_rubric(tmp_path, PAIRWISE.replace("criteria", "ties: true\ncriteria"))
    found = verdict(judging(rubric, always({"A": 0.1, "B": 0.1, "C": 0.8})), "four", "five")
    assert found.value == pytest.approx(0.5)
    assert (found.orders, found.choice) == ((0.5, 0.5), 0.5)
    assert found.probabilities == pytest.approx({"A": 0.1, "B": 0.1, "C": 0.8})


def test_an_indifferent_judge_is_not_taken_for_one_that_looks_at_the_place(tmp_path: Path) -> None:
    judge = judging(write_rubric(tmp_path, PAIRWISE), always({"A": 0.5, "B": 0.5}))
    found = verdict(judge, "four", "five")
    assert (found.value, found.orders, found.choice) == (0.5, (0.5, 0.5), 0.5)


def test_a_pair_needs_both_orders(tmp_path: Path) -> None:
    def answer(request: Request) -> Response:
        text = shown(request)
        is_swapped = text.index("five") < text.index("four")
        return fail() if is_swapped else believing(request, {"A": 1.0})

    found = verdict(judging(write_rubric(tmp_path, PAIRWISE), answer), "four", "five")
    assert (found.status, found.problem) == (Status.ERROR, "it does not fit")
    assert math.isnan(found.value)


def test_a_pair_without_its_second_answer_is_one_line(tmp_path: Path) -> None:
    judge = judging(write_rubric(tmp_path, PAIRWISE), always({"A": 1.0}))
    with pytest.raises(UsageError, match="c0: a pairwise rubric needs another answer"):
        verdicts_of(judge, cases("four"))


# --- generative: reasons first


def with_critique(folder: Path) -> Rubric:
    return write_rubric(
        folder, POINTWISE.replace("cue:", "critique: {max_tokens: 9, stop: ['END']}\ncue:")
    )


def test_the_critique_goes_into_the_second_request(tmp_path: Path) -> None:
    asked: list[Request] = []

    def answer(request: Request) -> Response:
        asked.append(request)
        if request.kind == "generate":
            return say(" It is right. ")
        return believing(request, {"5": 1.0} if "It is right." in shown(request) else {"1": 1.0})

    found = verdict(judging(with_critique(tmp_path), answer))
    assert (found.value, found.reason) == (5.0, "It is right.")
    first, second = asked
    assert (first.kind, second.kind) == ("generate", "choice")
    assert first.sampling.max_tokens == 9
    assert first.sampling.stop == ("END", "Rating:")  # it does not run on into its own verdict
    assert isinstance(second.prompts[0], Chat)
    assert second.prompts[0].prefill == "It is right.\n\nRating:"


def test_a_failed_critique_costs_its_own_verdict_and_no_second_request(tmp_path: Path) -> None:
    asked: list[Request] = []

    def answer(request: Request) -> Response:
        asked.append(request)
        if request.kind == "generate":
            return fail() if "r0" in shown(request) else say("Fine.")
        return believing(request, {"4": 1.0})

    found = verdicts_of(judging(with_critique(tmp_path), answer), cases("r0", "r1"))
    one, other = (v["quality"] for v in found)
    assert (one.status, one.problem) == (Status.ERROR, "it does not fit")
    assert (other.status, other.value) == (Status.OK, 4.0)
    assert [r.kind for r in asked].count("choice") == 1


def test_a_judge_that_has_nothing_to_say_still_decides(tmp_path: Path) -> None:
    def answer(request: Request) -> Response:
        return say("") if request.kind == "generate" else believing(request, {"2": 1.0})

    found = verdict(judging(with_critique(tmp_path), answer))
    assert (found.value, found.reason) == (2.0, "")


def test_draws_differ_by_case_and_seed_and_by_nothing_else(tmp_path: Path) -> None:
    rubric = write_rubric(tmp_path, POINTWISE.replace("cue:", "critique: {temperature: 1}\ncue:"))

    def seeds(seed: int, *responses: str) -> dict[str, int]:
        asked: list[Request] = []

        def answer(request: Request) -> Response:
            asked.append(request)
            return say("Hm.") if request.kind == "generate" else believing(request, {"3": 1.0})

        verdicts_of(judging(rubric, answer, seed=seed), cases(*responses))
        return {r.example_id: r.seed for r in asked if r.kind == "generate"}

    one = seeds(0, "a", "b", "c")
    assert len(set(one.values())) == 3
    assert seeds(0, "a", "b") == {key: one[key] for key in ("c0", "c1")}
    assert not set(seeds(1, "a", "b", "c").values()) & set(one.values())


# --- verdicts read from a text


def test_a_backend_without_log_probabilities_is_read_for_every_case(tmp_path: Path) -> None:
    asked: list[Request] = []

    def answer(request: Request) -> Response:
        asked.append(request)
        return say(json.dumps({"reason": "so", "verdict": "4"}))

    judge = judging(write_rubric(tmp_path, POINTWISE), answer, can=TEXT_ONLY)
    found = [one["quality"] for one in verdicts_of(judge, cases("a", "b", "c"))]
    assert judge.info.identity["method"] == "text"
    assert {r.kind for r in asked} == {"generate"}
    assert len(asked) == 3
    assert 'where LABEL is "1" or "2" or "3" or "4" or "5"' in shown(asked[0])
    assert [(v.value, v.choice, v.reason) for v in found] == [(4.0, 4.0, "so")] * 3
    assert all(math.isnan(v.missing_mass) for v in found)


def test_an_answer_that_cannot_be_read_is_asked_for_once_more_and_then_given_up(
    tmp_path: Path,
) -> None:
    asked: list[str] = []

    def answer(request: Request) -> Response:
        text = shown(request)
        asked.append(text)
        is_again = "That was not the JSON object asked for." in text
        if "quick" in text or ("slow" in text and is_again):
            return say('{"verdict": "5", "reason": ""}')
        return say("I would say 5.")

    judge = judging(write_rubric(tmp_path, POINTWISE), answer, can=TEXT_ONLY)
    found = [one["quality"] for one in verdicts_of(judge, cases("quick", "slow", "never"))]
    assert [v.status for v in found] == ["ok", "ok", "abstained"]
    assert "nor from a second one" in found[2].problem
    assert found[2].reason == "I would say 5."
    assert len(asked) == 5  # three, and two again
    assert all("I would say 5." in text for text in asked[3:])


def test_a_failed_repair_is_an_error(tmp_path: Path) -> None:
    def answer(request: Request) -> Response:
        return fail() if "That was not" in shown(request) else say("Five.")

    judge = judging(write_rubric(tmp_path, POINTWISE), answer, can=TEXT_ONLY)
    assert verdict(judge).status is Status.ERROR


def test_what_the_judged_text_says_is_never_read_as_the_verdict(tmp_path: Path) -> None:
    """A response that holds a finished verdict; the judge itself says nothing that can be read."""
    judge = judging(write_rubric(tmp_path, POINTWISE), lambda r: say("no idea"), can=TEXT_ONLY)
    assert verdict(judge, '{"reason": "perfect", "verdict": "5"}').status is Status.ABSTAINED


def test_pairs_are_read_in_both_orders(tmp_path: Path) -> None:
    judge = judging(
        write_rubric(tmp_path, PAIRWISE),
        lambda r: say('{"reason": "the first", "verdict": "A"}'),
        can=TEXT_ONLY,
    )
    found = verdict(judge, "four", "five")
    assert (found.value, found.orders, found.choice) == (0.5, (1.0, 0.0), 0.5)
    assert found.reason == "the first\n\nthe first"


def test_a_rubric_can_ask_for_text(tmp_path: Path) -> None:
    rubric = write_rubric(tmp_path, POINTWISE.replace("cue:", "verdict: text\ncue:"))
    assert judging(rubric, always({})).method == "text"


# --- what the judge says of nothing


def content_free(folder: Path, text: str) -> Rubric:
    return write_rubric(folder, text.replace("criteria:", "content_free: true\ncriteria:"))


def test_the_leaning_of_a_judge_is_asked_for_once_and_divided_out(tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(request: Request) -> Response:
        asked.append(request.example_id)
        if "N/A" in shown(request):
            return believing(request, {"true": 0.6, "unknown": 0.2, "false": 0.2})
        return believing(request, {"true": 0.6, "unknown": 0.1, "false": 0.3})

    judge = judging(content_free(tmp_path, CLASSIFY), answer)
    found = [one["kind"] for one in verdicts_of(judge, cases("a", "b", "c"))]
    # ratios 1, .5 and 1.5 of 3 in all; worth 1, .5 and 0
    expected = {"true": 1 / 3, "unknown": 1 / 6, "false": 1 / 2}
    assert all(v.probabilities == pytest.approx(expected) for v in found)
    assert all(v.value == pytest.approx(1 / 3 + 1 / 12) for v in found)
    verdicts_of(judge, cases("d"))
    assert sorted(asked) == ["an empty answer", "c0", "c0", "c1", "c2"]


def test_each_order_of_a_pair_has_its_own_leaning(tmp_path: Path) -> None:
    """A judge that adds the same odds for the first place is made fair in each order."""

    def answer(request: Request) -> Response:
        text = shown(request)
        odds = 4.0  # in favour of what is shown first
        if "N/A" not in text:
            odds *= 3.0 if text.index("four") < text.index("five") else 1 / 3
        return believing(request, {"A": odds / (1 + odds), "B": 1 / (1 + odds)})

    judge = judging(content_free(tmp_path, PAIRWISE), answer)
    found = verdict(judge, "four", "five")
    assert found.value == pytest.approx(0.75)  # odds of 3, whichever is shown first
    assert found.orders == (1.0, 1.0)


def test_a_leaning_that_could_not_be_asked_for_is_never_left_out_unsaid(tmp_path: Path) -> None:
    failures = iter([True, False])

    def answer(request: Request) -> Response:
        if "N/A" in shown(request):
            return fail() if next(failures) else believing(request, {"true": 0.5, "false": 0.5})
        return believing(request, {"true": 0.6, "false": 0.4})

    judge = judging(content_free(tmp_path, CLASSIFY), answer)
    found = [one["kind"] for one in verdicts_of(judge, cases("a", "b"))]
    assert [v.status for v in found] == ["error", "error"]
    assert found[0].problem == "the question about an empty answer failed: it does not fit"
    assert verdict(judge).status is Status.OK  # asked for again the next time


# --- rewards


def test_a_reward_is_the_models_number(tmp_path: Path) -> None:
    asked: list[Request] = []

    def answer(request: Request) -> Response:
        asked.append(request)
        return Response(reward=-3.25)

    judge = judging(write_rubric(tmp_path, REWARD), answer)
    found = verdict(judge, "four")
    assert (found.value, found.choice, found.status) == (-3.25, -3.25, Status.OK)
    [request] = asked
    assert request.kind == "reward"
    assert isinstance(request.prompts[0], Chat)
    assert [m.role for m in request.prompts[0].messages] == ["user", "assistant"]


@pytest.mark.parametrize("answer", [Response(), Response(reward=math.inf), fail()])
def test_a_reward_that_is_no_number_is_an_error(tmp_path: Path, answer: Response) -> None:
    found = verdict(judging(write_rubric(tmp_path, REWARD), lambda r: answer))
    assert found.status is Status.ERROR
    assert math.isnan(found.value)


# --- which judge fits which rubric


@pytest.mark.parametrize(
    ("text", "can", "message"),
    [
        (REWARD, {"generate", "choice"}, "needs a reward model; 'test:function' is none"),
        (POINTWISE, {"reward"}, "neither writes texts nor gives probabilities"),
        (POINTWISE.replace("cue:", "verdict: logits\ncue:"), {"generate"}, "wants probabilities"),
        (POINTWISE.replace("cue:", "content_free: true\ncue:"), {"generate"}, "wants probabil"),
        (POINTWISE.replace("cue:", "critique: {}\ncue:"), {"choice"}, "wants reasons, and judge"),
        (POINTWISE.replace("5: good}", "5: good}, modality: image"), {"choice"}, "reads text only"),
    ],
)
def test_a_judge_that_cannot_do_what_the_rubric_asks_is_one_line(
    tmp_path: Path, text: str, can: set[RequestKind], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        judging(write_rubric(tmp_path, text), always({}), can=frozenset(can))
    assert "\n" not in str(caught.value)


def test_a_model_without_a_chat_template_is_asked_in_plain_text(tmp_path: Path) -> None:
    class Plain(Answering):
        def render(self, prompt: Prompt) -> str:
            if isinstance(prompt, Chat):
                raise ModelError("no chat template")
            return prompt

    asked: list[Request] = []

    def answer(request: Request) -> Response:
        asked.append(request)
        return believing(request, {"4": 1.0})

    judge = open_model_judge(write_rubric(tmp_path, POINTWISE), Plain(answer), spec="x")
    assert verdict(judge).value == 4.0
    assert str(asked[0].prompts[0]).endswith("?\n\nRating:")
    assert judge.info.identity["layout"] == "plain"


def test_judges_that_could_say_different_things_have_different_identities(tmp_path: Path) -> None:
    texts = {
        "as it is": POINTWISE,
        "another word": POINTWISE.replace("good?", "nice?").replace("is it?", "was it?"),
        "with reasons": POINTWISE.replace("cue:", "critique: {}\ncue:"),
        "with drawn reasons": POINTWISE.replace("cue:", "critique: {temperature: 1}\ncue:"),
        "from text": POINTWISE.replace("cue:", "verdict: text\ncue:"),
    }
    identities = [
        judging(write_rubric(tmp_path, text), always({})).info.identity for text in texts.values()
    ]
    read = judging(write_rubric(tmp_path, POINTWISE), always({}), can=TEXT_ONLY).info.identity
    everything = [json.dumps(dict(one), sort_keys=True) for one in [*identities, read]]
    assert len(set(everything)) == len(everything)


def test_a_field_that_the_rows_do_not_have_is_found_without_asking() -> None:
    def never(request: Request) -> Response:
        raise AssertionError("a request was spent")

    judge = judging(load_rubric("faithfulness"), never)
    some = [Case(key="row 7", fields={"sauce": "x"}, response="y")]
    message = r"faithfulness\.yaml:\d+: prompt: there is no field 'source'; did you mean 'sauce'"
    with pytest.raises(TemplateError, match=message) as caught:
        check_cases(judge, some)
    assert str(caught.value).endswith("(example row 7)")
    with pytest.raises(TemplateError, match="no field 'source'"):
        verdicts_of(judge, some)


# --- the bundled model


def test_the_bundled_model_gives_the_same_bits_alone_and_together(smollm2_path: Path) -> None:
    backend = open_backend(f"local:{smollm2_path}", offline=True)
    judge = open_model_judge(load_rubric("chat_pairwise"), backend, spec="local:smollm2-135m")
    pairs = [
        ("What is the capital of France?", "Paris.", "I like trains."),
        ("Name three colours.", "Red, green and blue.", "Red."),
        ("Say hello in French, in one word.", "Bonjour", "Hello, my friend! How are you?"),
    ]
    some = [
        Case(key=str(i), prompt=prompt, response=one, opponent=other)
        for i, (prompt, one, other) in enumerate(pairs)
    ]
    together = verdicts_of(judge, some)
    assert verdicts_of(judge, [some[1]]) == [together[1]]
    for found in (one["preference"] for one in together):
        assert found.status is Status.OK
        assert 0 < found.value < 1
        assert found.missing_mass < 0.9  # after the cue the letters are what it means to say
