//! Templates render as transformers renders them: construct by construct, with whitespace control
//! drawn at random, and in thousands of small expressions. `tools/reference/jinja.py` and
//! `jinja_table.py` made the references. And a template of a stranger costs only so much.

use std::path::Path;
use std::time::{Duration, Instant};

use ml_backend::chat::{ChatError, JinjaTemplate, Message, Variables};
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    messages: Vec<Message>,
    special_tokens: Variables,
    variables: Variables,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    /// What transformers renders, or
    text: Option<String>,
    /// why it does not.
    error: Option<String>,
}

fn fixture() -> Fixture {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/jinja.json");
    let text = std::fs::read_to_string(path).expect("the fixture is in the repository");
    serde_json::from_str(&text).expect("the fixture has this form")
}

impl Fixture {
    fn render(&self, case: &Case) -> Result<String, ChatError> {
        let tokens = self.special_tokens.iter();
        let tokens = tokens.filter_map(|(role, token)| Some((role.as_str(), token.as_str()?)));
        JinjaTemplate::new(Path::new("chat_template.jinja"), &case.template)?
            .with_variables(tokens)
            .render(&self.messages, true, &self.variables)
    }
}

#[test]
fn every_construct_renders_as_in_transformers() {
    let fixture = fixture();
    let mut wrong = Vec::new();
    for case in &fixture.cases {
        let ours = fixture.render(case);
        let equal = match (&case.text, &ours) {
            (Some(theirs), Ok(ours)) => theirs == ours,
            (None, Err(_)) => true,
            _ => false,
        };
        if !equal {
            let theirs = case.text.as_ref().or(case.error.as_ref());
            wrong.push(format!(
                "{:?}\n  theirs {theirs:?}\n  ours   {ours:?}",
                case.template
            ));
        }
    }
    assert!(fixture.cases.len() > 350, "the fixture is not whole");
    assert!(
        wrong.is_empty(),
        "{} templates differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn an_exception_that_a_template_raises_keeps_its_message() {
    let fixture = fixture();
    let mut raised = 0;
    for case in &fixture.cases {
        let Some(error) = case.error.as_deref() else {
            continue;
        };
        let Some(message) = error.strip_prefix("TemplateError: ") else {
            continue;
        };
        match fixture.render(case) {
            Err(ChatError::Refused(ours)) => assert_eq!(ours, message),
            other => panic!("{:?} is not refused but {other:?}", case.template),
        }
        raised += 1;
    }
    assert!(raised >= 3, "the fixture raises too little");
}

#[derive(Deserialize)]
struct Table {
    messages: Vec<Message>,
    variables: Variables,
    /// An expression, and what transformers renders for it, or nothing where it fails.
    expressions: Vec<(String, Option<String>)>,
    templates: Vec<(String, Option<String>)>,
}

#[test]
fn every_filter_test_method_and_operator_gives_what_it_gives_in_transformers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/jinja_table.json");
    let text = std::fs::read_to_string(path).expect("the fixture is in the repository");
    let table: Table = serde_json::from_str(&text).expect("the fixture has this form");
    let expressions = table.expressions.iter();
    let expressions = expressions.map(|(it, text)| (format!("{{{{ {it} }}}}"), text));
    let templates = table.templates.iter().map(|(it, text)| (it.clone(), text));
    let mut wrong = Vec::new();
    for (source, theirs) in expressions.chain(templates) {
        let template = JinjaTemplate::new(Path::new("table"), &source);
        let ours = template.and_then(|it| it.render(&table.messages, false, &table.variables));
        if ours.as_ref().ok() != theirs.as_ref() {
            wrong.push(format!("{source}\n  theirs {theirs:?}\n  ours   {ours:?}"));
        }
    }
    assert!(table.expressions.len() > 7000, "the fixture is not whole");
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// What a template did, on a thread with a small stack, and how long it took.
fn stranger(source: String, messages: Vec<Message>) -> (Result<String, ChatError>, Duration) {
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    let thread = thread.spawn(move || {
        let start = Instant::now();
        let rendered = JinjaTemplate::new(Path::new("chat_template.jinja"), &source)
            .and_then(|it| it.render(&messages, true, &Variables::new()));
        (rendered, start.elapsed())
    });
    thread.expect("a thread").join().expect("no panic")
}

/// Time enough for what takes a second where nothing else runs, in an unoptimized build too.
const LONGEST: Duration = Duration::from_secs(60);

#[test]
fn a_template_that_costs_too_much_is_one_line() {
    let loops = |body: &str| {
        format!(
            "{{% for i in range(100000) %}}{{% for j in range(100000) %}}{body}{{% endfor %}}{{% endfor %}}"
        )
    };
    let grows = |start: &str, step: &str, after: &str| {
        format!(
            "{{% set ns = namespace(x={start}, y={start}) %}}\
             {{% for i in range(100000) %}}{{% set ns.x = {step} %}}{{% endfor %}}{after}"
        )
    };
    let twice = "{% set ns = namespace(x=1, y=1) %}{% for i in range(400) %}\
                 {% set ns.x = (ns.x, ns.x) %}{% set ns.y = (ns.y, ns.y) %}{% endfor %}";
    let templates = [
        "{{ 'x'.ljust(10**12) }}".to_owned(),
        "{{ 'x'.rjust(10**12) }}{{ 'x'.center(10**12) }}".to_owned(),
        "{{ 'x'.zfill(10**12) }}".to_owned(),
        "{{ 'x' | center(10**12) }}".to_owned(),
        "{{ 'x\ny' | indent(10**12) }}".to_owned(),
        "{{ [[1]] | tojson(indent=10**12) }}".to_owned(),
        "{{ '\t'.expandtabs(10**12) }}".to_owned(),
        "{{ '%1000000000d' % 1 }}".to_owned(),
        "{{ '%.1000000000f' % 1 }}".to_owned(),
        "{{ '{:>1000000000}'.format(1) }}".to_owned(),
        "{{ '{:.1000000000f}'.format(1) }}".to_owned(),
        "{{ 'x' * 10**12 }}".to_owned(),
        "{{ [0] * 10**12 }}".to_owned(),
        "{{ [1] | batch(10**12, 0) | list }}".to_owned(),
        "{{ [1] | slice(10**12) | list }}".to_owned(),
        "{{ 10**10**10 }}".to_owned(),
        "{{ strftime_now('%1000000000Y') }}".to_owned(),
        "{{ range(100000) | join('x' * 100000) }}".to_owned(),
        "{{ ('ab ' * 10000000).split() }}".to_owned(),
        "{{ ('a-b ' * 3000000) | wordwrap(1) }}".to_owned(),
        loops(""),
        loops("a text of some length, again and again"),
        grows("1", "[ns.x]", "{{ ns.x }}"),
        grows("1", "{'a': ns.x}", "{{ ns.x | tojson }}"),
        grows("'x'", "ns.x ~ ns.x", ""),
        grows("'x'", "ns.x + ns.x", ""),
        grows("[1]", "ns.x + ns.x", ""),
        grows("'x'", "ns.x | replace('', 'abc')", ""),
        format!("{twice}{{{{ ns.x | tojson }}}}"),
        format!("{twice}{{{{ ns.x == ns.y }}}}"),
        format!("{twice}{{{{ {{ns.x: 1}} }}}}"),
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}".to_owned(),
        "{% macro m() %}{% set x %}{{ m() }}{% endset %}{% endmacro %}{{ m() }}".to_owned(),
        "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}".to_owned(),
        format!("{{{{ {}", "'%s'%(".repeat(20_000)),
        format!(
            "{{{{ {}1{} }}}}",
            "'%s'%(".repeat(20_000),
            ")".repeat(20_000)
        ),
        format!("{{{{ {}1{} }}}}", "[".repeat(50_000), "]".repeat(50_000)),
        format!("{{{{ {}1 }}}}", "not ".repeat(50_000)),
        format!("{{{{ {}1 }}}}", "-".repeat(50_000)),
        format!("{{{{ 1{} }}}}", " + 1".repeat(50_000)),
        format!("{{{{ a{} }}}}", ".b".repeat(50_000)),
        format!("{{{{ 'a'{} }}}}", "|upper".repeat(50_000)),
        "{% if 1 %}".repeat(20_000),
        "{%raw%}".repeat(50_000),
        "{#".repeat(400_000),
        "{{".repeat(400_000),
        "x".repeat(2 << 20),
    ];
    for source in templates {
        let shown: String = source.chars().take(60).collect();
        let (rendered, time) = stranger(source, vec![Message::user("hi")]);
        let error = rendered.expect_err(&shown).to_string();
        assert!(
            error.starts_with("chat_template.jinja: line ") && !error.contains('\n'),
            "{error}"
        );
        assert!(time < LONGEST, "{shown}: {time:?}");
    }
}

