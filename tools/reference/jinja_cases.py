"""The constructs of jinja.py: one template each, about one corner of the language."""

MESSAGES = [
    {"role": "system", "content": "Be  brief.\n"},
    {"role": "user", "content": " Hi <b>\"you\"</b> & 'me'\n\n"},
    {"role": "assistant", "content": "<think>\nhmm\n</think>\n\nHello!"},
    {"role": "user", "content": "2+2? ñ 日本 😀"},
]

VARIABLES = {
    "n": 7,
    "minus": -7,
    "half": 2.5,
    "one": 1.0,
    "yes": True,
    "nothing": None,
    "s": "  Hello, World  ",
    "title": "they're bill's friends",
    "numbers": [3, 1, 2],
    "letters": ["b", "a", "C"],
    "map": {"b": 1, "a": [1, 2, {"x": None}], "c": "ü<>&\"'"},
    "nested": [[1, 2], [3, 4]],
    "lines": "a\nb\r\nc\n",
    "tiny": 1e-7,
    "huge": 1e20,
    "big": 12345678901234567890,
    "tools_given": [
        {
            "type": "function",
            "function": {
                "name": "weather",
                "description": "What it's like in a \"city\" <now>",
                "parameters": {"type": "object", "properties": {"city": {"type": "string", "default": "Köln"}}},
            },
        }
    ],
}

VALUES = r"""
{{ n / 2 }} {{ n // 2 }} {{ n % 3 }} {{ minus // 2 }} {{ minus % 3 }} {{ n ** 2 }} {{ 4 / 2 }} {{ -n }}
{{ 7.5 // 2 }} {{ -7.5 % 2 }} {{ 7 % -3 }} {{ 7 // -2 }} {{ 2 ** -1 }}
{{ half }} {{ one }} {{ big }} {{ 1e3 }} {{ 0.1 + 0.2 }} {{ 1 / 3 }}
{{ yes }} {{ nothing }} {{ not yes }} {{ numbers }} {{ letters }} {{ map }} {{ (1, 2) }} {{ (1,) }} {{ {} }} {{ [] }}
{{ ["it's", 'say "x"', 'both \' "', "a\nb\t\\", "ü", "\x01"] }}
{{ s ~ n ~ yes ~ nothing ~ half ~ numbers }}|{{ 'a' ~ missing ~ 'b' }}
{{ 'ab' * 3 }} {{ [1] * 2 }} {{ [1] + [2] }} {{ (1,) + (2,) }} {{ true + 1 }} {{ (1 == 1) + (2 == 2) }}
{{ 1 == true }} {{ 0 == false }} {{ 1 == 1.0 }} {{ '1' == 1 }} {{ none == false }} {{ [1] == [1.0] }}
{{ 1 < 2 < 3 }} {{ 3 > 2 > 2 }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }}
{{ 'ell' in s }} {{ 3 in numbers }} {{ 'a' in map }} {{ 9 not in numbers }} {{ not 'z' in 'abc' }}
{{ 'y' if n > 5 else 'z' }} {{ 'y' if missing }} {{ 'a' if false else 'b' if false else 'c' }}
{{ (n > 5) and 'big' }} {{ none or 'x' }} {{ '' or 0 or 'z' }} {{ [] and 1 }} {{ missing or 'm' }}
{{ -n|abs }} {{ n|string + 'x' }} {{ 'a' ~ 1 ~ 2 }} {{ 2 * 3 ~ 4 }} {{ not n == 7 }} {{ 2 + 3 * 4 ** 2 }} {{ 2 ** 3 ** 2 }}
{{ 'a' 'b' "c" }}|{{ "tab\tnl\\n\'q\'" }}|{{ '\u00e9\x41\101\U0001F600' }}|{{ '\d\w\/' }}|{{ '\a\v\0' }}
{{ 1_000 }} {{ 0x1F }} {{ 0b11 }} {{ 0o17 }} {{ 1.5e3 }}
{{ "a" if 0.0 else "b" }}{{ "a" if "0" else "b" }}{{ "a" if [0] else "b" }}{{ "a" if {} else "b" }}
{{ bos_token }}|{{ eos_token }}|{{ add_generation_prompt }}|{{ tools is none }}{{ documents is none }}{{ tools is defined }}
"""

