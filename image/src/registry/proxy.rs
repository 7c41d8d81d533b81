//! Which proxy leads to a host: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, as curl and Go understand them.
//!
//! The lower-case spelling wins. Addresses of this machine are never asked for through a proxy: to it they are another
//! machine's. `NO_PROXY` is a list of `*`, addresses, networks (`10.0.0.0/8`), `domain` (with everything below it) and
//! `.domain` (only what is below it), each with a port if it is meant for that one only.

use std::fmt;
use std::net::IpAddr;

use ureq::{Proxy, ProxyProtocol};

/// The proxies of an environment. The default has none.
#[derive(Clone, Default)]
pub struct Proxies {
    https: Option<Proxy>,
    http: Option<Proxy>,
    except: Vec<Exception>,
}

/// A variable of the environment is no proxy. Its value is not told: it may have a password in it.
#[derive(Debug, thiserror::Error)]
#[error(
    "the environment variable {variable} is not the address of a proxy: http[s]://[USER:PASSWORD@]HOST[:PORT]"
)]
pub struct ProxyError {
    /// Its name.
    variable: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Exception {
    to: To,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum To {
    Everything,
    Network(IpAddr, u8),
    /// Without the leading dot.
    Below(String),
    Domain(String),
}

impl Proxies {
    /// Those of this process's environment.
    ///
    /// # Errors
    /// [`ProxyError`].
    pub fn from_env() -> Result<Self, ProxyError> {
        Self::from_variables(&|name| std::env::var(name).ok())
    }

    /// Those of these variables.
    ///
    /// # Errors
    /// [`ProxyError`].
    pub fn from_variables(get: &dyn Fn(&str) -> Option<String>) -> Result<Self, ProxyError> {
        let get = |names: [&'static str; 2]| {
            names.into_iter().find_map(|name| Some((name, get(name).filter(|text| !text.is_empty())?)))
        };
        let proxy = |names| get(names).map(|(name, text)| read(name, &text)).transpose();
        let all = proxy(["all_proxy", "ALL_PROXY"])?;
        let list = get(["no_proxy", "NO_PROXY"]).map(|(_, list)| list).unwrap_or_default();
        Ok(Self {
            https: proxy(["https_proxy", "HTTPS_PROXY"])?.or_else(|| all.clone()),
            http: proxy(["http_proxy", "HTTP_PROXY"])?.or(all),
            except: list.split(',').filter_map(exception).collect(),
        })
    }

    /// The one for this origin. IPv6 addresses may have their brackets.
    pub(super) fn choose(&self, scheme: &str, host: &str, port: u16) -> Option<Proxy> {
        let proxy = if scheme == "https" { self.https.as_ref() } else { self.http.as_ref() }?;
        let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
        let direct = super::is_loopback(&host) || self.except.iter().any(|e| e.covers(&host, port));
        (!direct).then(|| proxy.clone())
    }
}

fn read(variable: &'static str, text: &str) -> Result<Proxy, ProxyError> {
    let proxy = Proxy::new(text).map_err(|_| ProxyError { variable })?;
    match proxy.protocol() {
        ProxyProtocol::Http | ProxyProtocol::Https => Ok(proxy),
        _ => Err(ProxyError { variable }),
    }
}

fn exception(text: &str) -> Option<Exception> {
    let text = text.trim().to_ascii_lowercase();
    if text.is_empty() {
        return None;
    }
    if let Some((address, bits)) = text.split_once('/') {
        return Some(Exception { to: To::Network(address.parse().ok()?, bits.parse().ok()?), port: None });
    }
    let (host, port) = split_port(&text);
    let host = host.trim_matches(['[', ']']);
    let to = if host == "*" {
        To::Everything
    } else if let Ok(address) = host.parse() {
        To::Network(address, 128)
    } else if let Some(domain) = host.strip_prefix("*.").or_else(|| host.strip_prefix('.')) {
        To::Below(domain.to_owned())
    } else {
        To::Domain(host.to_owned())
    };
    Some(Exception { to, port })
}

/// A bare IPv6 address has colons and no port.
fn split_port(text: &str) -> (&str, Option<u16>) {
    match text.rsplit_once(':') {
        Some((host, port)) if text.starts_with('[') || !host.contains(':') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (text, None),
        },
        _ => (text, None),
    }
}

impl Exception {
    fn covers(&self, host: &str, port: u16) -> bool {
        let below = |domain: &str| {
            host.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        };
        let covered = match &self.to {
            To::Everything => true,
            To::Network(network, bits) => host.parse().is_ok_and(|address| within(address, *network, *bits)),
            To::Below(domain) => below(domain),
            To::Domain(domain) => host == domain || below(domain),
        };
        covered && self.port.is_none_or(|only| only == port)
    }
}

fn within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let (address, network, size) = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => (u128::from(a.to_bits()), u128::from(n.to_bits()), 32_u32),
        (IpAddr::V6(a), IpAddr::V6(n)) => (a.to_bits(), n.to_bits(), 128),
        _ => return false,
    };
    let host_bits = size.saturating_sub(u32::from(bits));
    address.checked_shr(host_bits).unwrap_or(0) == network.checked_shr(host_bits).unwrap_or(0)
}

