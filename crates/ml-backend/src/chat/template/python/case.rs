//! Capitals and small letters.

use super::unicode::{is_cased, is_title as is_title_letter, title_case};

/// `str.title`: a capital after everything that has no case.
pub(super) fn title(text: &str) -> String {
    let mut title = String::with_capacity(text.len());
    let mut in_word = false;
    for character in text.chars() {
        if in_word {
            title.extend(character.to_lowercase());
        } else {
            title.push_str(&title_case(character));
        }
        in_word = is_cased(character);
    }
    title
}

/// `str.capitalize`.
pub(super) fn capitalize(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(title_case).unwrap_or_default();
    // Lowering the whole text first keeps what a letter becomes by its place in a word.
    let rest = characters.as_str();
    first + &rest.to_lowercase()
}

/// `str.swapcase`.
pub(super) fn swap(text: &str) -> String {
    let mut swapped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_uppercase() {
            swapped.extend(character.to_lowercase());
        } else if character.is_lowercase() {
            swapped.extend(character.to_uppercase());
        } else {
            swapped.push(character);
        }
    }
    swapped
}

/// `str.casefold`.
pub(super) fn fold(text: &str) -> String {
    // What a letter becomes whose capital is several letters, such as ß and ﬁ.
    let mut folded = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            'ß'
            | 'ẞ'
            | '\u{fb00}'..='\u{fb06}'
            | '\u{fb13}'..='\u{fb17}'
            | '\u{149}'
            | '\u{1f0}' => {
                let capitals: String = if character == 'ẞ' {
                    "SS".to_owned()
                } else {
                    character.to_uppercase().collect()
                };
                folded.push_str(&capitals.to_lowercase());
            }
            'ς' => folded.push('σ'),
            'µ' => folded.push('μ'),
            'ſ' => folded.push('s'),
            _ => folded.extend(character.to_lowercase()),
        }
    }
    folded
}

/// `str.istitle`.
pub(super) fn is_title(text: &str) -> bool {
    let mut cased = false;
    let mut in_word = false;
    for character in text.chars() {
        if character.is_uppercase() || is_title_letter(character) {
            if in_word {
                return false;
            }
            (in_word, cased) = (true, true);
        } else if character.is_lowercase() {
            if !in_word {
                return false;
            }
            (in_word, cased) = (true, true);
        } else {
            in_word = false;
        }
    }
    cased
}
