use super::*;
use proptest::prelude::*;

const OF_WINDOWS: [Kind; 4] = [Kind::Ntfs, Kind::Exfat, Kind::Fat, Kind::Share];

fn on_ntfs(name: &[u8]) -> String {
    acceptable(Kind::Ntfs, name).into_owned()
}

fn list(names: &[&[u8]]) -> Vec<OsString> {
    let mut names: Vec<OsString> = names.iter().map(|name| OsString::from_vec(name.to_vec())).collect();
    names.sort();
    names
}

/// What Windows says of a name, written down apart from the code.
fn windows_takes(name: &str) -> bool {
    let stem = name.split('.').next().unwrap().trim_end_matches(' ').to_uppercase();
    let ports = (1..=9).flat_map(|number| [format!("COM{number}"), format!("LPT{number}")]);
    let devices: Vec<String> = ["CON", "PRN", "AUX", "NUL"].map(String::from).into_iter().chain(ports).collect();
    !name.is_empty()
        && !name.contains(|sign: char| sign < ' ' || "<>:\"/\\|?*\u{7f}".contains(sign))
        && !name.ends_with(['.', ' '])
        && !devices.contains(&stem)
        && name.len() <= 255
        && name.encode_utf16().count() <= 255
}

#[test]
fn what_windows_takes_stays() {
    for name in [
        "photo.jpg",
        "#1234",
        "#1234.damaged",
        ".bashrc",
        " blank first",
        "Tür & Tor.txt",
        "CONTENT.con",
        "COM10",
        "~1",
    ] {
        assert!(matches!(acceptable(Kind::Ntfs, name.as_bytes()), Cow::Borrowed(same) if same == name), "{name}");
    }
    let names = list(&[b"a:b", b"CON", b"x ", b"README", b"readme", b"b\xe4r"]);
    assert!(Names::new(Kind::Unix, Path::new("/does/not/exist")).target(Path::new("a:b/CON")) == Path::new("a:b/CON"));
    assert_eq!(changed(Kind::Ntfs, &names).len(), 5);
}

#[test]
fn what_windows_does_not_take_looks_alike() {
    assert_eq!(on_ntfs(b"12:30 <a|b>?*\\\".txt"), "12：30 ＜a｜b＞？＊＼＂.txt");
    assert_eq!(on_ntfs(b"two\nlines\x7f"), "two␊lines␡");
    assert_eq!((on_ntfs(b"end."), on_ntfs(b"end "), on_ntfs(b"..")), ("end．".into(), "end␠".into(), ".．".into()));
    assert_eq!(
        (on_ntfs(b"con"), on_ntfs(b"Aux.h"), on_ntfs(b"nul .tar.gz")),
        ("con_".into(), "Aux_.h".into(), "nul_ .tar.gz".into())
    );
    assert_eq!((on_ntfs(b"lpt9.log"), on_ntfs("COM¹".as_bytes())), ("lpt9_.log".into(), "COM¹_".into()));
    assert_eq!(on_ntfs(b"b\xe4r\xff.txt"), "b%E4r%FF.txt");
    assert_eq!(on_ntfs(b""), "_");
}

#[test]
fn a_name_that_becomes_too_long_is_cut_and_marked() {
    let name = [vec![b':'; 250], b".jpg".to_vec()].concat();
    let short = on_ntfs(&name);
    assert!(short.len() <= 255 && short.starts_with("：：") && short.ends_with(".jpg"), "{short}");
    assert_ne!(short, on_ntfs(&[vec![b':'; 249], b".jpg".to_vec()].concat()));
}

#[test]
fn a_name_that_is_a_short_one_for_fat_is_changed_there_only() {
    assert_eq!(acceptable(Kind::Fat, b"PROGRA~1"), "PROGRA～1");
    assert_eq!(acceptable(Kind::Fat, b"photo_~2.jpg"), "photo_～2.jpg");
    for (kind, name) in
        [(Kind::Ntfs, "PROGRA~1"), (Kind::Fat, "backup~1 of May"), (Kind::Fat, "a~b"), (Kind::Fat, "file~")]
    {
        assert_eq!(acceptable(kind, name.as_bytes()), name);
    }
}

