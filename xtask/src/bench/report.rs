//! Medians of the runs, and the table that shows them.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::peers::Peer;
use bench_shapes::Weights;

/// Where a run's line says `engine`, this project.
pub(crate) const OURS: &str = "ours";

/// What is timed in a row: weights, and so many requests at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Kind {
    pub(crate) weights: Weights,
    pub(crate) streams: u32,
}

impl Kind {
    /// What weights are called, with so many requests.
    pub(crate) fn named(weights: &str, streams: u32) -> String {
        match streams {
            1 => weights.to_owned(),
            _ => format!("{weights} x {streams}"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Self::named(&self.weights.to_string(), self.streams))
    }
}

/// One repetition of one engine, as it told it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Run {
    pub(crate) engine: &'static str,
    #[serde(flatten)]
    pub(crate) kind: Kind,
    /// The engine's own name for the type of the weights.
    pub(crate) variant: String,
    pub(crate) round: usize,
    pub(crate) line: Value,
}

/// What one row compares.
#[derive(Serialize)]
pub(crate) struct Row {
    #[serde(flatten)]
    pub(crate) kind: Kind,
    /// Bytes of weights, as they are held, and of caches that a decode step reads, half of the tokens
    /// generated.
    pub(crate) bytes_per_step: u64,
    pub(crate) prefill_tps: Option<f64>,
    pub(crate) ttft_s: Option<f64>,
    pub(crate) decode_tps: Option<f64>,
    pub(crate) peak_memory_bytes: Option<f64>,
    /// Bytes read a second when decoding, over the bandwidth measured.
    pub(crate) share_of_limit: Option<f64>,
    pub(crate) peers: Vec<Compared>,
}

/// A peer in a row: of its variants the best, for each figure on its own.
#[derive(Serialize)]
pub(crate) struct Compared {
    pub(crate) peer: &'static str,
    pub(crate) prefill: Option<Best>,
    pub(crate) decode: Option<Best>,
    /// Why a figure is missing.
    pub(crate) reason: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct Best {
    pub(crate) variant: String,
    pub(crate) tps: f64,
    /// Ours over this.
    pub(crate) ratio: Option<f64>,
}

/// A peer that has no figures for these weights, and why.
pub(crate) struct Failure {
    pub(crate) peer: Peer,
    pub(crate) kind: Kind,
    pub(crate) reason: String,
}

/// The middle one, or the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    let (low, high) = (values.get(n.checked_sub(1)? / 2)?, values.get(n / 2)?);
    Some((low + high) / 2.0)
}

fn median_of(
    runs: &[Run],
    engine: &str,
    variant: Option<&str>,
    kind: Kind,
    key: &str,
) -> Option<f64> {
    let wanted = |run: &&Run| {
        run.engine == engine && run.kind == kind && variant.is_none_or(|v| run.variant == v)
    };
    median(
        runs.iter()
            .filter(wanted)
            .filter_map(|run| run.line[key].as_f64())
            .collect(),
    )
}

/// Bytes that a decode step needs: of weights as they are stored, and of the caches of one request with half
/// of the tokens generated.
#[derive(Clone, Copy)]
pub(crate) struct Needed {
    pub(crate) weights: u64,
    pub(crate) caches: u64,
}

/// The row of `kind`.
pub(crate) fn row(
    kind: Kind,
    needed: Needed,
    bandwidth: Option<f64>,
    runs: &[Run],
    peers: &[Peer],
    failures: &[Failure],
) -> Row {
    let ours = |key: &str| median_of(runs, OURS, None, kind, key);
    let decode_tps = ours("decode_tps");
    let held = needed.weights as f64 * ours("held_share").unwrap_or(1.0);
    let streams = u64::from(kind.streams);
    let bytes_per_step = held as u64 + streams * needed.caches;
    let compared = |peer: &Peer| {
        let best = |key: &str| {
            let rate = |variant: &&'static str| {
                let tps = median_of(runs, peer.name(), Some(variant), kind, key)?;
                Some(Best {
                    variant: (*variant).to_owned(),
                    tps,
                    ratio: ours(key).map(|own| own / tps),
                })
            };
            let all = peer.variants(kind.weights).iter().filter_map(rate);
            all.max_by(|a, b| a.tps.total_cmp(&b.tps))
        };
        let failed = |f: &&Failure| f.peer == *peer && f.kind == kind;
        Compared {
            peer: peer.name(),
            prefill: best("prefill_tps"),
            decode: best("decode_tps"),
            reason: failures.iter().find(failed).map(|f| f.reason.clone()),
        }
    };
    Row {
        kind,
        bytes_per_step,
        prefill_tps: ours("prefill_tps"),
        ttft_s: ours("ttft_s"),
        decode_tps,
        peak_memory_bytes: ours("peak_memory_bytes"),
        share_of_limit: decode_tps
            .zip(bandwidth)
            .map(|(tps, rate)| tps / streams as f64 * bytes_per_step as f64 / rate),
        peers: peers.iter().map(compared).collect(),
    }
}

