//! What a kernel log must not contain.

/// Lines that tell of a kernel fault: oops, BUG, WARNING, a hung or stuck task, a lockup, a damaged list or allocation.
pub fn complaints(log: &str) -> Vec<&str> {
    const SIGNS: [&str; 12] = [
        "Oops",
        "BUG:",
        "kernel BUG at",
        "WARNING:",
        "general protection fault",
        "Call Trace:",
        "blocked for more than",
        "soft lockup",
        "hard LOCKUP",
        "rcu_sched detected stalls",
        "Kernel panic",
        "UBSAN:",
    ];
    log.lines().filter(|line| SIGNS.iter().any(|sign| line.contains(sign))).collect()
}

#[cfg(test)]
mod tests {
    use super::complaints;

    #[test]
    fn faults_are_found_and_refusals_are_not() {
        let log = "[ 1.0] device-mapper: thin: pool refused: no qnap_format\n\
                   [ 2.0] BUG: unable to handle page fault for address: ffffc90001a57440\n\
                   [ 2.1] INFO: task kworker blocked for more than 122 seconds.\n";
        assert_eq!(complaints(log).len(), 2);
    }
}