LOOKUPS = r"""
{{ missing }}|{{ missing is defined }}|{{ missing is none }}|{{ not missing }}|{{ missing == none }}|{{ missing|length }}
{{ missing.x }}
{{ missing['x'] }}
{{ missing + 'x' }}
{{ 'x' + missing }}
{{ 'x' + 1 }}
{{ 'x' + none }}
{{ none.x }}|{{ n.x }}|{{ s.x }}|{{ numbers.x }}|{{ map.x }}
{{ map.x.y }}
{{ s[0] }}{{ s[2] }}{{ s[-3] }}|{{ s[2:7] }}|{{ s[::-1] }}|{{ s[:-2] }}|{{ s[-4:] }}|{{ s[::2] }}|{{ s[99] }}|{{ s[5:1] }}
{{ numbers[0] }} {{ numbers[-1] }} {{ numbers[1:] }} {{ numbers[::-1] }} {{ numbers[:-1] }} {{ numbers[9] }} {{ numbers[9:] }}
{{ numbers[::-2] }} {{ numbers[2:0:-1] }} {{ numbers[-99:99] }} {{ (1, 2, 3)[1:] }} {{ (1, 2, 3)[::-1] }}
{{ numbers.0 }} {{ nested.1.0 }} {{ numbers['0'] }}
{{ map['a'] }} {{ map.a[2].x }} {{ map.get('b') }} {{ map.get('q') }} {{ map.get('q', 5) }}
{{ map.items()|list }} {{ map.keys()|list }} {{ map.values()|list }} {{ map|items|list }} {{ map|list }} {{ map|dictsort }}
{{ {'a': 1, 'b': [1, 2]}['b'][1] }} {{ {'a': {'b': 2}}.a.b }} {{ {1: 'x'}[1] }} {{ dict(a=1, b=2) }} {{ dict(map, z=1).z }}
{{ messages[0]['role'] }} {{ messages[-1].content }} {{ messages[1:]|length }} {{ messages[::-1][0].role }} {{ messages[9] }}
{{ messages[9].role }}
{{ messages[0].keys()|list }}{{ 'content' in messages[0] }}{{ messages[0].tool_calls is defined }}{{ messages[0].get('x') is none }}
{{ messages[messages|length - 1]['role'] }} {{ (messages|last).role }} {{ messages[0]['content'][:2] }}
"""

TESTS = r"""
{{ s is string }} {{ n is string }} {{ numbers is iterable }} {{ s is iterable }} {{ n is iterable }} {{ map is iterable }}
{{ none is iterable }} {{ missing is iterable }} {{ tools is iterable and tools|length > 0 }}
{{ numbers is sequence }} {{ s is sequence }} {{ map is sequence }} {{ n is sequence }} {{ (1, 2) is sequence }} {{ missing is sequence }}
{{ map is mapping }} {{ numbers is mapping }} {{ n is number }} {{ yes is number }} {{ half is number }} {{ '1' is number }}
{{ yes is integer }} {{ n is integer }} {{ half is integer }} {{ half is float }} {{ n is float }} {{ yes is boolean }} {{ n is boolean }}
{{ yes is true }} {{ yes is false }} {{ 1 is true }} {{ none is none }} {{ n is odd }} {{ n is even }} {{ n is divisibleby 7 }}
{{ n is eq 7 }} {{ n is equalto 7 }} {{ n is ne 7 }} {{ n is gt 3 }} {{ n is lt 3 }} {{ n is ge 7 }} {{ n is in [7] }} {{ n is sameas 7 }}
{{ 'abc' is lower }} {{ 'A' is upper }} {{ raise_exception is callable }} {{ n is callable }} {{ 'tojson' is filter }}
{{ not n is string }} {{ n is not string }} {{ n is string or yes }} {{ n is not none and yes }} {{ 'y' if n is defined else 'z' }}
{{ messages[0].content is string and messages[0].content is not mapping }}
"""

