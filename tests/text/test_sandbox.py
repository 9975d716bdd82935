"""loopos/text/sandbox.py: what a hostile template meets, and that the limits leave ordinary ones alone."""

import subprocess
import sys
import time

import pytest

from loopos.text.chat import render

CHAT = [{"role": "user", "content": "hi"}]


@pytest.fixture(autouse=True)
def _extra():
    pytest.importorskip("jinja2", reason="the extra [hf]")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ ''.__class__.__mro__ }}", "does what a template may not: access to attribute '__class__'"),
        ("{{ messages.append(1) }}", "may not: access to attribute 'append'"),
        ("{{ namespace(__class__=1) }}", "'__class__' of a namespace begins with an underscore"),
        ("{% set n = namespace() %}{% set n.__class__ = 1 %}", "begins with an underscore"),
        ("{{ dict.fromkeys('ab') }}{{ dict.__init__.__globals__ }}", "fail|refuse|may not"),
        ("{{ cycler.__init__.__globals__.os }}", "refuses|may not"),
        ("{% include '/etc/hostname' %}", "fails with these messages"),
        ("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}", "stopped: it runs more than"),
        ("{% for a in range(99999) %}{{ 'x' * 10000 }}{% endfor %}", "a value of 671[0-9]+ characters"),
        ("{{ 'a' * 10 ** 9 }}", "stopped: it makes a value of 1000000000 characters"),
        ("{{ [0] * 10 ** 9 }}", "stopped"),
        ("{{ 9 ** (9 ** 9) }}", "stopped"),
        ("{{ 10 ** (10 ** 4) }}", "stopped: it makes a number of"),
        ("{{ 10 ** 4000 * 10 ** 4000 }}", "stopped: it makes a number of"),
        ("{% set n = namespace(s='aa') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}", "stopped"),
        ("{% set n = namespace(s='aa') %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}", "stopped"),
        ("{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}", "stopped: RecursionError"),
        ("{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}", "runs more"),
        ("{{ '%999999999d' % 1 }}", "formats to a width"),
        ("{{ '{:999999999}'.format(1) }}", "formats to a width"),
        ("{{ '%s%999999999d' | format(1, 2) }}", "formats to a width"),
        ("{{ 'a' | center(10 ** 10) }}{{ 'a'.center(10 ** 10) }}", "stopped"),
        ("{{ 'a'.ljust(10 ** 10) }}", "stopped"),
        ("{{ ('a\n' * 9999) | indent(10 ** 5) }}", "stopped"),
        ("{{ ('a' * 99999) | replace('a', 'b' * 9999) }}", "stopped"),
        ("{{ ('a' * 99999).replace('a', 'b' * 9999) }}", "stopped"),
        ("{{ [[1]] | tojson(indent=10 ** 9) }}", "stopped"),
        ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "stopped: RecursionError"),
        ("{% set a = 'a' %}" + "{% set a = [a, a] %}" * 60 + "{{ a }}", "stopped"),
        ("{% set a = 'a' %}" + "{% set a = (a, {1: a}) %}" * 60 + "{{ a == a }}", "stopped"),
        ("{% set n = namespace(a='a') %}{% for i in range(60) %}{% set n.a = [n.a] + [n.a] %}{% endfor %}", "stopped"),
        ("{% set n = namespace(a=1) %}{% for i in range(60) %}{% set n.a = [n.a] * 2 %}{% endfor %}", "stopped"),
        ("{% set a = 'a' %}" + "{% set a = [a] | batch(2, a) | list %}" * 60 + "{{ a | tojson }}", "stopped"),
        ("{% set a = 'a' %}" + "{% set a = dict(x=a, y=a) %}" * 60 + "{{ a }}", "stopped"),
        ("{% for", r"cannot be read: .*\(line 1\)"),
        ("{{ raise_exception('no system role') }}", "refuses these messages: no system role"),
        ("{{ messages.foo.bar }}", "refuses these messages"),
        ("{{ messages[0].content + 1 }}", "fails with these messages: TypeError"),
    ],
)
def test_a_hostile_or_broken_template_is_one_sentence_soon(template, message):
    began = time.monotonic()
    with pytest.raises(ValueError, match=message):
        render(template, CHAT)
    assert time.monotonic() - began < 60  # not for ever


def test_what_templates_need_works():
    template = (
        "{% set n = namespace(found=false) %}{% for m in messages recursive %}{{ loop.index0 }}/{{ loop.length }}"
        "{{ loop.last }}{% if m.content == 'stop' %}{% break %}{% endif %}{% set n.found = true %}{% else %}none"
        "{% endfor %} {{ n.found }} {{ dict(a=1) | tojson }} {{ '<é>' | tojson }} {{ [1, 2] | join('-') }} "
        "{{ 'a' ~ 1 ~ none }} {{ 2 ** 10 }} {{ 'ab'.replace('a', 'c') }} {{ '%s!' % 'x' }} {{ '{}'.format(3) }} "
        "{% for k, v in {'k': 'v'}.items() if v %}{{ k }}{{ v }}{% endfor %} {{ range(3) | list }} "
        "{% for a, (b, c) in [(1, [2, 3])] %}{{ a }}{{ b }}{{ c }}{% endfor %}{% set x, y = 4, 5 %}{{ (x, y)[1] }} "
        "{{ strftime_now('%Y') | length }} {{ 'a b'.split() | map('upper') | join(',') }}"
    )
    messages = [*CHAT, {"role": "user", "content": "stop"}]
    assert render(template, messages).text == (
        '0/2False1/2True True {"a": 1} "<é>" 1-2 a1None 1024 cb x! 3 kv [0, 1, 2] 1235 4 A,B'
    )
    long = [{"role": "user", "content": "x" * 1000}] * 5000
    assert len(render("{% for m in messages %}{{ m.content }}{% endfor %}", long).text) == 5_000_000


def test_without_jinja2_the_extra_is_named():
    code = (
        "import sys; sys.modules['jinja2'] = None\n"
        "from loopos.text.chat import render\n"
        "try: render('x', [{'role': 'user', 'content': 'x'}])\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'loopos[hf]'" in done.stdout
