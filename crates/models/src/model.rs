//! A loaded model: from token ids to logits.

use std::cell::{Ref, RefCell};
use std::path::Path;
use std::rc::Rc;

use arch::{Config, State};
use kernels::{decode, graph};
use mlx_core::{Array, DeviceKind, Dtype, device, ops};

use crate::cache::Cache;
use crate::decoder::Decoder;
use crate::encoding;
use crate::info::ModelInfo;
use crate::plan::{self, Step};
use crate::states::{PageRoom, Part, States};
use crate::weights::{Checkpoint, Manifest, Source, Stored};
use crate::{Error, Result};

mod pass;
mod texts;

pub use pass::{Pass, Passed};

/// How to load a model.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct LoadOptions {
    /// Dtype of the activations, the caches and all weights that are floats; `None` keeps what the
    /// checkpoint has. Packed weights stay packed.
    pub dtype: Option<Dtype>,
    /// Whether weights are drawn on the device instead of read. Of the files only the headers count:
    /// a benchmark can run any size without a checkpoint of it.
    pub random_weights: bool,
    /// Whether bfloat16 matrices are held in 12 bits an element, without loss, where the device has
    /// kernels for it; `None` where that makes decoding faster ([`kernels::bf12`]).
    pub encode: Option<bool>,
    /// Whether no weight is used where it lies in its memory-mapped file, once [`Model::load`] has
    /// returned.
    pub copy_weights: bool,
}

impl LoadOptions {
    /// Everything as stored.
    pub fn new() -> Self {
        Self::default()
    }

    /// See [`LoadOptions::dtype`].
    pub fn dtype(mut self, dtype: Option<Dtype>) -> Self {
        self.dtype = dtype;
        self
    }

    /// See [`LoadOptions::random_weights`].
    pub fn random_weights(mut self, random: bool) -> Self {
        self.random_weights = random;
        self
    }

    /// See [`LoadOptions::encode`].
    pub fn encode(mut self, encode: Option<bool>) -> Self {
        self.encode = encode;
        self
    }

    /// See [`LoadOptions::copy_weights`].
    pub fn copy_weights(mut self, copy: bool) -> Self {
        self.copy_weights = copy;
        self
    }
}

/// How far loading has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadProgress {
    /// All headers are read and agree with the configuration.
    Opened {
        /// Weight files.
        files: usize,
        /// Bytes of the tensors that will be used.
        bytes: u64,
    },
    /// Another part of the model is in place.
    Loaded {
        /// Bytes of the tensors in place.
        bytes: u64,
        /// Bytes of all tensors that will be used.
        total: u64,
    },
}

/// Which positions' logits a forward pass is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logits {
    /// None: the pass only fills the caches.
    None,
    /// The last position's.
    Last,
    /// Every position's.
    All,
    /// None, but what the head would make them of: the normalized hidden states of every position, `[L, hidden]`.
    Hidden,
}

/// A directory whose headers agree with its configuration, and what loading it with some options means.
struct Opened {
    config: Config,
    checkpoint: Checkpoint,
    manifest: Manifest,
    /// With the dtype in use.
    info: ModelInfo,
    /// Of the weights, with all floats in that dtype.
    bytes: u64,
    /// Whether bfloat16 matrices may be held in 12 bits.
    may_encode: bool,
}

impl Opened {
    fn read(dir: &Path, options: &LoadOptions) -> Result<Self> {
        let config = Config::read(dir)?;
        let (checkpoint, manifest) = Checkpoint::open(dir, &config)?;
        let mut info = ModelInfo::new(&config, &checkpoint, &manifest);
        info.dtype = options.dtype.unwrap_or(manifest.dtype);
        let bytes = info.bytes_as(options.dtype);
        let may_encode = match options.encode {
            Some(encode) => encode,
            None => encoding::pays(&config.model, &manifest, bytes, info.dtype)?,
        };
        Ok(Self {
            config,
            checkpoint,
            manifest,
            info,
            bytes,
            may_encode,
        })
    }
}

/// A model on this thread's device. Neither `Send` nor `Sync`, as its arrays are not.
pub struct Model {
    config: Config,
    info: ModelInfo,
    held_bytes: u64,
    together: usize,
    decoder: Decoder,
    /// Where it runs in pages.
    states: Option<Rc<RefCell<States>>>,
}

impl Model {
    /// The steps of a token as one launch on a GPU of so many multiprocessors, each with a block of so many warps,
    /// where that has a list for the model: for tests, which go through it on a processor. Experts that are held by
    /// themselves are copied into one array.
    #[doc(hidden)]
    pub fn listed(&self, multiprocessors: u32, warps: u32) -> Result<Option<kernels::steps::Plan>> {
        self.decoder.listed(multiprocessors, warps)
    }

