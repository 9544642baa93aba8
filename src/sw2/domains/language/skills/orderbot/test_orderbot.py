"""OrderBot: references pass, planted flaws are named, splits are apart, and any bot can be put to the customers."""

import copy
import json
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sw2.domains.language.skills.basis import SPLITS, assistant, call, calls_of, ends_well, result
from sw2.domains.language.skills.checking import check_answer, examples
from sw2.domains.language.skills.orderbot.customer import asks, goal
from sw2.domains.language.skills.orderbot.menus import hand_menu, hand_menus, prices
from sw2.domains.language.skills.orderbot.pad import Pad, written
from sw2.domains.language.skills.orderbot.talks import simulate, simulate_many
from sw2.domains.language.skills.orderbot.voices import MIXED, families, handwritten_orders


@given(st.integers(0, 10**6), st.sampled_from(SPLITS), st.integers(0, 9))
def test_every_reference_is_well_formed_and_right(seed, split, number):
    example = examples("orderbot", split, seed, 10)[number]
    assert ends_well(example["messages"]) is None
    verdict = check_answer(example, example["messages"])
    assert (verdict.passed, verdict.score, verdict.flaws) == (True, 1.0, ())
    assert verdict.details["followed"]
    assert verdict.details["calculator"] or "turns" in example["check"]


def test_splits_share_no_food_no_wording_and_no_menu():
    made = {split: examples("orderbot", split, 0, 100) for split in SPLITS}
    dishes = {
        split: {dish for each in made[split] for dish in each["check"]["menu"]["items"][each["check"]["menu"]["main"]]}
        for split in SPLITS
    }
    wordings = {split: {each["family"] for each in made[split]} for split in SPLITS}
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not dishes[one] & dishes[other]
        assert not wordings[one] & wordings[other]
        assert not set(families(one)) & set(families(other))
    assert len(set.union(*dishes.values())) >= 60


def test_train_sells_nothing_that_the_other_splits_sell():
    def sold(split):
        menus = [each["check"]["menu"] for each in examples("orderbot", split, 3, 150)]
        return {name for menu in menus for of in (*menu["items"].values(), menu["extras"]) for name in of}

    assert not sold("train") & (sold("validation") | sold("test"))


