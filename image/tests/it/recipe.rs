//! The exact stream of a layer, made again from its tree.

use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use image::{Digest, StoreError};
use proptest::prelude::*;

use crate::build::{Bench, Entry, Tar, chain, noise};

fn tar_of(bench: &Bench, diff_id: Digest) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let _ = bench.store().layer_tar(diff_id).unwrap().read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn assert_comes_back(bench: &mut Bench, tar: &[u8]) {
    let _tree = bench.unpack(tar).unwrap();
    let again = tar_of(bench, Digest::of(tar)).unwrap();
    assert!(again == tar, "{} bytes came back of {}, or they differ", again.len(), tar.len());
}

#[test]
fn a_layer_comes_back_byte_for_byte() {
    let long = "d/".repeat(90) + "file";
    let tar = Tar::default()
        .dir("./")
        .file("empty", b"")
        .file("odd", &noise(1, 700))
        .file("big", &noise(2, 300_000))
        .file(&long, b"with extended headers")
        .add(Entry {
            name: b"caps",
            data: b"x",
            xattrs: &[("user.a", b"1\n2"), ("dropped.b", b"")],
            ..Entry::default()
        })
        .symlink("link", "big")
        .hardlink("hard", "odd")
        .file("dir/.wh.gone", b"a whiteout with content, which is not in the tree")
        .file("dir/.wh..wh..opq", b"")
        .add(Entry { flag: b'6', name: b"fifo", ..Entry::default() })
        .add(Entry { flag: b'1', name: b"hard2", link: b"odd", ..Entry::default() })
        .end();
    // What tools leave behind the end of an archive belongs to the stream.
    let tar = [&tar[..], &[0; 7000], b"and something else"].concat();
    assert_comes_back(&mut Bench::new(), &tar);
    // Blocks between header and content that nobody looks at.
    let mut padded = Tar::default().file("a", b"abc").end();
    padded[512 + 3..1024].fill(7);
    assert_comes_back(&mut Bench::new(), &padded);
    assert_comes_back(&mut Bench::new(), b"");
}

#[test]
fn what_later_entries_replaced_comes_back_too() {
    let tar = Tar::default()
        .file("twice", b"first")
        .hardlink("kept", "twice")
        .file("twice", b"second")
        .file("thrice", b"one")
        .file("thrice", b"two!")
        .file("thrice", b"three")
        .dir("dir")
        .file("dir/deep/er/lost", b"content of a directory that goes")
        .file("dir/also", b"also")
        .hardlink("dir/deep/name", "dir/also")
        .symlink("dir", "elsewhere")
        .file("dir/through", b"through a link")
        .dir("dir")
        .file("dir/through", b"and at its old name")
        .hardlink("twice", "thrice")
        .file("a", b"a")
        .hardlink("b", "a")
        .file("a", b"no longer a")
        .file("b", b"no longer b")
        .symlink("kept2", "x")
        .file("kept2", b"was a link")
        .end();
    let mut bench = Bench::new();
    assert_comes_back(&mut bench, &tar);
    bench.assert_clean();
}

fn replace_by_link(file: &Path) {
    std::fs::remove_file(file).unwrap();
    symlink("../two", file).unwrap();
}

/// The file is still found by its name, but through a link.
fn move_parent(file: &Path) {
    let dir = file.parent().unwrap();
    std::fs::rename(dir, dir.with_file_name("moved")).unwrap();
    symlink("moved", dir).unwrap();
}

#[test]
fn files_of_a_damaged_tree_are_named() {
    let tar = Tar::default().file("dir/one", b"one").file("two", b"two").file("three", b"three").end();
    type Damage = (fn(&Path), &'static str);
    let damages: [Damage; 5] = [
        (|path| std::fs::write(path, "onE").unwrap(), "\"dir/one\" has other content"),
        (|path| std::fs::write(path, "only one").unwrap(), "\"dir/one\" the size is 8, not 3"),
        (|path| std::fs::remove_file(path).unwrap(), "\"dir/one\" is missing"),
        (replace_by_link, "\"dir/one\" is missing"),
        (move_parent, "\"dir/one\" is missing"),
    ];
    for (damage, expected) in damages {
        let mut bench = Bench::new();
        let tree = bench.unpack(&tar).unwrap();
        damage(&tree.join("dir/one"));
        let error = chain(&tar_of(&bench, Digest::of(&tar)).unwrap_err());
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(error.contains("image verify"), "{error}");
    }
}

#[test]
fn a_damaged_recipe_is_an_error_and_a_missing_one_says_why() {
    let tar = Tar::default().file("one", &noise(5, 3000)).dir("two").end();
    let mut bench = Bench::new();
    let recipe = bench.unpack(&tar).unwrap().parent().unwrap().join("recipe");
    let whole = std::fs::read(&recipe).unwrap();
    let read = || {
        let mut bytes = Vec::new();
        let outcome = bench.store().layer_tar(Digest::of(&tar)).map(|mut tar| tar.read_to_end(&mut bytes));
        matches!(outcome, Ok(Ok(_))).then_some(bytes)
    };
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        std::fs::write(&recipe, damaged).unwrap();
        // A few bits of zstd's frame header mean nothing.
        assert!(read().is_none_or(|bytes| bytes == tar), "byte {at} is not noticed");
        std::fs::write(&recipe, &whole[..at]).unwrap();
        assert_eq!(read(), None, "{at} bytes suffice");
    }
    std::fs::remove_file(&recipe).unwrap();
    let error = bench.store().layer_tar(Digest::of(&tar)).err().unwrap();
    assert!(
        matches!(error, StoreError::NoRecipe(_)) && error.to_string().contains("image verify"),
        "{error}"
    );
    let error = bench.store().layer_tar(Digest::of(b"other")).err().unwrap();
    assert!(matches!(error, StoreError::NotFound(_)), "{error}");
    bench.assert_clean();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// Few names, so that entries get into each other's way.
    #[test]
    fn any_layer_comes_back(entries in prop::collection::vec((0..8_u8, 0..7_usize, 0..7_usize, 0..900_usize), 0..24)) {
        const NAMES: [&str; 7] = ["a", "b", "a/b", "a/b/c", "b/a", "c", "c/a"];
        let tar = entries.iter().enumerate().fold(Tar::default(), |tar, (at, (kind, name, other, size))| {
            match kind {
                0..=2 => tar.file(NAMES[*name], &noise(at as u64, *size)),
                3 => tar.dir(NAMES[*name]),
                4 => tar.symlink(NAMES[*name], NAMES[*other]),
                5 => tar.symlink(NAMES[*name], &format!("/{}", NAMES[*other])),
                6 => tar.hardlink(NAMES[*name], NAMES[*other]),
                _ => tar.file(&format!("{}/.wh.{}", NAMES[*name], NAMES[*other].split('/').next().unwrap()), b""),
            }
        }).end();
        let mut bench = Bench::new();
        if bench.unpack(&tar).is_ok() {
            prop_assert!(tar_of(&bench, Digest::of(&tar)).unwrap() == tar);
            bench.assert_clean();
        }
    }
}