#[test]
fn what_nests_as_deep_as_it_may_is_run_printed_compared_and_dropped() {
    let source = "{% set ns = namespace(x=1, y=1) %}{% for i in range(490) %}\
                  {% set ns.x = [ns.x] %}{% set ns.y = [ns.y] %}{% endfor %}\
                  {{ ns.x == ns.y }}{{ ns.x | tojson | length }}{{ ns.x | string | length }}";
    let (rendered, _) = stranger(source.to_owned(), vec![Message::user("hi")]);
    assert_eq!(rendered.unwrap(), "True981981");

    let source = format!(
        "{}{{{{ {}1{} }}}}{}",
        "{% if 1 %}".repeat(48),
        "(".repeat(48),
        " + 1)".repeat(48) + &" + 1".repeat(290),
        "{% endif %}".repeat(48),
    );
    let (rendered, _) = stranger(source, vec![Message::user("hi")]);
    assert_eq!(rendered.unwrap(), "339");
}

#[test]
fn a_long_chat_with_many_tools_is_no_cost_too_high() {
    // Accumulates the text, looks at all messages at each one, and writes every tool twice.
    let source = "\
        {%- set ns = namespace(text='', last=0) -%}\
        {%- for message in messages -%}\
            {%- set rest = messages[loop.index:] -%}\
            {%- if rest | selectattr('role', 'equalto', 'user') | list | length == 0 -%}{%- set ns.last = loop.index -%}{%- endif -%}\
            {%- set content = message.content.split('</think>')[-1].lstrip('\n') | trim -%}\
            {%- set ns.text = ns.text ~ '<' ~ message.role ~ '>' ~ content ~ '</>' -%}\
        {%- endfor -%}\
        {%- for tool in tools -%}\
            {%- for name, value in tool.function.parameters.properties.items() -%}\
                {{ name }}: {{ value.description | upper }}{{ value | tojson(indent=4) }}\
            {%- endfor -%}\
            {{ tool | tojson }}\
        {%- endfor -%}\
        {{ ns.text }}";
    let message = |at: usize| {
        let text = "words and more words ".repeat(5);
        if at.is_multiple_of(2) {
            Message::user(text)
        } else {
            Message::assistant(text)
        }
    };
    let messages: Vec<Message> = (0..1000).map(message).collect();
    let property = |at: usize| {
        let value =
            serde_json::json!({"type": "string", "description": "what it is, in some words"});
        (format!("name{at}"), value)
    };
    let properties: Variables = (0..20).map(property).collect();
    let tool = serde_json::json!({"type": "function", "function": {
        "name": "f", "parameters": {"type": "object", "properties": properties}}});
    let mut variables = Variables::new();
    variables.insert("tools".to_owned(), vec![tool; 200].into());
    let template = JinjaTemplate::new(Path::new("chat_template.jinja"), source).unwrap();
    let text = template.render(&messages, true, &variables).unwrap();
    assert_eq!(text.matches("<user>").count(), 500);
    assert_eq!(text.matches("WHAT IT IS").count(), 4000);
}
