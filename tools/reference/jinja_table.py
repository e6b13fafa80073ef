"""Makes crates/ml-backend/tests/fixtures/jinja_table.json: small expressions, and what they give.

    python tools/reference/jinja_table.py

jinja.py has the constructs that chat templates are made of. This goes through Jinja2's lists of
filters, tests and globals and through Python's methods and operators one by one, each on values
that it is meant for and on values that it is not. An expression that fails has `null` for a text;
how it fails is not compared.
"""

import itertools
import json
import re
from pathlib import Path

import transformers
from transformers.utils.chat_template_utils import render_jinja_template

OUT = Path(__file__).resolve().parents[2] / "crates/ml-backend/tests/fixtures/jinja_table.json"
MESSAGES = [{"role": "user", "content": "hi"}]
VARIABLES = {
    "s": "Hello big World",
    "u": "Straße ǆ ½² İı ﬁ 中文 😀",
    "ml": "one\n  two\r\n\nthree\x0bfour\n",
    "html": "<p class='x'>a &amp; b</p><!-- no -->  <br>c",
    "empty": "",
    "i": 7,
    "n": -3,
    "f": 2.5,
    "big": 12345678901234567890,
    "yes": True,
    "no": False,
    "nil": None,
    "l": [3, 1, 2],
    "w": ["b", "A", "c", "a"],
    "el": [],
    "d": {"b": 1, "a": {"x": [1, 2]}, "C": None},
    "ed": {},
    "rows": [{"n": "x", "v": 2, "k": {"z": 1}}, {"n": "Y", "v": 1, "k": {"z": 2}}, {"n": "X", "v": 3}],
    "items": {"items": 1, "keys": 2, "get": 3, "_x": 4, "1": 5},
}

#: One value of each kind, by the names above and as literals.
VALUES = ["s", "empty", "i", "n", "f", "yes", "nil", "l", "el", "(1, 'a')", "()", "d", "ed", "range(3)",
          "d.items()", "nothing", "'7'", "('<b>'|safe)"]

FILTERS = """
abs attr('upper') attr('x') attr('items') attr('append') batch(2)|list batch(2,0)|list batch(0)|list capitalize center(9) center(4)
count length default('z') default('z',true) d dictsort dictsort(true) dictsort(by='value') dictsort(reverse=true) escape e
filesizeformat filesizeformat(true) first float float(9) forceescape format format(1) groupby('n') indent indent(2,true)
indent('>>',blank=true) indent(width=1,first=true) int int(5) int(base=16) items|list join join(',') join('-',attribute='n') last list lower
map('string')|list map(attribute='n')|list map(attribute='n',default='q')|list map('upper')|join map|list max min
max(attribute='v') min(case_sensitive=true) pprint reject|list reject('odd')|list rejectattr('n')|list
rejectattr('k.z','defined')|list replace('l','L') replace('a','b',1) reverse reverse|list round round(1) round(-1)
round(method='ceil') round(1,'floor') safe select|list select('string')|list select('nope')|list selectattr('n')|list
selectattr('v','gt',1)|list slice(2)|list slice(3,'f')|list sort sort(reverse=true) sort(attribute='v') sort(case_sensitive=true)
string striptags sum sum(start=1) sum(attribute='v') title tojson tojson(indent=1) tojson(sort_keys=true) trim trim('Hd') truncate(9) truncate(9,true)
truncate(5,false,'') truncate(9,true,'..',0) truncate(2) unique|list unique(attribute='n')|list unique(true)|list upper urlencode
wordcount wordwrap(5) wordwrap(4,false) wordwrap(0) xmlattr xmlattr(false) nosuch
""".split()

TESTS = """
boolean callable defined divisibleby(2) divisibleby(0) eq(7) escaped even false filter float ge(2) gt(2) in([7,'a']) in('xHello')
integer iterable le(2) lower lt(2) mapping ne(7) none number odd sameas(none) sameas(true) sequence string test true undefined
upper equalto('') greaterthan(0) lessthan(9) nosuch
""".split()

STR_METHODS = """
capitalize() casefold() center(20) center(21,'*') center(3) count('l') count('l',4) count('l',0,3) count('') endswith('d') endswith(('x','d'))
endswith('o',0,5) expandtabs() find('o') find('o',5) find('o',5,6) find('zz') find('',3) find('',99) index('o') index('zz') isalnum() isalpha() isascii()
isdecimal() isdigit() isidentifier() islower() isnumeric() isprintable() isspace() istitle() isupper() join(['a','b']) join('xyz')
join([1]) ljust(20) ljust(20,'.') ljust(20,'ab') lower() lstrip() lstrip('He') partition(' ') partition('') partition('zz') removeprefix('He')
removesuffix('ld') replace('l','L') replace('l','L',1) replace('','-') replace('l') rfind('o') rfind('o',0,5) rindex('o') rjust(20) rpartition(' ')
rpartition('zz') rsplit() rsplit(' ',1) rsplit(maxsplit=1) rstrip() rstrip('ld') split() split('o') split(' ',1) split('') split(none,1)
split(sep=' ',maxsplit=1) splitlines() splitlines(true) startswith('He') startswith(('x','H')) startswith('l',2) startswith(['H']) strip() strip('Hd')
strip(none) swapcase() title() upper() zfill(20) zfill(2) format() format(1) format_map({}) translate({72:'J',101:none}) encode
append('x') upper(1) nosuch() __class__ _x
""".split()

