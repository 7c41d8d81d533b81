//! Which scopes of a policy an image is in, the most specific first.
//!
//! A registry's image is in the scope of its full name with tag or digest, of its repository, of each namespace above
//! that, of its registry, of `*.domain` for each domain above the registry's host, and in that of all images of its
//! transport, which is empty. A layout's or an archive's is in that of its file with tag, of the file, of each directory
//! above, and in the empty one. Files go by their real path, so that no symlink leads around a scope.

use std::path::{Path, PathBuf};

use crate::reference::{ImageName, Reference};

/// The transport, as policies call it, and the scopes. `None` for ids, and for
/// ACIs, which are signed for the keystore.
pub(super) fn of(name: &ImageName) -> Option<(&'static str, Vec<String>)> {
    match name {
        ImageName::Registry(reference) => {
            let mut scopes = namespaces(reference);
            scopes.push(String::new());
            Some(("docker", scopes))
        }
        ImageName::Oci { path, tag } => Some(("oci", of_file(path, tag.as_deref()))),
        ImageName::OciArchive { path, tag } => Some(("oci-archive", of_file(path, tag.as_deref()))),
        ImageName::DockerArchive { path, name } => Some(("docker-archive", of_file(path, name.as_deref()))),
        ImageName::Aci(_) | ImageName::Id(_) => None,
    }
}

/// The scopes of a registry's image, without the empty one. The digest wins over the tag, as it does in a fetch.
pub(in crate::trust) fn namespaces(reference: &Reference) -> Vec<String> {
    let mut name = format!("{}/{}", reference.registry(), reference.repository());
    let exact = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => format!("{name}@{digest}"),
        (None, tag) => format!("{name}:{}", tag.unwrap_or("latest")),
    };
    let mut scopes = vec![exact, name.clone()];
    while let Some((parent, _)) = name.rsplit_once('/') {
        name = parent.to_owned();
        scopes.push(name.clone());
    }
    let mut host = name.split_once(':').map_or(name.as_str(), |(host, _)| host);
    while let Some((_, parent)) = host.split_once('.') {
        host = parent;
        scopes.push(format!("*.{host}"));
    }
    scopes
}

fn of_file(path: &Path, tag: Option<&str>) -> Vec<String> {
    let path =
        path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| PathBuf::from(path));
    let file = path.to_string_lossy().into_owned();
    let mut scopes: Vec<String> = tag.map(|tag| format!("{file}:{tag}")).into_iter().collect();
    let parents = path.ancestors().map(|parent| parent.to_string_lossy().into_owned());
    scopes.extend(parents.filter(|parent| !parent.is_empty() && parent != "/"));
    scopes.push(String::new());
    scopes
}

/// Whether there can be an image in such a scope. Those of transports that we have not are somebody else's business.
pub(super) fn is_lawful(transport: &str, scope: &str) -> bool {
    match transport {
        _ if scope.is_empty() => true,
        "docker" => {
            let rest = scope.strip_prefix("*.").unwrap_or(scope);
            let wild = rest.len() < scope.len();
            let odd = rest.contains(['*', ' ', '\t', '\n']) || rest.contains("://");
            let host_only = !rest.contains(['/', ':', '@']);
            !odd && rest.split('/').all(|component| !component.is_empty()) && (!wild || host_only)
        }
        "oci" | "oci-archive" | "docker-archive" => {
            let path = scope.strip_prefix('/');
            path.is_some_and(|path| path.split('/').all(|part| !matches!(part, "" | "." | "..")))
        }
        _ => true,
    }
}
