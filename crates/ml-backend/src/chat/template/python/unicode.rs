//! What Python's `str` knows about characters, where Rust's `char` does not say the same.
//!
//! The tables are those of Python's `unicodedata`.

/// The zeros of the scripts that have decimal digits; each is followed by its other nine.
#[rustfmt::skip]
const ZEROS: [u32; 66] = [
    0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66,
    0xde6, 0xe50, 0xed0, 0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90,
    0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0,
    0xff10, 0x104a0, 0x10d30, 0x11066, 0x110f0, 0x11136, 0x111d0, 0x112f0, 0x11450, 0x114d0,
    0x11650, 0x116c0, 0x11730, 0x118e0, 0x11950, 0x11c50, 0x11d50, 0x11da0, 0x16a60, 0x16ac0,
    0x16b50, 0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6, 0x1e140, 0x1e2f0, 0x1e950, 0x1fbf0,
];

/// Digits that are not decimal, such as superscripts, first and last of each run.
#[rustfmt::skip]
const OTHER_DIGITS: [(u32, u32); 20] = [
    (0xb2, 0xb3), (0xb9, 0xb9), (0x1369, 0x1371), (0x19da, 0x19da), (0x2070, 0x2070), (0x2074,
    0x2079), (0x2080, 0x2089), (0x2460, 0x2468), (0x2474, 0x247c), (0x2488, 0x2490), (0x24ea,
    0x24ea), (0x24f5, 0x24fd), (0x24ff, 0x24ff), (0x2776, 0x277e), (0x2780, 0x2788), (0x278a,
    0x2792), (0x10a40, 0x10a43), (0x10e60, 0x10e68), (0x11052, 0x1105a), (0x1f100, 0x1f10a),
];

/// Ideographs that are numbers, first and last of each run.
#[rustfmt::skip]
const NUMERALS: [(u32, u32); 72] = [
    (0x3405, 0x3405), (0x3483, 0x3483), (0x382a, 0x382a), (0x3b4d, 0x3b4d), (0x4e00, 0x4e00),
    (0x4e03, 0x4e03), (0x4e07, 0x4e07), (0x4e09, 0x4e09), (0x4e5d, 0x4e5d), (0x4e8c, 0x4e8c),
    (0x4e94, 0x4e94), (0x4e96, 0x4e96), (0x4ebf, 0x4ec0), (0x4edf, 0x4edf), (0x4ee8, 0x4ee8),
    (0x4f0d, 0x4f0d), (0x4f70, 0x4f70), (0x5104, 0x5104), (0x5146, 0x5146), (0x5169, 0x5169),
    (0x516b, 0x516b), (0x516d, 0x516d), (0x5341, 0x5341), (0x5343, 0x5345), (0x534c, 0x534c),
    (0x53c1, 0x53c4), (0x56db, 0x56db), (0x58f1, 0x58f1), (0x58f9, 0x58f9), (0x5e7a, 0x5e7a),
    (0x5efe, 0x5eff), (0x5f0c, 0x5f0e), (0x5f10, 0x5f10), (0x62fe, 0x62fe), (0x634c, 0x634c),
    (0x67d2, 0x67d2), (0x6f06, 0x6f06), (0x7396, 0x7396), (0x767e, 0x767e), (0x8086, 0x8086),
    (0x842c, 0x842c), (0x8cae, 0x8cae), (0x8cb3, 0x8cb3), (0x8d30, 0x8d30), (0x9621, 0x9621),
    (0x9646, 0x9646), (0x964c, 0x964c), (0x9678, 0x9678), (0x96f6, 0x96f6), (0xf96b, 0xf96b),
    (0xf973, 0xf973), (0xf978, 0xf978), (0xf9b2, 0xf9b2), (0xf9d1, 0xf9d1), (0xf9d3, 0xf9d3),
    (0xf9fd, 0xf9fd), (0x20001, 0x20001), (0x20064, 0x20064), (0x200e2, 0x200e2), (0x20121,
    0x20121), (0x2092a, 0x2092a), (0x20983, 0x20983), (0x2098c, 0x2098c), (0x2099c, 0x2099c),
    (0x20aea, 0x20aea), (0x20afd, 0x20afd), (0x20b19, 0x20b19), (0x22390, 0x22390), (0x22998,
    0x22998), (0x23b1b, 0x23b1b), (0x2626d, 0x2626d), (0x2f890, 0x2f890),
];

