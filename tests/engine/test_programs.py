"""Which program serves which tasks: two, and one more where a model has three kinds of results."""

import itertools

from jaxpool.engine.programs import Programs, chains_of
from jaxpool.heads.steps import Dense, Normalize, Pool
from jaxpool.tasks.task import Task

EMBED = Task("embed", (Pool(("mean",)), Normalize()))
TOKENS = EMBED.tokenwise("token_embed")
WEIGHTS = Dense("sparse", 8, 1)
SPARSE = Task("sparse", (WEIGHTS, Pool(("max",))))


def everything(*tasks):
    """The chains of tasks in every precision, and those of late chunks."""
    late = [task.chunked for task in tasks if task.name == "token_embed"]
    every = [one for task in tasks for one in task.variants]
    return tuple(dict.fromkeys(one.program for one in every + late))


PAIR = everything(EMBED, TOKENS)
THREE = everything(EMBED, TOKENS, SPARSE)


def test_a_plain_model_has_two_programs_whatever_is_asked():
    programs = Programs([EMBED, TOKENS])
    assert programs.serving() == [(EMBED.steps,), PAIR]
    assert programs.of(EMBED) == (EMBED.steps,)
    small, late = EMBED.at("ubinary"), TOKENS.chunked
    for asked in (TOKENS, late, (EMBED, TOKENS), (TOKENS, EMBED), small, (small, EMBED)):
        assert programs.of(asked) == PAIR
    assert programs.serving([TOKENS.at("int8")]) == [PAIR]


def test_three_kinds_of_results_have_their_own_and_one_for_every_combination():
    tasks = [EMBED, TOKENS, SPARSE]
    programs = Programs(tasks)
    assert programs.serving() == [(task.steps,) for task in tasks] + [THREE]
    assert programs.serving([TOKENS]) == [(TOKENS.steps,), THREE]
    for count in (2, 3):
        for asked in itertools.permutations(tasks, count):
            assert programs.of(asked) == THREE


def test_documents_are_scored_by_a_program_of_their_own():
    tasks, together = [EMBED, TOKENS], (EMBED, TOKENS)
    scores, both = TOKENS.compared, (EMBED, TOKENS.compared)
    programs = Programs(tasks, {TOKENS: scores, together: both})
    alone = [chains_of(scores), chains_of(both)]
    assert programs.serving() == [(EMBED.steps,), PAIR, *alone]
    assert programs.serving([TOKENS]) == [PAIR, alone[0]]
    assert programs.serving([EMBED]) == [(EMBED.steps,)]
    assert programs.of(both) == alone[1]


def test_a_task_alone_is_all_there_is():
    assert Programs([SPARSE]).serving() == [(SPARSE.steps,)]
    tokens = Programs([TOKENS])
    assert tokens.serving() == [tokens.of(TOKENS.chunked)] == [everything(TOKENS)]


def test_each_route_has_a_program_and_a_place_in_that_of_all():
    query, document = (WEIGHTS, *EMBED.steps), EMBED.steps
    routed = Task("embed", (), routes=(("query", query), ("document", document)))
    tokens = routed.tokenwise("token_embed")
    programs = Programs([routed, tokens])
    *alone, everything = programs.serving()
    assert alone == [(query,), (document,)]
    for kind in ("query", "document"):
        assert programs.of((routed.route(kind), tokens.route(kind))) == everything


def test_what_is_not_of_the_model_has_its_own_program():
    other = Task("embed", (Pool(("max",)),))
    assert Programs([EMBED, TOKENS]).of((other, TOKENS)) == chains_of((other, TOKENS))