LOOPS = r"""
{% for k, v in map.items() %}{{ k }}={{ v }}{{ ',' if not loop.last }}{{ loop.length }}{% endfor %}
{% for k in map %}{{ k }}{{ loop.last }}{{ loop.revindex }}{% endfor %}
{% for x in numbers|sort %}{{ x }}{{ loop.last }}{% endfor %} {% for x in numbers|reverse %}{{ x }}{{ loop.revindex0 }}{% endfor %}
{% for x in range(3) %}{{ x }}{{ loop.last }}{{ loop.index }}{% endfor %} {{ range(2, 8, 3)|list }} {{ range(5, 0, -2)|list }}
{% for c in 'añ😀' %}[{{ c }}]{% endfor %}
{% for x in missing %}a{% else %}none{% endfor %}{% for x in [] %}a{% else %}none{% endfor %}
{% for x in numbers if x > 1 %}{{ loop.index }}:{{ x }} {{ loop.length }} {{ loop.last }};{% endfor %}
{% for x in numbers %}{{ loop.cycle('a', 'b') }}{{ loop.previtem }}-{{ loop.nextitem }}{{ loop.changed(x) }}{{ loop.first }};{% endfor %}
{% for x in numbers %}{% if loop.index0 == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}
{% for x in numbers %}{% if loop.index0 == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}
{% for a, b in nested %}{{ a + b }} {% endfor %}{% for (a, b) in nested %}{{ a * b }} {% endfor %}
{% for a in nested recursive %}{% if a is iterable %}({{ loop(a) }}){% else %}{{ a }}{% endif %}{% endfor %}
{% for x in numbers %}{% for y in numbers %}{{ loop.index }}{% endfor %}{{ loop.index }};{% endfor %}
{% set x = 1 %}{% for i in numbers %}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }}
{% set ns = namespace(x=1, found=false) %}{% for i in numbers %}{% set ns.x = ns.x + i %}{% if i == 1 %}{% set ns.found = true %}{% endif %}{% endfor %}{{ ns.x }}{{ ns.found }}{{ ns.no }}
{% for message in messages[::-1] %}{% set index = (messages|length - 1) - loop.index0 %}{{ index }}{{ message.role[0] }}{% endfor %}
{% for message in messages %}{{ (message['role'] == 'user') != (loop.index0 % 2 == 0) }}{% endfor %}
{% for i in range(messages|length - 1, -1, -1) %}{{ messages[i].role }} {% endfor %}
{% if yes %}{% set y = 5 %}{% endif %}{{ y }} {% set a, b = 1, 2 %}{{ a }}{{ b }} {% set c = 1, 2 %}{{ c }}
{% set x %}  some {{ n }} text {% endset %}[{{ x }}]{% set x | trim | upper %}  some {% endset %}[{{ x }}]
{% with q = 5, r = 6 %}{{ q + r }}{% set z = 1 %}{% endwith %}{{ z is defined }}
{% filter upper %}abc {{ s }}{% endfilter %}
{% macro m(a, b=2, c=none) %}{{ a }}-{{ b }}-{{ c }};{% endmacro %}{{ m(1) }}{{ m(1, c=3) }}{{ m(1, 2, 3) }}{{ m() }}{{ m(b=1, a=9) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}  x{{ a }}  {% endmacro %}[{{ m(1)|trim }}][{{ m(1)|length }}][{{ m(2) ~ 'z' }}][{{ m(1) + 'y' }}][{{ m(1).strip() }}]
{% macro m() %}{{ x }}{% endmacro %}{% set x = 1 %}{{ m() }}{% set x = 2 %}{{ m() }}
{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}
{% macro r(x) %}{{ x }}{% if x > 0 %}{{ r(x - 1) }}{% endif %}{% endmacro %}{{ r(5) }}
{% macro m() %}<{{ caller(4) }}>{% endmacro %}{% call(x) m() %}body{{ x }}{% endcall %}
{% generation %}words {{ n }}{% endgeneration %}|{%- generation -%}  x  {%- endgeneration -%}  y
{% set q = 1 %}{% generation %}{% set q = 2 %}{{ q }}{% endgeneration %}{{ q }}
{{ "{% generation %}" }}{# {% generation %} #}{% raw %}{% generation %}{% endraw %}
{% set j = joiner(', ') %}{% for x in numbers %}{{ j() }}{{ x }}{% endfor %}
"""

