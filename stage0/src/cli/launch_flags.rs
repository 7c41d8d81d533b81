//! The flags of the launchers: `run`, `run-prepared`, `unit up`.

use anyhow::{Context as _, bail, ensure};
use pod::launch::{Ipc, Net};

use super::flag::{Flag, Given, Refused, optional, refused, value, values};
use super::values as parse;
use crate::launch::{Dns, Hosts, Settings};

/// The launchers' flags.
pub(crate) const LAUNCH_FLAGS: &[Flag] = &[
    values(
        "dns",
        "name servers to write in /etc/resolv.conf, comma-separated; or \"host\" for the host's file, or \"none\"",
    ),
    value("dns-domain", "", "domain to write in /etc/resolv.conf"),
    values("dns-opt", "DNS options to write in /etc/resolv.conf"),
    values("dns-search", "DNS search domains to write in /etc/resolv.conf"),
    value("hostname", "", "pod's hostname; \"rkt-$PODUUID\" when empty"),
    values(
        "hosts-entry",
        "entries to add to the pod's /etc/hosts, as IP=NAME[,IP=NAME…]; or \"host\" for the host's file",
    ),
    value("ipc", "auto", "whether to stay in the host IPC namespace: \"auto\", \"private\" or \"parent\""),
    refused("mds-register", Refused::Switch, "there is no metadata service"),
    optional(
        "net",
        "default",
        "the pod's network: \"host\" for the host's, \"none\" for loopback only; \"default\" means loopback only, too, until pods have networks of their own",
    ),
];

/// Checks the launchers' flags.
pub(crate) fn settings(flags: &Given) -> anyhow::Result<Settings> {
    let hostname = flags.value("hostname").filter(|name| !name.is_empty());
    if let Some(name) = hostname {
        // sethostname(2) takes 64 bytes.
        ensure!(parse::is_host_name(name) && name.len() <= 64, "--hostname: {name:?} is not a host name");
    }
    Ok(Settings {
        net: net(flags)?,
        ipc: ipc(flags)?,
        hostname: hostname.map(str::to_owned),
        hosts: hosts(flags)?,
        dns: dns(flags)?,
    })
}

/// `--net`. Networks of the pod's own do not exist yet: a pod that asks for none by name gets loopback only.
fn net(flags: &Given) -> anyhow::Result<Net> {
    let names: Vec<&str> = flags.values("net").flat_map(|list| list.split(',')).collect();
    let bare = |name: &&str| name.split(':').next().unwrap_or_default().to_owned();
    let names: Vec<String> = names.iter().map(bare).collect();
    ensure!(names.iter().all(|name| !name.is_empty()), "--net: a network's name is empty");
    for (at, name) in names.iter().enumerate() {
        ensure!(!names.iter().skip(at + 1).any(|other| other == name), "--net: duplicate network {name:?}");
    }
    let special = names.iter().find(|n| matches!(n.as_str(), "host" | "none" | "all"));
    match (names.as_slice(), special) {
        ([], _) => Ok(Net::None),
        ([one], Some(name)) if one == "host" || one == "none" => {
            Ok(if name == "host" { Net::Host } else { Net::None })
        }
        ([one], None) if one == "default" => Ok(Net::None),
        ([_, _, ..], Some(name)) => bail!("--net: {name:?} cannot be combined with other networks"),
        (names, _) => {
            let unknown: Vec<_> = names.iter().map(String::as_str).filter(|n| *n != "default").collect();
            bail!("networks not found: {}", unknown.join(", "))
        }
    }
}

fn ipc(flags: &Given) -> anyhow::Result<Ipc> {
    match flags.value("ipc") {
        None | Some("" | "auto" | "private") => Ok(Ipc::Private),
        Some("parent") => Ok(Ipc::Parent),
        Some(other) => bail!("invalid argument {other:?} for --ipc: it is auto, private or parent"),
    }
}

fn hosts(flags: &Given) -> anyhow::Result<Hosts> {
    let given: Vec<&str> = flags.values("hosts-entry").collect();
    if given.contains(&"host") {
        ensure!(
            given.iter().all(|e| *e == "host"),
            "--hosts-entry: \"host\" cannot be combined with entries"
        );
        return Ok(Hosts::Host);
    }
    let entries: Vec<_> = given.into_iter().map(parse::hosts_entries).collect::<Result<_, _>>()?;
    Ok(Hosts::Entries(entries.into_iter().flatten().collect()))
}

fn dns(flags: &Given) -> anyhow::Result<Dns> {
    let words = |flag: &'static str| {
        flags.values(flag).map(|w| parse::resolver_word(flag, w)).collect::<anyhow::Result<Vec<_>>>()
    };
    let servers: Vec<&str> = flags.values("dns").flat_map(|list| list.split(',')).collect();
    let (search, options) = (words("dns-search")?, words("dns-opt")?);
    let domain = flags.value("dns-domain").filter(|d| !d.is_empty());
    let domain = domain.map(|d| parse::resolver_word("dns-domain", d)).transpose()?;
    let others = !search.is_empty() || !options.is_empty() || domain.is_some();
    for special in ["host", "none"] {
        if servers.contains(&special) {
            ensure!(
                servers.len() == 1 && !others,
                "--dns={special} cannot be combined with other DNS settings"
            );
            return Ok(if special == "host" { Dns::Host } else { Dns::None });
        }
    }
    if servers.is_empty() && !others {
        return Ok(Dns::Unset);
    }
    let address = |s: &str| s.parse().with_context(|| format!("--dns: {s:?} is not an IP address"));
    let servers = servers.into_iter().map(address).collect::<anyhow::Result<_>>()?;
    Ok(Dns::Given { servers, search, options, domain })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(pairs: &[(&'static str, &str)]) -> Given {
        let mut given = Given::default();
        pairs.iter().for_each(|(name, value)| given.push(name, (*value).to_owned()));
        given
    }

    #[test]
    fn networks() {
        let net = |text: &str| net(&given(&[("net", text)])).map_err(|e| e.to_string());
        assert_eq!((net("host"), net("none"), net("default")), (Ok(Net::Host), Ok(Net::None), Ok(Net::None)));
        assert_eq!(net("a:IP=1.2.3.4"), Err("networks not found: a".to_owned()));
        assert_eq!(net("default,b"), Err("networks not found: b".to_owned()));
        for bad in ["host,a", "a,a", "", "all"] {
            assert!(net(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn resolvers() {
        let dns = |pairs: &[(&'static str, &str)]| dns(&given(pairs)).map_err(|e| e.to_string());
        assert_eq!(dns(&[]), Ok(Dns::Unset));
        assert_eq!(dns(&[("dns", "host")]), Ok(Dns::Host));
        assert!(dns(&[("dns", "host"), ("dns", "1.1.1.1")]).is_err());
        assert!(dns(&[("dns", "none"), ("dns-search", "a")]).is_err());
        assert!(dns(&[("dns", "dns.example")]).is_err());
        assert!(
            matches!(dns(&[("dns", "1.1.1.1,::1")]), Ok(Dns::Given { servers, .. }) if servers.len() == 2)
        );
    }
}
