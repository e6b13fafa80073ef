//! Medians of the runs, and the table that shows them.

use serde::Serialize;
use serde_json::Value;

use super::peers::Peer;
use bench_shapes::Weights;

/// Where a run's line says `engine`, this project.
pub(crate) const OURS: &str = "ours";

/// One repetition of one engine, as it told it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Run {
    pub(crate) engine: &'static str,
    pub(crate) weights: Weights,
    /// The engine's own name for the type of the weights.
    pub(crate) variant: String,
    pub(crate) round: usize,
    pub(crate) line: Value,
}

/// What one row compares.
#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) weights: Weights,
    /// Bytes of weights, as they are held, and of caches that a decode step reads, half of the tokens
    /// generated.
    pub(crate) bytes_per_token: u64,
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
    pub(crate) weights: Weights,
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
    weights: Weights,
    key: &str,
) -> Option<f64> {
    let wanted = |run: &&Run| {
        run.engine == engine && run.weights == weights && variant.is_none_or(|v| run.variant == v)
    };
    median(
        runs.iter()
            .filter(wanted)
            .filter_map(|run| run.line[key].as_f64())
            .collect(),
    )
}

/// Bytes that a decode step needs: of weights as they are stored, and of caches with half of the
/// tokens generated.
#[derive(Clone, Copy)]
pub(crate) struct Needed {
    pub(crate) weights: u64,
    pub(crate) caches: u64,
}

/// The row of `weights`.
pub(crate) fn row(
    weights: Weights,
    needed: Needed,
    bandwidth: Option<f64>,
    runs: &[Run],
    peers: &[Peer],
    failures: &[Failure],
) -> Row {
    let ours = |key: &str| median_of(runs, OURS, None, weights, key);
    let decode_tps = ours("decode_tps");
    let held = needed.weights as f64 * ours("held_share").unwrap_or(1.0);
    let bytes_per_token = held as u64 + needed.caches;
    let compared = |peer: &Peer| {
        let best = |key: &str| {
            let rate = |variant: &&'static str| {
                let tps = median_of(runs, peer.name(), Some(variant), weights, key)?;
                Some(Best {
                    variant: (*variant).to_owned(),
                    tps,
                    ratio: ours(key).map(|own| own / tps),
                })
            };
            let all = peer.variants(weights).iter().filter_map(rate);
            all.max_by(|a, b| a.tps.total_cmp(&b.tps))
        };
        let failed = |f: &&Failure| f.peer == *peer && f.weights == weights;
        Compared {
            peer: peer.name(),
            prefill: best("prefill_tps"),
            decode: best("decode_tps"),
            reason: failures.iter().find(failed).map(|f| f.reason.clone()),
        }
    };
    Row {
        weights,
        bytes_per_token,
        prefill_tps: ours("prefill_tps"),
        ttft_s: ours("ttft_s"),
        decode_tps,
        peak_memory_bytes: ours("peak_memory_bytes"),
        share_of_limit: decode_tps
            .zip(bandwidth)
            .map(|(tps, rate)| tps * bytes_per_token as f64 / rate),
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
            row.weights,
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
                reasons += &format!("{} {}: {reason}\n", peer.peer, row.weights);
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

    fn run(engine: &'static str, variant: &str, prefill: f64, decode: f64) -> Run {
        let line = json!({"prefill_tps": prefill, "decode_tps": decode, "held_share": 0.75});
        Run {
            engine,
            weights: Weights::Q4,
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
        let row = row(
            Weights::Q4,
            NEEDED,
            Some(20_000.0),
            &runs,
            &[Peer::LlamaCpp],
            &[],
        );
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
            weights: Weights::Q4,
            reason,
        }];
        let row = row(Weights::Q4, NEEDED, None, &runs, &[Peer::MlxLm], &failures);
        let table = table(&[row]);
        assert!(
            table.contains("| q4 | 300.0 | - | 40.0 | - | - | - | - | - | - |"),
            "{table}"
        );
        assert!(table.contains("mlx-lm q4: nothing within 180 s"), "{table}");
    }
}
