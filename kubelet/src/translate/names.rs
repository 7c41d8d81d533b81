//! appc's names for Kubernetes' containers and volumes.
//!
//! Both are DNS labels, but appc allows no two dashes in a row. The mapping depends on the manifest alone, keeps what can
//! be kept, and never gives one name twice.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::PodSpec;
use pod::AppName;

/// The names of the apps, in the order of [`super::containers`].
pub(crate) fn app_names(spec: &PodSpec) -> Vec<AppName> {
    unique(super::containers(spec).map(|c| c.name.as_str()))
}

/// The names of the volumes, in their order.
pub(super) fn volume_names(spec: &PodSpec) -> Vec<AppName> {
    unique(spec.volumes.iter().flatten().map(|v| v.name.as_str()))
}

fn unique<'a>(names: impl Iterator<Item = &'a str>) -> Vec<AppName> {
    let names: Vec<&str> = names.collect();
    // Those that can stay as they are have the first choice.
    let mut taken: BTreeSet<AppName> = names.iter().filter_map(|n| n.parse().ok()).collect();
    let mut changed = |name: &str| {
        let short: String = name.chars().take(AppName::MAX - 5).collect();
        let numbered = (2_u32..).filter_map(|n| AppName::sanitize(&format!("{short}-{n}")));
        let mut candidates = AppName::sanitize(name).into_iter().chain(numbered);
        candidates.find(|c| taken.insert(c.clone()))
    };
    names.into_iter().filter_map(|name| name.parse().ok().or_else(|| changed(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_used_once() {
        let table = [
            (vec!["web", "log"], vec!["web", "log"]),
            (vec!["a--b", "a-b", "a---b"], vec!["a-b-2", "a-b", "a-b-3"]),
        ];
        for (names, expected) in table {
            let got: Vec<String> = unique(names.into_iter()).iter().map(ToString::to_string).collect();
            assert_eq!(got, expected);
        }
        let long = format!("{}--{}", "a".repeat(30), "b".repeat(31));
        assert_eq!(unique([long.as_str(), long.as_str()].into_iter()).len(), 2);
    }
}
