//! The formats of strings that JSON Schema defines, as regular expressions.
//!
//! Narrower than their standards where those leave more open than readers agree on: no leap seconds, no labels of
//! hosts with two hyphens in a row, lengths within what mail and name servers take.

/// Letters, digits, and what else stands for itself in the path of a URI.
const IN_PATH: &str = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})";

/// What JSON Schema says of a format.
#[derive(Debug, PartialEq)]
pub(super) enum Format {
    /// All texts that this matches from beginning to end are of the format.
    Pattern(String),
    /// It is defined and not among those here.
    Unsupported,
    /// It is not defined: a note for readers, which says nothing about a text.
    Note,
}

/// A format by its name.
pub(super) fn format(name: &str) -> Format {
    Format::Pattern(match name {
        "date" => date(),
        "time" => time(),
        "date-time" => format!("{}T{}", date(), time()),
        "duration" => duration(),
        "email" => email(),
        "hostname" => host(),
        "ipv4" => ipv4(),
        "ipv6" => ipv6(),
        "uuid" => "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}".to_owned(),
        "uri" => uri(),
        "uri-reference" => reference(),
        "json-pointer" => "(?:/(?:[^/~]|~[01])*)*".to_owned(),
        "idn-email"
        | "idn-hostname"
        | "iri"
        | "iri-reference"
        | "uri-template"
        | "relative-json-pointer"
        | "regex" => return Format::Unsupported,
        _ => return Format::Note,
    })
}

fn date() -> String {
    let long = "(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])";
    let short = "(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)";
    let february = "02-(?:0[1-9]|1[0-9]|2[0-8])";
    let fourth = "(?:0[48]|[2468][048]|[13579][26])";
    let fourth_hundred = "(?:[02468][048]|[13579][26])00";
    let leap = format!("(?:[0-9]{{2}}{fourth}|{fourth_hundred})-02-29");
    format!("(?:[0-9]{{4}}-(?:{long}|{short}|{february})|{leap})")
}

fn time() -> String {
    let hour = "(?:[01][0-9]|2[0-3])";
    format!(r"{hour}:[0-5][0-9]:[0-5][0-9](?:\.[0-9]{{1,9}})?(?:Z|[+-]{hour}:[0-5][0-9])")
}

fn duration() -> String {
    let number = "[0-9]{1,9}";
    let time =
        format!("T(?:{number}H(?:{number}M(?:{number}S)?)?|{number}M(?:{number}S)?|{number}S)");
    let date =
        format!("(?:{number}Y(?:{number}M(?:{number}D)?)?|{number}M(?:{number}D)?|{number}D)");
    format!("P(?:{date}(?:{time})?|{time}|{number}W)")
}

fn host() -> String {
    let more = "[A-Za-z0-9]{0,15}(?:-[A-Za-z0-9]{1,15}){0,2}";
    format!(r"(?:[A-Za-z0-9]{more}\.){{0,3}}[A-Za-z]{more}")
}

fn email() -> String {
    let atom = "[A-Za-z0-9!#$%&'*+/=?^_{|}~-]{1,20}";
    format!(r"{atom}(?:\.{atom}){{0,2}}@{}", host())
}

fn ipv4() -> String {
    let byte = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
    format!(r"{byte}(?:\.{byte}){{3}}")
}

/// Eight groups, or up to seven with one gap between them.
fn ipv6() -> String {
    let group = "[0-9a-fA-F]{1,4}";
    let groups = |least: usize, most: usize| format!("{group}(?::{group}){{{least},{most}}}");
    let with_gap = (0..=7).map(|before| {
        let left = match before {
            0 => String::new(),
            n => groups(n - 1, n - 1),
        };
        let right = match 7 - before {
            0 => String::new(),
            n => format!("(?:{})?", groups(0, n - 1)),
        };
        format!("{left}::{right}")
    });
    let forms: Vec<_> = std::iter::once(groups(7, 7)).chain(with_gap).collect();
    format!("(?:{})", forms.join("|"))
}

fn uri() -> String {
    let path = format!("(?:/{IN_PATH}*)*");
    let host = format!("(?:{}|{})", host(), ipv4());
    format!(
        "[A-Za-z][A-Za-z0-9+.-]*:(?://{host}(?::[0-9]{{1,4}})?{path}|{IN_PATH}+{path}){}",
        tail()
    )
}

fn reference() -> String {
    let segment = r"(?:[A-Za-z0-9._~!$&'()*+,;=@-]|%[0-9A-Fa-f]{2})+";
    format!("(?:{}|/?{segment}(?:/{segment})*/?{})", uri(), tail())
}

/// The query and the fragment of a URI.
fn tail() -> String {
    format!(r"(?:\?(?:{IN_PATH}|[/?])*)?(?:#(?:{IN_PATH}|[/?])*)?")
}