OTHER_METHODS = {
    "l": "count(1) index(2) index(9) index(1,2) copy() append(1) pop() sort() reverse() extend([1]) insert(0,1) remove(1) clear() copy __len__".split(),
    "(1,2,1)": "count(1) index(2) copy() index(1,1)".split(),
    "range(2,9,3)": "count(2) index(5) start stop step".split(),
    "d": "get('b') get('z') get('z',0) get() keys() values() items() keys()|list values()|list items()|list copy() pop('b') update({}) setdefault('q',1) clear() popitem() fromkeys(['a']) b a.x C z".split(),
    "items": "items keys get items() _x keys() ['items'] ['get']".split(),
    "i": "real imag numerator bit_length() nosuch".split(),
    "f": "is_integer() real hex nosuch".split(),
    "nil": "x upper()".split(),
    "nothing": "x x.y upper()".split(),
    "true": "real bit_length()".split(),
}

BINARY = ["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or"]
OPERANDS = ["7", "-3", "2.5", "0", "true", "'ab'", "''", "'%s!'", "[1, 2]", "(1, 2)", "{'a': 1}", "none", "nothing", "range(3)", "('<'|safe)"]

PERCENT = """
'%s' % 1|'%s %s' % (1, 'a')|'%s' % (1, 2)|'%s %s' % 1|'%d' % 3.9|'%d' % 'a'|'%5d|%-5d|%05d|%+d|% d' % (1,2,3,4,5)|'%x %X %#x %o %#o' % (255,255,255,8,8)
'%5.2f|%-8.1f|%08.3f|%+.1f' % (3.14159, 2.0, -1.5, 1)|'%e %E %g %G' % (12345.678, 0.00012, 1e10, 1e-5)|'%.3g|%g|%g' % (1234.5, 100000, 1000000)|'%c%c' % ('a', 98)
'%r %a' % ('é', 'é')|'%5s|%-5s|%.2s|%5.1s' % ('ab','ab','abc','xyz')|'%%' % ()|'%(a)s %(b)d' % {'a': 1, 'b': 2}|'%(a)s' % {'b': 1}|'%(a)s' % 1|'%*d' % (5, 3)|'%-*d|' % (5, 3)
'%.*f' % (2, 3.14159)|'x' % 1|'x' % []|'x' % ()|'x' % {}|'%s' % [1]|'%s' % {'a': 1}|'%s' % none|'%s' % nothing|'%y' % 1|'%' % 1|'%s' % ((1, 2),)|s % 1|'%d' % true|'%i' % -7|'%s' % l|'%#.3g' % 1.0
'%.0f %.0f %.0f' % (0.5, 1.5, 2.5)|'%x' % -255|'%5%|' % ()|'%ld' % 5|'%.3d' % 7|'%+s' % 'a'|'%05s' % 'a'|'% x' % 10|'%f' % 'a'|'%(a)5d|' % {'a': 1}|'%d %(a)s' % {'a': 1}|('%s <' | safe) % '<'|i % 4|n % 4|f % 2
(s ~ ' %s') % ('!' ~ i)|'%s' % s.upper()|'%s and %s' % (d.b, l[0])
"""

BRACES = """
'{}'.format(1)|'{} {}'.format(1, 2)|'{1} {0}'.format(1, 2)|'{a}'.format(a=1)|'{} {0}'.format(1)|'{0} {}'.format(1)|'{}'.format()|'{a}'.format()|'{{}}'.format()|'{'.format()|'}'.format()
'{:5}|{:<5}|{:>5}|{:^5}|'.format('a','b','c','d')|'{:*^7}|{:#>4}|'.format('ab', 1)|'{:05d} {:+d} {: d} {:,} {:_}'.format(42, 42, 42, 1234567, 1234567)|'{:x} {:X} {:#x} {:b} {:o} {:#b}'.format(255, 255, 255, 5, 8, 5)
'{:.2f} {:8.3f} {:e} {:g} {:%} {:.1%}'.format(3.14159, 2.5, 12345.678, 0.0001, 0.25, 0.333)|'{:.3}|{:5.1}|'.format('abcdef', 'xyz')|'{!r} {!s} {!a}'.format('é', 'é', 'é')|'{!x}'.format(1)
'{:{}}|'.format('a', 5)|'{:{w}.{p}f}'.format(3.14159, w=8, p=2)|'{0[a]} {0[b]}'.format({'a': 1, 'b': 2})|'{0[1]}'.format([1, 2])|'{0.real}'.format(5)|'{x[y][0]}'.format(x={'y': [7]})|'{:d}'.format('a')|'{:s}'.format(1)
'{:d}'.format(1.5)|'{:,.2f} {:,}'.format(1234567.891, 1234567.891)|'{:010,}'.format(1234567)|'{:=+7d}'.format(42)|'{:c}'.format(65)|'{:5}|'.format(none)|'{}'.format(none)|'{} {}'.format(true, [1])|'{:5}|'.format(true)|'{:d}'.format(true)
'{:.3}'.format(3.14159)|'{:.3}'.format(1234.5)|'{:5}|'.format(2.5)|'{:<5}|'.format(42)|'{:^+9.2f}|'.format(3.14159)|'{:n}'.format(5)|'{:z}'.format(1.0)|'{:q}'.format(1)|'{:5'.format(1)|'{!}'.format(1)|'{a.b}'.format(a={'b': 1})
'{:>{}}'.format(1)|'{:>-5}'.format(1)|'{:}'.format('x')|'{0}{0}'.format('<')|('{} <' | safe).format('<')|'{:G} {:E} {:F}'.format(1e20, 1.5, 2.5)|'{}'.format(1e100)|'{:.0f}'.format(2.5)|'{:#.0f}'.format(2.5)|'{0.__class__}'.format(1)
'{:_x} {:_b}'.format(65535, 255)|'{:,x}'.format(1)|'{:.2d}'.format(1)|'{:08.3f}'.format(-3.14159)|'{:<08}|'.format(5)|'{:é^5}'.format('a')
"""

