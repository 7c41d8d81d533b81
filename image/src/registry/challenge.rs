//! `WWW-Authenticate`: what a registry wants before it answers (RFC 7235, and the distribution project's token
//! authentication). Pure parsing of outside text.

use std::collections::BTreeMap;

/// What a registry wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A name and a password with each request.
    Basic,
    /// A token from `realm`.
    Bearer {
        /// Where tokens are made.
        realm: String,
        /// For whom.
        service: Option<String>,
        /// What it allows.
        scope: Option<String>,
    },
}

/// The challenge to answer among those of a header: a token if one will do, because it gives less away.
pub(super) fn parse(header: &str) -> Option<Challenge> {
    let challenges = split(header);
    let bearer = challenges.iter().find(|(scheme, _)| scheme == "bearer").and_then(|(_, parameters)| {
        let get = |key: &str| parameters.get(key).cloned();
        Some(Challenge::Bearer { realm: get("realm")?, service: get("service"), scope: get("scope") })
    });
    let basic = || challenges.iter().any(|(scheme, _)| scheme == "basic").then_some(Challenge::Basic);
    bearer.or_else(basic)
}

type Parameters = BTreeMap<String, String>;

/// Schemes with their parameters, names in lower case.
fn split(header: &str) -> Vec<(String, Parameters)> {
    let mut found: Vec<(String, Parameters)> = Vec::new();
    let mut rest = header.trim_start_matches([' ', ',', '\t']);
    while !rest.is_empty() {
        let end = rest.find([' ', '=', ',', '\t']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after.trim_start_matches([' ', '\t']);
        match (rest.strip_prefix('='), found.last_mut()) {
            (Some(value), Some((_, parameters))) => {
                let (value, after) = value_of(value.trim_start());
                let _ = parameters.insert(word.to_ascii_lowercase(), value);
                rest = after;
            }
            (Some(value), None) => rest = value,
            (None, _) => found.push((word.to_ascii_lowercase(), Parameters::new())),
        }
        rest = rest.trim_start_matches([' ', ',', '\t']);
    }
    found
}

/// A token or a quoted string, and what follows it.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_at(text.find([',', ' ']).unwrap_or(text.len()));
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Some(Challenge::Bearer { realm: realm.to_owned(), service: own(service), scope: own(scope) })
    }

    #[test]
    fn challenges_of_real_registries_are_understood() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let scope = Some("repository:a/b:pull,push");
        assert_eq!(parse(hub), bearer("https://auth.docker.io/token", Some("registry.docker.io"), scope));
        assert_eq!(parse(r#"Basic realm="x", charset="UTF-8""#), Some(Challenge::Basic));
        assert_eq!(parse(r#"bearer Realm=https://x/t"#), bearer("https://x/t", None, None));
        assert_eq!(
            parse(r#"Basic realm="a \"b\", Bearer", Bearer realm="https://x/t" , service=s"#),
            bearer("https://x/t", Some("s"), None)
        );
        assert_eq!(parse("Basic"), Some(Challenge::Basic));
        assert_eq!(parse("Bearer service=x"), None);
        assert_eq!(parse("Negotiate"), None);
        assert_eq!(parse(""), None);
    }

    proptest! {
        #[test]
        fn any_header_is_parsed_without_panic(text in ".{0,200}") {
            let _ = parse(&text);
            let _ = parse(&format!("Bearer realm=\"{text}"));
        }
    }
}
