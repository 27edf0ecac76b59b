"""Chat templates of strangers: what they take ends, and what is rendered is transformers' own."""

import time

import pytest
from transformers import AutoTokenizer

from jaxpool.errors import RequestError
from jaxpool.scoring.template import load_template, shipped_templates
from jaxpool.text import rendering

LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
GROW = "{% set n = namespace(x=GROWN) %}{% for i in range(99) %}{% set n.x = STEP %}{% endfor %}"


def grown(first, step, last="{{ n.x|length }}"):
    """A value that each round of a loop makes twice as large."""
    return GROW.replace("GROWN", first).replace("STEP", step) + last


SLOW = {
    "nested loops": LOOP,
    "a loop in a message": LOOP.replace("range(99999)", "messages[0].content", 1),
    "recursive macro": (
        "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}"
    ),
    "nested lists": grown("[1]", "[n.x, n.x]", "{{ n.x }}"),
    "power": "{{ ((10 ** 99999) ** 99) ** 99 }}",
    "sorted": "{% for i in range(9999) %}{{ (range(99999)|list)|sort|length }}{% endfor %}",
}
LARGE = {
    "times": "{{ 'a' * 10**9 }}",
    "times of a list": "{{ [1] * 10**9 }}",
    "times in parts": "{% for i in range(99999) %}{{ 'a' * 10**6 }}{% endfor %}",
    "percent": "{{ '%1000000000d' % 1 }}",
    "percent star": "{{ '%*d' % (10**9, 1) }}",
    "format": "{{ '{:1000000000}'.format(1) }}",
    "format in format": "{{ '{:{}}'.format(1, 10**9) }}",
    "format filter": "{{ '%1000000000s'|format(1) }}",
    "center": "{{ 'a'.center(10**9) }}",
    "center filter": "{{ 'a'|center(10**9) }}",
    "ljust": "{{ 'a'.ljust(10**9) }}",
    "zfill": "{{ 'a'.zfill(10**9) }}",
    "tabs": "{{ '\t'.expandtabs(10**9) }}",
    "replace": "{{ ('a' * 10**5).replace('', 'a' * 10**5) }}",
    "replace filter": "{{ ('a' * 10**5)|replace('a', 'a' * 10**5) }}",
    "join": "{{ range(99999)|join('a' * 10**5) }}",
    "join method": "{{ ('a' * 10**5).join('a' * 10**5) }}",
    "indent": "{{ 'a\nb'|indent(10**9) }}",
    "many indents": "{{ ('a\n' * 10**5)|indent(10**5) }}",
    "batch": "{{ 'a'|batch(10**9, 'x')|list }}",
    "slice": "{{ 'a'|slice(10**9, 'x')|list }}",
    "wordwrap": "{{ ('a ' * 10**5)|wordwrap(1, wrapstring='a' * 10**5) }}",
    "tojson": "{{ [1, 2]|tojson(indent=10**9) }}",
    "block": "{% set x %}" + "{% for i in range(99999) %}{{ 'a' * 10**6 }}{% endfor %}{% endset %}",
    "doubled": grown("'ab'", "n.x + n.x"),
    "doubled by a tilde": grown("'ab'", "n.x ~ n.x"),
    "doubled list": grown("[1, 2]", "n.x + n.x"),
    "dict": "{{ dict.fromkeys(range(99999)|list * 1000, 'a')|string * 10**6 }}",
    "long for a prompt": "{{ 'a' * 5 * 10**6 }}",
    "bytes": "{{ ('a' * 10**8).encode('utf-32') }}",
    "lorem": "{{ lipsum(n=10**6, max=10**5) }}",
}
WRONG = {
    "range": "{% for a in range(10**9) %}{% endfor %}",
    "endless macro": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "endless loop": "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "division": "{{ 1 / 0 }}",
    "deep": "{{ " + "(" * 9999 + "1" + ")" * 9999 + " }}",
    "deep blocks": "{% if 1 %}" * 9999 + "{% endif %}" * 9999,
    "open": "{% for a in",
    "unknown filter": "{{ 'a'|evil }}",
    "unknown index": "{{ messages[7].content.x }}",
    "class": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ raise_exception.__globals__['__builtins__']['open'] }}",
    "cycler": "{{ cycler.__init__.__globals__.os.popen('touch canary').read() }}",
    "format escape": "{{ '{0.__class__.__mro__}'.format('').x.y }}",
    "include": "{% include '/etc/passwd' %}",
    "extends": "{% extends '/etc/passwd' %}",
    "import": "{% import 'os' as os %}",
    "append": "{{ messages.append(1) }}",
    "error of a megabyte": "{{ raise_exception('a' * 10**6) }}",
    "attribute": "{% set messages.x = 1 %}",
}