/// Without passwords.
impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = |proxy: &Option<Proxy>| proxy.as_ref().map(|proxy| proxy.host().to_owned());
        f.debug_struct("Proxies")
            .field("https", &host(&self.https))
            .field("http", &host(&self.http))
            .field("except", &self.except)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Result<Proxies, ProxyError> {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, v)| (*v).to_owned());
        Proxies::from_variables(&find)
    }

    fn host(proxies: &Proxies, scheme: &str, host: &str, port: u16) -> Option<String> {
        proxies.choose(scheme, host, port).map(|proxy| proxy.host().to_owned())
    }

    #[test]
    fn the_scheme_chooses_the_variable() {
        let both =
            proxies(&[("HTTPS_PROXY", "http://s:1"), ("http_proxy", "p:2"), ("HTTP_PROXY", "http://no")]);
        let both = both.unwrap();
        assert_eq!(host(&both, "https", "a.example", 443).as_deref(), Some("s"));
        assert_eq!(host(&both, "http", "a.example", 80).as_deref(), Some("p"));
        for own in ["localhost", "127.0.0.1", "[::1]"] {
            assert_eq!(host(&both, "https", own, 443), None, "{own}");
        }
        let all = proxies(&[("ALL_PROXY", "http://all"), ("HTTP_PROXY", "")]).unwrap();
        assert_eq!(host(&all, "http", "a.example", 80).as_deref(), Some("all"));
        assert_eq!(host(&proxies(&[]).unwrap(), "https", "a.example", 443), None);
    }

    #[test]
    fn no_proxy_has_addresses_networks_and_domains() {
        let list = "10.0.0.0/8, fd00::/16 ,192.0.2.1,example.com,.below.org,*.star.org,port.example:5000,[fe80::1]:80,x/y,";
        let some = proxies(&[("HTTPS_PROXY", "http://s"), ("NO_PROXY", list)]).unwrap();
        for (name, port, direct) in [
            ("10.1.2.3", 443, true),
            ("11.1.2.3", 443, false),
            ("[fd00:0::5]", 443, true),
            ("[fd01::5]", 443, false),
            ("192.0.2.1", 443, true),
            ("192.0.2.2", 443, false),
            ("example.com", 443, true),
            ("A.Example.com", 443, true),
            ("badexample.com", 443, false),
            ("below.org", 443, false),
            ("x.below.org", 443, true),
            ("x.star.org", 443, true),
            ("star.org", 443, false),
            ("port.example", 5000, true),
            ("port.example", 443, false),
            ("[fe80::1]", 80, true),
            ("[fe80::1]", 443, false),
        ] {
            assert_eq!(host(&some, "https", name, port).is_none(), direct, "{name}:{port}");
        }
        let everything = proxies(&[("HTTPS_PROXY", "http://s"), ("no_proxy", "*")]).unwrap();
        assert_eq!(host(&everything, "https", "a.example", 443), None);
        assert!(within("10.0.0.1".parse().unwrap(), "99.0.0.0".parse().unwrap(), 0), "/0 is everything");
    }

    #[test]
    fn what_is_no_proxy_is_refused_without_its_password() {
        for bad in ["http://u:hunter2@", "socks5://u:hunter2@h", "ftp://u:hunter2@h", "http://u:hunter2@h h"]
        {
            let error = proxies(&[("https_proxy", bad)]).unwrap_err();
            assert!(error.to_string().contains("https_proxy"), "{error}");
            assert!(!format!("{error:?} {error}").contains("hunter2"), "{error:?}");
        }
        let good = proxies(&[("https_proxy", "http://u:hunter2@h")]).unwrap();
        assert!(!format!("{good:?}").contains("hunter2"));
    }
}