    /// Loads the model of `dir`. The caller has opened the device
    /// ([`mlx_core::device::open`]) on this thread.
    ///
    /// Everything that headers and configuration can tell is checked before the first array is
    /// made. Weights are used from the memory-mapped files where device and dtype allow it.
    pub fn load(
        dir: &Path,
        options: &LoadOptions,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self> {
        let opened = Opened::read(dir, options)?;
        let Opened {
            config,
            checkpoint,
            manifest,
            ..
        } = &opened;
        let total = manifest.bytes;
        progress(LoadProgress::Opened {
            files: checkpoint.file_count(),
            bytes: total,
        });

        let mut read = |may_encode: bool| -> Result<_> {
            let mut source = Source::new(checkpoint, manifest, opened.info.dtype, may_encode)
                .copied(options.copy_weights);
            if options.random_weights {
                source = source.drawn();
            }
            let mut on_part = |arrays: &[&Array]| -> Result<()> {
                // Now, so that casts and copies to a device are done a part at a time and the first
                // token does not wait for them.
                mlx_core::eval(arrays)?;
                progress(LoadProgress::Loaded {
                    bytes: source.loaded(),
                    total,
                });
                Ok(())
            };
            let decoder = Decoder::load(&config.model, &source, &mut on_part)?;
            Ok((decoder, source.spared(), source.has_refused()))
        };
        let (mut decoder, mut spared, refused) = read(opened.may_encode)?;
        if refused && encoding::is_for_all()? {
            drop(decoder);
            (decoder, spared, _) = read(false)?;
        }
        let mut info = opened.info;
        info.storage.in_12_bits = spared > 0;
        if device::current()? == DeviceKind::Cuda {
            info.gpu = decode::target()?;
        }
        let config = opened.config;
        let states = match graph::on_cpu()? && decoder.runs_in_pages(info.dtype)? {
            true => {
                let states = States::new(&config.model.states, info.dtype);
                states.map(|states| states.bidirectional(config.model.bidirectional))
            }
            false => None,
        };
        Ok(Self {
            states: states.map(|states| Rc::new(RefCell::new(states))),
            held_bytes: opened.bytes.saturating_sub(spared),
            together: together(&config.model, &info)?,
            config,
            info,
            decoder,
        })
    }

    /// Bytes that the device of this thread must have for [`Model::load`] with these options, of a model
    /// whose caches are empty.
    pub fn bytes_to_load(dir: &Path, options: &LoadOptions) -> Result<u64> {
        let opened = Opened::read(dir, options)?;
        // A processor holds matrices in 12 bits only where there is room for all of them.
        Ok(match opened.may_encode && encoding::is_for_all()? {
            true => encoding::bytes_to_load(&opened.config.model, opened.bytes),
            false => opened.bytes,
        })
    }

    /// What the directory says; `dtype` is the one in use.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// Bytes of the weights as they are held: fewer than [`ModelInfo::weight_bytes`] where bfloat16
    /// matrices are in 12 bits an element ([`kernels::bf12`]).
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Empty caches for this model: in pages where our kernels run it on a processor.
    pub fn new_cache(&self) -> Cache {
        match &self.states {
            Some(states) if graph::on_cpu().is_ok_and(|on_cpu| on_cpu) => Cache::in_pages(states),
            _ => {
                let model = &self.config.model;
                Cache::new(&model.states).bidirectional(model.bidirectional)
            }
        }
    }

    /// The sequences of all caches that are in pages, if they are. To be let go of before a cache changes or goes.
    pub fn states(&self) -> Option<Ref<'_, States>> {
        self.states.as_ref().map(|states| states.borrow())
    }

    /// A cache of `pages * PAGE` tokens that were read before, from [their parts](States::needed).
    ///
    /// # Errors
    /// Where caches are not in pages, or as [`States::assemble`].
    pub fn assembled(&self, pages: usize, parts: Vec<(Part, PageRoom)>) -> Result<Cache> {
        let why = || Error::Input("only caches in pages are put together from parts".to_owned());
        let states = self.states.as_ref().ok_or_else(why)?;
        let id = states.borrow_mut().assemble(pages, parts)?;
        Ok(Cache::of_pages(states, id))
    }

    /// Whether a sequence loses what it once knew: a window, or recurrent states.
    pub fn forgets(&self) -> bool {
        let mut states = self.config.model.states.iter();
        states.any(|state| match state {
            State::Keys(keys) => keys.window.is_some(),
            State::Recurrent(_) => true,
        })
    }

    /// The least rows of a pass of which none depends, by a bit, on how many there are: a prompt may be cut anywhere
    /// into passes of so many. `None` where there is no such number: of a mixture of experts, whose products have as
    /// many rows as an expert has, and where kernels of ours do not run all of the model.
    pub fn rows_apart_in_prompts(&self) -> Option<usize> {
        let all = self.states.is_some() && !plan::sparse(&self.config.model);
        all.then(graph::rows_in_tiles)
    }