LISTS = """
l[1:]|l[:2]|l[::-1]|l[-2:]|l[5:]|l[::2]|l[1:1]|l[2:0:-1]|l[-1:-4:-1]|l + [4]|l + (4,)|[4] * 3|3 * [4]|l[1:] + l[:1]|(l + l)[2]|(l * 2)|length|(l[1:] + [l]) | tojson|l[1:] | tojson|(l + [9]) | tojson|([1] * 3) | tojson|(1, 2)[1:]|((1, 2) + (3,)) | tojson
l[1:] is sequence|(l + l) is sequence|([0] * 2) is sequence|l[1:] is iterable|l[1:] is mapping|l[1:] == [1, 2]|(l + [4]) == [3, 1, 2, 4]|([1] * 2) == [1, 1]|l[1:] == (1, 2)|l[0:] is sameas(l)|'bc'[::-1]|'abc'[1:]|'abc'[:-1]|'abc'[5:]|'abc'[-9:2]
range(9)[2:5]|range(9)[::3]|range(9)[1:] | list|range(9)[-1]|range(9)[99]|range(3) | tojson|range(3) | list | tojson|range(5, 0, -2) | list|range(0)|range(3) == range(3)|range(3) == [0, 1, 2]|2 in range(5)|2.0 in range(5)|'a' in range(5)|range(1, 2, 0)|range(100001)|range(1.5)
l[true]|l['x']|l[0.0]|l[none]|l[99]|l[-4]|'abc'['x']|nil[1:]|nothing[1:]|nothing[1]|d[1:]|d[[1]]|i[0]|i[1:]|l['1':]|l[::0]|l[none:none:none]|l[:nil]|(l | map('string'))[0]|(l | map('string'))[1:]|(l | reverse)[0]|l | reverse | first
(l | map('string') | list)[1:]|(w | select | list) + ['z']|(w | sort) + ['z']|l | map('string') | tojson|l | select('odd') | tojson|l | map('string') is sequence|l | map('string') is iterable|(l | batch(2) | list) | tojson|d.keys() | tojson|d.keys() is sequence|d.items() is iterable
d.keys() == d.keys()|d.items() | list | tojson|d.keys() | list + ['q']|'b' in d.keys()|1 in d.values()|('b', 1) in d.items()|s.split()[1:]|s.split()[1:] | tojson|s.split() + ['x']|(s.split() * 2) | length|s.split()[-1]|s.split(' ')[1:] | join('-')|l.copy() + [1]|(l, l)[1][0]
[] + []|[] * 5|[1] * 0|[1] * -1|[1] * true|[1] * 1.0|'ab' * 2|2 * 'ab'|'ab' * -1|(1,) * 3|[[1]] * 2|l == l[:]|l[:] is sameas(l[:])|not l[5:]|l[5:] or 'none'|(l[1:] | length) + 1|l[1:] | first|l[1:] | last|l[1:] | sum|(l + l) | unique | list|(l + l) | sort|l[1:] ~ 'x'
rows[1:] | map(attribute='n') | list|(rows + rows) | selectattr('v', 'eq', 1) | list | length|rows[:1] | tojson(indent=2)|(rows | list)[0].n|rows[-1]['n']|rows[0:1][0].k.z|dict(a=l[1:]) | tojson|{'a': l[1:] + [1]}|[l[1:], l[:1]]|(l[1:], 1)
"""

