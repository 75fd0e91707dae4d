//! How the sources are laid out: rooms that depend on each other in one direction, and files that can be read in one
//! go.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What a stranger reads at once.
const MOST_LINES: usize = 500;

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.extension() {
            _ if path.is_dir() => sources(&path, found),
            Some(extension) if extension == "rs" => found.push(path),
            _ => {}
        }
    }
}

fn sources_in(folders: &[&str]) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in folders {
        sources(&root.join(folder), &mut found);
    }
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path.strip_prefix(root).unwrap().to_owned(), text)
    };
    found.into_iter().map(read).collect()
}

/// The names behind each `crate::`, in braces too.
fn named(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for rest in text.split("crate::").skip(1) {
        let word = |text: &str| -> String {
            let letters = text.trim_start().chars();
            letters
                .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                .collect()
        };
        let Some(list) = rest.strip_prefix('{') else {
            names.insert(word(rest));
            continue;
        };
        let (mut depth, mut start) = (0, 0);
        for (at, character) in list.char_indices() {
            match character {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    names.insert(word(&list[start..at]));
                    start = at + 1;
                    if character == '}' {
                        break;
                    }
                }
                _ => {}
            }
        }
    }
    names
}

/// The code of a file without comments, and without the tests at its end.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().map(|line| line.split("//").next().unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn rooms_depend_on_each_other_in_one_direction_alone() {
    let mut needs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, text) in sources_in(&["src"]) {
        let room = path.iter().nth(1).unwrap().to_str().unwrap();
        let room = room.trim_end_matches(".rs").to_owned();
        // lib.rs names all of them, and tests may look anywhere.
        if room == "lib"
            || path
                .iter()
                .any(|part| part == "tests" || part == "tests.rs")
        {
            continue;
        }
        needs.entry(room).or_default().extend(named(&code(&text)));
    }
    let rooms: BTreeSet<String> = needs.keys().cloned().collect();
    for (room, needs) in &mut needs {
        needs.retain(|need| rooms.contains(need) && need != room);
    }
    assert!(rooms.len() > 15 && needs["element"].len() > 10, "{needs:?}");
    let mut left = rooms;
    loop {
        let free = |room: &String| needs[room].is_disjoint(&left);
        let next: Vec<String> = left.iter().filter(|room| free(room)).cloned().collect();
        if next.is_empty() {
            break;
        }
        println!("{}", next.join(" "));
        left.retain(|room| !next.contains(room));
    }
    needs.retain(|room, _| left.contains(room));
    assert!(left.is_empty(), "these need each other: {needs:#?}");
}

#[test]
fn no_file_is_too_long_to_be_read_in_one_go() {
    let folders = ["src", "tests", "benches", "pipelines"];
    for (path, text) in sources_in(&folders) {
        let lines = text.lines().count();
        // prost wrote this one.
        let generated = path == Path::new("src/model/onnx/proto.rs");
        assert!(
            lines <= MOST_LINES || generated,
            "{path:?} has {lines} lines"
        );
    }
}
