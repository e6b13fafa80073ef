"""Single template lines, each rendered with EXPRESSION_MESSAGES.

EXPRESSIONS are what shipped templates use. CORNERS are the rest of what the same
words can mean in Jinja2 and Python: legal, and rare.
"""

from conversations import conversation

EXPRESSION_MESSAGES = conversation(
    ("s", "Be brief."),
    ("u", "Hello there, how are you?\nFine."),
    ("a", "  Well, thanks! "),
    ("u", "สวัสดี Ölä 😀"),
)

#: `c` is the content of the second message, `p` of the third, `t` of the last.
PREAMBLE = (
    "{%- set c = messages[1].content -%}{%- set p = messages[2].content -%}{%- set t = messages[-1]['content'] -%}"
)

EXPRESSIONS = [
    # Strings
    "[{{ p.strip() }}][{{ p.lstrip() }}][{{ p.rstrip() }}][{{ p | trim }}]",
    "{{ c.strip('.H') }} {{ c.rstrip('.') }} {{ '\\n\\nx\\n'.strip('\\n') }}",
    "{{ c.split() }}",
    "{{ c.split(' ') | join('|') }}",
    "{{ c.split('how')[0] }}<{{ c.split('how')[-1] }}>",
    "{{ c.split(' ', 1)[1] }} / {{ c.rsplit(' ', 1)[0] }}",
    "{{ c.splitlines() }} {{ c.splitlines() | length }}",
    "{{ c.startswith('Hello') }} {{ c.endswith('.') }} {{ c.startswith(('X', 'H')) }}",
    "{{ c.replace('e', '3') }} {{ c.replace('e', '3', 1) }} {{ c | replace('l', 'L') }}",
    "{{ c.find('there') }} {{ c.find('zzz') }} {{ c.count('e') }} {{ c.index('o') }}",
    "{{ c.upper() }} {{ c.lower() }} {{ c | upper }} {{ c | lower }}",
    "{{ 'the end of it'.title() }} {{ 'the end of it' | title }} {{ 'the END'.capitalize() }} {{ 'the END' | capitalize }}",
    "{{ c.removeprefix('Hello ') }} {{ c.removesuffix('.') }}",
    "{{ t | length }} {{ t.upper() }} {{ t[:3] }} {{ t[-1] }} {{ t[::-1] }}",
    "{{ c[:5] }} {{ c[6:11] }} {{ c[-5:] }} {{ c[0] }}",
    "{{ ', '.join(['a', 'b']) }} {{ ['a', 'b'] | join(', ') }} {{ [1, 2] | join }}",
    "{{ 'Hello' in c }} {{ 'zzz' not in c }} {{ 'a' in ['a', 'b'] }} {{ 'role' in messages[0] }} {{ 'name' in messages[0] }}",
    "{{ 'a' ~ 1 ~ 2.5 ~ true ~ none ~ [1, 'x'] }}",
    "{{ 'a' + 'b' * 3 }}",
    "{{ '%s has %d' % ('x', 3) }} {{ '{} and {}'.format('x', 7) }} {{ '%s' | format('y') }}",
    "{{ '12'.isdigit() }} {{ 'ab'.isalpha() }} {{ 'ab'.islower() }} {{ ' '.isspace() }}",
    "{{ 'it\\'s' }} {{ \"it's\" }} {{ 'a\\tb' }} {{ '\\u00e9' }} {{ '\\\\' }}",
    # Values
    "{{ true }} {{ false }} {{ none }} {{ 1 }} {{ 1.0 }} {{ 2.50 }}",
    "{{ {'a': 1, 'b': none, 'c': true, 'd': 'x'} }}",
    "{{ [1, 'b', none, false, 2.0, ['c']] }}",
    "{{ messages[0] }}",
    "{{ messages[0].role }} {{ messages[0]['role'] }} {{ messages[0].get('role') }} {{ messages[0].get('name', 'nobody') }}",
    "[{{ nothing }}] [{{ messages[0].name }}] [{{ messages[0]['name'] }}] [{{ messages[0].get('name') }}]",
    "{{ messages | length }} {{ messages[1:] | length }} {{ messages[::-1][0].role }} {{ messages[-1].role }} {{ messages[:-1] | length }}",
    "{{ (messages | first).role }} {{ (messages | last).role }}",
    "{% for key, value in messages[0].items() %}{{ key }}={{ value }};{% endfor %}",
    "{% for key in messages[0] %}{{ key }};{% endfor %} {{ messages[0].keys() | list }} {{ messages[0].values() | list }}",
    "{% for key, value in {'b': 1, 'a': 2} | items %}{{ key }}={{ value }};{% endfor %} {{ {'b': 1, 'a': 2} | dictsort }}",
    # Tests and conditions
    "{{ messages is defined }} {{ nothing is defined }} {{ nothing is not defined }} {{ messages[0].name is defined }} {{ nothing is undefined }}",
    "{{ none is none }} {{ messages is not none }} {{ tools is none }} {{ tools is defined }} {{ nothing is none }}",
    "{{ c is string }} {{ messages is string }} {{ messages is iterable }} {{ c is iterable }} {{ messages[0] is mapping }} {{ messages is mapping }} {{ messages is sequence }}",
    "{{ 1 is number }} {{ true is boolean }} {{ true is true }} {{ false is false }} {{ 1 is integer }} {{ 1.5 is float }} {{ 3 is odd }} {{ 4 is even }}",
    "{{ 1 if messages else 2 }} [{{ 'x' if false }}] {{ none or 'x' }} {{ '' or 'empty' }} {{ [] or 'none' }} {{ 'a' and 'b' }}",
    "{{ not [] }} {{ not '' }} {{ not 0 }} {{ not none }} {{ 1 == 1.0 }} {{ 'a' != 'b' }} {{ 1 < 2 <= 2 }}",
    "{{ (messages[0].role == 'user') != (0 % 2 == 0) }}",
    "{{ messages[0] == messages[0] }} {{ messages[0] == messages[1] }} {{ [1, 2] == [1, 2] }}",
    "[{{ nothing | default('d') }}] [{{ '' | default('d') }}] [{{ '' | default('d', true) }}] [{{ none | default('d') }}]",
    # Numbers
    "{{ 7 // 2 }} {{ 7 % 3 }} {{ 7 / 2 }} {{ 6 / 2 }} {{ 2 ** 10 }} {{ 1 + 2 * 3 }} {{ -1 }} {{ '12' | int + 1 }}",
    "{% for i in range(3) %}{{ i }}{% endfor %} {% for i in range(4, 0, -2) %}{{ i }}{% endfor %} {{ range(3) | list }}",
    # Loops, namespaces, blocks
    "{% for m in messages %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }} {% endfor %}",
    "{% for m in messages if m.role == 'user' %}{{ loop.index }}/{{ loop.length }} {% endfor %}",
    "{% for m in messages %}{% set lost = m.role %}{% endfor %}{{ lost is defined }}",
    "{% set ns = namespace(n=0, seen=[]) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% set ns.seen = ns.seen + [m.role] %}{% endfor %}{{ ns.n }} {{ ns.seen }}",
    "{% set a, b = 'p', 'q' %}{{ b ~ a }}",
    "{% set block %} in a block {{ c[:5] }} {% endset %}[{{ block }}] [{{ block | trim }}]",
    "{% filter upper %}filtered {{ messages[0].role }}{% endfilter %}",
    "{% with x = 1 %}{{ x }}{% endwith %}{{ x is defined }}",
    "{% macro m(a, b='d') %}({{ a }},{{ b }}){% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(b=1, a=2) }}",
    # Filters on lists
    "{{ messages | map(attribute='role') | list }} {{ messages | map(attribute='role') | join(',') }}",
    "{{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ messages | rejectattr('role', 'equalto', 'user') | map(attribute='role') | join(',') }}",
    "{{ messages | selectattr('role', '==', 'user') | map(attribute='content') | first }} {{ messages | selectattr('role', 'in', ['user', 'system']) | list | length }}",
    "{{ [3, 1, 2] | sort }} {{ ['b', 'A', 'c'] | sort }} {{ [1, 2] | reverse | list }} {{ [1, 1, 2] | unique | list }} {{ [1, 2, 3] | sum }}",
    "{{ 'abc' | list }} {{ 'abc' | reverse }} {{ [1, 2, 3] | max }} {{ [1, 2, 3] | min }}",
    # JSON
    "{{ messages[0] | tojson }}",
    "{{ t | tojson }} {{ t | tojson(ensure_ascii=true) }}",
    "{{ {'b': [1, 2.5, -3, 0.1], 'a': {'yes': true, 'nothing': none}, 'empty': [], 'object': {}} | tojson }}",
    "{{ {'b': [1, [2, {'c': 'd'}]], 'a': {'e': []}} | tojson(indent=4) }}",
    "{{ {'b': 1, 'a': {'d': 2, 'c': 3}} | tojson(sort_keys=true) }}",
    "{{ {'b': 1, 'a': [1, 2]} | tojson(separators=(',', ':')) }} {{ {'b': 1, 'a': [1, 2]} | tojson(indent=2, separators=(',', ': ')) }}",
    '{{ "quote \\" slash / tab \\t line \\n <html> & \'single\' \\u00e9 \\u2028 \\x07" | tojson }}',
]