FILTERS = r"""
{{ s|trim }}|{{ 'xxaxx'|trim('x') }}|{{ s|upper }}|{{ title|title }}|{{ title|capitalize }}|{{ 'añ😀'|length }}|{{ '\x1ca\x1f'|trim }}
{{ s|replace('l', 'L') }}|{{ s|replace('l', 'L', 1) }}|{{ s|reverse }}|{{ s|first }}|{{ s|last }}|{{ 'abc'|list }}|{{ nothing|string }}
{{ numbers|join }}|{{ numbers|join(', ') }}|{{ [1, none, true, 'x', 1.0]|join('-') }}|{{ messages|join(',', attribute='role') }}
{{ numbers|sort }}|{{ letters|sort }}|{{ letters|sort(case_sensitive=true) }}|{{ numbers|sort(reverse=true) }}|{{ numbers|max }}|{{ numbers|sum }}
{{ messages|map(attribute='role')|list }}|{{ messages|map(attribute='zzz', default='q')|list }}|{{ letters|map('upper')|join }}
{{ messages|selectattr('role', 'equalto', 'user')|list|length }}|{{ messages|selectattr('role', '==', 'user')|map(attribute='content')|join('~') }}
{{ messages|rejectattr('role', 'in', ['user', 'system'])|list|length }}|{{ messages|selectattr('content')|list|length }}
{{ numbers|select('gt', 1)|list }}|{{ numbers|reject('odd')|list }}|{{ numbers|map('string')|list }}|{{ [1, 1, 2]|unique|list }}
{{ numbers|batch(2)|list }}|{{ numbers|slice(2)|list }}|{{ 'b a c'.split()|sort|join(' ') }}
{% for g, items in messages|groupby('role') %}{{ g }}{{ items|length }}{% endfor %}
{{ missing|default('x') }}|{{ nothing|default('x') }}|{{ nothing|default('x', true) }}|{{ ''|default('x', boolean=true) }}|{{ map.q|d([])|length }}
{{ '3'|int }}|{{ 'z'|int }}|{{ 'z'|int(5) }}|{{ '3.7'|int }}|{{ -3.7|int }}|{{ '3.5'|float }}|{{ 'x'|float }}|{{ 3.14159|round(2) }}|{{ true|int }}
{{ map|tojson }}|{{ s|tojson }}|{{ nothing|tojson }}|{{ yes|tojson }}|{{ one|tojson }}|{{ tiny|tojson }}|{{ huge|tojson }}|{{ big|tojson }}
{{ [1, 'a', none, true]|tojson }}|{{ (1, 2)|tojson }}|{{ {}|tojson }}|{{ []|tojson }}|{{ {1: 2, none: 3, true: 4, 1.5: 5}|tojson }}
{{ map|tojson(indent=2) }}|{{ []|tojson(indent=2) }}|{{ {}|tojson(indent=4) }}|{{ map|tojson(indent='--') }}|{{ map|tojson(indent=0) }}
{{ map|tojson(true) }}|{{ map|tojson(ensure_ascii=true) }}|{{ map|tojson(separators=(',', ':')) }}|{{ map|tojson(sort_keys=true) }}
{{ "\x7f\x00\x1f\u2028\U0001F600é/\b\f"|tojson }}|{{ "\x7fé\U0001F600"|tojson(true) }}
{{ missing|tojson }}
{{ messages|tojson }}
{{ tools_given|tojson(indent=4) }}
{{ map|tojson ~ 'x' }}|{{ (map|tojson) + 'x' }}|{{ map|tojson|safe|length }}
{{ '<a href="x">\'&</a>/'|e }}{{ '<'|e|e }}{{ '<'|escape|length }}
{{ lines|indent(2) }}|{{ lines|indent(2, true) }}|{{ lines|indent(width=3, first=true, blank=true) }}|{{ lines|indent('>>') }}
{{ '%s is %d and %.2f'|format('x', 3, 1.5) }}
"""