    /// Runs the tokens `ids`, int32 `[L]`, that follow those in `cache`, and adds them to it.
    ///
    /// Returns logits in the dtype of the activations, or in float32: `[vocab]` for
    /// [`Logits::Last`], `[L, vocab]` for [`Logits::All`]; hidden states for [`Logits::Hidden`]. Nothing is evaluated; after
    /// [`Logits::None`] there is [`Cache::eval`].
    ///
    /// # Errors
    /// Where an operation cannot be built. `cache` then holds what it held; or nothing, if a sliding window
    /// has already given up older tokens for those of `ids`.
    pub fn forward(&self, ids: &Array, cache: &mut Cache, want: Logits) -> Result<Option<Array>> {
        let mut pass = self.begin(ids, cache, want)?;
        loop {
            pass = match self.go_on(pass, cache, &mut || true)? {
                Passed::Whole(logits) => return Ok(logits),
                Passed::Part(pass) => pass,
            };
        }
    }

    /// Hidden states as [`Logits::Hidden`] gives them, `[rows, hidden]`, through the head: logits `[rows, vocab]`.
    ///
    /// # Errors
    /// Where an operation cannot be built.
    pub fn through_head(&self, hidden: &Array) -> Result<Array> {
        self.decoder.logits(hidden)
    }

    /// Sequences whose next tokens [`Model::forward_each`] runs at once at the most: as many rows as products
    /// take without reading their weights again, and in which a row does not depend on how many there are. One
    /// where kernels of ours do not run the model, and on Metal.
    pub fn together(&self) -> usize {
        self.together.min(self.decoder.together())
    }

    /// Runs one token of each of several sequences, `ids` int32 `[N]`, that follow those in the N `caches`,
    /// and adds them: the logits of each, `[N, vocab]`. Nothing is evaluated. The logits of a sequence do not
    /// depend on which others there are.
    ///
    /// Up to [`Model::together`] sequences are one pass, which reads the weights once; where that is one, one
    /// runs after the other.
    ///
    /// # Errors
    /// As [`Model::forward`]; all caches then hold what that says.
    pub fn forward_each(&self, ids: &Array, caches: &mut [&mut Cache]) -> Result<Array> {
        self.check_whole(1)?;
        let count = i32::try_from(caches.len()).unwrap_or(i32::MAX);
        if ids.shape() != [count] || count == 0 || ids.dtype() != Dtype::Int32 {
            return Err(Error::Input(format!(
                "token ids of {count} sequences must be int32 [{count}], found {} {:?}",
                ids.dtype(),
                ids.shape()
            )));
        }
        let before: Vec<i32> = caches.iter().map(|cache| cache.offset()).collect();
        let mut logits = Vec::new();
        let mut first = 0;
        let mut run = || -> Result<()> {
            for some in caches.chunks_mut(self.together()) {
                let next = first + some.len() as i32;
                logits.push(self.logits_of_each(&ids.slice(&[first], &[next])?, some)?);
                first = next;
            }
            Ok(())
        };
        let made = run();
        if let Err(error) = made {
            for (cache, before) in caches.iter_mut().zip(before) {
                cache.undo_to(before);
            }
            return Err(error);
        }
        match &logits[..] {
            [one] => Ok(one.clone()),
            all => Ok(ops::concatenate(&all.iter().collect::<Vec<_>>(), 0)?),
        }
    }

    /// The same of no more than run at once.
    fn logits_of_each(&self, ids: &Array, caches: &mut [&mut Cache]) -> Result<Array> {
        if let Some(logits) = self.decoder.next_logits(ids, caches)? {
            return Ok(logits);
        }
        let counts = vec![1; caches.len()];
        if let Some((hidden, added)) = self.decoder.hidden_states_of_each(ids, caches, &counts)? {
            let logits = self.decoder.logits(&hidden)?;
            added.commit();
            return Ok(logits);
        }
        let mut rows = Vec::with_capacity(caches.len());
        for (i, cache) in (0..).zip(caches) {
            let logits = self.forward(&ids.slice(&[i], &[i + 1])?, cache, Logits::All)?;
            rows.push(logits.expect("a pass that was asked for logits gives them"));
        }
        Ok(ops::concatenate(&rows.iter().collect::<Vec<_>>(), 0)?)
    }
}

/// [`Model::together`] of a model on this thread's device: one alone where a faster kernel was left out.
fn together(model: &arch::Model<String>, info: &ModelInfo) -> Result<usize> {
    let device = device::current()?;
    let slower = |step: &Step| step.slower.is_some();
    Ok(match device {
        DeviceKind::Cpu if !info.plan(device).iter().any(slower) => {
            let mut all = info.storage.layers.iter().chain([&info.storage.head]);
            graph::rows_apart(all.all(|stored| matches!(stored, Stored::Quantized(_))))
        }
        DeviceKind::Cuda => plan::tokens_of_kernel(model, &info.storage, info.dtype, info.gpu),
        _ => 1,
    })
}

#[cfg(test)]
mod tests;
