//! What share of a volume was lost, in honest numbers.

use crate::case::Counts;

/// What was lost, as shares of all bytes and all files; where a repair left files without a name, also with these counted as lost.
pub(super) fn shares(counts: &Counts) -> String {
    let lost_files = counts.damaged.saturating_add(counts.failed);
    let files = counts.copied.saturating_add(counts.identical).saturating_add(lost_files);
    let share =
        |bytes, lost| format!("{} of all bytes, {} of all files", percent(bytes, counts.bytes), percent(lost, files));
    let mut told = format!("lost: {}", share(counts.lost_bytes, lost_files));
    if counts.nameless > 0 {
        let (bytes, lost) =
            (counts.lost_bytes.saturating_add(counts.nameless_bytes), lost_files.saturating_add(counts.nameless));
        told += &format!(
            "; with the {} files without a name (lost+found) counted as lost: {}",
            counts.nameless,
            share(bytes, lost)
        );
    }
    told
}

/// A share with two digits behind the point; never 0.00 % where something is lost, never more than all.
fn percent(part: u64, all: u64) -> String {
    let hundredths = u128::from(part.min(all)).saturating_mul(10_000).checked_div(u128::from(all));
    match (part, hundredths) {
        (0, _) => "0 %".into(),
        (_, Some(0)) => "less than 0.01 %".into(),
        (_, hundredths) => {
            let hundredths = hundredths.unwrap_or(10_000);
            format!("{}.{:02} %", hundredths / 100, hundredths % 100)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_honest() {
        assert_eq!(percent(0, 0), "0 %");
        assert_eq!(percent(1, 1 << 40), "less than 0.01 %");
        assert_eq!(percent(1, 3), "33.33 %");
        assert_eq!(percent(5, 0), "100.00 %");
        assert_eq!(percent(u64::MAX, u64::MAX), "100.00 %");
    }

    #[test]
    fn files_without_a_name_are_counted_both_ways() {
        let counts = Counts { copied: 98, damaged: 1, failed: 1, bytes: 1000, lost_bytes: 10, ..Counts::default() };
        assert_eq!(shares(&counts), "lost: 1.00 % of all bytes, 2.00 % of all files");
        let nameless = Counts { nameless: 3, nameless_bytes: 90, ..counts };
        let told = shares(&nameless);
        assert!(
            told.ends_with(
                "the 3 files without a name (lost+found) counted as lost: 10.00 % of all bytes, 5.00 % of all files"
            ),
            "{told}"
        );
        // A file with a name, and without one a whole and a damaged one: what is lost of that is lost once.
        let damaged = Counts { damaged: 1, copied: 2, nameless: 1, bytes: 1000, lost_bytes: 100, ..Counts::default() };
        let told = shares(&Counts { nameless_bytes: 200, ..damaged });
        assert!(told.ends_with("counted as lost: 30.00 % of all bytes, 66.66 % of all files"), "{told}");
    }
}