/// The rows as a Markdown table, and why there is no figure where there is none.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut head = String::from(
        "| weights | prefill tok/s | first token s | decode tok/s | of limit | peak MB |",
    );
    let mut line = String::from("| --- | ---: | ---: | ---: | ---: | ---: |");
    let peers = rows.first().map(|row| &row.peers[..]).unwrap_or_default();
    for peer in peers {
        let name = peer.peer;
        head += &format!(" {name} prefill | ratio | {name} decode | ratio |");
        line += " ---: | ---: | ---: | ---: |";
    }
    let mut text = format!("{head}\n{line}\n");
    let mut reasons = String::new();
    for row in rows {
        text += &format!(
            "| {} | {} | {} | {} | {} | {} |",
            row.kind,
            shown(row.prefill_tps, 1, ""),
            shown(row.ttft_s, 2, ""),
            shown(row.decode_tps, 1, ""),
            shown(row.share_of_limit.map(|share| 100.0 * share), 0, "%"),
            shown(row.peak_memory_bytes.map(|bytes| bytes / 1e6), 0, ""),
        );
        for peer in &row.peers {
            for best in [&peer.prefill, &peer.decode] {
                text += &match best {
                    Some(best) => format!(
                        " {:.1} ({}) | {} |",
                        best.tps,
                        best.variant,
                        shown(best.ratio, 2, "")
                    ),
                    None => " - | - |".to_owned(),
                };
            }
            if let Some(reason) = &peer.reason {
                reasons += &format!("{} {}: {reason}\n", peer.peer, row.kind);
            }
        }
        text.push('\n');
    }
    text + &reasons
}

fn shown(value: Option<f64>, digits: usize, unit: &str) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.digits$}{unit}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const Q4: Kind = Kind {
        weights: Weights::Q4,
        streams: 1,
    };

    fn run(engine: &'static str, variant: &str, prefill: f64, decode: f64) -> Run {
        let line = json!({"prefill_tps": prefill, "decode_tps": decode, "held_share": 0.75});
        Run {
            engine,
            kind: Q4,
            variant: variant.into(),
            round: 0,
            line,
        }
    }

    #[test]
    fn a_median_is_not_moved_by_one_bad_run() {
        assert_eq!(median(vec![10.0, 90.0, 11.0]), Some(11.0));
        assert_eq!(median(vec![1.0, 2.0]), Some(1.5));
        assert_eq!(median(vec![]), None);
    }

    const NEEDED: Needed = Needed {
        weights: 400,
        caches: 100,
    };

    #[test]
    fn each_figure_is_compared_with_the_better_variant() {
        let runs = [
            run(OURS, "q4", 300.0, 40.0),
            run("llama.cpp", "q4_0", 150.0, 16.0),
            run("llama.cpp", "q4_k_m", 100.0, 20.0),
        ];
        let row = row(Q4, NEEDED, Some(20_000.0), &runs, &[Peer::LlamaCpp], &[]);
        let (prefill, decode) = (row.peers[0].prefill.as_ref(), row.peers[0].decode.as_ref());
        assert_eq!(prefill.unwrap().ratio, Some(2.0));
        assert_eq!(decode.unwrap().ratio, Some(2.0));
        assert_eq!(decode.unwrap().variant, "q4_k_m");
        assert_eq!(row.share_of_limit, Some(0.8), "300 bytes of weights");
    }

    #[test]
    fn a_peer_that_failed_leaves_the_row_and_its_reason() {
        let runs = [run(OURS, "q4", 300.0, 40.0)];
        let reason = "nothing within 180 s".to_owned();
        let failures = [Failure {
            peer: Peer::MlxLm,
            kind: Q4,
            reason,
        }];
        let row = row(Q4, NEEDED, None, &runs, &[Peer::MlxLm], &failures);
        let table = table(&[row]);
        assert!(
            table.contains("| q4 | 300.0 | - | 40.0 | - | - | - | - | - | - |"),
            "{table}"
        );
        assert!(table.contains("mlx-lm q4: nothing within 180 s"), "{table}");
    }

    #[test]
    fn the_limit_of_several_requests_counts_their_caches_and_weights_once() {
        let kind = Kind { streams: 4, ..Q4 };
        let runs = [Run {
            kind,
            ..run(OURS, "q4", 300.0, 40.0)
        }];
        let row = row(kind, NEEDED, Some(14_000.0), &runs, &[], &[]);
        // Ten steps of 300 bytes of weights and 4 times 100 of caches.
        assert_eq!(row.share_of_limit, Some(0.5));
        assert!(table(&[row]).contains("| q4 x 4 |"));
    }
}