def prompt(template, content="hello", **options):
    return rendering.render(template, [[{"role": "user", "content": content}]], options)[0]


@pytest.mark.parametrize("name", SLOW)
def test_a_template_without_end_is_ended(monkeypatch, name):
    monkeypatch.setattr(rendering, "SECONDS", 0.3)
    with pytest.raises(RequestError, match="^chat template: it takes more "):
        prompt(SLOW[name], "a" * 99999)


@pytest.mark.parametrize("name", LARGE)
def test_a_template_that_takes_memory_is_refused(monkeypatch, name):
    monkeypatch.setattr(rendering, "SECONDS", 1.0)
    with pytest.raises(RequestError, match="^chat template: (it|OverflowError)") as refused:
        prompt(LARGE[name])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", WRONG)
def test_a_template_that_is_wrong_is_an_error_of_one_line(name):
    with pytest.raises(RequestError, match="^chat template") as refused:
        prompt(WRONG[name])
    assert len(str(refused.value)) < 1200


def test_what_was_ended_is_replaced(monkeypatch):
    with monkeypatch.context() as limited, pytest.raises(RequestError):
        limited.setattr(rendering, "SECONDS", 0.1)
        prompt(LOOP)
    assert prompt("{{ messages[0].content }}") == "hello"


def test_long_conversations_are_no_attack():
    """A body as large as the server takes is rendered within its limits."""
    text, began = "wörter " * (32 << 17), time.monotonic()
    assert prompt("{% for m in messages %}{{ m.content|trim }}{% endfor %}", text) == text.strip()
    assert time.monotonic() - began < 30


CHATS = {
    "roles": "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}",
    "tokens": "{{ bos_token }}{{ cls_token }}{% if pad_token %}{{ pad_token }}{% endif %}",
    "json": "{{ messages|tojson(indent=2) }}{{ messages[0]|tojson }}",
    "names": "{% for m in messages %}{{ m.name is defined }}{{ m.keys()|list|sort }}{% endfor %}",
    "generation": "{% generation %}{{ messages[-1].content }}{% endgeneration %}",
    "control": "{% for m in messages %}{% if loop.last %}{% break %}{% endif %}{{ m }}{% endfor %}",
    "prompt": "{{ messages[0].content }}{% if add_generation_prompt %} assistant:{% endif %}",
    "space": "\n {%- set ns = namespace(a=1) %}\n  {{ ns.a }}\n{% if true %}\n  x\n{% endif %}\n",
}
CHATS |= {name: load_template(name).source for name in shipped_templates()}
ROLES = [("system", "S"), ("query", "Qü\ud800"), ("document", "D")]


@pytest.mark.parametrize("name", CHATS)
def test_prompts_are_those_of_transformers(good, name):
    tokenizer = AutoTokenizer.from_pretrained(good)
    given = [[{"role": r, "content": c, "name": None} for r, c in ROLES]] * 300
    options = {"add_generation_prompt": True, "instruction": "I"}
    theirs = tokenizer.apply_chat_template(
        given, chat_template=CHATS[name], tokenize=False, **options
    )
    mine = rendering.render(CHATS[name], given, tokenizer.special_tokens_map | options)
    assert mine == theirs
