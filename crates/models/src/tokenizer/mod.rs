//! Text to token ids and back, exactly as transformers does it for the same directory.
//!
//! The algorithm itself is the `tokenizers` crate reading `tokenizer.json`, built without its C
//! and C++ parts. What this module adds is everything around that file: the special tokens and
//! the chat template that `tokenizer_config.json` and its companions name (`files`), the ids
//! that end a generation, and a decoder that turns a stream of ids into text as it comes
//! ([`StreamDecoder`]).
//!
//! `add_bos_token` and `add_eos_token` of `tokenizer_config.json` are not read on purpose: where a
//! `tokenizer.json` exists, transformers ignores them too, and its post-processor alone decides
//! what [`Tokenizer::encode`] puts around a text.

mod assembly;
mod bytes;
mod cut;
mod error;
mod files;
mod guard;
mod longest;
mod stream;
mod template;

use std::path::Path;
use std::sync::{Arc, OnceLock};

pub use error::TokenizerError;
pub use stream::StreamDecoder;
pub use template::ChatTemplate;

use assembly::Assembly;
use files::Companions;
use template::TemplateChoice;

/// Tokens by which families end a turn or a document. One of these ends a generation when the
/// checkpoint itself uses it: see [`Tokenizer::eos_ids`].
const TURN_ENDS: [&str; 5] = [
    "<|im_end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|return|>",
    "<|call|>",
];

/// The tokenizer of a model directory. Cloning is cheap, and a clone may be used from any thread.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    shared: Arc<Shared>,
}

/// What the clones of a [`Tokenizer`] and its stream decoders have in common.
#[derive(Debug)]
struct Shared {
    inner: tokenizers::Tokenizer,
    assembly: Assembly,
    /// Whether encoding puts a space before a text that decoding does not take away again.
    makes_leading_space: bool,
    /// `bos_token`, `eos_token` and every other `*_token` that the directory names, in its order.
    special_tokens: Vec<(String, String)>,
    eos_ids: Vec<u32>,
    chat_template: TemplateChoice,
    /// Found out when it is first asked for.
    longest_token: OnceLock<Option<usize>>,
}

impl Tokenizer {
    /// Opens the tokenizer of a model directory.
    ///
    /// Needs `tokenizer.json`; reads `tokenizer_config.json`, `special_tokens_map.json`,
    /// `added_tokens.json` and the chat template files where they exist.
    ///
    /// # Errors
    /// A missing or unreadable file, or one that does not hold what it should, named in one line.
    pub fn from_dir(dir: &Path) -> Result<Self, TokenizerError> {
        guard::catch_apart(|| Self::open(dir))
            .unwrap_or_else(|panic| Err(files::broken(dir, &panic)))
    }

    fn open(dir: &Path) -> Result<Self, TokenizerError> {
        let (mut inner, declared) = files::read_tokenizer_json(dir)?;
        let companions = Companions::read(dir)?;
        companions.add_missing_tokens(&mut inner, &dir.join(files::CONFIG))?;
        inner.set_encode_special_tokens(companions.splits_special_tokens);

        let chat_template = template::find(dir, companions.chat_template)?;
        let special_tokens = companions.named;
        let eos_ids = eos_ids(&inner, &special_tokens, &chat_template);
        let assembly = Assembly::of(&declared);
        let makes_leading_space = makes_leading_space(&inner);
        Ok(Self {
            shared: Arc::new(Shared {
                inner,
                assembly,
                makes_leading_space,
                special_tokens,
                eos_ids,
                chat_template,
                longest_token: OnceLock::new(),
            }),
        })
    }

