//! A conversation that is kept: in memory, and in a file.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use ml_backend::{
    AnswerEvent, CancelToken, Error, FinishReason, Message, MlxBackend, Options, Role, Session,
    SessionError, SessionFile,
};
use serde_json::json;

use crate::examples::TOOLS;
use crate::scripted;

fn demo() -> &'static MlxBackend {
    static DEMO: OnceLock<MlxBackend> = OnceLock::new();
    DEMO.get_or_init(|| load("qwen3-demo"))
}

fn load(name: &str) -> MlxBackend {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/models");
    let builder = MlxBackend::builder().device(crate::common::device());
    builder.load(models.join(name)).unwrap()
}

fn greedy() -> Options {
    Options::new().temperature(0.0).max_tokens(64)
}

fn roles(session: &Session) -> Vec<Role> {
    let messages = session.messages().iter();
    messages.map(|message| message.role).collect()
}

fn problem(error: Error) -> SessionError {
    match error {
        Error::Session(error) => error,
        other => panic!("{other}"),
    }
}

#[test]
fn a_turn_sees_those_before_it_and_reads_only_what_is_new() {
    let mut session = Session::new(demo(), greedy());
    session.set_system("Answer.");
    let first = session.send("What is 17 + 25?").unwrap();
    assert_eq!(first.text, "42");
    let second = session.send("Spell the word garden.").unwrap();
    assert_eq!(
        roles(&session),
        [
            Role::System,
            Role::User,
            Role::Assistant,
            Role::User,
            Role::Assistant
        ]
    );
    let alone = demo().respond(&session.messages()[..4], &greedy()).unwrap();
    assert_eq!(second.text, alone.text);
    // Of the prompt all but the last answer's end was known.
    let metrics = &second.metrics;
    assert!(
        metrics.reused_tokens >= first.metrics.prompt_tokens,
        "{metrics:?}"
    );
    assert_eq!(alone.metrics.reused_tokens, 0);
}

#[test]
fn a_turn_can_be_taken_back_and_all_be_forgotten() {
    let mut session = Session::new(demo(), greedy());
    assert!(session.take_back().unwrap().is_empty());
    session.set_system("Answer.");
    session.send("What is 17 + 25?").unwrap();
    session.send("Spell the word garden.").unwrap();
    let turn = session.take_back().unwrap();
    assert_eq!(
        (turn.len(), turn[0].content.as_str()),
        (2, "Spell the word garden.")
    );
    assert_eq!(session.messages().len(), 3);
    session.reset().unwrap();
    assert_eq!(roles(&session), [Role::System]);
    let error = problem(session.answer().unwrap_err());
    assert!(matches!(error, SessionError::NothingToAnswer), "{error}");
}

#[test]
fn what_fails_is_taken_out_and_what_was_said_stays() {
    let mut session = Session::new(demo(), greedy());
    session.send("What is 17 + 25?").unwrap();
    let long = session.send("a ".repeat(2000)).unwrap_err();
    assert!(
        matches!(
            long,
            Error::PromptTooLong { .. } | Error::PromptTooLarge { .. }
        ),
        "{long}"
    );
    assert_eq!(session.messages().len(), 2);

    // Cancelled before anything was said.
    let cancel = CancelToken::new();
    cancel.cancel();
    session.options_mut().cancel = cancel;
    let error = session.send("Spell the word garden.").unwrap_err();
    assert!(matches!(error, Error::Cancelled { .. }), "{error}");
    assert_eq!(session.messages().len(), 2);

    // Cancelled in between, and left by its reader.
    for cancelled in [true, false] {
        let cancel = CancelToken::new();
        session.options_mut().cancel = cancel.clone();
        let mut stream = session.stream("Spell the word garden.").unwrap();
        let mut said = String::new();
        while said.is_empty() {
            for event in stream.next().unwrap().unwrap().events {
                if let AnswerEvent::Text(text) = event {
                    said += &text;
                }
            }
        }
        if cancelled {
            cancel.cancel();
            let error = stream.by_ref().find_map(|piece| piece.err()).unwrap();
            assert!(matches!(error, Error::Cancelled { .. }), "{error}");
            assert_eq!(stream.answer().finish_reason, FinishReason::Cancelled);
        }
        drop(stream);
        let last = session.messages().last().unwrap();
        assert_eq!((last.role, &last.content), (Role::Assistant, &said));
        assert!("g-a-r-d-e-n".starts_with(&said), "{said}");
        assert_eq!(session.take_back().unwrap().len(), 2);
    }
}