FORMS = """
dict([('a', 1), ('b', 2)])|dict([['a', 1]])|dict({'a': 1}, b=2)|dict(d)|dict()|dict(a=1).a|dict([('a', 1)], a=2)|dict([1])|dict([(1, 2, 3)])|dict('ab')|dict(['ab', 'cd'])|dict(d.items())|dict(1)|dict(d, d)|dict(nil)|dict(nothing)
dict.fromkeys(['a', 'b'])|dict.fromkeys(['a', 'b'], 0)|dict.fromkeys('ab', [])|dict.fromkeys([[1]])|dict.fromkeys(1)|dict.fromkeys()|dict is callable|dict.fromkeys is callable|{}.fromkeys(['a'])|{1: 'a', 1.0: 'b', true: 'c'}|{'a': 1, 'a': 2}|{(1, 2): 3}[(1, 2)]|{[1]: 2}|{none: 1}[none]|{1: 2}['1']
cycler('a', 'b').next()|cycler('a').current|cycler()|cycler('a') is callable|cycler(1, 2).items|joiner()()|joiner('x') is callable|namespace(a=1).a|namespace({'a': 1}).a|namespace([('a', 1)]).a|namespace(a=1).b|namespace(_a=1)|namespace(a=1)|namespace() is mapping|namespace(a=1)['a']|namespace is callable
s.upper is callable|d.get is callable|d.items is callable|l.append is callable|l.append is defined|l.index is callable|s is callable|nothing is callable|range is callable|d.b is callable|items.get is callable|items['get'] is callable|s.nosuch is callable|s|attr('upper')|s|attr('upper')()|(s|attr('upper'))()|s|attr('split')(' ')
d|attr('b')|d|attr('items')()|d|attr('get')('b')|rows|attr('x')|rows|attr('n') is defined|nil|attr('x')|s|attr('__class__')|namespace(a=5)|attr('a')|s|attr(1)
'\\N{BULLET}'|'\\N{bullet}x'|'\\N{LATIN SMALL LETTER E WITH ACUTE}'|'\\N{no such name}'|'\\N{GRINNING FACE}'|'\\N{CJK UNIFIED IDEOGRAPH-4E2D}'|'\\N{HANGUL SYLLABLE GA}'|'\\N'|'\\N{LF}'|'\\N{NULL}'|'\\N{ZERO WIDTH SPACE}' | length|"\\N{EM DASH}\\N{EN DASH}"
'\\x41\\u00e9\\U0001F600'|'\\101\\0\\7'|'\\q\\/\\d'|'a\\
b'|'\\x4'|'\\u12'|'\\U00110000'|'\\"\\''|"\\'"|'\\a\\b\\f\\v' | tojson|'\\\\n'|'tab\\there'
0x1F|0o17|0b101|1_000|1e3|1.5e-3|1E5|.5|1.|007|00|0|1__0|1_|10**20|2**100|-2**2|2**-1|2**0.5|0**0|(-8)**0.5|1/0|1//0|1%0|1.0/0|0.0//0|7//-2|-7//2|-7%3|7%-3|-7.5//2|-7.5%2|5.5%-2|1e308*10|1e16|123456789012345.0|1e-5|0.1+0.2|1/3|-0.0|big|big+1|big*2|10**38|2**126
1 < 2 < 3|1 < 3 < 2|1 == 1.0|1 == true|'a' < 'b'|'a' < 1|[1] < [2]|(1, 2) < (1, 3)|{} < {}|none < 1|none == none|nothing == none|nothing == nothing|1 in [1.0]|'' in 'a'|1 in 'a'|none in [none]|1 in 1|1 in nothing|not none|not not 1|1 and 0 or 2|1 if 0|1 if 0 else 2 if 0 else 3|1 is defined and 2 is defined
- 5 | abs|-5 | abs|(-5) | abs|+5|-'a'|+'a'|-true|1 ~ 2|none ~ true|1.0 ~ []|'a' 'b'|('a', 'b')|('a')|()|(1,)|1, 2|[1, 2,]|{'a': 1,}|1 is not none|not 1 is none|2 is divisibleby 2|3 is in [1, 3]|2 is eq 2 and true|'a' is in 'abc'|1 is sameas 1|none is none is none|l is not mapping|l.0|d.a.x.1|rows.0.n
true and none|none or false|[] and 1|'x' or 1|true|false|none|True|False|None|[true, none, 1.0, 'a\\'b', "q\\"", 'é', '\\n', '\\u200b']|{'k': [none, {'z': ()}]}|{1: 2, 'a': none}|'é' | tojson|'é' | tojson(ensure_ascii=true)|{'a': (1, 2)} | tojson|nothing | tojson|range | tojson|[nothing] | tojson|{1: 1, none: 2, true: 3, 2.5: 4} | tojson|{(1, 2): 3} | tojson
[1, 'a'] | sort|['b', none] | sort|[2, 1.5, true] | sort|w | sort|w | sort(true)|w | sort(case_sensitive=true)|rows | sort(attribute='n') | map(attribute='v') | list|rows | sort(attribute='n,v') | map(attribute='v') | list|rows | sort(attribute='k.z')|rows | groupby('n')|rows | groupby('n', case_sensitive=true) | map(attribute='grouper') | list
rows | groupby('k.z', default=9) | map(attribute=0) | list|(rows | groupby('n') | first).list | length|rows | map(attribute='k.z') | list|rows | map(attribute='k.z', default=0) | list|rows | sum(attribute='v')|[[1], [2]] | sum(start=[])|['a'] | sum|['a'] | sum(start='')|w | max|w | min|[] | max|[] | first|[] | last|[] | sum|[1, 2.5] | sum
rows | selectattr('k') | list | length|rows | selectattr('k', 'defined') | list | length|rows | rejectattr('v', 'in', [1, 2]) | map(attribute='n') | list|rows | selectattr('v', '>', 1) | map(attribute='n') | join|rows | selectattr|[1, 2, 3, 4] | select('divisibleby', 2) | list|[1, 2] | reject('gt', 1) | list|[1, 2] | map('add', 1) | list|['a', 'b'] | map('replace', 'a', 'x') | list
['a b', 'c'] | map('split') | list|['a', 'b'] | map('center', 3) | list|[' a '] | map('trim') | first|[{'a': 1}] | map('tojson') | list|[1.2, 3.7] | map('round') | list|['1', 'x'] | map('int', default=-1) | list|'a,b' | list|'abc' | reverse|{'a': 1} | list|nothing | list|nil | list|5 | list|{'b': 1, 'a': 2} | dictsort|{'b': 1, 'A': 2} | dictsort(true)|{'b': 1, 'a': 2} | dictsort(false, 'value')
{'b': 1, 'a': 'x'} | dictsort(by='value')|{1: 1, 'a': 2} | dictsort|'%s-%s' | format('a', 'b')|'%(x)s' | format(x=1)|'%s' | format|'%d' | format('a')|'a' | format(1)|3.7 | int|'3.7' | int|'0x1f' | int|'0x1f' | int(0, 16)|'1f' | int(base=16)|'0b11' | int(0, 2)|'z' | int(7)|'' | int|none | int(4)|'1_000' | int|' 12 ' | int|'-5' | int|'١٢' | int|[] | int|true | int|'1e3' | int|'inf' | int(3)|'1.5' | float
'x' | float|'x' | float(1.5)|'1e400' | float|'nan' | float|'infinity' | float|none | float|true | float|' 2 ' | float|'1_0.5' | float|2.5 | round|3.5 | round|2.675 | round(2)|1234.567 | round(-2)|1234 | round(-2)|1250 | round(-2)|-2.5 | round|2.1 | round(0, 'ceil')|2.9 | round(0, 'floor')|2.15 | round(1, 'ceil')|5 | round(1, 'ceil')|'a' | round|1 | round(method='x')|true | round
1 | filesizeformat|0 | filesizeformat|999 | filesizeformat|1000 | filesizeformat|123456 | filesizeformat|123456 | filesizeformat(true)|10**15 | filesizeformat|10**27 | filesizeformat|'5000' | filesizeformat|'x' | filesizeformat|1.5 | filesizeformat|-5 | filesizeformat|-5000 | filesizeformat|1048576 | filesizeformat(binary=true)|none | filesizeformat|true | filesizeformat
'a b/c?d=é&' | urlencode|{'a b': 'c/d', 'e': 1} | urlencode|[('a', 'b c'), ('d', 2)] | urlencode|5 | urlencode|none | urlencode|'~-._' | urlencode|[1] | urlencode|'' | urlencode|html | striptags|'a<b' | striptags|'<<a>>b' | striptags|'a  b\\n c' | striptags|'&lt;x&gt; &#65; &#x42; &nbsp;|' | striptags|'<!-- <b> -->x' | striptags|'<!<!-- -->-- y -->z' | striptags|5 | striptags
'one two three four' | wordwrap(9)|'one two three four' | wordwrap(3)|'averyveryverylongword' | wordwrap(5)|'averyveryverylongword x' | wordwrap(5, false)|'well-known half-baked e-mail a-b' | wordwrap(6)|'well-known half-baked' | wordwrap(6, break_on_hyphens=false)|'a -- b--c it---d' | wordwrap(4)|'one  two   three' | wordwrap(5)|'  lead' | wordwrap(4)|ml | wordwrap(4)
'a b c' | wordwrap(2, wrapstring='|')|'x'|wordwrap|'' | wordwrap(5)|'a\\n\\nb' | wordwrap(5)|'one two' | wordwrap(0)|5 | wordwrap|'don\\'t stop! "quoted-word" ok' | wordwrap(8)|'12-34 1-2-3 ab-12' | wordwrap(3)|s | wordwrap(width=5)|'aaaa-bbbb-cccc' | wordwrap(10)|'aaaaaaaaaaaa-b' | wordwrap(6)|'e-g f' | wordwrap(4)
s | wordcount|u | wordcount|'' | wordcount|"it's a_b c-d 1.5" | wordcount|5 | wordcount|none | wordcount|s | truncate(5)|s | truncate(8)|s | truncate(8, true)|s | truncate(8, false, '…')|s | truncate(8, leeway=0)|s | truncate(255)|s | truncate(3)|s | truncate(2)|s | truncate(10, leeway=-1)|5 | truncate|'aaaaaaaaaaaaaaaaaaaa' | truncate(8)|s | truncate(12, true, '', 0)
s | center|s | center(20) ~ '|'|5 | center(3) ~ '|'|s | center(width=19) ~ '|'|ml | indent|ml | indent(2, true, true)|ml | indent('> ')|'' | indent|'a' | indent(first=true)|'a\\n' | indent ~ '|'|5 | indent|'a\\nb' | indent(0)|'a\\nb' | indent(-1)|'the END of-it (foo) [bar] <x> {y} a_b' | title|'ǆ ﬁx ßa' | title|u | title|u | capitalize|u | upper|u | lower|'ΑΣ' | lower|"they're" | title|5 | title
'<b>&"\\'' | e|'<b>' | e | e|'<b>' | safe | e|'<b>' | forceescape|('<b>' | e) | forceescape|('<' | safe) + '<'|'<' + ('<' | safe)|('<' | safe) * 2|('<a>' | safe).upper()|('<a>' | safe) ~ '<'|('<' | safe) == '<'|('a' | safe) | length|[('<' | safe)]|('a b' | safe).split()|('a' | safe).join(['<', 'b'])|'-'.join([('<' | safe), '<'])|('a' | safe).replace('a', '<')|('<' | safe) is escaped|'<' is escaped|('<' | safe) is string
{'a': 1, 'b': none, 'c': '<"'} | xmlattr|{} | xmlattr|{'a b': 1} | xmlattr|{'a': nothing} | xmlattr|{'a': 1} | xmlattr(false)|{'a': 1} | items | list|nothing | items | list|l | items | list|none | items|[1, [2, 3], {'z': 1, 'a': 2}] | pprint|{'b': 1, 'a': [1, 2]} | pprint|['aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'cccccccccccccccccc'] | pprint|'a' | pprint
[5] | random|[] | random|'' | random|lipsum is defined|lipsum is callable|range(3) | random is number|strftime_now('%Y') | length|strftime_now('%d %B') is string|strftime_now('100%%')|strftime_now(1)|raise_exception('x')|raise_exception()
[1, 2, 3, 4, 5] | batch(2, 'x') | list|[1, 2, 3, 4, 5] | slice(2, 'x') | list|[1, 2, 3] | slice(5) | list|[] | batch(2) | list|[] | slice(2) | list|[1] | slice(0) | list|'abc' | batch(2) | list|[1, 2, 2, 1] | unique | list|['a', 'A'] | unique | list|[[1]] | unique | list|rows | unique(attribute='n') | map(attribute='n') | list|'aAb' | unique | join|[1, 1.0, true] | unique | list
'a\\tb'.expandtabs(4)|'\\t|'.expandtabs()|'ab\\tc\\n\\td'.expandtabs(3)|'a'.expandtabs(tabsize=2)|''.maketrans('ab', 'xy')|'abc'.translate(''.maketrans('ab', 'xy', 'c'))|'abc'.translate({97: 'X', 98: none, 99: 100})|''.maketrans({'a': 'b'})|'a-b'.isidentifier()|'_a1'.isidentifier()|'½'.isdigit()|'²'.isdigit()|'²'.isdecimal()|'٣'.isdecimal()|'½'.isnumeric()|'一'.isnumeric()|'Ⅷ'.isnumeric()|'Ⅷ'.isalpha()
'ǅ'.istitle()|'A B'.istitle()|'Ab cD'.istitle()|'ǅ'.isupper()|'ª'.islower()|'ß'.upper()|'ŉ'.upper()|'İ'.lower() | length|'ς'.casefold()|'ﬁ'.casefold()|'ẞ'.casefold()|'ẞ'.lower()|'aB'.swapcase()|'ß'.swapcase()|'ǆ'.title()|'ǆ'.capitalize()|'ﬁ x'.capitalize()|'é\\u0301'.isalpha()|'中'.isalpha()|'a b'.isprintable()|'a\\n'.isprintable()|'\\u200b'.isprintable()|'\\xa0'.isspace()|'\\x1c'.isspace()|''.isspace()|''.isascii()|''.isprintable()
'a.b.c'.split('.', 1)|'a.b.c'.rsplit('.', 1)|'a.b.c'.split('.', -1)|'a.b.c'.split('.', 0)|' a b '.split(' ')|'a  b'.split()|'aXXbXXc'.split('XX')|'abc'.split('abc')|'abc'.partition('b')|'abc'.rpartition('b')|'a\\x1cb\\x85c'.splitlines()|'a\\r\\nb\\rc'.splitlines()|'a\\n'.splitlines(true)|'abcabc'.rfind('c')|'abcabc'.rindex('z')|'abcabc'.find('c', -2)|'abcabc'.find('a', 1, -1)|'aaaa'.count('aa')|'abc'.count('')|'abc'.find('')|'abc'.rfind('')
'abc'.startswith('')|'abc'.startswith('b', 1)|'abc'.startswith('b', 1, 1)|'abc'.endswith(())|'abc'.startswith(1)|'abc'.strip('')|'xxaxx'.strip('x')|'-5'.zfill(4)|'+5'.zfill(4)|'abc'.zfill(2)|'a'.ljust(-1)|'a'.center(4, 'é')|'a'.center(5, '')|'abc'.replace('', '-', 2)|'aaa'.replace('a', 'b', 0)|'abc'.replace('b', '')|'abc'.join([])|','.join({'a': 1, 'b': 2})|','.join((1, 2))|','.join(l | map('string'))|'abc'.removeprefix('')|'abc'.removesuffix('')
"""

