//! What operators write, and what is made of it.

use std::path::Path;

use super::*;
use crate::reference::ImageName;

fn read(text: &str) -> Registries {
    let mut all = Registries::default();
    all.add(Path::new("/r.conf"), text).unwrap();
    all
}

fn refusal(text: &str) -> String {
    Registries::default().add(Path::new("/r.conf"), text).unwrap_err().to_string()
}

fn named(registries: &Registries, text: &str, stored: &[&str]) -> Result<String, String> {
    let has = |name: &ImageName| stored.contains(&name.to_string().as_str());
    registries.name(text, &has).map(|name| name.to_string()).map_err(|error| error.to_string())
}

fn asked(registries: &Registries, text: &str) -> Vec<String> {
    let endpoints = registries.endpoints(&text.parse().unwrap()).unwrap();
    let insecure = |insecure| if insecure { " insecure" } else { "" };
    endpoints.iter().map(|e| format!("{}{}", e.reference, insecure(e.insecure))).collect()
}

#[test]
fn short_names_are_never_guessed() {
    let none = Registries::default();
    assert_eq!(named(&none, "nginx", &[]).unwrap(), "docker.io/library/nginx:latest");
    let one = read(r#"unqualified-search-registries = ["r.example:5000"]"#);
    assert_eq!(named(&one, "nginx:1", &[]).unwrap(), "r.example:5000/nginx:1");
    assert_eq!(named(&one, "me/tool", &[]).unwrap(), "r.example:5000/me/tool:latest");
    assert_eq!(named(&one, "docker://nginx", &[]).unwrap(), "docker.io/library/nginx:latest");
    assert_eq!(named(&one, "quay.io/x", &[]).unwrap(), "quay.io/x:latest");
    assert_eq!(named(&one, "oci:/x", &[]).unwrap(), "oci:/x");

    for mode in ["enforcing", "permissive", "disabled", ""] {
        let list = r#"unqualified-search-registries = ["a.example", "docker.io"]"#;
        let several = read(&format!("{list}\nshort-name-mode = \"{mode}\""));
        let error = named(&several, "nginx", &[]).unwrap_err();
        assert!(error.contains("a.example/nginx:latest, docker.io/library/nginx:latest"), "{error}");
        assert!(error.contains("/r.conf"), "{error}");
        let has = named(&several, "nginx", &["docker.io/library/nginx:latest"]).unwrap();
        assert_eq!(has, "docker.io/library/nginx:latest");
        let both = named(&several, "nginx", &["docker.io/library/nginx:latest", "a.example/nginx:latest"]);
        assert!(both.is_err(), "two that are stored are two still");
    }
    for text in ["", "unqualified-search-registries = []"] {
        let error = named(&read(text), "nginx", &["docker.io/library/nginx:latest"]).unwrap_err();
        assert!(error.contains("as in docker.io/library/nginx:latest"), "{error}");
    }
}

#[test]
fn aliases_win_and_later_files_take_them_back() {
    let mut all = read(
        "unqualified-search-registries = ['a.example', 'b.example']\n[aliases]\nweb = 'quay.io/x/nginx'\nold = 'quay.io/old'",
    );
    let digest = format!("web:1@{}", crate::Digest::of(b""));
    assert_eq!(named(&all, "web", &["a.example/web:latest"]).unwrap(), "quay.io/x/nginx:latest");
    assert_eq!(named(&all, "web:1", &[]).unwrap(), "quay.io/x/nginx:1");
    assert_eq!(named(&all, &digest, &[]).unwrap(), digest.replacen("web", "quay.io/x/nginx", 1));
    all.add(Path::new("/d/1.conf"), "[aliases]\nold = ''\nnew = 'docker.io/library/new'").unwrap();
    assert!(named(&all, "old", &[]).is_err());
    assert_eq!(named(&all, "new", &[]).unwrap(), "docker.io/library/new:latest");
    all.add(Path::new("/d/2.conf"), "unqualified-search-registries = ['c.example']").unwrap();
    assert_eq!(named(&all, "old", &[]).unwrap(), "c.example/old:latest");
}

#[test]
fn the_longest_prefix_says_where_to_ask() {
    let all = read(
        r#"
        [[registry]]
        location = "example.com"
        [[registry]]
        prefix = "example.com/foo"
        location = "inner:5000/bar"
        insecure = true
        [[registry.mirror]]
        location = "m0/foo"
        [[registry.mirror]]
        location = "m1.example/foo"
        insecure = true
        [[registry]]
        prefix = "*.example.com"
        [[registry.mirror]]
        location = "m2.example"
        [[registry]]
        prefix = "*.b.example.com"
        location = "b.example/all"
        [[registry]]
        prefix = "docker.io/library"
        location = "docker.io/library"
        mirror-by-digest-only = true
        [[registry.mirror]]
        location = "hub.example/library"
        [[registry]]
        location = "split.example"
        [[registry.mirror]]
        location = "digests.example"
        pull-from-mirror = "digest-only"
        [[registry.mirror]]
        location = "tags.example"
        pull-from-mirror = "tag-only"
        "#,
    );
    let digest = crate::Digest::of(b"");
    let table: [(&str, &[&str]); 9] = [
        ("example.com/x:1", &["example.com/x:1"]),
        (
            "example.com/foo/x:1",
            &["m0/foo/x:1", "m1.example/foo/x:1 insecure", "inner:5000/bar/x:1 insecure"],
        ),
        ("example.com/food:1", &["example.com/food:1"]),
        ("example.com:5000/foo:1", &["example.com:5000/foo:1"]),
        ("a.example.com:80/x:1", &["m2.example/x:1", "a.example.com:80/x:1"]),
        ("a.b.example.com/x:1", &["b.example/all/x:1"]),
        ("badexample.com/x:1", &["badexample.com/x:1"]),
        ("nginx", &["docker.io/library/nginx:latest"]),
        ("split.example/x:1", &["tags.example/x:1", "split.example/x:1"]),
    ];
    for (text, expected) in table {
        assert_eq!(asked(&all, text), expected, "{text}");
    }
    let by_digest = asked(&all, &format!("nginx@{digest}"));
    let place = |host: &str| format!("{host}/library/nginx@{digest}");
    assert_eq!(by_digest, [place("hub.example"), place("docker.io")]);
    let by_digest = asked(&all, &format!("split.example/x@{digest}"));
    assert_eq!(by_digest, [format!("digests.example/x@{digest}"), format!("split.example/x@{digest}")]);
}

#[test]
fn what_is_blocked_names_entry_and_file() {
    let mut all = read("[[registry]]\nlocation = 'bad.example/x'\nblocked = true");
    let error = all.endpoints(&"bad.example/x/y:1".parse().unwrap()).unwrap_err().to_string();
    assert!(error.contains("\"bad.example/x\" of /r.conf"), "{error}");
    assert_eq!(asked(&all, "bad.example/y:1"), ["bad.example/y:1"]);
    all.add(Path::new("/d/1.conf"), "[[registry]]\nlocation = 'bad.example/x'").unwrap();
    assert_eq!(asked(&all, "bad.example/x/y:1"), ["bad.example/x/y:1"], "a later file replaces the entry");
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (text, expected) in [
        ("a = 1\nb = \n", "/r.conf, line 2: "),
        ("\n\n[[registry]]\ninsecure = 'yes'\nlocation='x'", "/r.conf, line 4: "),
        ("[[registry]]\ninsecure = true", "neither a prefix nor a location"),
        ("[[registry]]\nlocation = 'https://x'", "have no scheme"),
        ("[[registry]]\nprefix = 'a.*.b'\nlocation = 'x'", "a wildcard is"),
        ("[[registry]]\nprefix = '*.b/c'\nlocation = 'x'", "a wildcard is"),
        ("[[registry]]\nprefix = 'a'", "needs a location"),
        ("[[registry]]\nlocation = 'a'\n[[registry.mirror]]\ninsecure = true", "a mirror has no location"),
        ("[[registry]]\nlocation='a'\n[[registry]]\nlocation='a'\nblocked=true", "they differ"),
        ("[[registry]]\nlocation='a'\n[[registry.mirror]]\nlocation='b'\npull-from-mirror='never'", "line 5"),
        ("short-name-mode = 'guess'", "line 1"),
        ("unqualified-search-registries = ['ho st']", "\"ho st\" is not usable"),
        ("[aliases]\na = 'b'", "is not usable"),
        ("[aliases]\na = 'b.example/c:1'", "is not usable"),
        ("[registries.search]\nregistries = ['x']", "version 1"),
        ("[registries.block]\nregistries = []", "[registries.block]"),
    ] {
        let error = refusal(text);
        assert!(error.contains(expected), "{text:?}: {error}");
    }
    let strange = read(
        "new = 1\n[[registry]]\nlocation = 'a'\nodd = 2\n[[registry.mirror]]\nlocation = 'b'\nthird = 3",
    );
    let warnings = strange.warnings().join("\n");
    for key in ["/r.conf: new ", "registry.odd ", "registry.mirror.third "] {
        assert!(warnings.contains(key), "{warnings}");
    }
}

#[test]
fn files_are_read_in_order() {
    let dir = tempfile::tempdir().unwrap();
    for (name, registry) in [("2.conf", "two.example"), ("1.conf", "one.example"), ("3.txt", "no.example")] {
        let text = format!("unqualified-search-registries = ['{registry}']");
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let files = drop_ins(dir.path()).unwrap();
    assert_eq!(files.len(), 2);
    assert_eq!(named(&Registries::read(&files).unwrap(), "x", &[]).unwrap(), "two.example/x:latest");
    assert_eq!(drop_ins(&dir.path().join("none")).unwrap(), Vec::<PathBuf>::new());
    assert!(Registries::read(&[dir.path().join("none")]).unwrap_err().to_string().contains("cannot read"));
}