#[test]
fn an_answer_waits_for_all_that_it_called() {
    let (dir, backend) = scripted::model(&["<tool_call>", "</tool_call>"], Some(TOOLS));
    let call = |town: &str| {
        format!(
            "<tool_call>\n{{\"name\": \"weather\", \"arguments\": {{\"town\": \"{town}\"}}}}\n</tool_call>"
        )
    };
    let answers = [
        format!("I look.\n{}\n{}", call("Bern"), call("Basel")),
        "Sun and rain.".to_owned(),
    ];
    let answers = answers.each_ref().map(String::as_str);
    let tool = json!({"type": "function", "function": {"name": "weather", "parameters": {
        "type": "object", "properties": {"town": {"type": "string"}}}}});
    let options = greedy().max_tokens(300).tool(tool);
    let options = scripted::saying(&backend, options, "<|im_start|>assistant", &answers);
    let file = dir.path().join("weather.jsonl");
    let mut session = Session::open(&backend, options.clone(), &file).unwrap();
    let answer = session.send("Weather?").unwrap();
    assert_eq!(answer.finish_reason, FinishReason::ToolCalls);
    let [bern, basel] = &answer.tool_calls[..] else {
        panic!("{answer:?}")
    };
    assert_eq!(session.waiting(), [bern, basel]);
    let error = problem(session.send("Hello?").unwrap_err());
    assert!(matches!(error, SessionError::CallsWait { .. }), "{error}");
    assert!(error.to_string().contains("weather, weather"), "{error}");
    assert!(session.send_tool_result(basel, "rain").unwrap().is_none());
    let error = problem(session.send_tool_result(basel, "rain").unwrap_err());
    assert!(matches!(error, SessionError::NoSuchCall { .. }), "{error}");

    // In the middle of it the program ends, and goes on.
    let messages = session.messages().to_vec();
    drop(session);
    let mut session = Session::open(&backend, options, &file).unwrap();
    assert_eq!(session.messages(), messages);
    assert_eq!(session.waiting(), [bern]);
    let last = session.send_tool_result(bern, "sun").unwrap().unwrap();
    assert_eq!(last.text, "Sun and rain.");
    assert!(session.waiting().is_empty());
    // The turn is all of that.
    assert_eq!(session.take_back().unwrap().len(), 5);
}

/// A conversation with all that messages have.
fn rich() -> Vec<Message> {
    let sent = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": "Zwei\nZeilen, “quotes” and \u{1f980}"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "Ada"},
        {"role": "assistant", "content": null, "reasoning_content": "Hm.\n", "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"z\": 1, \"a\": [1.5, null]}"}},
            {"type": "function", "function": {"name": "g", "arguments": "no object"}}]},
        {"role": "tool", "tool_call_id": "1", "name": "f", "content": "\u{2028}\t\"x\""},
        {"role": "tool", "content": ""},
        {"role": "assistant", "content": "Done."},
        {"role": "user", "content": "Thanks"},
        {"role": "assistant", "content": ""},
    ]);
    serde_json::from_value(sent).unwrap()
}

#[test]
fn a_file_has_all_of_a_conversation() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kept.jsonl");
    let mut session = Session::new(demo(), greedy()).with_messages(rich());
    session.save(&file).unwrap();
    let loaded = Session::load(demo(), greedy(), &file).unwrap();
    assert_eq!(loaded.messages(), rich());
    // Other programs read it too: a line of JSON for each message.
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), 1 + rich().len());
    assert!(text.ends_with('\n'));
    // What was only loaded goes nowhere.
    drop(loaded);
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    // Nothing is left beside it.
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_question_is_kept_before_its_answer_and_goes_with_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kept.jsonl");
    let lines = || fs::read_to_string(&file).unwrap().lines().count();
    let mut session = Session::open(demo(), greedy(), &file).unwrap();
    assert_eq!(lines(), 1);
    let stream = session.stream("What is 17 + 25?").unwrap();
    assert_eq!(lines(), 2);
    // As a killed program leaves it.
    let killed = dir.path().join("killed.jsonl");
    fs::copy(&file, &killed).unwrap();
    drop(stream);
    session.take_back().unwrap();
    assert_eq!(lines(), 1);
    session.send("a ".repeat(2000)).unwrap_err();
    assert_eq!(lines(), 1);

    let mut session = Session::open(demo(), greedy(), &killed).unwrap();
    assert!(session.awaits_answer());
    let error = problem(session.send("And?").unwrap_err());
    assert!(matches!(error, SessionError::Unanswered), "{error}");
    assert_eq!(session.answer().unwrap().text, "42");
    assert!(!session.awaits_answer());
}