#: Whole statements.
STATEMENTS = """
{% print 'x' %}
{% print 1, 2 %}{% print %}
{% print nothing %}{% print none %}
{%- macro m(a, b='d') %}[{{ a }}|{{ b }}|{{ varargs }}|{{ kwargs }}]{% endmacro %}{{ m(1) }}{{ m(1, 2, 3, 4) }}{{ m(1, c=5) }}{{ m() }}
{%- macro m() %}{{ varargs | length }}{% endmacro %}{{ m(1, 2) }}{{ m(x=1) }}
{%- macro m() %}{{ kwargs.a + 1 }}{% endmacro %}{{ m(a=2) }}
{%- macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
{%- macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}
{%- macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}
{%- macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(b=3, a=4) }}
{%- macro m(a=1, b) %}{% endmacro %}
{%- macro m(x) %}{{ caller(x, 2) }}{% endmacro %}{% call(p, q) m(5) %}{{ p }}-{{ q }}{% endcall %}
{%- macro m() %}{{ caller() }}{{ caller() }}{% endmacro %}{% call m() %}c{% endcall %}{{ m() }}
{%- macro m() %}{% if caller %}has{% else %}none{% endif %}{% endmacro %}{{ m() }}{% call m() %}{% endcall %}
{%- macro m() %}x{% endmacro %}{% call m() %}{% endcall %}
{%- macro m(a, b) %}{% endmacro %}{{ m.name }} {{ m.arguments }} {{ m.catch_kwargs }} {{ m.catch_varargs }} {{ m.caller }} {{ m is callable }} {{ m }}
{%- macro outer(x) %}{% macro inner() %}{{ x }}{% endmacro %}{{ inner() }}{% endmacro %}{{ outer(3) }}
{%- set x = 1 %}{% macro m() %}{{ x }}{% endmacro %}{% set x = 2 %}{{ m() }}
{%- macro m() %}{{ y }}{% endmacro %}{% for y in [1] %}{{ m() }}{% endfor %}
{%- macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}
{%- macro m(*args) %}{% endmacro %}
{%- macro m() %}{{ varargs }}{% endmacro %}{{ m(*[1, 2]) }}{{ m(*'ab') }}{{ m(1, *[2]) }}
{%- macro m() %}{{ kwargs }}{% endmacro %}{{ m(**{'a': 1}) }}{{ m(b=1, **{'a': 1}) }}
{%- macro m(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ m(**{'b': 1, 'a': 2}) }}{{ m(*[1], b=2) }}
{%- set ns = namespace(a=1, b=[]) %}{% set ns.a = ns.a + 1 %}{% set ns.b = ns.b + [ns.a] %}{{ ns.a }}{{ ns.b }}{{ ns.c is defined }}{{ ns }}
{%- set ns = namespace() %}{% set ns.x, ns.y = 1, 2 %}{{ ns.x }}{{ ns.y }}
{%- set ns = {'a': 1} %}{% set ns.a = 2 %}
{%- set ns = namespace() %}{% set ns._x = 2 %}
{%- set c = cycler('a', 'b') %}{% for i in range(5) %}{{ c.next() }}{{ c.current }}{% endfor %}{{ c.reset() }}{{ c.next() }}
{%- set j = joiner('; ') %}{% for i in range(3) %}{{ j() }}{{ i }}{% endfor %}{{ j.sep }}
{%- set j = joiner() %}{{ j() }}{{ j() }}{{ j() }}
{%- for i in l[1:] %}{{ loop.index }}{{ loop.last }}{{ loop.length }}{{ i }};{% endfor %}
{%- set x = l + [4] %}{% for i in x %}{{ i }}{% endfor %}{% for i in x %}{{ i }}{% endfor %}{{ x[3] }}{{ x | length }}
{%- set x = l | map('string') %}{% for i in x %}{{ i }}{% endfor %}{% for i in x %}{{ i }}{% endfor %}
{%- set x = l | map('string') | list %}{% for i in x %}{{ i }}{% endfor %}{% for i in x %}{{ i }}{% endfor %}
{%- for i in l if i > 1 %}{{ loop.index }}{{ loop.last }}{{ loop.length }}{{ i }}{% else %}none{% endfor %}
{%- for i in l if i > 9 %}x{% else %}none{% endfor %}
{%- for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{% for k in d %}{{ k }}{% endfor %}
{%- for a, b in [(1, 2), [3, 4], 'xy'] %}{{ a }}{{ b }};{% endfor %}
{%- for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}
{%- for (a, (b, c)) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}
{%- for i in nil %}{% endfor %}
{%- for i in 5 %}{% endfor %}
{%- for i in nothing %}x{% else %}e{% endfor %}
{%- for i in 'héy' %}{{ i }}-{% endfor %}
{%- for i in range(4) %}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.depth }}{{ loop.previtem }}{{ loop.nextitem }} {% endfor %}
{%- for i in [1, 1, 2] %}{{ loop.changed(i) }}{{ loop.cycle('x', 'y') }}{% endfor %}
{%- for i in [[1, [2]], [3]] recursive %}{% if i is sequence %}({{ loop(i) }}){% else %}{{ i }}{{ loop.depth }}{% endif %}{% endfor %}
{%- for i in [1] %}{{ loop([1]) }}{% endfor %}
{%- for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i > 4 %}{% break %}{% endif %}{{ i }}{% endfor %}
{%- for i in range(3) %}{% for j in range(3) %}{% if j == 1 %}{% break %}{% endif %}{{ i }}{{ j }} {% endfor %}{% endfor %}
{% break %}
{%- for i in [1, 2] %}{% set x = (x | default(0)) + 1 %}{{ x }}{% endfor %}{{ x is defined }}
{%- set x = 1 %}{% for i in [1, 2] %}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }}
{%- if true %}{% set y = 5 %}{% endif %}{{ y }}
{%- with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a is defined }}
{%- set a = 1 %}{% with a = 2, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}
{%- with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q is defined }}
{%- set x %}  block {{ i }}{% endset %}[{{ x }}]{{ x is string }}
{%- set x | upper | replace('B', 'x') %}abc{% endset %}{{ x }}
{%- filter upper | replace('A', 'b') %}a{{ s }}{% endfilter %}
{%- filter indent(2) %}a
b{% endfilter %}
{%- filter nosuch %}a{% endfilter %}
{%- set a, b = 1, 2 %}{{ a }}{{ b }}{% set (c, d2) = [3, 4] %}{{ c }}{{ d2 }}{% set a, = [5] %}{{ a }}
{%- set a = 1, 2 %}{{ a }}{% set b = () %}{{ b }}
{%- set a, b = 1 %}
{%- set 1 = 2 %}
{%- set none = 2 %}
{%- set a.b.c = 2 %}
{%- set a %}x
{%- autoescape true %}{{ '<' }}{{ '<' | safe }}{{ '<' ~ '>' }}{% endautoescape %}{{ '<' }}
{%- autoescape false %}{{ '<' }}{% endautoescape %}
{%- block x %}in{{ s }}{% endblock %}
{%- block x %}in{% endblock x %}
{%- include 'x' %}
{%- import 'x' as y %}
{%- extends 'x' %}
{%- do l.append(1) %}
{%- generation %}g{{ i }}{% endgeneration %}
{%- generation %}{% set z = 1 %}{{ z }}{% endgeneration %}{{ z is defined }}
{%- trans %}x{% endtrans %}
{{ 1 }}{# c #}{{ 2 }}{#- c -#} {{ 3 }}
{{ '}}' }}{{ "{% x %}" }}{{ {'a': {'b': 1}}.a.b }}{{ {'a': {}} }}
{% raw %}{{ x }}{% endraw %}{% raw -%}  y  {%- endraw %}
{{ s if s else 'n' }}{{ 'y' if nothing is defined }}{{ ('y' if no) is undefined }}
{{ (1 if no) + 1 }}
{{ s.upper() | lower | title }}{{ (s | upper).lower() }}{{ s | upper() }}
{{ s | attr('upper') is callable }}{{ (d | attr('get'))('b') }}{{ (d | attr('keys'))() | list }}
{{ d.get('zz', {}).get('q', 'deep') }}{{ (d.zz | default({})).q is defined }}{{ d.zz.q }}
{{ nothing.x }}
{{ nothing() }}
{{ s() }}
{{ s.upper }}x
{{ 1 2 }}
{{ 1 + }}
{{ ( }}
{{ [1 }}
{{ 'a }}
{{ a b }}
{{ not }}
{{ is }}
{{ 1 is }}
{{ x | }}
{{ | upper }}
{{ foo(a=1, 2) }}
{{ foo(*l, *l) }}
{{ dict(**{'a': 1}, b=2) }}
{{ dict(b=2, **{'a': 1}) }}
{{ dict(*[[('a', 1)]]) }}
{% if 1 %}{% elif %}{% endif %}
{% if 1 %}x{% else %}y{% elif 2 %}z{% endif %}
{% endif %}
{% if 1 %}
{% for %}
{% nosuch %}
{%%}
{{}}
{{ }}
{% set x = [1, 2] %}{{ x.append(3) }}
{% set x = {'a': 1} %}{{ x.update({'b': 2}) }}
{{ ''.__class__ }}|{{ ''.__class__.__mro__ }}
{{ ''['__class__'] }}|{{ [].__class__ is defined }}
{{ l | tojson | length }}{{ (l | tojson) ~ 'x' }}{{ rows | tojson(indent=4) }}
{{ rows | tojson(separators=(',', ':')) }}{{ rows | tojson(separators=[',', ':']) }}{{ d | tojson(sort_keys=true) }}
{{ l | tojson(nosuch=1) }}
{{ l | tojson(indent='\\t') }}{{ ed | tojson(indent=2) }}{{ l | tojson(indent=0) }}{{ l | tojson(indent=-1) }}{{ l | tojson(indent=true) }}
"""


