//! How a checkpoint's decoder puts tokens together, as far as it can be told one token at a time.
//!
//! A decoder in `tokenizer.json` is defined on a whole sequence of tokens. For the two kinds that
//! language models use, what each token contributes is known when it comes, so a stream need
//! never decode a token twice. Anything else is decoded in a short window instead.

use serde_json::Value;
use tokenizers::Decoder;
use tokenizers::decoders::DecoderWrapper;

/// What the tokens of a sequence are to its text.
#[derive(Debug)]
pub(super) enum Assembly {
    /// Byte-level BPE: each token is bytes, written in GPT-2's alphabet of printable characters.
    /// Bytes that are no UTF-8 become U+FFFD.
    Bytes,
    /// SentencePiece style: each token is text, or with byte fallback a single byte (`<0x0A>`).
    Pieces(Pieces),
    /// A decoder of another kind, or none.
    Window,
}

/// The decoder of a SentencePiece-style vocabulary.
#[derive(Debug)]
pub(super) struct Pieces {
    /// The replacements that each token goes through, such as `▁` by a space.
    replacements: Vec<DecoderWrapper>,
    /// Whether `<0x0A>` is the byte 10.
    byte_fallback: bool,
    /// The replacements that come after byte fallback, for tokens and for the text of byte runs.
    afterwards: Vec<DecoderWrapper>,
    /// The character that is taken away from the start of the text, and how often at most.
    pub(super) strip: Option<(char, usize)>,
}

impl Assembly {
    /// Recognises the `decoder` of a `tokenizer.json`.
    pub(super) fn of(decoder: &Value) -> Self {
        let steps: Vec<&Value> = match (kind(decoder), decoder["decoders"].as_array()) {
            ("Sequence", Some(steps)) => steps.iter().collect(),
            _ => vec![decoder],
        };
        match steps[..] {
            [step] if kind(step) == "ByteLevel" => Self::Bytes,
            _ => Pieces::of(&steps).map_or(Self::Window, Self::Pieces),
        }
    }
}

impl Pieces {
    /// Recognises replacements, byte fallback, replacements, fusing and stripping, in this order,
    /// each if it is there.
    fn of(steps: &[&Value]) -> Option<Self> {
        let mut rest = steps;
        let replacements = leading_replacements(&mut rest)?;
        let after = |rest: &mut &[&Value], name: &str| match rest {
            [step, others @ ..] if kind(step) == name => {
                *rest = others;
                true
            }
            _ => false,
        };
        let byte_fallback = after(&mut rest, "ByteFallback");
        let afterwards = leading_replacements(&mut rest)?;
        // Broken bytes are one token each, but come together from a stream.
        let broken = "\u{FFFD}\u{FFFD}";
        if replace(&afterwards, broken.to_owned()).ok()? != broken {
            return None;
        }
        let fused = after(&mut rest, "Fuse");
        let strip = match rest {
            [] => None,
            [step] if fused && kind(step) == "Strip" && step["stop"] == 0 => {
                let character = step["content"].as_str()?.chars().next()?;
                Some((character, usize::try_from(step["start"].as_u64()?).ok()?))
            }
            _ => return None,
        };
        let known = !replacements.is_empty() || byte_fallback;
        known.then_some(Self {
            replacements,
            byte_fallback,
            afterwards,
            strip,
        })
    }

    /// What a token contributes: its bytes if it stands for a byte, else its text.
    pub(super) fn piece(&self, token: String) -> tokenizers::Result<Piece> {
        let token = replace(&self.replacements, token)?;
        Ok(match byte(&token) {
            Some(byte) if self.byte_fallback => Piece::Byte(byte),
            _ => Piece::Text(replace(&self.afterwards, token)?),
        })
    }

    /// What the text of a run of bytes contributes.
    pub(super) fn run(&self, text: String) -> tokenizers::Result<String> {
        replace(&self.afterwards, text)
    }
}

/// Takes the steps that replace off the front.
fn leading_replacements(steps: &mut &[&Value]) -> Option<Vec<DecoderWrapper>> {
    let replaces = |step: &&&Value| kind(step) == "Replace";
    let (replacements, rest) = steps.split_at(steps.iter().take_while(replaces).count());
    *steps = rest;
    let parsed = replacements
        .iter()
        .map(|step| serde_json::from_value((*step).clone()));
    parsed.collect::<Result<_, _>>().ok()
}

fn replace(replacements: &[DecoderWrapper], token: String) -> tokenizers::Result<String> {
    if replacements.is_empty() {
        return Ok(token);
    }
    let mut tokens = vec![token];
    for replacement in replacements {
        tokens = replacement.decode_chain(tokens)?;
    }
    Ok(tokens.concat())
}

/// What one token of a SentencePiece-style vocabulary contributes.
pub(super) enum Piece {
    Text(String),
    Byte(u8),
}

/// The byte that a token such as `<0x0A>` stands for.
fn byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2)
        .then(|| u8::from_str_radix(digits, 16).ok())
        .flatten()
}

/// The bytes of a token of a byte-level vocabulary. An added token may hold characters that are
/// not of the alphabet; it stands for itself.
pub(super) fn bytes(token: &str) -> Vec<u8> {
    let spelled: Option<Vec<u8>> = token.chars().map(byte_of_letter).collect();
    spelled.unwrap_or_else(|| token.as_bytes().to_vec())
}

/// The letters of all 256 bytes.
pub(super) fn byte_letters() -> impl Iterator<Item = char> {
    ('\u{21}'..='\u{143}').filter(|letter| byte_of_letter(*letter).is_some())
}

/// GPT-2's alphabet: printable bytes of Latin-1 are written as themselves, the other 68 in their
/// order as U+0100 and up.
fn byte_of_letter(letter: char) -> Option<u8> {
    let code = u32::from(letter);
    let byte = match code {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => code,
        0x100..=0x120 => code - 0x100,
        0x121..=0x142 => code - 0x121 + 0x7F,
        0x143 => 0xAD,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

fn kind(step: &Value) -> &str {
    step["type"].as_str().unwrap_or_default()
}
