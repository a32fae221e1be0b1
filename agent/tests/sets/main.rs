//! Disk sets and their verdicts: what a user may attach, from a sound disk to a pile of strangers, each with what the scan
//! must say of it. Everything is judged on bytes alone; no kernel is asked.

// A table reads better when what happens to a set is one expression.
#![allow(clippy::unit_arg)]
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod groups;
mod images;
mod large;
mod mirrors;
mod reading;
mod row;
mod strangers;
mod striped;

use row::{Row, check_all};

const TABLES: [&[Row]; 5] = [mirrors::ROWS, striped::ROWS, images::ROWS, groups::ROWS, strangers::ROWS];

#[test]
fn mirrors_and_single_disks() {
    check_all(mirrors::ROWS);
}

#[test]
fn striped_arrays() {
    check_all(striped::ROWS);
}

#[test]
fn images_and_partition_tables() {
    check_all(images::ROWS);
}

#[test]
fn groups_and_what_lies_on_arrays() {
    check_all(groups::ROWS);
}

#[test]
fn disks_that_are_not_qnaps() {
    check_all(strangers::ROWS);
}

#[test]
fn there_are_at_least_sixty_sets_and_each_has_a_name_and_a_verdict() {
    let rows: Vec<&Row> = TABLES.iter().copied().flatten().collect();
    assert!(rows.len() >= 60, "{}", rows.len());
    for row in &rows {
        assert_eq!(rows.iter().filter(|other| other.name == row.name).count(), 1, "{}", row.name);
        assert!(!row.says.is_empty(), "{}", row.name);
    }
}