#: Forms that templates of published checkpoints use, and that were wrong once.
PUBLISHED = r"""
{{ ("x" | attr("upper"))() }}
{% set ns = namespace(l=[]) %}{% for m in messages %}{% set ns.l = ns.l + [m.content] %}{% endfor %}{{ ns.l | tojson }}
{% set c = cycler("x", "y") %}{{ c.next() }}{{ c.next() }}
{{ dict.fromkeys(["a", "b"], 0) | tojson }}
{{ dict([("a", 1)])["a"] }}
[{{ "x" | center(5) }}]
{{ 123456 | filesizeformat }}
{{ "<b>x</b>" | striptags }}
{{ "a long line of words" | truncate(9) }}
{{ "a b" | urlencode }}
{{ "one two three" | wordcount }}
{{ "aa bb cc" | wordwrap(5) }}
{{ "y" if messages[0].get is callable else "n" }}
{% macro m() %}{{ kwargs.a }}{% endmacro %}{{ m(a=3) }}
{{ '\N{BULLET}' }}
{% set f = "<%s>" %}{{ f % "x" }}
{% print "x" %}
{{ {"n": [0] * 3} | tojson(indent=2) }}
{{ "yes" if messages[0:] is sequence else "no" }}
{{ messages[0:] | tojson }}
{{ "a b c".split()[1:] | tojson }}
{% set all = [{"a": 1}] + [{"b": 2}] %}{{ all | tojson }}
{% macro m() %}{{ varargs | length }}{% endmacro %}{{ m(1, 2) }}
"""