def _by_pace(count):
    """Examples of train: quick ones, brief ones, busy ones."""
    made = examples("orderbot", "train", 0, count)
    return [[each for at, each in enumerate(made) if at // 6 % 3 == pace] for pace in range(3)]


def test_customers_of_train_read_the_same_menu_in_twos_and_quick_and_brief_ones_in_sixes():
    quick, brief, busy = ([str(each["check"]["menu"]) for each in of] for of in _by_pace(72))
    for of in (quick, brief):
        assert all(len(set(of[begin : begin + 6])) == 1 for begin in range(0, 24, 6))
    assert busy[::2] == busy[1::2]
    assert len({*quick, *brief, *busy}) == 4 + 4 + 12
    assert len({str(each["check"]["script"]) for of in _by_pace(72) for each in of}) == 72


def test_brief_customers_of_train_order_all_in_one_message_and_are_judged_by_the_pad():
    _, brief, _ = _by_pace(180)
    for each in brief:
        _, said, written, _, asked, *further = each["messages"]
        (name, arguments) = calls_of([written])[0]
        assert (said["role"], name, asked["role"]) == ("user", "order_pad", "assistant")
        assert sum(message["role"] == "user" for message in further) == each["check"]["turns"] - 1
        assert 2 <= len(arguments["lines"].split(";")) == len(goal(each["check"]["script"])) <= 4
        assert simulate(_replay(each), each) == each["messages"]
        verdict = check_answer(each, each["messages"])
        assert (verdict.passed, verdict.score) == (True, 1)
        spoiled = copy.deepcopy(each["messages"])
        function = spoiled[2]["tool_calls"][0]["function"]
        function["arguments"] = json.dumps({"lines": arguments["lines"].rpartition(";")[0]})
        verdict = check_answer(each, spoiled[:5])
        assert 0 < verdict.score < 1
        assert verdict.flaws[0].startswith("missing item")
    assert {each["check"]["turns"] for each in brief} == {1, 2, 3}


def test_to_busy_customers_of_train_much_happens():
    quick, _, busy = _by_pace(360)

    def happened(example, kind):
        script = example["check"]["script"]
        return any(
            act["act"] == kind for acts in (*script["plan"], *(b["acts"] for b in script["breaks"])) for act in acts
        )

    for kind in ("swap", "resize", "quantity", "remove", "unknown", "ask"):
        assert sum(happened(each, kind) for each in busy) >= 1.5 * sum(happened(each, kind) for each in quick), kind
    assert max(len(goal(each["check"]["script"])) for each in quick) <= 3
    assert sum(len(str(e["messages"])) for e in busy) > 1.3 * sum(len(str(e["messages"])) for e in quick)


def test_names_of_train_are_nearly_all_new_and_no_question():
    menus = [each["check"]["menu"] for each in examples("orderbot", "train", 0, 300)[::2]]
    names = [name for menu in menus for of in menu["items"].values() for name in of]
    assert len(set(names)) > len(names) / 2
    asked = [name for name in names if asks(f"{name}?", {"items": {}})[0]]
    assert asked == []


def test_customers_of_train_write_in_many_ways():
    assert len(families("train")) >= 16
    made = {split: {each["family"] for each in examples("orderbot", split, 0, 60)} for split in SPLITS}
    assert [MIXED in made[split] for split in SPLITS] == [True, False, False]
    plain, *others = (
        tomllib.loads((Path(__file__).parent / "wordings" / f"{family}.toml").read_text())
        for family in ("plain", *families("train"))
    )
    for other in others:
        assert other.keys() == plain.keys()
        for kind in other.keys() - {"split", "one", "many", "item", "item_bare", "with", "without", "unsure"}:
            assert len(set(other[kind])) >= 6, kind
            words = set(re.findall(r"{\w+}", plain[kind][0]))
            assert all(set(re.findall(r"{\w+}", text)) == words for text in other[kind]), kind


def test_tempers_all_happen():
    tempers = [each["check"]["script"]["temper"] for each in examples("orderbot", "train", 0, 100)]
    assert {"straight", "corrected", "indecisive", "interrupted"} == set(tempers)


def test_orders_written_by_hand_fit_their_menus():
    said = [order for name in hand_menus() for order in handwritten_orders(name)]
    assert len({text for text, _ in said}) == len(said) == 100
    answers = tomllib.loads((Path(__file__).parent / "wordings" / "handwritten.toml").read_text())
    lists = [answers[kind] for kind in answers if isinstance(answers[kind], list)]
    assert len(said) + sum(len(texts) for texts in lists if len(texts) > 2) >= 200
    made = [each for each in examples("orderbot", "test", 0, 500) if each["where"].split("/")[-1][-1] in "16"]
    assert len({each["messages"][1]["content"] for each in made}) == 100
    assert all(goal(each["check"]["script"]) for each in made)


def test_the_lectures_menu_is_in_the_test_alone():
    menu = hand_menu(hand_menus()[0])
    assert menu["items"]["pizza"]["pepperoni pizza"] == {"small": "7.00", "medium": "10.00", "large": "12.95"}
    assert sum(each["check"]["menu"] == menu for each in examples("orderbot", "test", 0, 100)) >= 20
    assert not any(each["check"]["menu"] == menu for each in examples("orderbot", "train", 0, 300))


def _replay(example):
    """A bot that says what the reference said."""
    turns, turn = [], []
    for message in example["messages"][2:]:
        if message["role"] == "user":
            turns, turn = [*turns, turn], []
        else:
            turn.append(message)
    turns.append(turn)
    return lambda messages: turns[sum(message["role"] == "user" for message in messages) - 1]


def test_simulation_repeats_the_reference():
    made = examples("orderbot", "test", 1, 25)
    assert [simulate(_replay(each), each) for each in made] == [each["messages"] for each in made]


def test_many_at_once_are_each_alone_and_calls_are_answered():
    made = list(examples("orderbot", "train", 2, 12))
    bots = {each["messages"][0]["content"] + each["messages"][1]["content"]: _replay(each) for each in made}

    def bot(messages):
        said = bots[messages[0]["content"] + messages[1]["content"]](messages)
        if messages[-1]["role"] == "tool":
            return [message for message in said if message["role"] == "assistant"][-1]
        return said[0]

    talks = simulate_many(lambda waiting: [bot(each) for each in waiting], made)
    assert talks == [each["messages"] for each in made]


def test_a_bot_that_says_nothing_useful_comes_to_an_end():
    example = examples("orderbot", "test", 0, 3)[2]
    talk = simulate(lambda messages: assistant("I like trains."), example)
    verdict = check_answer(example, talk)
    assert not verdict.passed
    assert verdict.flaws == ("no order placed",)
    loop = simulate(lambda messages: call("calculator", {"expression": "1 +"}), example)
    assert loop[-1]["role"] == "assistant"
    assert "error: a number was expected instead of the end" in loop[-2]["content"]


def _placed(example, change):
    messages = copy.deepcopy(list(example["messages"]))
    function = messages[-1]["tool_calls"][0]["function"]
    arguments = json.loads(function["arguments"])
    # This call tells the items too, as a bot without a pad would.
    arguments["items"] = check_answer(example, messages).details["placed"]["items"]
    change(arguments)
    function["arguments"] = json.dumps(arguments)
    return check_answer(example, messages)


def _with(example_wants):
    return next(each for each in examples("orderbot", "train", 5, 200) if example_wants(each))


def test_each_planted_flaw_is_named():
    example = _with(
        lambda each: (
            "turns" not in each["check"]
            and each["check"]["script"]["mode"] == "delivery"
            and len(goal(each["check"]["script"])) >= 2
            and goal(each["check"]["script"])[0]["extras"]
        )
    )
    first = goal(example["check"]["script"])[0]["item"]
    planted = {
        f"wrong size: {first}": lambda order: order["items"][0].update(size="gigantic"),
        f"wrong quantity: {first}": lambda order: order["items"][0].update(quantity=7),
        f"wrong extras: {first}": lambda order: order["items"][0].pop("extras"),
        f"missing item: {first}": lambda order: order["items"].pop(0),
        "item not on the menu: dragon stew": lambda order: order["items"].append(
            {"item": "dragon stew", "quantity": 1}
        ),
        f"unwanted item: {first}": lambda order: order["items"].append(order["items"][0]),
        "wrong total": lambda order: order.update(total="1.00"),
        "wrong mode": lambda order: order.update(mode="pickup"),
        "wrong address": lambda order: order.update(address="1 Elsewhere"),
        "wrong payment": lambda order: order.update(payment="shells"),
    }
    for flaw, change in planted.items():
        verdict = _placed(example, change)
        assert flaw in verdict.flaws, flaw
        assert not verdict.passed
        assert verdict.score < 1


@pytest.mark.parametrize(
    ("line", "flaws"),
    [
        ("9: 1 x dragon stew 3.00", {"item not on the menu: dragon stew"}),
        ("1: none", {"missing item", "wrong quantity"}),
        ("1: 7 x ITEM PRICE", {"wrong quantity"}),
        ("1: 1 x ITEM 77.77", {"wrong price: 77.77"}),
        ("what a day", set()),
    ],
)
def test_what_stands_on_the_pad_is_the_order(line, flaws):
    example = _with(lambda each: [line["quantity"] for line in goal(each["check"]["script"])] == [1])
    menu, (wanted,) = example["check"]["menu"], goal(example["check"]["script"])
    price = prices(menu, wanted["item"])[wanted["size"]]
    item = f"{wanted['size']} {wanted['item']}".strip()
    written = call("order_pad", {"lines": line.replace("ITEM", item).replace("PRICE", price)})
    found = check_answer(example, [*example["messages"][:-1], written, example["messages"][-1]]).flaws
    assert flaws <= {flaw if flaw in flaws else flaw.split(":")[0] for flaw in found}
    assert bool(found) == bool(flaws)


@pytest.mark.parametrize("broken", ["", "[1]", '{"items": 3}', '{"items": [null, "x", {"item": 5, "extras": 3}]}', "{"])
def test_a_broken_call_is_an_order_that_is_wrong(broken):
    example = examples("orderbot", "train", 0, 1)[0]
    messages = copy.deepcopy(list(example["messages"]))
    messages[-1]["tool_calls"][0]["function"]["arguments"] = broken
    assert not check_answer(example, messages).passed


def test_a_pad_keeps_what_is_written_and_says_what_to_add_up():
    pad = Pad()
    assert pad.shown() == "empty"
    assert pad.write("2: 1 x tea, size open; 1: 2 x large pie 9.50 + gravy 1.00") == (
        "1: 2 x large pie 9.50 + gravy 1.00; 2: 1 x tea, size open"
    )
    for wrong in ("", "tea", "2 x tea 1.00", "3: tea", "1: none; and more", "1: x"):
        with pytest.raises(ValueError, match="wanted lines such as"):
            pad.write(wrong)
    assert pad.write("2: 1 x small tea 1.20") == (
        "1: 2 x large pie 9.50 + gravy 1.00; 2: 1 x small tea 1.20. Sum: 2 * (9.50 + 1.00) + 1.20"
    )
    assert pad.write("1: none") == "2: 1 x small tea 1.20. Sum: 1.20"
    assert pad.write("2: none") == "empty"


def test_a_new_line_that_tells_the_item_of_an_open_line_is_that_line():
    pad = Pad()
    assert pad.write("1: 1 x green tea, size open; 2: 1 x small tea 1.20").startswith("1: 1 x green tea, size open; ")
    assert pad.write("3: 1 x tea, size open") == (
        "1: 1 x green tea, size open; 2: 1 x small tea 1.20; 3: 1 x tea, size open"
    )
    assert pad.write("4: 1 x large green tea 2.00; 5: 2 x pie 3.00") == (  # a green tea is no answer about the tea
        "1: 1 x large green tea 2.00; 2: 1 x small tea 1.20; 3: 1 x tea, size open; 5: 2 x pie 3.00"
    )
    pad.write("6: 1 x tea, size open; 3: 2 x tea, size open")
    assert "7: 1 x small tea" in pad.write("7: 1 x small tea 1.20")  # two teas are open: which one is not known


@given(st.text(), st.text(alphabet="0123456789:;x .+ano,"))
def test_a_pad_takes_any_text_or_says_what_it_wants(text, alike):
    for each in (text, alike):
        pad = Pad()
        try:
            shown = pad.write(each)
        except ValueError:
            shown = "empty"
        assert shown == pad.shown()


def test_prices_that_are_not_on_the_menu_are_named():
    example = examples("orderbot", "train", 0, 1)[0]
    messages = copy.deepcopy(list(example["messages"]))
    at = next(n for n, message in enumerate(messages) if message["role"] == "assistant")
    messages[at]["content"] += " Today everything is 77.77."
    assert "wrong price: 77.77" in check_answer(example, messages).flaws


def test_a_price_of_another_size_is_named():
    example = _with(
        lambda each: len(next(iter(each["check"]["menu"]["items"][each["check"]["menu"]["main"]].values()))) > 1
    )
    menu = example["check"]["menu"]
    item, of = next(iter(menu["items"][menu["main"]].items()))
    (small, _), (_, dear) = list(of.items())[:2]
    messages = [*example["messages"][:-1], {**example["messages"][-1], "content": f"1 x {small} {item} {dear}."}]
    assert f"wrong price: {item} {dear}" in check_answer(example, messages).flaws


def test_a_bot_that_guesses_is_told_so():
    """It places the right order without having asked: nothing but the guess is wrong."""
    example = _with(
        lambda each: (
            not each["check"]["script"]["breaks"]
            and len(each["check"]["script"]["plan"]) == 1
            and each["check"]["script"]["plan"][0][0]["size"] is None
        )
    )
    item = goal(example["check"]["script"])[0]["item"]
    lines = "; ".join(f"{number}: {line}" for number, line in written(example["messages"]).lines.items())
    writes = call("order_pad", {"lines": lines})
    talk = simulate(lambda messages: [writes, result(Pad().write(lines)), example["messages"][-1]], example)
    flaws = check_answer(example, talk).flaws
    assert f"assumed size: {item}" in flaws
    assert {"assumed mode", "assumed payment"} <= set(flaws)
    assert all(flaw.startswith("assumed") for flaw in flaws)


def test_an_order_in_words_is_read():
    example = _with(
        lambda each: each["check"]["script"]["mode"] == "pickup" and len(goal(each["check"]["script"])) == 1
    )
    line = goal(example["check"]["script"])[0]
    placed = json.loads(example["messages"][-1]["tool_calls"][0]["function"]["arguments"])
    extras = " and ".join(line["extras"]) or "nothing"
    words = f"Your order: {line['quantity']} {line['size']} {line['item']} with {extras}."
    words += f" The total is ${placed['total']}. You pick it up and pay by {placed['payment']}."
    verdict = check_answer(example, [*example["messages"][:-1], assistant(words)])
    assert verdict.details["read from"] == "text"
    assert verdict.score == 1.0, verdict


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Which size of pizza: small 7.00, medium 9.00?", {"size"}),
        ("Would you like it small, medium or large?", {"size"}),
        ("Great choice! How big should the pizza be, and any toppings?", {"size", "extras"}),
        ("Will you pick it up or shall we deliver it?", {"mode"}),
        ("It will be delivered. Cash or card?", {"payment"}),
        ("Please tell me the address.", {"address"}),
        ("Is there anything else you'd like to add?", {"else"}),
        ("Is that correct?", {"else"}),
    ],
)
def test_customers_understand_questions(text, wanted):
    assert asks(text, hand_menu(hand_menus()[0]))[0] == wanted