#[test]
fn names_that_differ_in_case_are_told_apart() {
    let names = list(&[
        b"README",
        b"Readme",
        b"readme.txt",
        "Ärger".as_bytes(),
        "ärger".as_bytes(),
        "Straße".as_bytes(),
        b"Strasse",
    ]);
    let changed = changed(Kind::Exfat, &names);
    let mut which: Vec<&OsString> = changed.keys().collect();
    which.sort();
    assert_eq!(which, ["Readme", "ärger"]);
    assert!(changed[OsStr::new("Readme")].starts_with("Readme~"));
}

#[test]
fn a_changed_name_takes_no_name_of_another() {
    let names = list(&[b"a:b", "a：b".as_bytes(), b"a?", b"A?", b"nul", b"nul_"]);
    let changed = changed(Kind::Ntfs, &names);
    assert!(!changed.contains_key(OsStr::new("a：b")) && !changed.contains_key(OsStr::new("nul_")));
    assert!(changed[OsStr::new("a:b")].starts_with("a：b~"));
    assert_eq!(changed[OsStr::new("A?")], "A？");
    assert!(changed[OsStr::new("a?")].starts_with("a？~"));
}

#[test]
fn even_names_made_to_collide_do_not() {
    let mut names = vec![b"a?".to_vec(), "a？".as_bytes().to_vec()];
    for attempt in 0..3 {
        names.push(marked("a？", b"a?", attempt).into_bytes());
    }
    let names = list(&names.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let changed = changed(Kind::Ntfs, &names);
    assert_eq!((changed.len(), &changed[OsStr::new("a?")]), (1, &marked("a？", b"a?", 3)));
}

#[test]
fn the_name_of_a_directory_holds_for_all_below_it() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("a:b/Sub")).unwrap();
    for file in ["a:b/Sub/x.", "a:b/sub", "plain"] {
        std::fs::write(root.path().join(file), "").unwrap();
    }
    let mut names = Names::new(Kind::Ntfs, root.path());
    assert_eq!(names.target(Path::new("a:b/Sub/x.")), Path::new("a：b/Sub/x．"));
    let small = names.target(Path::new("a:b/sub"));
    assert!(small.starts_with("a：b") && small != Path::new("a：b/sub"), "{}", small.display());
    // Going up forgets what is below; it is the same when it is asked for again.
    assert_eq!((names.target(Path::new("plain")), names.levels.len()), ("plain".into(), 1));
    assert_eq!(names.target(Path::new("a:b/sub")), small);
    assert_eq!(Names::new(Kind::Ntfs, root.path()).target(Path::new("a:b/sub")), small);
    assert_eq!(names.target(Path::new("")), Path::new(""));
}

/// The two ways of copying must find what the other one wrote.
#[test]
fn names_that_are_given_become_what_names_that_are_read_become() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("a:b/Sub")).unwrap();
    for file in ["a:b/Sub/x.", "a:b/Sub/X.", "a:b/sub", "README", "readme"] {
        std::fs::write(root.path().join(file), "").unwrap();
    }
    let (mut read, mut given) = (Names::new(Kind::Fat, root.path()), Names::given(Kind::Fat));
    let list = |names: &[&str]| names.iter().map(OsString::from).collect::<Vec<_>>();
    let mut same = |given: &mut Names, path: &str| {
        let path = Path::new(path);
        assert_eq!(given.target(path), read.target(path));
    };
    given.enter(Path::new(""), list(&["readme", "a:b", "README"]), true);
    ["a:b", "README", "readme"].iter().for_each(|path| same(&mut given, path));
    given.enter(Path::new("a:b"), list(&["sub", "Sub"]), true);
    ["a:b/Sub", "a:b/sub"].iter().for_each(|path| same(&mut given, path));
    given.enter(Path::new("a:b/Sub"), list(&["x.", "X."]), true);
    ["a:b/Sub/x.", "a:b/Sub/X.", "a:b/sub", "readme"].iter().for_each(|path| same(&mut given, path));
    // One that was never entered, and one of which names are missing: nobody knows what they would collide with.
    assert_ne!(given.target(Path::new("other/README")), Path::new("other/README"));
    given.enter(Path::new("a:b"), list(&["README"]), false);
    assert_eq!(given.target(Path::new("a:b/README")), read.target(Path::new("a:b")).join("README"));
    assert_ne!(given.target(Path::new("a:b/readme")), read.target(Path::new("a:b")).join("readme"));
}