#[test]
fn one_session_at_a_time_has_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kept.jsonl");
    let mut session = Session::open(demo(), greedy(), &file).unwrap();
    let in_use = || {
        let error = SessionFile::open(&file).unwrap_err();
        assert!(matches!(error, SessionError::InUse { .. }), "{error}");
    };
    in_use();
    // Also when another file has come to its name.
    session.send("What is 17 + 25?").unwrap();
    in_use();
    assert!(Session::new(demo(), greedy()).save(&file).is_err());
    session.save(&file).unwrap();
    drop(session);
    assert_eq!(SessionFile::open(&file).unwrap().messages().len(), 2);
}

#[cfg(unix)]
#[test]
fn a_file_keeps_its_place_and_its_readers() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (file, link) = (dir.path().join("kept.jsonl"), dir.path().join("link"));
    let mode = || fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    drop(Session::open(demo(), greedy(), &file).unwrap());
    assert_eq!(mode(), 0o600);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let mut session = Session::open(demo(), greedy(), &link).unwrap();
    session.send("What is 17 + 25?").unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(mode(), 0o640);
    assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 3);
}

#[test]
fn another_model_may_go_on_and_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kept.jsonl");
    let mut session = Session::open(demo(), greedy(), &file).unwrap();
    session.send("What is 17 + 25?").unwrap();
    drop(session);
    let session = Session::open(demo(), greedy(), &file).unwrap();
    assert_eq!(session.other_model(), None);
    drop(session);
    let other = load("gemma3-demo");
    let mut session = Session::open(&other, greedy(), &file).unwrap();
    let told = session.other_model().unwrap();
    assert!(told.starts_with("qwen3-demo (qwen3, "), "{told}");
    session.send("What is 17 + 25?").unwrap();
    drop(session);
    assert_eq!(
        Session::open(&other, greedy(), &file)
            .unwrap()
            .other_model(),
        None
    );
}

#[test]
fn what_is_no_session_is_refused_in_one_line_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kept.jsonl");
    let good = "{\"ml_session\":1,\"model\":null}\n";
    let user = "{\"role\":\"user\",\"content\":\"a\"}\n";
    for (contents, told) in [
        ("Dear diary\n".to_owned(), "is no session"),
        ("{\"a\": 1}\n".to_owned(), "is no session"),
        ("[1]\n".to_owned(), "is no session"),
        ("\n".to_owned(), "is no session"),
        ("x".repeat(1 << 20), "is no session"),
        ("{\"ml_session\":2}\n".to_owned(), "later version"),
        ("{\"ml_session\":1,\"model\":7}\n".to_owned(), "line 1"),
        (format!("{good}{user}{{\"role\":\"us"), "line 3"),
        (format!("{good}{user}\n{user}"), "line 3"),
        (
            format!("{good}{{\"role\":\"cat\",\"content\":\"\"}}\n"),
            "`cat`",
        ),
        (format!("{good}{{\"content\":\"\"}}\n"), "role"),
    ] {
        fs::write(&file, &contents).unwrap();
        for error in [
            SessionFile::open(&file).unwrap_err(),
            problem(Session::load(demo(), greedy(), &file).err().unwrap()),
            problem(Session::new(demo(), greedy()).save(&file).unwrap_err()),
        ] {
            let line = error.to_string();
            assert!(line.contains(told) && !line.contains('\n'), "{line}");
            assert!(line.contains("kept.jsonl"), "{line}");
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), contents);
    }
    // A model's weights, byte for byte no text.
    fs::write(&file, [0xff; 100]).unwrap();
    let error = SessionFile::open(&file).unwrap_err();
    assert!(matches!(error, SessionError::NotASession { .. }), "{error}");
    // An empty one, such as mktemp makes, is begun.
    fs::write(&file, "").unwrap();
    assert!(SessionFile::open(&file).unwrap().is_new());
    assert!(file.exists());
    // One that was not there is not left behind by who has nothing to write.
    fs::remove_file(&file).unwrap();
    drop(SessionFile::open(&file).unwrap());
    assert!(!file.exists());
    let missing = dir.path().join("no/such/folder.jsonl");
    for error in [
        SessionFile::open(&missing).unwrap_err(),
        SessionFile::open(dir.path()).unwrap_err(),
    ] {
        assert!(matches!(error, SessionError::File { .. }), "{error}");
    }
}