METHODS = r"""
{{ s.strip() }}|{{ s.lstrip() }}|{{ s.rstrip() }}|{{ 'xxaxx'.strip('x') }}|{{ '\n\nab\n'.lstrip('\n') }}|{{ s.strip(none) }}|{{ '\x1cab\x1f\x85'.strip() }}
{{ s.upper() }}|{{ s.lower() }}|{{ title.title() }}|{{ title.capitalize() }}|{{ 'HeLLo'.swapcase() }}|{{ 'Straße'.casefold() }}|{{ 'straße'.upper() }}
{{ 'a,b,,c'.split(',') }}|{{ ' a  b '.split() }}|{{ 'a,b,c'.split(',', 1) }}|{{ ''.split(',') }}|{{ ''.split() }}|{{ ' a b c '.split(none, 1) }}
{{ 'a,b,c'.rsplit(',', 1) }}|{{ ' a b  c d '.rsplit(maxsplit=1) }}|{{ 'a,b,c'.split(sep=',', maxsplit=1) }}|{{ 'a b c'.rsplit() }}
{{ 'abc'.split('') }}
{{ 'a</think>b</think>\nc'.split('</think>')[-1].lstrip('\n') }}|{{ 'x'.split('</think>')[0].rstrip('\n').split('<think>')[-1] }}
{{ 'a\nb\r\nc\x0bd\u2028e\n'.splitlines() }}|{{ 'a\nb\n'.splitlines(true) }}|{{ ''.splitlines() }}|{{ 'a\r\nb'.splitlines(keepends=True) }}
{{ s.startswith('  H') }}|{{ s.startswith(('x', '  ')) }}|{{ s.endswith('d  ') }}|{{ s.endswith(('x', 'q')) }}|{{ 'abc'.startswith('') }}
{{ 'abcabc'.find('c') }}|{{ 'abcabc'.rfind('c') }}|{{ 'abc'.find('z') }}|{{ 'ñabc'.index('b') }}|{{ 'ñabb'.rindex('b') }}|{{ 'abcabc'.count('a') }}
{{ 'abc'.index('z') }}
{{ [1, 2, 1].count(1) }}|{{ [1, 2, 1].index(2) }}|{{ 'aaa'.replace('a', 'b', 2) }}|{{ 'abc'.replace('', '-') }}
{{ 'prefix-x'.removeprefix('prefix-') }}|{{ 'x.txt'.removesuffix('.txt') }}|{{ 'x'.removeprefix('y') }}
{{ 'a=b=c'.partition('=') }}|{{ 'a=b=c'.rpartition('=') }}|{{ 'abc'.partition('=') }}|{{ 'abc'.rpartition('=') }}
{{ '7'.zfill(3) }}|{{ '-7'.zfill(4) }}|{{ 'a'.ljust(3) }}|{{ 'a'.rjust(3, '*') }}|{{ 'a'.center(4) }}|{{ 'ab'.center(5, '-') }}
{{ 'abc'.isalpha() }}|{{ '12'.isdigit() }}|{{ 'a1'.isalnum() }}|{{ ' '.isspace() }}|{{ 'Abc'.islower() }}|{{ 'ABC1'.isupper() }}
{{ ', '.join(letters) }}|{{ '-'.join('abc') }}|{{ ''.join([]) }}|{{ '{} {}'.format('a', 1) }}|{{ '{0}{1}{0}'.format('a', 'b') }}
{{ 'abc'.nosuch() }}
{{ numbers.append(4) }}
{{ map.update({'x': 1}) }}
{{ map.pop('a') }}
"""

ERRORS = r"""
{{ raise_exception('my message') }}
{{ raise_exception("it's \"quoted\" é") }}
{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{% if %}x{% endif %}
{% if yes %}x
{% for x in numbers %}a
{{ 1 + }}
{{ foo( }}
{% for %}{% endfor %}
{{ s|nofilter }}
{{ s is notest }}
{% unknown %}
{{ undefined_function() }}
{{ 'unclosed }}
{% endif %}
"""