    /// The ids of `text`.
    ///
    /// With `add_special_tokens`, what the post-processor of `tokenizer.json` puts around a text
    /// (such as Gemma's `<bos>`) is added. A chat rendered from a checkpoint's own template
    /// brings those tokens along: encode it without.
    ///
    /// # Errors
    /// A text that the vocabulary cannot express and that has no unknown token to fall back to.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, TokenizerError> {
        let inner = &self.shared.inner;
        let encoding = guard::catch_apart(|| inner.encode_fast(text, add_special_tokens));
        match encoding.map_err(TokenizerError::Encode)? {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(cause) => Err(TokenizerError::Encode(error::one_line(&cause))),
        }
    }

    /// The text of `ids`, without the special tokens if `skip_special`. Ids that the vocabulary
    /// does not have (models pad theirs) contribute nothing.
    ///
    /// # Errors
    /// A decoder in `tokenizer.json` that cannot be applied to these tokens.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, TokenizerError> {
        let text = guard::catch(|| self.shared.inner.decode(ids, skip_special));
        let text = text.map_err(TokenizerError::Decode)?;
        text.map_err(|cause| TokenizerError::Decode(error::one_line(&cause)))
    }

    /// A decoder for ids that come one at a time; special tokens are left out if `skip_special`.
    #[must_use]
    pub fn stream(&self, skip_special: bool) -> StreamDecoder {
        StreamDecoder::new(self.clone(), skip_special)
    }

    /// The id of a token given as it stands in the vocabulary, such as `<bos>` or `▁the`.
    #[must_use]
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.shared.inner.token_to_id(token)
    }

    /// The token of an id as it stands in the vocabulary; the inverse of [`Self::token_id`].
    #[must_use]
    pub fn token(&self, id: u32) -> Option<String> {
        self.shared.inner.id_to_token(id)
    }

    /// Whether an id is a special token, which decoding leaves out when asked to.
    #[must_use]
    pub fn is_special(&self, id: u32) -> bool {
        self.token(id).is_some_and(|token| {
            let added = self.shared.inner.get_added_vocabulary();
            added.is_special_token(&token)
        })
    }

    /// How many tokens there are, added ones included. A model's embedding may have more rows.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.shared.inner.get_vocab_size(true)
    }

    /// The most bytes of a text that one token can stand for. `None` where the files do not tell, since
    /// they may lose some of a text.
    #[must_use]
    pub fn longest_token(&self) -> Option<usize> {
        let find = || longest::longest_token(&self.shared.inner);
        *self.shared.longest_token.get_or_init(find)
    }

    /// The token that begins a sequence, if the directory names one.
    #[must_use]
    pub fn bos_token(&self) -> Option<&str> {
        self.special_token("bos_token")
    }

    /// The token that ends a sequence, if the directory names one.
    #[must_use]
    pub fn eos_token(&self) -> Option<&str> {
        self.special_token("eos_token")
    }

    /// The token that pads a batch, if the directory names one.
    #[must_use]
    pub fn pad_token(&self) -> Option<&str> {
        self.special_token("pad_token")
    }

    /// The token that stands for unknown text, if the directory names one.
    #[must_use]
    pub fn unk_token(&self) -> Option<&str> {
        self.special_token("unk_token")
    }

    /// The token that the directory names for a role such as `bos_token` or `image_token`.
    #[must_use]
    pub fn special_token(&self, role: &str) -> Option<&str> {
        let mut named = self.special_tokens();
        named
            .find(|(name, _)| *name == role)
            .map(|(_, token)| token)
    }

    /// Every role that the directory names, with its token. A chat template sees these as
    /// variables.
    pub fn special_tokens(&self) -> impl Iterator<Item = (&str, &str)> {
        let named = self.shared.special_tokens.iter();
        named.map(|(role, token)| (role.as_str(), token.as_str()))
    }

    /// The ids at which a generation ends, as far as the tokenizer's files say, in ascending order.
    ///
    /// These are the tokens named `eos_token`, `eot_token` and `eom_token`, and of the well-known
    /// ends of a turn or a document (`<|im_end|>`, `<end_of_turn>`, `<|endoftext|>`, and gpt-oss's
    /// `<|return|>` and `<|call|>`) those that are special tokens here and that the checkpoint uses: by naming them for some
    /// role, such as Qwen's `<|endoftext|>` for padding, or by writing them in its chat template.
    /// A special token never stands for text, so going on after one of these could only print
    /// another speaker's turn. Others may be named in `config.json` and `generation_config.json`.
    #[must_use]
    pub fn eos_ids(&self) -> &[u32] {
        &self.shared.eos_ids
    }

    /// The chat template that the checkpoint brings, chosen among its files as transformers does:
    /// `chat_template.jinja` and `additional_chat_templates/`, else `chat_template` in
    /// `tokenizer_config.json` (a string, or several with names, of which `default`), else a
    /// processor's `chat_template.json`.
    ///
    /// # Errors
    /// Several templates of which none is called `default`.
    pub fn chat_template(&self) -> Result<Option<&ChatTemplate>, TokenizerError> {
        self.shared.chat_template.get()
    }
}

/// See [`Tokenizer::eos_ids`].
fn eos_ids(
    inner: &tokenizers::Tokenizer,
    named: &[(String, String)],
    template: &TemplateChoice,
) -> Vec<u32> {
    let special = inner.get_added_vocabulary();
    let ends = ["eos_token", "eot_token", "eom_token"];
    let by_role = named
        .iter()
        .filter(|(role, _)| ends.contains(&role.as_str()));
    let well_known = TURN_ENDS.into_iter().filter(|end| {
        special.is_special_token(end)
            && (named.iter().any(|(_, token)| token == end) || template.mentions(end))
    });
    let tokens = by_role.map(|(_, token)| token.as_str()).chain(well_known);
    let mut ids: Vec<u32> = tokens
        .filter_map(|token| inner.token_to_id(token))
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Whether a text comes back from encoding and decoding with a space in front that it did not
/// have. Decoders usually take back the space that encoding made (SentencePiece's dummy prefix);
/// where one does not, a stream has to.
fn makes_leading_space(inner: &tokenizers::Tokenizer) -> bool {
    let back = inner
        .encode_fast("a", false)
        .and_then(|encoding| inner.decode(encoding.get_ids(), false));
    back.is_ok_and(|text| text == " a")
}
