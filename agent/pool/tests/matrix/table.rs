//! Trials of one kind added up to a line, and lines printed as a table.

use super::Trial;
use std::collections::BTreeMap;

/// Several trials.
#[derive(Default)]
pub struct Row {
    trials: u32,
    bound: f64,
    recall: f64,
    worst: Option<f64>,
    wrong: f64,
    extra: f64,
    silent: f64,
    tier_total: u64,
    tier_right: u64,
    tier_wrong: u64,
    prediction: f64,
    exits: BTreeMap<u8, u32>,
    falsely_clean: u32,
    /// Trials in which a peer got more.
    worse: u32,
    /// Of trials that peers had a part in: how many, what we got, what each of them got.
    with_peers: u32,
    own_net: f64,
    peer_nets: Vec<f64>,
}

impl Row {
    /// One more.
    pub fn add(&mut self, trial: &Trial) {
        let score = &trial.score;
        let recall = score.share(score.right);
        self.trials += 1;
        self.bound += trial.bound;
        self.recall += recall;
        self.worst = Some(self.worst.map_or(recall, |worst| worst.min(recall)));
        self.wrong += score.share(score.wrong);
        self.extra += score.share(score.extra);
        self.silent += score.share(score.silent);
        self.tier_total += score.tier_total;
        self.tier_right += score.tier_right;
        self.tier_wrong += score.tier_wrong;
        self.prediction += score.prediction_error().unwrap_or_default();
        *self.exits.entry(score.exit).or_default() += 1;
        self.falsely_clean += u32::from(score.is_falsely_clean());
        self.add_peers(trial);
    }

    fn add_peers(&mut self, trial: &Trial) {
        if trial.peers.is_empty() {
            return;
        }
        self.with_peers += 1;
        self.own_net += trial.score.net();
        self.peer_nets.resize(trial.peers.len(), 0.0);
        for (sum, peer) in self.peer_nets.iter_mut().zip(&trial.peers) {
            *sum += peer.net();
        }
        self.worse += u32::from(trial.peers.iter().any(|peer| trial.is_worse_than(peer)));
    }

    /// In percent of all trials.
    fn mean(&self, sum: f64) -> f64 {
        100.0 * sum / f64::from(self.trials.max(1))
    }

    /// In percent, of trials that peers had a part in.
    fn net(&self, sum: f64) -> String {
        if self.with_peers == 0 { "-".into() } else { format!("{:.1}", 100.0 * sum / f64::from(self.with_peers)) }
    }

    fn tiers(&self) -> String {
        let share = |count: u64| 100.0 * count as f64 / self.tier_total.max(1) as f64;
        let text = || format!("{:.1} / {:.1}", share(self.tier_right), share(self.tier_wrong));
        if self.tier_total == 0 { "-".into() } else { text() }
    }

    fn cells(&self, peers: usize) -> Vec<String> {
        let exits: Vec<_> = self.exits.iter().map(|(exit, times)| format!("{exit}x{times}")).collect();
        let mut cells = vec![
            self.trials.to_string(),
            format!("{:.2}", self.mean(self.bound)),
            format!("{:.2}", self.mean(self.recall)),
            format!("{:.2}", 100.0 * self.worst.unwrap_or_default()),
            format!("{:.3}", self.mean(self.wrong)),
            format!("{:.3}", self.mean(self.extra)),
            format!("{:.3}", self.mean(self.silent)),
            self.tiers(),
            format!("{:.3}", self.mean(self.prediction)),
            self.falsely_clean.to_string(),
            exits.join(" "),
        ];
        if peers > 0 {
            cells.push(self.net(self.own_net));
            cells.extend((0..peers).map(|peer| self.net(self.peer_nets.get(peer).copied().unwrap_or_default())));
            cells.push(if self.with_peers == 0 { "-".into() } else { self.worse.to_string() });
        }
        cells
    }
}

/// How lines are printed.
pub struct Table {
    pub markdown: bool,
    /// Versions of the peers.
    pub peers: Vec<String>,
}

/// What the columns are, with their widths.
const COLUMNS: [(&str, usize); 11] = [
    ("trials", 6),
    ("bound", 7),
    ("recall", 7),
    ("worst", 7),
    ("wrong", 6),
    ("extra", 6),
    ("silent", 6),
    ("tiers right / wrong", 19),
    ("prediction", 10),
    ("false", 5),
    ("exits", 19),
];
/// Width of the columns about peers.
const NET: usize = 8;

impl Table {
    /// The heading; `what` the lines are about.
    pub fn head(&self, what: &str) -> String {
        let names = COLUMNS.iter().map(|(name, _)| (*name).to_owned());
        let nets = ["ours".to_owned()].into_iter().chain(self.peers.iter().cloned()).chain(["worse".to_owned()]);
        let names: Vec<_> = names.chain(nets.filter(|_| !self.peers.is_empty())).collect();
        let head = self.join(what, &names);
        if !self.markdown {
            return head;
        }
        let rule: Vec<_> = names.iter().map(|_| "---:".to_owned()).collect();
        format!("{head}\n{}", self.join("---", &rule))
    }

    /// A line.
    pub fn line(&self, label: &str, row: &Row) -> String {
        self.join(label, &row.cells(self.peers.len()))
    }

    fn join(&self, label: &str, cells: &[String]) -> String {
        if self.markdown {
            return format!("| {label} | {} |", cells.join(" | "));
        }
        let widths = COLUMNS.iter().map(|(_, width)| *width).chain(std::iter::repeat(NET));
        let cells: Vec<_> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
        format!("{label:55} {}", cells.join(" | "))
    }
}