def expressions() -> list[str]:
    for values, calls in ((VALUES, [f"|{name}" for name in FILTERS]), (VALUES, [f" is {name}" for name in TESTS])):
        yield from (f"{value}{call}" for call, value in itertools.product(calls, values))
    yield from (f"rows|{name}" for name in FILTERS)
    yield from (f"w|{name}" for name in FILTERS)
    for value in ("s", "empty", "u", "ml", "'ab1'"):
        yield from (f"{value}.{method}" for method in STR_METHODS)
    for value, methods in OTHER_METHODS.items():
        yield from (f"{value}{'' if method.startswith('[') else '.'}{method}" for method in methods)
    for left, operator, right in itertools.product(OPERANDS, BINARY, OPERANDS):
        yield f"{left} {operator} {right}"
    for group in (PERCENT, BRACES, LISTS, FORMS):
        # A bar with space before and after it, or within, is a filter's or a string's.
        for line in re.split(r"(?<!\\)\n", group.strip("\n")):
            yield from split(line)


def split(line: str) -> list[str]:
    """Parts a line at the bars that stand between expressions: outside of strings and brackets."""
    parts, part, quote, depth, index = [], "", None, 0, 0
    while index < len(line):
        character = line[index]
        if quote:
            if character == "\\":
                part += line[index : index + 2]
                index += 2
                continue
            quote = None if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == "|" and depth == 0 and line[index - 1] != " " and not line.startswith(FILTER_AFTER_BAR, index + 1):
            parts.append(part)
            part = ""
            index += 1
            continue
        part += character
        index += 1
    return parts + [part]


