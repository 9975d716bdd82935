"""loopos/text/chat.py: the same text as transformers; messages of the wrong kind."""

import numpy as np
import pytest

from loopos.text.chat import render

CHAT = [
    {"role": "system", "content": "Be  brief.\n"},
    {"role": "user", "content": "<b>hi</b> & 'you' é 😀"},
    {"role": "assistant", "content": "Hello.\n\n", "tool_calls": None},
    {"role": "user", "content": "more"},
    {
        "role": "assistant",
        "content": "",
        "reasoning": "why",
        "tool_calls": [{"name": "f", "arguments": {"a": [1, None]}}],
    },
]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
)
TEMPLATES = {
    "chatml": CHATML + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "blocks": """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] | trim %}
    {%- set rest = messages[1:] %}
{%- endif %}
{% for m in rest %}
  {% if loop.first and system is defined %}
[{{ system }}]
  {% endif %}
  {%- if m.role == 'assistant' -%}
    {% generation %}{{ m.content ~ eos_token }}{% endgeneration %}
  {% else %}
{{ m.role | upper }}: {{ m.content }}
  {% endif %}
{% endfor %}
""",
    "namespace and tools": """{%- set ns = namespace(last=messages|length - 1, multi=true) %}
{%- for m in messages[::-1] %}{%- set i = (messages|length - 1) - loop.index0 %}
{%- if ns.multi
and m.role == "user" and not (m.content.startswith('<tool>') and m.content.endswith('</tool>')) %}
{%- set ns.multi = false %}{%- set ns.last = i %}{%- endif %}{%- endfor %}
{%- if tools %}{{- '<tools>' }}
{%- for t in tools %}{{- '\n' }}{{- t | tojson }}{%- endfor %}{{- '</tools>' }}{%- endif %}
{%- for m in messages %}{%- if m.content is string %}{{- m.content.lstrip('\n').split('</think>')[-1] }}{%- endif %}
{%- if m.reasoning_content is defined %}<think>{{ m.reasoning_content }}|{{ m.thinking }}</think>{%- endif %}
{%- if m.tool_calls %}{%- for c in m.tool_calls %}{{- c.arguments | tojson(indent=2) }}{%- endfor %}{%- endif %}
{%- if loop.index0 > ns.last
 and enable_thinking is defined and enable_thinking is false %}!{%- endif %}{%- endfor %}""",
    "macros": """{%- macro line(m, first) -%}{{ m.role }}{% if first %}*{% endif %}: {{ m.content | trim }}
{%- endmacro -%}
{{ strftime_now("%Y")[:2] }}
{% for m in messages %}{{ line(m, loop.first) }}{{ "\n" if not loop.last else "" }}{% endfor %}
{% for m in messages | selectattr("role", "equalto", "user") | list %}
{{ loop.index }}{{ m.content | length }}{% endfor %}
{{ messages | map(attribute="role") | unique | join(",") }}{{ (messages | last).get("nothing", "none") }}""",
}


@pytest.mark.reference
@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("prompt", [False, True])
def test_the_text_is_that_of_transformers(name, prompt):
    compared(TEMPLATES[name], prompt)


def compared(template, prompt=False):
    pytest.importorskip("jinja2", reason="the extra [hf]")
    utils = pytest.importorskip("transformers.utils.chat_template_utils", reason="the extra [reference]")
    variables = {"bos_token": "<s>", "eos_token": "</s>", "enable_thinking": False}
    theirs, spans = utils.render_jinja_template(
        [[{key: value for key, value in m.items() if value is not None} for m in CHAT]],
        tools=TOOLS,
        chat_template=template,
        add_generation_prompt=prompt,
        return_assistant_tokens_mask="endgeneration" in template,
        **variables,
    )
    ours = render(template, CHAT, add_generation_prompt=prompt, tools=TOOLS, variables=variables)
    assert ours.text == theirs[0]
    assert ours.answers == [tuple(span) for span in (spans[0] if spans else [])]
    return ours


@pytest.mark.real
@pytest.mark.reference
def test_the_template_of_the_real_model(real_gguf):
    gguf = pytest.importorskip("gguf", reason="the extra [gguf]")
    template = gguf.GGUFReader(real_gguf).fields["tokenizer.chat_template"].contents()
    text = compared(template, prompt=True).text
    assert text.startswith("<|im_start|>system\nBe  brief.\n<|im_end|>\n")
    assert text.endswith("<|im_start|>assistant\n")


def test_answers_are_where_the_template_marks_them():
    pytest.importorskip("jinja2", reason="the extra [hf]")
    text, answers = render(TEMPLATES["blocks"], CHAT, variables={"bos_token": "<s>", "eos_token": "</s>"})
    assert [text[start:end] for start, end in answers] == ["Hello.\n\n</s>", "</s>"]


def test_messages_of_the_wrong_kind():
    pytest.importorskip("jinja2", reason="the extra [hf]")
    for wrong, error, message in (
        ("hi", TypeError, "messages must be a list of dicts, got 'hi'"),
        ([], ValueError, "messages must have at least one"),
        (["hi"], TypeError, r"messages\[0\] must be a dict, got 'hi'"),
        ([{"role": "user", "content": np.ones(2)}], TypeError, r"messages\[0\]\['content'\] must be text, a number"),
        ([{"role": "user", "content": open}], TypeError, "must be text, a number"),
    ):
        with pytest.raises(error, match=message):
            render("x", wrong)
    deep = []
    for _ in range(200):
        deep = [deep]
    with pytest.raises(ValueError, match="nested more than 100 deep"):
        render("x", [{"role": "user", "content": deep}])


def test_messages_are_not_changed_and_a_template_sees_a_copy():
    pytest.importorskip("jinja2", reason="the extra [hf]")
    message = {"role": "user", "content": "x", "name": None}
    assert render("{{ messages[0].keys() | list }}", [message]).text == "['role', 'content']"
    assert message == {"role": "user", "content": "x", "name": None}