#: Templates of more than one line.
WHITESPACE = [
    "{%- if true -%}  a  {%- endif -%}  b\n  {% if true %}\n  x\n  {% endif %}\ny\n{%+ if true %}\n x\n{% endif +%}\nz",
    "   {# comment #}\na {# c #} b\n  {#- c -#}\nc\n",
    "{% raw %}{{ not }} {% if %}{% endraw %}\n{% raw -%}   x   {%- endraw %}|\na  {{- 'b' -}}  c {{ 'd' }}\ne",
    "{{ 1 }}{% raw %}\n  {{ x }}\n{% endraw %}\nz",
    'a{{ "multi\nline" }}b',
    "a\r\nb\rc{% if true %}\r\nd{% endif %}\r\n",
    "x\n",
    "x\n\n",
    "\n\n{% if true %}\n\n  y\n{% endif %}\n",
    "{% for i in numbers %}\n  {% generation %}\n  {{ i }}{{ loop.last }}\n  {% endgeneration %}\n{% endfor %}",
    "  {%- set a = 1 %}\n  {{ a }}\n\t{% if a %}\n\t\tb\n\t{%- endif %}\n",
    "  {{ 1 }}  {% if true %}  {% endif %}  ",
    "{%- for m in messages %}\n    {{- m.role }}:\n    {{ m.content }}\n{% endfor -%}\n\n  END",
    "\u00a0{% if true %}x{% endif %}\u00a0\n\u00a0 {% if true %}y{% endif %}",
    "\u3000{%- if true -%}\u3000x\u2028{%- endif %}",
]

#: Whole templates of the difficulty of the families we support, written for this test.
TEMPLATES = [
    # Turns in which only the last answer keeps its thoughts.
    """\
{%- set ns = namespace(last=messages|length - 1, seen=false) %}
{%- for message in messages[::-1] %}
    {%- set at = (messages|length - 1) - loop.index0 %}
    {%- if not ns.seen and message.role == "user" and message.content is string and not (message.content.startswith('<r>') and message.content.endswith('</r>')) %}
        {%- set ns.seen = true %}
        {%- set ns.last = at %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == "assistant" %}
        {%- set content = message.content %}
        {%- set thoughts = '' %}
        {%- if message.reasoning_content is defined and message.reasoning_content is not none %}
            {%- set thoughts = message.reasoning_content %}
        {%- elif '</think>' in message.content %}
            {%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}
            {%- set thoughts = message.content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last and (loop.last or thoughts) %}
            {{- '[' + message.role + ']\\n<think>\\n' + thoughts.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '[' + message.role + ']\\n' + content }}
        {%- endif %}
        {{- '[end]\\n' }}
    {%- else %}
        {{- '[' + message.role + ']\\n' + message.content + '[end]' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '[assistant]\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
""",
    # Strictly alternating roles, the system message in front of the first turn.
    """\
{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set before = messages[0]['content'] + '

' -%}
    {%- else -%}
        {%- set before = messages[0]['content'][0]['text'] -%}
    {%- endif -%}
    {%- set turns = messages[1:] -%}
{%- else -%}
    {%- set before = "" -%}
    {%- set turns = messages -%}
{%- endif -%}
{%- for message in turns -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("roles must alternate") }}
    {%- endif -%}
    {{ '<' + ('model' if message['role'] == 'assistant' else message['role']) + '>
' + (before if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {{ item['text'] | trim }}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("no such content") }}
    {%- endif -%}
    {{ '</>
' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '<model>
' }}
{%- endif -%}
""",
    # Tools, macros and a date.
    """\
{%- macro describe(tool, depth=0) %}
    {{- ' ' * depth ~ tool.name }}: {{ tool.description | default('-', true) }}
    {%- for name, value in tool.parameters.properties.items() %}
        {{- '\\n' ~ ' ' * (depth + 2) ~ name ~ '=' ~ (value | tojson) }}
    {%- endfor %}
{%- endmacro %}
{%- if tools_given %}
    {{- 'Tools as of ' ~ (strftime_now('%Y')|length) ~ ':\\n' }}
    {%- for tool in tools_given | selectattr('type', 'eq', 'function') %}
        {{- describe(tool.function, depth=1) }}
        {%- if not loop.last %}{{ '\\n' }}{% endif %}
    {%- endfor %}
    {{- '\\n' ~ (tools_given | map(attribute='function') | list | tojson(indent=2)) }}
{%- endif %}
{%- for message in messages if message.role != 'system' %}
{{ loop.index }}. {{ message.role | capitalize }}: {{ message.content | trim | replace('\\n', ' ') }}
{% endfor %}
""",
]


def one_a_line(text: str) -> list[str]:
    return text.strip("\n").split("\n")


CASES = [
    template
    for group in (VALUES, LOOKUPS, TESTS, LOOPS, FILTERS, METHODS, ERRORS)
    for template in one_a_line(group)
]
CASES += WHITESPACE + TEMPLATES
