use super::*;

fn place(policy: &str, image: &str) -> (String, String) {
    let policy = Policy::parse(Path::new("/p"), policy).unwrap();
    let governing = policy.governing(&image.parse().unwrap());
    (governing.place.clone(), format!("{:?}", governing.requirements))
}

#[test]
fn the_most_specific_scope_governs() {
    let scopes = [
        "",
        "*.io",
        "*.reg.io",
        "sub.reg.io",
        "sub.reg.io/a",
        "sub.reg.io/a/b",
        "sub.reg.io/a/b:1",
        "host:5000/x",
        "docker.io/library/busybox",
    ];
    let scopes: Vec<String> =
        scopes.iter().map(|scope| format!(r#"{scope:?}: [{{"type": "reject"}}]"#)).collect();
    let policy = format!(
        r#"{{"default": [{{"type": "reject"}}], "transports": {{"docker": {{{}}}, "oci": {{"/tmp/a": [{{"type": "reject"}}]}}}}}}"#,
        scopes.join(",")
    );
    let digest = format!("sha256:{}", "a".repeat(64));
    for (image, expected) in [
        ("sub.reg.io/a/b:1", r#"transports.docker["sub.reg.io/a/b:1"]"#),
        ("sub.reg.io/a/b:2", r#"transports.docker["sub.reg.io/a/b"]"#),
        (&format!("sub.reg.io/a/b:1@{digest}"), r#"transports.docker["sub.reg.io/a/b"]"#),
        ("sub.reg.io/a/bc:1", r#"transports.docker["sub.reg.io/a"]"#),
        ("sub.reg.io/ab", r#"transports.docker["sub.reg.io"]"#),
        ("sub.reg.io:443/a/b:1", r#"transports.docker["*.reg.io"]"#),
        ("reg.io/a", r#"transports.docker["*.io"]"#),
        ("host:5000/x/y", r#"transports.docker["host:5000/x"]"#),
        ("host:5000/xy", r#"transports.docker[""]"#),
        ("busybox", r#"transports.docker["docker.io/library/busybox"]"#),
        ("oci:/tmp/a/b:tag", r#"transports.oci["/tmp/a"]"#),
        ("oci:/tmp/ab", "default"),
        ("oci-archive:/tmp/a/b", "default"),
        ("sha256-abcd", "default"),
    ] {
        assert_eq!(place(&policy, image).0, expected, "{image}");
    }
}

#[test]
fn what_is_not_understood_refuses_what_it_governs() {
    let with = |scopes: &str| {
        format!(
            r#"{{"default": [{{"type": "insecureAcceptAnything"}}], "transports": {{"docker": {scopes}}}}}"#
        )
    };
    let (accept, key) =
        (r#"[{"type": "insecureAcceptAnything"}]"#, r#""keyType": "GPGKeys", "keyPath": "/k""#);
    let identity = |identity: &str| {
        format!(r#"{{"reg.io": [{{"type": "signedBy", {key}, "signedIdentity": {identity}}}]}}"#)
    };
    let requirement = |requirement: &str| format!(r#"{{"reg.io": [{requirement}]}}"#);
    for (scopes, expected) in [
        (requirement(""), "it has no requirements"),
        (r#"{"reg.io": {}}"#.to_owned(), "not a list of requirements"),
        (requirement("1"), "cannot be understood"),
        (requirement("{}"), "missing field `type`"),
        (requirement(r#"{"type": "unheardOf"}"#), "unknown variant `unheardOf`"),
        (requirement(r#"{"type": "reject", "type": "insecureAcceptAnything"}"#), "duplicate field"),
        (requirement(r#"{"type": "insecureAcceptAnything", "unless": 1}"#), "unknown field `unless`"),
        (requirement(r#"{"type": "signedBy", "keyType": "GPGKeys"}"#), "exactly one of keyPath"),
        (requirement(&format!(r#"{{"type": "signedBy", {key}, "keyData": ""}}"#)), "exactly one of keyPath"),
        (requirement(r#"{"type": "signedBy", "keyType": "GPGKeys", "keyPaths": []}"#), "there are no keys"),
        (requirement(r#"{"type": "signedBy", "keyType": "GPGKeys", "keyData": "*"}"#), "not base64"),
        (
            requirement(r#"{"type": "signedBy", "keyType": "X509Certificates", "keyPath": "/k"}"#),
            "must be GPGKeys",
        ),
        (
            requirement(r#"{"type": "sigstoreSigned", "keyType": "GPGKeys", "keyPath": "/k"}"#),
            "unknown field `keyType`",
        ),
        (
            requirement(r#"{"type": "sigstoreSigned", "fulcio": {"caPath": "/c"}}"#),
            "fulcio and pki are not supported",
        ),
        (
            requirement(r#"{"type": "sigstoreSigned", "keyPath": "/k", "rekorPublicKeyPath": "/r"}"#),
            "rekor is not supported",
        ),
        (identity(r#"{"type": "matchAnything"}"#), "unknown variant `matchAnything`"),
        (identity(r#"{"type": "exactReference", "dockerReference": "reg.io/a"}"#), "neither tag nor digest"),
        (
            identity(r#"{"type": "exactRepository", "dockerRepository": "reg.io/a:1"}"#),
            "more than a repository",
        ),
        (identity(r#"{"type": "exactReference", "dockerReference": "A B"}"#), "is not the name of an image"),
        (
            identity(r#"{"type": "remapIdentity", "prefix": "a/", "signedPrefix": "b"}"#),
            "not the beginning of a name",
        ),
        // A broken scope spoils its transport: nobody knows which images it was to protect.
        (format!(r#"{{"reg.io/": {accept}, "reg.io": {accept}}}"#), r#"the scope \"reg.io/\" fits no image"#),
        (format!(r#"{{"https://reg.io": {accept}}}"#), "fits no image"),
        (format!(r#"{{"reg.*": {accept}}}"#), "fits no image"),
        (format!(r#"{{"*.reg.io/a": {accept}}}"#), "fits no image"),
        (format!(r#"{{"reg.io": {accept}, "reg.io": {accept}}}"#), r#"\"reg.io\" is there twice"#),
        ("[]".to_owned(), "its scopes cannot be understood"),
    ] {
        let (place, requirements) = place(&with(&scopes), "reg.io/a");
        assert!(place.starts_with("transports.docker"), "{scopes}: {place}");
        assert!(
            requirements.contains("Broken") && requirements.contains(expected),
            "{scopes}: {requirements}"
        );
        let policy = Policy::parse(Path::new("/p"), &with(&scopes)).unwrap();
        let elsewhere = policy.governing(&"oci:/x".parse().unwrap());
        assert!(matches!(elsewhere.requirements, [Requirement::Accept]), "{scopes}");
    }
}

#[test]
fn a_file_that_is_no_policy_is_an_error() {
    let accept = r#""default": [{"type": "insecureAcceptAnything"}]"#;
    for text in [
        String::new(),
        "[]".to_owned(),
        "{}".to_owned(),
        r#"{"transports": {}}"#.to_owned(),
        format!("{{{accept}, {accept}}}"),
        format!(r#"{{{accept}, "transport": {{}}}}"#),
        format!(r#"{{{accept}, "transports": {{"docker": {{}}, "docker": {{}}}}}}"#),
        format!("{{{accept}"),
    ] {
        let error = Policy::parse(Path::new("/p"), &text).unwrap_err();
        assert!(error.to_string().contains("signature policy /p, so no image can be accepted"), "{text}");
    }
    let missing = Policy::load(Path::new("/nonexistent/policy.json")).unwrap();
    assert!(missing.is_none());
    assert!(matches!(Policy::load(Path::new("/")), Err(PolicyError::Read { .. })));
}
