//! Images, as far as the kubelet looks into them: names, pull policies, and what they run.

use pod::manifest::{DOCKER_CMD, DOCKER_ENTRYPOINT, ImageManifest};

/// When an image is asked for at its registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum PullPolicy {
    /// Every time a pod is prepared.
    Always,
    /// When it is not in the store.
    IfNotPresent,
    /// Never.
    Never,
}

impl PullPolicy {
    /// Reads Kubernetes' word. Validation has refused all others.
    pub(crate) fn parse(word: Option<&str>, image: &str) -> Self {
        match word {
            Some("Always") => Self::Always,
            Some("IfNotPresent") => Self::IfNotPresent,
            Some("Never") => Self::Never,
            _ => default_policy(image),
        }
    }

    /// Kubernetes' word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }

    /// The word for `rkt --pull-policy=`.
    pub(crate) fn as_rkt(self) -> &'static str {
        match self {
            Self::Always => "update",
            Self::IfNotPresent => "new",
            Self::Never => "never",
        }
    }
}

/// `Always` for the tag `latest`, written or meant; else `IfNotPresent`.
pub(crate) fn default_policy(image: &str) -> PullPolicy {
    let last = image.rsplit('/').next().unwrap_or(image);
    match last.split_once('@').map_or_else(|| last.split_once(':').map(|(_, tag)| tag), |_| Some("a digest"))
    {
        None | Some("latest") => PullPolicy::Always,
        Some(_) => PullPolicy::IfNotPresent,
    }
}

/// Whether the text can be an image's name as far as a command line is concerned; `rkt` knows the whole grammar.
pub(crate) fn is_plausible(image: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"._-/:@".contains(&b);
    image.len() <= 512 && image.starts_with(|c: char| c.is_ascii_alphanumeric()) && image.bytes().all(fine)
}

/// An image's entrypoint and command. An image that keeps no record of them (an ACI) has its `exec` as entrypoint.
pub(crate) fn entrypoint_and_cmd(manifest: &ImageManifest) -> (Vec<String>, Vec<String>) {
    let words = |name: &str| {
        let annotation = manifest.annotations.iter().find(|a| a.name == name)?;
        serde_json::from_str::<Option<Vec<String>>>(&annotation.value).ok().map(Option::unwrap_or_default)
    };
    match (words(DOCKER_ENTRYPOINT), words(DOCKER_CMD)) {
        (None, None) => (manifest.app.as_ref().map(|app| app.exec.clone()).unwrap_or_default(), Vec::new()),
        (entrypoint, cmd) => (entrypoint.unwrap_or_default(), cmd.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        let table = [
            ("busybox", PullPolicy::Always),
            ("busybox:latest", PullPolicy::Always),
            ("host:5000/busybox", PullPolicy::Always),
            ("host:5000/a/busybox:1", PullPolicy::IfNotPresent),
            ("busybox@sha256:00", PullPolicy::IfNotPresent),
            ("host:5000/busybox:latest@sha256:00", PullPolicy::IfNotPresent),
        ];
        for (image, policy) in table {
            assert_eq!(default_policy(image), policy, "{image}");
        }
        assert_eq!(PullPolicy::parse(Some("Never"), "busybox"), PullPolicy::Never);
    }

    #[test]
    fn names_that_could_be_something_else() {
        for bad in ["", "-a", "--rm", "a b", "a\nb", "a%n", "a$b", "/etc/passwd", ".", "a\0", "ä", "a\"b"] {
            assert!(!is_plausible(bad), "{bad:?}");
        }
        for good in ["busybox", "127.0.0.1:5000/a/b-c_d:1.2@sha256:00"] {
            assert!(is_plausible(good), "{good}");
        }
    }

    #[test]
    fn what_an_image_runs() {
        let manifest = |annotations: serde_json::Value| -> ImageManifest {
            serde_json::from_value(serde_json::json!({
                "acKind": "ImageManifest", "acVersion": "0.8.11", "name": "x", "annotations": annotations,
                "app": {"exec": ["/a", "b"], "user": "0", "group": "0"}}))
            .unwrap()
        };
        let annotation = |name: &str, value: &str| serde_json::json!({"name": name, "value": value});
        let words = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let both = manifest(serde_json::json!([
            annotation(DOCKER_ENTRYPOINT, r#"["/a"]"#),
            annotation(DOCKER_CMD, r#"["b"]"#)
        ]));
        assert_eq!(entrypoint_and_cmd(&both), (words(&["/a"]), words(&["b"])));
        let only_cmd = manifest(serde_json::json!([annotation(DOCKER_CMD, r#"["/a", "b"]"#)]));
        assert_eq!(entrypoint_and_cmd(&only_cmd), (words(&[]), words(&["/a", "b"])));
        let null = manifest(serde_json::json!([
            annotation(DOCKER_ENTRYPOINT, "null"),
            annotation(DOCKER_CMD, r#"["c"]"#)
        ]));
        assert_eq!(entrypoint_and_cmd(&null), (words(&[]), words(&["c"])));
        assert_eq!(entrypoint_and_cmd(&manifest(serde_json::json!([]))), (words(&["/a", "b"]), words(&[])));
    }
}
