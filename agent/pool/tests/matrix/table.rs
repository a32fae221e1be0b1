//! Trials of one kind added up to a line.

use super::Trial;
use std::collections::BTreeMap;
use std::fmt;

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
    peers: u32,
    peer_net: f64,
}

impl Row {
    /// What the columns are.
    pub const HEAD: &str = "trials |   bound  recall   worst |  wrong  extra  silent | tiers right/wrong | prediction | false | exits           | thin_repair";

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
        if let Some(peer) = &trial.peer {
            self.peers += 1;
            self.peer_net += peer.net();
        }
    }

    /// How many.
    pub fn trials(&self) -> u32 {
        self.trials
    }

    fn mean(&self, sum: f64) -> f64 {
        100.0 * sum / f64::from(self.trials.max(1))
    }

    fn tiers(&self) -> String {
        let share = |count: u64| 100.0 * count as f64 / self.tier_total.max(1) as f64;
        let text = || format!("{:.1} / {:.1}", share(self.tier_right), share(self.tier_wrong));
        if self.tier_total == 0 { "-".into() } else { text() }
    }
}

/// In percent.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bound, recall) = (self.mean(self.bound), self.mean(self.recall));
        let worst = 100.0 * self.worst.unwrap_or_default();
        let (wrong, extra, silent) = (self.mean(self.wrong), self.mean(self.extra), self.mean(self.silent));
        let exits: Vec<_> = self.exits.iter().map(|(exit, times)| format!("{exit}x{times}")).collect();
        write!(f, "{:6} | {bound:7.2} {recall:7.2} {worst:7.2} ", self.trials)?;
        write!(f, "| {wrong:6.3} {extra:6.3} {silent:7.3} | {:>17} ", self.tiers())?;
        write!(f, "| {:10.3} | {:5} | {:<15} ", self.mean(self.prediction), self.falsely_clean, exits.join(" "))?;
        if self.peers > 0 {
            write!(f, "| {:6.1}", 100.0 * self.peer_net / f64::from(self.peers))?;
        }
        Ok(())
    }
}