CORNERS = [
    "{{ -7 // 2 }} {{ -7 % 3 }} {{ 7.5 // 2 }} {{ 3.7 | int }} {{ 'x' | int }} {{ '1.50' | float }} {{ -4 | abs }} {{ 2 ** -1 }}",
    "{{ 2.5 | round }} {{ 3.14159 | round(2) }} {{ 0.1 + 0.2 }} {{ 1e16 }} {{ 1e-7 }} {{ 100000000000000000000 }} {{ 1_000 }}",
    "{{ 'it\\'s' | tojson }} {{ [1.0, 1e20, 1e-7, 100000000000000000000] | tojson }} {{ (1, 2) | tojson }} {{ true | tojson }}",
    "{{ ['it\\'s', \"say \\\"hi\\\"\", 'both \\' \"', 'tab\\t', 'nl\\n', 'é', '\\x07', '\\u200b', '😀'] }}",
    "{{ (1, 'a') }} {{ (1,) }} {{ [] }} {{ {} }} {{ {'a': {'b': [1]}} }} {{ {1: 2, none: 3} }}",
    "{{ '%05.2f' | format(3.14159) }} {{ '%-5s|' % 'ab' }} {{ '%x' % 255 }} {{ '{:>4}|{:03d}'.format('ab', 7) }} {{ '{0}{1}{0}'.format('a', 'b') }} {{ '{x}'.format(x=1) }}",
    "{{ c[1:9:2] }} {{ c[::-2] }} {{ [1, 2, 3, 4][-3:-1] }} {{ [1, 2, 3][5:] }} {{ 'abc'[5:] }}",
    "{{ c.partition(' ') }} {{ c.rfind('o') }} {{ c.swapcase() }} {{ 'ab'.center(6) }}| {{ 'ab'.ljust(4) }}| {{ '7'.zfill(3) }} {{ 'a\\tb'.expandtabs(4) }}",
    "{{ 'straße'.upper() }} {{ 'İ'.lower() | length }} {{ 'ǆ'.title() }} {{ 'ΑΣ'.lower() }} {{ \"they're\".title() }} {{ \"they're\" | title }} {{ 'ﬁ'.capitalize() }}",
    "{{ 'a\\x1cb\\x85c\\u2028d\\re\\r\\nf\\x0bg\\x0ch'.splitlines() | length }} {{ 'a\\x1cb\\u3000c\\u200bd'.split() | length }}",
    "{{ '½'.isdigit() }} {{ '²'.isdigit() }} {{ '½'.isnumeric() }} {{ '²'.isdecimal() }} {{ ''.isalpha() }} {{ 'aB1'.isalnum() }}",
    "{{ 'abcabc'.replace('', '-') }} {{ 'aaa'.count('') }} {{ ''.split() }} {{ ''.split(',') }} {{ 'a,,b'.split(',') }}",
    "{{ [1, 2, 3, 4, 5] | batch(2) | list }} {{ [1, 2, 3] | slice(2) | list }} {{ messages | groupby('role') | map('first') | join(' ') }}",
    "{{ [0, 1, '', 'a', none] | select | list }} {{ [1, 2, 3] | reject('odd') | list }} {{ ['a', 'b'] | map('upper') | join }} {{ [[1, 2], [3]] | sum(start=[]) }}",
    "{{ 'a b  c' | wordcount }} {{ 'line\\nline' | indent(2, true) }} {{ 'long text right here' | truncate(9) }} {{ 'c' | center(5) }}| {{ 'a b' | urlencode }} {{ '<b>x</b>' | striptags }}",
    "{{ '<b>' | escape }} {{ '<b>' | e }} {{ '<b>' | safe }} {{ ('<b>' | escape) ~ '<i>' }}",
    "{{ dict(a=1, b=2) }} {{ dict([('x', 1)]).x }} {{ lipsum is defined }} {{ cycler is defined }} {{ joiner is defined }}",
    "{% set j = joiner(', ') %}{% for m in messages %}{{ j() }}{{ m.role }}{% endfor %}",
    "{% for m in messages recursive %}{{ m.role[0] }}{% endfor %} {% for a, b in [(1, 2), (3, 4)] %}{{ a }}-{{ b }};{% endfor %}",
    "{% for x in [] %}{% else %}empty{% endfor %} {% for c in 'héy' %}{{ c }}.{% endfor %}",
    "{% for m in messages %}{% if loop.changed(m.role) %}{{ m.role }} {% endif %}{{ loop.cycle('a', 'b') }}{{ loop.depth }} {% endfor %}",
    "{{ 1 is sameas(1) }} {{ 'A' is upper }} {{ 4 is divisibleby(2) }} {{ 2 is in([1, 2]) }} {{ 1 is eq(1) }} {{ 2 is gt(1) }} {{ c.upper is callable }} {{ 'upper' is filter }} {{ 'odd' is test }}",
    "{{ true + 1 }} {{ true == 1 }} {{ [1] + [2] }} {{ [0] * 3 }} {{ 'a' < 'B' }} {{ [1, 2] < [1, 3] }}",
    "{{ messages[9] is defined }} [{{ messages[9] }}] [{{ 'abc'[9] }}] {{ nothing == nothing }} {{ not nothing }} [{{ nothing ~ 'x' }}] {% for x in nothing %}x{% endfor %} {{ nothing | length }}",
    "{# comment #}{{ '{#' }} {% raw %}{{ raw }}{% endraw %} {{ 'a' 'b' }} {{- ' minus' -}}   x {{ '}}' }}",
    "{% macro m() %}{{ varargs }} {{ kwargs }}{% endmacro %}{{ m(1, 2, a=3) }} {{ m.name }}",
    "{% macro m(x) %}{{ caller(x) }}{% endmacro %}{% call(y) m(5) %}got {{ y }}{% endcall %}",
    "{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }} {% for i in [1] %}{% set x = 3 %}{{ x }}{% endfor %}{{ x }}",
    "{% if false %}a{% elif messages %}b{% else %}c{% endif %} {% set d = {'a': 1} %}{{ d.a }} {{ d['a'] }} {{ d.update is defined }}",
    "{{ {'items': 5}['items'] }} {{ {'items': 5}.items() | list }} {{ {'a': 1}.a }} {{ {'keys': 1} | length }}",
    "{{ 'tru' 'e' == 'true' }} {{ True }} {{ None }} {{ False is false }} {{ none == None }}",
]