/// What Python's `str` takes for whitespace: Unicode's, and four control characters.
pub(in super::super) fn is_space(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\x1c'..='\x1f')
}

/// `str.isdecimal` of a character.
pub(super) fn is_decimal(character: char) -> bool {
    let code = u32::from(character);
    ZEROS.iter().any(|zero| (*zero..*zero + 10).contains(&code))
}

/// The value of a decimal digit of any script.
pub(in super::super) fn decimal(character: char) -> Option<char> {
    let code = u32::from(character);
    let zero = ZEROS
        .iter()
        .find(|zero| (**zero..**zero + 10).contains(&code))?;
    char::from_digit(code - zero, 10)
}

/// `str.isdigit` of a character.
pub(super) fn is_digit(character: char) -> bool {
    is_decimal(character) || is_in(&OTHER_DIGITS, character)
}

/// `str.isnumeric` of a character.
pub(super) fn is_numeric(character: char) -> bool {
    character.is_numeric() || is_in(&NUMERALS, character)
}

fn is_in(runs: &[(u32, u32)], character: char) -> bool {
    let code = u32::from(character);
    runs.iter()
        .any(|(first, last)| (*first..=*last).contains(&code))
}

/// `str.isalpha` of a character: a letter, which a combining mark or a roman numeral is not.
pub(super) fn is_letter(character: char) -> bool {
    character.is_alphabetic()
        && !character.is_numeric()
        // Rust escapes what extends the character before it.
        && (character.is_ascii() || character.escape_debug().count() == 1)
}

/// `str.isprintable` of a character. Rust's own rule is the same, behind another character.
pub(in super::super) fn is_printable(character: char) -> bool {
    if character.is_ascii() {
        return matches!(character, ' '..='~');
    }
    let mut pair = String::from("a");
    pair.push(character);
    pair.escape_debug().count() == 2
}

/// The capital at the start of a word, which for some characters is not that of a whole word.
pub(super) fn title_case(character: char) -> String {
    let code = u32::from(character);
    let other = match code {
        0xdf => "Ss",
        0x1c4..=0x1c6 => "\u{1c5}",
        0x1c7..=0x1c9 => "\u{1c8}",
        0x1ca..=0x1cc => "\u{1cb}",
        0x1f1..=0x1f3 => "\u{1f2}",
        0x587 => "\u{535}\u{582}",
        0xfb00 => "Ff",
        0xfb01 => "Fi",
        0xfb02 => "Fl",
        0xfb03 => "Ffi",
        0xfb04 => "Ffl",
        0xfb05 | 0xfb06 => "St",
        0xfb13 => "\u{544}\u{576}",
        0xfb14 => "\u{544}\u{565}",
        0xfb15 => "\u{544}\u{56b}",
        0xfb16 => "\u{54e}\u{576}",
        0xfb17 => "\u{544}\u{56d}",
        0x1fb3 | 0x1fbc => "\u{1fbc}",
        0x1fc3 | 0x1fcc => "\u{1fcc}",
        0x1ff3 | 0x1ffc => "\u{1ffc}",
        // Greek letters with an iota under them have one capital for this, eight further on.
        0x1f80..=0x1faf => return char::from_u32(code | 8).unwrap_or(character).to_string(),
        // Georgian letters have none.
        0x10d0..=0x10ff => return character.to_string(),
        _ => return character.to_uppercase().collect(),
    };
    other.to_owned()
}

/// Whether a character has a case.
pub(super) fn is_cased(character: char) -> bool {
    character.is_lowercase() || character.is_uppercase() || is_title(character)
}

/// Whether a character is the capital at the start of a word and no other one.
pub(super) fn is_title(character: char) -> bool {
    matches!(u32::from(character), 0x1c5 | 0x1c8 | 0x1cb | 0x1f2
        | 0x1f88..=0x1f8f | 0x1f98..=0x1f9f | 0x1fa8..=0x1faf | 0x1fbc | 0x1fcc | 0x1ffc)
}
