//! How full overlays are, for people.

use super::dm::DeviceMapper;
use super::volume_overlay::{self, Fill};
use super::{ground, names};
use tierlift_ondisk::units::Sectors;

/// An overlay, and how full it is.
struct Overlay {
    shown: String,
    status: String,
}

fn all(dm: &DeviceMapper) -> anyhow::Result<Vec<Overlay>> {
    let mut found = Vec::new();
    for (name, _) in dm.ours()? {
        let shown = match names::number_of(&name, names::MEMBER) {
            Some(number) => format!("overlay {number}"),
            None if volume_overlay::is_overlay(&name) => format!("overlay of a file system, {name}"),
            None => continue,
        };
        let status = dm.status(&name)?.into_iter().next().map(|line| line.arguments).unwrap_or_default();
        found.push(Overlay { shown, status });
    }
    Ok(found)
}

/// How full each overlay is, in sentences.
///
/// # Errors
/// When device-mapper cannot be asked.
pub fn told(dm: &DeviceMapper) -> anyhow::Result<Vec<String>> {
    let mut told: Vec<String> =
        all(dm)?.iter().map(|overlay| format!("{}: {}", overlay.shown, sentence(&overlay.status))).collect();
    if let Some(Fill { used, size }) = ground::memory_fill().filter(|_| !told.is_empty()) {
        told.push(format!("all overlays in memory together: {} of {} used", used.human(), size.human()));
    }
    Ok(told)
}

/// The same in a line, for the prompt; `None` when there are no overlays.
///
/// # Errors
/// When device-mapper cannot be asked.
pub fn in_short(dm: &DeviceMapper) -> anyhow::Result<Option<String>> {
    let overlays = all(dm)?;
    Ok(short(&overlays, ground::memory_fill()))
}

fn short(overlays: &[Overlay], memory: Option<Fill>) -> Option<String> {
    if overlays.is_empty() {
        return None;
    }
    if let Some(broken) = overlays.iter().find(|overlay| volume_overlay::figures(&overlay.status).is_none()) {
        return Some(format!("(overlays: {}: {})", broken.shown, sentence(&broken.status)));
    }
    let fullest =
        overlays.iter().filter_map(|overlay| volume_overlay::figures(&overlay.status)).map(Fill::percent).max();
    let memory = memory.map_or(String::new(), |fill| format!(", their memory {} % full", fill.percent()));
    Some(format!("(overlays: {}, the fullest {} % full{memory})", overlays.len(), fullest.unwrap_or(0)))
}

/// The snapshot target's "used/all metadata" in sectors, or one word when it is broken.
fn sentence(status: &str) -> String {
    let figures = status.split_whitespace().next().and_then(|word| word.split_once('/'));
    let figures = figures.and_then(|(used, all)| Some((used.parse().ok()?, all.parse().ok()?)));
    match figures {
        Some((used, all)) => {
            let human = |sectors: u64| Sectors(sectors).to_bytes().unwrap_or_default().human();
            format!("{} of {} used", human(used), human(all))
        }
        None => {
            format!("{status}: it has no room left and reads fail; deactivate, and activate with a larger --scratch")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tierlift_ondisk::units::Bytes;

    #[test]
    fn an_overlay_tells_how_full_it_is() {
        assert_eq!(sentence("16/262144 16"), "8.0 KiB of 128.0 MiB used");
        assert!(sentence("Invalid").starts_with("Invalid: it has no room left"));
    }

    #[test]
    fn the_fullest_is_told_in_a_line() {
        let overlay = |status: &str| Overlay { shown: "overlay 1".into(), status: status.into() };
        let memory = Some(Fill { used: Bytes(10), size: Bytes(40) });
        let two = [overlay("16/262144 16"), overlay("131072/262144 16")];
        assert_eq!(short(&two, memory).unwrap(), "(overlays: 2, the fullest 50 % full, their memory 25 % full)");
        assert!(short(&[overlay("Invalid")], None).unwrap().contains("no room left"));
        assert_eq!(short(&[], memory), None);
    }
}
