//! Numbers of a JSON text, bounded to what a double holds.
//!
//! A grammar of numbers knows no end of digits, and a reader of `1e999` fails. So a number has at most 18 digits
//! before its point, no more than 15 in all behind it, which a double tells apart, and two in its exponent.

/// Digits of a whole number: with them it fits 64 bits.
const WHOLE: u32 = 18;
/// Digits of a number with a fraction.
const ALL: u32 = 15;
/// Digits of an exponent.
const EXPONENT: u32 = 2;

/// Where a JSON text is, as far as numbers are concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Numbers {
    /// In no text and no number.
    #[default]
    Outside,
    /// In a string; whether behind a backslash.
    Text { escaped: bool },
    /// So many digits of a number before its point.
    Whole(u32),
    /// So many digits before the point and behind it.
    Fraction { before: u32, behind: u32 },
    /// So many digits of its exponent.
    Exponent(u32),
}

impl Numbers {
    /// In a string.
    pub(super) const IN_TEXT: Self = Self::Text { escaped: false };

    /// Whether a number can go on, or begin, with this byte.
    pub(super) fn may_go_on(byte: u8) -> bool {
        matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')
    }

    /// Whether a number is under way.
    pub(super) fn is_in_number(self) -> bool {
        !matches!(self, Self::Outside | Self::Text { .. })
    }

    /// Whether the text may go on with these bytes.
    pub(super) fn allow(mut self, bytes: &[u8]) -> bool {
        bytes.iter().all(|&byte| self.push(byte))
    }

    /// Goes on with a byte; false where a number grows beyond its bounds.
    pub(super) fn push(&mut self, byte: u8) -> bool {
        *self = match (*self, byte) {
            (Self::Text { escaped: true }, _) => Self::Text { escaped: false },
            (Self::Text { .. }, b'"') => Self::Outside,
            (Self::Text { .. }, byte) => Self::Text {
                escaped: byte == b'\\',
            },
            (_, b'"') => Self::Text { escaped: false },
            (Self::Whole(digits), b'0'..=b'9') => Self::Whole(digits.saturating_add(1)),
            (Self::Outside, b'0'..=b'9') => Self::Whole(1),
            (Self::Whole(before), b'.') => Self::Fraction { before, behind: 0 },
            (Self::Fraction { before, behind }, b'0'..=b'9') => Self::Fraction {
                before,
                behind: behind.saturating_add(1),
            },
            (Self::Whole(_) | Self::Fraction { .. }, b'e' | b'E') => Self::Exponent(0),
            (Self::Exponent(0), b'+' | b'-') => Self::Exponent(0),
            (Self::Exponent(digits), b'0'..=b'9') => Self::Exponent(digits.saturating_add(1)),
            // The letters of `true`, signs and brackets.
            _ => Self::Outside,
        };
        match *self {
            Self::Outside | Self::Text { .. } => true,
            Self::Whole(digits) => digits <= WHOLE,
            // One digit there must be.
            Self::Fraction { before, behind } => {
                behind <= 1 || before.saturating_add(behind) <= ALL
            }
            Self::Exponent(digits) => digits <= EXPONENT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_end_where_a_double_does() {
        let whole = "9".repeat(18);
        for good in [
            whole.as_str(),
            "-0.00000000000001",
            "123456789012345678.5",
            "1e99",
            "1.5E-12",
            "[1,2.5,\"1e999\",3]",
            r#"{"a\"":"0.1234567890123456789","b":12}"#,
            "true",
        ] {
            assert!(Numbers::default().allow(good.as_bytes()), "{good}");
            // What they allow a reader can read, as a number of finite size.
            assert!(serde_json::from_str::<serde_json::Value>(good).is_ok());
        }
        for bad in [
            format!("{whole}9"),
            "1e100".to_owned(),
            "-1E+999".to_owned(),
            "0.1234567890123456".to_owned(),
            r#"{"a":"1","b":1e400"#.to_owned(),
            "[1e99,1e100".to_owned(),
        ] {
            assert!(!Numbers::default().allow(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn a_number_is_followed_through_tokens() {
        let mut numbers = Numbers::default();
        for part in ["[1", "2.", "5e", "+", "1", "2"] {
            assert!(numbers.allow(part.as_bytes()), "{part}");
            part.bytes().for_each(|byte| assert!(numbers.push(byte)));
        }
        assert!(numbers.is_in_number());
        assert!(!numbers.allow(b"0"));
        assert!(numbers.allow(b",0"));
    }
}
