//! Key heads of Gemma 4's layers, and their size, in both spellings.

use crate::Result;
use crate::fields::Fields;

/// Of each layer, how many key heads it has, and how wide they are.
pub(super) struct Heads(Vec<[usize; 2]>);

impl Heads {
    /// Of layers with these windows; `sliding` is what sliding layers have.
    pub(super) fn read(
        f: &Fields<'_>,
        windows: &[Option<usize>],
        sliding: [usize; 2],
    ) -> Result<Self> {
        if let Some(map) = f.object("per_layer_config")? {
            let heads = Self::of_map(f, &map, windows.len(), sliding)?;
            return heads.checked(f, windows);
        }
        let of_keys = match f.flag("attention_k_eq_v")? {
            Some(true) => f.size("num_global_key_value_heads")?,
            _ => None,
        };
        let head_dim = f.size("global_head_dim")?.unwrap_or(512);
        let full = [of_keys.unwrap_or(sliding[0]), head_dim];
        let of = |window: &Option<usize>| if window.is_some() { sliding } else { full };
        Ok(Self(windows.iter().map(of).collect()))
    }

    /// What the map says of some layers, and what stands beside it of the others.
    fn of_map(f: &Fields<'_>, map: &Fields<'_>, layers: usize, others: [usize; 2]) -> Result<Self> {
        let mut all = vec![others; layers];
        for (layer, _) in map.iter() {
            let own = layer.parse().ok().and_then(|i: usize| all.get_mut(i));
            let own = own.ok_or_else(|| {
                let problem = format!("there is no layer '{layer}' among {layers}");
                f.problem("per_layer_config", problem)
            })?;
            let Some(said) = map.object(layer)? else {
                continue;
            };
            let known = ["head_dim", "num_key_value_heads"];
            if let Some((key, _)) = said.iter().find(|(key, _)| !known.contains(&key.as_str())) {
                let problem = "is not supported of a single layer; supported are head_dim, num_key_value_heads";
                return Err(said.problem(key, problem));
            }
            let [kv_heads, head_dim] = others;
            *own = [
                said.size("num_key_value_heads")?.unwrap_or(kv_heads),
                said.size("head_dim")?.unwrap_or(head_dim),
            ];
        }
        Ok(Self(all))
    }

    /// Layers of a kind have one rotation, and so heads of one size.
    fn checked(self, f: &Fields<'_>, windows: &[Option<usize>]) -> Result<Self> {
        for (i, window) in windows.iter().enumerate() {
            let first = windows.iter().position(|w| w.is_some() == window.is_some());
            if let Some(first) = first.filter(|first| self.0[*first] != self.0[i]) {
                let problem = format!(
                    "layers {first} and {i} are of one kind and differ; layers of a kind are alike"
                );
                return Err(f.problem("per_layer_config", problem));
            }
        }
        Ok(self)
    }

    /// Key heads of a layer, and how wide each is.
    pub(super) fn of(&self, layer: usize) -> [usize; 2] {
        self.0[layer]
    }
}