#[test]
fn a_directory_that_cannot_be_read_gives_no_name_away() {
    let mut names = Names::new(Kind::Ntfs, Path::new("/does/not/exist"));
    let (one, two) = (names.target(Path::new("README")), names.target(Path::new("readme")));
    assert!(one.to_string_lossy().starts_with("README~"), "{}", one.display());
    assert_ne!(folded(&one.to_string_lossy()), folded(&two.to_string_lossy()));
}

#[test]
fn the_folder_of_a_repair_keeps_its_name() {
    let root = tempfile::tempdir().unwrap();
    for folder in ["LOST+FOUND", "Lost+Found", "lost+found"] {
        std::fs::create_dir(root.path().join(folder)).unwrap();
    }
    let mut names = Names::new(Kind::Exfat, root.path());
    assert_eq!(names.target(Path::new("lost+found/#12")), Path::new("lost+found/#12"));
    assert_ne!(names.target(Path::new("LOST+FOUND")), Path::new("LOST+FOUND"));
}

#[test]
fn the_name_of_a_damaged_file_fits_and_is_its_own() {
    assert_eq!(damaged(OsStr::new("#12")), "#12.damaged");
    let long = |end: &str| OsString::from(format!("{}{end}", "ä".repeat(124)));
    let (one, two) = (damaged(&long("1.jpg")), damaged(&long("2.jpg")));
    assert!(one.len() <= 255 && one != two && one.to_str().is_some_and(|name| name.ends_with(".damaged")));
    let bytes = damaged(&OsString::from_vec(vec![0x80; 255]));
    assert!(bytes.len() <= 255 && bytes.as_bytes().ends_with(DAMAGED));
}

/// Names with what is wrong for Windows, more often than chance has it.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        proptest::sample::select(vec![
            "con", "LPT1", ":", "：", ".", " ", "a", "A", "ß", "~1", "~", "\u{1f}", "😀", "_", "%E4"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        proptest::collection::vec(any::<u8>(), 0..60),
    ];
    proptest::collection::vec(part, 1..8).prop_map(|parts| {
        let mut name: Vec<u8> = parts.concat().into_iter().filter(|byte| ![0, b'/'].contains(byte)).take(255).collect();
        if name.is_empty() {
            name.push(b'x');
        }
        name
    })
}

proptest! {
    #[test]
    fn every_name_has_a_form_that_windows_takes(name in name()) {
        for kind in OF_WINDOWS {
            let form = acceptable(kind, &name);
            prop_assert!(windows_takes(&form), "{form:?}");
            prop_assert!(is_acceptable(kind, &form), "{form:?}");
            // What is left alone is what is right already, and nothing else is left alone.
            prop_assert_eq!(matches!(form, Cow::Borrowed(_)), form.as_bytes() == name);
            prop_assert!(windows_takes(&marked(&form, &name, 7)));
        }
        prop_assert!(damaged(OsStr::from_bytes(&name)).len() <= 255);
    }

    #[test]
    fn no_two_names_of_a_directory_become_one(names in proptest::collection::btree_set(name(), 1..30)) {
        let names: Vec<OsString> = names.into_iter().map(OsString::from_vec).collect();
        for kind in OF_WINDOWS {
            let changed = changed(kind, &names);
            let mut seen = HashSet::new();
            for name in &names {
                let form = changed.get(name).map_or_else(|| name.to_str().unwrap(), String::as_str);
                prop_assert!(is_acceptable(kind, form) && windows_takes(form), "{form:?}");
                prop_assert!(seen.insert(form.to_ascii_lowercase()), "{form:?}");
                prop_assert!(seen.insert(format!("folded/{}", folded(form))), "{form:?}");
            }
        }
    }

    #[test]
    fn on_linux_every_name_stays(name in name()) {
        let mut names = Names::new(Kind::Unix, Path::new("/"));
        let path = Path::new(OsStr::from_bytes(&name));
        prop_assert_eq!(names.target(path), path);
    }
}