#: A bar without a space before one of these is a filter too.
FILTER_AFTER_BAR = ("attr(", "wordwrap", "safe)")


def render(template: str) -> str | None:
    try:
        texts, _ = render_jinja_template([MESSAGES], chat_template=template, **VARIABLES)
    except Exception:  # whatever a template can raise
        return None
    return texts[0]


def main() -> None:
    # What stands at a different address in every run cannot be compared. Complex numbers are not there.
    unstable = re.compile(r" at 0x[0-9a-f]+|<generator|<listreverseiterator|<function |<built-in|<bound method|<class|reverse_?iterator|b'|j\)$")
    table, seen = [], set()
    for expression in expressions():
        if expression in seen:
            continue
        seen.add(expression)
        text = render("{{ " + expression + " }}")
        if text is None or not unstable.search(text):
            table.append([expression, text])
    statements = re.split(r"\n(?=\{)", STATEMENTS.strip("\n")) + PUBLISHED.strip("\n").split("\n")
    statements = [[template, render(template)] for template in statements]
    statements = [case for case in statements if case[1] is None or not unstable.search(case[1])]
    fixture = {
        "made_by": "tools/reference/jinja_table.py",
        "transformers": transformers.__version__,
        "messages": MESSAGES,
        "variables": VARIABLES,
        "expressions": table,
        "templates": statements,
    }
    lines = json.dumps(fixture, ensure_ascii=False).replace('], ["', '],\n["')
    OUT.write_text(lines + "\n", encoding="utf-8")
    refused = sum(text is None for _, text in table)
    print(f"{OUT.name}: {len(table)} expressions, of which {refused} fail, and {len(statements)} templates")


if __name__ == "__main__":
    main()
