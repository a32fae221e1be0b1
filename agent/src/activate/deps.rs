//! Which of our devices stand on which.

use super::dm::{DeviceMapper, DmError, path_of};
use super::sysfs;

/// Our devices with what each stands on.
#[derive(Debug, Default)]
pub struct Dependencies {
    devices: Vec<Device>,
}

#[derive(Debug)]
struct Device {
    name: String,
    /// Its number as tables write it, "253:4".
    number: Option<String>,
    /// Every word of its table.
    words: Vec<String>,
}

impl Dependencies {
    /// Asks the kernel for the tables of all devices we made.
    ///
    /// # Errors
    /// When device-mapper cannot be asked.
    pub fn read(dm: &DeviceMapper) -> Result<Self, DmError> {
        let mut devices = Vec::new();
        for (name, _) in dm.ours()? {
            let words = dm.table(&name)?.iter().flat_map(|line| words(&line.arguments)).collect();
            let number = sysfs::number_of(&path_of(&name)).ok().flatten().map(|number| number.to_string());
            devices.push(Device { name, number, words });
        }
        Ok(Self { devices })
    }

    /// Whether another of our devices stands on this one.
    pub fn carries_others(&self, name: &str) -> bool {
        self.devices.iter().find(|device| device.name == name).is_some_and(|device| carries(device, &self.devices))
    }

    /// Names in an order in which they can be removed: those that nothing stands on first.
    pub fn removal_order(self) -> Vec<String> {
        let mut left = self.devices;
        let mut order = Vec::new();
        while !left.is_empty() {
            let free: Vec<String> =
                left.iter().filter(|device| !carries(device, &left)).map(|device| device.name.clone()).collect();
            // Devices cannot stand on each other in circles; if it looks so all the same, each is tried as it comes.
            let now: Vec<String> =
                if free.is_empty() { left.iter().map(|device| device.name.clone()).collect() } else { free };
            left.retain(|device| !now.contains(&device.name));
            order.extend(now);
        }
        order
    }
}

fn words(arguments: &str) -> Vec<String> {
    arguments.split_whitespace().map(str::to_owned).collect()
}

fn carries(lower: &Device, all: &[Device]) -> bool {
    lower.number.as_ref().is_some_and(|number| all.iter().any(|device| device.words.contains(number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, number: &str, arguments: &str) -> Device {
        Device { name: name.into(), number: Some(number.into()), words: words(arguments) }
    }

    #[test]
    fn what_stands_on_others_goes_first() {
        let devices = vec![
            device("member", "253:2", "253:0 253:1 N 16"),
            device("source", "253:0", "254:0 2048"),
            device("thin", "253:4", "253:3 1"),
            device("store", "253:1", "7:0 0"),
            device("pool", "253:3", "253:2 TIER 1024 0 1 read_only"),
        ];
        let dependencies = Dependencies { devices };
        assert!(dependencies.carries_others("pool") && !dependencies.carries_others("thin"));
        assert_eq!(dependencies.removal_order(), ["thin", "pool", "member", "source", "store"]);
    }

    #[test]
    fn a_circle_is_not_followed_for_ever() {
        let devices = vec![device("a", "253:0", "253:1"), device("b", "253:1", "253:0")];
        assert_eq!(Dependencies { devices }.removal_order().len(), 2);
    }
}
