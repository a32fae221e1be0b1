//! Dumps of genuine pools are those of the tools that go with them, byte for byte.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, clippy::indexing_slicing)]

mod common;

use std::sync::Arc;
use tierlift_ondisk::thin::Family;
use tierlift_pool::Pool;
use tierlift_pool::dump::{Format, dump};

fn dump_of(pool: &Pool, format: Format) -> (String, Vec<String>) {
    let (mut out, mut gaps) = (Vec::new(), Vec::new());
    dump(pool, format, &mut out, &mut |gap| gaps.push(gap.to_string())).unwrap();
    (String::from_utf8(out).unwrap(), gaps)
}

fn open(name: &str) -> Pool {
    Pool::open(Arc::new(common::metadata(name))).unwrap()
}

/// Element for element first: its message is easier to read than two long texts.
fn assert_same_xml(found: &str, expected: &str, name: &str) {
    let elements = |text: &str| -> Vec<String> {
        let document = roxmltree::Document::parse(text).unwrap();
        let told = |node: roxmltree::Node<'_, '_>| {
            let attributes: Vec<_> = node.attributes().map(|a| format!("{}={}", a.name(), a.value())).collect();
            format!("{} {}", node.tag_name().name(), attributes.join(" "))
        };
        document.descendants().filter(|node| node.is_element()).map(told).collect()
    };
    for (index, (found, expected)) in elements(found).into_iter().zip(elements(expected)).enumerate() {
        assert_eq!(found, expected, "{name}: element {index}");
    }
    assert!(found == expected, "{name}: same elements, other bytes");
}

#[test]
fn healthy_pools_dump_as_qnaps_tool_does() {
    for name in common::HEALTHY {
        let (xml, gaps) = dump_of(&open(name), Format::Xml);
        assert_eq!(gaps, [""; 0], "{name}");
        assert_same_xml(&xml, &common::xml(name), name);
    }
}

/// Made by thin_restore 0.9.0 from 4130 mappings in four devices, dumped by thin_dump 0.9.0.
#[test]
fn a_stock_pool_dumps_as_the_stock_tool_does() {
    let data = |file| zstd::decode_all(std::fs::File::open(format!("tests/data/{file}")).unwrap()).unwrap();
    let pool = Pool::open(Arc::new(data("mainline-v2.tmeta.img.zst"))).unwrap();
    assert_eq!(pool.family(), Family::Mainline);
    let (xml, gaps) = dump_of(&pool, Format::Xml);
    assert_eq!(gaps, [""; 0]);
    assert_same_xml(&xml, &String::from_utf8(data("mainline-v2.xml.zst")).unwrap(), "stock pool");
}

#[test]
fn the_newest_copy_gives_back_what_a_lost_superblock_described() {
    let sound = open("F3-3tiers");
    let (block, newest) = sound.ring().newest().unwrap().clone();
    assert_eq!(newest.number, block);
    let damaged = Arc::new(common::metadata("F8-F3-sbzero"));
    assert!(Pool::open(damaged.clone()).is_err());
    let pool = Pool::with_superblock(damaged, sound.blocks().size(), newest).unwrap();
    assert_same_xml(&dump_of(&pool, Format::Xml).0, &common::xml("F3-3tiers"), "F8-F3-sbzero from its newest copy");
}

#[test]
fn json_says_the_same_as_xml() {
    for name in ["F3-3tiers", "F4c-zeroflag", "F5-v2-4k"] {
        let pool = open(name);
        let json: serde_json::Value = serde_json::from_str(&dump_of(&pool, Format::Json).0).unwrap();
        assert_eq!(json["schema"], "tierlift.pool-dump/1");
        assert_eq!(json["lost"], serde_json::json!([]));
        assert_eq!(json["tiers"].is_null(), name == "F5-v2-4k");
        let mut rebuilt = Vec::new();
        for device in json["devices"].as_array().unwrap() {
            for run in device["mappings"].as_array().unwrap() {
                let (key, target) = (run["chunk"].as_u64().unwrap(), run["pool_chunk"].as_u64().unwrap());
                let (length, time, zeroed) = (run["length"].as_u64().unwrap(), &run["time"], &run["zeroed"]);
                rebuilt.push(format!("{}: {key}+{length} {target} {time} {zeroed}", device["id"]));
            }
        }
        let xml = common::xml(name);
        let document = roxmltree::Document::parse(&xml).unwrap();
        let mappings = document.descendants().filter(|node| node.tag_name().name().ends_with("_mapping"));
        let expected: Vec<_> = mappings
            .map(|node| {
                let get =
                    |names: [&str; 2]| names.iter().find_map(|name| node.attribute(*name)).unwrap_or("1").to_owned();
                format!(
                    "{}: {}+{} {} {} {}",
                    node.parent().unwrap().attribute("dev_id").unwrap(),
                    get(["origin_block", "origin_begin"]),
                    get(["length", "length"]),
                    get(["data_block", "data_begin"]),
                    get(["time", "time"]),
                    get(["fastzero", "fastzero"]),
                )
            })
            .collect();
        assert_eq!(rebuilt, expected, "{name}");
    }
}

#[test]
fn text_for_people_names_devices_and_tiers() {
    let (text, _) = dump_of(&open("F3-3tiers"), Format::Human);
    assert!(text.starts_with("Pool of QNAP, version 4, transaction 3, time 3\n480 chunks of 512.0 KiB, 267 in use\n"));
    assert!(text.contains("\nDevice 3: 147 chunks mapped, made in transaction 2, a snapshot of device 2\n"), "{text}");
    assert!(text.contains("\nTier tree\n"));
}
